//! New ids: ULIDs, so that what is made later sorts higher.

use meridian_model::{ApiError, Code, ModelId, StoreId};
use ulid::{Generator, Ulid};

use std::sync::{Mutex, PoisonError};

pub(super) struct Ids(Mutex<Generator>);

impl Ids {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Generator::new()))
    }

    pub(super) fn store(&self) -> Result<StoreId, ApiError> {
        self.next().to_string().parse().map_err(unusable)
    }

    /// An id behind `latest`, even if the clock went back since that was made.
    pub(super) fn model(&self, latest: Option<ModelId>) -> Result<ModelId, ApiError> {
        let floor = latest
            .and_then(|id| Ulid::from_string(id.as_str()).ok())
            .map_or(0, |ulid| ulid.0);
        let id = Ulid(self.next().0.max(floor.saturating_add(1)));
        id.to_string().parse().map_err(unusable)
    }

    fn next(&self) -> Ulid {
        let mut generator = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // It overflows after 2^80 ids within a millisecond.
        generator
            .generate()
            .unwrap_or_else(|overflow| overflow.commit_overflow_increment())
    }
}

fn unusable(why: impl std::fmt::Display) -> ApiError {
    tracing::error!(%why, "made an unusable id");
    ApiError::new(Code::Internal, "Internal Server Error")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_ids_grow_even_past_an_id_of_the_future() {
        let ids = Ids::new();
        let future: ModelId = "7ZZZZZZZZZZZZZZZZZZZZZZZZY".parse().unwrap();
        assert!(ids.model(Some(future)).unwrap() > future);
        let mut latest = None;
        for _ in 0..1000 {
            let next = ids.model(latest).unwrap();
            assert!(latest < Some(next));
            latest = Some(next);
        }
    }
}
