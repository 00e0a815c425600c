//! The calls as types, so that what both transports do for each of them is written once.

use std::pin::Pin;

use http::HeaderMap;
use meridian_proto::authzen::v1 as authzen_v1;
use meridian_proto::openfga::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::authzen::{self, AuthZen, evaluations, searches};
use crate::api::fields::Fields;
use crate::api::grpc::{AUTHZEN_SERVICE, SERVICE};
use crate::calls::{Answer, Calls, Context, ServedBy};
use crate::limits::Limits;
use crate::routing::wants_primary;

/// A call on its way.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;

/// What a call is answered with and by.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// The calls of `openfga.v1`.
    pub calls: &'a dyn Calls,
    /// What the call knows beside its message.
    pub cx: &'a Context,
    /// The request's headers or gRPC metadata.
    pub headers: &'a HeaderMap,
    /// The limits in force.
    pub limits: &'a Limits,
    /// How AuthZEN is served.
    pub authzen: &'a AuthZen,
    /// The node that answers.
    pub name: &'a ServedBy,
}

/// One call that a node serves.
pub trait Served: Send + Sync + 'static {
    /// Its name in its service.
    const NAME: &'static str;
    /// Its place in [`names`].
    const INDEX: usize;
    /// Its request message.
    type Request: Fields
        + prost::Message
        + Clone
        + Default
        + DeserializeOwned
        + Send
        + Sync
        + 'static;
    /// Its response message.
    type Response: prost::Message + Default + Serialize + Send + 'static;

    /// Answers without waiting, where that is possible.
    fn now(_asked: Asked<'_>, _request: &Self::Request) -> Option<Answer<Self::Response>> {
        None
    }

    /// Answers.
    fn answer<'a>(asked: Asked<'a>, request: Self::Request) -> Running<'a, Self::Response>;
}

/// Where a call may be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// At central: it changes something.
    Write,
    /// At central, by its primary: it asks for the latest, or for what no store's revision counts.
    Central,
    /// By any node that has come far enough.
    Read,
}

/// One call of `openfga.v1.OpenFGAService`.
pub trait Operation: Served {
    /// Where it may be answered.
    fn way(request: &Self::Request) -> Way;

    /// Answers.
    fn run<'a>(
        calls: &'a dyn Calls,
        cx: &'a Context,
        request: Self::Request,
    ) -> Running<'a, Self::Response>;
}

/// Every call's name, by [`Served::INDEX`].
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().chain(AUTHZEN_NAMES).copied()
}

/// How many they are.
pub(super) const COUNT: usize = NAMES.len() + AUTHZEN_NAMES.len();

/// The service of the call at a place in [`names`].
pub(super) fn service(index: usize) -> &'static str {
    if (NAMES.len()..COUNT).contains(&index) {
        AUTHZEN_SERVICE
    } else {
        SERVICE
    }
}

/// Hands a call's type, found by its name, to a generic action.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Takes the call's type.
    fn visit<O: Operation>(self) -> Self::Output;
}

/// As [`Visitor`], of AuthZEN's calls.
pub trait AuthZenVisitor {
    /// What comes of it.
    type Output;

    /// Takes the call's type.
    fn visit<O: Served>(self) -> Self::Output;
}

macro_rules! operations {
    ($($index:literal $name:ident $method:ident $request:ident -> $response:ident, $way:ident $(unless $consistency:ident)? $(, $now:ident)?;)+) => {
        const NAMES: &[&str] = &[$(stringify!($name)),+];

        $(
            #[doc = concat!("The call `", stringify!($name), "`.")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Served for $name {
                const NAME: &'static str = stringify!($name);
                const INDEX: usize = $index;
                type Request = v1::$request;
                type Response = v1::$response;

                $(fn now(asked: Asked<'_>, request: &Self::Request) -> Option<Answer<Self::Response>> {
                    asked.calls.$now(asked.cx, request)
                })?

                fn answer<'a>(asked: Asked<'a>, request: Self::Request) -> Running<'a, Self::Response> {
                    Self::run(asked.calls, asked.cx, request)
                }
            }

            impl Operation for $name {
                fn way(_request: &Self::Request) -> Way {
                    $(if wants_primary(_request.$consistency) {
                        return Way::Central;
                    })?
                    Way::$way
                }

                fn run<'a>(calls: &'a dyn Calls, cx: &'a Context, request: Self::Request) -> Running<'a, Self::Response> {
                    calls.$method(cx, request)
                }
            }
        )+

        /// Finds a call of OpenFGA by its name; `None` for a name that is none, or not implemented.
        pub fn find<V: Visitor>(name: &str, visitor: V) -> Option<V::Output> {
            match name {
                $(stringify!($name) => Some(visitor.visit::<$name>()),)+
                _ => None,
            }
        }
    };
}

