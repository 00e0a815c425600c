//! Kubernetes for tests.
//!
//! [`ControlPlane`] is an API server on an etcd of its own: enough for schemas, server-side apply and status.

mod audit;
mod control_plane;
mod credentials;
mod kubectl;

pub use audit::{AuditLog, Write};
pub use control_plane::ControlPlane;
pub use kubectl::Kubectl;
