//! Searching the log by time (KIP-33, KIP-79, KIP-734).

use millstream_core::ids::Offset;
use millstream_kafka::records::{BatchHeader, BatchView, Scratch};

use super::{Log, TimestampOffset};
use crate::disk::Disk;
use crate::error::ReadError;
use crate::scan::Scanner;
use crate::segment::Segment;

impl<D: Disk> Log<D> {
    /// The first record, by offset, whose timestamp is `timestamp` or later. May read from the disk.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        for segment in self
            .segments
            .iter()
            .filter(|segment| segment.max_timestamp >= timestamp)
        {
            let mut from = segment
                .time_floor(&self.disk, &self.dir, timestamp)?
                .max(self.log_start);
            // The batch with such a record may have none that is kept: then the search goes on behind it.
            while let Some((position, header)) = self.batch_since(segment, from, timestamp)? {
                if let Some(found) = self.record_since(segment, position, &header, timestamp)? {
                    return Ok(Some(found));
                }
                from = header.next_offset();
            }
        }
        Ok(None)
    }

    /// The first record among those with the largest timestamp. May read from the disk.
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let largest = self
            .segments
            .iter()
            .map(|segment| segment.max_timestamp)
            .max()
            .unwrap_or(-1);
        if largest < 0 {
            return Ok(None);
        }
        self.offset_for_timestamp(largest)
    }

    fn batch_since(
        &self,
        segment: &Segment<D>,
        from: i64,
        timestamp: i64,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let floor = segment.position_floor(&self.disk, &self.dir, from)?;
        let is_older = |header: &BatchHeader| header.last_offset() < from || header.max_timestamp < timestamp;
        self.skip_while(segment, floor, is_older)
    }

    fn record_since(
        &self,
        segment: &Segment<D>,
        position: u64,
        header: &BatchHeader,
        timestamp: i64,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let file = segment.file(&self.disk, &self.dir)?;
        let mut scanner = Scanner::new(file.as_ref(), position, segment.size, 0);
        let bytes = scanner.batch_bytes(header)?;
        let damaged = |error| self.damaged(segment, position, &error);
        let batch = BatchView::parse(bytes).map_err(damaged)?;
        let mut scratch = Scratch::new();
        for record in batch
            .records(&mut scratch, DECOMPRESSED_BYTES_MAX)
            .map_err(damaged)?
        {
            let record = record.map_err(damaged)?;
            if record.timestamp >= timestamp && record.offset >= self.log_start {
                let offset = Offset(record.offset);
                return Ok(Some(TimestampOffset {
                    timestamp: record.timestamp,
                    offset,
                }));
            }
        }
        Ok(None)
    }
}

/// Bytes that one batch may have when it is decompressed for a search.
const DECOMPRESSED_BYTES_MAX: usize = 256 << 20;
