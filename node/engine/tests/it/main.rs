//! The engine against a plain reference.

mod arbitrary;
mod evaluation;
mod reference;
mod view;
