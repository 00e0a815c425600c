//! The adapters at the port: one suite for all, and what only databases have.

mod conformance;
mod databases;
mod support;
