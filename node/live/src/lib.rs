//! The live channel: a high-volume plane of records beside the API, from a topic to whoever may see them.
//!
//! A client connects by WebSocket ([`server`]), is known by its token, and subscribes to objects. **One** check decides a
//! subscription; after that every record is matched in memory ([`hub`]), with no call to anyone. What others leave open is
//! closed: a subscription rests on what its check read, and once the node passes a change of that, nothing more is delivered
//! until the check was made again ([`review`]).
//!
//! It observes: it may drop, never blocks whoever brings records, never decides. Nothing here knows Kafka, stores' data or how a
//! check is answered: those are [`ports`]. Records that stay go by SQL of their own ([`durable`]) to a table that the datastore's
//! migrations make; the fan-out knows nothing of them.

mod cursor;
pub mod durable;
mod frames;
mod history;
pub mod hub;
mod meters;
mod outbox;
pub mod ports;
pub mod record;
pub mod review;
mod room;
pub mod server;
mod session;
pub mod settings;
mod showing;
pub mod sockets;

pub use frames::PROTOCOL;
pub use hub::{Hub, Touched};
pub use record::{Place, Record};
pub use server::Server;
pub use settings::Settings;
