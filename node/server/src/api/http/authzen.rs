//! AuthZEN's routes.

use std::sync::Arc;

use axum::Router;
use axum::routing::MethodFilter;
use http::StatusCode;
use meridian_proto::authzen::v1;

use super::{body, query};
use crate::api::Api;
use crate::api::operations::{
    ActionSearch, Evaluation, Evaluations, GetConfiguration, ResourceSearch, SubjectSearch,
};

const OK: StatusCode = StatusCode::OK;

pub(super) fn routes() -> Router<Arc<Api>> {
    let of_store = |rest: &str| format!("/stores/{{store_id}}/access/v1/{rest}");
    let configuration = query::<GetConfiguration>(MethodFilter::GET, OK, |ids, _| {
        Ok(v1::GetConfigurationRequest {
            store_id: ids.store,
        })
    });
    Router::new()
        .route(
            &of_store("evaluation"),
            body::<Evaluation>(OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("evaluations"),
            body::<Evaluations>(OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("search/subject"),
            body::<SubjectSearch>(OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("search/resource"),
            body::<ResourceSearch>(OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            &of_store("search/action"),
            body::<ActionSearch>(OK, |request, ids| request.store_id = ids.store),
        )
        .route(
            "/.well-known/authzen-configuration/{store_id}",
            configuration,
        )
}
