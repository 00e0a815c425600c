//! StreamedListObjects: findings go out as they are found.

use std::sync::Arc;
use std::time::Instant;

use http::{Extensions, HeaderMap};
use meridian_proto::openfga::v1;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::grpc::SERVICE;
use super::meters::{Done, Meters, STREAMED, STREAMED_NAME as NAME, Traits};
use super::{Api, Outcome, Rejection, headers, log};
use crate::api::fields::Fields;
use crate::calls::{Context, Reply, ServedBy};
use crate::telemetry::request::{self, Begun, Current};

/// Findings that wait for a slow client; then the listing waits.
const AHEAD: usize = 256;

/// The objects of a listing under way. Dropped, it ends the listing.
pub struct Objects {
    first: Option<String>,
    names: mpsc::Receiver<String>,
    listing: Option<AbortOnDropHandle<Result<Reply<()>, Rejection>>>,
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
            Ok(Err(rejection)) => Some(Err(rejection)),
            Err(_) => None,
        }
    }
}

/// What is noted when a listing ends; of one that its client gives up, nothing.
struct End {
    meters: Arc<Meters>,
    here: ServedBy,
    traits: Traits,
    headers: HeaderMap,
    current: Current,
    begun: Begun,
    started: Instant,
}

impl End {
    fn note(self, served_by: Option<&ServedBy>, result: Result<&(), &Rejection>) {
        let done = Done {
            took: self.started.elapsed(),
            statements: self.current.statements(),
            result,
            served_by,
            here: &self.here,
        };
        self.meters.done(STREAMED, self.traits, &done);
        log::done((SERVICE, NAME), self.begun, &self.headers, &done);
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
        self.meters.started(STREAMED);
        let begun = request::begin(request_headers, NAME);
        let mut answer_headers = headers::for_request(begun.id, &request);
        headers::add_origin(&mut answer_headers, None, &self.name);
        let end = End {
            meters: Arc::clone(&self.meters),
            here: self.name.clone(),
            traits: Traits::of(&request),
            headers: answer_headers.clone(),
            current: begun.current(),
            begun,
            started,
        };
        let checked = self
            .context((request_headers, extensions), started)
            .and_then(|cx| {
                request.check_fields(&self.limits)?;
                Ok(cx)
            });
        let result = match checked {
            Ok(cx) => self.begin(cx, request, end).await,
            Err(fields) => {
                let rejection = Rejection::Fields(fields);
                end.note(None, Err(&rejection));
                Err(rejection)
            }
        };
        Outcome {
            result,
            headers: answer_headers,
        }
    }

    async fn begin(
        &self,
        cx: Context,
        request: v1::StreamedListObjectsRequest,
        end: End,
    ) -> Result<Objects, Rejection> {
        let (found, mut names) = mpsc::channel(AHEAD);
        let calls = Arc::clone(&self.calls);
        let listing = tokio::spawn(async move {
            let listing = calls.streamed_list_objects(&cx, request, found);
            let answer = end.current.clone().run(listing).await;
            match answer {
                Ok(reply) => {
                    end.note(Some(&reply.served_by), Ok(&()));
                    Ok(reply)
                }
                Err(refusal) => {
                    let served_by = refusal.served_by.clone();
                    let rejection = Rejection::Refused(refusal);
                    end.note(served_by.as_ref(), Err(&rejection));
                    Err(rejection)
                }
            }
        });
        let mut listing = AbortOnDropHandle::new(listing);
        let Some(first) = names.recv().await else {
            // Nothing was found: the end says whether that is the answer.
            if let Ok(Err(rejection)) = (&mut listing).await {
                return Err(rejection);
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
