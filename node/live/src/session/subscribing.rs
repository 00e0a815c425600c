//! Subscribing: one check, by the way of others, while the client's records go on.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use meridian_model::{Position, StoreId};

use super::{Entry, Session};
use crate::frames::{Denied, FILTER, MAX_ID, Reason, Subscribe, Told, echoed};
use crate::hub::{Beginning, Unopened};
use crate::meters::Why;
use crate::outbox::{Outbox, Sub};
use crate::ports::{Connection, Decided, Identity, Question, Rests, Undecided};
use crate::record::check_object;
use crate::room::{Subscription, Ticket};
use crate::server::Server;
use crate::showing::Showing;

/// How often a check is made again because what it rests on changed meanwhile.
const TRIES: usize = 5;
/// How long a node that has read less than another waits to get as far.
const CATCHING_UP: Duration = Duration::from_secs(1);

const NO_ROOM: &str = "so much waits for this client that there is no room for the last record (live.queueRecords, live.queueBytes); take it, and try again";

/// What became of a subscription that was allowed.
enum Begun {
    Opened,
    /// It is to be decided at this position, or later.
    Outdated(Position),
}

/// Why there is no subscription.
struct Refused {
    code: u16,
    message: String,
    denied: Option<Question>,
}

impl Refused {
    fn new(code: u16, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            denied: None,
        }
    }

    fn tell(&self, id: &str) -> crate::frames::Frame {
        let denied = self.denied.as_ref().map(|question| Denied {
            user: &question.user,
            relation: &question.relation,
            object: &question.object,
        });
        let told = Told::Error {
            id: echoed(id),
            code: self.code,
            message: &self.message,
            denied,
        };
        told.frame()
    }
}

impl Session {
    pub(super) fn subscribe(&mut self, asked: Subscribe) {
        let outbox = Arc::clone(&self.outbox);
        // Those that have ended by themselves.
        self.subs.retain(|_, entry| outbox.knows(entry.sub));
        let question = match self.check(&asked) {
            Ok(question) => question,
            Err(refused) => return outbox.tell(refused.tell(&asked.id)),
        };
        let sub = self.server.hub.number();
        let object: Arc<str> = asked.object.as_str().into();
        let id = asked.id.as_str().into();
        outbox.reserve(sub, id, Arc::clone(&object), asked.conflate);
        let entry = Entry {
            sub,
            object: Arc::clone(&object),
            is_scoped: question.is_none(),
        };
        self.subs.insert(asked.id.clone(), entry);
        let subscribing = Subscribing {
            server: Arc::clone(&self.server),
            outbox,
            store: self.store,
            sub,
            object,
            question,
            asked,
            observed: Arc::clone(&self.observed),
            showing: Arc::clone(&self.showing),
        };
        tokio::spawn(subscribing.run());
    }

    /// What is to be asked of the authority; `None` where the token itself allows it.
    fn check(&self, asked: &Subscribe) -> Result<Option<Question>, Refused> {
        let settings = &self.server.settings;
        if asked.id.is_empty() || asked.id.len() > MAX_ID {
            return Err(Refused::new(400, format!("id: use 1 to {MAX_ID} bytes")));
        }
        let object = asked.object.as_str();
        let whole_type = object.strip_suffix(":*");
        match whole_type {
            Some(of_type) => check_object(&format!("{of_type}:x")),
            None => check_object(object),
        }
        .map_err(|why| Refused::new(400, format!("object: {why}")))?;
        if asked
            .filter
            .as_ref()
            .is_some_and(|filter| !filter.is_plain())
        {
            return Err(Refused::new(400, FILTER));
        }
        if self.subs.contains_key(&asked.id) {
            return Err(Refused::new(
                409,
                "there is a subscription of this id; use another, or unsubscribe",
            ));
        }
        if self.subs.values().any(|entry| *entry.object == *object) {
            return Err(Refused::new(
                409,
                "there is a subscription to this object; unsubscribe it first",
            ));
        }
        if self.subs.len() >= settings.limits.subscriptions {
            let most = settings.limits.subscriptions;
            return Err(Refused::new(
                429,
                format!("a socket may have {most} subscriptions (live.subscriptionsPerSocket)"),
            ));
        }
        if self.is_in_scope(object) {
            return Ok(None);
        }
        let Some((object, relation)) = settings.rules.asked(object) else {
            let why = "nobody may subscribe to all of this type: neither does the token allow it, nor does live.wholeTypes name what does";
            return Err(Refused::new(403, why));
        };
        Ok(Some(Question {
            user: self.identity.user.as_str().into(),
            relation: relation.into(),
            object: object.into(),
            token: None,
        }))
    }

