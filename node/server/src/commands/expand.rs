//! Expand: one level of a relation's rewrite with the tuples it rests on, nothing evaluated. Conditions are not looked at, as
//! upstream.

use std::collections::BTreeSet;

use meridian_model::ports::{Read, Snapshot};
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
    let types = &model.types;
    let key = request.tuple_key.clone().unwrap_or_default();
    if key.object.is_empty() || key.relation.is_empty() {
        return Err(ApiError::new(
            meridian_model::Code::InvalidExpandInput,
            "Invalid input. Make sure you provide an object and a relation",
        )
        .into());
    }
    let object: Object = key
        .object
        .parse()
        .map_err(|why: InvalidTuple| ApiError::validation(why.to_string()))?;
    let relation = &*key.relation;
    let definition = validate::relation(types, object.object_type(), relation)?;
    let given = request.contextual_tuples.as_ref();
    let given = contextual(types, given.map_or(&[][..], |tuples| &tuples.tuple_keys))?;
    let mut expansion = Expansion {
        types,
        object: &object,
        relation,
        given: &given,
        snapshot: &mut *snapshot,
        left: local.limits.check_reads,
    };
    let root = expansion.node(&definition.rewrite).await?;
    let body = v1::ExpandResponse {
        tree: Some(v1::UsersetTree { root: Some(root) }),
    };
    Ok(local.reply(body, Some(position), Some(model.id)))
}

struct Expansion<'a> {
    types: &'a TypeSystem,
    object: &'a Object,
    relation: &'a str,
    given: &'a [Tuple],
    snapshot: &'a mut dyn Snapshot,
    /// How many tuples may still be read.
    left: usize,
}

impl Expansion<'_> {
    fn name(&self, relation: &str) -> String {
        format!("{}#{relation}", self.object)
    }

    async fn node(&mut self, rewrite: &Rewrite) -> Result<Node, ApiError> {
        let value = match rewrite {
            Rewrite::This => {
                let users = self.users(self.relation).await?.into_iter().collect();
                leaf(leaf::Value::Users(userset_tree::Users { users }))
            }
            Rewrite::Computed(relation) => {
                let userset = self.name(relation);
                leaf(leaf::Value::Computed(userset_tree::Computed { userset }))
            }
            Rewrite::FromParent { tupleset, computed } => {
                let parents = self.users(tupleset).await?;
                let of = |parent: &String| userset_tree::Computed {
                    userset: format!("{parent}#{computed}"),
                };
                leaf(leaf::Value::TupleToUserset(userset_tree::TupleToUserset {
                    tupleset: self.name(tupleset),
                    computed: parents.iter().map(of).collect(),
                }))
            }
            Rewrite::Union(children) => node::Value::Union(self.nodes(children).await?),
            Rewrite::Intersection(children) => {
                node::Value::Intersection(self.nodes(children).await?)
            }
            Rewrite::Exclusion(of) => node::Value::Difference(Box::new(userset_tree::Difference {
                base: Some(Box::new(Box::pin(self.node(&of.0)).await?)),
                subtract: Some(Box::new(Box::pin(self.node(&of.1)).await?)),
            })),
        };
        Ok(Node {
            name: self.name(self.relation),
            value: Some(value),
        })
    }

    async fn nodes(&mut self, children: &[Rewrite]) -> Result<userset_tree::Nodes, ApiError> {
        let mut nodes = Vec::with_capacity(children.len());
        for child in children {
            nodes.push(Box::pin(self.node(child)).await?);
        }
        Ok(userset_tree::Nodes { nodes })
    }

    /// The users that tuples of a relation name, each once; of what the model does not allow, none.
    async fn users(&mut self, relation: &str) -> Result<BTreeSet<String>, ApiError> {
        let reads = [Read::Members {
            object: self.object.clone(),
            relation: relation.into(),
        }];
        let most = u32::try_from(self.left).unwrap_or(u32::MAX);
        let found = self.snapshot.read(&reads, most).await;
        let found = found.map_err(from_datastore)?.ok_or_else(too_complex)?;
        let stored = found.iter().flatten();
        let given = self
            .given
            .iter()
            .filter(|tuple| tuple.key.object == *self.object && *tuple.key.relation == *relation);
        let users: BTreeSet<_> = stored
            .chain(given)
            .filter(|tuple| validate::holds(self.types, tuple))
            .map(|tuple| tuple.key.subject.to_string())
            .collect();
        self.left = self.left.saturating_sub(users.len());
        Ok(users)
    }
}

fn leaf(value: leaf::Value) -> node::Value {
    node::Value::Leaf(userset_tree::Leaf { value: Some(value) })
}
