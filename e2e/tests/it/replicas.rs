//! A central node with a read replica that lags, goes away and comes back.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use meridian_e2e::{MariaDb, Postgres, Workdir, free_port};
use meridian_model::TupleKey;
use meridian_proto::openfga::v1::ConsistencyPreference;

use crate::client::Client;
use crate::http::metric;
use crate::system::{Node, Role};
use crate::until::{heavy, until};

const SOON: Duration = Duration::from_secs(30);

/// A replica of either engine.
enum Replica {
    Postgres(Postgres),
    MariaDb(MariaDb),
}

impl Replica {
    /// From now on it does not see what is written, until [`Self::resume`].
    async fn pause(&self) -> Result<()> {
        match self {
            Self::Postgres(server) => server.execute("select pg_wal_replay_pause()").await,
            Self::MariaDb(server) => server.execute("STOP SLAVE SQL_THREAD").await,
        }
    }

    async fn resume(&self) -> Result<()> {
        match self {
            Self::Postgres(server) => server.execute("select pg_wal_replay_resume()").await,
            Self::MariaDb(server) => server.execute("START SLAVE SQL_THREAD").await,
        }
    }

    async fn kill(&mut self) {
        match self {
            Self::Postgres(server) => server.kill().await,
            Self::MariaDb(server) => server.kill().await,
        }
    }

    async fn start_again(&mut self) -> Result<()> {
        match self {
            Self::Postgres(server) => server.start_again().await,
            Self::MariaDb(server) => server.start_again().await,
        }
    }
}

#[tokio::test]
async fn a_replica_of_postgres_answers_only_what_it_may() {
    let primary = Postgres::start().await.unwrap();
    let replica = primary.replica().await.unwrap();
    let urls = [primary.url(), replica.url()];
    a_replica_answers_only_what_it_may(urls, Replica::Postgres(replica)).await;
}

#[tokio::test]
async fn a_replica_of_mariadb_answers_only_what_it_may() {
    let primary = MariaDb::start().await.unwrap();
    let replica = primary.replica().await.unwrap();
    let urls = [primary.url(), replica.url()];
    a_replica_answers_only_what_it_may(urls, Replica::MariaDb(replica)).await;
}

async fn a_replica_answers_only_what_it_may([url, replica_url]: [String; 2], mut replica: Replica) {
    let _leave = heavy().await;
    let dir = Workdir::new("replicas").unwrap();
    let nowhere = format!("127.0.0.1:{}", free_port().unwrap());
    let settings = format!("datastore: {{url: \"{url}\", readReplicaUrl: \"{replica_url}\"}}");
    let mut node = Node::new(Role::Central, &dir, &nowhere, &settings);
    node.start().await;
    let mut asked = Asked {
        client: node.client(),
        metrics: node.metrics,
    };
    let store = asked.new_store().await;
    let untouched = asked.new_store().await;
    let owner = TupleKey::parse("doc:1", "owner", "user:anne").unwrap();
    let owners = [owner.clone()];

    // What was just written is seen at once, whoever answers; and soon the replica does.
    for _ in 0..5 {
        asked.client.write(&store, &owners, &[]).await.unwrap();
        assert!(asked.is_allowed(&store, &owner).await);
        asked.client.write(&store, &[], &owners).await.unwrap();
        assert!(!asked.is_allowed(&store, &owner).await);
    }
    asked.client.write(&store, &owners, &[]).await.unwrap();
    asked.until_by_replica(&store, &owner).await;
    asked.until_by_replica(&untouched, &owner).await;

    // Who asks for the latest is never answered by it.
    let before = asked.by_replica().await;
    let latest = ConsistencyPreference::HigherConsistency;
    let answer = asked.client.check_with(&store, &owner, None, latest).await;
    assert!(answer.unwrap().allowed);
    assert_eq!(asked.by_replica().await, before);

    // It stops where it is: what this node has acknowledged holds all the same.
    replica.pause().await.unwrap();
    let revision = asked.client.write(&store, &[], &owners).await.unwrap();
    let before = asked.by_replica().await;
    for _ in 0..20 {
        assert!(!asked.is_allowed(&store, &owner).await);
    }
    assert_eq!(asked.by_replica().await, before);
    asked.until_by_replica(&untouched, &owner).await;

    // A node that has answered nothing yet knows only what it is asked for.
    node.process.stop().await.unwrap();
    node.start().await;
    asked.client = node.client();
    let answer = asked.client.check(&store, &owner, Some(revision)).await;
    assert!(!answer.unwrap().allowed);
    replica.resume().await.unwrap();
    asked.until_by_replica(&store, &owner).await;
    assert!(!asked.is_allowed(&store, &owner).await);

    // Without it, the primary answers everything.
    replica.kill().await;
    for _ in 0..20 {
        assert!(!asked.is_allowed(&store, &owner).await);
    }
    asked.client.write(&store, &owners, &[]).await.unwrap();
    assert!(asked.is_allowed(&store, &owner).await);
    until("the outage in the log", SOON, async || {
        let log = node.log();
        let told = log.contains("the read replica is away");
        told.then_some(()).ok_or(log)
    })
    .await;
    replica.start_again().await.unwrap();
    asked.until_by_replica(&store, &owner).await;
    let log = node.log();
    assert_eq!(log.matches("the read replica is away").count(), 1, "{log}");
    assert!(log.contains("the read replica is back"), "{log}");
    assert!(!log.contains("the database is away"), "{log}");
}

/// A node, and what it counts.
struct Asked {
    client: Client,
    metrics: SocketAddr,
}

impl Asked {
    async fn new_store(&mut self) -> String {
        let store = self.client.create_store("replicas").await.unwrap();
        let model = meridian_model::dsl::parse(
            "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define owner: [user]\n",
        )
        .unwrap();
        self.client.write_model(&store, &model).await.unwrap();
        store
    }

    async fn is_allowed(&mut self, store: &str, question: &TupleKey) -> bool {
        let answer = self.client.check(store, question, None).await;
        answer.unwrap().allowed
    }

    async fn until_by_replica(&mut self, store: &str, question: &TupleKey) {
        until("an answer of the replica's", SOON, async || {
            let before = self.by_replica().await;
            self.is_allowed(store, question).await;
            if self.by_replica().await > before {
                return Ok(());
            }
            Err("the primary answers".to_owned())
        })
        .await;
    }

    /// How many reads the replica has answered.
    async fn by_replica(&self) -> u64 {
        let name = "meridian_datastore_reads_total";
        metric(self.metrics, name, "source=\"replica\"").await
    }
}
