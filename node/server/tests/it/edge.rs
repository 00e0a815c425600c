//! Through an edge on a running trio, with Kafka in this process: which node answers what.

use std::time::{Duration, Instant};

use meridian_proto::openfga::v1;
use meridian_proto::openfga::v1::open_fga_service_client::OpenFgaServiceClient;
use meridian_server::client::{Client, parse_tuple};
use meridian_server::config::{self, Config};
use meridian_server::roles::{self, Node};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{alone, check_request, send};

const MODEL: &str = "model
  schema 1.1
type user
type team
  relations
    define member: [user]
type issue
  relations
    define reader: [user]
type log
  relations
    define reader: [user]
";

pub(crate) const MEMBER: (&str, &str, &str) = ("user:anne", "member", "team:core");
const WARM: (&str, &str, &str) = ("user:anne", "reader", "issue:1");
const COLD: (&str, &str, &str) = ("user:anne", "reader", "log:1");

/// How long something may take to come about.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A trio with a store of which teams are Critical, issues Warm and logs Cold.
pub(crate) struct Trio {
    pub(crate) central: Node,
    pub(crate) regional: Option<Node>,
    pub(crate) edge: Node,
    kafka: Option<MockCluster<'static, DefaultProducerContext>>,
    pub(crate) store: String,
}

/// An answer, and who gave it.
#[derive(Debug)]
pub(crate) struct Answer {
    allowed: bool,
    by: String,
}

impl Trio {
    pub(crate) async fn start(max_staleness: Duration) -> Self {
        let kafka = MockCluster::new(1).unwrap();
        for topic in ["meridian.default.changes", "meridian.default.here.edge"] {
            kafka.create_topic(topic, 2, 1).unwrap();
        }
        let config = |upstream: Option<&Node>| Config {
            region: "here".into(),
            kafka: config::Kafka {
                bootstrap: kafka.bootstrap_servers(),
                partitions: 2,
                properties: [("fetch.wait.max.ms".to_owned(), "5".to_owned())].into(),
                ..Default::default()
            },
            upstream: upstream
                .and_then(|node| node.nodes)
                .map(|address| format!("http://{address}"))
                .into_iter()
                .collect(),
            edge: config::Edge {
                max_staleness,
                ..Default::default()
            },
            experimentals: vec!["authzen".into()],
            authzen: config::AuthZen {
                base_url: "https://pdp.example".parse().ok(),
            },
            ..alone()
        };
        let central = roles::central(&config(None)).await.unwrap();
        let regional = roles::regional(&config(Some(&central))).await.unwrap();
        let edge = roles::edge(&config(Some(&regional))).await.unwrap();
        for node in [&central, &regional, &edge] {
            tokio::time::timeout(PATIENCE, node.ready()).await.unwrap();
        }
        let mut client = Client::new(&central.grpc.to_string()).unwrap();
        let store = client.create_store("trio").await.unwrap();
        client.write_model(&store, MODEL).await.unwrap();
        client
            .assign_tiers(&store, vec!["team".into()], vec!["log".into()])
            .await
            .unwrap();
        let trio = Self {
            central,
            regional: Some(regional),
            edge,
            kafka: Some(kafka),
            store,
        };
        for question in [MEMBER, WARM, COLD] {
            trio.write(question).await;
        }
        trio
    }

    /// Writes a tuple at central; its position.
    async fn write(&self, (user, relation, object): (&str, &str, &str)) -> String {
        let tuple = parse_tuple(&format!("{object}#{relation}@{user}")).unwrap();
        let mut client = Client::new(&self.central.grpc.to_string()).unwrap();
        client.write(&self.store, &[tuple]).await.unwrap()
    }

    async fn asks(
        &self,
        question: (&str, &str, &str),
        consistency: v1::ConsistencyPreference,
    ) -> Result<Answer, Status> {
        let mut edge: OpenFgaServiceClient<Channel> =
            OpenFgaServiceClient::connect(format!("http://{}", self.edge.grpc))
                .await
                .unwrap();
        let request = v1::CheckRequest {
            consistency: consistency.into(),
            ..check_request(&self.store, question)
        };
        let reply = edge.check(request).await?;
        let by = reply.metadata().get("meridian-served-by").unwrap();
        Ok(Answer {
            by: by.to_str().unwrap().to_owned(),
            allowed: reply.get_ref().allowed,
        })
    }

    async fn check(&self, question: (&str, &str, &str)) -> Result<Answer, Status> {
        self.asks(question, v1::ConsistencyPreference::Unspecified)
            .await
    }

