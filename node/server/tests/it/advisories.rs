//! What once went wrong in a system of this kind goes right here: at every node, held there or not, asked afresh and
//! again, alone and in a batch. Each test is named after what went wrong. The table of all is in `docs/compatibility.md`.

mod caches;
mod exclusion;
mod wildcards;
mod world;
