//! The DSL.