    /// Asks the edge until the answer is as wanted.
    pub(crate) async fn until(
        &self,
        question: (&str, &str, &str),
        wanted: impl Fn(&Result<Answer, Status>) -> bool,
    ) -> Result<Answer, Status> {
        let start = Instant::now();
        loop {
            let answer = self.check(question).await;
            if wanted(&answer) {
                return answer;
            }
            assert!(start.elapsed() < PATIENCE, "still {answer:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn allowed_by(node: &'static str) -> impl Fn(&Result<Answer, Status>) -> bool {
    move |answer| matches!(answer, Ok(answer) if answer.allowed && answer.by == node)
}

#[tokio::test]
async fn warm_answers_are_kept_cold_ones_never_and_the_primary_is_central() {
    let trio = Trio::start(Duration::from_secs(60)).await;
    trio.until(MEMBER, allowed_by("edge/test")).await.unwrap();

    // Kept from the first answer that the edge may keep.
    trio.until(WARM, allowed_by("edge/test")).await.unwrap();
    trio.until(COLD, allowed_by("regional/test")).await.unwrap();
    for _ in 0..3 {
        let cold = trio.check(COLD).await.unwrap();
        assert!(cold.allowed && cold.by == "regional/test", "{cold:?}");
    }

    for number in 0..5 {
        let team = format!("team:new{number}");
        let new = ("user:anne", "member", &*team);
        trio.write(new).await;
        let answer = trio
            .asks(new, v1::ConsistencyPreference::HigherConsistency)
            .await
            .unwrap();
        assert!(answer.allowed && answer.by == "central/test", "{answer:?}");
    }
}

#[tokio::test]
async fn an_edge_that_hears_nothing_asks_upstream_and_without_upstream_says_so() {
    let mut trio = Trio::start(Duration::from_millis(1500)).await;
    trio.until(MEMBER, allowed_by("edge/test")).await.unwrap();

    // No more heartbeats: what the edge holds gets too old.
    drop(trio.kafka.take());
    trio.until(MEMBER, allowed_by("regional/test"))
        .await
        .unwrap();

    let regional = trio.regional.take().unwrap();
    let address = regional.nodes.unwrap().to_string();
    regional.stop().await;
    let error = trio.until(MEMBER, Result::is_err).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable, "{error}");
    assert_eq!(
        error.message(),
        "no node above can answer: upstream[0] cannot be reached; try again"
    );
    assert!(!error.to_string().contains(&address), "{error}");
}

#[tokio::test]
async fn a_context_may_be_as_deep_at_each_node() {
    let trio = Trio::start(Duration::from_secs(60)).await;
    trio.until(MEMBER, allowed_by("edge/test")).await.unwrap();
    let nested = |levels: usize| {
        format!(
            "{}{}",
            r#"{"a":"#.repeat(levels - 1) + "{}",
            "}".repeat(levels - 1)
        )
    };
    let (user, relation, object) = MEMBER;
    let path = format!("/stores/{}/check", trio.store);
    for node in [&trio.central, trio.regional.as_ref().unwrap(), &trio.edge] {
        // Answered by the node if it can, and by central.
        for consistency in ["UNSPECIFIED", "HIGHER_CONSISTENCY"] {
            let ask = async |context: String, condition: String| {
                let body = format!(
                    r#"{{"tuple_key": {{"user": "{user}", "relation": "{relation}", "object": "{object}"}},
                    "consistency": "{consistency}", "context": {context}, "contextual_tuples": {{"tuple_keys": [
                        {{"user": "user:bob", "relation": "member", "object": "team:core", "condition": {condition}}}
                    ]}}}}"#
                );
                send(node.http, http::Method::POST, &path, &[], body.into()).await
            };
            let named = |levels| format!(r#"{{"name": "tall", "context": {}}}"#, nested(levels));
            let deepest = ask(nested(30), "null".into()).await;
            assert_eq!(deepest.status, 200, "{}: {}", node.name, deepest.body);
            let too_deep = "value must not be nested more than 30 levels deep";
            for levels in [31, 40, 100] {
                let message = format!("invalid CheckRequest.Context: {too_deep}");
                ask(nested(levels), "null".into()).await.assert_error(
                    400,
                    "validation_error",
                    &message,
                );
                let message = format!("invalid RelationshipCondition.Context: {too_deep}");
                ask("{}".into(), named(levels)).await.assert_error(
                    400,
                    "validation_error",
                    &message,
                );
            }
            // No model has conditions; but it got as far as being told so.
            let refused = ask(nested(30), named(30)).await;
            assert_eq!(refused.status, 400, "{}: {}", node.name, refused.body);
            assert!(
                !refused.body.to_string().contains("nested"),
                "{}",
                refused.body
            );
        }
    }
}

#[tokio::test]
async fn assertions_are_those_of_central_at_every_node() {
    let trio = Trio::start(Duration::from_secs(60)).await;
    let regional = trio.regional.as_ref().unwrap();
    let models = format!("/stores/{}/authorization-models", trio.store);
    let ask = async |node: &Node, method, path: &str, body: String| {
        send(node.http, method, path, &[], body.into()).await
    };
    let listed = ask(&trio.central, http::Method::GET, &models, String::new()).await;
    let model = listed.body["authorization_models"][0]["id"]
        .as_str()
        .unwrap();
    let path = format!("/stores/{}/assertions/{model}", trio.store);
    let (user, relation, object) = MEMBER;
    for (number, writer) in [&trio.central, regional, &trio.edge]
        .into_iter()
        .enumerate()
    {
        let key = serde_json::json!({"user": user, "relation": relation, "object": object});
        let assertion = serde_json::json!({"tuple_key": key, "context": {"number": number}});
        let body = serde_json::json!({"assertions": [assertion]});
        let written = ask(writer, http::Method::PUT, &path, body.to_string()).await;
        assert_eq!(written.status, 204, "{}: {}", writer.name, written.body);
        for reader in [&trio.edge, regional, &trio.central] {
            let read = ask(reader, http::Method::GET, &path, String::new()).await;
            assert_eq!(read.headers["meridian-served-by"], "central/test");
            let kept = &read.body["assertions"][0]["context"]["number"];
            assert_eq!(kept.as_f64(), Some(number as f64), "{}", reader.name);
        }
    }
}
