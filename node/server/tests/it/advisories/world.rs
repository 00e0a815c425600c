//! Two stores that are alike, at every node: of one the edge holds all tuples, of the other none.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http::Method;
use meridian_server::client::Client;
use meridian_server::roles::Node;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::edge::Trio;
use crate::harness::{JsonReply, raw, send};

/// A tuple or a question: user, relation, object.
pub(super) type Key<'a> = (&'a str, &'a str, &'a str);

pub(super) struct World {
    trio: Trio,
    stores: [Store; 2],
}

struct Store {
    id: String,
    /// Of the last write.
    position: String,
}

impl World {
    /// Stores with a model.
    pub(super) async fn of(model: &str) -> Self {
        let trio = Trio::start(Duration::from_secs(60)).await;
        let mut client = Client::new(&trio.central.grpc.to_string()).unwrap();
        let mut stores = [true, false].map(|is_held| (is_held, String::new()));
        for (_, id) in &mut stores {
            *id = client.create_store("advisories").await.unwrap();
        }
        let mut world = Self {
            trio,
            stores: stores.clone().map(|(_, id)| Store {
                id,
                position: String::new(),
            }),
        };
        world.remodel(model).await;
        let model = meridian_model::dsl::compile(model).unwrap();
        for (is_held, id) in stores {
            if is_held {
                let types = model.types().map(|(name, _)| name.to_owned());
                let types = types.collect();
                client.assign_tiers(&id, types, Vec::new()).await.unwrap();
            }
        }
        world
    }

    /// Writes another model, which is the latest from then on.
    pub(super) async fn remodel(&mut self, model: &str) {
        let model = meridian_model::dsl::compile(model).unwrap();
        let model = serde_json::to_value(&**model.model()).unwrap();
        self.change("authorization-models", &model).await;
    }

    pub(super) async fn write(&mut self, tuples: &[Value]) {
        self.change("write", &json!({"writes": {"tuple_keys": tuples}}))
            .await;
    }

    pub(super) async fn delete(&mut self, tuple: Key<'_>) {
        let keys = json!({"tuple_keys": [plain(tuple)]});
        self.change("write", &json!({"deletes": keys})).await;
    }

    async fn change(&mut self, call: &str, body: &Value) {
        let positions = self.changed(call, body).await;
        self.reach(positions);
    }

    /// Makes a change while every node is asked, again and again.
    pub(super) async fn meanwhile(&mut self, question: Key<'_>, change: &Value) {
        let asked = json!({"tuple_key": plain(question)});
        let checks = (0..5).flat_map(|_| self.nodes());
        let checks = join_all(checks.map(|place| self.ask(place, "check", &asked)));
        let (checks, positions) = tokio::join!(checks, self.changed("write", change));
        assert!(checks.iter().all(|reply| reply.status == 200), "{checks:?}");
        self.reach(positions);
    }

    /// Where each store stands after a change at central.
    async fn changed(&self, call: &str, body: &Value) -> Vec<String> {
        let mut positions = Vec::new();
        for store in &self.stores {
            let reply = self.ask((&self.trio.central, store), call, body).await;
            assert!(reply.status.is_success(), "{}", reply.body);
            let position = reply.headers["meridian-revision"].to_str().unwrap();
            positions.push(position.to_owned());
        }
        positions
    }

    fn reach(&mut self, positions: Vec<String>) {
        for (store, position) in self.stores.iter_mut().zip(positions) {
            store.position = position;
        }
    }

    /// Asks every node and waits for the answers; how long that took.
    pub(super) async fn time(&self, question: Key<'_>) -> Duration {
        let began = Instant::now();
        let asked = json!({"tuple_key": plain(question)});
        let checks = self.nodes().map(|place| self.ask(place, "check", &asked));
        join_all(checks).await;
        began.elapsed()
    }

    /// Asks every node and goes away after this time; whether there was no answer by then.
    pub(super) async fn break_off(&self, question: Key<'_>, after: Duration) -> bool {
        timeout(after, self.time(question)).await.is_err()
    }

    fn nodes(&self) -> impl Iterator<Item = (&Node, &Store)> {
        let nodes = [
            &self.trio.central,
            self.trio.regional.as_ref().unwrap(),
            &self.trio.edge,
        ];
        let stores = self.stores.iter();
        stores.flat_map(move |store| nodes.into_iter().map(move |node| (node, store)))
    }

    /// Asks one node, of what was written last or later.
    async fn ask(&self, (node, store): (&Node, &Store), call: &str, body: &Value) -> JsonReply {
        let path = format!("/stores/{}/{call}", store.id);
        let headers = [("meridian-min-revision", &*store.position)];
        let headers = &headers[usize::from(store.position.is_empty())..];
        send(
            node.http,
            Method::POST,
            &path,
            headers,
            body.to_string().into(),
        )
        .await
    }

    /// What every node says to a question with what else the request brings, by Check and by BatchCheck, asked afresh and
    /// again; none for a refusal.
    pub(super) async fn check(
        &self,
        (user, relation, object): Key<'_>,
        given: Value,
    ) -> Option<bool> {
        let mut single = given;
        single["tuple_key"] = plain((user, relation, object));
        let mut item = single.clone();
        item["correlation_id"] = json!("a");
        let batch = json!({"checks": [item]});
        let mut said = Vec::new();
        for (node, store) in self.nodes() {
            for _ in 0..2 {
                let reply = self.ask((node, store), "check", &single).await;
                said.push((&node.name, reply.body["allowed"].as_bool(), reply.body));
                let reply = self.ask((node, store), "batch-check", &batch).await;
                let allowed = reply.body["result"]["a"]["allowed"].as_bool();
                said.push((&node.name, allowed, reply.body));
            }
        }
        let (_, first, _) = &said[0];
        assert!(
            said.iter().all(|(_, allowed, _)| allowed == first),
            "{single}: {said:#?}"
        );
        *first
    }

