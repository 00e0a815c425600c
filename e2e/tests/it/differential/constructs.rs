//! What of the modelling language an answer may depend on.

use std::collections::BTreeSet;

use meridian_model::AuthorizationModel;
use meridian_model::authorization_model::{RelationReference, TypeDefinition, Userset};

use super::conditions::INLINE;
use super::world::{Question, Tuple, World};

/// A relation of a type.
type Node = (String, String);

/// The names of what is in the relations that the question's relation leads to, and in the question itself.
pub(crate) fn of(world: &World, question: &Question) -> BTreeSet<&'static str> {
    let mut found = BTreeSet::new();
    for (kind, relation) in question.call.target() {
        let start = (kind.to_owned(), relation.to_owned());
        let mut seen = BTreeSet::new();
        let mut left = vec![start.clone()];
        while let Some(node) = left.pop() {
            if !seen.insert(node.clone()) {
                continue;
            }
            let next = look(&world.model, &node, &mut found);
            if next.contains(&start) {
                found.insert("recursion");
            }
            left.extend(next);
        }
    }
    if !question.contextual.is_empty() {
        found.insert("contextual tuples");
    }
    if !question.context.is_empty() {
        found.insert("request context");
    }
    if world.earlier.is_some() {
        found.insert("tuples of an earlier model");
    }
    let has_condition = |tuple: &Tuple| tuple.condition.is_some();
    if question.contextual.iter().any(has_condition) {
        found.insert("contextual tuples with conditions");
    }
    if world.tuples.iter().any(has_condition) {
        found.insert("tuples with conditions");
    }
    found
}

/// The relations that one leads to, itself among them, and who stands in them directly: `user`, `user:*`.
pub(crate) fn reached(
    model: &AuthorizationModel,
    kind: &str,
    relation: &str,
) -> (BTreeSet<Node>, BTreeSet<String>) {
    let mut relations = BTreeSet::new();
    let mut facets = BTreeSet::new();
    let mut left = vec![(kind.to_owned(), relation.to_owned())];
    while let Some(node) = left.pop() {
        if !relations.insert(node.clone()) {
            continue;
        }
        left.extend(look(model, &node, &mut BTreeSet::new()));
        let definition = model.type_definitions.iter().find(|d| d.name == node.0);
        for restriction in definition.map_or(&[][..], |found| restrictions(found, &node.1)) {
            let facet = match (&restriction.relation, &restriction.wildcard) {
                (Some(_), _) => continue,
                (None, Some(_)) => format!("{}:*", restriction.type_name),
                (None, None) => restriction.type_name.clone(),
            };
            facets.insert(facet);
        }
    }
    (relations, facets)
}

/// Notes what a relation is made of; returns where it leads.
fn look(model: &AuthorizationModel, node: &Node, found: &mut BTreeSet<&'static str>) -> Vec<Node> {
    let (kind, relation) = node;
    let Some(definition) = model.type_definitions.iter().find(|d| d.name == *kind) else {
        return Vec::new();
    };
    let mut next = Vec::new();
    if let Some(rewrite) = definition.relations.get(relation) {
        walk(definition, rewrite, 0, found, &mut next);
    }
    for restriction in restrictions(definition, relation) {
        if !restriction.condition.is_empty() {
            found.insert("condition");
        }
        if restriction.condition == INLINE {
            found.insert("inline expression");
        }
        if restriction.wildcard.is_some() {
            found.insert("wildcard");
        }
        if let Some(relation) = &restriction.relation {
            found.insert("userset");
            next.push((restriction.type_name.clone(), relation.clone()));
        }
    }
    next
}

fn walk(
    definition: &TypeDefinition,
    rewrite: &Userset,
    depth: usize,
    found: &mut BTreeSet<&'static str>,
    next: &mut Vec<Node>,
) {
    let children: Vec<&Userset> = match rewrite {
        Userset::This(_) => {
            found.insert("direct");
            Vec::new()
        }
        Userset::ComputedUserset(of) => {
            found.insert("computed");
            next.push((definition.name.clone(), of.relation.clone()));
            Vec::new()
        }
        Userset::TupleToUserset(of) => {
            found.insert("tuple to userset");
            for parent in restrictions(definition, &of.tupleset.relation) {
                next.push((
                    parent.type_name.clone(),
                    of.computed_userset.relation.clone(),
                ));
            }
            Vec::new()
        }
        Userset::Union(of) => {
            found.insert("union");
            of.child.iter().collect()
        }
        Userset::Intersection(of) => {
            found.insert("intersection");
            of.child.iter().collect()
        }
        Userset::Difference(of) => {
            found.insert("exclusion");
            vec![&of.base, &of.subtract]
        }
    };
    if depth > 0 && !children.is_empty() {
        found.insert("nested operators");
    }
    for child in children {
        walk(definition, child, depth + 1, found, next);
    }
}

/// Who may stand in a relation directly.
pub(crate) fn restrictions<'a>(
    definition: &'a TypeDefinition,
    relation: &str,
) -> &'a [RelationReference] {
    let metadata = definition.metadata.as_ref();
    let relation = metadata.and_then(|metadata| metadata.relations.get(relation));
    relation.map_or(&[], |relation| &relation.directly_related_user_types)
}
