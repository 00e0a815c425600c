//! The token that a client shows, for an authority that wants to see it.

use std::sync::{Arc, Mutex, PoisonError};

/// The latest token of one client: each question of its subscriptions is asked with that.
#[derive(Debug, Default)]
pub(crate) struct Showing(Mutex<Option<Arc<str>>>);

impl Showing {
    pub(crate) fn get(&self) -> Option<Arc<str>> {
        let token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    pub(crate) fn set(&self, token: Arc<str>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *shown = Some(token);
    }
}
