//! Roles, configuration, API, routing; the binaries.

pub mod admin;
pub mod answers;
pub mod api;
pub mod authn;
pub mod calls;
pub mod cli;
pub mod client;
pub mod commands;
pub mod config;
pub mod dev;
pub mod explanations;
pub mod flows;
pub mod limits;
pub mod live;
pub mod node_service;
mod outage;
mod pace;
pub mod peer;
pub mod recording;
mod retention;
pub mod roles;
pub mod routing;
pub mod schema;
pub mod snapshots;
pub mod status;
pub mod telemetry;
pub mod tls;
