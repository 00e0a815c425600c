//! Authorization models: written, refused and read.

use serde_json::{Value, json};

use super::{Case, Pair, Talk, call};

const NOWHERE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn write(types: Value) -> Case {
    call(
        "WriteAuthorizationModel",
        json!({"schema_version": "1.1", "type_definitions": types}),
    )
}

/// A type `document` whose relation `viewer` is `rewrite`, and types to refer to.
fn rewritten(rewrite: Value, restrictions: Value) -> Case {
    write(json!([
        {"type": "user"},
        {"type": "group", "relations": {"member": {"this": {}}},
         "metadata": {"relations": {"member": {"directly_related_user_types": [{"type": "user"}]}}}},
        {"type": "document",
         "relations": {"viewer": rewrite, "editor": {"this": {}}, "parent": {"this": {}}},
         "metadata": {"relations": {
            "viewer": {"directly_related_user_types": restrictions},
            "editor": {"directly_related_user_types": [{"type": "user"}]},
            "parent": {"directly_related_user_types": [{"type": "group"}]}}}},
    ]))
}

fn computed(relation: &str) -> Value {
    json!({"computedUserset": {"relation": relation}})
}

fn from(tupleset: &str, relation: &str) -> Value {
    json!({"tupleToUserset": {"tupleset": {"relation": tupleset}, "computedUserset": {"relation": relation}}})
}

