//! Whatever is wrong with a request, its caller is told what, where, and what would be right.

use http::StatusCode;
use meridian_proto::openfga::v1;
use serde_json::{Value, json};

use crate::harness::{NOBODY, Node, check_request, github_model};

const ID_PATTERN: &str = r"^[ABCDEFGHJKMNPQRSTVWXYZ0-9]{26}$";

/// What OpenFGA's gateway writes: the pattern's backslashes twice.
fn pattern(field: &str, pattern: &str) -> String {
    format!(
        "invalid {field}: value does not match regex pattern \"{}\"",
        pattern.replace('\\', "\\\\")
    )
}

#[tokio::test]
async fn fields_that_break_their_pattern() {
    let node = Node::start().await;
    let name = pattern(
        "CreateStoreRequest.Name",
        r"^[a-zA-Z0-9\s\.\-\/^_&@]{3,64}$",
    );
    node.post("/stores", &json!({"name": "ab"}))
        .await
        .assert_error(400, "validation_error", &name);
    node.post("/stores", &json!({}))
        .await
        .assert_error(400, "validation_error", &name);
    node.get("/stores/abc").await.assert_error(
        400,
        "validation_error",
        &pattern("GetStoreRequest.StoreId", ID_PATTERN),
    );
    node.get("/stores?page_size=0").await.assert_error(
        400,
        "page_size_invalid",
        "invalid ListStoresRequest.PageSize: value must be inside range [1, 100]",
    );
    node.get(&format!("/stores/{NOBODY}/changes?type=a%20b"))
        .await
        .assert_error(
            400,
            "type_invalid_pattern",
            &pattern("ReadChangesRequest.Type", r"^[^:#\s]{1,254}$"),
        );
    let check = format!("/stores/{NOBODY}/check");
    node.post(&check, &json!({})).await.assert_error(
        400,
        "tuple_key_value_not_specified",
        "invalid CheckRequest.TupleKey: value is required",
    );
    let empty = [
        ("User", r"^[^\s]{2,512}$"),
        ("Relation", r"^[^:#@\s]{1,50}$"),
        ("Object", r"^[^\s]{2,256}$"),
    ];
    let sentences: Vec<_> = empty
        .iter()
        .map(|(field, p)| pattern(&format!("CheckRequestTupleKey.{field}"), p))
        .collect();
    node.post(&check, &json!({"tuple_key": {}}))
        .await
        .assert_error(400, "validation_error", &sentences.join("; "));
    node.get(&format!(
        "/stores/{NOBODY}/changes?start_time=2999-01-01T00:00:00Z"
    ))
    .await
    .assert_error(
        400,
        "validation_error",
        "invalid ReadChangesRequest.StartTime: value must be less than now",
    );

    // On gRPC the same rules are plain INVALID_ARGUMENT.
    let reply = node
        .rpc(
            "GetStore",
            &v1::GetStoreRequest {
                store_id: "abc".into(),
            },
        )
        .await;
    assert_eq!(reply.status, 3, "{reply:?}");
    assert_eq!(reply.headers["meridian-served-by"], "central");
}

#[tokio::test]
async fn a_store_that_does_not_exist() {
    let node = Node::start().await;
    node.get(&format!("/stores/{NOBODY}")).await.assert_error(
        404,
        "store_id_not_found",
        "Store ID not found",
    );
    let no_model = format!("No authorization models found for store '{NOBODY}'");
    node.check(NOBODY, ("user:anne", "owner", "repo:1"))
        .await
        .assert_error(400, "latest_authorization_model_not_found", &no_model);
    node.write(NOBODY, &[("user:anne", "owner", "repo:1")])
        .await
        .assert_error(400, "latest_authorization_model_not_found", &no_model);
    let read = node
        .post(&format!("/stores/{NOBODY}/read"), &json!({}))
        .await;
    assert_eq!(
        (read.status, read.body),
        (
            StatusCode::OK,
            json!({"tuples": [], "continuation_token": ""})
        )
    );
    node.post(
        &format!("/stores/{NOBODY}/authorization-models"),
        &github_model(),
    )
    .await
    .assert_error(404, "store_id_not_found", "Store ID not found");

    assert_eq!(
        node.rpc(
            "GetStore",
            &v1::GetStoreRequest {
                store_id: NOBODY.into()
            }
        )
        .await
        .status,
        5002
    );
    assert_eq!(
        node.rpc(
            "Check",
            &check_request(NOBODY, ("user:anne", "owner", "repo:1"))
        )
        .await
        .status,
        2020
    );
}

