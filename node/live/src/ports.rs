//! What the live channel needs from outside.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use meridian_model::{ModelId, Position, StoreId};

/// Who a token is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's subject: a refreshed token must have the same.
    pub subject: String,
    /// The user that is asked about, like `user:anne`.
    pub user: String,
    /// When the token expires; `None` for one that does not.
    pub expires_at: Option<SystemTime>,
    /// Objects that the token itself allows, without a check: `event:42`, or `event:*` for all of a type.
    pub scopes: Vec<String>,
    /// The client that the token was issued to.
    pub client: Option<String>,
}

/// Why a token shows nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It is not good, for the reason.
    #[error("{0}")]
    Invalid(String),
    /// Nobody can say so now.
    #[error("the token cannot be verified now; try again")]
    Unavailable,
}

/// Says who a token is of.
#[async_trait]
pub trait Tokens: Send + Sync + 'static {
    /// Verifies a token.
    ///
    /// # Errors
    /// [`TokenError`].
    async fn verify(&self, token: &str) -> Result<Identity, TokenError>;

    /// How often a token that does not say when it expires is verified again while its socket is open; never unless this says
    /// so.
    fn verify_every(&self) -> Option<Duration> {
        None
    }
}

/// A question to the authority.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// Who would see the records.
    pub user: Arc<str>,
    /// The relation that lets them.
    pub relation: Arc<str>,
    /// The object that it is a relation to.
    pub object: Arc<str>,
    /// The asker's token, for an authority that wants to see it.
    pub token: Option<Arc<str>>,
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// Whether the user has the relation.
    pub allowed: bool,
    /// The store's position that it holds at.
    pub position: Position,
    /// What it rests on.
    pub rests: Rests,
    /// The model that it was made under, where the store's own says so.
    pub model: Option<ModelId>,
    /// Who decided: a node's name.
    pub served_by: Arc<str>,
}

/// What a decision rests on: it holds until a later change touches that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rests {
    /// Sets or types, as changes name them ([`meridian_model::hash`]).
    On(Vec<u64>),
    /// It is not known: any change of the store may end it.
    OnAnything,
    /// Nothing that the store knows: only asking again tells.
    Elsewhere,
}

/// Why there is no decision.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecided {
    /// The authority cannot be reached, or not in time.
    #[error("the authority cannot be reached; try again")]
    Unreachable,
    /// The authority no longer takes the user's token.
    #[error("the authority does not take the token; send a newer one (auth), and try again")]
    Expired,
    /// The question makes no sense, for the reason.
    #[error("{0}")]
    Invalid(String),
    /// There is no such store.
    #[error("there is no such store")]
    NoStore,
}

/// Says who may see what.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// Has the hub told of the store's changes from now on. Returns the position from which on it is: what is decided there or
    /// later misses nothing. The lowest position where nothing that the store knows is decided by.
    ///
    /// # Errors
    /// [`Undecided::Unreachable`] or [`Undecided::NoStore`].
    async fn follow(&self, store: StoreId) -> Result<Position, Undecided>;

    /// Decides questions of one store, each at `at_least` or later; one result for each, in order.
    async fn decide(
        &self,
        store: StoreId,
        at_least: Option<Position>,
        questions: &[Question],
    ) -> Vec<Result<Decided, Undecided>>;
}

/// What becomes of questions that are asked each by itself, all at the same time. One that takes longer than `limit` is
/// [`Undecided::Unreachable`], and keeps no other's answer back.
pub async fn each_within<T>(
    limit: Duration,
    asking: impl IntoIterator<Item = impl Future<Output = Result<T, Undecided>>>,
) -> Vec<Result<T, Undecided>> {
    let asking = asking.into_iter().map(async |asking| {
        let asked = tokio::time::timeout(limit, asking).await;
        asked.unwrap_or(Err(Undecided::Unreachable))
    });
    futures::future::join_all(asking).await
}

/// Where a client comes from.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Its address.
    pub address: Option<IpAddr>,
    /// What it calls itself.
    pub agent: Option<String>,
}

/// A token that was shown.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The store of the connection.
    pub store: StoreId,
    /// Who shows it.
    pub origin: Origin,
    /// When.
    pub at: SystemTime,
    /// How long it took to find out whose it is.
    pub took: Duration,
}

/// Learns who connects, who may not, and what is decided for them. It is told in passing: none of its calls may wait, or fail.
pub trait Observer: Send + Sync + 'static {
    /// The token was good: its client is connected from now on, under this name.
    fn connected(&self, shown: Shown, session: &str, identity: &Identity) -> Arc<dyn Connection>;

    /// Its client is closed with `code`, for the reason.
    fn refused(&self, shown: Shown, code: u16, why: &str);
}

/// A connection that is observed.
pub trait Connection: Send + Sync {
    /// A subscription was asked about: when, how long that took, and what came of it.
    fn decided(
        &self,
        question: &Question,
        result: &Result<Decided, Undecided>,
        at: SystemTime,
        took: Duration,
    );

    /// It was closed with `code`.
    fn ended(&self, code: u16);
}

/// Nobody learns anything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {
    fn connected(&self, _: Shown, _: &str, _: &Identity) -> Arc<dyn Connection> {
        Arc::new(Self)
    }

    fn refused(&self, _: Shown, _: u16, _: &str) {}
}

impl Connection for Unobserved {
    fn decided(&self, _: &Question, _: &Result<Decided, Undecided>, _: SystemTime, _: Duration) {}

    fn ended(&self, _: u16) {}
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_answer_that_never_comes_keeps_no_other_back() {
        let times = crate::settings::Times::default();
        let began = tokio::time::Instant::now();
        let asking = [
            std::future::ready(Ok(1)).boxed(),
            std::future::pending().boxed(),
            std::future::ready(Err(Undecided::NoStore)).boxed(),
        ];
        let answers = each_within(times.question(), asking).await;
        let expected = [Ok(1), Err(Undecided::Unreachable), Err(Undecided::NoStore)];
        assert_eq!(answers, expected);
        assert!(began.elapsed() < times.grace);
    }
}
