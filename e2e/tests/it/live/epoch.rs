//! Central goes back to a backup, and everything that rested on what was written since is checked again.

use serde_json::json;

use super::client::{Live, publish};
use super::durable::central_url;
use super::{allowed_at, flowing_at, started};
use crate::postgres::sql;
use crate::system::Role;
use crate::until::{heavy, until};
use crate::world::tuple;

#[tokio::test]
async fn what_a_restored_backup_does_not_know_ends_and_the_rest_goes_on() {
    let _leave = heavy().await;
    let (mut system, store) = started().await;
    let server = system.postgres.url();
    system.central.process.stop().await.unwrap();
    sql(&server, "create database backup template central").await;
    system.central.start().await;
    let may = tuple("event:42", "can_watch", "user:eve");
    let mut central = system.client(Role::Central);
    let write = central.write(&store, std::slice::from_ref(&may), &[]);
    write.await.unwrap();

    let (mut eves, mut bobs) = (Vec::new(), Vec::new());
    for role in [Role::Regional, Role::Edge] {
        let node = system.node(role);
        allowed_at(node, &store, &may).await;
        for (user, clients) in [("eve", &mut eves), ("bob", &mut bobs)] {
            let mut client = Live::connect(node.http, &store, user).await;
            client.subscribe("event:42").await;
            clients.push(client);
        }
    }
    let node = system.edge.http;
    flowing_at(node, &store, &mut eves).await;
    flowing_at(node, &store, &mut bobs).await;
    for eve in &mut eves {
        while eve.quick().await.is_some() {}
    }

    system.central.process.stop().await.unwrap();
    sql(&server, "drop database central").await;
    sql(&server, "alter database backup rename to central").await;
    let url = central_url(&system);
    sql(&url, "update meta set epoch = epoch + 1").await;
    sql(&url, "update stores set epoch = (select epoch from meta)").await;
    system.central.start().await;
    for eve in &mut eves {
        let told = eve.hear().await;
        assert_eq!(
            (&told["type"], &told["reason"]),
            (&json!("unsubscribed"), &json!("revoked")),
            "{told}"
        );
    }
    until("records again", super::SOON, async || {
        match publish(node, &store, "event:42", &json!("after")).await {
            200 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    for bob in &mut bobs {
        assert_eq!(bob.record().await["data"], "after");
    }
    for eve in &mut eves {
        assert!(eve.quick().await.is_none());
    }
}
