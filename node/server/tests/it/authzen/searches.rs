//! SubjectSearch, ResourceSearch and ActionSearch.

use meridian_proto::authzen::v1;
use serde_json::{Value, json};

use super::{MODEL_ID, Pdp, document, subject, wire_evaluation, write_model};

/// The `field` of every result, in order, once it is clear that there is no more than results.
fn results(answer: &Value, field: &str) -> Vec<String> {
    assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
    let all = answer["results"].as_array().unwrap();
    let mut all: Vec<_> = all
        .iter()
        .map(|result| result[field].as_str().unwrap().to_owned())
        .collect();
    all.sort();
    all
}

#[tokio::test]
async fn subjects_are_those_of_one_type_that_may() {
    let pdp = Pdp::start().await;
    let ask = async |relation: &str, id: &str, filter: Value| {
        let body = json!({
            "resource": document(id), "action": {"name": relation}, "subject": filter,
            "page": {"limit": "1", "token": "any"},
        });
        let answer = Pdp::answered(pdp.ask("search/subject", &body).await);
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["type"], filter["type"]);
            assert_eq!(result.as_object().unwrap().len(), 2, "{result}");
        }
        results(&answer, "id")
    };
    let user = || json!({"type": "user"});
    assert_eq!(ask("reader", "1", user()).await, ["alice", "bob", "carl"]);
    assert_eq!(ask("viewer", "1", user()).await, ["alice", "carl"]);
    assert_eq!(ask("public", "1", user()).await, ["*", "dora"]);
    let accounts = json!({"type": "service_account"});
    assert_eq!(ask("reader", "1", accounts).await, ["sa"]);
    assert!(ask("reader", "9", user()).await.is_empty());
    // An id has no effect.
    let named = json!({"type": "user", "id": "alice"});
    assert_eq!(ask("reader", "1", named).await, ["alice", "bob", "carl"]);
    let with = |level: i32| json!({"type": "user", "properties": {"level": level}});
    assert_eq!(ask("level", "1", with(9)).await, ["alice"]);
    assert!(ask("level", "1", with(1)).await.is_empty());
}

#[tokio::test]
async fn resources_are_those_of_one_type_that_the_subject_may() {
    let pdp = Pdp::start().await;
    let ask = async |subject: Value, relation: &str| {
        let body = json!({
            "subject": subject, "action": {"name": relation},
            "resource": {"type": "document", "id": "1"}, "page": {"limit": 1},
        });
        let answer = Pdp::answered(pdp.ask("search/resource", &body).await);
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["type"], "document");
        }
        results(&answer, "id")
    };
    assert_eq!(ask(subject("alice"), "reader").await, ["1", "3"]);
    assert_eq!(ask(subject("carl"), "reader").await, ["1", "2"]);
    assert!(ask(subject("bob"), "viewer").await.is_empty());
    assert_eq!(ask(subject("zoe"), "public").await, ["1"]);
    assert_eq!(ask(subject("*"), "public").await, ["1"]);
    let mut leveled = subject("alice");
    leveled["properties"] = json!({"level": 9});
    assert_eq!(ask(leveled, "level").await, ["1"]);
}

