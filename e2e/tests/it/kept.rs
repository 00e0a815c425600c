//! How long kept answers outlive a change that another node has written to the same PostgreSQL.
//!
//! By hand: `cargo build -p meridian-server`, then `cargo test -p meridian-e2e --test it kept -- --nocapture`.

use std::time::{Duration, Instant};

use meridian_e2e::{Postgres, Workdir, free_port};
use meridian_model::{TupleKey, dsl};

use crate::client::Client;
use crate::system::{Node, Role};
use crate::until::heavy;

const TIMES: usize = 200;
const MODEL: &str =
    "model\n  schema 1.1\ntype user\ntype doc\n  relations\n    define owner: [user]\n";

#[tokio::test]
async fn without_a_window_no_kept_answer_outlives_a_change_written_elsewhere() {
    let _leave = heavy().await;
    let postgres = Postgres::start().await.unwrap();
    println!("revoked at one central, asked at another over one PostgreSQL ({TIMES} times)");
    println!("  checkCache.window  stale      p50        p99        max");
    for window in ["0s", "5ms", "50ms"] {
        let stale = stale_for(&postgres, window).await;
        if window == "0s" {
            assert!(stale.is_empty(), "{stale:?}");
        }
        row(window, stale);
    }
}

/// For how long after the other's Write a node has still answered by what it had kept, each time that it did.
async fn stale_for(postgres: &Postgres, window: &str) -> Vec<Duration> {
    let dirs = [(); 2].map(|()| Workdir::new("kept").unwrap());
    let mut nodes = dirs.each_ref().map(|dir| {
        let nowhere = format!("127.0.0.1:{}", free_port().unwrap());
        let url = postgres.url();
        let settings = format!("datastore: {{url: \"{url}\"}}\ncheckCache: {{window: {window}}}");
        Node::new(Role::Central, dir, &nowhere, &settings)
    });
    for node in &mut nodes {
        node.start().await;
    }
    let [mut writer, mut reader] = nodes.each_ref().map(Node::client);
    let store = writer.create_store("kept").await.unwrap();
    let model = dsl::parse(MODEL).unwrap();
    writer.write_model(&store, &model).await.unwrap();
    let mut stale = Vec::new();
    for at in 0..TIMES {
        let key = TupleKey::parse(&format!("doc:{at}"), "owner", "user:anne").unwrap();
        let key = std::slice::from_ref(&key);
        let revision = writer.write(&store, key, &[]).await.unwrap();
        // The first answer is kept; for the second, changes are read, and from then on the window counts.
        for min_revision in [Some(revision), None] {
            let answer = reader.check(&store, &key[0], min_revision).await;
            assert!(answer.unwrap().allowed);
        }
        writer.write(&store, &[], key).await.unwrap();
        stale.extend(allowed_for(&mut reader, &store, &key[0]).await);
    }
    for node in &mut nodes {
        node.process.stop().await.unwrap();
    }
    stale
}

/// How long from now the last check begins that is still allowed.
async fn allowed_for(reader: &mut Client, store: &str, key: &TupleKey) -> Option<Duration> {
    let (start, mut last) = (Instant::now(), None);
    loop {
        let asked = start.elapsed();
        if !reader.check(store, key, None).await.unwrap().allowed {
            return last;
        }
        last = Some(asked);
    }
}

fn row(window: &str, mut stale: Vec<Duration>) {
    stale.sort();
    let at = |percent: usize| match stale.len() {
        0 => "-".to_owned(),
        len => format!("{:.1?}", stale[(len - 1) * percent / 100]),
    };
    let (count, p50, p99, max) = (stale.len(), at(50), at(99), at(100));
    println!("  {window:<17}  {count:<9}  {p50:<9}  {p99:<9}  {max}");
}
