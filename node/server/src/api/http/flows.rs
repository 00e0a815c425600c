//! Flows over HTTP: the calls of `meridian.v1.FlowService` by path and query, times in RFC 3339.

use std::sync::Arc;
use std::time::Duration;

use ::http::StatusCode;
use axum::Router;
use axum::extract::{FromRef, Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use meridian_model::Code;
use meridian_proto::google::Timestamp;
use meridian_proto::meridian::v1 as wire;
use meridian_proto::meridian::v1::flow_service_server::FlowService as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};
use tonic::Status;

use super::query::Query;
use super::{error, json as answer};
use crate::api::fields::InvalidFields;
use crate::api::timely::late;
use crate::flows::Flows;
use crate::limits::Limits;

/// Bytes of a body at most.
const BODY: usize = 64 * 1024;
const MICROS: i64 = 1_000_000;

/// The routes of a node that has flows.
pub(crate) fn routes(flows: Arc<Flows>, limits: &Limits) -> Router {
    let patience = Patience(limits.body_timeout);
    Router::new()
        .route("/stores/{store_id}/flows", get(list))
        .route("/stores/{store_id}/flows/{id}", get(one))
        .route("/stores/{store_id}/flow-stats", get(stats))
        .route("/stores/{store_id}/flow-activity", get(days))
        .route("/stores/{store_id}/flows/purge", post(purge))
        .route(
            "/stores/{store_id}/flow-recorder",
            get(recorder).patch(set_recorder),
        )
        .with_state(Served { flows, patience })
}

#[derive(Clone)]
struct Served {
    flows: Arc<Flows>,
    patience: Patience,
}

/// How long a body may take to arrive.
#[derive(Clone, Copy)]
struct Patience(Duration);

impl FromRef<Served> for Arc<Flows> {
    fn from_ref(served: &Served) -> Self {
        Arc::clone(&served.flows)
    }
}

impl FromRef<Served> for Patience {
    fn from_ref(served: &Served) -> Self {
        served.patience
    }
}

/// Why a call is not answered, as its client is told it.
struct Refused(Response);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        self.0
    }
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        let (http, code) = match status.code() {
            tonic::Code::InvalidArgument | tonic::Code::FailedPrecondition => {
                (StatusCode::BAD_REQUEST, Code::ValidationError.name())
            }
            tonic::Code::NotFound => (StatusCode::NOT_FOUND, "flow_not_found"),
            tonic::Code::DeadlineExceeded => {
                (StatusCode::GATEWAY_TIMEOUT, Code::DeadlineExceeded.name())
            }
            tonic::Code::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable.name()),
            _ => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal.name()),
        };
        Self(error(http, code, status.message()))
    }
}

impl From<InvalidFields> for Refused {
    fn from(InvalidFields { code, message }: InvalidFields) -> Self {
        Self(error(StatusCode::BAD_REQUEST, code, &message))
    }
}

type Answer = Result<Response, Refused>;

fn shown(body: &Value) -> Response {
    answer(StatusCode::OK, body)
}

/// What flows may be listed by.
const FILTERS: [&str; 11] = [
    "from",
    "to",
    "client_id",
    "user",
    "status",
    "kind",
    "step",
    "error_code",
    "page_size",
    "continuation_token",
    "count",
];

async fn list(
    State(flows): State<Arc<Flows>>,
    Path(store_id): Path<String>,
    http: Request,
) -> Answer {
    let query = Query::among(http.uri(), &FILTERS)?;
    let size = query.page_size()?;
    let request = wire::ListFlowsRequest {
        store_id,
        filter: Some(wire::FlowFilter {
            from_micros: micros(&query, "from")?,
            to_micros: micros(&query, "to")?,
            client_id: query.text("client_id"),
            user: query.text("user"),
            status: query.text("status"),
            step: query.text("step"),
            error_code: query.text("error_code"),
            kind: query.text("kind"),
        }),
        page_size: size.map(flows_of_a_page).transpose()?,
        continuation_token: query.continuation_token(),
        count: query.flag("count")?,
    };
    let reply = flows.list_flows(tonic::Request::new(request)).await;
    let reply = reply?.into_inner();
    let flows: Vec<_> = reply.flows.iter().map(flow).collect();
    let mut body = json!({ "flows": flows, "continuation_token": reply.continuation_token });
    if let (Some(total), Some(body)) = (reply.total, body.as_object_mut()) {
        body.insert("total".to_owned(), json!(total));
        let is_minimum = json!(reply.total_is_minimum);
        body.insert("total_is_minimum".to_owned(), is_minimum);
    }
    Ok(shown(&body))
}

