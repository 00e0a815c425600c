//! Write and Read.

use std::collections::HashSet;

use meridian_condition::Condition;
use meridian_live_channel::Touched;
use meridian_model::ports::{TupleFilter, WriteOptions};
use meridian_model::{ApiError, Code, Timestamp, Tuple, TupleKey, TypeSystem, validate};
use meridian_proto::openfga::v1;
use meridian_sync::tier;
use prost::Message;

use crate::api::convert::{condition_of_wire, timestamp_to_wire, tuple_key_to_wire};
use crate::calls::{Answer, Context};
use crate::commands::errors::{from_datastore, inline_expressions_allowed, write_failed};
use crate::commands::{Local, store_id, tokens};

pub(super) async fn write(
    local: &Local,
    cx: &Context,
    request: &v1::WriteRequest,
) -> Answer<v1::WriteResponse> {
    let store = store_id(&request.store_id)?;
    let model = local
        .models
        .resolve(store, &request.authorization_model_id, cx.deadline)
        .await?;
    cx.model.note(model.id);
    let changes = Changes::of(request);
    if changes.writes.iter().any(|key| {
        key.condition
            .as_ref()
            .is_some_and(|condition| condition.name == Condition::INLINE)
    }) {
        inline_expressions_allowed(&local.limits)?;
    }
    changes.check_any()?;
    let writes = changes.writes(&model.types, local.limits.condition_context_bytes)?;
    let deletes = changes.deletes()?;
    changes.check_duplicates_and_number(local.limits.tuples_per_write)?;
    let options = options(request)?;
    let deletes = deletes.stored(options)?;
    let committed = local
        .datastore
        .write_tuples(store, &deletes, &writes, options, cx.deadline)
        .await
        .map_err(from_datastore)?;
    let position = match committed {
        Some(committed) => {
            let written = writes.iter().map(|tuple| &tuple.key);
            let touched = || {
                let hashes = written.chain(&deletes).flat_map(tier::hashes).collect();
                Touched::Sets(vec![(committed.position, hashes)])
            };
            local.has_committed(store, committed.position, touched);
            Some(committed.position)
        }
        None => local.position(cx, store).await?,
    };
    Ok(local.reply(v1::WriteResponse {}, position, Some(model.id)))
}

/// What the request says about tuples that are already as it would have them.
fn options(request: &v1::WriteRequest) -> Result<WriteOptions, ApiError> {
    let ignores = |option, value| match value {
        "" | "error" => Ok(false),
        "ignore" => Ok(true),
        _ => Err(ApiError::validation(format!(
            "invalid {option} option: {value}"
        ))),
    };
    let on_duplicate = request.writes.as_ref().map(|writes| &*writes.on_duplicate);
    let on_missing = request.deletes.as_ref().map(|deletes| &*deletes.on_missing);
    Ok(WriteOptions {
        ignore_duplicate: ignores("on_duplicate", on_duplicate.unwrap_or_default())?,
        ignore_missing: ignores("on_missing", on_missing.unwrap_or_default())?,
    })
}

/// What a Write asks for, as it came over the wire.
struct Changes<'a> {
    writes: &'a [v1::TupleKey],
    deletes: &'a [v1::TupleKeyWithoutCondition],
}

impl<'a> Changes<'a> {
    fn of(request: &'a v1::WriteRequest) -> Self {
        Self {
            writes: request
                .writes
                .as_ref()
                .map_or(&[], |writes| &writes.tuple_keys),
            deletes: request
                .deletes
                .as_ref()
                .map_or(&[], |deletes| &deletes.tuple_keys),
        }
    }

    fn check_any(&self) -> Result<(), ApiError> {
        if self.writes.is_empty() && self.deletes.is_empty() {
            let message =
                "Invalid input. Make sure you provide at least one write, or at least one delete";
            return Err(ApiError::new(Code::InvalidWriteInput, message));
        }
        Ok(())
    }

    /// The tuples to write, each allowed by the model.
    fn writes(&self, types: &TypeSystem, max_context: usize) -> Result<Vec<Tuple>, ApiError> {
        let allowed = |wire: &v1::TupleKey| {
            let key = validate::parse_write(&wire.object, &wire.relation, &wire.user)?;
            let condition = condition_of_wire(wire);
            validate::write(types, &key, condition.as_ref())?;
            let context = wire.condition.as_ref();
            let context = context.and_then(|condition| condition.context.as_ref());
            let size = context.map_or(0, Message::encoded_len);
            if size > max_context {
                return Err(ApiError::validation(format!(
                    "Invalid tuple '{key}'. Reason: condition context size limit exceeded: {size} bytes exceeds {max_context} bytes"
                )));
            }
            Ok(Tuple {
                key,
                condition,
                timestamp: Timestamp::default(),
            })
        };
        self.writes.iter().map(allowed).collect()
    }

