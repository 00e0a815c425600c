//! The rules of each request but those of a model.

use std::time::{SystemTime, UNIX_EPOCH};

use super::*;

pub(super) const REQUIRED: &str = "value is required";

impl Fields for v1::CheckRequest {
    fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("CheckRequest");
        report.store_id(&self.store_id);
        if self.tuple_key.is_none() {
            report.add("tuple_key_value_not_specified", "TupleKey", REQUIRED);
        }
        report.optional_id("AuthorizationModelId", &self.authorization_model_id);
        report.consistency(self.consistency);
        report.context(self.context.as_ref());
        if let Some(key) = &self.tuple_key {
            let report = report.within("CheckRequestTupleKey");
            report.pattern("User", is_check_user(&key.user), CHECK_USER);
            report.pattern("Relation", is_name(&key.relation), NAME);
            report.pattern("Object", is_object(&key.object), OBJECT);
        }
        contextual(&mut report, given(self.contextual_tuples.as_ref()), limits);
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

/// The tuples that a request brings along.
pub(super) fn given(tuples: Option<&v1::ContextualTupleKeys>) -> &[v1::TupleKey] {
    tuples.map_or(&[], |tuples| &tuples.tuple_keys)
}

pub(super) fn contextual(report: &mut Report, tuples: &[v1::TupleKey], limits: &Limits) {
    let count = tuples.len();
    report
        .within("ContextualTupleKeys")
        .at_most("TupleKeys", count, limits.contextual_tuples);
    tuples.iter().for_each(|key| tuple_key(report, key));
}

/// A tuple to be written. Empty fields pass, as they do upstream: what they lack is said with the whole tuple's name.
pub(super) fn tuple_key(report: &mut Report, key: &v1::TupleKey) {
    report.within("TupleKey");
    key_parts(report, &key.user, &key.relation, &key.object);
    if let Some(condition) = &key.condition {
        let ok = is_plain(&condition.name, 2, 256, b"");
        let report = report.within("RelationshipCondition");
        report.pattern("Name", ok, OBJECT);
        report.context(condition.context.as_ref());
    }
}

fn key_parts(report: &mut Report, user: &str, relation: &str, object: &str) {
    if user.len() > MAX_USER_LEN {
        report.add(
            Code::ValidationError.name(),
            "User",
            &format!("value length must be at most {MAX_USER_LEN} bytes"),
        );
    }
    report.pattern("Relation", relation.is_empty() || is_name(relation), NAME);
    report.pattern("Object", object.is_empty() || is_object(object), OBJECT);
}

impl Fields for v1::WriteRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        const EMPTY: &str = "value must contain at least 1 item(s)";
        let mut report = Report::of("WriteRequest");
        report.store_id(&self.store_id);
        report.optional_id("AuthorizationModelId", &self.authorization_model_id);
        if let Some(writes) = &self.writes {
            if writes.tuple_keys.is_empty() {
                report.within("WriteRequestWrites").add(
                    Code::ValidationError.name(),
                    "TupleKeys",
                    EMPTY,
                );
            }
            writes
                .tuple_keys
                .iter()
                .for_each(|key| tuple_key(&mut report, key));
        }
        if let Some(deletes) = &self.deletes {
            if deletes.tuple_keys.is_empty() {
                report.within("WriteRequestDeletes").add(
                    Code::ValidationError.name(),
                    "TupleKeys",
                    EMPTY,
                );
            }
            let report = report.within("TupleKeyWithoutCondition");
            deletes
                .tuple_keys
                .iter()
                .for_each(|key| key_parts(report, &key.user, &key.relation, &key.object));
        }
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::ReadRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ReadRequest");
        report.store_id(&self.store_id);
        report.page_size(self.page_size);
        report.token(&self.continuation_token);
        report.consistency(self.consistency);
        if let Some(key) = &self.tuple_key {
            let report = report.within("ReadRequestTupleKey");
            let user_ok = |user: &str| {
                user.len() <= MAX_USER_LEN && is_plain(user, 3, 1023, b"") && inner_colon(user)
            };
            report.pattern("User", key.user.is_empty() || user_ok(&key.user), READ_USER);
            report.pattern(
                "Relation",
                key.relation.is_empty() || is_name(&key.relation),
                NAME,
            );
            report.pattern(
                "Object",
                key.object.is_empty() || is_object(&key.object),
                OBJECT,
            );
        }
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

/// Whether a colon stands between two other characters.
fn inner_colon(text: &str) -> bool {
    text.get(1..text.len().saturating_sub(1))
        .is_none_or(|inner| inner.contains(':'))
}

impl Fields for v1::ReadChangesRequest {
    fn check_fields(&self, limits: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ReadChangesRequest");
        report.store_id(&self.store_id);
        report.pattern(
            "Type",
            self.r#type.is_empty() || is_plain(&self.r#type, 1, MAX_TYPE_LEN, b":#"),
            TYPE_FILTER,
        );
        report.changes_page_size(self.page_size, limits.read_changes_page_size);
        report.token(&self.continuation_token);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let seconds =
            |start: &meridian_proto::google::Timestamp| u64::try_from(start.seconds).unwrap_or(0);
        if self
            .start_time
            .as_ref()
            .is_some_and(|start| seconds(start) > now)
        {
            report.add(
                Code::ValidationError.name(),
                "StartTime",
                "value must be less than now",
            );
        }
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::CreateStoreRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("CreateStoreRequest");
        report.pattern("Name", is_store_name(&self.name), STORE_NAME);
        report.done()
    }

    fn store_id(&self) -> &str {
        ""
    }
}

impl Fields for v1::ListStoresRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ListStoresRequest");
        report.page_size(self.page_size);
        report.token(&self.continuation_token);
        report.pattern(
            "Name",
            self.name.is_empty() || is_store_name(&self.name),
            STORE_NAME,
        );
        report.done()
    }

    fn store_id(&self) -> &str {
        ""
    }
}

macro_rules! only_a_store_id {
    ($($request:ident)+) => {$(
        impl Fields for v1::$request {
            fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
                let mut report = Report::of(stringify!($request));
                report.store_id(&self.store_id);
                report.done()
            }

            fn store_id(&self) -> &str {
                &self.store_id
            }
        }
    )+};
}

only_a_store_id! { GetStoreRequest DeleteStoreRequest }

impl Fields for v1::ReadAuthorizationModelRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ReadAuthorizationModelRequest");
        report.store_id(&self.store_id);
        report.pattern("Id", is_id(&self.id), ID);
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}

impl Fields for v1::ReadAuthorizationModelsRequest {
    fn check_fields(&self, _: &Limits) -> Result<(), InvalidFields> {
        let mut report = Report::of("ReadAuthorizationModelsRequest");
        report.store_id(&self.store_id);
        report.page_size(self.page_size);
        report.token(&self.continuation_token);
        report.done()
    }

    fn store_id(&self) -> &str {
        &self.store_id
    }
}
