//! A store's whole life, on both transports.

use http::{Method, StatusCode};
use meridian_proto::openfga::v1;
use serde_json::{Value, json};

use crate::harness::{Node, check_request, github_model};

#[tokio::test]
async fn a_store_over_http() {
    let node = Node::start().await;
    let created = node
        .post("/stores", &json!({"name": "demo store", "unknown": 1}))
        .await;
    assert_eq!(created.status, StatusCode::CREATED);
    let id = created.body["id"].as_str().unwrap().to_owned();
    assert_eq!(created.body["name"], "demo store");
    assert_eq!(created.body["created_at"], created.body["updated_at"]);
    assert_eq!(created.headers["meridian-served-by"], "central");
    assert_eq!(created.headers["content-type"], "application/json");

    let got = node.get(&format!("/stores/{id}")).await;
    assert_eq!(got.body["deleted_at"], Value::Null);
    assert_eq!(
        (got.status, &got.body["name"]),
        (StatusCode::OK, &json!("demo store"))
    );
    assert!(
        got.headers["meridian-revision"]
            .to_str()
            .unwrap()
            .ends_with(".1"),
        "{:?}",
        got.headers
    );
    assert_eq!(got.headers["openfga-store-id"], id.as_str());

    let model = node
        .post(
            &format!("/stores/{id}/authorization-models"),
            &github_model(),
        )
        .await;
    assert_eq!(model.status, StatusCode::CREATED, "{}", model.body);
    let model_id = model.body["authorization_model_id"].as_str().unwrap();
    let read = node
        .get(&format!("/stores/{id}/authorization-models/{model_id}"))
        .await;
    let team = &read.body["authorization_model"]["type_definitions"][1];
    let expected = json!({
        "type": "team",
        "relations": {"member": {"this": {}}},
        "metadata": {
            "relations": {"member": {
                "directly_related_user_types": [
                    {"type": "user", "condition": ""}, {"type": "user", "wildcard": {}, "condition": ""}, {"type": "team", "relation": "member", "condition": ""}
                ],
                "module": "", "source_info": null
            }},
            "module": "", "source_info": null
        }
    });
    assert_eq!(team, &expected);
    let listed = node
        .get(&format!("/stores/{id}/authorization-models"))
        .await;
    assert_eq!(
        listed.body["authorization_models"][0],
        read.body["authorization_model"]
    );

    let written = node
        .write(
            &id,
            &[
                ("user:anne", "owner", "repo:1"),
                ("team:core", "org", "repo:1"),
            ],
        )
        .await;
    assert_eq!(
        (written.status, &written.body),
        (StatusCode::OK, &json!({}))
    );
    assert!(
        written.headers["meridian-revision"]
            .to_str()
            .unwrap()
            .ends_with(".3"),
        "{:?}",
        written.headers
    );
    assert_eq!(written.headers["openfga-authorization-model-id"], model_id);
    let checked = node.check(&id, ("user:anne", "admin", "repo:1")).await;
    assert_eq!(checked.body, json!({"allowed": true, "resolution": ""}));
    assert_eq!(
        checked.headers["meridian-revision"],
        written.headers["meridian-revision"]
    );

    assert_eq!(
        node.delete(&id, ("user:anne", "owner", "repo:1"))
            .await
            .status,
        StatusCode::OK
    );
    assert_eq!(
        node.check(&id, ("user:anne", "admin", "repo:1")).await.body["allowed"],
        false
    );

    let deleted = node
        .send(
            Method::DELETE,
            &format!("/stores/{id}"),
            &[],
            Default::default(),
        )
        .await;
    assert_eq!(
        (deleted.status, &deleted.body),
        (StatusCode::NO_CONTENT, &Value::Null)
    );
    node.get(&format!("/stores/{id}")).await.assert_error(
        404,
        "store_id_not_found",
        "Store ID not found",
    );
    let again = node
        .send(
            Method::DELETE,
            &format!("/stores/{id}"),
            &[],
            Default::default(),
        )
        .await;
    assert_eq!(again.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_store_over_grpc() {
    let node = Node::start().await;
    let mut client = node.client().await;
    let store = client
        .create_store(v1::CreateStoreRequest {
            name: "demo".into(),
        })
        .await
        .unwrap();
    assert_eq!(
        store.metadata().get("meridian-served-by").unwrap(),
        "central"
    );
    let store_id = store.into_inner().id;
    let mut model: v1::WriteAuthorizationModelRequest =
        serde_json::from_value(github_model()).unwrap();
    model.store_id = store_id.clone();
    let model_id = client
        .write_authorization_model(model)
        .await
        .unwrap()
        .into_inner()
        .authorization_model_id;
    let key = v1::TupleKey {
        user: "user:anne".into(),
        relation: "owner".into(),
        object: "repo:1".into(),
        condition: None,
    };
    let writes = Some(v1::WriteRequestWrites {
        tuple_keys: vec![key.clone()],
        on_duplicate: String::new(),
    });
    let written = client
        .write(v1::WriteRequest {
            store_id: store_id.clone(),
            writes,
            ..Default::default()
        })
        .await
        .unwrap();
    let revision = written.metadata().get("meridian-revision").unwrap().clone();

    let mut check = tonic::Request::new(check_request(&store_id, ("user:anne", "owner", "repo:1")));
    check
        .metadata_mut()
        .insert("meridian-min-revision", revision.clone());
    let checked = client.check(check).await.unwrap();
    assert_eq!(checked.metadata().get("meridian-revision"), Some(&revision));
    assert_eq!(
        checked
            .metadata()
            .get("openfga-authorization-model-id")
            .unwrap(),
        model_id.as_str()
    );
    assert!(checked.into_inner().allowed);

    let read = client
        .read(v1::ReadRequest {
            store_id: store_id.clone(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(read.tuples[0].key, Some(key));
    let listed = client
        .list_stores(v1::ListStoresRequest {
            name: "demo".into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.stores[0].id, store_id);
    client
        .delete_store(v1::DeleteStoreRequest {
            store_id: store_id.clone(),
        })
        .await
        .unwrap();
    let gone = node
        .rpc("GetStore", &v1::GetStoreRequest { store_id })
        .await;
    assert_eq!(
        (gone.status, &*gone.message),
        (5002, "Store%20ID%20not%20found")
    );
}

#[tokio::test]
async fn lists_go_on_where_a_page_ended() {
    let node = Node::start().await;
    let store = node.store().await;
    let tuples: Vec<String> = (0..5).map(|n| format!("user:{n}")).collect();
    let tuples: Vec<_> = tuples
        .iter()
        .map(|user| (user.as_str(), "owner", "repo:1"))
        .collect();
    node.write(&store, &tuples).await;
    let mut users = Vec::new();
    let mut token = String::new();
    loop {
        let page = node.post(&format!("/stores/{store}/read"), &json!({"page_size": 2, "continuation_token": token, "tuple_key": {"object": "repo:1"}})).await;
        users.extend(
            page.body["tuples"]
                .as_array()
                .unwrap()
                .iter()
                .map(|tuple| tuple["key"]["user"].clone()),
        );
        token = page.body["continuation_token"].as_str().unwrap().to_owned();
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(users, ["user:0", "user:1", "user:2", "user:3", "user:4"]);

    for _ in 0..2 {
        node.store().await;
    }
    let first = node.get("/stores?page_size=2").await;
    let token = first.body["continuation_token"].as_str().unwrap();
    let rest = node
        .get(&format!("/stores?page_size=2&continuation_token={token}"))
        .await;
    let ids = |page: &Value| {
        page["stores"]
            .as_array()
            .unwrap()
            .iter()
            .map(|store| store["id"].to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!((ids(&first.body).len(), ids(&rest.body).len()), (2, 1));
    assert!(ids(&first.body) < ids(&rest.body));
    assert_eq!(rest.body["continuation_token"], "");
}

#[tokio::test]
async fn changes_are_read_once_and_by_type() {
    let node = Node::start().await;
    let store = node.store().await;
    node.write(
        &store,
        &[
            ("user:anne", "owner", "repo:1"),
            ("user:anne", "member", "team:core"),
        ],
    )
    .await;
    node.delete(&store, ("user:anne", "owner", "repo:1")).await;
    let changes = |query: String| {
        let (node, store) = (&node, &store);
        async move { node.get(&format!("/stores/{store}/changes{query}")).await }
    };
    let all = changes(String::new()).await;
    let seen: Vec<_> = all.body["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| (c["operation"].clone(), c["tuple_key"]["object"].clone()))
        .collect();
    let (written, deleted) = (
        json!("TUPLE_OPERATION_WRITE"),
        json!("TUPLE_OPERATION_DELETE"),
    );
    assert_eq!(
        seen,
        [
            (written.clone(), json!("repo:1")),
            (written, json!("team:core")),
            (deleted, json!("repo:1"))
        ]
    );
    let token = all.body["continuation_token"].as_str().unwrap();
    let none = changes(format!("?continuation_token={token}")).await;
    assert_eq!(
        (
            &none.body["changes"],
            none.body["continuation_token"].as_str().unwrap()
        ),
        (&json!([]), token)
    );
    node.write(&store, &[("user:bob", "owner", "repo:1")]).await;
    let new = changes(format!("?continuation_token={token}")).await;
    assert_eq!(new.body["changes"][0]["tuple_key"]["user"], "user:bob");

    assert_eq!(
        changes("?type=team".into()).await.body["changes"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    changes(format!("?type=team&continuation_token={token}"))
        .await
        .assert_error(
            400,
            "query_string_type_continuation_token_mismatch",
            "The type in the querystring and the continuation token don't match",
        );
    assert_eq!(
        changes("?start_time=2020-01-01T00:00:00Z".into())
            .await
            .body["changes"]
            .as_array()
            .unwrap()
            .len(),
        4
    );
}

#[tokio::test]
async fn a_write_passes_over_what_is_so_already_where_it_is_told_to() {
    let node = Node::start().await;
    let store = node.store().await;
    let write = async |body: Value| {
        let path = format!("/stores/{store}/write");
        node.post(&path, &body).await
    };
    let key = |repo: u32| json!({"user": "user:anne", "relation": "owner", "object": format!("repo:{repo}")});
    let writes = |keys: &[Value], option: &str| json!({"writes": {"tuple_keys": keys, "on_duplicate": option}});
    let deletes = |keys: &[Value], option: &str| json!({"deletes": {"tuple_keys": keys, "on_missing": option}});

    let first = write(writes(&[key(1)], "ignore")).await;
    assert_eq!(first.status, 200, "{}", first.body);
    let same = write(writes(&[key(1)], "ignore")).await;
    let gone = write(deletes(&[key(7)], "ignore")).await;
    let formless = json!({"user": "anne", "relation": "owner", "object": "repo"});
    let impossible = write(deletes(&[formless], "ignore")).await;
    for reply in [same, gone, impossible] {
        assert_eq!((reply.status.as_u16(), reply.body), (200, json!({})));
        // There is no revision of nothing.
        assert_eq!(
            reply.headers["meridian-revision"],
            first.headers["meridian-revision"]
        );
    }
    let second = write(writes(&[key(1), key(2)], "ignore")).await;
    assert_eq!(second.status, 200, "{}", second.body);
    let third = write(deletes(&[key(7), key(2)], "ignore")).await;
    assert_eq!(third.status, 200, "{}", third.body);
    let log = node.get(&format!("/stores/{store}/changes")).await.body;
    let log: Vec<_> = log["changes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|change| {
            let kind = change["operation"]
                .as_str()
                .unwrap()
                .rsplit('_')
                .next()
                .unwrap();
            format!("{kind} {}", change["tuple_key"]["object"].as_str().unwrap())
        })
        .collect();
    assert_eq!(log, ["WRITE repo:1", "WRITE repo:2", "DELETE repo:2"]);

    for option in ["", "error"] {
        write(writes(&[key(1)], option))
            .await
            .message(400, "write_failed_due_to_invalid_input");
        write(deletes(&[key(7)], option))
            .await
            .message(400, "write_failed_due_to_invalid_input");
    }
    for option in ["Ignore", "x"] {
        let why = format!("invalid on_duplicate option: {option}");
        write(writes(&[key(1)], option))
            .await
            .assert_error(400, "validation_error", &why);
        let why = format!("invalid on_missing option: {option}");
        write(deletes(&[key(1)], option))
            .await
            .assert_error(400, "validation_error", &why);
    }
    let twice = write(writes(&[key(3), key(3)], "ignore")).await;
    twice.message(400, "cannot_allow_duplicate_tuples_in_one_request");
}
