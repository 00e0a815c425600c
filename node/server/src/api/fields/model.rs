//! The rules of a model's fields. What they mean together is checked by [`meridian_model::TypeSystem`].

use super::*;

impl Fields for v1::WriteAuthorizationModelRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("WriteAuthorizationModelRequest");
        report.store_id(&self.store_id);
        if self.type_definitions.is_empty() {
            report.add(
                "type_definitions_too_few_items",
                "TypeDefinitions",
                "value must contain at least 1 item(s)",
            );
        }
        if !matches!(&*self.schema_version, "1.0" | "1.1" | "1.2") {
            report.add(
                Code::ValidationError.name(),
                "SchemaVersion",
                "value must be in list [1.0 1.1 1.2]",
            );
        }
        for (name, condition) in &self.conditions {
            report.within("WriteAuthorizationModelRequest").pattern(
                &format!("Conditions[{name}]"),
                is_name(name),
                NAME,
            );
            report
                .within("Condition")
                .pattern("Name", is_name(&condition.name), NAME);
        }
        for definition in &self.type_definitions {
            type_definition(&mut report, definition);
        }
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

fn type_definition(report: &mut Report, definition: &v1::TypeDefinition) {
    report
        .within("TypeDefinition")
        .pattern("Type", is_type(&definition.r#type), TYPE);
    for name in definition.relations.keys() {
        if !is_name(name) {
            report.pattern(&format!("Relations[{name}]"), false, NAME);
        }
    }
    let references = definition
        .metadata
        .iter()
        .flat_map(|metadata| metadata.relations.values())
        .flat_map(|m| &m.directly_related_user_types);
    for reference in references {
        let report = report.within("RelationReference");
        report.pattern("Type", is_type(&reference.r#type), TYPE);
        if let Some(v1::relation_reference::RelationOrWildcard::Relation(relation)) =
            &reference.relation_or_wildcard
        {
            report.pattern("Relation", relation.is_empty() || is_name(relation), NAME);
        }
        report.pattern(
            "Condition",
            reference.condition.is_empty() || is_name(&reference.condition),
            NAME,
        );
    }
}
