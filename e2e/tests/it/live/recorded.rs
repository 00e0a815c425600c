//! What the flow recorder keeps of connections and subscriptions, in PostgreSQL.

use std::net::SocketAddr;

use meridian_e2e::Workdir;
use serde_json::{Value, json};

use super::client::Live;
use super::durable::central_url;
use super::{SOON, started, started_with};
use crate::http::request;
use crate::postgres::sql;
use crate::system::{Node, RegionalStore};
use crate::until::{heavy, until};

/// Waits until a statement prints a text.
async fn prints(url: &str, statement: &str, text: &str) {
    until(text, SOON, async || {
        let told = sql(url, statement).await;
        (told == text).then_some(()).ok_or(told)
    })
    .await;
}

/// Calls a node for a store, as that is allowed.
async fn call(node: SocketAddr, method: &str, path: &str, body: &Value) {
    let (status, answer) = request(node, method, path, &body.to_string()).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_connection_is_a_flow_with_a_session_and_a_subscription_a_decision() {
    let _leave = heavy().await;
    let (mut system, store) = started().await;
    let (node, url) = (system.central.http, central_url(&system));
    let switch = format!("/stores/{store}/flow-recorder");
    call(node, "PATCH", &switch, &json!({"process_enabled": true})).await;
    let mut anne = Live::connect(node, &store, "anne").await;
    until("the topic to be read", SOON, async || {
        match anne.ask("event:42").await {
            told if told["type"] == "subscribed" => Ok(()),
            told => Err(told.to_string()),
        }
    })
    .await;
    assert_eq!(anne.ask("event:43").await["code"], 403);
    let open = "select f.grant_type, f.user_id, f.ip, f.user_agent, f.kind, f.status, s.user_id, s.node, \
                s.ended_at is null, p.name, p.status \
                from live_sessions s join flows f on f.id = s.flow_id join flow_steps p on p.flow_id = f.id";
    let expected =
        "live_none|user:anne|127.0.0.1|race/1.0|0|1|user:anne|central/test|t|authenticate|0";
    prints(&url, open, expected).await;
    let decisions = "select distinct object, relation, subject, allowed, served_by, user_id, revision <> '', model_id <> '' \
                     from flows where operation = 'Subscribe' and status = 1 order by object";
    let decided = |object: &str, allowed: u8| {
        format!("event:{object}|can_watch|user:anne|{allowed}|central/test|user:anne|t|t")
    };
    let expected = format!("{}\n{}", decided("42", 1), decided("43", 0));
    prints(&url, decisions, &expected).await;

    drop(anne);
    let ended = "select close_code, ended_at >= connected_at, flow_id is null from live_sessions";
    prints(&url, ended, "1000|t|f").await;
    let purge = format!("/stores/{store}/flows/purge");
    call(
        node,
        "POST",
        &purge,
        &json!({"before": "2100-01-01T00:00:00Z"}),
    )
    .await;
    prints(&url, ended, "1000|t|t").await;

    // While the database is away connections begin as ever; what the recorder could not keep of them is missing alone.
    system.postgres.stop().await.unwrap();
    let mut bob = Live::connect(node, &store, "bob").await;
    assert!(bob.quick().await.is_none());
    system.postgres.start_again().await.unwrap();
    drop(bob);
    let bobs =
        "select count(*) from live_sessions where user_id = 'user:bob' and ended_at is not null";
    prints(&url, bobs, "1").await;
}

#[tokio::test]
async fn what_edges_and_the_endpoint_record_of_connections_is_in_the_regions_database() {
    let _leave = heavy().await;
    let (system, store) = started_with(RegionalStore::Postgres).await;
    let switch = format!("/stores/{store}/flow-recorder");
    let on = json!({"process_enabled": true}).to_string();
    for node in [system.regional.http, system.edge.http] {
        until(
            "the region to have the store",
            SOON,
            async || match request(node, "PATCH", &switch, &on).await {
                (200, _) => Ok(()),
                (status, answer) => Err(format!("{status}: {answer}")),
            },
        )
        .await;
    }
    let dir = Workdir::new("live").unwrap();
    let settings = format!(
        "upstream: [\"http://{}\"]\nlive: {{enabled: true, grace: 2s}}\nrecorder: {{enabled: true}}",
        system.regional.nodes
    );
    let mut alone = Node::of("live", &dir, &system.kafka.bootstrap(), &settings);
    alone.start().await;
    for (node, user) in [(system.edge.http, "anne"), (alone.http, "bob")] {
        let mut client = Live::connect(node, &store, user).await;
        until("the topic to be read", SOON, async || {
            match client.ask("event:42").await {
                told if told["type"] == "subscribed" => Ok(()),
                told => Err(told.to_string()),
            }
        })
        .await;
    }
    let url = system.postgres.url();
    let url = format!("{}/regional", url.rsplit_once('/').unwrap().0);
    let sessions = "select f.user_id, s.user_id, f.status, p.name, p.status, s.close_code, s.ended_at >= s.connected_at \
                    from live_sessions s join flows f on f.id = s.flow_id join flow_steps p on p.flow_id = f.id \
                    order by 1";
    let session = |user| format!("user:{user}|user:{user}|1|authenticate|0|1000|t");
    let expected = format!("{}\n{}", session("anne"), session("bob"));
    prints(&url, sessions, &expected).await;
    let decisions = "select count(*) from flows where operation = 'Subscribe' and allowed = 1";
    prints(&url, decisions, "2").await;
}
