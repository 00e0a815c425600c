//! The calls as types, so that what both transports do for each of them is written once.

use std::pin::Pin;

use meridian_proto::openfga::v1;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::fields::Fields;
use crate::calls::{Answer, Calls, Context};

/// A call on its way.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Answer<T>> + Send + 'a>>;

/// One call of `openfga.v1.OpenFGAService`.
pub trait Operation: Send + Sync + 'static {
    /// Its name in the service.
    const NAME: &'static str;
    /// Its place in [`NAMES`].
    const INDEX: usize;
    /// Its request message.
    type Request: Fields + prost::Message + Default + DeserializeOwned + Send + 'static;
    /// Its response message.
    type Response: prost::Message + Default + Serialize + Send + 'static;

    /// Answers without waiting, where that is possible.
    fn now(
        _calls: &dyn Calls,
        _cx: &Context,
        _request: &Self::Request,
    ) -> Option<Answer<Self::Response>> {
        None
    }

    /// Answers.
    fn run<'a>(
        calls: &'a dyn Calls,
        cx: &'a Context,
        request: Self::Request,
    ) -> Running<'a, Self::Response>;
}

/// Hands a call's type, found by its name, to a generic action.
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Takes the call's type.
    fn visit<O: Operation>(self) -> Self::Output;
}

macro_rules! operations {
    ($($index:literal $name:ident $method:ident $request:ident -> $response:ident $(, $now:ident)?;)+) => {
        /// Every call's name, by [`Operation::INDEX`].
        pub const NAMES: &[&str] = &[$(stringify!($name)),+];

        $(
            #[doc = concat!("The call `", stringify!($name), "`.")]
            #[derive(Debug, Clone, Copy)]
            pub struct $name;

            impl Operation for $name {
                const NAME: &'static str = stringify!($name);
                const INDEX: usize = $index;
                type Request = v1::$request;
                type Response = v1::$response;

                $(fn now(calls: &dyn Calls, cx: &Context, request: &Self::Request) -> Option<Answer<Self::Response>> {
                    calls.$now(cx, request)
                })?

                fn run<'a>(calls: &'a dyn Calls, cx: &'a Context, request: Self::Request) -> Running<'a, Self::Response> {
                    calls.$method(cx, request)
                }
            }
        )+

        /// Finds a call by its name; `None` for a name that is none, or not implemented.
        pub fn find<V: Visitor>(name: &str, visitor: V) -> Option<V::Output> {
            match name {
                $(stringify!($name) => Some(visitor.visit::<$name>()),)+
                _ => None,
            }
        }
    };
}

operations! {
    0 Check check CheckRequest -> CheckResponse, check_now;
    1 Write write WriteRequest -> WriteResponse;
    2 Read read ReadRequest -> ReadResponse;
    3 ReadChanges read_changes ReadChangesRequest -> ReadChangesResponse;
    4 CreateStore create_store CreateStoreRequest -> CreateStoreResponse;
    5 GetStore get_store GetStoreRequest -> GetStoreResponse;
    6 ListStores list_stores ListStoresRequest -> ListStoresResponse;
    7 DeleteStore delete_store DeleteStoreRequest -> DeleteStoreResponse;
    8 WriteAuthorizationModel write_authorization_model WriteAuthorizationModelRequest -> WriteAuthorizationModelResponse;
    9 ReadAuthorizationModel read_authorization_model ReadAuthorizationModelRequest -> ReadAuthorizationModelResponse;
    10 ReadAuthorizationModels read_authorization_models ReadAuthorizationModelsRequest -> ReadAuthorizationModelsResponse;
    11 WriteAssertions write_assertions WriteAssertionsRequest -> WriteAssertionsResponse;
    12 ReadAssertions read_assertions ReadAssertionsRequest -> ReadAssertionsResponse;
    13 BatchCheck batch_check BatchCheckRequest -> BatchCheckResponse;
    14 Expand expand ExpandRequest -> ExpandResponse;
    15 ListObjects list_objects ListObjectsRequest -> ListObjectsResponse;
    16 ListUsers list_users ListUsersRequest -> ListUsersResponse;
}
