//! Meridian on Kubernetes: a real control plane, a real kubelet, real pods.
//!
//! `cargo xtask test` runs these as root. By hand: `cargo xtask cluster images`, then
//! `cargo test -p meridian-e2e --test cluster -- --ignored --test-threads=8`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod client;
mod faults;
mod killed;
mod kills;
mod life;
mod load;
mod pod;
mod rollout;
mod secured;
mod shared;
mod site;
mod storage;
mod until;
