//! A store in the system, with what is known to be in it.

use std::collections::BTreeMap;
use std::time::Duration;

use meridian_model::TupleKey;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use crate::client::Client;
use crate::oracle::Oracle;
use crate::system::{Role, System};
use crate::until::until;
use crate::world;

const TUPLES_A_WRITE: usize = 100;
const ASKERS: usize = 8;
const ARRIVAL: Duration = Duration::from_secs(30);

/// A question with its answer.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) question: TupleKey,
    pub(crate) allowed: bool,
}

/// A store of [`world::model`], and what it holds at a revision.
#[derive(Clone)]
pub(crate) struct Store {
    pub(crate) id: String,
    pub(crate) revision: u64,
    pub(crate) oracle: Oracle,
}

impl Store {
    /// Makes a store and writes tuples to it, through the API.
    pub(crate) async fn load(client: &mut Client, tuples: &[TupleKey]) -> Self {
        let id = client.create_store("e2e").await.unwrap();
        client.write_model(&id, &world::model()).await.unwrap();
        let mut revision = client.make_critical(&id, &world::CRITICAL).await.unwrap();
        for some in tuples.chunks(TUPLES_A_WRITE) {
            let next = client.write(&id, some, &[]).await.unwrap();
            assert_eq!(next, revision + 1, "revisions have no gaps");
            revision = next;
        }
        let oracle = Oracle::new(tuples);
        Self {
            id,
            revision,
            oracle,
        }
    }

    /// Random questions, half of them allowed.
    pub(crate) fn questions(&self, count: usize, random: &mut StdRng) -> Vec<Known> {
        let mut questions = Vec::with_capacity(count);
        let mut left = [count - count / 2, count / 2];
        while questions.len() < count {
            let question = world::question(random);
            let allowed = self.oracle.allows(&question);
            let left = &mut left[usize::from(allowed)];
            if *left > 0 {
                *left -= 1;
                questions.push(Known { question, allowed });
            }
        }
        questions
    }

    /// Waits until every node answers by itself, without any header, at the store's revision or later.
    pub(crate) async fn arrives(&self, system: &System) {
        for role in Role::ALL {
            self.arrives_at(role, system.client(role)).await;
        }
    }

    pub(crate) async fn arrives_at(&self, role: Role, mut client: Client) {
        let question = world::tuple("folder:1", "viewer", "user:1");
        let what = format!("revision {} at the {role}", self.revision);
        until(&what, ARRIVAL, async || {
            match client.check(&self.id, &question, None).await {
                Ok(answer) if answer.is_by(role.name()) && answer.revision >= self.revision => {
                    Ok(())
                }
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Asks a node; every answer must be right. Returns how many answers were whose.
    pub(crate) async fn agrees(
        &self,
        client: &Client,
        questions: &[Known],
    ) -> BTreeMap<String, usize> {
        let mut askers = JoinSet::new();
        for share in questions.chunks(questions.len().div_ceil(ASKERS)) {
            let (share, store, mut client) = (share.to_vec(), self.id.clone(), client.clone());
            askers.spawn(async move {
                let mut served = Vec::with_capacity(share.len());
                for Known { question, allowed } in share {
                    let answer = client.check(&store, &question, None).await.unwrap();
                    assert_eq!(answer.allowed, allowed, "{question}: {answer:?}");
                    served.push(answer.served_by);
                }
                served
            });
        }
        let mut served = BTreeMap::new();
        for by in askers.join_all().await.into_iter().flatten() {
            *served.entry(by).or_default() += 1;
        }
        served
    }

    /// Reads the store back, where a copy of it is: it must hold exactly what was acknowledged.
    pub(crate) async fn is_whole(&self, system: &System) {
        for role in [Role::Central, Role::Regional] {
            let found = system.client(role).read_all(&self.id).await.unwrap();
            let held = self.oracle.tuples();
            let missing: Vec<_> = held.difference(&found).collect();
            let unknown: Vec<_> = found.difference(held).collect();
            assert!(
                missing.is_empty() && unknown.is_empty(),
                "{role}: missing {missing:?}, never acknowledged {unknown:?}"
            );
        }
    }
}
