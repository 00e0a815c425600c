//! Who is told of the statements that a task's work takes.

use std::sync::Arc;
use std::time::Duration;

tokio::task_local! {
    static WATCHER: Arc<dyn Watcher>;
}

/// Is told of statements.
pub trait Watcher: Send + Sync {
    /// A statement has just ended, after `took`. `text` is the beginning of it, without values.
    fn statement(&self, text: &str, took: Duration);
}

/// Does `work`, and tells `watcher` of every statement it takes on this task.
pub async fn watched<F: Future>(watcher: Arc<dyn Watcher>, work: F) -> F::Output {
    WATCHER.scope(watcher, work).await
}

pub(crate) fn tell(text: &str, took: Duration) {
    // Work that nobody watches is the ordinary case.
    let _ = WATCHER.try_with(|watcher| watcher.statement(text, took));
}
