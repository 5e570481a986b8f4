//! What crosses a wire between the processes of a cluster: the gRPC services ([`v1`]), the ids they speak of ([`ids`]),
//! and the codecs of the data plane and of the blob protocol. Nothing here opens a socket or a file.
//!
//! Compatibility: fields of `tidemill.v1` are only ever added; a field number is never used again for something else,
//! and a receiver treats an absent field as the value the `.proto` file gives for it.

pub mod blob;
pub mod frame;
pub mod ids;
pub mod v1;

/// Largest gRPC message any of our servers and clients accepts or sends, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 8 * 1024 * 1024;
