//! Integration tests of `meridian-sync`.

mod kafka;
mod simulator;
