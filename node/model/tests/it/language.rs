use meridian_model::authorization_model::{ConditionParameter, RelationReference, Userset};
use meridian_model::dsl::{self, DslError};
use proptest::prelude::*;

use crate::{Case, cases, model};

#[test]
fn mistakes_are_reported_where_they_are() {
    for case in cases(include_str!("../data/mistakes.txt")) {
        reported_where_they_are(&case, |text| dsl::parse(text).map(drop));
    }
}

#[test]
fn a_broken_rule_is_reported_where_it_is_broken() {
    for case in cases(include_str!("../data/broken_rules.txt")) {
        reported_where_they_are(&case, |text| dsl::compile(text).map(drop));
    }
}

#[test]
fn a_text_with_more_types_than_allowed_is_told_the_first_too_many() {
    let types: String = (0..102).map(|n| format!("type t{n}\n")).collect();
    let errors = dsl::compile(&format!("model\n  schema 1.1\n{types}")).unwrap_err();
    assert_eq!((errors[0].line, errors[0].column), (103, 6), "{errors:?}");
}

fn reported_where_they_are(case: &Case, read: impl Fn(&str) -> Result<(), Vec<DslError>>) {
    let (expected, text) = case.body.split_once("---\n").expect(case.name);
    let errors = read(text).expect_err(case.name);
    assert_eq!(
        errors.len().to_string(),
        case.expected,
        "{}: {errors:?}",
        case.name
    );
    for (error, expected) in errors.iter().zip(expected.lines()) {
        let (place, message) = expected.split_once(' ').expect(case.name);
        assert_eq!(
            format!("{}:{}", error.line, error.column),
            place,
            "{}: {error}",
            case.name
        );
        assert!(error.message.contains(message), "{}: {error}", case.name);
    }
}

#[test]
fn an_error_reads_as_a_sentence() {
    let error = DslError {
        line: 3,
        column: 12,
        message: "expected ':', found 'x'".into(),
    };
    assert_eq!(
        error.to_string(),
        "line 3, column 12: expected ':', found 'x'"
    );
}

#[test]
fn hostile_text_is_an_error_and_no_more() {
    let nested = format!(
        "model\n  schema 1.1\ntype doc\n  relations\n    define a: {}b",
        "(".repeat(100_000)
    );
    let errors = dsl::parse(&nested).unwrap_err();
    assert!(
        errors[0].message.contains("nested more than 100 deep"),
        "{errors:?}"
    );
    let errors = dsl::parse(&format!(
        "model\n  schema 1.1\n{}",
        "type 1\n".repeat(100_000)
    ))
    .unwrap_err();
    assert_eq!(errors.len(), 20);
}

#[test]
fn a_model_is_printed_as_openfga_prints_it() {
    let text = include_str!("../data/canonical.fga");
    assert_eq!(dsl::print(&model(text)), text);
}

#[test]
fn layout_and_comments_do_not_matter() {
    let loose = include_str!("../data/loose.fga");
    assert_eq!(model(loose), model(include_str!("../data/canonical.fga")));
    assert_eq!(
        model(&loose.replace('\n', "\r\n")).type_definitions,
        model(loose).type_definitions
    );
}

#[test]
fn a_model_reads_as_openfgas_json() {
    let json = include_str!("../data/canonical.json");
    assert_eq!(
        serde_json::from_str::<meridian_model::AuthorizationModel>(json).unwrap(),
        model(include_str!("../data/canonical.fga"))
    );
}

#[test]
fn restrictions_may_stand_anywhere_but_are_printed_first() {
    let text = |definition| {
        format!(
            "model\n  schema 1.1\n\ntype user\n\ntype doc\n  relations\n    define a: [user]\n    define b: {definition}\n"
        )
    };
    assert_eq!(
        dsl::print(&model(&text("a or [user] or (a and [user])"))),
        text("[user] or a or ([user] and a)")
    );
    assert_eq!(
        dsl::print(&model(&text("a but not [user]"))),
        text("a but not [user]")
    );
}

#[test]
fn braces_in_strings_and_comments_do_not_end_a_condition() {
    let model = model(
        "model\n  schema 1.1\ntype user\ncondition c(p: string) {\n  p != \"} \\\" # }\" && // }\n  p != r\"\\\" && p in {\"a\": 1} # }\n}\n",
    );
    assert_eq!(
        model.conditions["c"].expression,
        "p != \"} \\\" # }\" && // }\n  p != r\"\\\" && p in {\"a\": 1}"
    );
}

proptest! {
    #[test]
    fn what_is_printed_reads_back(model in model::any()) {
        let text = dsl::print(&model);
        let read = dsl::parse(&text);
        prop_assert_eq!(read.as_ref(), Ok(&model), "{}", text);
    }

    #[test]
    fn any_text_gives_a_model_or_errors_within_it(text in "(model|schema|type|relations|define|condition|or|and|but not|1\\.1|from|with|[a-z]|[\\[\\](){}<>:,#*\"]| |\n|ü){0,60}") {
        for text in [text.clone(), format!("model\n  schema 1.1\n{text}")] {
            if let Err(errors) = dsl::parse(&text) {
                prop_assert!(!errors.is_empty());
                for error in errors {
                    prop_assert!(error.line >= 1 && error.line <= text.matches('\n').count() + 1);
                    prop_assert!(error.column >= 1);
                }
            }
        }
    }
}

/// Random models, whether or not they keep the rules; only what a text cannot say is left out.
mod model {
    use std::collections::BTreeMap;

