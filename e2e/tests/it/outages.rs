//! Each part of the system goes away under load; nodes once in good order and once as in a crash.

use std::fmt;
use std::time::{Duration, Instant};

use crate::load::{Load, Tally};
use crate::stores::{Known, Store};
use crate::system::{RegionalStore, Role, System};
use crate::three_nodes::agree;
use crate::until::{heavy, until};
use crate::world;

/// How long it may take until the load has shown how an outage goes, and until all is well again.
const SHOWN: Duration = Duration::from_secs(30);
/// How many of a kind of answer show that it goes on.
const SOME: u64 = 20;
/// The same of answers that the edge gives by itself: two seconds of them.
const MANY: u64 = 200;
/// The same of refusals, each of which may take as long as a request may.
const A_FEW: u64 = 2;
/// How many questions are asked after each recovery, everywhere.
const ASKED_AFTER: usize = 600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Kafka,
    Postgres,
    Node(Role),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Stop,
    Kill,
}

#[derive(Clone, Copy)]
struct Outage(Part, End);

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Part::Node(role) => write!(f, "{:?} of the {role}", self.1),
            part => write!(f, "{:?} of {part:?}", self.1),
        }
    }
}

const OUTAGES: [Outage; 8] = [
    Outage(Part::Kafka, End::Stop),
    Outage(Part::Postgres, End::Kill),
    Outage(Part::Node(Role::Central), End::Stop),
    Outage(Part::Node(Role::Central), End::Kill),
    Outage(Part::Node(Role::Regional), End::Stop),
    Outage(Part::Node(Role::Regional), End::Kill),
    Outage(Part::Node(Role::Edge), End::Stop),
    Outage(Part::Node(Role::Edge), End::Kill),
];

#[tokio::test]
async fn nothing_differs_and_nothing_is_lost_when_parts_go_away() {
    let _leave = heavy().await;
    let mut system = System::start(RegionalStore::Postgres).await;
    let (store, questions) = agree(&system).await;
    let mut random = world::random();
    let calm = calm_store(&system, &mut random).await;
    let mut load = Load::start(&system, store, &questions, calm, &mut random);

    for outage in OUTAGES {
        let start = Instant::now();
        let before = load.tally();
        take_away(&mut system, outage).await;
        goes_on_without(outage, &system, &mut load, &before).await;
        let shown = start.elapsed();
        bring_back(&mut system, outage.0).await;
        recovers(&mut load, outage).await;
        load.paused(async |now| agrees_again(&system, now, &mut random).await)
            .await;
        let recovered = start.elapsed() - shown;
        println!("{outage}: away {shown:.1?}, well again {recovered:.1?} later");
    }

    load.paused(async |now| {
        let questions = now.questions(questions.len(), &mut random);
        for role in Role::ALL {
            now.agrees(&system.client(role), &questions).await;
        }
    })
    .await;
    for (what, count) in load.finish().await {
        println!("  {count:>6}  {what}");
    }
}

/// A small store at rest, and questions about it that the edge decides by itself.
async fn calm_store(system: &System, random: &mut rand::rngs::StdRng) -> (String, Vec<Known>) {
    let tuples = world::tuples(4_000, random);
    let store = Store::load(&mut system.client(Role::Central), &tuples).await;
    store.arrives(system).await;
    let mut questions = store.questions(1_000, random);
    questions.retain(|known| world::is_covered(&known.question));
    let served = store.agrees(&system.client(Role::Edge), &questions).await;
    assert_eq!(
        served.get("edge/test"),
        Some(&questions.len()),
        "{served:?}"
    );
    (store.id, questions)
}

async fn take_away(system: &mut System, Outage(part, end): Outage) {
    match (part, end) {
        (Part::Kafka, End::Stop) => system.kafka.stop().await.unwrap(),
        (Part::Kafka, End::Kill) => system.kafka.kill().await,
        (Part::Postgres, End::Stop) => system.postgres.stop().await.unwrap(),
        (Part::Postgres, End::Kill) => system.postgres.kill().await,
        (Part::Node(role), End::Stop) => system.node_mut(role).process.stop().await.unwrap(),
        (Part::Node(role), End::Kill) => system.node_mut(role).process.kill().await,
    }
}

async fn bring_back(system: &mut System, part: Part) {
    match part {
        Part::Kafka => system.kafka.start_again().await.unwrap(),
        Part::Postgres => system.postgres.start_again().await.unwrap(),
        Part::Node(role) => system.node_mut(role).start().await,
    }
}

/// The load shows what must go on, and how the rest is refused.
async fn goes_on_without(outage: Outage, system: &System, load: &mut Load, before: &Tally) {
    let wanted: &[&str] = match outage.0 {
        Part::Kafka => &["write through the edge done", "check at the edge by"],
        Part::Postgres => &["write through the edge refused: unavailable"],
        Part::Node(Role::Central) => &[
            "write through the edge refused: unavailable",
            "write through the regional refused: unavailable",
        ],
        Part::Node(Role::Regional) => &[
            "write through the edge done",
            "check at the edge by the central",
        ],
        Part::Node(Role::Edge) => &[
            "write through the central done",
            "check at the central by the central",
            "check at the regional by",
            "check at the edge cut off",
        ],
    };
    for what in wanted {
        more(load, before, what, outage).await;
    }
    if outage.0 == Part::Node(Role::Edge) {
        return;
    }
    more(load, before, "calm check by the edge", outage).await;
    if outage.0 == Part::Kafka {
        // By way of the nodes above.
        load.paused(async |now| now.arrives(system).await).await;
    }
    let was = |what: &str| before.get(what).copied().unwrap_or_default();
    for (what, count) in load.tally() {
        let elsewhere = what.starts_with("calm check") && what != "calm check by the edge";
        assert!(!elsewhere || count == was(&what), "{outage}: {what}");
    }
}

async fn more(load: &mut Load, before: &Tally, what: &str, outage: Outage) {
    let count = |tally: &Tally| -> u64 {
        let counted = tally
            .iter()
            .filter(|(counted, _)| counted.starts_with(what));
        counted.map(|(_, count)| count).sum()
    };
    let some = match what {
        "calm check by the edge" => MANY,
        _ if what.contains("refused") => A_FEW,
        _ => SOME,
    };
    let enough = count(before) + some;
    until(&format!("{outage}: {what}"), SHOWN, async || {
        let tally = load.tally();
        match count(&tally) {
            count if count >= enough => Ok(()),
            count => Err(format!("{count} of {enough}: {tally:#?}")),
        }
    })
    .await;
}

/// Writes pass through every node, and every node answers; that it does so by itself is awaited while nothing is written,
/// since a node never answers below what it has passed through.
async fn recovers(load: &mut Load, outage: Outage) {
    let before = load.tally();
    for role in Role::ALL {
        more(
            load,
            &before,
            &format!("write through the {role} done"),
            outage,
        )
        .await;
        more(load, &before, &format!("check at the {role} by"), outage).await;
    }
    more(load, &before, "calm check by the edge", outage).await;
}

async fn agrees_again(system: &System, now: &Store, random: &mut rand::rngs::StdRng) {
    now.arrives(system).await;
    now.is_whole(system).await;
    let questions = now.questions(ASKED_AFTER, random);
    for role in Role::ALL {
        now.agrees(&system.client(role), &questions).await;
    }
}