    /// Whether the token itself allows an object. It names no store, so that it can only mean the node's own.
    fn is_in_scope(&self, object: &str) -> bool {
        let is_meant = self.server.settings.store == Some(self.store);
        is_meant && is_in_scope(&self.identity, object)
    }

    pub(super) fn unsubscribe(&mut self, id: &str) {
        let Some(entry) = self
            .subs
            .remove(id)
            .filter(|entry| self.outbox.knows(entry.sub))
        else {
            return self.error(echoed(id), 404, "there is no subscription of this id");
        };
        self.end(id, &entry, Reason::Asked);
    }

    /// Ends a subscription, be it open or on its way.
    fn end(&self, id: &str, entry: &Entry, reason: Reason) {
        let hub = &self.server.hub;
        if hub.leave(self.store, entry.sub, Some(reason)) {
            return;
        }
        let told = Told::Unsubscribed {
            id,
            object: &entry.object,
            reason,
        };
        self.outbox.close(entry.sub, told.frame());
        // It cannot be opened from here on. Where it was opened meanwhile, it goes.
        hub.leave(self.store, entry.sub, None);
    }

    /// Ends what the token allowed and its successor does not.
    pub(super) fn rescope(&mut self) {
        for (id, entry) in &self.subs {
            if entry.is_scoped && !self.is_in_scope(&entry.object) {
                self.end(id, entry, Reason::Expired);
            }
        }
    }
}

fn is_in_scope(identity: &Identity, object: &str) -> bool {
    let of_type = object.split_once(':').map_or("", |(of_type, _)| of_type);
    let covers = |scope: &String| {
        scope == object
            || scope
                .strip_suffix(":*")
                .is_some_and(|scope| scope == of_type)
    };
    identity.scopes.iter().any(covers)
}

/// A subscription on its way.
struct Subscribing {
    server: Arc<Server>,
    outbox: Arc<Outbox>,
    store: StoreId,
    sub: Sub,
    object: Arc<str>,
    question: Option<Question>,
    asked: Subscribe,
    observed: Arc<dyn Connection>,
    showing: Arc<Showing>,
}

impl Subscribing {
    async fn run(self) {
        let hub = Arc::clone(&self.server.hub);
        let grace = self.server.settings.times.grace;
        if tokio::time::timeout(grace, hub.begun()).await.is_err() {
            let why = "the node does not read the records' topic yet; try again";
            let refused = Refused::new(503, why);
            return self.outbox.close(self.sub, refused.tell(&self.asked.id));
        }
        if let Some(position) = &self.asked.position {
            // Where it does not get there, not all that followed is known here: the client is told so.
            let _reached =
                tokio::time::timeout(CATCHING_UP.min(grace), hub.reached(position)).await;
        }
        // From here on no change is missed, whenever the check is made.
        let ticket = hub.begin(self.store);
        let (at, since) = (SystemTime::now(), Instant::now());
        // Unless anything is said.
        let mut verdict = Err(Undecided::Unreachable);
        let opened = tokio::time::timeout(grace, self.open(ticket, &mut verdict)).await;
        hub.finish(self.store, ticket);
        if let Some(question) = &self.question {
            let took = since.elapsed();
            self.observed.decided(question, &verdict, at, took);
        }
        let late = || Err(Refused::new(503, Undecided::Unreachable.to_string()));
        if let Err(refused) = opened.unwrap_or_else(|_| late()) {
            self.outbox.close(self.sub, refused.tell(&self.asked.id));
        }
    }

