//! The live channel at a node: what [`meridian_live_channel`] asks for, answered by this node's own parts.

pub mod authority;
pub mod keeping;
pub mod observing;
pub mod publishing;
pub mod records;
pub mod stores;
pub mod tokens;
pub mod views;

#[cfg(test)]
mod tests;
