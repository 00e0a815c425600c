//! SubjectSearch, ResourceSearch, ActionSearch: who may, what to, and how. Pages are accepted and ignored, as upstream.

use meridian_model::{ApiError, Code};
use meridian_proto::authzen::v1;
use meridian_proto::openfga::v1 as openfga;
use meridian_proto::openfga::v1::batch_check_single_result::CheckResult;
use meridian_proto::openfga::v1::user::User;
use tokio::sync::mpsc;

use super::{check_batch, invalid_argument, merged, object, user};
use crate::api::operations::Asked;
use crate::calls::{Answer, Refusal};

/// Findings that wait to be collected.
const AHEAD: usize = 256;

/// SubjectSearch: a ListUsers.
pub async fn subjects(
    asked: Asked<'_>,
    request: v1::SubjectSearchRequest,
) -> Answer<v1::SubjectSearchResponse> {
    let subject = request.subject.unwrap_or_default();
    let resource = request.resource.unwrap_or_default();
    let action = request.action.unwrap_or_default();
    let list = openfga::ListUsersRequest {
        store_id: request.store_id,
        authorization_model_id: asked.model_id(),
        context: merged([
            ("subject_", subject.properties.as_ref()),
            ("resource_", resource.properties.as_ref()),
            ("action_", action.properties.as_ref()),
            ("", request.context.as_ref()),
        ]),
        object: Some(openfga::Object {
            r#type: resource.r#type,
            id: resource.id,
        }),
        relation: action.name,
        user_filters: vec![openfga::UserTypeFilter {
            r#type: subject.r#type,
            relation: String::new(),
        }],
        ..Default::default()
    };
    let reply = asked.calls.list_users(asked.cx, list).await?;
    Ok(reply.map(|list| {
        let users = list.users.into_iter().filter_map(|user| user.user);
        let subject = |user| {
            let (r#type, id) = match user {
                User::Object(object) => (object.r#type, object.id),
                User::Wildcard(wildcard) => (wildcard.r#type, "*".to_owned()),
                User::Userset(_) => return None,
            };
            Some(v1::Subject {
                r#type,
                id,
                properties: None,
            })
        };
        v1::SubjectSearchResponse {
            results: users.filter_map(subject).collect(),
            page: None,
        }
    }))
}

/// ResourceSearch: a StreamedListObjects.
pub async fn resources(
    asked: Asked<'_>,
    request: v1::ResourceSearchRequest,
) -> Answer<v1::ResourceSearchResponse> {
    let subject = request.subject.unwrap_or_default();
    let resource = request.resource.unwrap_or_default();
    let action = request.action.unwrap_or_default();
    let list = openfga::StreamedListObjectsRequest {
        store_id: request.store_id,
        authorization_model_id: asked.model_id(),
        user: user(&subject),
        relation: action.name,
        r#type: resource.r#type,
        context: merged([
            ("subject_", subject.properties.as_ref()),
            ("resource_", resource.properties.as_ref()),
            ("action_", action.properties.as_ref()),
            ("", request.context.as_ref()),
        ]),
        ..Default::default()
    };
    let (found, mut names) = mpsc::channel::<String>(AHEAD);
    let collect = async {
        let mut results = Vec::new();
        while let Some(name) = names.recv().await {
            if let Some((r#type, id)) = name.split_once(':') {
                results.push(v1::Resource {
                    r#type: r#type.to_owned(),
                    id: id.to_owned(),
                    properties: None,
                });
            }
        }
        results
    };
    let listing = asked.calls.streamed_list_objects(asked.cx, list, found);
    let (reply, results) = tokio::join!(listing, collect);
    Ok(reply?.map(|()| v1::ResourceSearchResponse {
        results,
        page: None,
    }))
}

/// ActionSearch: a BatchCheck of every relation of the resource's type. One that cannot be decided is left out.
pub async fn actions(
    asked: Asked<'_>,
    request: v1::ActionSearchRequest,
) -> Answer<v1::ActionSearchResponse> {
    let subject = request.subject.unwrap_or_default();
    let resource = request.resource.unwrap_or_default();
    let (user, object) = (user(&subject), object(&resource));
    let context = merged([
        ("subject_", subject.properties.as_ref()),
        ("resource_", resource.properties.as_ref()),
        ("", request.context.as_ref()),
    ]);
    let model = model(asked, &request.store_id).await?;
    let known = model.id.parse().ok();
    known.into_iter().for_each(|id| asked.cx.model.note(id));
    let relations = relations(&model, &resource.r#type)?;
    check_batch(asked, relations.len())?;
    let checks = relations.iter().enumerate().map(|(at, relation)| {
        let key = openfga::CheckRequestTupleKey {
            user: user.clone(),
            relation: relation.clone(),
            object: object.clone(),
        };
        openfga::BatchCheckItem {
            tuple_key: Some(key),
            context: context.clone(),
            correlation_id: at.to_string(),
            contextual_tuples: None,
        }
    });
    let batch = openfga::BatchCheckRequest {
        store_id: request.store_id,
        checks: checks.collect(),
        authorization_model_id: model.id.clone(),
        ..Default::default()
    };
    let reply = asked.calls.batch_check(asked.cx, batch).await?;
    Ok(reply.map(|batch| {
        let allowed = |at: usize| {
            let result = batch.result.get(&at.to_string());
            match result.and_then(|result| result.check_result.as_ref()) {
                Some(CheckResult::Allowed(allowed)) => *allowed,
                Some(CheckResult::Error(error)) => {
                    let why = error.message.as_str();
                    tracing::debug!(why, "an action could not be decided and is left out");
                    false
                }
                None => false,
            }
        };
        let names = relations.into_iter().enumerate();
        let results = names
            .filter(|(at, _)| allowed(*at))
            .map(|(_, name)| v1::Action {
                name,
                properties: None,
            });
        v1::ActionSearchResponse {
            results: results.collect(),
            page: None,
        }
    }))
}

/// The model that the caller names, or the store's latest.
async fn model(asked: Asked<'_>, store_id: &str) -> Result<openfga::AuthorizationModel, Refusal> {
    let id = asked.model_id();
    if id.is_empty() {
        let latest = openfga::ReadAuthorizationModelsRequest {
            store_id: store_id.to_owned(),
            page_size: Some(1),
            ..Default::default()
        };
        let latest = asked
            .calls
            .read_authorization_models(asked.cx, latest)
            .await?;
        let latest = latest.body.authorization_models.into_iter().next();
        return latest.ok_or_else(|| {
            let why = format!("No authorization models found for store '{store_id}'");
            ApiError::new(Code::LatestAuthorizationModelNotFound, why).into()
        });
    }
    let named = openfga::ReadAuthorizationModelRequest {
        store_id: store_id.to_owned(),
        id,
    };
    let named = asked
        .calls
        .read_authorization_model(asked.cx, named)
        .await?;
    Ok(named.body.authorization_model.unwrap_or_default())
}

/// The names of a type's relations, in order.
fn relations(
    model: &openfga::AuthorizationModel,
    object_type: &str,
) -> Result<Vec<String>, ApiError> {
    let mut types = model.type_definitions.iter();
    let defined = types.find(|defined| defined.r#type == object_type);
    let defined = defined.ok_or_else(|| {
        invalid_argument(format!(
            "failed to get relations for type {object_type}: '{object_type}' is an undefined object type"
        ))
    })?;
    Ok(defined.relations.keys().cloned().collect())
}
