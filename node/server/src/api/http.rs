//! HTTP: the routes of OpenFGA's gateway, JSON in and out.
//!
//! Nothing is decided here: a route names its call, its path and query fill the call's message, and errors become the
//! JSON body. Unknown fields are ignored and empty ones shown, as upstream does.

mod authzen;
pub(crate) mod flows;
mod query;
mod streamed;

use std::sync::Arc;

use ::http::request::Parts;
use ::http::{HeaderValue, StatusCode, header};
use axum::Router;
use axum::body::Body;
use axum::extract::{FromRequestParts, RawPathParams, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, get, on};
use meridian_model::{ApiError, Code};
use meridian_proto::openfga::v1;
use prost::Message;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::api::fields::InvalidFields;
use crate::api::grpc::Readiness;
use crate::api::operations::{
    BatchCheck, Check, CreateStore, DeleteStore, Expand, GetStore, ListObjects, ListStores,
    ListUsers, Read, ReadAssertions, ReadAuthorizationModel, ReadAuthorizationModels, ReadChanges,
    Served, Write, WriteAssertions, WriteAuthorizationModel,
};
use crate::api::streamed::{StreamedBatchCheck, StreamedListObjects};
use crate::api::timely::late;
use crate::api::{Api, NotAdmitted, Outcome, Rejection, headers};
use crate::calls::Refusal;
use crate::limits::Limits;
use query::Query;
use streamed::{stream_refused, streamed};

/// JSON takes more room than the protobuf message that the size limit is about.
const JSON_FACTOR: usize = 2;
const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// The routes whose errors have another form.
const STREAMED_LIST: &str = "/streamed-list-objects";
const STREAMED_BATCH: &str = "/streamed-batch-check";
const POST: MethodFilter = MethodFilter::POST;

/// The variable parts of a path.
#[derive(Default)]
struct Ids {
    store: String,
    model: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Ids {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let params = params.map_err(|why| invalid(&format!("parsing the path: {why}")))?;
        let mut ids = Self::default();
        for (name, value) in &params {
            match name {
                "store_id" => ids.store = value.to_owned(),
                _ => ids.model = value.to_owned(),
            }
        }
        Ok(ids)
    }
}

/// The routes of a node's HTTP port.
pub fn router(api: Arc<Api>, readiness: Readiness) -> Router {
    let of_store = |rest: &str| format!("/stores/{{store_id}}{rest}");
    let get_store = query::<GetStore>(MethodFilter::GET, StatusCode::OK, |ids, _| {
        Ok(v1::GetStoreRequest {
            store_id: ids.store,
        })
    });
    let delete_store =
        query::<DeleteStore>(MethodFilter::DELETE, StatusCode::NO_CONTENT, |ids, _| {
            Ok(v1::DeleteStoreRequest {
                store_id: ids.store,
            })
        });
    let write_model = body::<WriteAuthorizationModel>(StatusCode::CREATED, |request, ids| {
        request.store_id = ids.store
    });
    let read_model =
        query::<ReadAuthorizationModel>(MethodFilter::GET, StatusCode::OK, |ids, _| {
            Ok(v1::ReadAuthorizationModelRequest {
                store_id: ids.store,
                id: ids.model,
            })
        });
    let assertions = put::<WriteAssertions>(StatusCode::NO_CONTENT, |request, ids| {
        request.store_id = ids.store;
        request.authorization_model_id = ids.model;
    })
    .merge(query::<ReadAssertions>(
        MethodFilter::GET,
        StatusCode::OK,
        |ids, _| {
            Ok(v1::ReadAssertionsRequest {
                store_id: ids.store,
                authorization_model_id: ids.model,
            })
        },
    ));
    let routes = Router::new()
        .route(
            "/stores",
            body::<CreateStore>(StatusCode::CREATED, |_, _| ()).merge(query::<ListStores>(
                MethodFilter::GET,
                StatusCode::OK,
                list_stores,
            )),
        )
        .route(
            &of_store(""),
            get_store
                .merge(delete_store)
                .merge(unimplemented(MethodFilter::PATCH, "UpdateStore")),
        )
        .route(
            &of_store("/check"),
            body::<Check>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("/read"),
            body::<Read>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("/write"),
            body::<Write>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("/changes"),
            query::<ReadChanges>(MethodFilter::GET, StatusCode::OK, read_changes),
        )
        .route(
            &of_store("/authorization-models"),
            write_model.merge(query::<ReadAuthorizationModels>(
                MethodFilter::GET,
                StatusCode::OK,
                read_models,
            )),
        )
        .route(&of_store("/authorization-models/{model_id}"), read_model)
        .route(
            &of_store("/batch-check"),
            body::<BatchCheck>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("/expand"),
            body::<Expand>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("/list-objects"),
            body::<ListObjects>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store(STREAMED_LIST),
            on(POST, streamed::<StreamedListObjects>),
        )
        .route(
            &of_store(STREAMED_BATCH),
            on(POST, streamed::<StreamedBatchCheck>),
        )
        .route(
            &of_store("/list-users"),
            body::<ListUsers>(StatusCode::OK, |request, ids| request.store_id = ids.store),
        )
        .route(&of_store("/assertions/{model_id}"), assertions)
        .merge(authzen::routes())
        .route_layer(from_fn_with_state(Arc::clone(&api), admitted))
        .with_state(Arc::clone(&api));
    with_health(routes, readiness).layer(from_fn_with_state(api, signed))
}

