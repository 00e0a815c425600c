//! The operator's tests: what it builds, what it does with an API server made up for the test, and with a real one.

mod crds;
