//! Records that stay in their region.

use meridian_e2e::{Kafka, Workdir};
use meridian_model::dsl;
use serde_json::json;

use super::client::{Live, publish};
use super::{MODEL, allowed_at, flowing_at};
use crate::system::{Node, Role};
use crate::until::heavy;
use crate::world::tuple;

fn sqlite(dir: &Workdir, more: &str) -> String {
    let file = dir.path().join("node.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    format!("datastore: {{url: \"{url}\"}}\nlive: {{enabled: true, scope: region}}\n{more}")
}

#[tokio::test]
async fn a_record_stays_in_its_region() {
    let _leave = heavy().await;
    let kafka = Kafka::start().await.unwrap();
    let dirs = ["above", "here", "there"].map(|name| Workdir::new(name).unwrap());
    let [above, here, there] = &dirs;
    let bootstrap = kafka.bootstrap();
    let mut central = Node::new(Role::Central, above, &bootstrap, &sqlite(above, ""));
    let upstream = format!("upstream: [\"http://{}\"]", central.nodes);
    let regional = |dir, region: &str| {
        let node = Node::new(Role::Regional, dir, &bootstrap, &sqlite(dir, &upstream));
        Node {
            process: node.process.env("MERIDIAN_REGION", region),
            ..node
        }
    };
    let mut regionals = [regional(here, "here"), regional(there, "there")];
    central.start().await;
    for node in &mut regionals {
        node.start().await;
    }
    let mut client = central.client();
    let store = client.create_store("race").await.unwrap();
    let model = dsl::parse(MODEL).unwrap();
    client.write_model(&store, &model).await.unwrap();
    let may = tuple("event:42", "can_watch", "user:bob");
    let write = client.write(&store, std::slice::from_ref(&may), &[]);
    write.await.unwrap();

    let mut clients = Vec::new();
    for node in &regionals {
        allowed_at(node, &store, &may).await;
        let mut bob = [Live::connect(node.http, &store, "bob").await];
        bob[0].subscribe("event:42").await;
        flowing_at(node.http, &store, &mut bob).await;
        clients.extend(bob);
    }
    for number in 0..20 {
        for (node, region) in regionals.iter().zip(["here", "there"]) {
            let record = json!({"n": number, "region": region});
            let sent = publish(node.http, &store, "event:42", &record).await;
            assert_eq!(sent, 200, "{region}");
        }
    }
    for (client, region) in clients.iter_mut().zip(["here", "there"]) {
        for number in 0..20 {
            let expected = json!({"n": number, "region": region});
            assert_eq!(client.record().await["data"], expected);
        }
        assert!(client.quick().await.is_none(), "nothing of the other");
    }
}
