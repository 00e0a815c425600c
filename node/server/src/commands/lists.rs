//! ListObjects and ListUsers over a datastore, by rounds, as a check is ([`super::check`]).
//!
//! A listing is complete up to its limit. Where the limit, the deadline or the work it may take come first, what was found
//! until then is answered, and said to be a part.

mod listing;
mod question;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_engine::{Budget, Progress, RoundFacts};
use meridian_model::ports::{DatastoreError, Snapshot};
use meridian_model::{ApiError, ModelId, Position, StoreId};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use super::check::too_complex;
use super::long_checks::Slot;
use super::{Compiled, Local, at_least, models, store_id};
use crate::api::deadline_exceeded;
use crate::calls::{Answer, Context, Reply, ServedBy};
use crate::commands::errors::{database_worked, from_datastore};
use crate::pace::Pace;
pub(crate) use listing::{Found, Listing};
pub(crate) use question::{Begun, Question};

/// What a listing found.
pub(crate) struct Listed {
    /// Objects or users as text, but for those that were streamed.
    pub(crate) found: Found,
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
    database_worked();
    Ok(listed.objects(local.name()))
}

/// Streams objects. The listing does not wait for whoever listens, since it holds a snapshot, a connection of the datastore:
/// what is found waits instead, as much as one listing may read.
pub(super) async fn streamed(
    local: &Local,
    cx: &Context,
    request: v1::StreamedListObjectsRequest,
    found: &mpsc::Sender<String>,
) -> Answer<()> {
    let request = unary(request);
    let store = store_id(&request.store_id)?;
    let (finds, waiting) = mpsc::unbounded_channel();
    let listing = local.list(cx, store, &request, Some(finds));
    let handing_on = async {
        // Gone with this block, which ends the listing when nobody listens any more.
        let mut waiting = waiting;
        while let Some(name) = waiting.recv().await {
            hand_on(name, found, local.limits.request_timeout).await?;
        }
        Ok::<_, ApiError>(())
    };
    let (listed, handed_on) = tokio::join!(listing, handing_on);
    handed_on?;
    let listed = listed?;
    database_worked();
    Ok(listed.reply(local.name(), drop))
}

/// Gives an object to whoever listens to a stream.
///
/// # Errors
/// `deadline_exceeded` when nothing is taken for so long, or nobody is there any more.
pub(crate) async fn hand_on(
    name: String,
    found: &mpsc::Sender<String>,
    patience: Duration,
) -> Result<(), ApiError> {
    let sent = found.send_timeout(name, patience).await;
    sent.map_err(|_| deadline_exceeded())
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
    database_worked();
    Ok(listed.users(local.name()))
}

impl Listed {
    /// The answer to ListObjects.
    pub(crate) fn objects(self, by: &ServedBy) -> Reply<v1::ListObjectsResponse> {
        self.reply(by, |objects| v1::ListObjectsResponse { objects })
    }

    /// The answer to ListUsers.
    pub(crate) fn users(self, by: &ServedBy) -> Reply<v1::ListUsersResponse> {
        self.reply(by, |names| v1::ListUsersResponse {
            users: names.iter().map(|name| wire_user(name)).collect(),
        })
    }

    /// An answer by that node.
    pub(crate) fn reply<T>(self, by: &ServedBy, body: impl FnOnce(Vec<String>) -> T) -> Reply<T> {
        let Found { names, truncated } = self.found;
        Reply {
            body: body(names),
            position: Some(self.position),
            model: Some(self.model),
            served_by: by.clone(),
            truncated,
        }
    }
}

/// A user as ListUsers names it.
fn wire_user(name: &str) -> v1::User {
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

/// A listing between two rounds, with the facts that it goes over.
struct Run {
    model: Arc<Compiled>,
    facts: RoundFacts,
    listing: Listing,
}

impl Run {
    fn new(begun: Begun, model: Arc<Compiled>, most: usize) -> Self {
        let mut facts = RoundFacts::new(&model.symbols);
        facts.know(begun.what.asked(), &begun.contextual);
        Self {
            listing: Listing::new(begun, &facts, &model.program, most),
            model,
            facts,
        }
    }

    fn go(&mut self, budget: Budget<'_>) -> Progress {
        self.listing.go(&self.facts, &self.model.program, budget)
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
        stream: Option<mpsc::UnboundedSender<String>>,
    ) -> Result<Listed, ApiError> {
        let stream = stream.as_ref();
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
        stream: Option<&mpsc::UnboundedSender<String>>,
        slot: Option<Slot>,
    ) -> Result<Option<Listed>, ApiError> {
        // What was found is to be answered while the caller still listens.
        let bounds = question.limits(&self.limits);
        let deadline = bounds.deadline_of(cx.deadline);
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
        cx.model.note(model.id);
        let most = match stream {
            Some(_) => 0,
            None => bounds.results,
        };
        let run = Run::new(question.begin(&model.types)?, Arc::clone(&model), most);
        let listed = self.list_rounds((store, deadline), &mut *snapshot, run, stream, slot);
        let listed = listed.await?;
        Ok(listed.map(|mut found| {
            // What is left of it; that nobody listens any longer is no matter now.
            if let Some(stream) = stream {
                let left = found.names.drain(..);
                left.map(|name| stream.send(name)).all(|sent| sent.is_ok());
            }
            Listed {
                found,
                position,
                model: model.id,
            }
        }))
    }

    /// Streams nothing that another try would stream again: without a slot, only once the listing is over.
    async fn list_rounds(
        &self,
        (store, deadline): (StoreId, Instant),
        snapshot: &mut dyn Snapshot,
        mut run: Run,
        stream: Option<&mpsc::UnboundedSender<String>>,
        mut slot: Option<Slot>,
    ) -> Result<Option<Found>, ApiError> {
        let mut left = self.limits.check_reads;
        let mut pace = Pace::begin();
        loop {
            pace.step().await;
            let progress;
            if let Some(held) = slot.take() {
                let limits = self.limits.evaluation(self.limits.check_work);
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
                progress = run.go(Budget::of(
                    self.limits.evaluation(self.limits.check_inline_work),
                ));
                if progress == Progress::OutOfWork {
                    return Ok(None);
                }
            }
            if progress == Progress::Unknown && slot.is_none() && stream.is_some() {
                slot = self.long_checks.slot_now(store);
            }
            if let Some(stream) = stream
                && (slot.is_some() || progress != Progress::Unknown)
            {
                for name in run.listing.hand_on() {
                    // Nobody listens any longer.
                    if stream.send(name).is_err() {
                        return Ok(Some(run.listing.cut_short(true)));
                    }
                }
            }
            if let Some(found) = run.listing.end(progress) {
                return found.map(Some);
            }
            let reads = run.listing.missed();
            let Some(rest) = left.checked_sub(reads.len()) else {
                return Ok(Some(run.listing.cut_short(true)));
            };
            left = rest;
            let most = u32::try_from(left).unwrap_or(u32::MAX);
            let found = match snapshot.read(reads, most).await {
                Ok(Some(found)) => found,
                // More than may be read, or than there is time for.
                Ok(None) | Err(DatastoreError::DeadlineExceeded) => {
                    return Ok(Some(run.listing.cut_short(true)));
                }
                Err(error) => return Err(from_datastore(error)),
            };
            left = left.saturating_sub(found.iter().map(Vec::len).sum());
            run.facts.add(reads, &found);
        }
    }
}
