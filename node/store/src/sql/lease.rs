//! Named leases, by the database's clock.

use std::time::Duration;

use meridian_model::ports::{DatastoreError, Result};

use super::pool::Reading;
use super::statement::Statement;

/// See [`meridian_model::ports::Datastore::acquire_lease`].
pub(super) async fn acquire(
    db: &mut Reading,
    name: &str,
    holder: &str,
    ttl: Duration,
) -> Result<bool> {
    let now = db.dialect().now;
    let ttl = i64::try_from(ttl.as_micros()).unwrap_or(i64::MAX / 2);
    let update = Statement::new(format!(
        "UPDATE leases SET holder = $2, expires_at = {now} + $3 \
         WHERE name = $1 AND (holder = $2 OR expires_at <= {now})"
    ));
    let update = update.with(name).with(holder).with(ttl);
    if db.execute(update).await? > 0 {
        return Ok(true);
    }
    let insert = Statement::new(format!(
        "INSERT INTO leases (name, holder, expires_at) SELECT $1, $2, {now} + $3 FROM meta \
         WHERE NOT EXISTS (SELECT 1 FROM leases WHERE name = $1)"
    ));
    match db.execute(insert.with(name).with(holder).with(ttl)).await {
        // Another was quicker to make it.
        Err(DatastoreError::Conflict) => Ok(false),
        inserted => Ok(inserted? > 0),
    }
}
