//! The task that drives an edge's replicas: records and answers go into the machine, its commands are carried out, its
//! views are shown.

use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use meridian_engine::View;
use meridian_model::ids::Position;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::edge::{Ask, Command, Edge, Input, Limits};
use crate::envelope::{Heartbeat, Record};
use crate::freshness::Freshness;
use crate::kafka::broadcast::Event;
use crate::retry::Said;
use crate::upstream::{Standing, Upstream, UpstreamError};
use crate::views::Views;

/// Times and sizes.
#[derive(Debug, Clone, Copy)]
pub struct DriverSettings {
    /// The machine's.
    pub limits: Limits,
    /// How long one call upstream may take, or the wait for each part of a fill. Shorter than the machine's own patience.
    pub deadline: Duration,
    /// How many calls upstream at a time.
    pub calls: usize,
    /// How many change sets are asked for at a time.
    pub page: u32,
    /// After so long without a heartbeat upstream is asked where the stores stand; and again after each such time.
    pub silence: Duration,
    /// How often upstream is asked even so. Bounds how long a store that upstream took over from a snapshot, of which the
    /// topic says nothing until its next revision, may go unnoticed.
    pub compare: Duration,
}

impl Default for DriverSettings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            deadline: Duration::from_secs(30),
            calls: 16,
            page: 500,
            silence: Duration::from_secs(3),
            compare: Duration::from_secs(5),
        }
    }
}

/// Keeps an edge's views.
pub struct EdgeDriver {
    /// The node above.
    pub upstream: Arc<dyn Upstream>,
    /// Where readers look. Made with the same `start`.
    pub views: Arc<Views>,
    /// Views from before a restart.
    pub kept: Vec<View>,
    /// Times and sizes.
    pub settings: DriverSettings,
    /// The start of this node's monotonic clock.
    pub start: Instant,
}

/// What a call upstream came to.
enum Answer {
    /// Where all stores stand, asked at that moment.
    Standing(u64, Duration, Box<Result<Standing, UpstreamError>>),
    /// About one store.
    Store(Ask, Input),
}

/// The task's own.
struct Task {
    driver: EdgeDriver,
    edge: Edge,
    freshness: Freshness,
    /// A heartbeat by upstream, held back until everything it vouches for is in.
    vouched: Option<(Heartbeat, Duration, Duration)>,
    calls: JoinSet<Answer>,
    running: BTreeSet<Ask>,
    permits: Arc<Semaphore>,
    polled: Duration,
    /// The sender's, as of its last heartbeat.
    generation: Option<u64>,
    /// What went wrong last, while no answer has come since.
    said: Said,
}

impl EdgeDriver {
    /// Works until `stop`, or until `events` ends. On a thread of its own: a view of a large part takes seconds to make, in
    /// which no check may wait.
    pub async fn run(self, events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let stop = stop.child_token();
        // The thread ends with whoever waits for it.
        let _ends_it = stop.clone().drop_guard();
        let runtime = Handle::current();
        let work = move || runtime.block_on(self.work(events, stop));
        if let Err(ended) = tokio::task::spawn_blocking(work).await
            && let Ok(panic) = ended.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    async fn work(self, mut events: mpsc::Receiver<Event>, stop: CancellationToken) {
        let now = self.start.elapsed();
        let permits = Arc::new(Semaphore::new(self.settings.calls));
        let edge = Edge::new(self.settings.limits, now);
        let mut task = Task {
            driver: self,
            edge,
            freshness: Freshness::default(),
            vouched: None,
            calls: JoinSet::new(),
            running: BTreeSet::new(),
            permits,
            polled: now,
            generation: None,
            said: Said::default(),
        };
        let views = Arc::clone(&task.driver.views);
        for view in std::mem::take(&mut task.driver.kept) {
            let commands = task.edge.restore(view, now);
            task.carry_out(commands);
        }
        loop {
            let now = task.now();
            let commands = task.edge.tick(now);
            task.carry_out(commands);
            let due = task
                .edge
                .next_tick()
                .map_or(Duration::MAX, |due| due.saturating_sub(now))
                .min(task.driver.settings.silence / 3);
            tokio::select! {
                // To stop comes first: once the runtime is shut down nothing else may be polled. Then answers, which are few;
                // records may never end.
                biased;
                () = stop.cancelled() => return,
                Some(answer) = task.calls.join_next() => if let Ok(answer) = answer { task.answered(answer) },
                event = events.recv() => match event {
                    Some(event) => task.work_in(event),
                    None => return,
                },
                (store, position) = views.missed() => task.hand(Input::Announced(store, position)),
                () = tokio::time::sleep(due) => {}
            }
            task.mind_silence();
        }
    }
}

impl Task {
    fn now(&self) -> Duration {
        self.driver.start.elapsed()
    }

    fn hand(&mut self, input: Input) {
        let commands = self.edge.handle(input, self.now());
        self.carry_out(commands);
    }

    fn say(&mut self, error: &UpstreamError, question: &str) {
        let error_text = error as &dyn std::error::Error;
        if self.said.is_news(error) {
            tracing::warn!(question, error = error_text, "upstream did not answer");
        } else {
            tracing::debug!(question, error = error_text, "upstream did not answer");
        }
    }

