//! The rules of requests that ask many questions at once.

use std::collections::BTreeSet;

use super::requests::{REQUIRED, contextual, given, tuple_key};
use super::*;

/// ListObjects and StreamedListObjects ask the same.
macro_rules! objects_request {
    ($request:ident) => {
        impl Fields for v1::$request {
            fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields> {
                let mut report = Report::of(stringify!($request));
                report.store_id(&self.store_id);
                report.optional_id("AuthorizationModelId", &self.authorization_model_id);
                report.pattern("Type", is_type(&self.r#type), TYPE);
                report.pattern("Relation", is_name(&self.relation), NAME);
                if !(1..=MAX_USER_LEN).contains(&self.user.len()) {
                    let why = format!(
                        "value length must be between 1 and {MAX_USER_LEN} bytes, inclusive"
                    );
                    report.add(Code::ValidationError.name(), "User", &why);
                }
                report.consistency(self.consistency);
                report.context(self.context.as_ref());
                contextual(&mut report, given(self.contextual_tuples.as_ref()), limits);
                report.done()
            }

            fn store_id(&self) -> &str {
                &self.store_id
            }
        }
    };
}

objects_request!(ListObjectsRequest);
objects_request!(StreamedListObjectsRequest);

impl Fields for v1::ListUsersRequest {
    fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ListUsersRequest");
        report.store_id(&self.store_id);
        report.optional_id("AuthorizationModelId", &self.authorization_model_id);
        if self.object.is_none() {
            report.add(Code::ValidationError.name(), "Object", REQUIRED);
        }
        report.pattern("Relation", is_name(&self.relation), NAME);
        if self.user_filters.len() != 1 {
            report.add(
                Code::ValidationError.name(),
                "UserFilters",
                "value must contain exactly 1 item(s)",
            );
        }
        report.consistency(self.consistency);
        report.context(self.context.as_ref());
        if let Some(object) = &self.object {
            let report = report.within("Object");
            report.pattern("Type", is_type(&object.r#type), TYPE);
            let ok = is_plain(&object.id, 1, 256, b"#:");
            report.pattern("Id", ok, r"[^#:\s]+$");
        }
        for filter in &self.user_filters {
            let report = report.within("UserTypeFilter");
            report.pattern("Type", is_type(&filter.r#type), TYPE);
            let ok = filter.relation.is_empty() || is_name(&filter.relation);
            report.pattern("Relation", ok, NAME);
        }
        let (given, most) = (&self.contextual_tuples, limits.contextual_tuples);
        report
            .within("ListUsersRequest")
            .at_most("ContextualTuples", given.len(), most);
        given.iter().for_each(|key| tuple_key(&mut report, key));
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::ExpandRequest {
    fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ExpandRequest");
        report.store_id(&self.store_id);
        if self.tuple_key.is_none() {
            report.add("tuple_key_value_not_specified", "TupleKey", REQUIRED);
        }
        report.optional_id("AuthorizationModelId", &self.authorization_model_id);
        report.consistency(self.consistency);
        if let Some(key) = &self.tuple_key {
            // That one is missing is an error of its own.
            let report = report.within("ExpandRequestTupleKey");
            let ok = key.relation.is_empty() || is_name(&key.relation);
            report.pattern("Relation", ok, NAME);
            let ok = key.object.is_empty() || is_object(&key.object);
            report.pattern("Object", ok, OBJECT);
        }
        contextual(&mut report, given(self.contextual_tuples.as_ref()), limits);
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::BatchCheckRequest {
    fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("BatchCheckRequest");
        report.store_id(&self.store_id);
        report.optional_id("AuthorizationModelId", &self.authorization_model_id);
        report.consistency(self.consistency);
        if self.checks.is_empty() {
            let why = "value must contain at least 1 item(s)";
            report.add(Code::ValidationError.name(), "Checks", why);
        }
        for check in &self.checks {
            let report = report.within("BatchCheckItem");
            if check.tuple_key.is_none() {
                report.add("tuple_key_value_not_specified", "TupleKey", REQUIRED);
            }
            report.context(check.context.as_ref());
            let id = &check.correlation_id;
            report.pattern("CorrelationId", is_correlation_id(id), CORRELATION_ID);
            if let Some(key) = &check.tuple_key {
                let report = report.within("CheckRequestTupleKey");
                report.pattern("User", is_check_user(&key.user), CHECK_USER);
                report.pattern("Relation", is_name(&key.relation), NAME);
                report.pattern("Object", is_object(&key.object), OBJECT);
            }
            contextual(report, given(check.contextual_tuples.as_ref()), limits);
        }
        report.done()
    }

    fn check_whole(&self, limits: &Limits) -> Result<(), ApiError> {
        let (count, most) = (self.checks.len(), limits.checks_per_batch);
        if count > most {
            return Err(ApiError::validation(format!(
                "batchCheck received {count} checks, the maximum allowed is {most}"
            )));
        }
        let mut ids = BTreeSet::new();
        for check in &self.checks {
            let id = &check.correlation_id;
            if !ids.insert(id) {
                return Err(ApiError::validation(format!(
                    "received duplicate correlation id: {id}"
                )));
            }
        }
        Ok(())
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

const CORRELATION_ID: &str = r"^[\w\d-]{1,36}$";

fn is_correlation_id(id: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-');
    (1..=36).contains(&id.len()) && id.bytes().all(allowed)
}
