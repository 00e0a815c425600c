//! `POST /stores/{store_id}/live/publish`: records to the topic, for those who would rather not speak to Kafka.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::post;
use http::StatusCode;
use meridian_live_channel::record::check_objects;
use meridian_model::{ApiError, Code, StoreId};
use meridian_sync::kafka::live::{Publication, Publisher};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::stores::Stores;
use crate::api::http::{json, refused};
use crate::api::timely::late;
use crate::commands::errors::store_not_found;
use crate::limits::Limits;
use crate::lookup::Found;

/// Records of one request.
const MAX_RECORDS: usize = 1000;
/// Largest data of one record, in bytes.
const MAX_DATA: usize = 256 * 1024;
/// Longest that Kafka may take to acknowledge.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(3);

/// Writes records.
pub struct Publishing {
    /// To where.
    pub publisher: Arc<Publisher>,
    /// Which stores there are; `None` where any may be one, for somebody else decides who sees what.
    pub stores: Option<Arc<Stores>>,
    /// What a request may ask for.
    pub limits: Limits,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    records: Vec<Asked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    object: String,
    #[serde(default)]
    objects: Vec<String>,
    data: Box<RawValue>,
}

#[derive(Serialize)]
struct Reply {
    published: usize,
}

impl Publishing {
    /// The route. Who calls is for others to find out.
    pub fn router(self) -> Router {
        let route = post(publish).with_state(Arc::new(self));
        Router::new().route("/stores/{store_id}/live/publish", route)
    }
}

async fn publish(
    State(publishing): State<Arc<Publishing>>,
    Path(store): Path<String>,
    body: Body,
) -> Response {
    match publishing.publish(&store, body).await {
        Ok(published) => json(StatusCode::OK, &Reply { published }),
        Err(error) => refused(&error),
    }
}

impl Publishing {
    async fn publish(&self, store: &str, body: Body) -> Result<usize, ApiError> {
        let store: StoreId = store
            .parse()
            .map_err(|why| ApiError::validation(format!("store_id '{store}' {why}")))?;
        let limit = self.limits.request_bytes;
        let read = axum::body::to_bytes(body, limit);
        let read = tokio::time::timeout(self.limits.body_timeout, read).await;
        let bytes = read.map_err(|_| late(self.limits.body_timeout))?;
        let too_large = |_| {
            let why = format!(
                "the request is larger than {limit} bytes (limits.requestBytes), or ended early; send less in one"
            );
            ApiError::new(Code::ResourceExhausted, why)
        };
        let request: Request = serde_json::from_slice(&bytes.map_err(too_large)?)
            .map_err(|why| ApiError::validation(format!("malformed JSON: {why}")))?;
        let records = publications(store, request.records)?;
        if let Some(stores) = &self.stores
            && stores.find(store).await == Found::Missing
        {
            return Err(store_not_found());
        }
        self.publisher.publish(&records).await.map_err(|error| {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "records could not be written to Kafka"
            );
            ApiError::new(
                Code::Unavailable,
                "Kafka takes no records now; some may have been written. Try again",
            )
        })?;
        Ok(records.len())
    }
}

fn publications(store: StoreId, records: Vec<Asked>) -> Result<Vec<Publication>, ApiError> {
    if records.is_empty() || records.len() > MAX_RECORDS {
        let why = format!(
            "records: send 1 to {MAX_RECORDS} of them, not {}",
            records.len()
        );
        return Err(ApiError::validation(why));
    }
    let publication = |(at, record): (usize, Asked)| {
        let invalid = |why: String| ApiError::validation(format!("records[{at}]: {why}"));
        check_objects(&record.object, &record.objects).map_err(|why| invalid(why.to_string()))?;
        if record.objects.iter().any(|object| object.contains(',')) {
            return Err(invalid(
                "objects: an id with a comma cannot be told apart".into(),
            ));
        }
        let value = record.data.get();
        if value.len() > MAX_DATA {
            return Err(invalid(format!("data is larger than {MAX_DATA} bytes")));
        }
        Ok(Publication {
            key: record.object,
            value: value.to_owned(),
            store: store.to_string(),
            objects: record.objects.join(","),
        })
    };
    records.into_iter().enumerate().map(publication).collect()
}
