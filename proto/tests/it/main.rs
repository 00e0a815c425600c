//! The wire as its users see it.

#[cfg(test)]
mod generate;
#[cfg(test)]
mod generated;
#[cfg(test)]
mod json;
#[cfg(test)]
mod nodes;
