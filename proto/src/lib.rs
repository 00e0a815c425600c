//! The wire: the messages, clients and servers of `openfga.v1` and `authzen.v1` (for applications) and `meridian.v1` (between
//! nodes).
//!
//! The code under `src/gen` is written from `proto/**/*.proto` by `tests/it/generate.rs`, so that building a node needs
//! neither protoc nor a build script. Messages for applications are also [`serde::Serialize`] and
//! [`serde::Deserialize`], in the JSON of OpenFGA's HTTP API; `src/json.rs` has its rules.

pub mod google;
mod json;

pub use generated::{authzen, meridian, openfga};

/// An encoded `google.protobuf.FileDescriptorSet` of the files with what clients call, and their imports, for gRPC
/// reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");

#[allow(
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
mod generated {
    pub mod authzen {
        //! The API of AuthZEN.

        pub mod v1 {
            //! `authzen.v1`, as Rust and as JSON.
            include!("gen/authzen.v1.rs");
            include!("gen/authzen.v1.json.rs");
        }
    }

    pub mod openfga {
        //! The API of OpenFGA.

        pub mod v1 {
            //! `openfga.v1`, as Rust and as JSON.
            include!("gen/openfga.v1.rs");
            include!("gen/openfga.v1.json.rs");
        }
    }

    pub mod meridian {
        //! What the nodes say to each other, and to those who operate them.

        pub mod v1 {
            //! `meridian.v1`, as Rust.
            include!("gen/meridian.v1.rs");
        }
    }
}
