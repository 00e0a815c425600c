//! The command line's client, given an address where no node's gRPC is: told which, why, and what to look at.

use meridian_server::client::{Client, parse_model};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use crate::harness::Node;

async fn told(address: &str) -> String {
    let mut client = match Client::new(address) {
        Ok(client) => client,
        Err(error) => return format!("{error:#}"),
    };
    let told = format!("{:#}", client.create_store("shop").await.unwrap_err());
    eprintln!("{told}");
    told
}

#[tokio::test]
async fn an_address_with_a_scheme_or_without_a_port_is_refused() {
    for address in ["http://127.0.0.1:8081", "127.0.0.1", "127.0.0.1:8081/x", ""] {
        let told = told(address).await;
        assert!(
            told.starts_with(&format!(
                "--api is '{address}': write host:port, without http://"
            )),
            "{told}"
        );
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_named_with_the_reason() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let told = told(&address).await;
    for part in [&*address, "--api", "refused", "listen.grpc"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn a_host_without_an_address_is_named() {
    let told = told("nowhere.invalid:8081").await;
    for part in ["nowhere.invalid:8081", "--api", "listen.grpc"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn the_http_port_is_told_from_the_grpc_port() {
    let node = Node::start().await;
    let address = node.http.to_string();
    let told = told(&address).await;
    for part in [&*address, "--api", "listen.grpc", "not listen.http"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn what_speaks_another_protocol_is_told() {
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = other.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = other.accept().await {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await;
        }
    });
    let told = told(&address).await;
    for part in [&*address, "--api", "listen.grpc"] {
        assert!(told.contains(part), "{told}");
    }
}

#[tokio::test]
async fn a_refusal_of_a_node_is_shown_as_it_is() {
    let node = Node::start().await;
    let mut client = Client::new(&node.grpc.to_string()).unwrap();
    let refused = client.create_store("ab").await.unwrap_err().to_string();
    assert!(!refused.contains("--api"), "{refused}");
    let refused = client
        .assign_tiers("nonsense", Vec::new(), Vec::new())
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("does not serve this call"), "{refused}");
}

#[test]
fn a_model_that_breaks_a_rule_is_shown_where() {
    let text = "model\n  schema 1.1\ntype doc\n  relations\n    define reader: [user]\n";
    let told = parse_model(text).unwrap_err().to_string();
    assert!(
        told.starts_with("line 5, column 21: the relation type 'user'"),
        "{told}"
    );
}
