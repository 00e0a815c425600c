//! A database that is not there.

use std::time::{Duration, Instant};

use meridian_flow::RepositoryError;
use meridian_flow::ports::{FlowFilter, FlowRepository as _};
use meridian_flow::sql::SqlFlows;

use crate::support::store;

/// Who asks is not kept waiting until its time is up, and the log can say why.
#[tokio::test]
async fn where_nobody_listens_that_is_said_with_the_address() {
    let port = {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    for scheme in ["postgres", "mysql"] {
        let url = format!("{scheme}://flows:secret@127.0.0.1:{port}/flows");
        let flows = SqlFlows::connect_lazy(&url).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        let filter = FlowFilter::default();
        let asked = flows.get_flows(store(1), &filter, None, 10, deadline);
        let refused = asked.await.unwrap_err();
        let RepositoryError::Unavailable(why) = &refused else {
            panic!("{scheme}: {refused:?}");
        };
        let why = why.to_string();
        assert!(why.contains(&format!("127.0.0.1:{port}")), "{why}");
        assert!(!why.contains("secret"), "{why}");
    }
}
