//! Reads a frame from its beginning to its end.

use bytes::Bytes;

use super::{DecodeError, DecodeErrorKind, Text};

/// Bytes of a frame and a position in them.
#[derive(Debug, Clone)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    /// Where reading must stop: the end of the frame or of a tagged field.
    end: usize,
}

impl Reader {
    /// Starts at the beginning of a frame, behind its length.
    pub fn new(frame: Bytes) -> Self {
        let end = frame.len();
        Self { frame, at: 0, end }
    }

    /// Bytes that were not read yet.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// An error about what comes next.
    pub(crate) fn fault(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError { at: self.at, kind }
    }

    /// Demands that there are so many bytes.
    #[inline(always)]
    pub(crate) fn check(&self, needed: usize) -> Result<(), DecodeError> {
        if needed <= self.remaining() {
            Ok(())
        } else {
            Err(self.truncated(needed))
        }
    }

    #[cold]
    fn truncated(&self, needed: usize) -> DecodeError {
        self.fault(DecodeErrorKind::Truncated {
            needed,
            available: self.remaining(),
        })
    }

    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        match self.frame[self.at..self.end].first_chunk() {
            Some(bytes) => {
                self.at += N;
                Ok(*bytes)
            }
            None => Err(self.truncated(N)),
        }
    }

    /// The next `length` bytes, as a slice of the frame.
    #[inline]
    pub(crate) fn bytes(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.check(length)?;
        let bytes = self.frame.slice(self.at..self.at + length);
        self.at += length;
        Ok(bytes)
    }

    #[inline]
    pub(crate) fn text(&mut self, length: usize) -> Result<Text, DecodeError> {
        let at = self.at;
        Text::from_utf8(self.bytes(length)?).map_err(|_| DecodeError {
            at,
            kind: DecodeErrorKind::Utf8,
        })
    }

    /// An unsigned varint of up to 32 bits.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let [first] = self.array()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let mut value = u32::from(first & 0x7f);
        for index in 1..5 {
            let [byte] = self.array()?;
            // The fifth byte has room for four bits; more would not fit 32.
            if index == 4 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(self.fault(DecodeErrorKind::Varint))
    }

    /// A length or count that says `None` for null: a varint of one more, or 32 bits.
    #[inline]
    pub(crate) fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if flexible {
            return self.compact_length();
        }
        let length = i32::from_be_bytes(self.array()?);
        self.signed_length(length)
    }

    /// The length of text: a varint of one more, or 16 bits.
    #[inline]
    pub(crate) fn text_length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        if !flexible {
            let length = i16::from_be_bytes(self.array()?);
            return self.signed_length(length.into());
        }
        // Kafka holds text to 16 bits in flexible versions too.
        match self.compact_length()? {
            Some(length) if length > i16::MAX as usize => {
                Err(self.fault(DecodeErrorKind::TextTooLong(length)))
            }
            length => Ok(length),
        }
    }

    #[inline]
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.varint()?.checked_sub(1).map(|length| length as usize))
    }

    #[inline]
    fn signed_length(&self, length: i32) -> Result<Option<usize>, DecodeError> {
        match length {
            0.. => Ok(Some(length as usize)),
            -1 => Ok(None),
            _ => Err(self.fault(DecodeErrorKind::Length(length))),
        }
    }

    /// Begins a tagged field: gives its tag and what [`Reader::leave_tag`] needs to go on behind it.
    pub(crate) fn enter_tag(&mut self) -> Result<(u32, usize), DecodeError> {
        let (tag, length) = (self.varint()?, self.varint()? as usize);
        self.check(length)?;
        let outer = std::mem::replace(&mut self.end, self.at + length);
        Ok((tag, outer))
    }

    /// Passes over the value of a tagged field that is not known.
    pub(crate) fn skip_tag(&mut self) {
        self.at = self.end;
    }

    /// Ends a tagged field, all of which must have been read.
    pub(crate) fn leave_tag(&mut self, outer: usize) -> Result<(), DecodeError> {
        if self.at != self.end {
            return Err(self.fault(DecodeErrorKind::TaggedFieldLength(self.remaining())));
        }
        self.end = outer;
        Ok(())
    }

    /// Passes over tagged fields, none of which is known.
    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.varint()? {
            let (_, outer) = self.enter_tag()?;
            self.skip_tag();
            self.leave_tag(outer)?;
        }
        Ok(())
    }
}
