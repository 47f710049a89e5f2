//! What a type must do to be a field of a message.

use std::ops::{RangeFrom, RangeFull, RangeInclusive, RangeToInclusive};

use crate::Request;

use super::{DecodeError, EncodeError, Reader, Writer};

/// A type that fields can have.
pub(crate) trait Field: Sized {
    /// The fewest bytes that a value takes in any version, or 1 if that may be none: the bound of array counts.
    const BYTES_MIN: usize;

    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError>;

    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError>;

    fn is_null(&self) -> bool {
        false
    }
}

/// How the message that a field belongs to is encoded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub version: i16,
    /// Whether lengths are varints and structs end in tagged fields (KIP-482).
    pub flexible: bool,
}

impl Layout {
    /// The layout of a version of an API's messages, if there is that version.
    #[inline]
    pub fn of<R: Request>(version: i16) -> Option<Self> {
        let flexible = R::is_flexible(version);
        R::VERSIONS
            .contains(&version)
            .then_some(Self { version, flexible })
    }

    #[inline(always)]
    pub fn is_in(self, versions: &impl Versions) -> bool {
        versions.has(self.version)
    }
}

/// A range expression over versions.
pub(crate) trait Versions {
    /// Whether the range is that of all versions.
    const ALL: bool = false;

    fn has(&self, version: i16) -> bool;
}

/// Whether a range is that of all versions.
pub(crate) const fn always<V: Versions>(_: &V) -> bool {
    V::ALL
}

impl Versions for RangeFull {
    const ALL: bool = true;

    #[inline(always)]
    fn has(&self, _: i16) -> bool {
        true
    }
}

impl Versions for RangeFrom<i16> {
    #[inline(always)]
    fn has(&self, version: i16) -> bool {
        self.contains(&version)
    }
}

impl Versions for RangeToInclusive<i16> {
    #[inline(always)]
    fn has(&self, version: i16) -> bool {
        self.contains(&version)
    }
}

impl Versions for RangeInclusive<i16> {
    #[inline(always)]
    fn has(&self, version: i16) -> bool {
        self.contains(&version)
    }
}
