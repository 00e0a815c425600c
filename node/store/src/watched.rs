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

/// Does `work`, and tells all of several watchers.
pub(crate) async fn watched_by_all<F: Future>(
    watchers: Vec<Arc<dyn Watcher>>,
    work: F,
) -> F::Output {
    watched(Arc::new(All(watchers)), work).await
}

struct All(Vec<Arc<dyn Watcher>>);

impl Watcher for All {
    fn statement(&self, text: &str, took: Duration) {
        for watcher in &self.0 {
            watcher.statement(text, took);
        }
    }
}

/// Who watches this task.
pub(crate) fn watcher() -> Option<Arc<dyn Watcher>> {
    WATCHER.try_with(Arc::clone).ok()
}

pub(crate) fn tell(text: &str, took: Duration) {
    // Work that nobody watches is the ordinary case.
    let _ = WATCHER.try_with(|watcher| watcher.statement(text, took));
}
