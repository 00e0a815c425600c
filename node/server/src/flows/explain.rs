//! Why a check is decided as it is: the path of relations that allows it, or the branches that do not.
//!
//! It is found out when it is asked for, by the calls that everyone has: Expand shows what a relation is made of, Check
//! decides of each part. So deciding costs nothing more for being explained, and an explanation rests on the same evaluator
//! as the answer does.

use std::collections::HashSet;
use std::pin::Pin;
use std::time::Instant;

use meridian_flow::Flow;
use meridian_model::Position;
use meridian_proto::meridian::v1 as wire;
use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::userset_tree::leaf::Value as Leaf;
use meridian_proto::openfga::v1::userset_tree::node::Value as Node;
use tonic::Status;

use crate::calls::{Calls, Context, Refusal, Resolved};

/// Calls that one explanation takes at most.
const CALLS: usize = 200;
/// Relations below each other at most.
const DEPTH: usize = 25;

/// Explains the check that a flow is of.
pub(super) async fn decision(
    calls: &dyn Calls,
    flow: &Flow,
    deadline: Instant,
) -> Result<wire::Explanation, Status> {
    let asked = flow.asked.as_deref();
    let asked = asked
        .filter(|asked| asked.operation == "Check")
        .ok_or_else(|| {
            Status::failed_precondition("explain: only a flow of a Check can be explained")
        })?;
    let mut explaining = Explaining {
        calls,
        cx: Context {
            deadline,
            min_position: None,
            caller: None,
            model: Resolved::default(),
            why: Default::default(),
        },
        store: flow.store.to_string(),
        model: asked.model.clone().unwrap_or_default(),
        user: asked.subject.clone(),
        left: CALLS,
        is_truncated: false,
        position: None,
        above: HashSet::new(),
    };
    let root = explaining.relation("relation", &asked.object, &asked.relation);
    let root = root.await.map_err(refused)?;
    let position = explaining.position.unwrap_or_default();
    Ok(wire::Explanation {
        allowed: root.allowed,
        revision: position.to_string(),
        truncated: explaining.is_truncated,
        root: Some(root),
    })
}

fn refused(refusal: Refusal) -> Status {
    let message = format!("explain: {}", refusal.error.message);
    match refusal.error.code {
        meridian_model::Code::Unavailable => Status::unavailable(message),
        meridian_model::Code::DeadlineExceeded => Status::deadline_exceeded(message),
        _ => Status::failed_precondition(message),
    }
}

struct Explaining<'a> {
    calls: &'a dyn Calls,
    cx: Context,
    store: String,
    model: String,
    user: String,
    /// How many calls may still be made.
    left: usize,
    is_truncated: bool,
    /// The earliest position of an answer.
    position: Option<Position>,
    /// The relations on the way to where it is.
    above: HashSet<(String, String)>,
}

type Explained<'b> =
    Pin<Box<dyn Future<Output = Result<wire::ExplainedNode, Refusal>> + Send + 'b>>;

