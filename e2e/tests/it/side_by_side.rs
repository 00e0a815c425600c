//! OpenFGA's own server beside a node of ours: both are asked the same, and must answer alike.
//!
//! A [`Pair`] is both servers with equal settings. A [`Talk`] sends each case to both, takes out what must differ (ids,
//! times, tokens) and remembers every other difference; [`Talk::end`] fails with all of them. A difference on purpose
//! names the row of the table in `docs/compatibility.md` that explains it, and must still be there.
//!
//! By hand: `cargo build -p meridian-server`, then
//! `cargo test -p meridian-e2e --test it side_by_side -- --nocapture`.

mod answer;
mod authzen;
mod batches;
mod callers;
mod case;
mod checks;
mod functional;
mod grpc;
mod http;
mod limits;
mod lists;
mod models;
mod pair;
mod requests;
mod stores;
mod talk;
mod tuples;

pub(crate) use answer::Answer;
pub(crate) use case::{Case, call, http, rpc};
pub(crate) use pair::Pair;
pub(crate) use talk::{Talk, row};
