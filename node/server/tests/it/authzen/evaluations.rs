//! Evaluation and Evaluations.

use meridian_proto::authzen::v1;
use meridian_proto::google::struct_to_json;
use serde_json::{Value, json};

use super::{MODEL_ID, Pdp, document, evaluation, subject, wire_evaluation};
use crate::harness::NOBODY;

#[tokio::test]
async fn one_is_decided_as_a_check() {
    let pdp = Pdp::start().await;
    for (user, relation, id, expected) in [
        ("alice", "reader", "1", true),
        ("alice", "reader", "2", false),
        ("bob", "writer", "1", false),
        ("carl", "reader", "2", true),
        ("alice", "viewer", "1", true),
        ("bob", "viewer", "1", false),
        ("alice", "both", "1", true),
        ("bob", "both", "1", false),
        ("zoe", "public", "1", true),
        ("*", "public", "1", true),
    ] {
        let case = format!("{user} {relation} {id}");
        let reply = pdp.ask("evaluation", &evaluation(user, relation, id)).await;
        assert_eq!(reply.headers["openfga-store-id"], *pdp.store, "{case}");
        assert_eq!(reply.headers[MODEL_ID], *pdp.model, "{case}");
        for header in ["x-request-id", "meridian-revision", "meridian-served-by"] {
            assert!(reply.headers.contains_key(header), "{case}: {header}");
        }
        assert_eq!(
            Pdp::answered(reply),
            json!({"decision": expected}),
            "{case}"
        );

        let asked = wire_evaluation(&pdp.store, user, relation, id);
        let answer = pdp.client().await.evaluation(asked).await.unwrap();
        assert_eq!(answer.metadata().get(MODEL_ID).unwrap(), &*pdp.model);
        assert_eq!(answer.into_inner().decision, expected, "{case}");
    }
}

#[tokio::test]
async fn properties_and_context_are_values_of_parameters() {
    let pdp = Pdp::start().await;
    let department = |name: &str| json!({"department": name});
    let ask = async |relation: &str, of_subject: Value, of_resource: Value, context: Value| {
        let mut body = evaluation("alice", relation, "1");
        body["subject"]["properties"] = of_subject;
        body["resource"]["properties"] = of_resource;
        body["context"] = context;
        pdp.ask("evaluation", &body).await
    };
    let none = || json!({});
    for (relation, of_subject, of_resource, context, expected) in [
        ("same", department("eng"), department("eng"), none(), true),
        (
            "same",
            department("eng"),
            department("sales"),
            Value::Null,
            false,
        ),
        (
            "same",
            department("eng"),
            none(),
            json!({"resource_department": "eng"}),
            true,
        ),
        (
            "same",
            department("eng"),
            department("eng"),
            json!({"resource_department": "x"}),
            false,
        ),
        ("level", json!({"level": 7}), none(), none(), true),
        ("level", json!({"level": 1}), none(), none(), false),
        (
            "level",
            json!({"level": 1}),
            none(),
            json!({"subject_level": 10}),
            true,
        ),
        ("reader", json!({"": 1, "a b:": [{}]}), none(), none(), true),
    ] {
        let case = format!("{relation} {of_subject} {of_resource} {context}");
        let reply = ask(relation, of_subject, of_resource, context).await;
        assert_eq!(
            Pdp::answered(reply),
            json!({"decision": expected}),
            "{case}"
        );
    }
    let missing = ask("same", department("eng"), none(), none()).await;
    missing.assert_error(
        400,
        "validation_error",
        "failed to evaluate relationship condition: 'same' - tuple 'document:1#same@user:alice' is missing context parameters '[resource_department]'",
    );
}

#[tokio::test]
async fn the_header_names_the_model() {
    let pdp = Pdp::start().await;
    let body = evaluation("old", "editor", "1");
    let padded = format!(" {} ", pdp.old_model);
    for id in [&*pdp.old_model, &padded] {
        let reply = pdp.ask_under("evaluation", &body, &[(MODEL_ID, id)]).await;
        assert_eq!(reply.headers[MODEL_ID], *pdp.old_model);
        assert_eq!(Pdp::answered(reply), json!({"decision": true}));
    }
    for id in ["", "nonsense", &*pdp.model] {
        let reply = pdp.ask_under("evaluation", &body, &[(MODEL_ID, id)]).await;
        let why = "invalid relation: relation 'document#editor' not found";
        reply.assert_error(400, "validation_error", why);
    }
    let nobodys = [(MODEL_ID, NOBODY)];
    let why = format!("Authorization Model '{NOBODY}' not found");
    for call in ["evaluation", "evaluations", "search/action"] {
        let reply = pdp.ask_under(call, &body, &nobodys).await;
        reply.assert_error(400, "authorization_model_not_found", &why);
    }
    let several = json!({
        "subject": subject("old"), "resource": document("1"),
        "evaluations": [{"action": {"name": "editor"}}],
    });
    let old = [(MODEL_ID, &*pdp.old_model)];
    let reply = pdp.ask_under("evaluations", &several, &old).await;
    assert_eq!(
        Pdp::answered(reply),
        json!({"evaluations": [{"decision": true}]})
    );
}

