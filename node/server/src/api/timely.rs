//! A request's body that must arrive in time: whoever sends it drop by drop would hold a stream for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use meridian_model::ApiError;
use tokio::time::Sleep;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body with a limit on the time it takes.
pub(super) struct Timely<B> {
    body: B,
    limit: Duration,
    /// Runs from the first time that the body is not there yet; mostly it is, and needs no timer.
    timer: Option<Pin<Box<Sleep>>>,
    late: fn(Duration) -> BoxError,
}

impl<B> Timely<B> {
    /// `late` is the error of a body that takes longer than `limit`.
    pub(super) fn new(body: B, limit: Duration, late: fn(Duration) -> BoxError) -> Self {
        Self {
            body,
            limit,
            timer: None,
            late,
        }
    }
}

/// What the sender is told.
pub(crate) fn late(limit: Duration) -> ApiError {
    ApiError {
        message: format!(
            "the request's body did not arrive within {limit:?}; send it without pauses"
        ),
        ..super::deadline_exceeded()
    }
}

impl<B> Body for Timely<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(this.limit)));
        timer
            .as_mut()
            .poll(cx)
            .map(|()| Some(Err((this.late)(this.limit))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
