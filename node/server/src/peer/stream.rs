//! Answers that come in parts.

use std::time::Instant;

use meridian_model::ModelId;
use meridian_proto::meridian::v1 as wire;
use tonic::{Response, Status, Streaming};

use super::api::{lacking, refusal};
use super::line::{Failure, Peer, Repeat};
use super::{Client, Peers};
use crate::calls::{Context, Refusal};

/// A part of such an answer.
pub(super) trait Part {
    /// The model that it names; empty for none.
    fn model(&self) -> &str;

    /// The error that the whole answer is, if this is its first part.
    fn error(&self) -> Option<&wire::NodeError>;
}

/// An answer that a node has begun.
pub(super) struct Parts<'a, T> {
    first: Option<T>,
    rest: Streaming<T>,
    peer: &'a Peer,
}

impl Peers {
    /// Makes a call that only reads, at the first node that begins to answer it.
    ///
    /// # Errors
    /// `unavailable` when none can be reached, or `deadline_exceeded`.
    pub(super) async fn begin<T, F>(
        &self,
        cx: &Context,
        call: impl Fn(Client) -> F,
    ) -> Result<Parts<'_, T>, Refusal>
    where
        T: Part,
        F: Future<Output = Result<Response<Streaming<T>>, Status>>,
    {
        let begin = |client: Client| {
            let called = call(client);
            async move {
                let mut rest = called.await?.into_inner();
                let first = next(&mut rest, cx.deadline).await?;
                first.error().map_or(Ok(()), lacking)?;
                Ok::<_, Failure>(Response::new((first, rest)))
            }
        };
        let begun = self.line.begin(cx.deadline, Repeat::Safe, begin).await;
        let ((first, rest), peer) = begun.map_err(refusal)?;
        Ok(Parts {
            first: Some(first),
            rest,
            peer,
        })
    }
}

impl<T: Part> Parts<'_, T> {
    /// The next part of an answer that has not ended yet, and the model that it names, which is noted.
    ///
    /// # Errors
    /// `unavailable` where the answer broke off, `deadline_exceeded` where nothing came until `latest`.
    pub(super) async fn next(
        &mut self,
        cx: &Context,
        latest: Instant,
    ) -> Result<(T, Option<ModelId>), Refusal> {
        let part = match self.first.take() {
            Some(first) => first,
            None => next(&mut self.rest, latest)
                .await
                .map_err(|status| refusal(self.peer.broke_off(status)))?,
        };
        let model = part.model().parse().ok();
        model.into_iter().for_each(|model| cx.model.note(model));
        Ok((part, model))
    }
}

async fn next<T>(parts: &mut Streaming<T>, latest: Instant) -> Result<T, Status> {
    let next = tokio::time::timeout_at(latest.into(), parts.message()).await;
    let next = next.map_err(|_| Status::deadline_exceeded("Request Deadline Exceeded"))?;
    next?.ok_or_else(|| Status::unavailable("an answer in parts broke off; try again"))
}
