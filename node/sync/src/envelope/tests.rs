use meridian_model::authorization_model::{AuthorizationModel, TypeDefinition};
use proptest::prelude::*;

use super::*;

const STORE: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn tuple(object: &str, user: &str, condition: Option<(&str, &str)>) -> Tuple {
    Tuple {
        key: TupleKey::parse(object, "viewer", user).unwrap(),
        condition: condition.map(|(name, context)| TupleCondition {
            name: name.into(),
            context: context.into(),
        }),
        timestamp: Timestamp(17),
    }
}

fn model() -> StoredModel {
    let types = vec![TypeDefinition {
        name: "repo".into(),
        ..TypeDefinition::default()
    }];
    let model = AuthorizationModel {
        schema_version: "1.1".into(),
        type_definitions: types,
        ..AuthorizationModel::default()
    };
    StoredModel {
        id: STORE.parse().unwrap(),
        model: Arc::new(model),
    }
}

fn everything() -> ChangeSet {
    let store = STORE.parse().unwrap();
    let tiers = Tiers {
        critical: ["repo".to_owned()].into(),
        cold: ["audit".to_owned()].into(),
    };
    ChangeSet {
        store,
        epoch: Epoch(2),
        revision: Revision(9),
        committed_at: Timestamp(-5),
        changes: vec![
            Change::StoreCreated(StoreInfo {
                id: store,
                name: "näme".into(),
                created_at: Timestamp(3),
            }),
            Change::ModelWritten(model()),
            Change::TupleWritten(tuple("repo:a", "user:anne", None)),
            Change::TupleWritten(tuple(
                "repo:a",
                "team:core#member",
                Some(("office", r#"{"a":1}"#)),
            )),
            Change::TupleDeleted(TupleKey::parse("repo:b", "viewer", "user:*").unwrap()),
            Change::TiersAssigned(tiers),
            Change::StoreDeleted,
        ],
        touched: vec![1, u64::MAX],
    }
}

#[test]
fn records_read_back_as_written() {
    let beat = Heartbeat {
        epoch: Epoch(7),
        clock: Timestamp(1_700_000_000_000_000),
        generation: 3,
    };
    let announced = Record::Announced {
        store: STORE.parse().unwrap(),
        position: Position::new(2, 9),
    };
    for record in [
        Record::ChangeSet(everything()),
        Record::Heartbeat(beat),
        announced,
    ] {
        assert_eq!(Record::decode(&record.encode()).unwrap(), record);
    }
}

#[test]
fn heads_read_back_as_written() {
    let head = StoreHead {
        info: StoreInfo {
            id: STORE.parse().unwrap(),
            name: "s".into(),
            created_at: Timestamp(1),
        },
        position: Position::new(1, 2),
        models: vec![model()],
        tiers: Tiers::default(),
        deleted_at: Some(Timestamp(4)),
    };
    let models = head.models.iter().map(model_to_wire);
    let models = models
        .map(|model| model_from_wire(&model).unwrap())
        .collect();
    assert_eq!(head_from_wire(head_to_wire(&head), models).unwrap(), head);
}

#[test]
fn a_wrong_field_is_named() {
    type Spoil = fn(&mut wire::ChangeSet);
    let spoilt: [(Spoil, &str); 5] = [
        (
            |set| set.store_id = "nope".into(),
            "field 'store_id' holds 'nope'",
        ),
        (|set| set.revision = 0, "field 'revision' holds '0'"),
        (
            |set| set.changes.push(wire::Change { kind: None }),
            "field 'changes.kind' is missing",
        ),
        (
            |set| {
                let tuple = wire::Tuple {
                    object: "repo".into(),
                    relation: "r".into(),
                    user: "user:a".into(),
                    ..Default::default()
                };
                set.changes.push(wire::Change {
                    kind: Some(wire::change::Kind::TupleWritten(tuple)),
                });
            },
            "field 'tuple' holds 'repo#r@user:a'",
        ),
        (
            |set| {
                let model = wire::StoredModel {
                    id: STORE.into(),
                    model_json: "{".into(),
                };
                set.changes.push(wire::Change {
                    kind: Some(wire::change::Kind::ModelWritten(model)),
                });
            },
            "field 'model.model_json' holds '{'",
        ),
    ];
    for (spoil, expected) in spoilt {
        let mut set = change_set_to_wire(&everything());
        spoil(&mut set);
        let error = change_set_from_wire(set).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Record::decode(&bytes);
    }

    #[test]
    fn a_damaged_record_never_panics(at in 0_usize..1000, byte: u8) {
        let mut bytes = Record::ChangeSet(everything()).encode();
        let len = bytes.len();
        bytes[at % len] = byte;
        let _ = Record::decode(&bytes);
    }
}