async fn one(
    State(flows): State<Arc<Flows>>,
    Path((store_id, id)): Path<(String, String)>,
    http: Request,
) -> Answer {
    let query = Query::among(http.uri(), &["explain"])?;
    let request = wire::GetFlowRequest {
        store_id,
        id,
        explain: query.flag("explain")?,
    };
    let reply = flows.get_flow(tonic::Request::new(request)).await;
    let reply = reply?.into_inner();
    let mut body = json!({ "flow": reply.flow.as_ref().map(flow), "steps": steps(&reply.steps) });
    if let (Some(why), Some(body)) = (&reply.explanation, body.as_object_mut()) {
        let mut explanation = parsed(&why.json);
        if let Some(explanation) = explanation.as_object_mut() {
            explanation.insert("revision".to_owned(), json!(why.revision));
            explanation.insert("kept".to_owned(), json!(why.kept));
        }
        body.insert("explanation".to_owned(), explanation);
    }
    if let (Some(session), Some(body)) = (&reply.session, body.as_object_mut()) {
        let session = json!({
            "id": session.id,
            "node": session.node,
            "user_id": session.user_id,
            "connected_at": time(session.connected_at_micros),
            "ended_at": session.ended_at_micros.map(time),
            "close_code": session.close_code,
        });
        body.insert("session".to_owned(), session);
    }
    Ok(shown(&body))
}

async fn stats(
    State(flows): State<Arc<Flows>>,
    Path(store_id): Path<String>,
    http: Request,
) -> Answer {
    let query = Query::among(http.uri(), &["from", "to"])?;
    let request = wire::GetFlowStatsRequest {
        store_id,
        from_micros: micros(&query, "from")?,
        to_micros: micros(&query, "to")?,
    };
    let reply = flows.get_flow_stats(tonic::Request::new(request)).await;
    let reply = reply?.into_inner();
    let counts = reply.counts.iter().map(|count| {
        json!({
            "kind": count.kind,
            "status": count.status,
            "flows": count.flows,
            "average_ms": count.average_ms,
            "longest_ms": count.longest_ms,
        })
    });
    let errors = reply.errors.iter();
    let errors = errors.map(|error| json!({ "code": error.code, "steps": error.steps }));
    let (counts, errors): (Vec<_>, Vec<_>) = (counts.collect(), errors.collect());
    Ok(shown(
        &json!({ "total": reply.total, "since": reply.since_micros.map(time), "counts": counts, "errors": errors }),
    ))
}

