//! The wire: the messages, clients and servers of `openfga.v1` (for applications) and `meridian.v1` (between nodes).
//!
//! The code under `src/gen` is written from `proto/**/*.proto` by `tests/it/generated.rs`, so that building a node needs
//! neither protoc nor a build script. Messages of `openfga.v1` are also [`serde::Serialize`] and
//! [`serde::Deserialize`], in the JSON of OpenFGA's HTTP API; see [`json`].

pub mod google;
pub mod json;

/// The API of OpenFGA.
pub mod openfga {
    /// `openfga.v1`, as Rust.
    #[allow(
        missing_docs,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        reason = "generated"
    )]
    pub mod v1 {
        include!("gen/openfga.v1.rs");
        include!("gen/openfga.v1.json.rs");
    }
}

/// What the nodes say to each other, and to those who operate them.
pub mod meridian {
    /// `meridian.v1`, as Rust.
    #[allow(
        missing_docs,
        unused_qualifications,
        unreachable_pub,
        clippy::all,
        reason = "generated"
    )]
    pub mod v1 {
        include!("gen/meridian.v1.rs");
    }
}

/// An encoded `google.protobuf.FileDescriptorSet` of all files and their imports, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/descriptors.bin");
