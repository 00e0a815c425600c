//! Assertions: a text by model, beside the revisions of its store.

use meridian_model::ids::{ModelId, StoreId};
use meridian_model::ports::{DatastoreError, Result};

use super::pool::{Reading, Transaction};
use super::rows::text as text_of;
use super::statement::Statement;

/// Under the store's row lock, so that none are left of a store that is being deleted.
pub(super) async fn write(
    tx: &mut Transaction,
    store: StoreId,
    model: ModelId,
    text: &str,
) -> Result<()> {
    let live = Statement::new(format!(
        "SELECT id FROM stores WHERE id = $1 AND deleted_at IS NULL{}",
        tx.dialect().for_update
    ));
    if tx.row(live.with(store.as_str())).await?.is_none() {
        return Err(DatastoreError::UnknownStore(store));
    }
    let upsert = Statement::new(format!(
        "INSERT INTO assertions (store_id, model_id, assertions) VALUES ($1, $2, $3){}",
        (tx.dialect().or_update)("store_id, model_id", &["assertions"])
    ));
    let upsert = upsert.with(store.as_str()).with(model.as_str());
    tx.execute(upsert.with(text)).await?;
    Ok(())
}

pub(super) async fn read(
    db: &mut Reading,
    store: StoreId,
    model: ModelId,
) -> Result<Option<String>> {
    let select =
        Statement::new("SELECT assertions FROM assertions WHERE store_id = $1 AND model_id = $2");
    let row = db
        .row(select.with(store.as_str()).with(model.as_str()))
        .await?;
    row.map(|row| text_of(&row, "assertions")).transpose()
}
