//! The packed rows of a slice, as `wit/plugin.wit` lays them out. They are read in place.

use crate::headers::Headers;
use crate::record::Record;

/// The records of a slice, in the order of the log.
///
/// # Panics
/// The length of `rows` is no multiple of 32; the iterator panics at a row that points out of `data`. The host breaks
/// the contract then, and there is nothing to tell it.
#[inline]
pub(crate) fn records<'a>(rows: &'a [u8], data: &'a [u8]) -> impl ExactSizeIterator<Item = Record<'a>> {
    let (rows, rest) = rows.as_chunks::<ROW_BYTES>();
    assert!(rest.is_empty(), "a row has {ROW_BYTES} bytes");
    rows.iter().map(|row| read(row, data))
}

#[inline]
fn read<'a>(row: &'a [u8; ROW_BYTES], data: &'a [u8]) -> Record<'a> {
    let [t0, t1, t2, t3, t4, t5, t6, t7, parts @ ..] = *row;
    let word = |at: usize| u32::from_le_bytes([parts[at], parts[at + 1], parts[at + 2], parts[at + 3]]);
    Record::borrowed(
        i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        part(data, word(0), word(4).cast_signed()),
        part(data, word(8), word(12).cast_signed()),
        Headers::new(part(data, word(16), word(20).cast_signed()).unwrap_or_default()),
    )
}

/// A part of a record; none if the length says that it is null.
#[inline]
fn part(data: &[u8], offset: u32, length: i32) -> Option<&[u8]> {
    let length = usize::try_from(length).ok()?;
    if length == 0 {
        return Some(&[]);
    }
    let found = data.get(offset as usize..).and_then(|rest| rest.get(..length));
    Some(found.expect("the host hands over rows that point into the data"))
}

/// Bytes of a row, of those that come in and of those that a transform makes.
pub(crate) const ROW_BYTES: usize = 32;
