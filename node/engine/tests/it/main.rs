//! The engine against a plain reference.

mod arbitrary;
mod evaluation;
mod hostile;
mod reference;
mod view;