async fn days(
    State(flows): State<Arc<Flows>>,
    Path(store_id): Path<String>,
    http: Request,
) -> Answer {
    let query = Query::among(http.uri(), &["days", "to"])?;
    let days = match query.text("days") {
        none if none.is_empty() => None,
        text => Some(text.parse().map_err(|_| {
            let told = format!("days is '{text}': use a whole number, 1 to 366");
            Status::invalid_argument(told)
        })?),
    };
    let request = wire::GetDailyActivityRequest {
        store_id,
        days,
        to_micros: micros(&query, "to")?,
    };
    let reply = flows.get_daily_activity(tonic::Request::new(request)).await;
    let reply = reply?.into_inner();
    let days = reply.days.iter().map(|day| {
        json!({ "date": day.date, "total": day.total, "succeeded": day.succeeded, "failed": day.failed })
    });
    let days: Vec<_> = days.collect();
    let since = reply.since_micros.map(time);
    Ok(shown(&json!({ "since": since, "days": days })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Purge {
    before: String,
}

async fn purge(
    State(flows): State<Arc<Flows>>,
    State(patience): State<Patience>,
    Path(store_id): Path<String>,
    http: Request,
) -> Answer {
    let Purge { before } = body(http, patience).await?;
    let before = before.parse().map_err(|_| {
        let told = format!("before is '{before}', which is no time like 2026-01-31T12:00:00Z");
        Status::invalid_argument(told)
    })?;
    let request = wire::PurgeFlowsRequest {
        store_id,
        before_micros: to_micros(&before),
    };
    let reply = flows.purge_flows(tonic::Request::new(request)).await;
    let reply = reply?.into_inner();
    Ok(shown(
        &json!({ "purged": reply.purged, "more": reply.more }),
    ))
}

async fn recorder(State(flows): State<Arc<Flows>>, Path(store_id): Path<String>) -> Answer {
    let request = wire::GetRecorderRequest { store_id };
    let reply = flows.get_recorder(tonic::Request::new(request)).await;
    let reply = reply?.into_inner();
    Ok(shown(&of_recorder(&reply)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetRecorder {
    #[serde(default, deserialize_with = "given")]
    enabled: Option<Option<bool>>,
    #[serde(default, deserialize_with = "given")]
    sampling: Option<Option<f64>>,
    #[serde(default, deserialize_with = "given")]
    retention_seconds: Option<Option<u64>>,
    process_enabled: Option<bool>,
}

/// Tells `null` from what is not there.
fn given<'de, D, T>(from: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(from).map(Some)
}

async fn set_recorder(
    State(flows): State<Arc<Flows>>,
    State(patience): State<Patience>,
    Path(store_id): Path<String>,
    http: Request,
) -> Answer {
    let set: SetRecorder = body(http, patience).await?;
    let unset = [
        ("enabled", set.enabled == Some(None)),
        ("sampling", set.sampling == Some(None)),
        ("retention_seconds", set.retention_seconds == Some(None)),
    ];
    let unset = unset.into_iter().filter(|(_, is_null)| *is_null);
    let request = wire::SetRecorderRequest {
        store_id,
        enabled: set.enabled.flatten(),
        sampling: set.sampling.flatten(),
        retention_seconds: set.retention_seconds.flatten(),
        process_enabled: set.process_enabled,
        unset: unset.map(|(name, _)| name.to_owned()).collect(),
    };
    let reply = flows.set_recorder(tonic::Request::new(request)).await;
    let reply = reply.map_err(|status| match status.code() {
        tonic::Code::NotFound => {
            let code = Code::StoreIdNotFound.name();
            Refused(error(StatusCode::NOT_FOUND, code, status.message()))
        }
        _ => status.into(),
    });
    let reply = reply?.into_inner();
    Ok(shown(&of_recorder(&reply.recorder.unwrap_or_default())))
}

async fn body<T: for<'de> Deserialize<'de>>(
    http: Request,
    Patience(limit): Patience,
) -> Result<T, Refused> {
    let wrong = |why: String| Refused::from(Status::invalid_argument(why));
    let bytes = axum::body::to_bytes(http.into_body(), BODY);
    let bytes = tokio::time::timeout(limit, bytes).await;
    let bytes = bytes.map_err(|_| Refused(super::refused(&late(limit))))?;
    let bytes = bytes.map_err(|why| wrong(format!("reading the body: {why}")))?;
    let fields: Map<String, Value> = serde_json::from_slice(&bytes)
        .map_err(|why| wrong(format!("the body is not a JSON object: {why}")))?;
    T::deserialize(Value::Object(fields)).map_err(|why| wrong(format!("the body: {why}")))
}

fn of_recorder(recorder: &wire::GetRecorderResponse) -> Value {
    json!({
        "process_enabled": recorder.process_enabled,
        "enabled": recorder.enabled,
        "sampling": recorder.sampling,
        "retention_seconds": recorder.retention_seconds,
    })
}

fn flows_of_a_page(size: i32) -> Result<u32, Status> {
    let told = |_| Status::invalid_argument(format!("page_size is {size}: use 1 to 100"));
    u32::try_from(size).map_err(told)
}

fn micros(query: &Query, name: &str) -> Result<Option<i64>, InvalidFields> {
    let time = query.time(name)?;
    Ok(time.map(|time| to_micros(&time)))
}

fn to_micros(time: &Timestamp) -> i64 {
    let seconds = time.seconds.saturating_mul(MICROS);
    seconds.saturating_add(i64::from(time.nanos) / 1000)
}

fn time(micros: i64) -> String {
    let part = i32::try_from(micros.rem_euclid(MICROS)).unwrap_or(0);
    Timestamp {
        seconds: micros.div_euclid(MICROS),
        nanos: part * 1000,
    }
    .to_string()
}

fn flow(flow: &wire::Flow) -> Value {
    let decision = flow.decision.as_ref().map(|decision| {
        json!({
            "operation": decision.operation,
            "object": decision.object,
            "relation": decision.relation,
            "user": decision.user,
            "allowed": decision.allowed,
            "revision": decision.revision,
            "authorization_model_id": decision.authorization_model_id,
            "served_by": decision.served_by,
            "details": parsed(&decision.details),
            "explanation_kept": decision.explanation_kept,
        })
    });
    json!({
        "id": flow.id,
        "store_id": flow.store_id,
        "kind": flow.kind,
        "status": flow.status,
        "started_at": time(flow.started_at_micros),
        "completed_at": flow.completed_at_micros.map(time),
        "duration_ms": flow.duration_ms,
        "client_id": flow.client_id,
        "grant_type": flow.grant_type,
        "user_id": flow.user_id,
        "ip": flow.ip,
        "user_agent": flow.user_agent,
        "decision": decision,
    })
}

fn steps(steps: &[wire::FlowStep]) -> Value {
    let steps = steps.iter().map(|step| {
        json!({
            "order": step.order,
            "name": step.name,
            "status": step.status,
            "duration_ms": step.duration_ms,
            "error_code": step.error_code,
            "error_message": step.error_message,
            "at": time(step.at_micros),
        })
    });
    steps.collect()
}

/// A flow and its steps, as these routes show them.
pub(crate) fn shown_flow(of: &wire::Flow, its: &[wire::FlowStep]) -> (Value, Value) {
    (flow(of), steps(its))
}

/// What stands as JSON in a message.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_default()
}
