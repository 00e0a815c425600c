//! The OpenFGA calls as a port without a transport. gRPC and HTTP both speak to one [`Calls`] object, and each role
//! brings its own: central answers from its datastore, a regional and an edge from their view or from upstream.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use async_trait::async_trait;
use http::HeaderValue;
use meridian_model::{ApiError, ModelId, Position};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;

use crate::authn::Caller;
use crate::explanations::Why;
use crate::routing::batch::BatchResult;

/// What a call knows beside its request message.
#[derive(Debug, Clone)]
pub struct Context {
    /// When the caller stops waiting. Bounds everything done for the call.
    pub deadline: Instant,
    /// Answer at this position or a later one (`meridian-min-revision`).
    pub min_position: Option<Position>,
    /// Who calls, where callers have to show it and the call was made at this node.
    pub caller: Option<Arc<Caller>>,
    /// The authorization model that it is answered under.
    pub model: Resolved,
    /// Where to leave what a check was decided by, if that is wanted.
    pub why: Why,
}

impl Context {
    /// Of a call that a node makes by itself.
    pub(crate) fn own(deadline: Instant) -> Self {
        Self {
            deadline,
            min_position: None,
            caller: None,
            model: Resolved::default(),
            why: Why::default(),
        }
    }
}

/// The authorization model of a call, noted as soon as it is known: a stream names it before it ends, and an error too.
#[derive(Debug, Clone, Default)]
pub struct Resolved(Arc<OnceLock<ModelId>>);

impl Resolved {
    /// Notes the model; the first that is noted counts.
    pub fn note(&self, model: ModelId) {
        self.0.get_or_init(|| model);
    }

    /// The model, if it is known.
    pub fn get(&self) -> Option<ModelId> {
        self.0.get().copied()
    }
}

/// A node's name as it stands in `meridian-served-by`; cheap to clone.
#[derive(Debug, Clone)]
pub struct ServedBy {
    name: HeaderValue,
    kept: bool,
}

impl PartialEq for ServedBy {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for ServedBy {}

/// Why a text cannot be a node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("must be visible ASCII characters, like edge/eu-west-1")]
pub struct InvalidName;

impl ServedBy {
    /// The node `name`.
    ///
    /// # Errors
    /// [`InvalidName`] when it is empty or cannot stand in a header.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(InvalidName);
        }
        let name = HeaderValue::from_str(name).map_err(|_| InvalidName)?;
        Ok(Self { name, kept: false })
    }

    /// The same node, answering what it has kept of another's answer.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { kept: true, ..self }
    }

    /// Whether the node answered what it has kept of another's answer.
    pub fn is_kept(&self) -> bool {
        self.kept
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        self.name.to_str().unwrap_or_default()
    }

    /// The name as a header's value.
    pub fn header(&self) -> HeaderValue {
        self.name.clone()
    }
}

/// A call's answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply<T> {
    /// The response message.
    pub body: T,
    /// The store's position that the answer holds at; `None` where the call names no store.
    pub position: Option<Position>,
    /// The authorization model it was made under, where there is one.
    pub model: Option<ModelId>,
    /// The node that answered.
    pub served_by: ServedBy,
    /// Whether a listing stops where its limit, its deadline or the work it may take came first.
    pub truncated: bool,
}

impl<T> Reply<T> {
    /// The same answer with another message.
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Reply<U> {
        Reply {
            body: to(self.body),
            position: self.position,
            model: self.model,
            served_by: self.served_by,
            truncated: self.truncated,
        }
    }
}

/// A call's error, with as much as is known about who refused it, under which model, and where its store stood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct Refusal {
    /// What the client sees.
    pub error: ApiError,
    /// The store's position, where known.
    pub position: Option<Position>,
    /// The authorization model that it was refused under, where that is known. In a box, for refusals go through many hands.
    pub model: Option<Box<ModelId>>,
    /// The node that refused; `None` for the one that was asked.
    pub served_by: Option<ServedBy>,
}

impl Refusal {
    /// The same, under the model that the call is known to have been made under.
    #[must_use]
    pub fn under(mut self, resolved: &Resolved) -> Self {
        self.model = self.model.or_else(|| resolved.get().map(Box::new));
        self
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            position: None,
            model: None,
            served_by: None,
        }
    }
}

