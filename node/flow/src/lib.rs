//! The flow recorder: what happened to a login or a decision, step by step, kept without slowing either.
//!
//! ```text
//! the one who is served ──FlowRecorder──▶ bounded channel ──▶ writer task ──Sink──▶ a database, or the region's
//! ```
//!
//! [`FlowRecorder`] is all that those who are observed know. [`FlowRecorder::start_flow`] alone waits, since other tables
//! refer to the id that it returns; everything else is handed over or dropped, never waited for. The writer puts many
//! events into few statements, and goes on trying while the database is away, as far as its bounded buffer reaches.
//!
//! Where flows are kept is behind the traits of [`ports`]: [`sql`] (PostgreSQL, MySQL, MariaDB, SQLite) and [`memory`].

mod change;
pub mod flow;
mod keeper;
pub mod memory;
pub mod ports;
pub mod recorder;
pub mod retention;
mod session;
mod settings;
mod settling;
pub mod sql;
pub mod tap;
mod text;
mod warning;
mod writer;

pub use flow::{Asked, Completion, Flow, FlowId, FlowKind, FlowStatus, Recorded, Step, StepStatus};
pub use keeper::Keeper;
pub use ports::{Repository, RepositoryError, Row, Sink};
pub use recorder::{FlowRecorder, NotStored, RecorderSettings, StartFlow, StoreSettings};
pub use session::Session;
pub use settling::LONGEST_PAUSE;
pub use text::MAX_EXPLANATION_BYTES;
