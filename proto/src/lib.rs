//! The gRPC contract of Vitrine: messages, clients and servers generated from `vitrine/v1/*.proto`.
//!
//! The `.proto` files are the documentation: every field there says its unit, range and default.

/// Package `vitrine.v1`.
pub mod v1 {
    #![expect(missing_docs, clippy::pedantic, clippy::as_conversions, reason = "generated code")]

    tonic::include_proto!("vitrine.v1");
}

/// The contract as an encoded `google.protobuf.FileDescriptorSet`, for server reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = tonic::include_file_descriptor_set!("vitrine.v1");
