//! Forgetting the names that no tuple has any longer.

use crate::facts::SetKey;
use crate::holders::Holders;
use crate::names::{Names, ObjectId};
use crate::sets::{Sets, Subject};

use super::Root;

/// So many names are not worth forgetting any.
const FREE_MIN: usize = 4096;

impl Root {
    /// Forgets the names that no tuple has any longer, once they may be more than those in use and [`FREE_MIN`]. Counted
    /// only after names or deletions in proportion to the names, so the work is a constant share of bringing them.
    pub(super) fn free_names(&mut self) {
        if self.names.len() <= FREE_MIN + 2 * self.names_in_use {
            return;
        }
        let mut in_use = vec![false; self.names.len()];
        for (set, subject, _) in self.members() {
            for id in [set.object(), subject.object()] {
                if let Some(used) = in_use.get_mut(id.0 as usize) {
                    *used = true;
                }
            }
        }
        self.names_in_use = in_use.iter().filter(|used| **used).count();
        // Well before half are unused: else the next few deletions would have them counted again.
        if self.names_in_use <= self.names.len() / 4 * 3 {
            self.renumber(&in_use);
        }
    }

    /// Keeps these names only, in the same order.
    fn renumber(&mut self, in_use: &[bool]) {
        let kept = (0..).zip(in_use).filter(|(_, used)| **used);
        let kept = kept.filter_map(|(id, _)| {
            let id = ObjectId(id);
            Some((self.names.text(id), self.names.type_of(id)?))
        });
        let Some(names) = Names::from_ordered(kept, self.names.limit()) else {
            return;
        };
        let mut next = 0;
        let numbers: Vec<_> = in_use
            .iter()
            .map(|used| {
                let number = ObjectId(next);
                next += u32::from(*used);
                number
            })
            .collect();
        // Every number of a set is below the number of names.
        let of = |id: ObjectId| numbers.get(id.0 as usize).copied().unwrap_or(id);
        let of_set = |key: SetKey| SetKey::new(of(key.object()), key.relation());
        let members = self.members().map(|(set, subject, binding)| {
            let subject = match subject {
                Subject::Object(id) => Subject::Object(of(id)),
                Subject::Userset(member) => Subject::Userset(of_set(member)),
            };
            (of_set(set), subject, binding)
        });
        let members = members.collect();
        self.names = names;
        self.sets = Sets::default();
        self.conditioned.clear();
        self.holders = Holders::default();
        self.lay_out(members);
    }
}
