//! What the database tells about itself.

use std::time::Instant;

use async_trait::async_trait;
use meridian_model::ports::{Connections, Measured, Result, Sizes};

use super::Reading;
use crate::sql::SqlDatastore;
use crate::sql::error::corrupt;
use crate::sql::rows::unsigned;
use crate::sql::statement::Statement;

#[async_trait]
impl Measured for SqlDatastore {
    fn connections(&self) -> Option<Connections> {
        let (mut all, writers) = (self.readers.status(), self.writers.status());
        if self.dialect.single_writer {
            all.max += writers.max;
            all.open += writers.open;
            all.in_use += writers.in_use;
            all.waits += writers.waits;
            all.waited += writers.waited;
        }
        Some(all)
    }

    async fn sizes(&self, deadline: Instant) -> Result<Sizes> {
        let mut db = self.readers.reading(deadline).await?;
        Ok(Sizes {
            tuples: count(&mut db, self.dialect.tuples, "tuples").await?,
            outbox: count(
                &mut db,
                "SELECT COUNT(*) AS revisions FROM outbox",
                "revisions",
            )
            .await?,
        })
    }
}

async fn count(db: &mut Reading, select: &'static str, column: &'static str) -> Result<u64> {
    let row = db.row(Statement::new(select)).await?;
    let row = row.ok_or_else(|| corrupt("number of rows", "the database returned none"))?;
    unsigned(&row, column)
}
