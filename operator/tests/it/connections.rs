//! Connections to nodes.

use meridian_operator::nodes::{Client, NodeError, Nodes as _};
use tokio::net::TcpListener;

#[tokio::test]
async fn a_connection_on_which_nobody_answers_is_left_for_a_new_one() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let nodes = Client::default();
    let (said, dead) = tokio::join!(nodes.status(&at, None), listener.accept());
    assert!(matches!(said, Err(NodeError::Unavailable(_))), "{said:?}");
    // From now on there is a server, which knows no status.
    let serving = tokio::spawn(async { axum::serve(listener, axum::Router::new()).await });
    let said = nodes.status(&at, None).await;
    assert!(matches!(said, Err(NodeError::Refused(_))), "{said:?}");
    serving.abort();
    drop(dead);
}
