//! CreateStore, GetStore, ListStores, DeleteStore.

use meridian_live_channel::Touched;
use meridian_model::ports::StoreRecord;
use meridian_proto::openfga::v1;

use crate::api::convert::timestamp_to_wire;
use crate::calls::{Answer, Context};
use crate::commands::errors::{from_datastore, store_not_found};
use crate::commands::{Local, at_least, store_id, tokens};

pub(super) async fn create(
    local: &Local,
    cx: &Context,
    request: &v1::CreateStoreRequest,
) -> Answer<v1::CreateStoreResponse> {
    let record = local
        .datastore
        .create_store(local.ids.store()?, &request.name, cx.deadline)
        .await
        .map_err(from_datastore)?;
    local.committed.notify_one();
    let created_at = Some(timestamp_to_wire(record.info.created_at));
    let body = v1::CreateStoreResponse {
        id: record.info.id.to_string(),
        name: record.info.name,
        created_at,
        updated_at: created_at,
    };
    Ok(local.reply(body, Some(record.position), None))
}

pub(super) async fn get(
    local: &Local,
    cx: &Context,
    request: &v1::GetStoreRequest,
) -> Answer<v1::GetStoreResponse> {
    let record = local
        .datastore
        .store(store_id(&request.store_id)?, cx.deadline)
        .await
        .map_err(from_datastore)?;
    let record = record
        .filter(|record| record.deleted_at.is_none())
        .ok_or_else(store_not_found)?;
    let position = at_least(cx, record.position)?;
    let store = to_wire(record);
    let body = v1::GetStoreResponse {
        id: store.id,
        name: store.name,
        created_at: store.created_at,
        updated_at: store.updated_at,
        deleted_at: None,
    };
    Ok(local.reply(body, Some(position), None))
}

pub(super) async fn list(
    local: &Local,
    cx: &Context,
    request: &v1::ListStoresRequest,
) -> Answer<v1::ListStoresResponse> {
    let after = tokens::read_stores(&request.continuation_token)?;
    let name = Some(request.name.as_str()).filter(|name| !name.is_empty());
    let page = local
        .datastore
        .stores(name, after, local.page_size(request.page_size), cx.deadline)
        .await
        .map_err(from_datastore)?;
    let continuation_token = page.next.map(tokens::stores).unwrap_or_default();
    Ok(local.reply(
        v1::ListStoresResponse {
            stores: page.items.into_iter().map(to_wire).collect(),
            continuation_token,
        },
        None,
        None,
    ))
}

pub(super) async fn delete(
    local: &Local,
    cx: &Context,
    request: &v1::DeleteStoreRequest,
) -> Answer<v1::DeleteStoreResponse> {
    let store = store_id(&request.store_id)?;
    let committed = local
        .datastore
        .delete_store(store, cx.deadline)
        .await
        .map_err(from_datastore)?;
    if let Some(committed) = &committed {
        local.has_committed(store, committed.position, || Touched::All);
    }
    Ok(local.reply(
        v1::DeleteStoreResponse {},
        committed.map(|committed| committed.position),
        None,
    ))
}

fn to_wire(record: StoreRecord) -> v1::Store {
    let created_at = Some(timestamp_to_wire(record.info.created_at));
    v1::Store {
        id: record.info.id.to_string(),
        name: record.info.name,
        created_at,
        updated_at: created_at,
        deleted_at: None,
    }
}
