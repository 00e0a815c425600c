//! The operator's tests: what it builds, what it does with an API server made up for the test, and with a real one.

mod api_server;
mod crds;
mod fields;
mod fixtures;
mod golden;
mod reconcile;
mod troubles;
mod world;
