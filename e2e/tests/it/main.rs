//! The harness itself: what it starts is there, survives restarts with its data, and ends with the test.

mod kafka;
mod postgres;
mod process;