/// What every call returns.
pub type Answer<T> = Result<Reply<T>, Refusal>;

/// One method per OpenFGA call. Requests have passed [`crate::api::fields`]: ids, names and sizes are well formed.
#[async_trait]
pub trait Calls: Send + Sync {
    /// Answers a check at once, without waiting for anything, or returns `None` and leaves it to [`Calls::check`].
    /// It runs on the connection's own task, so it must be quick.
    fn check_now(
        &self,
        _cx: &Context,
        _request: &v1::CheckRequest,
    ) -> Option<Answer<v1::CheckResponse>> {
        None
    }

    /// Whether a user has a relation to an object.
    async fn check(&self, cx: &Context, request: v1::CheckRequest) -> Answer<v1::CheckResponse>;

    /// Creates a store.
    async fn create_store(
        &self,
        cx: &Context,
        request: v1::CreateStoreRequest,
    ) -> Answer<v1::CreateStoreResponse>;

    /// A store's metadata.
    async fn get_store(
        &self,
        cx: &Context,
        request: v1::GetStoreRequest,
    ) -> Answer<v1::GetStoreResponse>;

    /// The stores that exist.
    async fn list_stores(
        &self,
        cx: &Context,
        request: v1::ListStoresRequest,
    ) -> Answer<v1::ListStoresResponse>;

    /// Deletes a store; deleting one that does not exist succeeds.
    async fn delete_store(
        &self,
        cx: &Context,
        request: v1::DeleteStoreRequest,
    ) -> Answer<v1::DeleteStoreResponse>;

    /// Adds an authorization model.
    async fn write_authorization_model(
        &self,
        cx: &Context,
        request: v1::WriteAuthorizationModelRequest,
    ) -> Answer<v1::WriteAuthorizationModelResponse>;

    /// One authorization model.
    async fn read_authorization_model(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelRequest,
    ) -> Answer<v1::ReadAuthorizationModelResponse>;

    /// A store's models, newest first.
    async fn read_authorization_models(
        &self,
        cx: &Context,
        request: v1::ReadAuthorizationModelsRequest,
    ) -> Answer<v1::ReadAuthorizationModelsResponse>;

    /// Writes and deletes tuples, all or nothing.
    async fn write(&self, cx: &Context, request: v1::WriteRequest) -> Answer<v1::WriteResponse>;

    /// The stored tuples that match a filter.
    async fn read(&self, cx: &Context, request: v1::ReadRequest) -> Answer<v1::ReadResponse>;

    /// The tuples that were written and deleted, in commit order.
    async fn read_changes(
        &self,
        cx: &Context,
        request: v1::ReadChangesRequest,
    ) -> Answer<v1::ReadChangesResponse>;

    /// Many checks at one revision.
    async fn batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
    ) -> Answer<v1::BatchCheckResponse>;

    /// Many checks at one revision, each result sent as it is decided. `found` has room for one of each check.
    async fn streamed_batch_check(
        &self,
        cx: &Context,
        request: v1::BatchCheckRequest,
        found: mpsc::Sender<BatchResult>,
    ) -> Answer<()>;

    /// What one level of a relation is made of.
    async fn expand(&self, cx: &Context, request: v1::ExpandRequest) -> Answer<v1::ExpandResponse>;

    /// The objects of a type to which a user has a relation.
    async fn list_objects(
        &self,
        cx: &Context,
        request: v1::ListObjectsRequest,
    ) -> Answer<v1::ListObjectsResponse>;

    /// The objects of a type to which a user has a relation, each sent as it is found.
    async fn streamed_list_objects(
        &self,
        cx: &Context,
        request: v1::StreamedListObjectsRequest,
        found: mpsc::Sender<String>,
    ) -> Answer<()>;

    /// The users that have a relation to an object.
    async fn list_users(
        &self,
        cx: &Context,
        request: v1::ListUsersRequest,
    ) -> Answer<v1::ListUsersResponse>;

    /// Keeps a model's assertions in place of those it had.
    async fn write_assertions(
        &self,
        cx: &Context,
        request: v1::WriteAssertionsRequest,
    ) -> Answer<v1::WriteAssertionsResponse>;

    /// A model's assertions.
    async fn read_assertions(
        &self,
        cx: &Context,
        request: v1::ReadAssertionsRequest,
    ) -> Answer<v1::ReadAssertionsResponse>;
}
