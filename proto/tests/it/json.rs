//! The JSON of `openfga.v1` and `authzen.v1`. The documents have the shape that OpenFGA 1.22.1 answers with.

use meridian_proto::authzen::v1 as authzen;
use meridian_proto::google::{Timestamp, struct_from_json, struct_to_json};
use meridian_proto::openfga::v1::{self, user::User as UserKind};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json, to_value};

/// `json` reads as `message`, and `message` writes `json`.
fn assert_same<M>(message: M, json: Value)
where
    M: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(to_value(&message).unwrap(), json);
    assert_eq!(from_value::<M>(json).unwrap(), message);
}

fn read<M: DeserializeOwned>(json: &str) -> M {
    serde_json::from_str(json).unwrap()
}

fn error<M: DeserializeOwned + std::fmt::Debug>(json: &str) -> String {
    serde_json::from_str::<M>(json).unwrap_err().to_string()
}

fn time() -> Option<Timestamp> {
    Some(Timestamp {
        seconds: 1_795_237_330,
        nanos: 109_705_825,
    })
}

#[test]
fn unset_messages_are_null() {
    let store = v1::GetStoreResponse {
        id: "01M7Y7QF5XHC96FA4X5K26QRC3".into(),
        name: "acme".into(),
        created_at: time(),
        updated_at: Some(Timestamp {
            seconds: 0,
            nanos: 5_000_000,
        }),
        deleted_at: None,
    };
    let json = json!({
        "id": "01M7Y7QF5XHC96FA4X5K26QRC3",
        "name": "acme",
        "created_at": "2026-11-21T05:02:10.109705825Z",
        "updated_at": "1970-01-01T00:00:00.005Z",
        "deleted_at": null,
    });
    assert_same(store, json);
}

#[test]
fn unset_scalars_and_lists_are_empty() {
    assert_same(v1::WriteResponse {}, json!({}));
    assert_same(
        v1::CheckResponse::default(),
        json!({"allowed": false, "resolution": ""}),
    );
    assert_same(
        v1::ReadResponse::default(),
        json!({"tuples": [], "continuation_token": ""}),
    );
    assert_same(v1::BatchCheckResponse::default(), json!({"result": {}}));
}

#[test]
fn tuples_hold_conditions_and_contexts() {
    let context = json!({"age": 5, "ratio": 0.5, "tags": ["x", null, true], "nested": {"a": {}}});
    let key = |user: &str, condition| v1::TupleKey {
        user: user.into(),
        relation: "owner".into(),
        object: "doc:1".into(),
        condition,
    };
    let condition = v1::RelationshipCondition {
        name: "young".into(),
        context: Some(struct_from_json(context.as_object().unwrap().clone())),
    };
    let page = v1::ReadResponse {
        tuples: vec![
            v1::Tuple {
                key: Some(key("user:a", Some(condition))),
                timestamp: time(),
            },
            v1::Tuple {
                key: Some(key("user:b", None)),
                timestamp: time(),
            },
        ],
        continuation_token: "MXw=".into(),
    };
    let json = json!({
        "tuples": [
            {
                "key": {
                    "user": "user:a", "relation": "owner", "object": "doc:1",
                    "condition": {"name": "young", "context": context},
                },
                "timestamp": "2026-11-21T05:02:10.109705825Z",
            },
            {
                "key": {"user": "user:b", "relation": "owner", "object": "doc:1", "condition": null},
                "timestamp": "2026-11-21T05:02:10.109705825Z",
            },
        ],
        "continuation_token": "MXw=",
    });
    assert_same(page, json);
}

#[test]
fn enum_values_are_written_by_name() {
    let change = |operation| v1::TupleChange {
        tuple_key: None,
        operation,
        timestamp: None,
    };
    let page = v1::ReadChangesResponse {
        changes: vec![change(0), change(1)],
        continuation_token: String::new(),
    };
    let json = json!({
        "changes": [
            {"tuple_key": null, "operation": "TUPLE_OPERATION_WRITE", "timestamp": null},
            {"tuple_key": null, "operation": "TUPLE_OPERATION_DELETE", "timestamp": null},
        ],
        "continuation_token": "",
    });
    assert_same(page, json);
    assert_eq!(to_value(change(7)).unwrap()["operation"], json!(7));
}

