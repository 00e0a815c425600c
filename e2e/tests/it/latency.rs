//! How soon a change is seen: a revocation at the edge, and a write by its own author.

use std::time::{Duration, Instant};

use meridian_model::TupleKey;

use crate::client::Client;
use crate::oracle::Step;
use crate::stores::Store;
use crate::system::{Role, System};
use crate::until::until;
use crate::world::{is_covered, tuple};

const TIMES: usize = 200;
const ARRIVAL: Duration = Duration::from_secs(20);

/// Revokes at central, then waits for the edge to deny: for covered data, and for an answer that the edge has kept.
pub(crate) async fn of_revocations(system: &System, store: &mut Store) {
    println!("revoked at central, denied at the edge ({TIMES} times)");
    println!("  data      p50        p99        max");
    for (data, object) in [("covered", "document"), ("Warm", "note")] {
        let relation = if data == "covered" {
            "viewer"
        } else {
            "author"
        };
        let granted: Vec<_> = (0..TIMES)
            .map(|at| tuple(&format!("{object}:revoked-{at}"), relation, "user:revoked"))
            .collect();
        let mut central = system.client(Role::Central);
        for some in granted.chunks(100) {
            write(&mut central, store, some, &[]).await;
        }
        store.arrives(system).await;

        let mut took = Vec::with_capacity(TIMES);
        for key in &granted {
            let mut edge = system.client(Role::Edge);
            edge_allows(&mut edge, store, key).await;
            let start = Instant::now();
            write(&mut central, store, &[], std::slice::from_ref(key)).await;
            until(&format!("{key} is denied"), ARRIVAL, async || {
                let answer = edge.check(&store.id, key, None).await.unwrap();
                if answer.allowed {
                    Err(format!("{answer:?}"))
                } else {
                    Ok(())
                }
            })
            .await;
            took.push(start.elapsed());
        }
        row(data, took);
    }
}

/// Asks until the edge itself allows: from its data, or with an answer that it has kept.
async fn edge_allows(edge: &mut Client, store: &Store, key: &TupleKey) {
    until(&format!("the edge allows {key}"), ARRIVAL, async || {
        let answer = edge.check(&store.id, key, None).await.unwrap();
        assert!(answer.allowed, "{key}: {answer:?}");
        if answer.is_by("edge") {
            Ok(())
        } else {
            Err(format!("{answer:?}"))
        }
    })
    .await;
}

/// A write through the edge is read at once, through the same edge without any header, and elsewhere with its revision.
pub(crate) async fn of_own_writes(system: &System, store: &mut Store) {
    let mut edge = system.client(Role::Edge);
    let mut took = Vec::with_capacity(TIMES);
    for at in 0..TIMES {
        // Every other one is about data that the edge does not hold.
        let key = match at % 2 {
            0 => tuple(&format!("document:own-{at}"), "viewer", "user:own"),
            _ => tuple(&format!("note:own-{at}"), "author", "user:own"),
        };
        let elsewhere = Role::ALL[at % 2];
        for allowed in [true, false] {
            let keys = std::slice::from_ref(&key);
            let (writes, deletes) = if allowed {
                (keys, &[][..])
            } else {
                (&[][..], keys)
            };
            write(&mut edge, store, writes, deletes).await;
            let start = Instant::now();
            let here = edge.check(&store.id, &key, None).await.unwrap();
            took.push(start.elapsed());
            assert_eq!(
                here.allowed,
                allowed,
                "{key} (covered: {}): {here:?}",
                is_covered(&key)
            );
            let mut other = system.client(elsewhere);
            let there = other
                .check(&store.id, &key, Some(store.revision))
                .await
                .unwrap();
            assert_eq!(
                there.allowed, allowed,
                "{key} at the {elsewhere}: {there:?}"
            );
            assert!(there.revision >= store.revision);
        }
    }
    println!(
        "written through the edge, read there at once ({} times)",
        took.len()
    );
    println!("  data      p50        p99        max");
    row("both", took);
}

async fn write(client: &mut Client, store: &mut Store, writes: &[TupleKey], deletes: &[TupleKey]) {
    store.revision = client.write(&store.id, writes, deletes).await.unwrap();
    store.oracle.apply(&Step {
        writes: writes.to_vec(),
        deletes: deletes.to_vec(),
    });
}

fn row(data: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |percent: usize| format!("{:.1?}", took[(took.len() - 1) * percent / 100]);
    println!("  {data:<8}  {:<9}  {:<9}  {:<9}", at(50), at(99), at(100));
}
