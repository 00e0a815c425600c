//! A connection's requests take their first turn on the connection's own task, and what they answer is written together.
//!
//! A task for each request would be woken and run one by one, and the connection would be woken between any two of them:
//! a system call per answer, which costs more than the answer. Most requests at an edge are answered in their first
//! turn; the others get a task after it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use hyper::rt::Executor;

/// Requests that still wait after so long get tasks of their own at once, so that other processors can take them.
const SLICE: Duration = Duration::from_micros(200);

type Turn = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The requests a connection has read and not begun.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<Vec<Turn>>>);

impl<F> Executor<F> for Turns
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, request: F) {
        self.lock().push(Box::pin(request));
    }
}

impl Turns {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Turn>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins all that wait; whether there were any.
    fn take(&self) -> bool {
        let waiting = std::mem::take(&mut *self.lock());
        let any = !waiting.is_empty();
        let started = Instant::now();
        for mut request in waiting {
            // Whoever has more to wait for is polled again by its task, which is then the one to be woken.
            let mut cx = Context::from_waker(Waker::noop());
            let crowded = started.elapsed() >= SLICE;
            let first = || request.as_mut().poll(&mut cx);
            // A request that panics ends alone, as it would on a task.
            if crowded || matches!(catch_unwind(AssertUnwindSafe(first)), Ok(Poll::Pending)) {
                tokio::spawn(request);
            }
        }
        any
    }
}

/// A connection that is served with `turns` as its executor.
pub(super) struct Together<C> {
    connection: Pin<Box<C>>,
    turns: Turns,
}

impl<C> Together<C> {
    pub(super) fn new(connection: C, turns: Turns) -> Self {
        Self {
            connection: Box::pin(connection),
            turns,
        }
    }
}

impl<C: Future> Future for Together<C> {
    type Output = C::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<C::Output> {
        loop {
            let done = self.connection.as_mut().poll(cx);
            let any = self.turns.take();
            // Answers are written by the connection's next turn.
            if done.is_ready() || !any {
                return done;
            }
        }
    }
}

#[cfg(test)]
mod tests;
