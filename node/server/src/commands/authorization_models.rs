//! WriteAuthorizationModel, ReadAuthorizationModel, ReadAuthorizationModels.

use std::sync::Arc;

use meridian_condition::Condition;
use meridian_live_channel::Touched;
use meridian_model::{ApiError, Code};
use meridian_proto::openfga::v1;
use prost::Message;

use crate::api::convert::{model_from_wire, model_to_wire};
use crate::calls::{Answer, Context};
use crate::commands::errors::{from_datastore, inline_expressions_allowed};
use crate::commands::{Local, models, store_id, tokens};

pub(super) async fn write(
    local: &Local,
    cx: &Context,
    request: v1::WriteAuthorizationModelRequest,
) -> Answer<v1::WriteAuthorizationModelResponse> {
    let store = store_id(&request.store_id)?;
    if has_inline_expressions(&request) {
        inline_expressions_allowed(&local.limits)?;
    }
    check_size(local, &request)?;
    let model = Arc::new(model_from_wire(request).map_err(ApiError::from)?);
    let latest = local
        .datastore
        .latest_model(store, cx.deadline)
        .await
        .map_err(from_datastore)?;
    let id = local.ids.model(latest)?;
    let compiled = models::compile(id, Arc::clone(&model))?;
    let committed = local
        .datastore
        .write_model(store, id, &model, cx.deadline)
        .await
        .map_err(from_datastore)?;
    local.has_committed(store, committed.position, || Touched::All);
    local.models.keep(store, compiled).await;
    Ok(local.reply(
        v1::WriteAuthorizationModelResponse {
            authorization_model_id: id.to_string(),
        },
        Some(committed.position),
        None,
    ))
}

fn has_inline_expressions(request: &v1::WriteAuthorizationModelRequest) -> bool {
    let metadata = request
        .type_definitions
        .iter()
        .filter_map(|of| of.metadata.as_ref());
    metadata
        .flat_map(|metadata| metadata.relations.values())
        .flat_map(|relation| &relation.directly_related_user_types)
        .any(|restriction| restriction.condition == Condition::INLINE)
}

fn check_size(local: &Local, request: &v1::WriteAuthorizationModelRequest) -> Result<(), ApiError> {
    let (types, max) = (request.type_definitions.len(), local.limits.types_per_model);
    if types > max {
        let message = format!(
            "The number of type definitions in an authorization model exceeds the allowed limit of {max}"
        );
        return Err(ApiError::new(Code::ExceededEntityLimit, message));
    }
    let (bytes, max) = (request.encoded_len(), local.limits.model_bytes);
    if bytes > max {
        let message = format!("model exceeds size limit: {bytes} bytes vs {max} bytes");
        return Err(ApiError::new(Code::ExceededEntityLimit, message));
    }
    Ok(())
}

pub(super) async fn read(
    local: &Local,
    cx: &Context,
    request: &v1::ReadAuthorizationModelRequest,
) -> Answer<v1::ReadAuthorizationModelResponse> {
    let store = store_id(&request.store_id)?;
    let position = local.position(cx, store).await?;
    let id = request
        .id
        .parse()
        .map_err(|_| models::model_not_found(&request.id))?;
    let model = match position {
        Some(_) => local
            .datastore
            .model(store, id, cx.deadline)
            .await
            .map_err(from_datastore)?,
        None => None,
    };
    let model = model.ok_or_else(|| models::model_not_found(&request.id))?;
    let body = v1::ReadAuthorizationModelResponse {
        authorization_model: Some(model_to_wire(&request.id, &model)),
    };
    Ok(local.reply(body, position, None))
}

pub(super) async fn list(
    local: &Local,
    cx: &Context,
    request: &v1::ReadAuthorizationModelsRequest,
) -> Answer<v1::ReadAuthorizationModelsResponse> {
    let store = store_id(&request.store_id)?;
    let before = tokens::read_models(&request.continuation_token)?;
    let Some(position) = local.position(cx, store).await? else {
        return Ok(local.reply(Default::default(), None, None));
    };
    let page = local
        .datastore
        .models(
            store,
            before,
            local.page_size(request.page_size),
            cx.deadline,
        )
        .await
        .map_err(from_datastore)?;
    let body = v1::ReadAuthorizationModelsResponse {
        authorization_models: page
            .items
            .iter()
            .map(|stored| model_to_wire(stored.id.as_str(), &stored.model))
            .collect(),
        continuation_token: page.next.map(tokens::models).unwrap_or_default(),
    };
    Ok(local.reply(body, Some(position), None))
}
