//! Who is told what conditions take.
//!
//! One in a process, as a log has one: conditions are compiled and evaluated deep inside of evaluations that know of no
//! metrics, and are to stay so. Without one nothing is measured.

use std::sync::OnceLock;
use std::time::Duration;

static OBSERVER: OnceLock<Box<dyn Observer>> = OnceLock::new();

/// Is told what conditions take.
pub trait Observer: Send + Sync {
    /// The time, on a clock that does not go back: this crate has none.
    fn now(&self) -> Duration;

    /// A condition was compiled.
    fn compiled(&self, took: Duration);

    /// A condition was met or not met, which cost so much in cel-go's units.
    fn evaluated(&self, took: Duration, cost: u64);
}

/// Tells `observer` what conditions take from now on, in all of the process; the first that is given counts.
pub fn observe(observer: impl Observer + 'static) {
    let _ = OBSERVER.set(Box::new(observer));
}

/// Something that is measured, if anybody is told.
pub(crate) struct Measured(Option<(&'static dyn Observer, Duration)>);

impl Measured {
    pub(crate) fn begin() -> Self {
        Self(OBSERVER.get().map(|observer| (&**observer, observer.now())))
    }

    pub(crate) fn compiled(self) {
        if let Self(Some((observer, since))) = self {
            observer.compiled(observer.now().saturating_sub(since));
        }
    }

    pub(crate) fn evaluated(self, cost: u64) {
        if let Self(Some((observer, since))) = self {
            observer.evaluated(observer.now().saturating_sub(since), cost);
        }
    }
}
