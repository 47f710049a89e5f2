//! The rows that tell a guest where the parts of each record lie (`wit/plugin.wit`, "How records cross").

use std::ops::Range;

/// Where the parts of one record lie in the data beside the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key, if the record has one.
    pub key: Option<Range<u32>>,
    /// The value, if the record has one.
    pub value: Option<Range<u32>>,
    /// All headers as in a Kafka record, without their number; empty if there are none.
    pub headers: Range<u32>,
}

/// Packs rows, 32 bytes each. It can be cleared and used again, so that a caller allocates once.
///
/// How much goes into one call is the caller's choice: slices of 64 to 128 KiB of data stay within the processor's cache
/// and still make the call itself cheap.
#[derive(Debug, Clone, Default)]
pub struct RowsBuilder {
    bytes: Vec<u8>,
}

impl RowsBuilder {
    /// No rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// No rows, with room for some.
    pub fn with_capacity(rows: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(rows * ROW_BYTES),
        }
    }

    /// Adds a record. Its ranges must lie within the data that is handed over with the rows, and a part must be shorter than
    /// 2 GiB.
    #[inline]
    pub fn push(&mut self, row: &Row) {
        let part = |range: &Option<Range<u32>>| match range {
            Some(range) => (range.start, (range.end - range.start) as i32),
            None => (0, -1),
        };
        let (key, value) = (part(&row.key), part(&row.value));
        let mut bytes = [0; ROW_BYTES];
        bytes[0..8].copy_from_slice(&row.timestamp_ms.to_le_bytes());
        bytes[8..12].copy_from_slice(&key.0.to_le_bytes());
        bytes[12..16].copy_from_slice(&key.1.to_le_bytes());
        bytes[16..20].copy_from_slice(&value.0.to_le_bytes());
        bytes[20..24].copy_from_slice(&value.1.to_le_bytes());
        bytes[24..28].copy_from_slice(&row.headers.start.to_le_bytes());
        bytes[28..32].copy_from_slice(&(row.headers.end - row.headers.start).to_le_bytes());
        self.bytes.extend_from_slice(&bytes);
    }

    /// What a call takes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.bytes.len() / ROW_BYTES
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Removes all rows and keeps the room.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Bytes of a row, of a guest's answer too.
pub const ROW_BYTES: usize = 32;

/// The most rows that a call takes.
pub const ROWS_MAX: usize = 1 << 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_laid_out_as_the_contract_says() {
        let mut rows = RowsBuilder::new();
        rows.push(&Row {
            timestamp_ms: -2,
            key: None,
            value: Some(3..10),
            headers: 10..12,
        });
        let expected = [
            &(-2i64).to_le_bytes()[..],
            &0u32.to_le_bytes(),
            &(-1i32).to_le_bytes(),
            &3u32.to_le_bytes(),
            &7i32.to_le_bytes(),
            &10u32.to_le_bytes(),
            &2i32.to_le_bytes(),
        ];
        assert_eq!(rows.bytes(), expected.concat());
        assert_eq!(rows.len(), 1);
        rows.clear();
        assert!(rows.is_empty());
    }
}
