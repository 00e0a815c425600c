//! Changes of what is set of a store.

use std::time::Duration;

/// What becomes of one setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// It stays.
    #[default]
    Keep,
    /// It is as for all again.
    Unset,
    /// It is this.
    Set(T),
}

/// What becomes of the settings of one store.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct OverridesChange {
    /// See [`crate::recorder::Overrides::enabled`].
    pub enabled: Change<bool>,
    /// See [`crate::recorder::Overrides::sampling`].
    pub sampling: Change<f64>,
    /// See [`crate::recorder::Overrides::retention`].
    pub retention: Change<Duration>,
}

/// What is named is set, and what is not stays.
impl<T> From<Option<T>> for Change<T> {
    fn from(named: Option<T>) -> Self {
        named.map_or(Self::Keep, Self::Set)
    }
}

impl<T> Change<T> {
    /// The setting after it.
    #[must_use]
    pub fn of(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Unset => None,
            Self::Set(new) => Some(new),
        }
    }

    /// The same change of something made of it.
    #[must_use]
    pub fn map<U>(self, to: impl FnOnce(T) -> U) -> Change<U> {
        match self {
            Self::Keep => Change::Keep,
            Self::Unset => Change::Unset,
            Self::Set(new) => Change::Set(to(new)),
        }
    }
}
