//! StreamedListObjects: findings go out as they are found.

use std::sync::Arc;
use std::time::Instant;

use http::{Extensions, HeaderMap};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Api, Outcome, Rejection, headers};
use crate::api::fields::Fields;
use crate::calls::Answer;

/// Findings that wait for a slow client; then the listing waits.
const AHEAD: usize = 256;

/// The objects of a listing under way. Dropped, it ends the listing.
pub struct Objects {
    first: Option<String>,
    names: mpsc::Receiver<String>,
    listing: Option<AbortOnDropHandle<Answer<()>>>,
}

impl Objects {
    /// The next object; an error is the last there is.
    pub async fn next(&mut self) -> Option<Result<String, Rejection>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        if let Some(name) = self.names.recv().await {
            return Some(Ok(name));
        }
        match self.listing.take()?.await {
            Ok(Ok(reply)) => {
                if reply.truncated {
                    tracing::info!(
                        "a streamed listing was cut short by its deadline or the work it may take"
                    );
                }
                None
            }
            Ok(Err(refusal)) => Some(Err(refusal.into())),
            Err(_) => None,
        }
    }
}

impl Api {
    /// Begins a streamed listing. What is refused at once, without any object, is refused here.
    pub async fn stream_objects(
        &self,
        (request_headers, extensions): (&HeaderMap, &Extensions),
        request: v1::StreamedListObjectsRequest,
    ) -> Outcome<Objects> {
        let started = Instant::now();
        let request_id = self.request_id();
        let mut answer_headers = headers::for_request(request_id, &request);
        headers::add_origin(&mut answer_headers, None, &self.name);
        let result = self
            .begin((request_headers, extensions), request, started, request_id)
            .await;
        Outcome {
            result,
            headers: answer_headers,
        }
    }

    async fn begin(
        &self,
        about: (&HeaderMap, &Extensions),
        request: v1::StreamedListObjectsRequest,
        started: Instant,
        request_id: u64,
    ) -> Result<Objects, Rejection> {
        let cx = self.context(about, started, request_id)?;
        request.check_fields(&self.limits)?;
        let (found, mut names) = mpsc::channel(AHEAD);
        let calls = Arc::clone(&self.calls);
        let listing =
            tokio::spawn(async move { calls.streamed_list_objects(&cx, request, found).await });
        let mut listing = AbortOnDropHandle::new(listing);
        let Some(first) = names.recv().await else {
            // Nothing was found: the end says whether that is the answer.
            if let Ok(Err(refusal)) = (&mut listing).await {
                return Err(refusal.into());
            }
            return Ok(Objects {
                first: None,
                names,
                listing: None,
            });
        };
        Ok(Objects {
            first: Some(first),
            names,
            listing: Some(listing),
        })
    }
}
