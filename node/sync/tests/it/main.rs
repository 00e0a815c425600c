//! Integration tests of `meridian-sync`.

mod simulator;
