//! What is asked of flows, checked.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meridian_flow::recorder::{Change, OverridesChange};
use meridian_flow::{FlowId, FlowKind};
use meridian_model::Timestamp;
use meridian_proto::meridian::v1 as wire;
use tonic::Status;

use super::{FlowFilter, FlowStatus};

const DEFAULT_PAGE: u32 = 50;
const LARGEST_PAGE: u32 = 100;
const DEFAULT_DAYS: u32 = 30;
const MOST_DAYS: u32 = 366;
/// Bytes of a text in a filter.
const LONGEST: usize = 512;
const SHORTEST_RETENTION: u64 = 60 * 60;
/// What can be set of a store.
const SETTINGS: [&str; 3] = ["enabled", "sampling", "retention_seconds"];
const LONGEST_RETENTION: u64 = 100 * 365 * 24 * 60 * 60;

fn invalid(what: impl Into<String>) -> Status {
    Status::invalid_argument(what)
}

pub(super) fn filter(asked: wire::FlowFilter) -> Result<FlowFilter, Status> {
    if let (Some(from), Some(to)) = (asked.from_micros, asked.to_micros) {
        in_order(from, to)?;
    }
    let text = |field: &str, text: String| match text.len() {
        0 => Ok(None),
        1..=LONGEST => Ok(Some(text)),
        _ => Err(invalid(format!(
            "filter.{field} is longer than {LONGEST} bytes"
        ))),
    };
    Ok(FlowFilter {
        from: asked.from_micros.map(Timestamp),
        to: asked.to_micros.map(Timestamp),
        client_id: text("client_id", asked.client_id)?,
        user: text("user", asked.user)?,
        status: named("status", &asked.status, FlowStatus::ALL, FlowStatus::name)?,
        kind: named("kind", &asked.kind, FlowKind::ALL, FlowKind::name)?,
        step: text("step", asked.step)?,
        error_code: text("error_code", asked.error_code)?,
    })
}

fn named<T: Copy>(
    field: &str,
    text: &str,
    all: &[T],
    name: fn(T) -> &'static str,
) -> Result<Option<T>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let found = all.iter().copied().find(|one| name(*one) == text);
    found.map(Some).ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|one| name(*one)).collect();
        let names = names.join(", ");
        invalid(format!("filter.{field} is '{text}': use one of {names}"))
    })
}

pub(super) fn in_order(from: i64, to: i64) -> Result<(), Status> {
    if from < to {
        return Ok(());
    }
    Err(invalid("from must be before to"))
}

pub(super) fn page_size(asked: Option<u32>) -> Result<u32, Status> {
    let size = asked.unwrap_or(DEFAULT_PAGE);
    if (1..=LARGEST_PAGE).contains(&size) {
        return Ok(size);
    }
    Err(invalid(format!(
        "page_size is {size}: use 1 to {LARGEST_PAGE}"
    )))
}

pub(super) fn days(asked: Option<u32>) -> Result<u32, Status> {
    let days = asked.unwrap_or(DEFAULT_DAYS);
    if (1..=MOST_DAYS).contains(&days) {
        return Ok(days);
    }
    Err(invalid(format!("days is {days}: use 1 to {MOST_DAYS}")))
}

pub(super) fn to_token(last: FlowId) -> String {
    URL_SAFE_NO_PAD.encode(last.to_string())
}

pub(super) fn token(text: &str) -> Result<Option<FlowId>, Status> {
    if text.is_empty() {
        return Ok(None);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let id = bytes.and_then(|bytes| String::from_utf8(bytes).ok()?.parse().ok());
    let told = "continuation_token is none: use the one of the answer before, or none";
    id.map(Some).ok_or_else(|| invalid(told))
}

pub(super) fn overrides(asked: &wire::SetRecorderRequest) -> Result<OverridesChange, Status> {
    if let Some(sampling) = asked.sampling.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(invalid(format!("sampling is {sampling}: use 0 to 1")));
    }
    let range = SHORTEST_RETENTION..=LONGEST_RETENTION;
    if let Some(keep) = asked.retention_seconds.filter(|keep| !range.contains(keep)) {
        return Err(invalid(format!(
            "retention_seconds is {keep}: use {SHORTEST_RETENTION} (one hour) to {LONGEST_RETENTION} (100 years)"
        )));
    }
    let unset = &asked.unset;
    if let Some(odd) = unset.iter().find(|name| !SETTINGS.contains(&name.as_str())) {
        let names = SETTINGS.join(", ");
        return Err(invalid(format!("unset names '{odd}': use any of {names}")));
    }
    let [enabled, sampling, retention] = SETTINGS;
    Ok(OverridesChange {
        enabled: change(enabled, asked.enabled, unset)?,
        sampling: change(sampling, asked.sampling, unset)?,
        retention: change(retention, asked.retention_seconds, unset)?.map(Duration::from_secs),
    })
}

fn change<T>(name: &str, set: Option<T>, unset: &[String]) -> Result<Change<T>, Status> {
    match (set, unset.iter().any(|unset| unset == name)) {
        (Some(_), true) => Err(invalid(format!("{name} is set and unset: do one of them"))),
        (None, true) => Ok(Change::Unset),
        (set, false) => Ok(set.into()),
    }
}
