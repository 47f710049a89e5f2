//! The rules by which messages become bytes and bytes become messages.
//!
//! Messages are declared with the macro `codec!`, field by field with the versions that have it, as in Apache Kafka's
//! message definitions; the macro writes both directions from that one list. Since some version of every API its
//! encoding is "flexible" (KIP-482): lengths are varints and fields may be tagged. Decoded text and bytes are slices
//! of the frame that they came in.

#[macro_use]
mod macros;
mod error;
mod field;
#[cfg(test)]
pub(crate) mod generate;
mod payload;
mod primitive;
mod reader;
#[cfg(test)]
mod tests;
mod text;
mod writer;

pub use error::{DecodeError, DecodeErrorKind, EncodeError};
pub(crate) use field::{Field, Layout, always};
pub use payload::{Chunk, Payload};
pub use reader::Reader;
pub use text::Text;
pub use writer::Writer;

/// A request or a response, in all of its versions.
pub trait Message: Sized + Send + Sync + 'static {
    /// Reads a message; bytes that follow it stay in the reader.
    ///
    /// # Errors
    /// The bytes are no such message, or there is no such version.
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    /// Writes a message. Fields that the version does not have are left out.
    ///
    /// # Errors
    /// A value has no representation in the version.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;
}
