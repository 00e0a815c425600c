use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_model::authorization_model::{
    Empty, Metadata, ObjectRelation, RelationMetadata, RelationReference, TupleToUserset,
    TypeDefinition, Userset, Usersets,
};
use meridian_model::typesystem::{MAX_REWRITE_DEPTH, MAX_TYPES};
use meridian_model::{ApiError, AuthorizationModel, Code, TypeSystem};

use crate::{cases, model};

#[test]
fn each_rule_has_its_code_and_message() {
    for case in cases(include_str!("../data/rules.txt")) {
        let result = TypeSystem::new(Arc::new(model(case.body))).map_err(ApiError::from);
        match (case.expected.split_once(' '), result) {
            (None, Ok(_)) => assert_eq!(case.expected, "ok", "{}", case.name),
            (Some((code, message)), Err(error)) => {
                assert_eq!(
                    error.code.number().to_string(),
                    code,
                    "{}: {error}",
                    case.name
                );
                assert!(error.message.contains(message), "{}: {error}", case.name);
            }
            (_, result) => panic!("{}: {:?}", case.name, result.map(|_| "ok")),
        }
    }
}

#[test]
fn a_model_has_a_hundred_types_and_no_more() {
    let of = |count| {
        let type_definitions = (0..count)
            .map(|index| TypeDefinition {
                name: format!("t{index}"),
                ..TypeDefinition::default()
            })
            .collect();
        TypeSystem::new(Arc::new(AuthorizationModel {
            schema_version: "1.1".into(),
            type_definitions,
            ..AuthorizationModel::default()
        }))
    };
    assert!(of(MAX_TYPES).is_ok());
    let error = ApiError::from(of(MAX_TYPES + 1).unwrap_err());
    assert_eq!(error.code, Code::ExceededEntityLimit);
    assert_eq!(
        error.message,
        "The number of type definitions in an authorization model exceeds the allowed limit of 100"
    );
}

#[test]
fn the_deepest_rewrite_survives_json_and_one_level_more_is_refused() {
    let of = |depth: usize| {
        let rewrite = (1..depth).fold(Userset::This(Empty {}), |inner, _| {
            Userset::Union(Usersets {
                child: vec![inner, Userset::This(Empty {})],
            })
        });
        doc([("viewer".to_owned(), rewrite)], &["viewer"])
    };
    let deepest = of(MAX_REWRITE_DEPTH);
    let json = serde_json::to_string(&deepest).unwrap();
    assert_eq!(
        serde_json::from_str::<AuthorizationModel>(&json).unwrap(),
        deepest
    );
    assert!(TypeSystem::new(Arc::new(deepest)).is_ok());
    let error = TypeSystem::new(Arc::new(of(MAX_REWRITE_DEPTH + 1))).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("nested more than 32 levels deep"),
        "{error}"
    );
}

#[test]
fn a_hostile_model_costs_neither_stack_nor_time() {
    const LENGTH: usize = 20_000;
    let named = |relation: &str| ObjectRelation {
        object: String::new(),
        relation: relation.to_owned(),
    };
    let computed = |index: usize| Userset::ComputedUserset(named(&format!("r{index:05}")));
    let chain = (0..LENGTH).map(|index| {
        (
            format!("r{index:05}"),
            if index + 1 == LENGTH {
                Userset::This(Empty {})
            } else {
                computed(index + 1)
            },
        )
    });
    let last = format!("r{:05}", LENGTH - 1);
    let ring = (0..LENGTH).map(|index| (format!("r{index:05}"), computed((index + 1) % LENGTH)));

    let started = Instant::now();
    let types = TypeSystem::new(Arc::new(doc(chain, &[&last]))).unwrap();
    assert_eq!(
        types
            .closure_types("doc", "r00000")
            .into_iter()
            .collect::<Vec<_>>(),
        ["doc"]
    );
    let error = TypeSystem::new(Arc::new(doc(ring, &[]))).unwrap_err();
    assert!(error.to_string().ends_with("potential loop"), "{error}");
    // Thousands of restrictions on one tupleset, which thousands of branches go through.
    let mut wide = doc(
        [
            ("parent".to_owned(), Userset::This(Empty {})),
            ("viewer".to_owned(), Userset::This(Empty {})),
        ],
        &["parent", "viewer"],
    );
    let from_parent = TupleToUserset {
        tupleset: named("parent"),
        computed_userset: named("viewer"),
    };
    let branches = std::iter::repeat_n(Userset::TupleToUserset(from_parent), LENGTH)
        .chain([Userset::This(Empty {})]);
    let definition = wide.type_definitions.last_mut().unwrap();
    definition.relations.insert(
        "viewer".into(),
        Userset::Union(Usersets {
            child: branches.collect(),
        }),
    );
    let parents = &mut definition
        .metadata
        .as_mut()
        .unwrap()
        .relations
        .get_mut("parent")
        .unwrap()
        .directly_related_user_types;
    *parents = vec![parents[0].clone(); LENGTH];
    parents.push(RelationReference {
        type_name: "doc".into(),
        ..RelationReference::default()
    });
    let types = TypeSystem::new(Arc::new(wide)).unwrap();
    assert_eq!(
        types.relation("doc", "parent").unwrap().restrictions.len(),
        2
    );
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
}

/// A model of the types `user` and `doc`; the relations of `assignable` admit users.
fn doc(
    relations: impl IntoIterator<Item = (String, Userset)>,
    assignable: &[&str],
) -> AuthorizationModel {
    let user = RelationReference {
        type_name: "user".into(),
        ..RelationReference::default()
    };
    let metadata = RelationMetadata {
        directly_related_user_types: vec![user],
        ..RelationMetadata::default()
    };
    let relations_metadata = assignable
        .iter()
        .map(|&name| (name.to_owned(), metadata.clone()))
        .collect();
    let doc = TypeDefinition {
        name: "doc".into(),
        relations: relations.into_iter().collect(),
        metadata: Some(Metadata {
            relations: relations_metadata,
            ..Metadata::default()
        }),
    };
    let user = TypeDefinition {
        name: "user".into(),
        ..TypeDefinition::default()
    };
    AuthorizationModel {
        schema_version: "1.1".into(),
        type_definitions: vec![user, doc],
        ..AuthorizationModel::default()
    }
}
