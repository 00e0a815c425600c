//! WriteAssertions and ReadAssertions. Assertions are no data of a store: no revision holds them, and they stay at central.

use meridian_model::{ApiError, Code, TypeSystem, validate};
use meridian_proto::openfga::v1;
use prost::Message;

use crate::api::convert::condition_of_wire;
use crate::calls::{Answer, Context};
use crate::commands::errors::from_datastore;
use crate::commands::{Local, models, store_id};
use crate::limits::MAX_ASSERTIONS_BYTES;

pub(super) async fn write(
    local: &Local,
    cx: &Context,
    request: v1::WriteAssertionsRequest,
) -> Answer<v1::WriteAssertionsResponse> {
    let store = store_id(&request.store_id)?;
    let model = local
        .models
        .resolve(store, &request.authorization_model_id, cx.deadline)
        .await?;
    cx.model.note(model.id);
    let position = local.position(cx, store).await?;
    let assertions = v1::Assertions {
        assertions: request.assertions,
    };
    check(&model.types, &assertions)?;
    let text = serde_json::to_string(&assertions).map_err(|why| unkept(&why))?;
    local
        .datastore
        .write_assertions(store, model.id, &text, cx.deadline)
        .await
        .map_err(from_datastore)?;
    Ok(local.reply(v1::WriteAssertionsResponse {}, position, Some(model.id)))
}

pub(super) async fn read(
    local: &Local,
    cx: &Context,
    request: &v1::ReadAssertionsRequest,
) -> Answer<v1::ReadAssertionsResponse> {
    let store = store_id(&request.store_id)?;
    let model = local
        .models
        .resolve(store, &request.authorization_model_id, cx.deadline)
        .await?;
    // A model may still be held of a store that was deleted.
    let Some(position) = local.position(cx, store).await? else {
        return Err(models::model_not_found(&request.authorization_model_id).into());
    };
    let text = local
        .datastore
        .read_assertions(store, model.id, cx.deadline)
        .await
        .map_err(from_datastore)?;
    let kept: Option<v1::Assertions> = text
        .map(|text| serde_json::from_str(&text))
        .transpose()
        .map_err(|why| unkept(&why))?;
    let body = v1::ReadAssertionsResponse {
        authorization_model_id: model.id.to_string(),
        assertions: kept.unwrap_or_default().assertions,
    };
    Ok(local.reply(body, Some(position), Some(model.id)))
}

/// Each tuple asked about must be one that a Check may ask about, and each contextual one as if written.
fn check(types: &TypeSystem, assertions: &v1::Assertions) -> Result<(), ApiError> {
    let sizes = assertions.assertions.iter().map(Message::encoded_len);
    if sizes.sum::<usize>() > MAX_ASSERTIONS_BYTES {
        let message =
            format!("The number of bytes exceeds the allowed limit of {MAX_ASSERTIONS_BYTES}");
        return Err(ApiError::new(Code::ExceededEntityLimit, message));
    }
    for assertion in &assertions.assertions {
        if let Some(key) = &assertion.tuple_key {
            validate::asserted(types, &key.object, &key.relation, &key.user)?;
        }
        for wire in &assertion.contextual_tuples {
            let key = validate::parse_write(&wire.object, &wire.relation, &wire.user)?;
            validate::contextual(types, &key, condition_of_wire(wire).as_ref())
                .map_err(|why| ApiError::validation(why.message))?;
        }
    }
    Ok(())
}

fn unkept(why: &serde_json::Error) -> ApiError {
    tracing::error!(error = %why, "cannot write or read assertions as JSON");
    ApiError::new(Code::Internal, "Internal Server Error")
}