/// Decisions of alice's reading these documents, with `error` where one has an error's status 400.
async fn decisions(pdp: &Pdp, semantic: Value, resources: &[Value]) -> Vec<&'static str> {
    let items = resources
        .iter()
        .map(|resource| json!({"resource": resource}));
    let body = json!({
        "subject": subject("alice"), "action": {"name": "reader"},
        "options": {"evaluations_semantic": semantic},
        "evaluations": items.collect::<Vec<_>>(),
    });
    let answer = Pdp::answered(pdp.ask("evaluations", &body).await);
    let told = |evaluation: &Value| match (&evaluation["decision"], evaluation.get("context")) {
        (Value::Bool(true), None) => "permit",
        (Value::Bool(false), None) => "deny",
        (Value::Bool(false), Some(context)) if context["error"]["status"] == 400 => "error",
        _ => panic!("{evaluation}"),
    };
    let evaluations = answer["evaluations"].as_array().unwrap();
    evaluations.iter().map(told).collect()
}

#[tokio::test]
async fn semantics_say_how_far_to_go() {
    let pdp = Pdp::start().await;
    let (yes, no) = (document("1"), document("2"));
    let wrong = json!({"type": "nope", "id": "1"});
    for semantic in [
        json!("execute_all"),
        json!(0),
        Value::Null,
        json!("of a later version"),
    ] {
        let all = [yes.clone(), no.clone(), wrong.clone(), yes.clone()];
        let told = decisions(&pdp, semantic, &all).await;
        assert_eq!(told, ["permit", "deny", "error", "permit"]);
    }
    for semantic in [json!("deny_on_first_deny"), json!(1)] {
        let ask = async |all: &[&Value]| {
            let all: Vec<_> = all.iter().map(|one| (*one).clone()).collect();
            decisions(&pdp, semantic.clone(), &all).await
        };
        assert_eq!(ask(&[&yes, &no, &yes]).await, ["permit", "deny"]);
        assert_eq!(ask(&[&no, &yes]).await, ["deny"]);
        assert_eq!(ask(&[&yes, &yes]).await, ["permit", "permit"]);
        assert_eq!(ask(&[&yes, &wrong, &yes]).await, ["permit", "error"]);
    }
    for semantic in [json!("permit_on_first_permit"), json!(2)] {
        let ask = async |all: &[&Value]| {
            let all: Vec<_> = all.iter().map(|one| (*one).clone()).collect();
            decisions(&pdp, semantic.clone(), &all).await
        };
        assert_eq!(ask(&[&no, &yes, &yes]).await, ["deny", "permit"]);
        assert_eq!(ask(&[&yes, &no]).await, ["permit"]);
        assert_eq!(ask(&[&no, &no]).await, ["deny", "deny"]);
        assert_eq!(ask(&[&wrong, &yes, &no]).await, ["error", "permit"]);
    }
}

#[tokio::test]
async fn errors_stand_in_their_evaluations_context() {
    let pdp = Pdp::start().await;
    let body = |semantic: &str| {
        json!({
            "subject": subject("alice"), "action": {"name": "reader"},
            "options": {"evaluations_semantic": semantic},
            "evaluations": [{"resource": {"type": "nope", "id": "1"}}],
        })
    };
    const WHY: &str = "invalid relation: type 'nope' not found";
    // The words of one after the other are those that OpenFGA's server prints.
    let printed = format!("rpc error: code = Code(2000) desc = {WHY}");
    for (semantic, message) in [
        ("execute_all", WHY),
        ("deny_on_first_deny", &printed),
        ("permit_on_first_permit", &printed),
    ] {
        let answer = Pdp::answered(pdp.ask("evaluations", &body(semantic)).await);
        let error = json!({"status": 400, "message": message});
        let expected = json!({"evaluations": [{"decision": false, "context": {"error": error}}]});
        assert_eq!(answer, expected);
    }
    let request = v1::EvaluationsRequest {
        store_id: pdp.store.clone(),
        evaluations: vec![v1::EvaluationsItemRequest {
            subject: wire_evaluation("", "alice", "", "").subject,
            resource: wire_evaluation("", "", "", "1").resource,
            action: wire_evaluation("", "", "nope", "").action,
            context: None,
        }],
        ..Default::default()
    };
    let answer = pdp.client().await.evaluations(request).await.unwrap();
    let evaluation = &answer.get_ref().evaluations[0];
    let context = struct_to_json(evaluation.context.as_ref().unwrap());
    let why = "invalid relation: relation 'document#nope' not found";
    let expected = json!({"error": {"status": 400, "message": why}});
    assert_eq!(Value::from(context), expected);
}

