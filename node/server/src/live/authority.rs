//! Who may see what: this node's own checks, or somebody else who is shown the user's token.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use http::StatusCode;
use meridian_live_channel::ports::{Authority, Decided, Question, Rests, Undecided, each_within};
use meridian_model::hash::type_hash;
use meridian_model::{ApiError, Code, Position, StoreId};
use meridian_proto::openfga::v1;
use meridian_sync::views::Views;
use tokio::sync::Semaphore;
use tokio::time::Instant as Deadline;
use tower::BoxError;

use super::stores::Stores;
use super::views::Watching;
use crate::authn::{Bearer, FetchError, Web};
use crate::calls::{Context, ServedBy};
use crate::commands::check::Decision;
use crate::commands::decisions::Outcome;
use crate::following::{Following, NotFollowed};
use crate::lookup::Found;
use crate::outage::Outage;
use crate::routing::batch::DecideAll;

/// What tells a node of its stores' changes.
pub enum Changes {
    /// An edge: what is published to its views, and who is told before.
    Views(Arc<Views>, Arc<Watching>),
    /// A node with a database: what is read there.
    Database(Arc<Following>),
}

/// This node's own checks.
pub struct Checks {
    /// Who decides.
    pub decider: Arc<dyn DecideAll>,
    /// What tells of changes.
    pub changes: Changes,
    /// Which stores there are, where a view does not tell.
    pub stores: Arc<Stores>,
    /// How long a call may take.
    pub timeout: Duration,
}

#[async_trait]
impl Authority for Checks {
    async fn follow(&self, store: StoreId) -> Result<Position, Undecided> {
        match &self.changes {
            Changes::Views(views, watching) => {
                let shown = self.held(views, store).await?;
                // Between a view's publication and its being shown the hub knows more than readers do.
                Ok(watching.told(store).map_or(shown, |told| told.max(shown)))
            }
            Changes::Database(following) => {
                let followed = following.follow(store, self.timeout).await;
                followed.map_err(|why| match why {
                    NotFollowed::NoStore => Undecided::NoStore,
                    NotFollowed::Unreachable => Undecided::Unreachable,
                })
            }
        }
    }

    async fn decide(
        &self,
        store: StoreId,
        at_least: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>> {
        let cx = Context {
            deadline: Instant::now() + self.timeout,
            min_position: at_least,
            caller: None,
            model: Default::default(),
            why: Default::default(),
        };
        let checks: Vec<_> = questions
            .iter()
            .map(|asked| request(store, asked))
            .collect();
        let mut results = vec![Err(Undecided::Unreachable); questions.len()];
        let mut tell = |at: usize, outcome: Outcome, served_by: &ServedBy| {
            if let (Some(result), Some(question)) = (results.get_mut(at), questions.get(at)) {
                *result = match outcome {
                    Ok(decision) => Ok(self.decided(store, question, decision, served_by)),
                    Err(error) => Err(undecided(error)),
                };
            }
        };
        let deciding = self.decider.decide_all(&cx, &checks, &mut tell);
        match tokio::time::timeout(self.timeout, deciding).await {
            Ok(Ok(_)) | Err(_) => {}
            Ok(Err(refusal)) => {
                let why = undecided(refusal.error);
                let untold = results.iter_mut().filter(|result| result.is_err());
                untold.for_each(|result| *result = Err(why.clone()));
            }
        }
        results
    }
}

impl Checks {
    /// What is held is followed anyway; a store that is not may be about to come, unless those above say that there is none.
    async fn held(&self, views: &Views, store: StoreId) -> Result<Position, Undecided> {
        const TICK: Duration = Duration::from_millis(20);
        let coming = async {
            loop {
                if let Some(shown) = views.get(store) {
                    return shown.view.position();
                }
                tokio::time::sleep(TICK).await;
            }
        };
        let missing = async {
            if self.stores.find(store).await != Found::Missing {
                std::future::pending().await
            }
        };
        tokio::select! {
            biased;
            position = coming => Ok(position),
            () = missing => Err(Undecided::NoStore),
            () = tokio::time::sleep(self.timeout) => Err(Undecided::Unreachable),
        }
    }

