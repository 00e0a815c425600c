//! Named leases, by the database's clock.

use std::time::Duration;

use meridian_model::ports::Result;

use super::dialect::Dialect;
use super::pool::Reading;
use super::statement::Statement;

/// See [`meridian_model::ports::Datastore::acquire_lease`].
pub(super) async fn acquire(
    db: &mut Reading,
    dialect: &Dialect,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool> {
    let now = dialect.now;
    let upsert = Statement::new(format!(
        "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, {now} + $3) \
         ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = {now} + $3 \
         WHERE leases.holder = excluded.holder OR leases.expires_at <= {now} RETURNING holder"
    ));
    let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 2);
    let rows = db.rows(upsert.with(name).with(holder).with(ttl)).await?;
    Ok(!rows.is_empty())
}
