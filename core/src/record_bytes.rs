//! How the records of coordinators are written: Kafka's primitives, each in the plain and in the compact encoding.
//!
//! It knows how long things are and what a text is, and nothing of what a record means.

use std::ops::RangeInclusive;

/// Bytes that are no record of a coordinator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// It ends too early.
    #[error("record ends too early")]
    Truncated,
    /// It does not end where it should.
    #[error("record goes on after its end")]
    Overlong,
    /// A length or count is negative or too large.
    #[error("record has an impossible length")]
    Length,
    /// A text is not UTF-8.
    #[error("record has a text that is not UTF-8")]
    Text,
    /// A number that stands for nothing.
    #[error("record has unknown state {0}")]
    State(i8),
    /// A version that is not known. Logs of newer brokers have keys that older ones skip.
    #[error("record has unknown version {0}")]
    Version(i16),
}

/// A record that is being written.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) bytes: Vec<u8>,
    /// Whether lengths are varints and structures end in tagged fields (KIP-482).
    flexible: bool,
}

impl Output {
    /// One whose version has compact lengths and tagged fields.
    pub(crate) fn flexible() -> Self {
        Self {
            bytes: Vec::new(),
            flexible: true,
        }
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(crate) fn varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// Texts come from requests, where their lengths had the same two bytes or were bounded as those are.
    pub(crate) fn text(&mut self, text: &str) {
        let length =
            i16::try_from(text.len()).expect("texts of coordinators are checked to be shorter than 32 KiB");
        if self.flexible {
            self.varint(length as u32 + 1);
        } else {
            self.i16(length);
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(crate) fn optional(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None if self.flexible => self.varint(0),
            None => self.i16(-1),
        }
    }

    pub(crate) fn data(&mut self, data: &[u8]) {
        self.count(Some(data.len()));
        self.bytes.extend_from_slice(data);
    }

    /// How many elements an array has; none for null.
    pub(crate) fn count(&mut self, count: Option<usize>) {
        match (self.flexible, count) {
            (true, count) => self.varint(count.map_or(0, |count| count as u32 + 1)),
            (false, count) => self.i32(count.map_or(-1, |count| count as i32)),
        }
    }

    /// The end of a structure: its tagged fields, in the order of their tags.
    pub(crate) fn tags(&mut self, tags: &[(u32, Vec<u8>)]) {
        if self.flexible {
            self.varint(tags.len() as u32);
            for (tag, data) in tags {
                self.varint(*tag);
                self.varint(data.len() as u32);
                self.bytes.extend_from_slice(data);
            }
        }
    }
}

/// What is left of a record that is being read.
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    /// Whether lengths are varints and structures end in tagged fields (KIP-482).
    flexible: bool,
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            flexible: false,
        }
    }

    /// The version that a record begins with. From `flexible_from` on the rest of it is compact.
    pub(crate) fn version(
        &mut self,
        known: RangeInclusive<i16>,
        flexible_from: i16,
    ) -> Result<i16, RecordError> {
        let version = self.i16()?;
        self.flexible = version >= flexible_from;
        if known.contains(&version) {
            Ok(version)
        } else {
            Err(RecordError::Version(version))
        }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RecordError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        Ok(self
            .take(N)?
            .try_into()
            .expect("take gives as many bytes as it is asked for"))
    }

    pub(crate) fn i8(&mut self) -> Result<i8, RecordError> {
        self.array().map(i8::from_be_bytes)
    }

    pub(crate) fn i16(&mut self) -> Result<i16, RecordError> {
        self.array().map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self) -> Result<i32, RecordError> {
        self.array().map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, RecordError> {
        self.array().map(i64::from_be_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in (0..35).step_by(7) {
            let byte = self.array::<1>()?[0];
            value |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Length)
    }

    /// A length of `plain` bytes in the old encoding; none for null.
    fn length(&mut self, plain: usize) -> Result<Option<usize>, RecordError> {
        let length = match (self.flexible, plain) {
            (true, _) => i64::from(self.varint()?) - 1,
            (false, 2) => i64::from(self.i16()?),
            (false, _) => i64::from(self.i32()?),
        };
        match usize::try_from(length) {
            Ok(length) if length <= self.rest.len() => Ok(Some(length)),
            Ok(_) => Err(RecordError::Length),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(RecordError::Length),
        }
    }

    pub(crate) fn optional(&mut self) -> Result<Option<String>, RecordError> {
        let Some(length) = self.length(2)? else {
            return Ok(None);
        };
        // What was read can be written again, also in the plain encoding.
        if length > TEXT_BYTES_MAX {
            return Err(RecordError::Length);
        }
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| RecordError::Text)?;
        Ok(Some(text.to_owned()))
    }

    pub(crate) fn text(&mut self) -> Result<String, RecordError> {
        self.optional()?.ok_or(RecordError::Length)
    }

    pub(crate) fn data(&mut self) -> Result<&'a [u8], RecordError> {
        let length = self.length(4)?.ok_or(RecordError::Length)?;
        self.take(length)
    }

    /// How many elements an array has, at most as many as there are bytes; none for null.
    pub(crate) fn count(&mut self) -> Result<usize, RecordError> {
        Ok(self.length(4)?.unwrap_or(0))
    }

    /// The end of a structure, whose tagged fields are of no interest.
    pub(crate) fn tags(&mut self) -> Result<(), RecordError> {
        self.tagged(|_, _| Ok(()))
    }

    /// The end of a structure, each of whose tagged fields is given to `read`.
    pub(crate) fn tagged(
        &mut self,
        mut read: impl FnMut(u32, Self) -> Result<(), RecordError>,
    ) -> Result<(), RecordError> {
        if self.flexible {
            for _ in 0..self.varint()? {
                let tag = self.varint()?;
                let size = self.varint()? as usize;
                let field = Self {
                    rest: self.take(size)?,
                    flexible: true,
                };
                read(tag, field)?;
            }
        }
        Ok(())
    }

    /// Reads what has to be all that is left.
    pub(crate) fn whole<T>(
        mut self,
        read: impl FnOnce(&mut Self) -> Result<T, RecordError>,
    ) -> Result<T, RecordError> {
        let value = read(&mut self)?;
        if self.rest.is_empty() {
            Ok(value)
        } else {
            Err(RecordError::Overlong)
        }
    }
}

/// Longest text that a record can hold, in bytes.
pub(crate) const TEXT_BYTES_MAX: usize = i16::MAX as usize;
