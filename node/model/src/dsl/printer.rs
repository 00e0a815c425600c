//! From a model to its text.

use super::{CONTAINER_TYPES, PARAMETER_TYPES};
use crate::authorization_model::{
    AuthorizationModel, Condition, ConditionParameter, RelationReference, TypeDefinition, Userset,
    Usersets,
};

pub(super) fn print(model: &AuthorizationModel) -> String {
    let types = model.type_definitions.iter().map(type_definition);
    let conditions = model.conditions.values().map(condition);
    format!(
        "model\n  schema {}\n{}",
        model.schema_version,
        types.chain(conditions).collect::<String>()
    )
}

fn type_definition(definition: &TypeDefinition) -> String {
    let mut text = format!("\ntype {}\n", definition.name);
    if !definition.relations.is_empty() {
        text.push_str("  relations\n");
    }
    for (name, rewrite) in &definition.relations {
        let metadata = definition
            .metadata
            .as_ref()
            .and_then(|metadata| metadata.relations.get(name));
        let restrictions =
            metadata.map_or(&[][..], |metadata| &metadata.directly_related_user_types);
        text.push_str(&format!(
            "    define {name}: {}\n",
            expression(rewrite, restrictions)
        ));
    }
    text
}

fn expression(rewrite: &Userset, restrictions: &[RelationReference]) -> String {
    match rewrite {
        Userset::This(_) => format!(
            "[{}]",
            restrictions
                .iter()
                .map(restriction)
                .collect::<Vec<_>>()
                .join(", ")
        ),
        Userset::ComputedUserset(of) => of.relation.clone(),
        Userset::TupleToUserset(of) => format!(
            "{} from {}",
            of.computed_userset.relation, of.tupleset.relation
        ),
        Userset::Union(of) => joined(of, " or ", restrictions),
        Userset::Intersection(of) => joined(of, " and ", restrictions),
        Userset::Difference(of) => format!(
            "{} but not {}",
            operand(&of.base, restrictions),
            operand(&of.subtract, restrictions)
        ),
    }
}

/// The children with the type restrictions first, where OpenFGA's own parser wants them.
fn joined(of: &Usersets, operator: &str, restrictions: &[RelationReference]) -> String {
    let (own, others): (Vec<_>, Vec<_>) = of
        .child
        .iter()
        .partition(|child| matches!(child, Userset::This(_)));
    own.into_iter()
        .chain(others)
        .map(|child| operand(child, restrictions))
        .collect::<Vec<_>>()
        .join(operator)
}

fn operand(rewrite: &Userset, restrictions: &[RelationReference]) -> String {
    let text = expression(rewrite, restrictions);
    match rewrite {
        Userset::Union(_) | Userset::Intersection(_) | Userset::Difference(_) => {
            format!("({text})")
        }
        Userset::This(_) | Userset::ComputedUserset(_) | Userset::TupleToUserset(_) => text,
    }
}

fn restriction(reference: &RelationReference) -> String {
    let facet = match (&reference.relation, &reference.wildcard) {
        (Some(relation), _) => format!("#{relation}"),
        (None, Some(_)) => ":*".to_owned(),
        (None, None) => String::new(),
    };
    let condition = if reference.condition.is_empty() {
        String::new()
    } else {
        format!(" with {}", reference.condition)
    };
    format!("{}{facet}{condition}", reference.type_name)
}

fn condition(condition: &Condition) -> String {
    let parameters: Vec<_> = condition
        .parameters
        .iter()
        .map(|(name, of)| format!("{name}: {}", parameter_type(of)))
        .collect();
    format!(
        "\ncondition {}({}) {{\n  {}\n}}\n",
        condition.name,
        parameters.join(", "),
        condition.expression
    )
}

fn parameter_type(parameter: &ConditionParameter) -> String {
    let mut names = PARAMETER_TYPES.iter().chain(&CONTAINER_TYPES);
    let name = names
        .find(|(_, type_name)| *type_name == parameter.type_name)
        .map_or(&*parameter.type_name, |(name, _)| name);
    match parameter.generic_types.first() {
        Some(element) => format!("{name}<{}>", parameter_type(element)),
        None => name.to_owned(),
    }
}
