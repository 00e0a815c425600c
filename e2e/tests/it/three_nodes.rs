use std::collections::BTreeMap;
use std::time::Instant;

use crate::latency;
use crate::stores::{Known, Store};
use crate::system::{RegionalStore, Role, System};
use crate::until::heavy;
use crate::world;

const TUPLES: usize = 10_000;
const QUESTIONS: usize = 5_000;

/// Writes 10,000 tuples and asks 5,000 questions at every node: no difference, and most of the edge's answers are its own.
pub(crate) async fn agree(system: &System) -> (Store, Vec<Known>) {
    let mut random = world::random();
    let start = Instant::now();
    let tuples = world::tuples(TUPLES, &mut random);
    let store = Store::load(&mut system.client(Role::Central), &tuples).await;
    println!("{TUPLES} tuples written in {:.1?}", start.elapsed());
    store.arrives(system).await;
    store.is_whole(system).await;

    let questions = store.questions(QUESTIONS, &mut random);
    for role in Role::ALL {
        let start = Instant::now();
        let served = store.agrees(&system.client(role), &questions).await;
        println!(
            "{QUESTIONS} asked at the {role} in {:.1?}: {served:?}",
            start.elapsed()
        );
        assert!(by(&served, role) >= least(role), "{served:?}");
    }
    (store, questions)
}

/// How many of a node's answers must be its own.
fn least(role: Role) -> usize {
    match role {
        Role::Edge => QUESTIONS * 6 / 10,
        Role::Central | Role::Regional => QUESTIONS,
    }
}

fn by(served: &BTreeMap<String, usize>, role: Role) -> usize {
    served
        .get(&format!("{role}/test"))
        .copied()
        .unwrap_or_default()
}

#[tokio::test]
async fn without_faults_and_with_a_regional_on_sqlite() {
    let _leave = heavy().await;
    let system = System::start(RegionalStore::Sqlite).await;
    let (mut store, _) = agree(&system).await;
    latency::of_revocations(&system, &mut store).await;
    latency::of_own_writes(&system, &mut store).await;
}
