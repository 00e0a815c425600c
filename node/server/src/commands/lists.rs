//! ListObjects and ListUsers over a datastore, by rounds, as a check is ([`super::check`]).
//!
//! A listing is complete up to its limit. Where the limit, the deadline or the work it may take come first, what was found
//! until then is answered, and said to be a part.

mod question;

use std::sync::Arc;
use std::time::Instant;

use meridian_engine::{
    Budget, ListObjects, ListUsers, Progress, RoundFacts, Scratch, User, UserFilter,
};
use meridian_model::ports::{DatastoreError, Snapshot};
use meridian_model::{ApiError, ModelId, Position, StoreId};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use super::check::{too_complex, unclear};
use super::long_checks::Slot;
use super::{Compiled, Local, at_least, models, store_id};
use crate::calls::{Answer, Context, Reply};
use crate::commands::errors::from_datastore;
pub(crate) use question::Question;
use question::{Begun, What};

/// What a listing found.
pub(crate) struct Listed {
    /// Objects or users as text.
    pub(crate) names: Vec<String>,
    /// Whether there may be more.
    pub(crate) truncated: bool,
    /// The position it holds at.
    pub(crate) position: Position,
    /// The model it was made under.
    pub(crate) model: ModelId,
}

pub(super) async fn objects(
    local: &Local,
    cx: &Context,
    request: &v1::ListObjectsRequest,
) -> Answer<v1::ListObjectsResponse> {
    let listed = local
        .list(cx, store_id(&request.store_id)?, request, None)
        .await?;
    Ok(reply(local, listed, |objects| v1::ListObjectsResponse {
        objects,
    }))
}

pub(super) async fn streamed(
    local: &Local,
    cx: &Context,
    request: v1::StreamedListObjectsRequest,
    found: &mpsc::Sender<String>,
) -> Answer<()> {
    let request = unary(request);
    let listed = local
        .list(cx, store_id(&request.store_id)?, &request, Some(found))
        .await?;
    Ok(reply(local, listed, drop))
}

/// The same question for an answer in one piece.
pub(crate) fn unary(request: v1::StreamedListObjectsRequest) -> v1::ListObjectsRequest {
    v1::ListObjectsRequest {
        store_id: request.store_id,
        authorization_model_id: request.authorization_model_id,
        r#type: request.r#type,
        relation: request.relation,
        user: request.user,
        contextual_tuples: request.contextual_tuples,
        context: request.context,
        consistency: request.consistency,
    }
}

pub(super) async fn users(
    local: &Local,
    cx: &Context,
    request: &v1::ListUsersRequest,
) -> Answer<v1::ListUsersResponse> {
    let listed = local
        .list(cx, store_id(&request.store_id)?, request, None)
        .await?;
    Ok(reply(local, listed, |names| v1::ListUsersResponse {
        users: names.iter().map(|name| wire_user(name)).collect(),
    }))
}

fn reply<T>(local: &Local, listed: Listed, body: impl FnOnce(Vec<String>) -> T) -> Reply<T> {
    let Listed {
        names,
        truncated,
        position,
        model,
    } = listed;
    Reply {
        truncated,
        ..local.reply(body(names), Some(position), Some(model))
    }
}

