use meridian_model::change::{StoreInfo, Tiers};
use meridian_model::ids::Timestamp;
use meridian_model::tuple::{Tuple, TupleKey};

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

fn positions(ticket: u64, stores: Vec<(StoreId, Position)>) -> Input {
    Input::Positions {
        ticket,
        epoch: Some(Epoch(1)),
        stores,
    }
}

/// The ticket by which upstream is asked where the stores stand.
fn asked(commands: &[Command]) -> Option<u64> {
    commands.iter().find_map(|command| match command {
        Command::AskPositions { ticket } => Some(*ticket),
        _ => None,
    })
}

/// A live store at revision 2 whose `doc` is Critical and asked for.
fn edge() -> Edge {
    let mut edge = Edge::new(Limits::default(), NOW);
    edge.tick(NOW);
    edge.handle(positions(0, Vec::new()), NOW);
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
        .map(|(key, _)| key.object.to_string())
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
    let stores = vec![(store(), Position::new(1, 3))];
    edge.handle(positions(0, stores), NOW);
    edge.handle(Input::Announced(store(), Position::new(1, 5)), NOW);
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

#[test]
fn a_reign_that_only_the_topic_speaks_of_empties_nothing() {
    let mut edge = edge();
    edge.handle(filled(2, &["doc:a"]), NOW);
    let bogus = ChangeSet {
        epoch: Epoch(u64::MAX),
        ..set(3, Vec::new())
    };
    let commands = edge.handle(Input::Reign(Epoch(u64::MAX)), NOW);
    let ticket = asked(&commands).expect("upstream is asked");
    assert_eq!(commands.len(), 1);
    assert!(edge.handle(Input::Record(bogus), NOW).is_empty());
    let announced = Input::Announced(store(), Position::new(u64::MAX, 1));
    assert!(edge.handle(announced, NOW).is_empty());
    edge.handle(positions(ticket, vec![(store(), Position::new(1, 2))]), NOW);
    let (_, view) = edge.views().next().unwrap();
    assert_eq!(objects(view), ["doc:a"]);
    let commands = edge.handle(Input::Record(set(3, Vec::new())), NOW);
    assert_eq!(shown(&commands).view.position(), Position::new(1, 3));
}

#[test]
fn a_reign_that_upstream_confirms_starts_every_store_over() {
    let mut edge = edge();
    let commands = edge.handle(Input::Reign(Epoch(2)), NOW);
    let confirmed = Input::Positions {
        ticket: asked(&commands).unwrap(),
        epoch: Some(Epoch(2)),
        stores: Vec::new(),
    };
    let commands = edge.handle(confirmed, NOW);
    assert!(matches!(
        &commands[..],
        [Command::Drop(_), Command::AskHead { min, .. }] if *min == Position::new(2, 0)
    ));
    assert_eq!(edge.epoch(), Epoch(2));
}

#[test]
fn an_announced_revision_that_upstream_does_not_have_is_let_go() {
    let mut edge = edge();
    edge.handle(filled(2, &["doc:a"]), NOW);
    let commands = edge.handle(Input::Announced(store(), Position::new(1, 900)), NOW);
    assert!(shown(&commands).lagging);
    let nothing = Changes {
        change_sets: Vec::new(),
        position: Position::new(1, 2),
    };
    let commands = edge.handle(Input::Changes(store(), nothing), NOW);
    let stores = vec![(store(), Position::new(1, 2))];
    let ticket = asked(&commands).expect("upstream is asked");
    let commands = edge.handle(positions(ticket, stores), NOW);
    assert!(!shown(&commands).lagging);
    assert!(edge.is_settled());
}

#[test]
fn an_answer_asked_for_before_a_revision_was_announced_lets_nothing_go() {
    let mut edge = edge();
    edge.handle(filled(2, &["doc:a"]), NOW);
    let ticket = asked(&edge.poll(NOW)).unwrap();
    edge.handle(Input::Announced(store(), Position::new(1, 3)), NOW);
    let stores = vec![(store(), Position::new(1, 2))];
    let commands = edge.handle(positions(ticket, stores), NOW);
    assert!(commands.is_empty() && !edge.is_settled());
}

#[test]
fn a_store_first_heard_of_by_a_false_revision_is_loaded_all_the_same() {
    let mut edge = edge();
    let other: StoreId = "01ARZ3NDEKTSV4RRFFQ69G5FAW".parse().unwrap();
    edge.handle(Input::Announced(other, Position::new(1, 900)), NOW);
    let failed = Input::Failed(Ask::Head(other), UpstreamError::Behind);
    let ticket = asked(&edge.handle(failed, NOW)).expect("upstream is asked");
    let stands = (other, Position::new(1, 7));
    edge.handle(positions(ticket, vec![stands]), NOW);
    let asked_for =
        |command: &Command| matches!(command, Command::AskHead { min, .. } if *min == stands.1);
    let later = NOW + Duration::from_secs(1);
    assert!(edge.tick(later).iter().any(asked_for));
}

#[test]
fn a_store_that_loads_across_a_reset_is_doubted_until_it_was_compared() {
    let mut edge = Edge::new(Limits::default(), NOW);
    edge.tick(NOW);
    let stores = |revision| vec![(store(), Position::new(1, revision))];
    edge.handle(positions(0, stores(5)), NOW);
    // Revision 6 falls between.
    let ticket = asked(&edge.handle(Input::Reset, NOW)).unwrap();
    let head = StoreHead {
        info: StoreInfo {
            id: store(),
            name: "s".into(),
            created_at: Timestamp(0),
        },
        position: Position::new(1, 5),
        models: Vec::new(),
        tiers: Tiers::default(),
        deleted_at: None,
    };
    assert!(shown(&edge.handle(Input::Head(head), NOW)).lagging);
    let commands = edge.handle(positions(ticket, stores(6)), NOW);
    let asked_for = |command: &Command| matches!(command, Command::AskChanges { .. });
    assert!(commands.iter().any(asked_for));
    let commands = edge.handle(Input::Record(set(6, Vec::new())), NOW);
    assert!(!shown(&commands).lagging);
}

#[test]
fn a_store_that_is_created_while_positions_are_asked_for_outlives_the_answer() {
    let mut edge = Edge::new(Limits::default(), NOW);
    edge.tick(NOW);
    edge.handle(positions(0, Vec::new()), NOW);
    let ticket = asked(&edge.handle(Input::Reset, NOW)).unwrap();
    let info = StoreInfo {
        id: store(),
        name: "s".into(),
        created_at: Timestamp(0),
    };
    let created = Input::Record(set(1, vec![Change::StoreCreated(info)]));
    assert!(shown(&edge.handle(created, NOW)).lagging);
    let commands = edge.handle(positions(ticket, Vec::new()), NOW);
    assert_eq!(edge.views().count(), 1);
    let ticket = asked(&commands).unwrap();
    let stores = vec![(store(), Position::new(1, 1))];
    let commands = edge.handle(positions(ticket, stores), NOW);
    assert!(!shown(&commands).lagging);
}