    fn decided(
        &self,
        store: StoreId,
        question: &Question,
        decision: Decision,
        served_by: &ServedBy,
    ) -> Decided {
        let rests = match &self.changes {
            // What a view proves is not told by set: it rests on all that the relation can reach.
            Changes::Views(views, _) if decision.reads.is_empty() => {
                reach(views, store, question, &decision).map_or(Rests::OnAnything, Rests::On)
            }
            _ => Rests::On(decision.reads),
        };
        Decided {
            allowed: decision.allowed,
            position: decision.position,
            rests,
            model: Some(decision.model),
            served_by: served_by.as_str().into(),
        }
    }
}

/// Hashes of the types that a question can touch; `None` where its model is not here.
fn reach(
    views: &Views,
    store: StoreId,
    question: &Question,
    decision: &Decision,
) -> Option<Vec<u64>> {
    let shown = views.get(store)?;
    let model = shown.view.model(Some(decision.model))?.compiled.as_ref()?;
    let (object_type, _) = question.object.split_once(':')?;
    let types = model.types.closure_types(object_type, &question.relation);
    Some(types.into_iter().map(type_hash).collect())
}

fn request(store: StoreId, asked: &Question) -> v1::CheckRequest {
    v1::CheckRequest {
        store_id: store.to_string(),
        tuple_key: Some(v1::CheckRequestTupleKey {
            user: asked.user.to_string(),
            relation: asked.relation.to_string(),
            object: asked.object.to_string(),
        }),
        ..Default::default()
    }
}

fn undecided(error: ApiError) -> Undecided {
    match error.code {
        Code::StoreIdNotFound => Undecided::NoStore,
        Code::Unavailable
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal => Undecided::Unreachable,
        _ => Undecided::Invalid(error.message),
    }
}

/// Who decides where somebody else does.
const SERVED_BY: &str = "live.authorityUrl";
/// Questions to somebody else that are on their way at a time.
const ASKED: usize = 64;

/// Somebody else, who answers 200 to whom it would show the object.
pub struct Elsewhere {
    web: Web,
    url: String,
    limit: Duration,
    turns: Semaphore,
    outage: Outage,
}

impl Elsewhere {
    /// Asks at `url`, in which `{object}`, `{type}` and `{id}` stand for the object. Each answer may take as long as
    /// `limit`, its turn included.
    pub fn new(web: Web, url: String, limit: Duration) -> Self {
        Self {
            web,
            url,
            limit,
            turns: Semaphore::new(ASKED),
            outage: Outage::new(),
        }
    }

    /// Asks one question, and has its answer by `until`.
    async fn ask(&self, question: &Question, until: Deadline) -> Result<Decided, Undecided> {
        let (object_type, id) = question.object.split_once(':').unwrap_or_default();
        let url = self
            .url
            .replace("{object}", &escaped(&question.object))
            .replace("{type}", &escaped(object_type))
            .replace("{id}", &escaped(id));
        let bearer = question.token.as_deref().map(Bearer::new);
        // What no header can have it could not take.
        let bearer = bearer.map(|bearer| bearer.ok_or(Undecided::Expired));
        let bearer = bearer.transpose()?;
        // Never closed, so that this only waits.
        let _turn = self.turns.acquire().await;
        let asking = self.web.get(&url, bearer.as_ref());
        let asked = tokio::time::timeout_at(until, asking).await;
        let asked = asked.unwrap_or(Err(FetchError::Late(url)));
        let answer = match asked {
            Ok((StatusCode::OK | StatusCode::NO_CONTENT, _)) => Ok(Ok(true)),
            Ok((StatusCode::FORBIDDEN | StatusCode::NOT_FOUND, _)) => Ok(Ok(false)),
            Ok((StatusCode::UNAUTHORIZED | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, _)) => {
                Ok(Err(Undecided::Expired))
            }
            // Users name objects as they like: what makes no sense to it is no outage.
            Ok((
                status @ (StatusCode::BAD_REQUEST
                | StatusCode::URI_TOO_LONG
                | StatusCode::UNPROCESSABLE_ENTITY),
                _,
            )) => {
                let object = &question.object;
                let why = format!("the authority makes no sense of '{object}' (status {status})");
                Ok(Err(Undecided::Invalid(why)))
            }
            Ok((other, _)) => Err(format!("it answers with status {other}").into()),
            Err(error) => Err(error.into()),
        };
        let allowed = self.noted(answer)??;
        Ok(Decided {
            allowed,
            position: Position::default(),
            rests: Rests::Elsewhere,
            model: None,
            served_by: SERVED_BY.into(),
        })
    }

    /// Says once when nobody answers, and once when somebody does again.
    fn noted<T>(&self, answer: Result<T, BoxError>) -> Result<T, Undecided> {
        match answer {
            Ok(answer) => {
                if let Some(away) = self.outage.worked() {
                    tracing::info!(?away, "live.authorityUrl says again who may see an object");
                }
                Ok(answer)
            }
            Err(error) => {
                if self.outage.failed() {
                    tracing::warn!(
                        error = &*error as &dyn std::error::Error,
                        "live.authorityUrl cannot be asked who may see an object"
                    );
                }
                Err(Undecided::Unreachable)
            }
        }
    }
}

/// What may stand in a path or a query as it is stays; all else is named by its bytes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[async_trait]
impl Authority for Elsewhere {
    async fn follow(&self, _: StoreId) -> Result<Position, Undecided> {
        Ok(Position::default())
    }

    async fn decide(
        &self,
        _: StoreId,
        _: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>> {
        let until = Deadline::now() + self.limit;
        let asking = questions.iter().map(|question| self.ask(question, until));
        each_within(self.limit, asking).await
    }
}
