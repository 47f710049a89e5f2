//! What goes before every request and every response.

use crate::ApiKey;
use crate::wire::{DecodeError, EncodeError, Field, Layout, Reader, Text, Writer};

/// Says what a request is. Versions 1 and 2 of Kafka's definition; API and version decide which one it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHeader {
    /// Number of the API, which need not be one that we know.
    pub api_key: i16,
    /// Version of the request, and of its response.
    pub api_version: i16,
    /// Comes back with the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Text>,
}

/// Says which request a response belongs to. Versions 0 and 1 of Kafka's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ResponseHeader {
    /// The request's.
    pub correlation_id: i32,
}

impl RequestHeader {
    /// Reads a header; the request stays in the reader, unless the API is not known.
    ///
    /// # Errors
    /// The bytes are no header.
    pub fn decode(reader: &mut Reader) -> Result<Self, DecodeError> {
        let header = Self {
            api_key: Field::read(reader, HEADER)?,
            api_version: Field::read(reader, HEADER)?,
            correlation_id: Field::read(reader, HEADER)?,
            client_id: Field::read(reader, HEADER)?,
        };
        if header.has_tags() {
            reader.skip_tags()?;
        }
        Ok(header)
    }

    /// Writes a header.
    ///
    /// # Errors
    /// The client's name is too long.
    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        self.api_key.write(writer, HEADER)?;
        self.api_version.write(writer, HEADER)?;
        self.correlation_id.write(writer, HEADER)?;
        self.client_id.write(writer, HEADER)?;
        if self.has_tags() {
            writer.varint(0);
        }
        Ok(())
    }

    fn has_tags(&self) -> bool {
        ApiKey::from_i16(self.api_key).is_some_and(|key| key.request_header_version(self.api_version) >= 2)
    }
}

impl ResponseHeader {
    /// Reads a header of the version that [`ApiKey::response_header_version`] says.
    ///
    /// # Errors
    /// The bytes are no header.
    pub fn decode(reader: &mut Reader, header_version: i16) -> Result<Self, DecodeError> {
        let correlation_id = Field::read(reader, HEADER)?;
        if header_version >= 1 {
            reader.skip_tags()?;
        }
        Ok(Self { correlation_id })
    }

    /// Writes a header of the version that [`ApiKey::response_header_version`] says.
    ///
    /// # Errors
    /// None: every header can be written.
    pub fn encode(&self, writer: &mut Writer, header_version: i16) -> Result<(), EncodeError> {
        self.correlation_id.write(writer, HEADER)?;
        if header_version >= 1 {
            writer.varint(0);
        }
        Ok(())
    }
}

/// The client's name has a length of 16 bits in every version, so that any header can be read up to there.
const HEADER: Layout = Layout {
    version: 0,
    flexible: false,
};