    async fn open(
        &self,
        ticket: Ticket,
        verdict: &mut Result<Decided, Undecided>,
    ) -> Result<(), Refused> {
        let hub = &self.server.hub;
        let mut at_least = Position::default();
        for _ in 0..TRIES {
            let decided = match &self.question {
                None => Decided {
                    allowed: true,
                    position: Position::default(),
                    rests: Rests::Elsewhere,
                    model: None,
                    served_by: Arc::from(""),
                },
                Some(question) => {
                    *verdict = self.ask(question, at_least, ticket).await;
                    let decided = verdict.clone().map_err(undecided)?;
                    if decided.allowed {
                        decided
                    } else if let Some(position) = hub.outdated(self.store, ticket, &decided) {
                        at_least = position;
                        continue;
                    } else {
                        return Err(denied(question));
                    }
                }
            };
            match self.begin(ticket, &decided).await? {
                Begun::Opened => return Ok(()),
                Begun::Outdated(position) => at_least = position,
            }
        }
        Err(Refused::new(
            503,
            "what the permission rests on keeps changing; try again",
        ))
    }

    /// Opens it as it was decided, once its client has room for what it begins with.
    async fn begin(&self, ticket: Ticket, decided: &Decided) -> Result<Begun, Refused> {
        let until = tokio::time::Instant::now() + self.server.settings.times.grace / 2;
        loop {
            let subscription = Subscription {
                id: self.asked.id.as_str().into(),
                object: Arc::clone(&self.object),
                outbox: Arc::clone(&self.outbox),
                filter: self.asked.filter.clone().map(Arc::new),
                question: self.question.clone(),
                showing: Arc::clone(&self.showing),
            };
            let beginning = Beginning {
                position: self.asked.position.as_deref(),
                last: self.asked.last,
            };
            let place = (self.store, ticket, self.sub);
            let taken = self.outbox.taken();
            let opened = self
                .server
                .hub
                .open(place, subscription, decided.clone(), &beginning);
            match opened {
                Ok(()) => return Ok(Begun::Opened),
                Err(Unopened::Outdated(position)) => return Ok(Begun::Outdated(position)),
                Err(Unopened::NoRoom) => {
                    let more = tokio::time::timeout_at(until, taken).await;
                    more.map_err(|_| Refused::new(429, NO_ROOM))?;
                }
            }
        }
    }

    async fn ask(
        &self,
        question: &Question,
        at_least: Position,
        ticket: Ticket,
    ) -> Result<Decided, Undecided> {
        let (hub, authority) = (&self.server.hub, &self.server.authority);
        let from = authority.follow(self.store).await?;
        let at_least = hub.follows(self.store, ticket, from).max(at_least);
        let at_least = (at_least > Position::default()).then_some(at_least);
        hub.meters.asked(Why::Subscribe);
        let question = Question {
            token: self.showing.get(),
            ..question.clone()
        };
        let questions = std::slice::from_ref(&question);
        let decided = authority.decide(self.store, at_least, questions).await;
        let decided = decided.into_iter().next();
        decided.unwrap_or(Err(Undecided::Unreachable))
    }
}

fn undecided(why: Undecided) -> Refused {
    match why {
        Undecided::Unreachable => Refused::new(503, why.to_string()),
        Undecided::Expired => Refused::new(401, why.to_string()),
        Undecided::Invalid(why) => Refused::new(400, why),
        Undecided::NoStore => Refused::new(404, why.to_string()),
    }
}

fn denied(question: &Question) -> Refused {
    let Question {
        user,
        relation,
        object,
        ..
    } = question;
    Refused {
        code: 403,
        message: format!("{user} has no relation '{relation}' to {object}"),
        denied: Some(question.clone()),
    }
}
