//! Kafka's wire protocol and record batches: bounded, zero-copy, without I/O.
//!
//! [`api`] has the messages, [`header`] what goes before them, [`wire`] the rules by which they become bytes, and
//! [`records`] the batches that they carry. Bytes of a peer are never trusted: what is wrong with them is an error,
//! and no memory is taken because a length field asks for it. Nothing here knows a socket, a file or a clock.

#[macro_use]
pub mod wire;

pub mod api;
mod api_key;
mod error_code;
pub mod header;
mod keys;
pub mod records;

pub use api_key::{ApiKey, Request};
pub use error_code::ErrorCode;
pub use keys::{murmur2, partition_of_key};