#[tokio::test]
async fn side_by_side_models_are_read_as_they_were_written() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    talk.new_store().await;
    talk.ask(call("ReadAuthorizationModels", json!({}))).await;
    talk.write_model(
        "model
  schema 1.1
type user
type group
  relations
    define member: [user, user:*, group#member, user with late]
type document
  relations
    define parent: [group]
    define owner: [user]
    define viewer: ([user with late] or owner) but not blocked
    define blocked: [user:* with late, group#member] and member from parent
condition late(hour: int, names: list<string>, by: map<double>) {
  hour > 20 && 'a' in names
}
",
    )
    .await;
    talk.ask(call("ReadAuthorizationModel", json!({"id": "{model}"})))
        .await;
    talk.ask(
        rewritten(json!({"this": {}}), json!([{"type": "user"}]))
            .grpc_only()
            .save("second", "/authorization_model_id"),
    )
    .await;
    talk.ask(call("ReadAuthorizationModels", json!({}))).await;
    let paged = call("ReadAuthorizationModels", json!({"page_size": 1}));
    talk.ask(paged.save("token", "/continuation_token")).await;
    talk.ask(call(
        "ReadAuthorizationModels",
        json!({"page_size": 1, "continuation_token": "{token}"}),
    ))
    .await;
    for size in [0, 101] {
        talk.ask(call("ReadAuthorizationModels", json!({"page_size": size})))
            .await;
    }
    let token = json!({"continuation_token": "nonsense"});
    talk.ask(call("ReadAuthorizationModels", token).other(
        "Continuation tokens that ListStores and ReadAuthorizationModels never gave",
        &["grpc 2007", "400 invalid_continuation_token"],
    ))
    .await;
    for id in [NOWHERE, "abc"] {
        talk.ask(call("ReadAuthorizationModel", json!({"id": id})))
            .await;
    }
    talk.ask(call("ReadAuthorizationModel", json!({"id": ""})).grpc_only())
        .await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_models_are_refused() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    talk.new_store().await;
    let this = || json!({"this": {}});
    let user = || json!([{"type": "user"}]);
    for rewrite in [
        json!({}),
        computed("viewer"),
        computed("nothing"),
        computed("editor"),
        from("parent", "member"),
        from("parent", "nothing"),
        from("nothing", "member"),
        from("editor", "member"),
        from("viewer", "member"),
        json!({"union": {"child": []}}),
        json!({"union": {"child": [computed("editor")]}}),
        json!({"intersection": {"child": []}}),
        json!({"union": {"child": [computed("editor"), computed("viewer")]}}),
        json!({"intersection": {"child": [computed("editor"), computed("viewer")]}}),
        json!({"difference": {"base": computed("editor")}}),
        json!({"difference": {"base": computed("editor"), "subtract": computed("viewer")}}),
        json!({"difference": {"base": computed("viewer"), "subtract": computed("editor")}}),
    ] {
        talk.ask(rewritten(rewrite, json!([]))).await;
    }
    for restrictions in [
        json!([]),
        json!([{"type": "nothing"}]),
        json!([{"type": "group", "relation": "nothing"}]),
        json!([{"type": "document", "relation": "viewer"}]),
        json!([{"type": "user", "relation": "member"}]),
        json!([{"type": "user", "condition": "nothing"}]),
        json!([{"type": "user", "wildcard": {}}, {"type": "user"}]),
        json!([{"type": "user"}, {"type": "user"}]),
        json!([{"type": "a b"}]),
        json!([{"type": "user", "relation": ""}]),
    ] {
        talk.ask(rewritten(this(), restrictions)).await;
    }
    talk.ask(rewritten(computed("editor"), user())).await;
    for types in [
        json!([]),
        json!([{"type": "user"}, {"type": "user"}]),
        json!([{"type": ""}]),
        json!([{"type": "a:b"}]),
        json!([{"type": "x".repeat(255)}]),
        json!([{"type": "self"}]),
        json!([{"type": "this"}]),
        json!([{"type": "user", "relations": {"self": this()}}]),
        json!([{"type": "user", "relations": {"a": this()}}]),
        json!([{"type": "user", "relations": {"a b": this()}}]),
        json!([{"type": "user", "relations": {"": this()}}]),
        json!([{"type": "user", "relations": {"x".repeat(51): this()}}]),
        json!([{"type": "user", "relations": {"a": computed("b"), "b": computed("a")}}]),
        json!([{"type": "user"}, {"type": "doc", "relations": {"p": this()},
            "metadata": {"relations": {"p": {"directly_related_user_types": [{"type": "doc", "relation": "p"}]}}}}]),
        json!([{"type": "user"}, {"type": "doc", "relations": {},
            "metadata": {"relations": {"p": {"directly_related_user_types": [{"type": "user"}]}}}}]),
    ] {
        talk.ask(write(types)).await;
    }
    for version in ["", "1.0", "1.2", "2.0", "x"] {
        let model = json!({"schema_version": version, "type_definitions": [{"type": "user"}]});
        talk.ask(call("WriteAuthorizationModel", model)).await;
    }
    talk.ask(write(json!([{"type": "user"}])).http_only()).await;
    let mut elsewhere = json!({"schema_version": "1.1", "type_definitions": [{"type": "user"}]});
    elsewhere["store_id"] = json!("abc");
    talk.ask(call("WriteAuthorizationModel", elsewhere.clone()))
        .await;
    elsewhere["store_id"] = json!(NOWHERE);
    let case = call("WriteAuthorizationModel", elsewhere);
    talk.ask(case.other(
        "WriteAuthorizationModel to a store that is not there",
        &["grpc 5002", "404 store_id_not_found"],
    ))
    .await;
    talk.end();
}

#[tokio::test]
async fn side_by_side_conditions_of_models() {
    let pair = Pair::start(&[]).await;
    let mut talk = Talk::new(&pair);
    talk.new_store().await;
    let model = |key: &str, condition: Value| {
        call(
            "WriteAuthorizationModel",
            json!({
                "schema_version": "1.1",
                "type_definitions": [{"type": "user"}, {"type": "doc", "relations": {"p": {"this": {}}},
                    "metadata": {"relations": {"p": {"directly_related_user_types": [{"type": "user", "condition": "c"}]}}}}],
                "conditions": {key: condition},
            }),
        )
    };
    let condition = |expression: &str, kind: &str| json!({"name": "c", "expression": expression, "parameters": {"x": {"type_name": kind}}});
    for (expression, kind) in [
        ("x == 1", "TYPE_NAME_INT"),
        ("x == 1", "TYPE_NAME_STRING"),
        ("x", "TYPE_NAME_INT"),
        ("x", "TYPE_NAME_BOOL"),
        ("x == ", "TYPE_NAME_INT"),
        ("y == 1", "TYPE_NAME_INT"),
        ("", "TYPE_NAME_INT"),
        ("x == 1", "TYPE_NAME_UNSPECIFIED"),
        ("x == [1]", "TYPE_NAME_LIST"),
        ("x.nothing()", "TYPE_NAME_INT"),
        ("x.in_cidr('10.0.0.0/8')", "TYPE_NAME_IPADDRESS"),
        ("x.in_cidr(1)", "TYPE_NAME_IPADDRESS"),
        ("x == x", "TYPE_NAME_ANY"),
    ] {
        talk.ask(model("c", condition(expression, kind))).await;
    }
    talk.ask(model(
        "c",
        condition(
            &format!("x == 1 || {}", "1 == 1 || ".repeat(60) + "true"),
            "TYPE_NAME_INT",
        ),
    ))
    .await;
    talk.ask(model("d", condition("x == 1", "TYPE_NAME_INT")))
        .await;
    talk.ask(model("c", json!({"name": "", "expression": "true"})))
        .await;
    talk.ask(model("c", json!({"name": "c", "expression": "true"})))
        .await;
    talk.ask(model("c", json!({"name": "c d", "expression": "true"})))
        .await;
    talk.ask(model("c", json!({"name": "c", "expression": "x == 1", "parameters": {"a b": {"type_name": "TYPE_NAME_INT"}}}))).await;
    let generic = |generics: Value| {
        json!({"name": "c", "expression": "'a' in x",
            "parameters": {"x": {"type_name": "TYPE_NAME_LIST", "generic_types": generics}}})
    };
    for generics in [
        json!([]),
        json!([{"type_name": "TYPE_NAME_STRING"}]),
        json!([{"type_name": "TYPE_NAME_INT"}]),
        json!([{"type_name": "TYPE_NAME_STRING"}, {"type_name": "TYPE_NAME_STRING"}]),
        json!([{"type_name": "TYPE_NAME_LIST"}]),
        json!([{"type_name": "TYPE_NAME_LIST", "generic_types": [{"type_name": "TYPE_NAME_INT"}]}]),
    ] {
        talk.ask(model("c", generic(generics))).await;
    }
    talk.end();
}
