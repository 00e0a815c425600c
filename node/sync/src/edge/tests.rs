use meridian_model::change::{StoreInfo, Tiers};
use meridian_model::ids::Timestamp;
use meridian_model::tuple::TupleKey;

use super::*;
use crate::tier::for_edge;

const NOW: Duration = Duration::from_secs(1);

fn store() -> StoreId {
    "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap()
}

fn tiers(critical: &[&str]) -> Tiers {
    Tiers {
        critical: critical.iter().map(|&name| name.to_owned()).collect(),
        ..Tiers::default()
    }
}

fn tuple(object: &str) -> Tuple {
    Tuple {
        key: TupleKey::parse(object, "viewer", "user:anne").unwrap(),
        condition: None,
        timestamp: Timestamp(0),
    }
}

fn set(revision: u64, changes: Vec<Change>) -> ChangeSet {
    let (epoch, revision) = (Epoch(1), Revision(revision));
    ChangeSet {
        store: store(),
        epoch,
        revision,
        committed_at: Timestamp(0),
        changes,
        touched: Vec::new(),
    }
}

fn filled(revision: u64, objects: &[&str]) -> Input {
    let tuples = objects.iter().map(|object| tuple(object)).collect();
    Input::Filled {
        store: store(),
        object_type: "doc".into(),
        position: Position::new(1, revision),
        tuples,
    }
}

/// A live store at revision 2 whose `doc` is Critical and asked for.
fn edge() -> Edge {
    let mut edge = Edge::new(Limits::default(), NOW);
    let info = StoreInfo {
        id: store(),
        name: "s".into(),
        created_at: Timestamp(0),
    };
    edge.handle(Input::Record(set(1, vec![Change::StoreCreated(info)])), NOW);
    let commands = edge.handle(
        Input::Record(set(2, vec![Change::TiersAssigned(tiers(&["doc"]))])),
        NOW,
    );
    assert!(
        matches!(&commands[..], [Command::AskFill { min, .. }, Command::Publish(_)] if *min == Position::new(1, 2))
    );
    edge
}

fn shown(commands: &[Command]) -> &Publish {
    commands
        .iter()
        .find_map(|command| {
            if let Command::Publish(publish) = command {
                Some(publish)
            } else {
                None
            }
        })
        .unwrap()
}

fn objects(view: &View) -> Vec<String> {
    let mut objects: Vec<_> = view
        .tuples_of_type("doc")
        .iter()
        .map(|key| key.object.to_string())
        .collect();
    objects.sort();
    objects
}

#[test]
fn a_fill_below_its_floor_is_refused_and_asked_for_again() {
    let mut edge = edge();
    assert!(edge.handle(filled(1, &["doc:a"]), NOW).is_empty());
    let commands = edge.tick(NOW + Duration::from_secs(1));
    assert!(matches!(&commands[..], [.., Command::AskFill { .. }]));
}

#[test]
fn changes_since_a_fill_was_read_are_laid_over_it() {
    let mut edge = edge();
    edge.handle(
        Input::Record(set(3, vec![Change::TupleWritten(tuple("doc:b"))])),
        NOW,
    );
    edge.handle(
        Input::Record(set(4, vec![Change::TupleDeleted(tuple("doc:a").key)])),
        NOW,
    );
    let commands = edge.handle(filled(3, &["doc:a", "doc:b"]), NOW);
    let view = &shown(&commands).view;
    assert_eq!(
        (view.position(), objects(view)),
        (Position::new(1, 4), vec!["doc:b".to_owned()])
    );
}

#[test]
fn a_fill_that_is_ahead_waits_for_the_view() {
    let mut edge = edge();
    let commands = edge.handle(filled(3, &["doc:a"]), NOW);
    assert!(shown(&commands).lagging && !shown(&commands).view.is_covered("doc"));
    let commands = edge.handle(
        Input::Record(set(3, vec![Change::TupleWritten(tuple("doc:a"))])),
        NOW,
    );
    let Publish { view, lagging, .. } = shown(&commands);
    assert!(view.is_covered("doc") && !lagging);
    assert_eq!(objects(view), ["doc:a"]);
}

#[test]
fn a_type_whose_changes_were_left_out_is_no_longer_covered() {
    let mut edge = edge();
    edge.handle(filled(2, &["doc:a"]), NOW);
    // Thinned out by a sender that went by other tiers.
    let thin = for_edge(
        &set(3, vec![Change::TupleDeleted(tuple("doc:a").key)]),
        &tiers(&[]),
    );
    let commands = edge.handle(Input::Record(thin), NOW);
    assert!(!shown(&commands).view.is_covered("doc"));
    assert!(commands.iter().any(
        |command| matches!(command, Command::AskFill { min, .. } if *min == Position::new(1, 3))
    ));
}

#[test]
fn late_records_of_a_deleted_store_do_nothing() {
    let mut edge = edge();
    let commands = edge.handle(Input::Record(set(3, vec![Change::StoreDeleted])), NOW);
    assert!(matches!(&commands[..], [Command::Drop(_)]));
    for revision in [1, 2, 3, 9] {
        assert!(
            edge.handle(Input::Record(set(revision, Vec::new())), NOW)
                .is_empty()
        );
    }
    edge.handle(
        Input::Failed(
            Ask::Fill(store(), "doc".into()),
            UpstreamError::UnknownStore,
        ),
        NOW,
    );
    assert!(edge.views().next().is_none());
}

#[test]
fn kept_answers_learn_what_each_revision_touched() {
    let mut edge = edge();
    let commands = edge.handle(
        Input::Record(for_edge(
            &set(3, vec![Change::TupleWritten(tuple("log:a"))]),
            &tiers(&["doc"]),
        )),
        NOW,
    );
    let Touched::Sets(sets) = &shown(&commands).touched else {
        panic!("everything touched")
    };
    assert_eq!(sets.len(), 1);
    assert_eq!(sets[0].0, Position::new(1, 3));
    assert!(sets[0].1.contains(&type_hash("log")));
}

#[test]
fn an_announced_change_set_is_asked_for_and_the_store_lags_until_it_comes() {
    let mut edge = edge();
    let announced = Input::Announced(store(), Position::new(1, 3));
    let commands = edge.handle(announced, NOW);
    assert!(shown(&commands).lagging);
    let after = Position::new(1, 2);
    let asked = |command: &Command| matches!(command, Command::AskChanges { after: from, .. } if *from == after);
    assert!(commands.iter().any(asked));
}

#[test]
fn what_a_store_was_known_to_have_while_it_was_loaded_is_asked_for() {
    let mut edge = Edge::new(Limits::default(), NOW);
    edge.handle(Input::Announced(store(), Position::new(1, 3)), NOW);
    let stores = vec![(store(), Position::new(1, 5))];
    edge.handle(Input::Positions { ticket: 0, stores }, NOW);
    let head = StoreHead {
        info: StoreInfo {
            id: store(),
            name: "s".into(),
            created_at: Timestamp(0),
        },
        position: Position::new(1, 4),
        models: Vec::new(),
        tiers: Tiers::default(),
        deleted_at: None,
    };
    assert!(shown(&edge.handle(Input::Head(head), NOW)).lagging);
}

#[test]
fn a_tier_assignment_ends_every_kept_answer() {
    let mut edge = edge();
    let cold = Tiers {
        cold: ["log".to_owned()].into(),
        ..tiers(&["doc"])
    };
    let commands = edge.handle(
        Input::Record(set(3, vec![Change::TiersAssigned(cold)])),
        NOW,
    );
    assert_eq!(shown(&commands).touched, Touched::All);
}
