use std::sync::Arc;

use meridian_model::tuple::TupleCondition;
use meridian_model::{ApiError, Code, Timestamp, Tuple, TupleKey, TypeSystem, validate};

use crate::{cases, model};

fn types(text: &str) -> TypeSystem {
    TypeSystem::new(Arc::new(model(text))).unwrap()
}

fn documents() -> TypeSystem {
    types(include_str!("../data/tuples.fga"))
}

#[test]
fn each_use_of_a_tuple_has_its_code_and_reason() {
    let types = documents();
    for case in cases(include_str!("../data/tuples.txt")) {
        let [object, relation, user] = words(case.name);
        let outcomes = [
            validate::parse_write(object, relation, user)
                .and_then(|key| validate::write(&types, &key, None))
                .map(|()| "ok"),
            validate::parse_contextual(object, relation, user)
                .and_then(|key| validate::contextual(&types, &key, None))
                .map(|()| "ok"),
            validate::parse_question(object, relation, user)
                .and_then(|key| validate::question(&types, &key))
                .map(|()| "ok"),
            validate::delete(object, relation, user)
                .map(|key| if key.is_some() { "ok" } else { "none" }),
        ];
        for (expected, outcome) in words::<4>(case.expected).into_iter().zip(outcomes) {
            match outcome {
                Ok(outcome) => assert_eq!(outcome, expected, "{}", case.name),
                Err(error) => {
                    assert_eq!(
                        error.code.number().to_string(),
                        expected,
                        "{}: {error}",
                        case.name
                    );
                    assert!(
                        error.message.contains(case.body.trim()),
                        "{}: {error}",
                        case.name
                    );
                }
            }
        }
    }
}

fn words<const N: usize>(text: &'static str) -> [&'static str; N] {
    text.split_whitespace()
        .collect::<Vec<_>>()
        .try_into()
        .expect(text)
}

#[test]
fn errors_name_the_tuple() {
    let types = documents();
    let key = TupleKey::parse("doc:1", "nope", "user:anne").unwrap();
    let message = "Invalid tuple 'doc:1#nope@user:anne'. Reason: relation 'doc#nope' not found";
    assert_eq!(
        validate::write(&types, &key, None),
        Err(ApiError::validation(message))
    );
    assert_eq!(
        validate::contextual(&types, &key, None),
        Err(ApiError::new(Code::InvalidTuple, message))
    );
    assert_eq!(
        validate::question(&types, &key),
        Err(ApiError::validation(
            "invalid relation: relation 'doc#nope' not found"
        ))
    );
}

#[test]
fn a_condition_the_model_does_not_define_is_refused() {
    let types = documents();
    let key = TupleKey::parse("doc:1", "viewer", "user:anne").unwrap();
    let condition = TupleCondition {
        name: "late".into(),
        context: "{}".into(),
    };
    let refused = Err(ApiError::validation(
        "Invalid tuple 'doc:1#viewer@user:anne (condition late)'. Reason: undefined condition",
    ));
    assert_eq!(validate::write(&types, &key, Some(&condition)), refused);
    assert_eq!(
        validate::contextual(&types, &key, Some(&condition)),
        refused
    );
}

#[test]
fn stored_tuples_count_only_where_the_model_admits_them() {
    let types = documents();
    let late = TupleCondition {
        name: "late".into(),
        context: "{}".into(),
    };
    let cases = [
        ("doc:1", "viewer", "user:anne", None, true),
        ("doc:1", "viewer", "team:core#member", None, true),
        ("doc:1", "public", "user:*", None, true),
        ("doc:1", "viewer", "user:*", None, false),
        ("doc:1", "public", "user:anne", None, false),
        ("doc:1", "viewer", "team:core#owner", None, false),
        ("doc:1", "can_view", "user:anne", None, false),
        ("doc:1", "nope", "user:anne", None, false),
        ("nope:1", "viewer", "user:anne", None, false),
        ("doc:1", "viewer", "user:anne", Some(late), false),
    ];
    for (object, relation, user, condition, expected) in cases {
        let tuple = Tuple {
            key: TupleKey::parse(object, relation, user).unwrap(),
            condition,
            timestamp: Timestamp(0),
        };
        assert_eq!(validate::holds(&types, &tuple), expected, "{:?}", tuple.key);
    }
}

#[test]
fn relations_say_whom_they_admit() {
    let types = documents();
    let viewer = types.relation("doc", "viewer").unwrap();
    assert!(viewer.accepts_object("user") && !viewer.accepts_object("team"));
    assert!(
        viewer.accepts_userset("team", "member")
            && !viewer.accepts_userset("team", "owner")
            && !viewer.accepts_wildcard("user")
    );
    let public = types.relation("doc", "public").unwrap();
    assert!(public.accepts_wildcard("user") && !public.accepts_object("user"));
    assert!(viewer.is_assignable() && !types.relation("doc", "can_view").unwrap().is_assignable());
    assert!(
        types.is_tupleset("doc", "parent")
            && !types.is_tupleset("doc", "viewer")
            && !types.is_tupleset("folder", "parent")
    );
}

#[test]
fn a_closure_holds_every_type_an_answer_may_depend_on() {
    let types = types(
        "model
  schema 1.1
type user
type team
  relations
    define member: [user, team#member, org#admin]
type org
  relations
    define admin: [user]
    define auditor: [user]
type folder
  relations
    define parent: [folder]
    define viewer: [user, team#member] or viewer from parent
type doc
  relations
    define draft: [user]
    define parent: [folder, user]
    define viewer: can_view but not draft
    define can_view: viewer from parent
",
    );
    let closure = |object_type, relation| {
        types
            .closure_types(object_type, relation)
            .into_iter()
            .collect::<Vec<_>>()
    };
    assert_eq!(closure("doc", "viewer"), ["doc", "folder", "org", "team"]);
    assert_eq!(closure("folder", "viewer"), ["folder", "org", "team"]);
    assert_eq!(closure("team", "member"), ["org", "team"]);
    assert_eq!(closure("doc", "draft"), ["doc"]);
    assert_eq!(closure("doc", "nope"), [""; 0]);
    assert_eq!(closure("nope", "viewer"), [""; 0]);
}