operations! {
    0 Check check CheckRequest -> CheckResponse, Read unless consistency, check_now;
    1 Write write WriteRequest -> WriteResponse, Write;
    2 Read read ReadRequest -> ReadResponse, Read unless consistency;
    3 ReadChanges read_changes ReadChangesRequest -> ReadChangesResponse, Read;
    4 CreateStore create_store CreateStoreRequest -> CreateStoreResponse, Write;
    5 GetStore get_store GetStoreRequest -> GetStoreResponse, Read;
    6 ListStores list_stores ListStoresRequest -> ListStoresResponse, Central;
    7 DeleteStore delete_store DeleteStoreRequest -> DeleteStoreResponse, Write;
    8 WriteAuthorizationModel write_authorization_model WriteAuthorizationModelRequest -> WriteAuthorizationModelResponse, Write;
    9 ReadAuthorizationModel read_authorization_model ReadAuthorizationModelRequest -> ReadAuthorizationModelResponse, Read;
    10 ReadAuthorizationModels read_authorization_models ReadAuthorizationModelsRequest -> ReadAuthorizationModelsResponse, Read;
    11 WriteAssertions write_assertions WriteAssertionsRequest -> WriteAssertionsResponse, Write;
    12 ReadAssertions read_assertions ReadAssertionsRequest -> ReadAssertionsResponse, Central;
    13 BatchCheck batch_check BatchCheckRequest -> BatchCheckResponse, Read unless consistency;
    14 Expand expand ExpandRequest -> ExpandResponse, Read unless consistency;
    15 ListObjects list_objects ListObjectsRequest -> ListObjectsResponse, Read unless consistency;
    16 ListUsers list_users ListUsersRequest -> ListUsersResponse, Read unless consistency;
}

macro_rules! authzen {
    ($($index:literal $name:ident $method:path, $request:ident -> $response:ident;)+) => {
        const AUTHZEN_NAMES: &[&str] = &[$(stringify!($name)),+];

        $(
            #[doc = concat!("The call `", stringify!($name), "` of AuthZEN.")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Served for $name {
                const NAME: &'static str = stringify!($name);
                const INDEX: usize = NAMES.len() + $index;
                type Request = authzen_v1::$request;
                type Response = authzen_v1::$response;

                fn answer<'a>(asked: Asked<'a>, request: Self::Request) -> Running<'a, Self::Response> {
                    Box::pin(async move {
                        asked.authzen.check_enabled()?;
                        $method(asked, request).await
                    })
                }
            }
        )+

        /// Finds a call of AuthZEN by its name.
        pub fn find_authzen<V: AuthZenVisitor>(name: &str, visitor: V) -> Option<V::Output> {
            match name {
                $(stringify!($name) => Some(visitor.visit::<$name>()),)+
                _ => None,
            }
        }
    };
}

authzen! {
    0 Evaluation evaluations::one, EvaluationRequest -> EvaluationResponse;
    1 Evaluations evaluations::several, EvaluationsRequest -> EvaluationsResponse;
    2 SubjectSearch searches::subjects, SubjectSearchRequest -> SubjectSearchResponse;
    3 ResourceSearch searches::resources, ResourceSearchRequest -> ResourceSearchResponse;
    4 ActionSearch searches::actions, ActionSearchRequest -> ActionSearchResponse;
    5 GetConfiguration authzen::configuration, GetConfigurationRequest -> GetConfigurationResponse;
}
