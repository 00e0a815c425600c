//! What the benchmarks share: a store made up from a seed, questions about it, a load, and a table of what came of it.

pub mod alone;
pub mod ask;
pub mod calls;
pub mod data;
pub mod load;
pub mod nodes;
pub mod report;
