//! The cluster that all tests share, with the operator installed. It ends with the last of them, also after a panic.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Instant;

use meridian_e2e::cluster::{Access, Cluster};
use meridian_e2e::images::Images;
use tokio::sync::{Mutex, RwLock};

/// The tests run at a time, so this lasts from the first to the last.
static SHARED: Mutex<Weak<Shared>> = Mutex::const_new(Weak::new());

pub(crate) struct Shared {
    cluster: Cluster,
    /// Held by those that need the operator to run on, alone by whoever kills it.
    pub(crate) operator: RwLock<()>,
}

impl Shared {
    /// The one, started if there is none.
    pub(crate) async fn get() -> Arc<Self> {
        let mut shared = SHARED.lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    async fn start() -> Self {
        let start = Instant::now();
        let say = |line: &str| println!("{:>6.1?} {line}", start.elapsed());
        let images = Images::load(&images()).unwrap();
        let cluster = Cluster::start(&say).await.unwrap();
        let access = cluster.access();
        access.load(&images).await.unwrap();
        access.name_servers().await.unwrap();
        access
            .sql("postgres", "create role meridian login")
            .await
            .unwrap();
        let installed = access
            .install_operator(&root().join("charts/meridian"), &images)
            .await;
        if let Err(error) = installed {
            panic!("{error:#}\n{}", operator_log(access).await);
        }
        say("the operator runs");
        Self {
            cluster,
            operator: RwLock::default(),
        }
    }

    pub(crate) fn access(&self) -> &Access {
        self.cluster.access()
    }
}

/// What the operator and its pod's events say, for a failure's message.
pub(crate) async fn operator_log(access: &Access) -> String {
    let kubectl = access.kubectl().unwrap();
    let log = ["logs", "deployment/meridian-operator", "--tail=40"];
    let events = ["get", "events", "--sort-by=.lastTimestamp"];
    let mut text = String::new();
    for command in [log.as_slice(), &events] {
        let namespace = ["--namespace", meridian_e2e::cluster::OPERATOR_NAMESPACE];
        let said = kubectl.run(namespace.into_iter().chain(command.iter().copied()));
        text += &said.await.unwrap_or_else(|error| format!("{error:#}"));
    }
    text
}

fn images() -> PathBuf {
    let given = std::env::var_os("MERIDIAN_TEST_IMAGES");
    given.map_or_else(|| root().join("target/debug/images"), PathBuf::from)
}

/// The checkout.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