    fn work_in(&mut self, event: Event) {
        match event {
            Event::Reset { partitions } => {
                // First, so that what is shown meanwhile is as old as the heartbeats from before.
                self.hand(Input::Reset);
                self.freshness.assign(partitions);
                self.driver.views.set_freshness(&self.freshness);
            }
            Event::Garbage => self.hand(Input::Reset),
            Event::Record { partition, record } => match *record {
                Record::ChangeSet(set) => self.hand(Input::Record(set)),
                Record::Announced { store, position } => {
                    self.hand(Input::Announced(store, position));
                }
                Record::Heartbeat(beat) => {
                    self.hand(Input::Reign(beat.epoch));
                    if beat.epoch != self.edge.epoch() {
                        // Of a reign that is over, or that upstream has not confirmed yet.
                        return;
                    }
                    if self.generation.replace(beat.generation) != Some(beat.generation) {
                        tracing::debug!(
                            generation = beat.generation,
                            "the region's copy changed without records"
                        );
                        self.hand(Input::Reset);
                    }
                    let now = self.now();
                    self.freshness.beat(partition, beat, now);
                    self.driver.views.set_freshness(&self.freshness);
                }
            },
        }
    }

    fn answered(&mut self, answer: Answer) {
        match answer {
            Answer::Standing(ticket, asked, standing) => match *standing {
                Ok(Standing { stores, heartbeat }) => {
                    self.said = Said::default();
                    self.vouched = heartbeat.map(|(beat, age)| (beat, age, asked));
                    self.hand(Input::Positions {
                        ticket,
                        epoch: heartbeat.map(|(beat, _)| beat.epoch),
                        stores,
                    });
                }
                Err(error) => {
                    self.say(&error, "where the stores stand");
                    self.hand(Input::PositionsFailed);
                }
            },
            Answer::Store(ask, input) => {
                self.running.remove(&ask);
                if let Input::Failed(ask, error) = &input {
                    self.say(error, &format!("{ask:?}"));
                }
                self.hand(input);
            }
        }
        if self.edge.is_settled()
            && let Some((beat, age, asked)) = self.vouched.take()
        {
            self.freshness.upstream(beat, age, asked);
            self.driver.views.set_freshness(&self.freshness);
        }
    }

    /// Upstream is asked where the stores stand: often while the topic brings no heartbeat, now and then in any case.
    fn mind_silence(&mut self) {
        let (
            now,
            DriverSettings {
                silence, compare, ..
            },
        ) = (self.now(), self.driver.settings);
        let silent = self
            .freshness
            .silence(now)
            .is_none_or(|quiet| quiet > silence);
        if now.saturating_sub(self.polled) >= if silent { silence } else { compare } {
            self.polled = now;
            let commands = self.edge.poll(now);
            self.carry_out(commands);
        }
    }

    fn carry_out(&mut self, commands: Vec<Command>) {
        for command in commands {
            match command {
                Command::Publish(publish) => self.driver.views.publish(publish),
                Command::Drop(store) => self.driver.views.drop_store(store),
                Command::AskPositions { ticket } => self.ask_positions(ticket),
                Command::AskChanges { store, after } => self.ask(Ask::Changes(store), after),
                Command::AskHead { store, min } => self.ask(Ask::Head(store), min),
                Command::AskFill {
                    store,
                    object_type,
                    min,
                } => self.ask(Ask::Fill(store, object_type), min),
            }
        }
    }

    fn ask_positions(&mut self, ticket: u64) {
        let (upstream, asked) = (Arc::clone(&self.driver.upstream), self.now());
        let deadline = Instant::now() + self.driver.settings.deadline;
        self.calls.spawn(async move {
            let standing = caught(upstream.positions(deadline)).await;
            Answer::Standing(ticket, asked, Box::new(standing))
        });
    }

    fn ask(&mut self, ask: Ask, position: Position) {
        // One call for one question at a time; when it comes back, the machine asks again if it must.
        if !self.running.insert(ask.clone()) {
            return;
        }
        let (upstream, permits) = (Arc::clone(&self.driver.upstream), Arc::clone(&self.permits));
        let (limit, page) = (self.driver.settings.deadline, self.driver.settings.page);
        self.calls.spawn(async move {
            let _permit = permits.acquire().await;
            let input = caught(call(&*upstream, &ask, position, page, limit)).await;
            let input = input.unwrap_or_else(|error| Input::Failed(ask.clone(), error));
            Answer::Store(ask, input)
        });
    }
}

/// A call whose panic is its failure: otherwise its question would count as being asked for ever.
async fn caught<T>(
    call: impl Future<Output = Result<T, UpstreamError>>,
) -> Result<T, UpstreamError> {
    let panicked = |_| Err(UpstreamError::Unavailable("the call panicked".into()));
    AssertUnwindSafe(call)
        .catch_unwind()
        .await
        .unwrap_or_else(panicked)
}

async fn call(
    upstream: &dyn Upstream,
    ask: &Ask,
    position: Position,
    page: u32,
    limit: Duration,
) -> Result<Input, UpstreamError> {
    let deadline = Instant::now() + limit;
    Ok(match ask {
        Ask::Changes(store) => Input::Changes(
            *store,
            upstream.changes(*store, position, page, deadline).await?,
        ),
        Ask::Head(store) => Input::Head(upstream.head(*store, position, deadline).await?),
        Ask::Fill(store, object_type) => {
            let (position, tuples) = upstream.fill(*store, object_type, position, limit).await?;
            Input::Filled {
                store: *store,
                object_type: object_type.clone(),
                position,
                tuples,
            }
        }
    })
}
