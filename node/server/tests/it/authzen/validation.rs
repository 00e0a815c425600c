//! What breaks a rule of its fields.

use meridian_proto::authzen::v1;
use serde_json::{Value, json};

use super::{Pdp, document, evaluation, wire_evaluation};

const NAME: &str = r#"value does not match regex pattern "^[^:#@\\s]{1,50}$""#;
const SUBJECT_ID: &str = r#"value does not match regex pattern "^[^:#@\\s]{1,500}$""#;
const RESOURCE_ID: &str = r#"value does not match regex pattern "^[^:#@\\s]{1,256}$""#;
const STORE_ID: &str = r#"value does not match regex pattern "^[ABCDEFGHJKMNPQRSTVWXYZ0-9]{26}$""#;

#[tokio::test]
async fn store_ids_have_a_pattern_on_every_call() {
    let pdp = Pdp::start().await;
    let body = evaluation("alice", "reader", "1");
    for id in [
        "1",
        "01ARZ3NDEKTSV4RRFFQ69G5FAVA",
        "ABCDEFGHIJKLMNOPQRSTUVWXY@",
    ] {
        for (call, message) in [
            ("evaluation", "EvaluationRequest"),
            ("evaluations", "EvaluationsRequest"),
            ("search/subject", "SubjectSearchRequest"),
            ("search/resource", "ResourceSearchRequest"),
            ("search/action", "ActionSearchRequest"),
        ] {
            let path = format!("/stores/{id}/access/v1/{call}");
            let reply = pdp.node.post(&path, &body).await;
            let why = format!("invalid {message}.StoreId: {STORE_ID}");
            reply.assert_error(400, "validation_error", &why);
        }
        let path = format!("/.well-known/authzen-configuration/{id}");
        let why = format!("invalid GetConfigurationRequest.StoreId: {STORE_ID}");
        let reply = pdp.node.get(&path).await;
        reply.assert_error(400, "validation_error", &why);
    }
    let mut client = pdp.client().await;
    let refused = client.evaluation(wire_evaluation("", "alice", "reader", "1"));
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    let refused = client.get_configuration(v1::GetConfigurationRequest::default());
    let refused = refused.await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
}

#[tokio::test]
async fn required_parts_are_named() {
    let pdp = Pdp::start().await;
    let full = evaluation("alice", "reader", "1");
    for (call, message, required) in [
        (
            "evaluation",
            "EvaluationRequest",
            &["subject", "resource", "action"][..],
        ),
        (
            "search/subject",
            "SubjectSearchRequest",
            &["resource", "action", "subject"],
        ),
        (
            "search/resource",
            "ResourceSearchRequest",
            &["subject", "action", "resource"],
        ),
        (
            "search/action",
            "ActionSearchRequest",
            &["subject", "resource"],
        ),
    ] {
        let told = |part: &&str| {
            let (first, rest) = part.split_at(1);
            let field = first.to_uppercase() + rest;
            format!("invalid {message}.{field}: value is required")
        };
        let all: Vec<_> = required.iter().map(told).collect();
        let reply = pdp.ask(call, &json!({})).await;
        reply.assert_error(400, "validation_error", &all.join("; "));
        for part in required {
            let mut body = full.clone();
            body[part] = Value::Null;
            let reply = pdp.ask(call, &body).await;
            reply.assert_error(400, "validation_error", &told(part));
        }
    }
}

#[tokio::test]
async fn types_ids_and_names_have_patterns() {
    let pdp = Pdp::start().await;
    let ask = async |part: &str, field: &str, value: &str| {
        let mut body = evaluation("alice", "reader", "1");
        body[part][field] = value.into();
        pdp.ask("evaluation", &body).await
    };
    for bad in ["", "a b", "a:b", "a#b", "a@b", &"t".repeat(51)] {
        for (part, field, told, code) in [
            ("subject", "type", "Subject.Type", "type_invalid_pattern"),
            ("resource", "type", "Resource.Type", "type_invalid_pattern"),
            ("action", "name", "Action.Name", "validation_error"),
        ] {
            let reply = ask(part, field, bad).await;
            reply.assert_error(400, code, &format!("invalid {told}: {NAME}"));
        }
    }
    for bad in ["", "a b", "g#member", "a:b", &"u".repeat(501)] {
        let reply = ask("subject", "id", bad).await;
        let why = format!("invalid Subject.Id: {SUBJECT_ID}");
        reply.assert_error(400, "validation_error", &why);
    }
    for bad in ["", "a b", "a@b", &"d".repeat(257)] {
        let reply = ask("resource", "id", bad).await;
        let why = format!("invalid Resource.Id: {RESOURCE_ID}");
        reply.assert_error(400, "validation_error", &why);
    }
    let longest = ask("subject", "id", &"ü".repeat(250)).await;
    assert_eq!(Pdp::answered(longest), json!({"decision": false}));
    for (call, part, told) in [
        ("search/subject", "subject", "SubjectFilter"),
        ("search/resource", "resource", "ResourceFilter"),
    ] {
        let mut body = evaluation("alice", "reader", "1");
        body[part] = json!({"type": "a b"});
        let reply = pdp.ask(call, &body).await;
        let why = format!("invalid {told}.Type: {NAME}");
        reply.assert_error(400, "type_invalid_pattern", &why);
    }
}

