//! The wire as its users see it.

mod generate;
mod generated;
mod json;