#[test]
fn enum_values_are_read_by_name_or_number() {
    let consistency = |value: &str| {
        read::<v1::CheckRequest>(&format!(r#"{{"consistency": {value}}}"#)).consistency
    };
    for (json, number) in [
        ("\"HIGHER_CONSISTENCY\"", 200),
        ("200", 200),
        ("1e2", 100),
        ("7", 7),
        ("null", 0),
    ] {
        assert_eq!(consistency(json), number, "{json}");
    }
    // As upstream: a name it does not know is unset, and a number in quotes is such a name.
    assert_eq!(consistency("\"LATER_VERSION\""), 0);
    assert_eq!(consistency("\"100\""), 0);
    assert_eq!(
        error::<v1::CheckRequest>(r#"{"consistency": 1.5}"#),
        "consistency: invalid value: floating point `1.5`, expected the name or number of an enum value at line 1 column 19"
    );
}

/// A model with every kind of rewrite, as its authors write it and as the server shows it.
#[test]
fn models_keep_every_rewrite() {
    let written = r#"{
        "schema_version": "1.1",
        "type_definitions": [{
            "type": "doc",
            "relations": {
                "owner": {"this": {}},
                "editor": {"union": {"child": [
                    {"this": {}},
                    {"computed_userset": {"relation": "owner"}},
                    {"tuple_to_userset": {"tupleset": {"relation": "parent"}, "computed_userset": {"relation": "viewer"}}}
                ]}},
                "viewer": {"difference": {
                    "base": {"computedUserset": {"relation": "editor"}},
                    "subtract": {"intersection": {"child": [{"this": {}}, {"computedUserset": {"relation": "owner"}}]}}
                }}
            },
            "metadata": {"relations": {"owner": {"directly_related_user_types": [
                {"type": "user", "condition": "young"},
                {"type": "user", "wildcard": {}},
                {"type": "group", "relation": "member"}
            ]}}}
        }],
        "conditions": {"young": {
            "name": "young",
            "expression": "age < 18",
            "parameters": {"age": {"type_name": "TYPE_NAME_INT"}, "tags": {"type_name": 10, "generic_types": [{"type_name": 3}]}}
        }}
    }"#;
    let shown = json!({
        "store_id": "",
        "schema_version": "1.1",
        "type_definitions": [{
            "type": "doc",
            "relations": {
                "owner": {"this": {}},
                "editor": {"union": {"child": [
                    {"this": {}},
                    {"computedUserset": {"object": "", "relation": "owner"}},
                    {"tupleToUserset": {
                        "tupleset": {"object": "", "relation": "parent"},
                        "computedUserset": {"object": "", "relation": "viewer"},
                    }},
                ]}},
                "viewer": {"difference": {
                    "base": {"computedUserset": {"object": "", "relation": "editor"}},
                    "subtract": {"intersection": {"child": [
                        {"this": {}},
                        {"computedUserset": {"object": "", "relation": "owner"}},
                    ]}},
                }},
            },
            "metadata": {
                "relations": {"owner": {
                    "directly_related_user_types": [
                        {"type": "user", "condition": "young"},
                        {"type": "user", "wildcard": {}, "condition": ""},
                        {"type": "group", "relation": "member", "condition": ""},
                    ],
                    "module": "",
                    "source_info": null,
                }},
                "module": "",
                "source_info": null,
            },
        }],
        "conditions": {"young": {
            "name": "young",
            "expression": "age < 18",
            "parameters": {
                "age": {"type_name": "TYPE_NAME_INT", "generic_types": []},
                "tags": {
                    "type_name": "TYPE_NAME_LIST",
                    "generic_types": [{"type_name": "TYPE_NAME_STRING", "generic_types": []}],
                },
            },
            "metadata": null,
        }},
    });
    assert_same(read::<v1::WriteAuthorizationModelRequest>(written), shown);
}

#[test]
fn trees_nest() {
    let json = json!({"tree": {"root": {"name": "doc:1#viewer", "difference": {
        "base": {"name": "doc:1#viewer", "leaf": {"computed": {"userset": "doc:1#editor"}}},
        "subtract": {"name": "doc:1#viewer", "union": {"nodes": [
            {"name": "doc:1#viewer", "leaf": {"users": {"users": []}}},
            {"name": "doc:1#viewer", "leaf": {"tupleToUserset": {"tupleset": "doc:1#parent", "computed": []}}},
        ]}},
    }}}});
    assert_same(
        from_value::<v1::ExpandResponse>(json.clone()).unwrap(),
        json,
    );
}

#[test]
fn of_a_oneof_only_the_set_member_is_written() {
    let wildcard = UserKind::Wildcard(v1::TypedWildcard {
        r#type: "user".into(),
    });
    assert_same(
        v1::User {
            user: Some(wildcard),
        },
        json!({"wildcard": {"type": "user"}}),
    );
    assert_same(v1::User { user: None }, json!({}));

    let results = json!({"result": {
        "a": {"allowed": false},
        "b": {"error": {"input_error": "validation_error", "message": "no such relation"}},
    }});
    assert_same(
        from_value::<v1::BatchCheckResponse>(results.clone()).unwrap(),
        results,
    );
}

#[test]
fn null_is_unset() {
    let request: v1::CheckRequest = read(
        r#"{"store_id": null, "tuple_key": null, "contextual_tuples": null, "trace": null, "context": null}"#,
    );
    assert_eq!(request, v1::CheckRequest::default());
    let rewrite: v1::Userset = read(r#"{"this": null, "union": null}"#);
    assert_eq!(rewrite.userset, None);
    let page: v1::ReadResponse = read(r#"{"tuples": null}"#);
    assert_eq!(page.tuples, []);
}

#[test]
fn unknown_fields_are_skipped() {
    let request: v1::CreateStoreRequest =
        read(r#"{"name": "acme", "later": {"a": [1, null]}, "storeId": "x"}"#);
    assert_eq!(request.name, "acme");
}

#[test]
fn wrapped_numbers_are_plain() {
    let page_size =
        |value: &str| read::<v1::ReadRequest>(&format!(r#"{{"page_size": {value}}}"#)).page_size;
    for (json, number) in [
        ("10", Some(10)),
        ("\"10\"", Some(10)),
        ("1e1", Some(10)),
        ("null", None),
    ] {
        assert_eq!(page_size(json), number, "{json}");
    }
    assert_eq!(
        to_value(v1::ReadRequest {
            page_size: Some(10),
            ..Default::default()
        })
        .unwrap()["page_size"],
        json!(10)
    );
    for bad in ["{\"value\": 1}", "2147483648", "1.5", "\"ten\""] {
        let error = error::<v1::ReadRequest>(&format!(r#"{{"page_size": {bad}}}"#));
        assert!(
            error.starts_with("page_size: invalid ") && error.contains("a 32-bit integer"),
            "{error}"
        );
    }
}

#[test]
fn refusals_name_the_field() {
    let cases = [
        (
            r#"{"tuple_key": {"user": 5}}"#,
            "tuple_key: user: invalid type: integer `5`, expected a string at line 1 column 24",
        ),
        (
            r#"{"tuple_key": ["user:b"]}"#,
            "tuple_key: invalid type: sequence, expected an object at line 1 column 14",
        ),
        (
            r#"[]"#,
            "invalid type: sequence, expected an object at line 1 column 0",
        ),
        (
            r#"{"trace": true, "trace": true}"#,
            "duplicate field `trace` at line 1 column 23",
        ),
        (
            r#"{"context": {"a": {"b": 1, "b": 2}}}"#,
            "context: a: key \"b\" given twice at line 1 column 30",
        ),
    ];
    for (json, expected) in cases {
        assert_eq!(error::<v1::CheckRequest>(json), expected, "{json}");
    }
    let nulls = error::<v1::ContextualTupleKeys>(r#"{"tuple_keys": [null]}"#);
    assert!(
        nulls.starts_with("tuple_keys: invalid type: null, expected an object"),
        "{nulls}"
    );
    let twice = error::<v1::Userset>(r#"{"this": {}, "union": {}}"#);
    assert!(
        twice.starts_with("\"union\" excludes another field of the same object"),
        "{twice}"
    );
    let keys = error::<v1::TypeDefinition>(r#"{"relations": {"a": {"this": {}}, "a": {}}}"#);
    assert!(
        keys.starts_with("relations: key \"a\" given twice"),
        "{keys}"
    );
    let time = error::<v1::ReadChangesRequest>(r#"{"start_time": "yesterday"}"#);
    assert!(
        time.starts_with("start_time: invalid value: string \"yesterday\", expected a time like"),
        "{time}"
    );
}

#[test]
fn depth_is_bounded() {
    let deep = |levels: usize| {
        format!(
            "{}{{}}{}",
            r#"{"difference":{"base":"#.repeat(levels),
            "}}".repeat(levels)
        )
    };
    read::<v1::Userset>(&deep(60));
    assert!(error::<v1::Userset>(&deep(10_000)).contains("recursion limit exceeded"));
}

#[test]
fn structs_round_trip_through_json() {
    let object = json!({"whole": 3, "large": 1e300, "negative": -7, "list": [[], {}], "text": "x", "none": null});
    let object = object.as_object().unwrap();
    assert_eq!(&struct_to_json(&struct_from_json(object.clone())), object);
}

#[test]
fn optional_fields_are_written_when_they_are_set() {
    assert_same(
        authzen::EvaluationsResponse {
            evaluations: vec![
                authzen::EvaluationResponse::default(),
                authzen::EvaluationResponse {
                    decision: true,
                    context: Some(struct_from_json(Default::default())),
                },
            ],
        },
        json!({"evaluations": [{"decision": false}, {"decision": true, "context": {}}]}),
    );
    assert_same(
        authzen::SubjectSearchResponse::default(),
        json!({"results": []}),
    );
    let page = authzen::PageResponse {
        next_token: String::new(),
        count: 3,
        total: Some(7),
    };
    assert_same(page, json!({"next_token": "", "count": 3, "total": 7}));
    // A message that is not optional is null, as elsewhere.
    let request = to_value(authzen::SubjectSearchRequest::default()).unwrap();
    assert_eq!(
        request,
        json!({"store_id": "", "resource": null, "action": null, "subject": null, "page": null})
    );
    let unset = r#"{"evaluations": [{"subject": null, "context": null}], "options": null}"#;
    let evaluations = vec![authzen::EvaluationsItemRequest::default()];
    assert_eq!(
        read::<authzen::EvaluationsRequest>(unset),
        authzen::EvaluationsRequest {
            evaluations,
            ..Default::default()
        }
    );
}

#[test]
fn unsigned_numbers_are_read_as_numbers_and_texts() {
    for (json, limit) in [
        (r#"{"limit": 4294967295}"#, Some(u32::MAX)),
        (r#"{"limit": "12"}"#, Some(12)),
        (r#"{"limit": 1e1}"#, Some(10)),
        (r#"{"limit": null}"#, None),
        ("{}", None),
    ] {
        assert_eq!(read::<authzen::PageRequest>(json).limit, limit, "{json}");
    }
    for json in [
        r#"{"limit": -1}"#,
        r#"{"limit": 1.5}"#,
        r#"{"limit": 4294967296}"#,
        r#"{"limit": 1e10}"#,
        r#"{"limit": "-1"}"#,
        r#"{"limit": true}"#,
    ] {
        let why = error::<authzen::PageRequest>(json);
        assert!(why.starts_with("limit: "), "{json}: {why}");
    }
}
