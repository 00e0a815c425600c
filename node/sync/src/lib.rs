//! How changes travel: from the writer's outbox over Kafka to regional datastores and into the views of edges.
//!
//! The rules are pure and tested without I/O: [`envelope`] (the wire), [`tier`] (what an
//! edge is sent), [`freshness`] (how old it is), [`edge`] (an edge's replicas, as a machine). Around them: [`kafka`] (topics,
//! relay, consumers), [`regional`] and [`edge_driver`] (the tasks that carry it all out), [`views`] (what readers see), and
//! [`upstream`] (what is asked of the node above, by whatever transport).

mod aside;
pub mod edge;
pub mod edge_driver;
pub mod envelope;
pub mod freshness;
pub mod kafka;
pub mod regional;
mod retry;
pub mod tier;
pub mod touches;
pub mod upstream;
pub mod views;

pub use retry::Patience;