    fn check_duplicates_and_number(&self, max: usize) -> Result<(), ApiError> {
        let deletes = self
            .deletes
            .iter()
            .map(|key| (&key.user, &key.relation, &key.object));
        let writes = self
            .writes
            .iter()
            .map(|key| (&key.user, &key.relation, &key.object));
        let mut seen = HashSet::with_capacity(self.deletes.len() + self.writes.len());
        for (user, relation, object) in deletes.chain(writes) {
            if !seen.insert((user, relation, object)) {
                let message = format!(
                    "duplicate tuple in write: user: '{user}', relation: '{relation}', object: '{object}'"
                );
                return Err(ApiError::new(Code::DuplicateTuplesInRequest, message));
            }
        }
        if seen.len() > max {
            let message =
                format!("The number of write operations exceeds the allowed limit of {max}");
            return Err(ApiError::new(Code::ExceededEntityLimit, message));
        }
        Ok(())
    }

    /// The keys to delete. No model is asked: a tuple that an older model allowed can be deleted under a newer one.
    fn deletes(&self) -> Result<Deletes<'a>, ApiError> {
        let mut deletes = Deletes::default();
        for wire in self.deletes {
            match validate::delete(&wire.object, &wire.relation, &wire.user)? {
                Some(key) => deletes.keys.push(key),
                None => deletes.impossible = deletes.impossible.or(Some(wire)),
            }
        }
        Ok(deletes)
    }
}

#[derive(Default)]
struct Deletes<'a> {
    keys: Vec<TupleKey>,
    /// The first that is not even the form of a tuple, so it cannot be stored.
    impossible: Option<&'a v1::TupleKeyWithoutCondition>,
}

impl Deletes<'_> {
    /// The keys that may be stored.
    fn stored(self, options: WriteOptions) -> Result<Vec<TupleKey>, ApiError> {
        match self.impossible {
            Some(key) if !options.ignore_missing => Err(write_failed(&format!(
                "cannot delete a tuple which does not exist: user: '{}', relation: '{}', object: '{}'",
                key.user, key.relation, key.object
            ))),
            _ => Ok(self.keys),
        }
    }
}

pub(super) async fn read(
    local: &Local,
    cx: &Context,
    request: &v1::ReadRequest,
) -> Answer<v1::ReadResponse> {
    let store = store_id(&request.store_id)?;
    let filter = request
        .tuple_key
        .as_ref()
        .map(filter_of)
        .transpose()?
        .unwrap_or_default();
    let after = tokens::read_tuples(&request.continuation_token)?;
    let Some(position) = local.position(cx, store).await? else {
        return Ok(local.reply(v1::ReadResponse::default(), None, None));
    };
    let limit = local.page_size(request.page_size);
    let page = local
        .datastore
        .tuples(store, &filter, after.as_ref(), limit, cx.deadline)
        .await
        .map_err(from_datastore)?;
    let to_wire = |tuple: &Tuple| v1::Tuple {
        key: Some(tuple_key_to_wire(&tuple.key, tuple.condition.as_ref())),
        timestamp: Some(timestamp_to_wire(tuple.timestamp)),
    };
    let continuation_token = page.next.map(tokens::tuples).unwrap_or_default();
    Ok(local.reply(
        v1::ReadResponse {
            tuples: page.items.iter().map(to_wire).collect(),
            continuation_token,
        },
        Some(position),
        None,
    ))
}

fn filter_of(key: &v1::ReadRequestTupleKey) -> Result<TupleFilter, ApiError> {
    let (object_type, object_id) = key.object.split_once(':').unwrap_or(("", &key.object));
    if object_type.is_empty() || (object_id.is_empty() && key.user.is_empty()) {
        return Err(ApiError::validation(
            "the 'tuple_key' field was provided but the object type field is required and both the object id and user cannot be empty",
        ));
    }
    let given = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let subject = given(&key.user).map(|user| user.parse()).transpose();
    Ok(TupleFilter {
        object_type: given(object_type),
        object_id: given(object_id),
        relation: given(&key.relation),
        subject: subject.map_err(|why: meridian_model::tuple::InvalidTuple| {
            ApiError::validation(why.to_string())
        })?,
    })
}
