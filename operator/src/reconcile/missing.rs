//! Values of Secrets that are not there or cannot be read. What needs none of them is looked after all the same.

use std::collections::BTreeMap;

use crate::api::common::KeyRef;
use crate::api::conditions::Finding;
use crate::build::Object;

/// Why the values of Secrets are not known that are not.
#[derive(Debug, Default)]
pub struct Missing(BTreeMap<KeyRef, Finding>);

impl Missing {
    /// Says why a value is not known.
    pub fn add(&mut self, of: &KeyRef, why: Finding) {
        self.0.insert(of.clone(), why);
    }

    /// Why an object waits, if pods of it would not start.
    #[must_use]
    pub fn of(&self, object: &Object) -> Option<&Finding> {
        object.needs.iter().find_map(|of| self.0.get(of))
    }

    /// All of it.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.0.values()
    }
}
