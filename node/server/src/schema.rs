//! Bringing a database to this program's schema: by a node when it starts, or by `meridian migrate` before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;
use meridian_model::ports::{Datastore, DatastoreError};
use meridian_store::{DatastoreSettings, PoolSettings};
use tokio::sync::watch;

use crate::status::chain;

/// How often a database that is not there yet is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// How a node's database stands to the node's program.
#[derive(Debug, Clone, Default)]
pub enum Schema {
    /// It has not answered yet.
    #[default]
    Unknown,
    /// It could not be brought to this version's schema, which is tried again.
    Failed(Arc<DatastoreError>),
    /// It is of this version's schema.
    Current,
}

/// Brings the database at `address`, which `setting` names, to this program's schema, as soon as it is there.
pub(crate) async fn bring_up(
    datastore: &dyn Datastore,
    (setting, address): (&str, &str),
    schema: &watch::Sender<Schema>,
) {
    let mut told = None;
    while let Err(error) = datastore.migrate().await {
        let why = chain(&error);
        if told.as_ref() != Some(&why) {
            tracing::error!(
                database = address,
                error = why,
                "the database ({setting}) cannot be brought to this version's schema; trying again"
            );
            told = Some(why);
        }
        schema.send_replace(Schema::Failed(Arc::new(error)));
        tokio::time::sleep(RETRY).await;
    }
    if told.is_some() {
        tracing::info!(
            database = address,
            "the database is there and of this version's schema"
        );
    }
    schema.send_replace(Schema::Current);
}

/// The options of `meridian migrate`.
#[derive(Debug, Args)]
pub struct Migrate {
    /// URL of the datastore, which may hold a password.
    #[arg(long, env = "MERIDIAN_DATASTORE_URL", hide_env_values = true)]
    datastore_url: String,
    /// How long to wait for a database that does not answer.
    #[arg(long, default_value = "60s", value_parser = humantime_serde::re::humantime::parse_duration)]
    wait: Duration,
}

/// Brings a database to this program's schema. May run several times at once: each finds the database done, or waits for
/// the one at work.
///
/// # Errors
/// When the URL is none, or the database is not at this program's schema in the end; named without user and password.
pub(crate) async fn migrate(options: Migrate) -> anyhow::Result<()> {
    let address = address(&options.datastore_url);
    let datastore = meridian_store::open(&DatastoreSettings {
        url: options.datastore_url,
        pool: PoolSettings {
            min_connections: 0,
            max_connections: 1,
            ..PoolSettings::default()
        },
    })
    .context("--datastore-url (MERIDIAN_DATASTORE_URL)")?;
    let deadline = Instant::now() + options.wait;
    let mut told = false;
    while let Err(error) = datastore.migrate().await {
        let why = chain(&error);
        if matches!(error, DatastoreError::Corrupt { .. }) {
            anyhow::bail!("cannot bring {address} to this version's schema: {why}");
        }
        anyhow::ensure!(
            Instant::now() + RETRY < deadline,
            "cannot bring {address} to this version's schema: {why}; check that the database runs and can be reached from here, and its URL with user and password (--datastore-url or MERIDIAN_DATASTORE_URL)"
        );
        if !told {
            eprintln!("waiting for {address}: {why}");
            told = true;
        }
        tokio::time::sleep(RETRY).await;
    }
    println!("{address} is of this version's schema");
    Ok(())
}

/// A datastore's URL without what may be secret in it: user, password and parameters.
pub(crate) fn address(url: &str) -> String {
    let end = url.find(['?', '#']).unwrap_or(url.len());
    let url = url.get(..end).unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_owned();
    };
    // A password may hold an '@' that should have been escaped.
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_nothing_secret() {
        for (url, expected) in [
            (
                "postgres://me:pass@db:5432/app?password=x",
                "postgres://db:5432/app",
            ),
            ("postgres://me:p@ss@db/app", "postgres://db/app"),
            (
                "sqlite:///var/lib/node.db?mode=rwc",
                "sqlite:///var/lib/node.db",
            ),
            ("memory:", "memory:"),
        ] {
            assert_eq!(address(url), expected);
        }
    }
}
