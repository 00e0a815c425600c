//! The rules of a model's fields. What they mean together is checked by [`meridian_model::TypeSystem`].

use super::*;

const MAX_CONDITIONS: usize = 25;
const MAX_PARAMETERS: usize = 25;
const MAX_GENERIC_TYPES: usize = 5;
/// In bytes.
const MAX_EXPRESSION_LEN: usize = 512;

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
        for definition in &self.type_definitions {
            type_definition(&mut report, definition);
        }
        if !matches!(&*self.schema_version, "1.0" | "1.1" | "1.2") {
            report.within("WriteAuthorizationModelRequest").add(
                Code::ValidationError.name(),
                "SchemaVersion",
                "value must be in list [1.0 1.1 1.2]",
            );
        }
        report
            .within("WriteAuthorizationModelRequest")
            .at_most_pairs("Conditions", self.conditions.len(), MAX_CONDITIONS);
        for (name, of) in &self.conditions {
            report.within("WriteAuthorizationModelRequest").pattern(
                &format!("Conditions[{name}]"),
                is_name(name),
                NAME,
            );
            condition(&mut report, of);
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
    for (name, of) in &definition.relations {
        if !is_name(name) {
            report
                .within("TypeDefinition")
                .pattern(&format!("Relations[{name}]"), false, NAME);
        }
        rewrite(report, of);
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

/// That no part of a rewrite is left out. What can be decoded is not deep enough to run off the stack.
fn rewrite(report: &mut Report, of: &v1::Userset) {
    use v1::userset::Userset as Wire;
    match &of.userset {
        Some(Wire::Union(of) | Wire::Intersection(of)) => {
            for child in &of.child {
                rewrite(report, child);
            }
        }
        Some(Wire::Difference(of)) => {
            for (field, part) in [("Base", &of.base), ("Subtract", &of.subtract)] {
                report.within("Difference").required(field, part.as_ref());
                part.iter().for_each(|part| rewrite(report, part));
            }
        }
        Some(Wire::TupleToUserset(of)) => {
            let parts = [
                ("Tupleset", &of.tupleset),
                ("ComputedUserset", &of.computed_userset),
            ];
            for (field, part) in parts {
                report
                    .within("TupleToUserset")
                    .required(field, part.as_ref());
                part.iter().for_each(|part| object_relation(report, part));
            }
        }
        Some(Wire::ComputedUserset(of)) => object_relation(report, of),
        Some(Wire::This(_)) | None => {}
    }
}

fn object_relation(report: &mut Report, of: &v1::ObjectRelation) {
    let report = report.within("ObjectRelation");
    report.at_most_bytes("Object", &of.object, MAX_OBJECT_LEN);
    report.at_most_bytes("Relation", &of.relation, MAX_RELATION_LEN);
}

fn condition(report: &mut Report, of: &v1::Condition) {
    let inner = report.within("Condition");
    inner.pattern("Name", is_name(&of.name), NAME);
    inner.at_most_bytes("Expression", &of.expression, MAX_EXPRESSION_LEN);
    inner.at_most_pairs("Parameters", of.parameters.len(), MAX_PARAMETERS);
    for (name, kind) in &of.parameters {
        report
            .within("Condition")
            .pattern(&format!("Parameters[{name}]"), is_name(name), NAME);
        parameter_type(report, kind);
    }
}

fn parameter_type(report: &mut Report, of: &v1::ConditionParamTypeRef) {
    let inner = report.within("ConditionParamTypeRef");
    if v1::condition_param_type_ref::TypeName::try_from(of.type_name).is_err() {
        inner.add(
            Code::ValidationError.name(),
            "TypeName",
            "value must be one of the defined enum values",
        );
    }
    inner.at_most("GenericTypes", of.generic_types.len(), MAX_GENERIC_TYPES);
    for generic in &of.generic_types {
        parameter_type(report, generic);
    }
}