/// A user as ListUsers names it.
pub(crate) fn wire_user(name: &str) -> v1::User {
    let (object, relation) = match name.split_once('#') {
        Some((object, relation)) => (object, Some(relation)),
        None => (name, None),
    };
    let (object_type, id) = object.split_once(':').unwrap_or((object, ""));
    let (r#type, id) = (object_type.to_owned(), id.to_owned());
    let user = match relation {
        Some(relation) => v1::user::User::Userset(v1::UsersetUser {
            r#type,
            id,
            relation: relation.to_owned(),
        }),
        None if id == "*" => v1::user::User::Wildcard(v1::TypedWildcard { r#type }),
        None => v1::user::User::Object(v1::Object { r#type, id }),
    };
    v1::User { user: Some(user) }
}

/// A listing between two rounds, all its own so that it can change threads.
struct Run {
    begun: Begun,
    model: Arc<Compiled>,
    facts: RoundFacts,
    scratch: Scratch,
    machine: Option<Machine>,
    /// At most so many are said; 0 for all.
    most: usize,
    /// Found and not handed on yet, and how many were handed on.
    found: Vec<String>,
    handed: usize,
    more: bool,
}

enum Machine {
    Objects(Box<ListObjects>),
    Users(Box<ListUsers>),
}

impl Run {
    fn new(begun: Begun, model: Arc<Compiled>, most: usize) -> Self {
        let (mut facts, mut scratch) = (RoundFacts::new(&model.symbols), Scratch::default());
        let program = &model.program;
        let machine = match &begun.what {
            What::Objects {
                object_type,
                relation,
                user,
            } => {
                facts.know(user, &begun.contextual);
                User::parse(user).ok().and_then(|user| {
                    ListObjects::new(
                        &facts,
                        program,
                        (object_type, relation),
                        &user,
                        &begun.contextual,
                        &mut scratch,
                    )
                    .map(|listing| Machine::Objects(Box::new(listing)))
                })
            }
            What::Users {
                object,
                relation,
                filter: (object_type, of),
            } => {
                facts.know(object, &begun.contextual);
                let filter = UserFilter {
                    object_type,
                    relation: of.as_deref(),
                };
                let asked = object.split_once(':').map_or("", |(of, _)| of);
                ListUsers::new(
                    &facts,
                    program,
                    (object, asked, relation),
                    filter,
                    &begun.contextual,
                    &mut scratch,
                )
                .map(|listing| Machine::Users(Box::new(listing)))
            }
        };
        Self {
            begun,
            model,
            facts,
            scratch,
            machine,
            most,
            found: Vec::new(),
            handed: 0,
            more: false,
        }
    }

    fn go(&mut self, budget: Budget<'_>) -> Progress {
        let Self {
            begun,
            model,
            facts,
            scratch,
            machine,
            most,
            found,
            handed,
            more,
        } = self;
        let mut receiver = |name: &str| {
            *more = *most > 0 && *handed + found.len() >= *most;
            if !*more {
                found.push(name.to_owned());
            }
            !*more
        };
        let (program, context) = (&model.program, &begun.context);
        match (machine, &begun.what) {
            (Some(Machine::Objects(listing)), What::Objects { user, .. }) => {
                let Ok(user) = User::parse(user) else {
                    return Progress::Done;
                };
                listing.go(
                    facts,
                    program,
                    &user,
                    context,
                    budget,
                    scratch,
                    &mut receiver,
                )
            }
            (Some(Machine::Users(listing)), _) => {
                listing.go(facts, program, context, budget, scratch, &mut receiver)
            }
            // Nothing has a name that only the question has.
            _ => Progress::Done,
        }
    }
}

impl Local {
    /// Makes a listing at the datastore's latest revision. With a `stream`, findings go there as they are found, however many
    /// they are, and not into the result.
    ///
    /// # Errors
    /// What of the question the model does not allow, a condition without an answer, what goes too deep, and the
    /// datastore's own.
    pub(crate) async fn list(
        &self,
        cx: &Context,
        store: StoreId,
        question: &dyn Question,
        stream: Option<&mpsc::Sender<String>>,
    ) -> Result<Listed, ApiError> {
        if let Some(listed) = self.try_list(cx, store, question, stream, None).await? {
            return Ok(listed);
        }
        let slot = self.long_checks.slot(store, cx.deadline).await?;
        self.try_list(cx, store, question, stream, Some(slot))
            .await?
            .ok_or_else(too_complex)
    }

    /// `None` when it takes more work than may be done on the thread that serves connections, and there is no slot. Nothing was
    /// streamed then, and the snapshot is given back.
    async fn try_list(
        &self,
        cx: &Context,
        store: StoreId,
        question: &dyn Question,
        stream: Option<&mpsc::Sender<String>>,
        slot: Option<Slot>,
    ) -> Result<Option<Listed>, ApiError> {
        // What was found is to be answered while the caller still listens.
        let deadline = self.limits.list_deadline_of(cx.deadline);
        let snapshot = self.datastore.snapshot(store, deadline).await;
        let mut snapshot =
            snapshot
                .map_err(from_datastore)?
                .ok_or_else(|| match question.model_id() {
                    "" => models::no_model(store),
                    id => models::model_not_found(id),
                })?;
        let position = at_least(cx, snapshot.position())?;
        let model = self
            .models
            .resolve_in(&mut *snapshot, store, question.model_id())
            .await?;
        let most = match stream {
            Some(_) => 0,
            None => self.limits.list_results,
        };
        let run = Run::new(question.begin(&model.types)?, Arc::clone(&model), most);
        let listed = self.list_rounds(deadline, &mut *snapshot, run, stream, slot);
        let Some((names, truncated)) = listed.await? else {
            return Ok(None);
        };
        Ok(Some(Listed {
            names,
            truncated,
            position,
            model: model.id,
        }))
    }

    async fn list_rounds(
        &self,
        deadline: Instant,
        snapshot: &mut dyn Snapshot,
        mut run: Run,
        stream: Option<&mpsc::Sender<String>>,
        mut slot: Option<Slot>,
    ) -> Result<Option<(Vec<String>, bool)>, ApiError> {
        let limits = |work| meridian_engine::Limits {
            work,
            ..Default::default()
        };
        let mut left = self.limits.check_reads;
        loop {
            let progress;
            if let Some(held) = slot.take() {
                let limits = limits(self.limits.check_work);
                let go = move |interrupted: &dyn Fn() -> bool| {
                    let progress = run.go(Budget {
                        limits,
                        interrupted,
                    });
                    (run, progress)
                };
                let ran;
                (ran, slot) = held
                    .run(deadline, go)
                    .await
                    .map(|(ran, slot)| (ran, Some(slot)))?;
                (run, progress) = ran;
            } else {
                progress = run.go(Budget::of(limits(self.limits.check_inline_work)));
                if progress == Progress::OutOfWork {
                    return Ok(None);
                }
            }
            if let Some(stream) = stream {
                run.handed += run.found.len();
                for name in run.found.drain(..) {
                    // Nobody listens any longer.
                    if stream.send(name).await.is_err() {
                        return Ok(Some((Vec::new(), true)));
                    }
                }
            }
            match progress {
                Progress::Done => return Ok(Some((run.found, run.more))),
                Progress::Enough | Progress::OutOfWork | Progress::Interrupted => {
                    return Ok(Some((run.found, true)));
                }
                Progress::TooDeep => return Err(too_complex()),
                Progress::Unclear => return Err(unclear(&run.scratch)),
                Progress::Unknown => {}
            }
            let reads = run.scratch.missed();
            let Some(rest) = left.checked_sub(reads.len()) else {
                return Ok(Some((run.found, true)));
            };
            left = rest;
            let most = u32::try_from(left).unwrap_or(u32::MAX);
            let found = match snapshot.read(reads, most).await {
                Ok(Some(found)) => found,
                // More than may be read, or than there is time for.
                Ok(None) | Err(DatastoreError::DeadlineExceeded) => {
                    return Ok(Some((run.found, true)));
                }
                Err(error) => return Err(from_datastore(error)),
            };
            left = left.saturating_sub(found.iter().map(Vec::len).sum());
            run.facts.add(reads, &found);
        }
    }
}