    use meridian_model::AuthorizationModel;
    use meridian_model::authorization_model::{
        Condition, Difference, Empty, Metadata, ObjectRelation, RelationMetadata, TupleToUserset,
        TypeDefinition, Usersets,
    };

    use super::*;

    pub(super) fn any() -> impl Strategy<Value = AuthorizationModel> {
        let types = proptest::collection::btree_map(
            name(),
            proptest::collection::btree_map(name(), relation(), 0..4),
            0..4,
        );
        let conditions = proptest::collection::btree_map(
            name(),
            (
                proptest::collection::btree_map(name(), parameter(), 0..3),
                expression(),
            ),
            0..3,
        );
        (prop_oneof![Just("1.1"), Just("1.2")], types, conditions).prop_map(
            |(version, types, conditions)| AuthorizationModel {
                schema_version: version.into(),
                type_definitions: types
                    .into_iter()
                    .map(|(name, relations)| type_definition(name, relations))
                    .collect(),
                conditions: conditions
                    .into_iter()
                    .map(|(name, (parameters, expression))| {
                        (
                            name.clone(),
                            Condition {
                                name,
                                expression,
                                parameters,
                                metadata: None,
                            },
                        )
                    })
                    .collect(),
            },
        )
    }

    fn type_definition(
        name: String,
        relations: BTreeMap<String, (Userset, Vec<RelationReference>)>,
    ) -> TypeDefinition {
        let mut metadata = Metadata::default();
        let mut rewrites = BTreeMap::new();
        for (relation, (rewrite, restrictions)) in relations {
            let directly_related_user_types = if has_this(&rewrite) {
                restrictions
            } else {
                Vec::new()
            };
            metadata.relations.insert(
                relation.clone(),
                RelationMetadata {
                    directly_related_user_types,
                    ..RelationMetadata::default()
                },
            );
            rewrites.insert(relation, rewrite);
        }
        TypeDefinition {
            name,
            metadata: (!rewrites.is_empty()).then_some(metadata),
            relations: rewrites,
        }
    }

    fn name() -> impl Strategy<Value = String> {
        prop_oneof![4 => "[a-e]", 1 => "(type|model|define|relations|schema|condition|not|_x|a-b|a/b\\.c|Z9)".prop_map(String::from)]
    }

    fn relation() -> impl Strategy<Value = (Userset, Vec<RelationReference>)> {
        (rewrite(), proptest::collection::vec(restriction(), 1..4))
    }

    fn restriction() -> impl Strategy<Value = RelationReference> {
        let facet = prop_oneof![
            Just((None, None)),
            Just((None, Some(Empty {}))),
            name().prop_map(|relation| (Some(relation), None))
        ];
        let condition =
            prop_oneof![3 => Just(String::new()), 1 => name(), 1 => Just("$expression".to_owned())];
        (name(), facet, condition).prop_map(|(type_name, (relation, wildcard), condition)| {
            RelationReference {
                type_name,
                relation,
                wildcard,
                condition,
            }
        })
    }

    fn rewrite() -> impl Strategy<Value = Userset> {
        let of = |relation| ObjectRelation {
            object: String::new(),
            relation,
        };
        let leaf = prop_oneof![
            Just(Userset::This(Empty {})),
            name().prop_map(move |name| Userset::ComputedUserset(of(name))),
            (name(), name()).prop_map(move |(tupleset, computed)| {
                Userset::TupleToUserset(TupleToUserset {
                    tupleset: of(tupleset),
                    computed_userset: of(computed),
                })
            }),
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            let children = proptest::collection::vec(inner.clone(), 2..4).prop_map(|mut child| {
                child.sort_by_key(|child| !matches!(child, Userset::This(_)));
                Usersets { child }
            });
            prop_oneof![
                children.clone().prop_map(Userset::Union),
                children.prop_map(Userset::Intersection),
                (inner.clone(), inner).prop_map(|(base, subtract)| Userset::Difference(Box::new(
                    Difference { base, subtract }
                ))),
            ]
        })
    }

    fn has_this(rewrite: &Userset) -> bool {
        match rewrite {
            Userset::This(_) => true,
            Userset::ComputedUserset(_) | Userset::TupleToUserset(_) => false,
            Userset::Union(of) | Userset::Intersection(of) => of.child.iter().any(has_this),
            Userset::Difference(of) => has_this(&of.base) || has_this(&of.subtract),
        }
    }

    fn parameter() -> impl Strategy<Value = ConditionParameter> {
        let plain = prop_oneof![
            Just("STRING"),
            Just("INT"),
            Just("TIMESTAMP"),
            Just("IPADDRESS"),
            Just("ANY")
        ]
        .prop_map(|name| (name, false));
        let container = prop_oneof![Just("LIST"), Just("MAP")].prop_map(|name| (name, true));
        prop_oneof![plain, container].prop_map(|(name, generic)| ConditionParameter {
            type_name: format!("TYPE_NAME_{name}"),
            generic_types: if generic {
                vec![ConditionParameter {
                    type_name: "TYPE_NAME_BOOL".into(),
                    generic_types: Vec::new(),
                }]
            } else {
                Vec::new()
            },
        })
    }

    fn expression() -> impl Strategy<Value = String> {
        prop_oneof![
            Just("a < b"),
            Just("x[\"}\"] == 'it # {'"),
            Just("a in [1, 2]"),
            Just("b &&\n    c || !d")
        ]
        .prop_map(String::from)
    }
}