#[tokio::test]
async fn tuples_that_cannot_be_written() {
    let node = Node::start().await;
    let store = node.store().await;
    let refused = async |tuple: (&str, &str, &str)| {
        node.write(&store, &[tuple])
            .await
            .message(400, "validation_error")
            .to_owned()
    };
    assert_eq!(
        refused(("user:anne", "owner", "nope:1")).await,
        "Invalid tuple 'nope:1#owner@user:anne'. Reason: type 'nope' not found"
    );
    assert_eq!(
        refused(("user:anne", "nope", "repo:1")).await,
        "Invalid tuple 'repo:1#nope@user:anne'. Reason: relation 'repo#nope' not found"
    );
    for (tuple, named) in [
        (("anne", "owner", "repo:1"), "'user'"),
        (("user:anne", "owner", "repo"), "'object'"),
        (("user:anne", "owner", "repo:1:2"), "'object'"),
        (("user:anne", "owner", "repo:*"), "'object'"),
        (("team:*#member", "owner", "repo:1"), "'user'"),
        (("user:*", "owner", "repo:1"), "user:*"),
        (("team:1", "owner", "repo:1"), "'team'"),
        (("user:anne", "admin", "repo:1"), "repo#admin"),
        (("user:*", "org", "repo:1"), "repo#org"),
    ] {
        let message = refused(tuple).await;
        let (user, relation, object) = tuple;
        assert!(
            message.starts_with(&format!(
                "Invalid tuple '{object}#{relation}@{user}'. Reason: "
            )) && message.contains(named),
            "{message}"
        );
    }
    let implicit = refused(("team:1#member", "member", "team:1")).await;
    assert_eq!(
        implicit,
        "Invalid tuple 'team:1#member@team:1#member'. Reason: cannot write a tuple that is implicit"
    );
}

#[tokio::test]
async fn writes_that_cannot_be() {
    let node = Node::start().await;
    let store = node.store().await;
    let path = format!("/stores/{store}/write");
    let nothing = "Invalid input. Make sure you provide at least one write, or at least one delete";
    node.post(&path, &json!({}))
        .await
        .assert_error(400, "invalid_write_input", nothing);
    let anne = ("user:anne", "owner", "repo:1");
    node.write(&store, &[anne, anne]).await.assert_error(
        400,
        "cannot_allow_duplicate_tuples_in_one_request",
        "duplicate tuple in write: user: 'user:anne', relation: 'owner', object: 'repo:1'",
    );
    let failed = "tuple to be written already existed or the tuple to be deleted did not exist";
    let missing = format!(
        "cannot delete a tuple which does not exist: user: 'user:anne', relation: 'owner', object: 'repo:1': {failed}"
    );
    node.delete(&store, anne).await.assert_error(
        400,
        "write_failed_due_to_invalid_input",
        &missing,
    );
    node.write(&store, &[anne]).await;
    let exists = format!(
        "cannot write a tuple which already exists: user: 'user:anne', relation: 'owner', object: 'repo:1': {failed}"
    );
    node.write(&store, &[anne]).await.assert_error(
        400,
        "write_failed_due_to_invalid_input",
        &exists,
    );
    node.delete(&store, ("anne", "owner", "repo"))
        .await
        .message(400, "write_failed_due_to_invalid_input");
    let nobody = node.delete(&store, ("", "", "")).await;
    let message = nobody.message(400, "validation_error");
    assert!(
        message.starts_with("Invalid tuple '#@'. Reason: the 'user' field is malformed"),
        "{message}"
    );

    let users: Vec<String> = (0..101).map(|n| format!("user:{n}")).collect();
    let many: Vec<_> = users
        .iter()
        .map(|user| (user.as_str(), "owner", "repo:2"))
        .collect();
    node.write(&store, &many).await.assert_error(
        400,
        "exceeded_entity_limit",
        "The number of write operations exceeds the allowed limit of 100",
    );
    let option = json!({"writes": {"on_duplicate": "bogus", "tuple_keys": [{"user": "user:b", "relation": "owner", "object": "repo:1"}]}});
    node.post(&path, &option).await.assert_error(
        400,
        "validation_error",
        "invalid on_duplicate option: bogus",
    );
    let model = json!({"authorization_model_id": NOBODY, "writes": {"tuple_keys": [{"user": "user:b", "relation": "owner", "object": "repo:1"}]}});
    node.post(&path, &model).await.assert_error(
        400,
        "authorization_model_not_found",
        &format!("Authorization Model '{NOBODY}' not found"),
    );

    let raw = v1::WriteRequest {
        store_id: store.clone(),
        ..Default::default()
    };
    assert_eq!(node.rpc("Write", &raw).await.status, 2003);
}