    pub(super) async fn allows(&self, question: Key<'_>) -> bool {
        self.check(question, json!({})).await.unwrap()
    }

    /// What every node says to each check of a batch; the request has them in this order and in the other.
    pub(super) async fn batch(&self, question: Key<'_>, given: &[Value]) -> Vec<Option<bool>> {
        let mut checks = Vec::new();
        for (number, given) in given.iter().enumerate() {
            let mut item = given.clone();
            item["tuple_key"] = plain(question);
            item["correlation_id"] = json!(number.to_string());
            checks.push(item);
        }
        let mut said = Vec::new();
        for (node, store) in self.nodes() {
            for _ in 0..2 {
                let reply = self
                    .ask((node, store), "batch-check", &json!({"checks": checks}))
                    .await;
                let of =
                    |number: usize| reply.body["result"][number.to_string()]["allowed"].as_bool();
                said.push((0..given.len()).map(of).collect::<Vec<_>>());
                checks.reverse();
            }
        }
        assert!(said.iter().all(|other| *other == said[0]), "{said:?}");
        said.swap_remove(0)
    }

    /// The objects that every node lists, in one piece and as a stream; none for a refusal.
    pub(super) async fn objects(
        &self,
        (user, relation, object_type): Key<'_>,
        given: Value,
    ) -> Option<BTreeSet<String>> {
        let mut asked = given;
        for (field, value) in [
            ("user", user),
            ("relation", relation),
            ("type", object_type),
        ] {
            asked[field] = json!(value);
        }
        let mut said = Vec::new();
        for (node, store) in self.nodes() {
            let reply = self.ask((node, store), "list-objects", &asked).await;
            said.push(
                reply.body["objects"]
                    .as_array()
                    .map(|objects| names(objects.iter())),
            );
            said.push(self.streamed((node, store), &asked).await);
        }
        assert!(
            said.iter().all(|other| *other == said[0]),
            "{asked}: {said:?}"
        );
        said.swap_remove(0)
    }

    /// The objects of a stream, unless it ends with an error.
    async fn streamed(&self, place: (&Node, &Store), asked: &Value) -> Option<BTreeSet<String>> {
        let (told, is_whole) = self.stream(place, asked).await;
        is_whole.then_some(told)
    }

    /// All that any node tells in a stream, with nothing else in the request.
    pub(super) async fn told(&self, (user, relation, object_type): Key<'_>) -> BTreeSet<String> {
        let asked = json!({"user": user, "relation": relation, "type": object_type});
        let streams = self.nodes().map(|place| self.stream(place, &asked));
        let streams = join_all(streams).await;
        streams.into_iter().flat_map(|(told, _)| told).collect()
    }

    /// The objects of a stream, and whether it ends without an error.
    async fn stream(
        &self,
        (node, store): (&Node, &Store),
        asked: &Value,
    ) -> (BTreeSet<String>, bool) {
        let path = format!("/stores/{}/streamed-list-objects", store.id);
        let headers = [("meridian-min-revision", &*store.position)];
        let headers = &headers[usize::from(store.position.is_empty())..];
        let body = asked.to_string().into();
        let (status, _, lines) = raw(node.http, Method::POST, &path, headers, body).await;
        let lines = String::from_utf8(lines.to_vec()).unwrap();
        let lines = lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines: Vec<_> = lines.collect();
        let told = lines
            .iter()
            .filter_map(|line| line.pointer("/result/object"));
        let is_whole = status == 200 && lines.iter().all(|line| line.get("error").is_none());
        (names(told), is_whole)
    }

    /// The users that every node lists, `*` for the wildcard.
    pub(super) async fn users(&self, (object_type, id, relation): Key<'_>) -> BTreeSet<String> {
        let asked = json!({
            "object": {"type": object_type, "id": id}, "relation": relation, "user_filters": [{"type": "user"}],
        });
        let mut said = Vec::new();
        for (node, store) in self.nodes() {
            let reply = self.ask((node, store), "list-users", &asked).await;
            let users = reply.body["users"].as_array().unwrap();
            let name = |user: &Value| match user.get("wildcard") {
                Some(_) => "*".to_owned(),
                None => user["object"]["id"].as_str().unwrap().to_owned(),
            };
            said.push(users.iter().map(name).collect::<BTreeSet<_>>());
        }
        assert!(
            said.iter().all(|other| *other == said[0]),
            "{asked}: {said:?}"
        );
        said.swap_remove(0)
    }
}

fn names<'a>(of: impl Iterator<Item = &'a Value>) -> BTreeSet<String> {
    of.map(|name| name.as_str().unwrap().to_owned()).collect()
}

pub(super) fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

pub(super) fn plain((user, relation, object): Key<'_>) -> Value {
    json!({"user": user, "relation": relation, "object": object})
}

/// A tuple that is bound to a condition.
pub(super) fn bound(key: Key<'_>, condition: &str, context: Value) -> Value {
    let mut tuple = plain(key);
    tuple["condition"] = json!({"name": condition, "context": context});
    tuple
}

/// What brings tuples along.
pub(super) fn with(tuples: &[Value]) -> Value {
    json!({"contextual_tuples": {"tuple_keys": tuples}})
}
