//! Coming by a connection. A pool tries again and again where nobody listens, for as long as its caller waits, and never says
//! why. So whoever has waited for a while finds out by a connection of its own.

use std::io;

use sqlx::any::{Any, AnyConnectOptions};
use sqlx::pool::PoolConnection;
use sqlx::{AnyConnection, Connection as _, Pool};
use tokio::sync::Mutex;
use tokio::time::{Duration, sleep};

/// How long a connection is waited for before it is found out why there is none.
const PATIENCE: Duration = Duration::from_millis(500);

/// A connection of the pool. One caller at a time, who holds `asking`, finds out whether any can be made.
pub(super) async fn connection(
    pool: &Pool<Any>,
    asking: &Mutex<()>,
) -> sqlx::Result<PoolConnection<Any>> {
    let waiting = async {
        loop {
            sleep(PATIENCE).await;
            let Ok(_alone) = asking.try_lock() else {
                continue;
            };
            let options = pool.connect_options();
            match AnyConnection::connect_with(&options).await {
                // All of the pool's are at work: one will come back. What this one says at its end matters to nobody.
                Ok(connection) => drop(connection.close().await),
                Err(error) => return named(error, &options),
            }
        }
    };
    tokio::select! {
        connection = pool.acquire() => connection,
        error = waiting => Err(error),
    }
}

/// Says where the database should have been, and nothing secret.
fn named(error: sqlx::Error, options: &AnyConnectOptions) -> sqlx::Error {
    let sqlx::Error::Io(error) = error else {
        return error;
    };
    let url = &options.database_url;
    let place = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => url.path().to_owned(),
    };
    sqlx::Error::Io(io::Error::new(error.kind(), format!("{place}: {error}")))
}
