//! A database, nodes over it, and what is asked of them.

use meridian_model::dsl;
use meridian_proto::google::value::Kind;
use meridian_proto::google::{Struct, Value};
use meridian_store::{DatastoreSettings, PoolSettings, open};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tempfile::TempDir;

use super::*;
use crate::calls::{Calls, ServedBy};
use crate::commands::Local;
use crate::limits::Limits;

pub(super) const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

pub(super) const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member]
type doc
  relations
    define blocked: [user]
    define editor: [user with office, team#member]
    define reader: [user, user with office, team#member, doc#reader] or editor
    define viewer: reader but not blocked
    define looped: [user, doc#looped] and reader
condition office(hour: int) {
  hour >= 8 && hour < 18
}
";

/// A database, and nodes over it.
pub(super) struct World {
    pub(super) folder: TempDir,
}

/// A node, and what it has counted.
pub(super) struct Node {
    pub(super) local: Local,
    pub(super) metrics: PrometheusHandle,
}

impl World {
    /// A store with [`MODEL`].
    pub(super) async fn new() -> (Self, Node) {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        let node = world.node(Settings::default());
        node.local.datastore.migrate().await.unwrap();
        let datastore = &node.local.datastore;
        datastore
            .create_store(store(), "shop", late())
            .await
            .unwrap();
        node.write_model().await;
        (world, node)
    }

    pub(super) fn node(&self, settings: Settings) -> Node {
        let file = self.folder.path().join("t.db");
        let datastore = open(&DatastoreSettings {
            url: format!("sqlite://{}?mode=rwc", file.display()),
            pool: PoolSettings::default(),
        });
        let recorder = PrometheusBuilder::new().build_recorder();
        let local = metrics::with_local_recorder(&recorder, || {
            let name = ServedBy::new("central").unwrap();
            Local::new(datastore.unwrap(), name, Limits::default(), Arc::default())
                .keeping(settings)
        });
        Node {
            local,
            metrics: recorder.handle(),
        }
    }
}

impl Node {
    pub(super) fn count(&self, metric: &str) -> u64 {
        let shown = self.metrics.render();
        let mut lines = shown.lines().filter_map(|line| line.strip_prefix(metric));
        lines.next().map_or(0, |rest| rest.trim().parse().unwrap())
    }

    pub(super) async fn write_model(&self) -> String {
        let model = crate::api::convert::model_to_wire("", &dsl::parse(MODEL).unwrap());
        let request = v1::WriteAuthorizationModelRequest {
            store_id: STORE.into(),
            type_definitions: model.type_definitions,
            schema_version: model.schema_version,
            conditions: model.conditions,
        };
        let reply = self.local.write_authorization_model(&cx(), request).await;
        reply.unwrap().body.authorization_model_id
    }

    pub(super) async fn write(&self, tuples: &[(&str, &str, &str)]) {
        let writes = v1::WriteRequestWrites {
            tuple_keys: tuples.iter().map(|key| tuple(*key)).collect(),
            ..Default::default()
        };
        let request = v1::WriteRequest {
            store_id: STORE.into(),
            writes: Some(writes),
            ..Default::default()
        };
        self.local.write(&cx(), request).await.unwrap();
    }

    pub(super) async fn delete(&self, (user, relation, object): (&str, &str, &str)) {
        let key = v1::TupleKeyWithoutCondition {
            user: user.into(),
            relation: relation.into(),
            object: object.into(),
        };
        let request = v1::WriteRequest {
            store_id: STORE.into(),
            deletes: Some(v1::WriteRequestDeletes {
                tuple_keys: vec![key],
                ..Default::default()
            }),
            ..Default::default()
        };
        self.local.write(&cx(), request).await.unwrap();
    }

    pub(super) async fn asks(&self, request: &v1::CheckRequest) -> bool {
        self.local.decide(&cx(), request).await.unwrap().allowed
    }

    pub(super) async fn check(&self, question: (&str, &str, &str)) -> bool {
        self.asks(&check(question)).await
    }
}

pub(super) fn store() -> StoreId {
    STORE.parse().unwrap()
}

pub(super) fn late() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

pub(super) fn cx() -> Context {
    Context {
        deadline: late(),
        min_position: None,
        caller: None,
        model: Default::default(),
        why: Default::default(),
    }
}

pub(super) fn tuple((user, relation, object): (&str, &str, &str)) -> v1::TupleKey {
    v1::TupleKey {
        user: user.into(),
        relation: relation.into(),
        object: object.into(),
        condition: None,
    }
}

pub(super) fn in_office((user, relation, object): (&str, &str, &str)) -> v1::TupleKey {
    v1::TupleKey {
        condition: Some(v1::RelationshipCondition {
            name: "office".into(),
            context: None,
        }),
        ..tuple((user, relation, object))
    }
}

pub(super) fn check((user, relation, object): (&str, &str, &str)) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: STORE.into(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: user.into(),
            relation: relation.into(),
            object: object.into(),
        }),
        ..Default::default()
    }
}

pub(super) fn with(request: v1::CheckRequest, tuples: &[v1::TupleKey]) -> v1::CheckRequest {
    v1::CheckRequest {
        contextual_tuples: Some(v1::ContextualTupleKeys {
            tuple_keys: tuples.to_vec(),
        }),
        ..request
    }
}

pub(super) fn at_hour(request: v1::CheckRequest, hour: f64) -> v1::CheckRequest {
    let value = Value {
        kind: Some(Kind::NumberValue(hour)),
    };
    v1::CheckRequest {
        context: Some(Struct {
            fields: [("hour".to_owned(), value)].into(),
        }),
        ..request
    }
}
