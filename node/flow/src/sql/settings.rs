//! What is set of stores.

use std::time::{Duration, Instant};

use meridian_model::StoreId;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::SqlFlows;
use super::rows::parsed;
use super::statement::{Statement, Value};
use crate::ports::Result;
use crate::recorder::{Change, Overrides, OverridesChange, micros};

impl SqlFlows {
    /// Of one store, or of all.
    pub(super) async fn overrides(
        &self,
        store: Option<StoreId>,
        deadline: Instant,
    ) -> Result<Vec<(StoreId, Overrides)>> {
        let mut select = self
            .statement("SELECT store_id, enabled, sampling, retention_micros FROM flow_settings");
        if let Some(store) = store {
            select.push(" WHERE store_id = ").text(store.as_str());
        }
        let read = |row: &AnyRow| {
            let enabled: Option<i64> = row.try_get("enabled")?;
            let retention: Option<i64> = row.try_get("retention_micros")?;
            let retention = retention.and_then(|micros| u64::try_from(micros).ok());
            let overrides = Overrides {
                enabled: enabled.map(|enabled| enabled != 0),
                sampling: row.try_get("sampling")?,
                retention: retention.map(Duration::from_micros),
            };
            Ok((parsed(row, "store_id")?, overrides))
        };
        self.rows(select, deadline, read).await
    }

    /// One statement, which leaves alone what stays: there is nothing to lose between two callers.
    pub(super) async fn set(
        &self,
        store: StoreId,
        change: &OverridesChange,
        deadline: Instant,
    ) -> Result<()> {
        let mut insert = self.statement(
            "INSERT INTO flow_settings (store_id, enabled, sampling, retention_micros) VALUES (",
        );
        insert.text(store.as_str());
        let mut changed = Vec::new();
        let number = |number: u64| Value::Number(i64::try_from(number).unwrap_or(i64::MAX));
        let enabled = change.enabled.map(|enabled| number(u64::from(enabled)));
        put(&mut insert, &mut changed, "enabled", enabled);
        let sampling = change.sampling.map(Value::Real);
        put(&mut insert, &mut changed, "sampling", sampling);
        let retention = change.retention.map(|keep| number(micros(keep)));
        put(&mut insert, &mut changed, "retention_micros", retention);
        if changed.is_empty() {
            return Ok(());
        }
        insert.push(")");
        insert.push(&(self.dialect.or_set)("store_id", &changed));
        self.change(insert, deadline).await.map(drop)
    }

    pub(super) async fn unset(&self, store: StoreId, deadline: Instant) -> Result<()> {
        let mut delete = self.statement("DELETE FROM flow_settings WHERE store_id = ");
        delete.text(store.as_str());
        self.change(delete, deadline).await.map(drop)
    }
}

/// The next value of a row, by a change of its column.
fn put(
    insert: &mut Statement,
    changed: &mut Vec<&'static str>,
    column: &'static str,
    change: Change<Value>,
) {
    if !matches!(change, Change::Keep) {
        changed.push(column);
    }
    insert.push(", ").some(change.of(None));
}
