//! Why a reconcile could not go on. What is wrong with a spec is no error: the status says it.

use std::time::Duration;

use crate::build::Kind;

/// Why a reconcile could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server did not do it.
    #[error("{attempt}: {}", told(.source))]
    Api {
        /// What was attempted.
        attempt: String,
        /// Why not.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("{attempt}: no answer within {deadline:?}")]
    Timeout {
        /// What was attempted.
        attempt: String,
        /// How long it was waited for.
        deadline: Duration,
    },
    /// An object of this name is somebody else's.
    #[error(
        "{kind:?} '{name}' exists and belongs to {owner}: delete it, or choose another name for this object"
    )]
    Taken {
        /// Its kind.
        kind: Kind,
        /// Its name.
        name: String,
        /// Whose it is.
        owner: String,
    },
    /// Another operator leads now.
    #[error("this operator no longer leads")]
    NotLeader,
    /// A cache ended, since the operator stops.
    #[error("the operator stops")]
    Stopping,
}

/// Kinds of errors, for metrics and for what to do about them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Category {
    /// It may pass: tried again, less and less often.
    Transient,
    /// It passes when somebody changes something.
    Refused,
    /// Somebody else's object is in the way.
    Taken,
    /// Another operator does it.
    NotLeader,
}

impl Category {
    /// As in the metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Refused => "refused",
            Self::Taken => "taken",
            Self::NotLeader => "not_leader",
        }
    }
}

impl Error {
    /// The same, where what was attempted is a part of something greater.
    #[must_use]
    pub fn during(mut self, what: &str) -> Self {
        if let Self::Api { attempt, .. } | Self::Timeout { attempt, .. } = &mut self {
            *attempt = format!("{what}: {attempt}");
        }
        self
    }

    /// Its kind.
    #[must_use]
    pub fn category(&self) -> Category {
        match self {
            Self::Api { source, .. } => match &**source {
                // Refused for what the object is, or for who asks.
                kube::Error::Api(status) if matches!(status.code, 400 | 403 | 422) => {
                    Category::Refused
                }
                _ => Category::Transient,
            },
            Self::Timeout { .. } => Category::Transient,
            Self::Taken { .. } => Category::Taken,
            Self::NotLeader | Self::Stopping => Category::NotLeader,
        }
    }
}

fn told(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string(),
    }
}