#[tokio::test]
async fn models_that_break_a_rule() {
    let node = Node::start().await;
    let store = node.store().await;
    let path = format!("/stores/{store}/authorization-models");
    let post = async |model: Value| node.post(&path, &model).await;
    post(json!({"schema_version": "9", "type_definitions": [{"type": "user"}]})).await.assert_error(
        400,
        "validation_error",
        "invalid WriteAuthorizationModelRequest.SchemaVersion: value must be in list [1.0 1.1 1.2]",
    );
    post(json!({"schema_version": "1.1", "type_definitions": []}))
        .await
        .message(400, "type_definitions_too_few_items");
    post(json!({"schema_version": "1.1", "type_definitions": [{"type": "us er"}]}))
        .await
        .message(400, "type_invalid_pattern");
    post(
        json!({"schema_version": "1.1", "type_definitions": [{"type": "user"}, {"type": "user"}]}),
    )
    .await
    .message(400, "invalid_authorization_model");
    let no_rewrite = json!({"schema_version": "1.1", "type_definitions": [{"type": "user", "relations": {"a": {}}}]});
    post(no_rewrite).await.assert_error(
        400,
        "invalid_authorization_model",
        "the definition of relation 'a' in object type 'user' is invalid: invalid userset rewrite definition",
    );
    let undefined = json!({"schema_version": "1.1", "type_definitions": [{"type": "user", "relations": {"a": {"computedUserset": {"relation": "b"}}}}]});
    post(undefined).await.assert_error(
        400,
        "invalid_authorization_model",
        "'user#b' relation is undefined",
    );
    let types: Vec<_> = (0..101).map(|n| json!({"type": format!("t{n}")})).collect();
    post(json!({"schema_version": "1.1", "type_definitions": types}))
        .await
        .message(400, "exceeded_entity_limit");

    let undefined = v1::WriteAuthorizationModelRequest {
        store_id: store.clone(),
        schema_version: "1.1".into(),
        type_definitions: vec![
            v1::TypeDefinition {
                r#type: "user".into(),
                ..Default::default()
            };
            2
        ],
        ..Default::default()
    };
    assert_eq!(
        node.rpc("WriteAuthorizationModel", &undefined).await.status,
        2056
    );
}

#[tokio::test]
async fn models_with_fields_out_of_bounds() {
    let node = Node::start().await;
    let store = node.store().await;
    let path = format!("/stores/{store}/authorization-models");
    let of = |rewrite: Value, metadata: Value| json!([{"type": "user", "relations": {"a": rewrite}, "metadata": metadata}]);
    let user = || json!([{"type": "user"}]);
    let condition = |expression: String| json!({"c": {"name": "c", "expression": expression}});
    let base = json!({"base": {"this": {}}});
    for (types, conditions, code, message) in [
        (
            of(json!({"difference": base}), json!({})),
            json!({}),
            "subtract_base_missing_value",
            "invalid Difference.Subtract: value is required",
        ),
        (
            of(
                json!({"tupleToUserset": {"tupleset": {"relation": "a"}}}),
                json!({}),
            ),
            json!({}),
            "validation_error",
            "invalid TupleToUserset.ComputedUserset: value is required",
        ),
        (
            user(),
            condition("true || ".repeat(64) + "true"),
            "validation_error",
            "invalid Condition.Expression: value length must be at most 512 bytes",
        ),
    ] {
        let model =
            json!({"schema_version": "1.1", "type_definitions": types, "conditions": conditions});
        let reply = node.post(&path, &model).await;
        reply.assert_error(400, code, message);
        let mut raw: v1::WriteAuthorizationModelRequest = serde_json::from_value(model).unwrap();
        raw.store_id.clone_from(&store);
        assert_eq!(
            node.rpc("WriteAuthorizationModel", &raw).await.status,
            3,
            "{message}"
        );
    }
    let related = json!([{"type": "user", "relation": ""}]);
    let related = json!({"relations": {"a": {"directly_related_user_types": related}}});
    let types = of(json!({"this": {}}), related);
    let model = json!({"schema_version": "1.1", "type_definitions": types});
    node.post(&path, &model).await.assert_error(
        400,
        "invalid_authorization_model",
        "the relation type 'user' on 'a' in object type 'user' has an empty relation reference: empty relation reference",
    );
}

#[tokio::test]
async fn tokens_that_are_not_ours() {
    let node = Node::start().await;
    let store = node.store().await;
    for path in [
        format!("/stores/{store}/changes"),
        format!("/stores/{store}/authorization-models"),
        "/stores".to_owned(),
    ] {
        let reply = node.get(&format!("{path}?continuation_token=abcd")).await;
        reply.assert_error(
            400,
            "invalid_continuation_token",
            "Invalid continuation token",
        );
    }
    let reply = node
        .post(
            &format!("/stores/{store}/read"),
            &json!({"continuation_token": "abcd"}),
        )
        .await;
    reply.assert_error(
        400,
        "invalid_continuation_token",
        "Invalid continuation token",
    );
    let request = v1::ReadRequest {
        store_id: store,
        continuation_token: "abcd".into(),
        ..Default::default()
    };
    assert_eq!(node.rpc("Read", &request).await.status, 2007);
}
