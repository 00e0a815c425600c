//! Random models, tuples and questions, drawn from a list of bytes so that proptest can shrink them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use meridian_condition::Context;
use meridian_model::authorization_model::{
    AuthorizationModel, Condition, ConditionParameter, Difference, Empty, Metadata, ObjectRelation,
    RelationMetadata, RelationReference, TupleToUserset, TypeDefinition, Userset, Usersets,
};
use meridian_model::change::StoredModel;
use meridian_model::{Timestamp, Tuple, TupleCondition, TupleKey, TypeSystem};
use proptest::prelude::*;

pub(crate) const TYPES: [&str; 3] = ["group", "folder", "doc"];
pub(crate) const RELATIONS: [&str; 5] = ["a", "b", "c", "d", "parent"];
pub(crate) const OBJECTS: usize = 2;

/// A world: a model, tuples of it, and which of them a question brings along.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) model: AuthorizationModel,
    pub(crate) tuples: BTreeMap<TupleKey, Option<TupleCondition>>,
    pub(crate) contextual: Vec<Tuple>,
    pub(crate) context: Context,
    pub(crate) covered: BTreeSet<&'static str>,
    pub(crate) questions: Vec<(String, String, String)>,
}

impl World {
    pub(crate) fn types(&self) -> TypeSystem {
        TypeSystem::new(Arc::new(self.model.clone())).expect("filtered")
    }

    pub(crate) fn stored_model(&self) -> StoredModel {
        StoredModel {
            id: "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap(),
            model: Arc::new(self.model.clone()),
        }
    }
}

pub(crate) fn tuple((key, condition): (&TupleKey, &Option<TupleCondition>)) -> Tuple {
    Tuple {
        key: key.clone(),
        condition: condition.clone(),
        timestamp: Timestamp(0),
    }
}

pub(crate) fn world() -> impl Strategy<Value = World> {
    proptest::collection::vec(any::<u8>(), 600).prop_filter_map(
        "the model breaks a rule",
        |bytes| {
            let mut draw = Draw { bytes, at: 0 };
            let model = draw.model();
            TypeSystem::new(Arc::new(model.clone())).ok()?;
            let tuples = (0..12 + draw.below(36))
                .map(|_| draw.tuple(&model))
                .collect();
            let contextual: BTreeMap<_, _> =
                (0..draw.below(4)).map(|_| draw.tuple(&model)).collect();
            let contextual = contextual.iter().map(tuple).collect();
            let context = match draw.below(3) {
                0 => Context::new(),
                n => [("x".to_owned(), n.into())].into_iter().collect(),
            };
            let covered = TYPES.into_iter().filter(|_| draw.chance(2)).collect();
            let questions = (0..6).map(|_| draw.question()).collect();
            Some(World {
                model,
                tuples,
                contextual,
                context,
                covered,
                questions,
            })
        },
    )
}

struct Draw {
    bytes: Vec<u8>,
    at: usize,
}

impl Draw {
    /// Below `n`; 0 once the bytes are used up.
    fn below(&mut self, n: usize) -> usize {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.at += 1;
        usize::from(byte) % n
    }

