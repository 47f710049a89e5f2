//! Writes a frame as a row of chunks.

use bytes::Bytes;

use super::{Chunk, EncodeError, Payload};

/// A frame in the making.
///
/// What is small is gathered in one buffer; large byte strings stay where they are and become chunks of their own.
#[derive(Debug, Default)]
pub struct Writer {
    buffer: Vec<u8>,
    /// Chunks that are not in the buffer, each with the position in the buffer before which it belongs.
    apart: Vec<(usize, Chunk)>,
    apart_bytes: usize,
    framed: bool,
    /// Inside a tagged field everything is copied: its length is put before it afterwards.
    in_tags: u32,
}

impl Writer {
    /// Begins a frame without its length.
    pub fn new() -> Self {
        Self {
            buffer: Vec::with_capacity(BUFFER_BYTES),
            ..Self::default()
        }
    }

    /// Begins a frame with its length, in four bytes, before it.
    pub fn frame() -> Self {
        let mut writer = Self {
            framed: true,
            ..Self::new()
        };
        writer.buffer.extend_from_slice(&[0; FRAME_LENGTH_BYTES]);
        writer
    }

    /// Demands that what was written so far fits a frame.
    pub(crate) fn check_length(&self) -> Result<(), EncodeError> {
        let length = self.len();
        i32::try_from(length)
            .map(|_| ())
            .map_err(|_| EncodeError::TooLong(length))
    }

    /// Bytes written, those of external chunks and of the frame's length included.
    fn len(&self) -> usize {
        self.buffer.len() + self.apart_bytes
    }

    /// Ends the frame.
    pub fn finish(mut self) -> Vec<Chunk> {
        if self.framed {
            let length = self.len() - FRAME_LENGTH_BYTES;
            let length =
                u32::try_from(length).expect("a message above 2 GiB was refused when it was encoded");
            self.buffer[..FRAME_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        }
        let buffer = Bytes::from(self.buffer);
        let mut chunks = Vec::with_capacity(2 * self.apart.len() + 1);
        let mut at = 0;
        for (position, chunk) in self.apart {
            if position > at {
                chunks.push(Chunk::Bytes(buffer.slice(at..position)));
                at = position;
            }
            chunks.push(chunk);
        }
        if at < buffer.len() {
            chunks.push(Chunk::Bytes(buffer.slice(at..)));
        }
        chunks
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self, bytes: [u8; N]) {
        self.buffer.extend_from_slice(&bytes);
    }

    /// Bytes without their length, copied.
    #[inline]
    pub(crate) fn slice(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes without their length, copied only if that is cheap.
    #[inline]
    pub(crate) fn bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < APART_BYTES_MIN || self.in_tags > 0 {
            self.slice(bytes);
        } else {
            self.put_apart(Chunk::Bytes(bytes.clone()), bytes.len());
        }
    }

    pub(crate) fn payload(&mut self, payload: &Payload) {
        match payload {
            Payload::Bytes(bytes) => self.bytes(bytes),
            Payload::External { len: 0, .. } => {}
            Payload::External { index, len } => {
                debug_assert_eq!(self.in_tags, 0, "records are not tagged fields in any message");
                self.put_apart(
                    Chunk::External {
                        index: *index,
                        len: *len,
                    },
                    *len as usize,
                );
            }
        }
    }

    fn put_apart(&mut self, chunk: Chunk, length: usize) {
        self.apart.push((self.buffer.len(), chunk));
        self.apart_bytes += length;
    }

    #[inline]
    pub(crate) fn varint(&mut self, value: u32) {
        let mut rest = value;
        while rest >= 0x80 {
            self.buffer.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.buffer.push(rest as u8);
    }

    /// A length or count, or null: a varint of one more, or 32 bits.
    #[inline]
    pub(crate) fn length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        if flexible {
            return self.compact_length(length);
        }
        let signed = match length {
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong(length))?,
            None => -1,
        };
        self.array(signed.to_be_bytes());
        Ok(())
    }

    /// The length of text, or null: a varint of one more, or 16 bits.
    #[inline]
    pub(crate) fn text_length(&mut self, length: Option<usize>, flexible: bool) -> Result<(), EncodeError> {
        // Kafka holds text to 16 bits in flexible versions too.
        let signed = match length {
            Some(length) => i16::try_from(length).map_err(|_| EncodeError::TextTooLong(length))?,
            None => -1,
        };
        if flexible {
            return self.compact_length(length);
        }
        self.array(signed.to_be_bytes());
        Ok(())
    }

    #[inline]
    fn compact_length(&mut self, length: Option<usize>) -> Result<(), EncodeError> {
        let more = match length {
            Some(length) => i32::try_from(length).map_err(|_| EncodeError::TooLong(length))? as u32 + 1,
            None => 0,
        };
        self.varint(more);
        Ok(())
    }

    /// A tagged field, whose value `write` appends.
    pub(crate) fn tagged(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Self) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.varint(tag);
        let start = self.buffer.len();
        self.in_tags += 1;
        write(self)?;
        self.in_tags -= 1;
        let end = self.buffer.len();
        let length = end - start;
        self.varint(u32::try_from(length).map_err(|_| EncodeError::TooLong(length))?);
        let length_bytes = self.buffer.len() - end;
        self.buffer[start..].rotate_right(length_bytes);
        Ok(())
    }
}

const FRAME_LENGTH_BYTES: usize = 4;
/// Room at the start; most messages need no more.
const BUFFER_BYTES: usize = 512;
/// From this size on, a chunk of its own is cheaper than a copy.
const APART_BYTES_MIN: usize = 4096;