#[tokio::test]
async fn of_several_wrong_parts_the_last_is_told_and_what_follows() {
    let pdp = Pdp::start().await;
    let subject_wrong = format!("invalid Subject.Type: {NAME}; invalid Subject.Id: {SUBJECT_ID}");
    let action_wrong = format!("invalid Action.Name: {NAME}");
    let whole = evaluation("alice", "reader", "1");
    let both = json!({"subject": {}, "action": {}, "resource": document("1")});
    let reply = pdp.ask("evaluation", &both).await;
    reply.assert_error(400, "validation_error", &action_wrong);
    let reply = pdp.ask("evaluation", &json!({"subject": {}})).await;
    let missing = "invalid EvaluationRequest.Resource: value is required; invalid EvaluationRequest.Action: value is required";
    let why = format!("{subject_wrong}; {missing}");
    reply.assert_error(400, "type_invalid_pattern", &why);
    // Items come before the request's own parts.
    let mut items = whole.clone();
    items["evaluations"] = json!([{"subject": {}}]);
    let reply = pdp.ask("evaluations", &items).await;
    reply.assert_error(400, "type_invalid_pattern", &subject_wrong);
    items["action"] = json!({"name": ""});
    let reply = pdp.ask("evaluations", &items).await;
    reply.assert_error(400, "validation_error", &action_wrong);
}

#[tokio::test]
async fn options_and_pages_have_bounds() {
    let pdp = Pdp::start().await;
    let mut body = evaluation("alice", "reader", "1");
    for semantic in [99, -1] {
        body["options"] = json!({"evaluations_semantic": semantic});
        let reply = pdp.ask("evaluations", &body).await;
        let why = "invalid EvaluationsOptions.EvaluationsSemantic: value must be one of the defined enum values";
        reply.assert_error(400, "validation_error", why);
    }
    for call in ["search/subject", "search/resource", "search/action"] {
        body["page"] = json!({"limit": 1000});
        assert_eq!(pdp.ask(call, &body).await.status, 200, "{call}");
        body["page"] = json!({"limit": 1001});
        let reply = pdp.ask(call, &body).await;
        let why = "invalid PageRequest.Limit: value must be less than or equal to 1000";
        reply.assert_error(400, "validation_error", why);
        for bad in [json!(-1), json!(1.5), json!("x"), json!(4_294_967_296_u64)] {
            body["page"] = json!({"limit": bad});
            let reply = pdp.ask(call, &body).await;
            let why = reply.message(400, "validation_error");
            assert!(why.contains("page: limit: "), "{why}");
        }
    }
}

#[tokio::test]
async fn contexts_and_properties_are_nested_so_deep_only() {
    let pdp = Pdp::start().await;
    let nested = |levels: usize| (1..levels).fold(json!({}), |inner, _| json!({"x": inner}));
    for (part, told) in [
        ("subject", "Subject.Properties"),
        ("action", "Action.Properties"),
    ] {
        let mut body = evaluation("alice", "reader", "1");
        body[part]["properties"] = nested(30);
        assert_eq!(pdp.ask("evaluation", &body).await.status, 200);
        body[part]["properties"] = nested(31);
        let reply = pdp.ask("evaluation", &body).await;
        let why = format!("invalid {told}: value must not be nested more than 30 levels deep");
        reply.assert_error(400, "validation_error", &why);
    }
    let mut body = evaluation("alice", "reader", "1");
    body["evaluations"] = json!([{"context": nested(31)}]);
    let reply = pdp.ask("evaluations", &body).await;
    let why =
        "invalid EvaluationsItemRequest.Context: value must not be nested more than 30 levels deep";
    reply.assert_error(400, "validation_error", why);
    // A resource longer than any object can be is an error of its own evaluation.
    let mut body = evaluation("alice", "reader", "1");
    body["evaluations"] = json!([{"resource": document(&"d".repeat(256))}, {}]);
    let answer = Pdp::answered(pdp.ask("evaluations", &body).await);
    assert_eq!(answer["evaluations"][0]["context"]["error"]["status"], 400);
    assert_eq!(answer["evaluations"][1], json!({"decision": true}));
}
