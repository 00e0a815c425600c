//! Applications that ask all the time, whatever else happens.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::client::{Answer, Client, Triple};
use crate::site::Site;

/// Between two questions of one client, and before it asks again what was not answered.
const PAUSE: Duration = Duration::from_millis(100);

/// Edges that ask central since their region was away look from time to time whether it is back.
const RETURN: Duration = Duration::from_secs(60);

/// What is asked of an edge: what it holds itself, and what its region has to answer.
#[derive(Clone, Copy)]
enum Tier {
    Critical,
    Warm,
}

impl Tier {
    /// Whether it is who answers when all are there.
    fn is_answered_by(self, answer: &Answer) -> bool {
        let role = match self {
            Self::Critical => "edge/",
            Self::Warm => "regional/",
        };
        answer.served_by.starts_with(role)
    }
}

#[derive(Clone, Copy)]
struct Question {
    tier: Tier,
    /// The right answer.
    right: bool,
}

/// How long a question may be asked again, each time over a new connection, until it is answered.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) critical: Duration,
    pub(crate) warm: Duration,
}

#[derive(Debug, Default)]
struct Tally {
    answered: u32,
    retried: u32,
    longest: Duration,
    /// How many were answered by edges, how many by the region.
    by_edge: u32,
    by_region: u32,
    /// `<role>/<pod>` of all who answered.
    by: BTreeSet<String>,
}

pub(crate) struct Load<'a> {
    edge: &'a Client,
    store: &'a str,
}

const REPO: &str = "repo:acme/open";
const ISSUE: &str = "issue:acme/open/1";

impl<'a> Load<'a> {
    /// Makes what is asked about: a repository that everybody reads, and an issue in it.
    pub(crate) async fn new(site: &Site, edge: &'a Client, store: &'a str) -> Self {
        let tuples = [[REPO, "reader", "user:*"], [ISSUE, "repo", REPO]];
        edge.write(store, &tuples).await.unwrap();
        let load = Self { edge, store };
        for question in [
            [REPO, "reader", "user:any"],
            [ISSUE, "can_read", "user:any"],
        ] {
            load.is_yes(site, question).await;
        }
        load
    }

    /// Lets somebody read a repository of this name, and waits until the edge decides by it.
    pub(crate) async fn writes(&self, site: &Site, repo: &str) {
        let object = format!("repo:acme/{repo}");
        let tuple = [object.as_str(), "reader", "user:anne"];
        site.until(&format!("{tuple:?} written"), async || {
            let written = self.edge.write(self.store, &[tuple]).await;
            // Who got no answer may have written: then it is there already.
            match written {
                Err(status) if !status.message().contains("already exists") => {
                    Err(format!("{status:?}"))
                }
                _ => Ok(()),
            }
        })
        .await;
        self.is_yes(site, tuple).await;
    }

    async fn is_yes(&self, site: &Site, question: Triple<'_>) {
        site.until(&format!("{question:?} is yes"), async || {
            match self.edge.check(self.store, question).await {
                Ok(answer) if answer.allowed => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }

    /// Does `work` while four clients ask, and then until all is as it was: edges answer what is Critical, the region what
    /// is Warm. No answer may be wrong, nor a question go without one for longer than they have patience. Prints what they
    /// saw; returns who answered, as `<role>/<pod>`.
    pub(crate) async fn during(
        &self,
        what: &str,
        patience: Patience,
        work: impl Future<Output = ()>,
    ) -> BTreeSet<String> {
        let (critical, warm) = (RefCell::<Tally>::default(), RefCell::<Tally>::default());
        let is_over = Cell::new(false);
        let turn = what.replace(['/', ' '], "-");
        let ask = |tier, right| {
            let (tally, patience) = match tier {
                Tier::Critical => (&critical, patience.critical),
                Tier::Warm => (&warm, patience.warm),
            };
            self.ask(Question { tier, right }, &turn, tally, patience, &is_over)
        };
        let work = async {
            work.await;
            is_over.set(true);
        };
        tokio::join!(
            work,
            ask(Tier::Critical, true),
            ask(Tier::Critical, false),
            ask(Tier::Warm, true),
            ask(Tier::Warm, false),
        );
        let (critical, mut warm) = (critical.into_inner(), warm.into_inner());
        critical.print(what, "Critical");
        warm.print(what, "Warm");
        warm.by.extend(critical.by);
        warm.by
    }

    /// Asks until `is_over`, and on until it is answered by those who are to. Before, others may answer: an edge that was
    /// started a moment ago passes on what is Critical, as does one that cannot tell how old its data are.
    async fn ask(
        &self,
        question: Question,
        turn: &str,
        tally: &RefCell<Tally>,
        patience: Duration,
        is_over: &Cell<bool>,
    ) {
        let mut end = None;
        for round in 0_u64.. {
            if is_over.get() {
                end.get_or_insert_with(Instant::now);
            }
            // Each question has another user; and a Warm one that is No another issue, of which no edge knows anything.
            let unknown = format!("{ISSUE}-{turn}-{round}");
            let user = format!("user:{turn}-{round}");
            let (object, relation) = match (question.tier, question.right) {
                (Tier::Critical, true) => (REPO, "reader"),
                (Tier::Critical, false) => (REPO, "writer"),
                (Tier::Warm, true) => (ISSUE, "can_read"),
                (Tier::Warm, false) => (unknown.as_str(), "can_close"),
            };
            let start = Instant::now();
            let mut failed = false;
            let answer = loop {
                match self.edge.check(self.store, [object, relation, &user]).await {
                    Ok(answer) => break answer,
                    Err(status) => {
                        let waited = start.elapsed();
                        assert!(waited < patience, "{turn}: {object} {relation}: {status:?}");
                        failed = true;
                    }
                }
                sleep(PAUSE).await;
            };
            assert_eq!(
                answer.allowed, question.right,
                "{turn}: {object} {relation}: {answer:?}"
            );
            let is_by_right_one = question.tier.is_answered_by(&answer);
            let shown = format!("{turn}: {object} {relation}: {answer:?}");
            let took = start.elapsed();
            tally.borrow_mut().count(answer, failed, took);
            if let Some(end) = end {
                if is_by_right_one {
                    return;
                }
                assert!(end.elapsed() < RETURN, "{shown}");
            }
            sleep(PAUSE).await;
        }
    }
}

impl Tally {
    fn count(&mut self, answer: Answer, retried: bool, took: Duration) {
        self.answered += 1;
        self.retried += u32::from(retried);
        self.longest = self.longest.max(took);
        self.by_edge += u32::from(answer.served_by.starts_with("edge/"));
        self.by_region += u32::from(answer.served_by.starts_with("regional/"));
        self.by.insert(answer.served_by);
    }

    fn print(&self, what: &str, tier: &str) {
        println!(
            "{what}: {tier}: {} answered, {} by edges, {} by the region; {} retried, longest without an answer {:.1?}",
            self.answered, self.by_edge, self.by_region, self.retried, self.longest
        );
    }
}
