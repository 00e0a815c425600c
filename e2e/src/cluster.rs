//! Kubernetes for tests, and for a look at Meridian on it.
//!
//! [`ControlPlane`] is an API server on an etcd of its own: enough for schemas, server-side apply and status.
//! [`Cluster`] has all that a real one has: controllers, a node that runs pods and routes Services, DNS; and Kafka and
//! PostgreSQL beside it. It lives in Linux namespaces of its own (processes, mounts, network), so that nothing of it is
//! left when they end, whatever has become of its parts. [`Access`] is how it is used.

mod access;
mod audit;
mod command;
mod control_plane;
mod credentials;
mod groups;
mod install;
mod kubectl;
mod network;
mod node;
mod record;
mod sandbox;
mod whole;

pub use access::Access;
pub use audit::{AuditLog, Call};
pub use control_plane::ControlPlane;
pub use install::OPERATOR_NAMESPACE;
pub use kubectl::Kubectl;
pub use record::Record;
pub use whole::Cluster;