#[tokio::test]
async fn what_an_item_leaves_out_is_the_requests() {
    let pdp = Pdp::start().await;
    let level = |level: i32| json!({"subject_level": level});
    let body = json!({
        "subject": subject("alice"), "resource": document("1"), "action": {"name": "level"},
        "context": level(9),
        "evaluations": [
            {},
            {"context": level(1)},
            {"context": null},
            {"action": {"name": "blocked"}},
            {"subject": subject("bob"), "action": {"name": "blocked"}},
            {"resource": document("3"), "action": {"name": "reader"}},
        ],
    });
    let answer = Pdp::answered(pdp.ask("evaluations", &body).await);
    let expected: Vec<_> = [true, false, true, false, true, true]
        .map(|decision| json!({"decision": decision}))
        .into();
    assert_eq!(answer, json!({"evaluations": expected}));

    // An empty context is one too, and lacks what the condition needs.
    let mut body = body;
    body["evaluations"] = json!([{"context": {}}]);
    let answer = Pdp::answered(pdp.ask("evaluations", &body).await);
    let why = &answer["evaluations"][0]["context"]["error"]["message"];
    assert!(
        why.as_str().unwrap().contains("missing context parameters"),
        "{answer}"
    );
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let pdp = Pdp::start().await;
    let without = |part: &str| {
        let mut body = evaluation("alice", "reader", "1");
        body.as_object_mut().unwrap().remove(part);
        body
    };
    for part in ["subject", "resource", "action"] {
        let why = format!("missing {part}");
        let alone = without(part);
        let reply = pdp.ask("evaluations", &alone).await;
        reply.assert_error(400, "validation_error", &why);

        let mut all = without(part);
        let whole = evaluation("alice", "reader", "1");
        all["evaluations"] = json!([{part: whole[part]}, {}]);
        let reply = pdp.ask("evaluations", &all).await;
        reply.assert_error(400, "validation_error", &format!("evaluation 1: {why}"));

        all["options"] = json!({"evaluations_semantic": "deny_on_first_deny"});
        let answer = Pdp::answered(pdp.ask("evaluations", &all).await);
        let error = json!({"error": {"status": 400, "message": why}});
        let expected = [
            json!({"decision": true}),
            json!({"decision": false, "context": error}),
        ];
        assert_eq!(answer, json!({"evaluations": expected}));
    }
    let request = v1::EvaluationsRequest {
        store_id: pdp.store.clone(),
        ..Default::default()
    };
    let refused = pdp.client().await.evaluations(request).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (tonic::Code::InvalidArgument, "missing subject")
    );
}

#[tokio::test]
async fn all_are_as_many_as_a_batch_may_hold() {
    let pdp = Pdp::start().await;
    let mut body = evaluation("alice", "reader", "1");
    let ask = async |body: &Value| pdp.ask("evaluations", body).await;
    // None is one.
    for evaluations in [json!([]), Value::Null] {
        body["evaluations"] = evaluations;
        let answer = Pdp::answered(ask(&body).await);
        assert_eq!(answer, json!({"evaluations": [{"decision": true}]}));
    }
    body["evaluations"] = vec![json!({}); 50].into();
    let answer = Pdp::answered(ask(&body).await);
    assert_eq!(answer["evaluations"].as_array().unwrap().len(), 50);
    body["evaluations"] = vec![json!({}); 51].into();
    let why = "batchCheck received 51 checks, the maximum allowed is 50";
    ask(&body).await.assert_error(400, "validation_error", why);
    body["options"] = json!({"evaluations_semantic": "deny_on_first_deny"});
    let answer = Pdp::answered(ask(&body).await);
    assert_eq!(answer["evaluations"].as_array().unwrap().len(), 51);
}

#[tokio::test]
async fn a_store_without_a_model_is_told_as_by_a_check() {
    let pdp = Pdp::start().await;
    let path = |call: &str| format!("/stores/{NOBODY}/access/v1/{call}");
    let why = format!("No authorization models found for store '{NOBODY}'");
    let mut body = evaluation("alice", "reader", "1");
    body["evaluations"] = json!([{}]);
    for call in [
        "evaluation",
        "evaluations",
        "search/subject",
        "search/resource",
        "search/action",
    ] {
        let reply = pdp.node.post(&path(call), &body).await;
        reply.assert_error(400, "latest_authorization_model_not_found", &why);
    }
    body["options"] = json!({"evaluations_semantic": "permit_on_first_permit"});
    let answer = Pdp::answered(pdp.node.post(&path("evaluations"), &body).await);
    let message = format!("rpc error: code = Code(2020) desc = {why}");
    let error = json!({"error": {"status": 400, "message": message}});
    assert_eq!(
        answer,
        json!({"evaluations": [{"decision": false, "context": error}]})
    );
}
