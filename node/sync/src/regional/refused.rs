//! Records of older reigns than the one known, told of without a line each: there may be as many as there ever were.

use std::collections::BTreeMap;

use meridian_model::ids::{Epoch, StoreId};

/// How many stores are counted at most; then counting begins anew.
const STORES: usize = 1_000;

/// How many records were refused: of each reign, and in it of each store or of none.
#[derive(Default)]
pub(super) struct Refused(BTreeMap<(Epoch, Option<StoreId>), u64>);

impl Refused {
    /// Notes a record of `epoch`, while `known` is the reign. Logged when it is the first, the tenth, the hundredth.
    pub(super) fn note(&mut self, store: Option<StoreId>, epoch: Epoch, known: Epoch) {
        let store_text = store.map(tracing::field::display);
        if let Some(records) = self.round_count(store, epoch) {
            tracing::warn!(store = store_text, %epoch, %known, records, "refused records of an older epoch");
        }
    }

    fn round_count(&mut self, store: Option<StoreId>, epoch: Epoch) -> Option<u64> {
        if self.0.len() >= STORES {
            self.0.clear();
        }
        let count = self.0.entry((epoch, store)).or_default();
        *count += 1;
        (10_u64.pow(count.ilog10()) == *count).then_some(*count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_for_the_first_of_a_store_and_reign_and_for_each_tenfold() {
        let store = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().ok();
        let mut refused = Refused::default();
        let told: Vec<_> = (0..250)
            .filter_map(|_| refused.round_count(store, Epoch(1)))
            .collect();
        assert_eq!(told, [1, 10, 100]);
        assert_eq!(refused.round_count(None, Epoch(1)), Some(1));
        assert_eq!(refused.round_count(store, Epoch(2)), Some(1));
    }
}
