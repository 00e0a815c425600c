//! Expand: one level of a relation's rewrite with the tuples it rests on, nothing evaluated. Conditions are not looked at, as
//! upstream.

use std::collections::{BTreeSet, HashMap};

use meridian_model::ports::Read;
use meridian_model::tuple::InvalidTuple;
use meridian_model::typesystem::Rewrite;
use meridian_model::{ApiError, Object, Tuple, TypeSystem, validate};
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::userset_tree::{self, Node, leaf, node};

use super::check::{contextual, too_complex};
use super::{Local, at_least, models, store_id};
use crate::calls::{Answer, Context};
use crate::commands::errors::from_datastore;

pub(super) async fn answer(
    local: &Local,
    cx: &Context,
    request: &v1::ExpandRequest,
) -> Answer<v1::ExpandResponse> {
    let store = store_id(&request.store_id)?;
    let snapshot = local.datastore.snapshot(store, cx.deadline).await;
    let model_id = request.authorization_model_id.as_str();
    let mut snapshot = snapshot
        .map_err(from_datastore)?
        .ok_or_else(|| match model_id {
            "" => models::no_model(store),
            id => models::model_not_found(id),
        })?;
    let position = at_least(cx, snapshot.position())?;
    let model = local
        .models
        .resolve_in(&mut *snapshot, store, model_id)
        .await?;
    cx.model.note(model.id);
    let mut expansion = Expansion::new(&model.types, request)?;
    let relations: Vec<_> = expansion.relations().into_iter().collect();
    let reads = relations.iter().map(|relation| Read::Members {
        object: expansion.object().clone(),
        relation: (*relation).into(),
    });
    let reads: Vec<_> = reads.collect();
    let most = u32::try_from(local.limits.check_reads).unwrap_or(u32::MAX);
    let found = snapshot.read(&reads, most).await;
    let found = found.map_err(from_datastore)?.ok_or_else(too_complex)?;
    for (relation, stored) in relations.into_iter().zip(found) {
        expansion.add(relation, stored);
    }
    Ok(local.reply(expansion.response(), Some(position), Some(model.id)))
}

/// An expansion that the model allows, and the tuples it rests on.
pub(crate) struct Expansion<'a> {
    types: &'a TypeSystem,
    object: Object,
    relation: &'a str,
    rewrite: &'a Rewrite,
    given: Vec<Tuple>,
    /// By relation, the users that tuples name.
    users: HashMap<&'a str, BTreeSet<String>>,
}

impl<'a> Expansion<'a> {
    /// Checks a request by a model.
    ///
    /// # Errors
    /// What of it the model does not allow.
    pub(crate) fn new(
        types: &'a TypeSystem,
        request: &'a v1::ExpandRequest,
    ) -> Result<Self, ApiError> {
        let (object, relation) = match &request.tuple_key {
            Some(key) if !key.object.is_empty() && !key.relation.is_empty() => {
                (&key.object, &key.relation)
            }
            _ => {
                return Err(ApiError::new(
                    meridian_model::Code::InvalidExpandInput,
                    "Invalid input. Make sure you provide an object and a relation",
                ));
            }
        };
        let object: Object = object
            .parse()
            .map_err(|why: InvalidTuple| ApiError::validation(why.to_string()))?;
        let definition = validate::relation(types, object.object_type(), relation)?;
        let given = request.contextual_tuples.as_ref();
        let given = contextual(types, given.map_or(&[][..], |tuples| &tuples.tuple_keys))?;
        Ok(Self {
            types,
            object,
            relation,
            rewrite: &definition.rewrite,
            given,
            users: HashMap::new(),
        })
    }

    /// What is expanded.
    pub(crate) fn object(&self) -> &Object {
        &self.object
    }

    /// The relations of the object whose tuples it rests on.
    pub(crate) fn relations(&self) -> BTreeSet<&'a str> {
        let mut relations = BTreeSet::new();
        relations_of(self.rewrite, self.relation, &mut relations);
        relations
    }

    /// Takes in the stored tuples of one of the relations; those that the model does not allow do not count.
    pub(crate) fn add(&mut self, relation: &'a str, stored: Vec<Tuple>) {
        let given = self.given.iter();
        let given = given
            .filter(|tuple| tuple.key.object == self.object && *tuple.key.relation == *relation);
        let users = stored
            .iter()
            .chain(given)
            .filter(|tuple| validate::holds(self.types, tuple))
            .map(|tuple| tuple.key.subject.to_string())
            .collect();
        self.users.insert(relation, users);
    }

    /// The answer, once all tuples were taken in.
    pub(crate) fn response(&self) -> v1::ExpandResponse {
        let root = Some(self.node(self.rewrite));
        v1::ExpandResponse {
            tree: Some(v1::UsersetTree { root }),
        }
    }

    fn name(&self, relation: &str) -> String {
        format!("{}#{relation}", self.object)
    }

    fn users(&self, relation: &str) -> impl Iterator<Item = &String> {
        self.users.get(relation).into_iter().flatten()
    }

    fn node(&self, rewrite: &Rewrite) -> Node {
        let value = match rewrite {
            Rewrite::This => leaf(leaf::Value::Users(userset_tree::Users {
                users: self.users(self.relation).cloned().collect(),
            })),
            Rewrite::Computed(relation) => leaf(leaf::Value::Computed(userset_tree::Computed {
                userset: self.name(relation),
            })),
            Rewrite::FromParent { tupleset, computed } => {
                let of = |parent: &String| userset_tree::Computed {
                    userset: format!("{parent}#{computed}"),
                };
                leaf(leaf::Value::TupleToUserset(userset_tree::TupleToUserset {
                    tupleset: self.name(tupleset),
                    computed: self.users(tupleset).map(of).collect(),
                }))
            }
            Rewrite::Union(children) => node::Value::Union(self.nodes(children)),
            Rewrite::Intersection(children) => node::Value::Intersection(self.nodes(children)),
            Rewrite::Exclusion(of) => node::Value::Difference(Box::new(userset_tree::Difference {
                base: Some(Box::new(self.node(&of.0))),
                subtract: Some(Box::new(self.node(&of.1))),
            })),
        };
        Node {
            name: self.name(self.relation),
            value: Some(value),
        }
    }

    fn nodes(&self, children: &[Rewrite]) -> userset_tree::Nodes {
        userset_tree::Nodes {
            nodes: children.iter().map(|child| self.node(child)).collect(),
        }
    }
}

fn relations_of<'a>(rewrite: &'a Rewrite, own: &'a str, out: &mut BTreeSet<&'a str>) {
    match rewrite {
        Rewrite::This => {
            out.insert(own);
        }
        Rewrite::Computed(_) => {}
        Rewrite::FromParent { tupleset, .. } => {
            out.insert(tupleset);
        }
        Rewrite::Union(children) | Rewrite::Intersection(children) => children
            .iter()
            .for_each(|child| relations_of(child, own, out)),
        Rewrite::Exclusion(of) => {
            relations_of(&of.0, own, out);
            relations_of(&of.1, own, out);
        }
    }
}

fn leaf(value: leaf::Value) -> node::Value {
    node::Value::Leaf(userset_tree::Leaf { value: Some(value) })
}