/// Adds health, and what is answered where there is nothing.
pub(crate) fn with_health(routes: Router, readiness: Readiness) -> Router {
    routes
        .route("/healthz", get(async move || health(&readiness)))
        .route(
            "/livez",
            get(async || json(StatusCode::OK, &Health { status: "ALIVE" })),
        )
        .method_not_allowed_fallback(not_allowed)
        .fallback(async || refused(&ApiError::new(Code::UndefinedEndpoint, "Not Found")))
}

async fn not_allowed() -> Response {
    refused(&ApiError::new(Code::Unimplemented, "Method Not Allowed"))
}

/// Has routes of other parts be called by those who may call these.
pub(crate) fn beside(api: &Arc<Api>, routes: Router) -> Router {
    routes
        .method_not_allowed_fallback(not_allowed)
        .route_layer(from_fn_with_state(Arc::clone(api), admitted))
        .layer(from_fn_with_state(Arc::clone(api), signed))
}

/// Lets those through who may call. Health is asked by whoever has nothing to show.
async fn admitted(State(api): State<Arc<Api>>, mut request: Request, next: Next) -> Response {
    if let Err(malformed) = headers::check_timeout(request.headers_mut()) {
        return error(
            StatusCode::BAD_REQUEST,
            Code::ValidationError.name(),
            &malformed,
        );
    }
    match api.admit(&mut request).await {
        Ok(()) => next.run(request).await,
        Err(NotAdmitted { error, request_id }) => {
            let path = request.uri().path();
            let mut response = if path.ends_with(STREAMED_LIST) || path.ends_with(STREAMED_BATCH) {
                stream_refused(&Refusal::from(error).into())
            } else {
                refused(&error)
            };
            api.sign_as(request_id, response.headers_mut());
            response
        }
    }
}

/// Says where every answer comes from, whatever became of its request. Not of gRPC that came to this port: a client told
/// so would take it for an answer of the service it asked.
async fn signed(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let content = request.headers().get(header::CONTENT_TYPE);
    let is_grpc = content.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    let mut response = next.run(request).await;
    if !is_grpc {
        api.sign(response.headers_mut());
    }
    response
}

/// A POST whose message is the JSON body; `place` puts the path's parts into it.
fn body<O: Served>(success: StatusCode, place: fn(&mut O::Request, Ids)) -> MethodRouter<Arc<Api>> {
    with_body::<O>(POST, success, place)
}

/// As [`body`], a PUT.
fn put<O: Served>(success: StatusCode, place: fn(&mut O::Request, Ids)) -> MethodRouter<Arc<Api>> {
    with_body::<O>(MethodFilter::PUT, success, place)
}

fn with_body<O: Served>(
    method: MethodFilter,
    success: StatusCode,
    place: fn(&mut O::Request, Ids),
) -> MethodRouter<Arc<Api>> {
    on(
        method,
        async move |State(api): State<Arc<Api>>, ids: Ids, request: Request| {
            let (parts, body) = request.into_parts();
            match decode::<O::Request>(body, api.limits()).await {
                Ok(mut message) => {
                    place(&mut message, ids);
                    answer::<O>(&api, &parts, message, success).await
                }
                Err(response) => response,
            }
        },
    )
}

/// A route without a body: its message is made of the path and the query.
fn query<O: Served>(
    method: MethodFilter,
    success: StatusCode,
    message: fn(Ids, &Query) -> Result<O::Request, InvalidFields>,
) -> MethodRouter<Arc<Api>> {
    on(
        method,
        async move |State(api): State<Arc<Api>>, ids: Ids, request: Request| {
            let (parts, _) = request.into_parts();
            match Query::of(&parts.uri).and_then(|query| message(ids, &query)) {
                Ok(message) => answer::<O>(&api, &parts, message, success).await,
                Err(fields) => error(StatusCode::BAD_REQUEST, fields.code, &fields.message),
            }
        },
    )
}