    /// One in `n`.
    fn chance(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    fn model(&mut self) -> AuthorizationModel {
        let mut type_definitions = vec![TypeDefinition {
            name: "user".into(),
            ..TypeDefinition::default()
        }];
        for name in TYPES {
            let mut relations = BTreeMap::new();
            let mut metadata = Metadata::default();
            for (index, relation) in RELATIONS.into_iter().enumerate() {
                let rewrite = match relation {
                    "parent" | "a" => Userset::This(Empty {}),
                    _ => self.rewrite(index, 2),
                };
                let restrictions = match relation {
                    "parent" => TYPES
                        .iter()
                        .filter_map(|name| {
                            let mut parent = reference(name, None, false);
                            if self.chance(6) {
                                parent.condition = "is_one".into();
                            }
                            self.chance(2).then_some(parent)
                        })
                        .collect(),
                    _ if has_this(&rewrite) => self.restrictions(),
                    _ => Vec::new(),
                };
                let restrictions = if relation == "parent" && restrictions.is_empty() {
                    vec![reference("folder", None, false)]
                } else {
                    restrictions
                };
                metadata.relations.insert(
                    relation.into(),
                    RelationMetadata {
                        directly_related_user_types: restrictions,
                        ..RelationMetadata::default()
                    },
                );
                relations.insert(relation.into(), rewrite);
            }
            type_definitions.push(TypeDefinition {
                name: name.into(),
                relations,
                metadata: Some(metadata),
            });
        }
        AuthorizationModel {
            schema_version: "1.1".into(),
            type_definitions,
            conditions: [("is_one".to_owned(), is_one())].into(),
        }
    }

    fn restrictions(&mut self) -> Vec<RelationReference> {
        let mut restrictions = Vec::new();
        if !self.chance(4) {
            restrictions.push(reference("user", None, false));
        }
        if self.chance(4) {
            restrictions.push(reference("user", None, true));
        }
        for _ in 0..1 + self.below(3) {
            let userset = reference(
                TYPES[self.below(TYPES.len())],
                Some(RELATIONS[self.below(4)]),
                false,
            );
            if !restrictions.contains(&userset) {
                restrictions.push(userset);
            }
        }
        if restrictions.is_empty() {
            restrictions.push(reference("user", None, false));
        }
        // Of one facet with a condition, without, or both.
        for index in 0..restrictions.len() {
            let bound = RelationReference {
                condition: "is_one".into(),
                ..restrictions[index].clone()
            };
            match self.below(6) {
                0 => restrictions[index] = bound,
                1 => restrictions.push(bound),
                _ => {}
            }
        }
        restrictions
    }

    /// Computed relations refer to earlier ones only: a loop of them alone is not a model.
    fn rewrite(&mut self, index: usize, depth: usize) -> Userset {
        let children = |draw: &mut Self| Usersets {
            child: (0..2 + draw.below(2))
                .map(|_| draw.rewrite(index, depth - 1))
                .collect(),
        };
        match self.below(if depth == 0 { 4 } else { 8 }) {
            0 | 1 => Userset::This(Empty {}),
            2 => Userset::ComputedUserset(relation(RELATIONS[self.below(index)])),
            3 => Userset::TupleToUserset(TupleToUserset {
                tupleset: relation("parent"),
                computed_userset: relation(RELATIONS[self.below(4)]),
            }),
            4 | 5 => Userset::Union(children(self)),
            6 => Userset::Intersection(children(self)),
            _ => Userset::Difference(Box::new(Difference {
                base: self.rewrite(index, depth - 1),
                subtract: self.rewrite(index, depth - 1),
            })),
        }
    }

    fn object(&mut self) -> String {
        format!("{}:{}", TYPES[self.below(TYPES.len())], self.below(OBJECTS))
    }

    /// Mostly a tuple the model allows, sometimes a stale one.
    fn tuple(&mut self, model: &AuthorizationModel) -> (TupleKey, Option<TupleCondition>) {
        let object = self.object();
        let relation = RELATIONS[self.below(RELATIONS.len())];
        let definition = model
            .type_definitions
            .iter()
            .find(|definition| object.starts_with(&format!("{}:", definition.name)))
            .unwrap();
        let restrictions =
            &definition.metadata.as_ref().unwrap().relations[relation].directly_related_user_types;
        let stale = self.chance(12) || restrictions.is_empty();
        let mut condition = None;
        let user = if stale {
            if self.chance(4) {
                condition = Some(self.condition());
            }
            self.user()
        } else {
            let restriction = &restrictions[self.below(restrictions.len())];
            if !restriction.condition.is_empty() {
                condition = Some(self.condition());
            }
            match (&restriction.relation, &restriction.wildcard) {
                (Some(of), _) => format!("{}:{}#{of}", restriction.type_name, self.below(OBJECTS)),
                (None, Some(_)) => format!("{}:*", restriction.type_name),
                (None, None) => format!("{}:{}", restriction.type_name, self.below(OBJECTS)),
            }
        };
        let key = TupleKey::parse(&object, relation, &user).unwrap();
        (key, condition)
    }

    /// Met, not met, or as the request says.
    fn condition(&mut self) -> TupleCondition {
        let context = ["{}", r#"{"x":1}"#, r#"{"x":2}"#];
        TupleCondition {
            name: "is_one".into(),
            context: context[self.below(3)].into(),
        }
    }

    fn user(&mut self) -> String {
        match self.below(8) {
            0 => "user:*".into(),
            1 => format!("{}#{}", self.object(), RELATIONS[self.below(4)]),
            2 => self.object(),
            _ => format!("user:{}", self.below(OBJECTS)),
        }
    }

    fn question(&mut self) -> (String, String, String) {
        (
            self.object(),
            RELATIONS[self.below(RELATIONS.len())].into(),
            self.user(),
        )
    }
}

fn is_one() -> Condition {
    let int = ConditionParameter {
        type_name: "TYPE_NAME_INT".into(),
        ..ConditionParameter::default()
    };
    Condition {
        name: "is_one".into(),
        expression: "x == 1".into(),
        parameters: [("x".to_owned(), int)].into(),
        ..Condition::default()
    }
}

fn has_this(rewrite: &Userset) -> bool {
    match rewrite {
        Userset::This(_) => true,
        Userset::ComputedUserset(_) | Userset::TupleToUserset(_) => false,
        Userset::Union(of) | Userset::Intersection(of) => of.child.iter().any(has_this),
        Userset::Difference(of) => has_this(&of.base) || has_this(&of.subtract),
    }
}

fn relation(name: &str) -> ObjectRelation {
    ObjectRelation {
        object: String::new(),
        relation: name.into(),
    }
}

fn reference(type_name: &str, relation: Option<&str>, wildcard: bool) -> RelationReference {
    RelationReference {
        type_name: type_name.into(),
        relation: relation.map(Into::into),
        wildcard: wildcard.then_some(Empty {}),
        condition: String::new(),
    }
}