impl Explaining<'_> {
    /// A relation of an object, and what it is made of.
    fn relation<'b>(
        &'b mut self,
        kind: &'b str,
        object: &'b str,
        relation: &'b str,
    ) -> Explained<'b> {
        Box::pin(async move {
            let allowed = self.check(object, relation).await?;
            let mut node = wire::ExplainedNode {
                kind: kind.to_owned(),
                name: format!("{object}#{relation}"),
                allowed,
                children: Vec::new(),
            };
            let key = (object.to_owned(), relation.to_owned());
            if self.above.len() >= DEPTH || self.left < 2 {
                self.is_truncated = true;
                return Ok(node);
            }
            // What comes back to itself adds nothing.
            if self.above.insert(key.clone()) {
                if let Some(tree) = self.expand(object, relation).await? {
                    node.children = self.parts(&tree, allowed).await?;
                }
                self.above.remove(&key);
            }
            Ok(node)
        })
    }

    /// What a node of an expansion shows; `allowed` says whether the relation that it is of is.
    fn parts<'b>(
        &'b mut self,
        node: &'b v1::userset_tree::Node,
        allowed: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Vec<wire::ExplainedNode>, Refusal>> + Send + 'b>> {
        Box::pin(async move {
            Ok(match &node.value {
                None => Vec::new(),
                Some(Node::Leaf(leaf)) => self.leaf(leaf.value.as_ref(), allowed).await?,
                Some(Node::Union(of)) => {
                    vec![self.set("union", &of.nodes, allowed, &node.name).await?]
                }
                Some(Node::Intersection(of)) => {
                    let name = &node.name;
                    vec![self.set("intersection", &of.nodes, allowed, name).await?]
                }
                Some(Node::Difference(of)) => {
                    let sides = [&of.base, &of.subtract].into_iter().flatten();
                    let sides: Vec<_> = sides.map(|side| (**side).clone()).collect();
                    vec![self.set("exclusion", &sides, allowed, &node.name).await?]
                }
            })
        })
    }

    async fn set(
        &mut self,
        kind: &str,
        nodes: &[v1::userset_tree::Node],
        of_relation: bool,
        name: &str,
    ) -> Result<wire::ExplainedNode, Refusal> {
        let (mut children, mut sides) = (Vec::new(), Vec::new());
        for node in nodes {
            let found = self.parts(node, of_relation || kind != "union").await?;
            let is_in = found.iter().any(|child| child.allowed);
            sides.push(is_in);
            if kind == "union" && is_in {
                // One is enough; the others are of no weight.
                children = found;
                break;
            }
            children.extend(found);
        }
        let allowed = match kind {
            "union" => sides.iter().any(|is_in| *is_in),
            "intersection" => sides.iter().all(|is_in| *is_in),
            _ => sides.first() == Some(&true) && sides.get(1) != Some(&true),
        };
        Ok(wire::ExplainedNode {
            kind: kind.to_owned(),
            name: name.to_owned(),
            allowed,
            children,
        })
    }

    async fn leaf(
        &mut self,
        leaf: Option<&Leaf>,
        allowed: bool,
    ) -> Result<Vec<wire::ExplainedNode>, Refusal> {
        match leaf {
            None => Ok(Vec::new()),
            Some(Leaf::Users(users)) => self.users(&users.users, allowed).await,
            Some(Leaf::Computed(computed)) => {
                self.relations("computed", &[computed.userset.as_str()])
                    .await
            }
            Some(Leaf::TupleToUserset(through)) => {
                let sets = through.computed.iter();
                let sets: Vec<_> = sets.map(|set| set.userset.as_str()).collect();
                self.relations("tupleToUserset", &sets).await
            }
        }
    }

    /// The tuples of a relation: the user's own, a wildcard of its type, or sets that it may be in.
    async fn users(
        &mut self,
        users: &[String],
        allowed: bool,
    ) -> Result<Vec<wire::ExplainedNode>, Refusal> {
        let wildcard = self.user.split_once(':');
        let wildcard = wildcard.map(|(of_type, _)| format!("{of_type}:*"));
        let own = users
            .iter()
            .find(|user| **user == self.user || Some(*user) == wildcard.as_ref());
        if let Some(own) = own.filter(|_| allowed) {
            return Ok(vec![direct(own, true)]);
        }
        let sets: Vec<_> = users
            .iter()
            .filter(|user| user.contains('#'))
            .map(String::as_str)
            .collect();
        let mut found = self.relations("userset", &sets).await?;
        if found.is_empty() {
            found.push(direct(own.map_or("", String::as_str), false));
        }
        Ok(found)
    }

    /// Relations of objects, `object#relation` each, up to the first that allows.
    async fn relations(
        &mut self,
        kind: &str,
        sets: &[&str],
    ) -> Result<Vec<wire::ExplainedNode>, Refusal> {
        let mut found = Vec::new();
        for set in sets {
            let Some((object, relation)) = set.rsplit_once('#') else {
                continue;
            };
            if self.left == 0 {
                self.is_truncated = true;
                break;
            }
            let node = self.relation(kind, object, relation).await?;
            if node.allowed {
                return Ok(vec![node]);
            }
            found.push(node);
        }
        Ok(found)
    }

    async fn check(&mut self, object: &str, relation: &str) -> Result<bool, Refusal> {
        self.left = self.left.saturating_sub(1);
        let request = v1::CheckRequest {
            store_id: self.store.clone(),
            authorization_model_id: self.model.clone(),
            tuple_key: Some(v1::CheckRequestTupleKey {
                user: self.user.clone(),
                relation: relation.to_owned(),
                object: object.to_owned(),
            }),
            ..v1::CheckRequest::default()
        };
        let reply = self.calls.check(&self.cx, request).await?;
        self.seen(reply.position);
        Ok(reply.body.allowed)
    }

    async fn expand(
        &mut self,
        object: &str,
        relation: &str,
    ) -> Result<Option<v1::userset_tree::Node>, Refusal> {
        self.left = self.left.saturating_sub(1);
        let request = v1::ExpandRequest {
            store_id: self.store.clone(),
            authorization_model_id: self.model.clone(),
            tuple_key: Some(v1::ExpandRequestTupleKey {
                relation: relation.to_owned(),
                object: object.to_owned(),
            }),
            ..v1::ExpandRequest::default()
        };
        let reply = self.calls.expand(&self.cx, request).await?;
        self.seen(reply.position);
        Ok(reply.body.tree.and_then(|tree| tree.root))
    }

    fn seen(&mut self, position: Option<Position>) {
        let earlier = |position: Position| self.position.map_or(position, |had| had.min(position));
        self.position = position.map(earlier).or(self.position);
    }
}

fn direct(user: &str, allowed: bool) -> wire::ExplainedNode {
    wire::ExplainedNode {
        kind: "direct".to_owned(),
        name: user.to_owned(),
        allowed,
        children: Vec::new(),
    }
}