fn unimplemented(method: MethodFilter, name: &'static str) -> MethodRouter<Arc<Api>> {
    on(method, async move || {
        refused(&ApiError::new(
            Code::Unimplemented,
            format!("method {name} not implemented"),
        ))
    })
}

fn list_stores(_: Ids, query: &Query) -> Result<v1::ListStoresRequest, InvalidFields> {
    Ok(v1::ListStoresRequest {
        page_size: query.page_size()?,
        continuation_token: query.continuation_token(),
        name: query.text("name"),
    })
}

fn read_models(
    ids: Ids,
    query: &Query,
) -> Result<v1::ReadAuthorizationModelsRequest, InvalidFields> {
    Ok(v1::ReadAuthorizationModelsRequest {
        store_id: ids.store,
        page_size: query.page_size()?,
        continuation_token: query.continuation_token(),
    })
}

fn read_changes(ids: Ids, query: &Query) -> Result<v1::ReadChangesRequest, InvalidFields> {
    Ok(v1::ReadChangesRequest {
        store_id: ids.store,
        r#type: query.text("type"),
        page_size: query.page_size()?,
        continuation_token: query.continuation_token(),
        start_time: query.time("start_time")?,
    })
}

/// Reads a message; an empty body is an empty message. A body that trickles in is not waited for.
async fn decode<T>(body: Body, limits: &Limits) -> Result<T, Response>
where
    T: Message + Default + DeserializeOwned,
{
    let limit = limits.request_bytes;
    let read = axum::body::to_bytes(body, limit.saturating_mul(JSON_FACTOR));
    let read = tokio::time::timeout(limits.body_timeout, read).await;
    let bytes = read
        .map_err(|_| refused(&late(limits.body_timeout)))?
        .map_err(|why| unreadable(why, limit))?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    let message: T =
        serde_json::from_slice(&bytes).map_err(|why| invalid(&format!("malformed JSON: {why}")))?;
    if message.encoded_len() > limit {
        Err(too_large(limit))
    } else {
        Ok(message)
    }
}

fn unreadable(why: axum::Error, limit: usize) -> Response {
    let over_limit = why.into_inner().is::<http_body_util::LengthLimitError>();
    if over_limit {
        too_large(limit)
    } else {
        invalid("the request's body ended early")
    }
}

fn invalid(message: &str) -> Response {
    refused(&ApiError::validation(message))
}

fn too_large(limit: usize) -> Response {
    let message =
        format!("the request is larger than {limit} bytes (limits.requestBytes); send less in one");
    error(
        StatusCode::PAYLOAD_TOO_LARGE,
        Code::ResourceExhausted.name(),
        &message,
    )
}

async fn answer<O: Served>(
    api: &Api,
    asked: &Parts,
    message: O::Request,
    success: StatusCode,
) -> Response {
    let called = api.call::<O>(&asked.headers, &asked.extensions, message);
    let Outcome { result, headers } = called.await;
    let mut response = match result {
        Ok(_) if success == StatusCode::NO_CONTENT => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = success;
            response.headers_mut().insert(header::CONTENT_TYPE, JSON);
            response
        }
        Ok(body) => json(success, &body),
        Err(rejection) => reject(&rejection),
    };
    response.headers_mut().extend(headers);
    response
}

fn reject(rejection: &Rejection) -> Response {
    match rejection {
        Rejection::Fields(fields) => error(StatusCode::BAD_REQUEST, fields.code, &fields.message),
        Rejection::Refused(refusal) => refused(&refusal.error),
    }
}

pub(crate) fn refused(refusal: &ApiError) -> Response {
    let status = StatusCode::from_u16(refusal.code.http_status())
        .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    error(status, refusal.code.name(), &refusal.message)
}

pub(crate) fn error(status: StatusCode, code: &str, message: &str) -> Response {
    json(status, &ErrorBody { code, message })
}

/// What every error looks like.
#[derive(Serialize)]
struct ErrorBody<'a> {
    code: &'a str,
    message: &'a str,
}

pub(crate) fn json(status: StatusCode, body: &impl Serialize) -> Response {
    let (status, bytes) = match serde_json::to_vec(body) {
        Ok(bytes) => (status, bytes),
        Err(why) => {
            tracing::error!(error = %why, "cannot encode an answer as JSON");
            (StatusCode::INTERNAL_SERVER_ERROR, Vec::new())
        }
    };
    let mut response = Response::new(Body::from(bytes));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, JSON);
    response
}

fn health(readiness: &Readiness) -> Response {
    if readiness.is_ready() {
        json(StatusCode::OK, &Health { status: "SERVING" })
    } else {
        json(
            StatusCode::SERVICE_UNAVAILABLE,
            &Health {
                status: "NOT_SERVING",
            },
        )
    }
}

#[derive(Serialize)]
struct Health {
    status: &'static str,
}