#[tokio::test]
async fn actions_are_the_relations_that_the_subject_has_by_name() {
    let pdp = Pdp::start().await;
    let ask = async |subject: Value, id: &str, context: Value| {
        let body = json!({
            "subject": subject, "resource": document(id), "context": context, "page": {"limit": 1},
        });
        let answer = Pdp::answered(pdp.ask("search/action", &body).await);
        assert_eq!(answer.as_object().unwrap().len(), 1, "{answer}");
        let all = answer["results"].as_array().unwrap().iter();
        all.map(|action| action["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let none = || Value::Null;
    // What lacks a parameter is left out.
    let alices = ["both", "public", "reader", "viewer", "writer"];
    assert_eq!(ask(subject("alice"), "1", none()).await, alices);
    let level = json!({"subject_level": 9});
    let more = ["both", "level", "public", "reader", "viewer", "writer"];
    assert_eq!(ask(subject("alice"), "1", level).await, more);
    let bobs = ["blocked", "public", "reader"];
    assert_eq!(ask(subject("bob"), "1", none()).await, bobs);
    assert_eq!(ask(subject("*"), "1", none()).await, ["public"]);
    assert!(ask(subject("alice"), "9", none()).await.is_empty());
    let nobody = json!({"type": "nope", "id": "alice"});
    assert!(ask(nobody, "1", none()).await.is_empty());
    assert!(
        ask(subject("alice"), &"d".repeat(256), none())
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn searches_are_asked_under_the_model_that_the_header_names() {
    let pdp = Pdp::start().await;
    let old = [(MODEL_ID, &*pdp.old_model)];
    let editor = json!({"name": "editor"});
    let who = json!({"resource": document("1"), "action": editor, "subject": {"type": "user"}});
    let what =
        json!({"subject": subject("old"), "action": editor, "resource": {"type": "document"}});
    let how = json!({"subject": subject("old"), "resource": document("1")});
    for (call, body, field, expected) in [
        ("search/subject", who, "id", "old"),
        ("search/resource", what, "id", "1"),
        ("search/action", how, "name", "editor"),
    ] {
        let reply = pdp.ask_under(call, &body, &old).await;
        assert_eq!(reply.headers[MODEL_ID], *pdp.old_model, "{call}");
        assert_eq!(results(&Pdp::answered(reply), field), [expected], "{call}");
    }
}

#[tokio::test]
async fn searches_over_grpc() {
    let pdp = Pdp::start().await;
    let mut client = pdp.client().await;
    let asked = wire_evaluation(&pdp.store, "alice", "reader", "1");
    let who = v1::SubjectSearchRequest {
        store_id: pdp.store.clone(),
        resource: asked.resource.clone(),
        action: asked.action.clone(),
        subject: Some(v1::SubjectFilter {
            r#type: "service_account".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let who = client.subject_search(who).await.unwrap().into_inner();
    assert_eq!((who.results.len(), who.page), (1, None));
    assert_eq!(who.results[0].id, "sa");
    let what = v1::ResourceSearchRequest {
        store_id: pdp.store.clone(),
        subject: asked.subject.clone(),
        action: asked.action,
        resource: Some(v1::ResourceFilter {
            r#type: "document".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let what = client.resource_search(what).await.unwrap().into_inner();
    assert_eq!((what.results.len(), what.page), (2, None));
    let how = v1::ActionSearchRequest {
        store_id: pdp.store.clone(),
        subject: asked.subject,
        resource: asked.resource,
        ..Default::default()
    };
    let how = client.action_search(how).await.unwrap().into_inner();
    assert_eq!((how.results.len(), how.page), (5, None));
}

#[tokio::test]
async fn what_a_search_cannot_answer_is_an_error() {
    let pdp = Pdp::start().await;
    let ask = async |call: &str, subject: &Value, relation: &str, resource: &Value| {
        let body = json!({"subject": subject, "action": {"name": relation}, "resource": resource});
        pdp.ask(call, &body).await
    };
    let (alice, doc) = (subject("alice"), document("1"));
    let nope = json!({"type": "nope", "id": "1"});
    for (call, subject, relation, resource, code, why) in [
        (
            "subject",
            &alice,
            "nope",
            &doc,
            "relation_not_found",
            "relation 'document#nope' not found",
        ),
        (
            "subject",
            &alice,
            "reader",
            &nope,
            "type_not_found",
            "type 'nope' not found",
        ),
        (
            "subject",
            &nope,
            "reader",
            &doc,
            "type_not_found",
            "type 'nope' not found",
        ),
        (
            "resource",
            &alice,
            "nope",
            &doc,
            "relation_not_found",
            "relation 'document#nope' not found",
        ),
        (
            "resource",
            &alice,
            "reader",
            &nope,
            "type_not_found",
            "type 'nope' not found",
        ),
        (
            "action",
            &alice,
            "",
            &nope,
            "validation_error",
            "failed to get relations for type nope: 'nope' is an undefined object type",
        ),
        (
            "action",
            &alice,
            "",
            &alice,
            "validation_error",
            "batch check requires at least one check to evaluate, no checks were received",
        ),
        (
            "subject",
            &alice,
            "level",
            &doc,
            "validation_error",
            "failed to evaluate relationship condition: 'level' - tuple 'document:1#level@user:alice' is missing context parameters '[subject_level]'",
        ),
    ] {
        let reply = ask(&format!("search/{call}"), subject, relation, resource).await;
        reply.assert_error(400, code, why);
    }
    let unknown_user = ask("search/resource", &nope, "reader", &doc).await;
    let why = unknown_user.message(400, "validation_error");
    assert!(why.contains("type 'nope' not found"), "{why}");

    let request = v1::ActionSearchRequest {
        store_id: pdp.store.clone(),
        subject: wire_evaluation("", "alice", "", "").subject,
        resource: Some(v1::Resource {
            r#type: "nope".into(),
            id: "1".into(),
            properties: None,
        }),
        ..Default::default()
    };
    let refused = pdp.client().await.action_search(request).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn a_type_of_more_relations_than_a_batch_holds_has_no_action_search() {
    let pdp = Pdp::start().await;
    let relations: String = (0..51)
        .map(|at| format!("    define r{at}: [user]\n"))
        .collect();
    let text = format!("model\n  schema 1.1\ntype user\ntype document\n  relations\n{relations}");
    write_model(&pdp.node, &pdp.store, &text).await;
    let body = json!({"subject": subject("alice"), "resource": document("1")});
    let refused = pdp.ask("search/action", &body).await;
    let why = "batchCheck received 51 checks, the maximum allowed is 50";
    refused.assert_error(400, "validation_error", why);
}
