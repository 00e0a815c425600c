//! The rules of assertions.

use super::requests::{REQUIRED, tuple_key};
use super::*;
use crate::limits::{MAX_ASSERTION_TUPLES, MAX_ASSERTIONS};

impl Fields for v1::WriteAssertionsRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("WriteAssertionsRequest");
        report.store_id(&self.store_id);
        let model = is_id(&self.authorization_model_id);
        report.pattern("AuthorizationModelId", model, ID);
        report.at_most("Assertions", self.assertions.len(), MAX_ASSERTIONS);
        for one in &self.assertions {
            assertion(&mut report, one);
        }
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

fn assertion(report: &mut Report, assertion: &v1::Assertion) {
    if let Some(key) = &assertion.tuple_key {
        report.within("AssertionTupleKey");
        report.pattern("Object", is_object(&key.object), OBJECT);
        report.pattern("Relation", is_name(&key.relation), NAME);
        report.pattern("User", is_check_user(&key.user), CHECK_USER);
    } else {
        let report = report.within("Assertion");
        report.add("tuple_key_value_not_specified", "TupleKey", REQUIRED);
    }
    let contextual = &assertion.contextual_tuples;
    let report = report.within("Assertion");
    report.at_most("ContextualTuples", contextual.len(), MAX_ASSERTION_TUPLES);
    report.context(assertion.context.as_ref());
    contextual.iter().for_each(|key| tuple_key(report, key));
}

impl Fields for v1::ReadAssertionsRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ReadAssertionsRequest");
        report.store_id(&self.store_id);
        let model = is_id(&self.authorization_model_id);
        report.pattern("AuthorizationModelId", model, ID);
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}
