//! Reading: which bytes of which file hold the records from an offset on. The bytes themselves stay in the file.

use std::collections::VecDeque;

use millstream_core::ids::Offset;
use millstream_kafka::records::{BatchError, BatchHeader};

use super::{Log, Mark, Slice};
use crate::disk::Disk;
use crate::error::ReadError;
use crate::scan::{Found, LONG_SCAN_BYTES, Scanner};
use crate::segment::{LOG, Segment, path};

impl<D: Disk> Log<D> {
    /// Finds whole batches: the first one holds `from` (or follows it, where records were compacted away), none holds
    /// `upper_bound` or anything behind it, all together have `bytes_max` bytes at most. A first batch that is larger
    /// is returned alone if `one_batch_at_least`. None if there is nothing to return.
    ///
    /// At the tail and where an earlier read ended this touches no file. Checksums are not compared: readers do that,
    /// or [`Log::verify`].
    ///
    /// # Errors
    /// The offset lies outside of the log, or its place cannot be found in the file.
    pub fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        upper_bound: Offset,
        one_batch_at_least: bool,
    ) -> Result<Option<Slice<D::File>>, ReadError> {
        if from.0 < self.log_start || from.0 > self.log_end {
            let (start, end) = (Offset(self.log_start), Offset(self.log_end));
            return Err(ReadError::OutOfRange {
                offset: from,
                start,
                end,
            });
        }
        let upper = upper_bound.0.min(self.log_end);
        if from.0 >= upper {
            return Ok(None);
        }
        let Some((number, start)) = self.locate(from.0)? else {
            return Ok(None);
        };
        let segment = &self.segments[number];
        let limit = start.saturating_add(bytes_max as u64);
        let mut end = self.find_end(number, start, limit, upper)?;
        if end == start && one_batch_at_least {
            let file = segment.file(&self.disk, &self.dir)?;
            let mut scanner = Scanner::new(file.as_ref(), start, segment.size, 0);
            match scanner.peek()? {
                Found::Batch(header) if header.last_offset() < upper => end += header.total_bytes() as u64,
                Found::Batch(_) | Found::End => {}
                Found::Bad(error) => return Err(self.damaged(segment, start, &error)),
            }
        }
        if end == start {
            return Ok(None);
        }
        let file = segment.file(&self.disk, &self.dir)?;
        Ok(Some(Slice {
            file,
            position: start,
            len: (end - start) as usize,
        }))
    }

    /// How many bytes lie from `offset` on, whole batches counted: what somebody lacks who has all before it.
    ///
    /// # Errors
    /// Its place cannot be found in the file.
    pub fn bytes_from(&self, offset: Offset) -> Result<u64, ReadError> {
        if offset.0 <= self.log_start {
            return Ok(self.size_bytes());
        }
        let located = match offset.0 < self.log_end {
            true => self.locate(offset.0)?,
            false => None,
        };
        let Some((number, position)) = located else {
            return Ok(0);
        };
        let bytes: u64 = self
            .segments
            .iter()
            .skip(number)
            .map(|segment| segment.size)
            .sum();
        Ok(bytes.saturating_sub(position))
    }

    /// Compares the checksums of all batches, and their order. Reads the whole log; returns the bytes read.
    ///
    /// # Errors
    /// The first damaged place.
    pub fn verify(&self) -> Result<u64, ReadError> {
        for segment in &self.segments {
            let file = segment.file(&self.disk, &self.dir)?;
            let mut scanner = Scanner::new(file.as_ref(), 0, segment.size, LONG_SCAN_BYTES);
            let mut expected = segment.base;
            loop {
                match scanner.peek_verified()? {
                    Found::Batch(header) if header.base_offset < expected => {
                        let wrong = BatchError::Field {
                            field: "baseOffset",
                            value: header.base_offset,
                        };
                        return Err(self.damaged(segment, scanner.position(), &wrong));
                    }
                    Found::Batch(header) => {
                        expected = header.next_offset();
                        scanner.skip(&header);
                    }
                    Found::End => break,
                    Found::Bad(error) => return Err(self.damaged(segment, scanner.position(), &error)),
                }
            }
        }
        Ok(self.size_bytes())
    }

    /// The segment (by its number) and the position of the batch that holds `offset`, or else the next one.
    pub(super) fn locate(&self, offset: i64) -> Result<Option<(usize, u64)>, ReadError> {
        let mut number = self
            .segments
            .partition_point(|s| s.base <= offset)
            .saturating_sub(1);
        if let Some(mark) = self.marked(offset)
            && self.segments[number].base == mark.segment
        {
            return Ok(Some((number, mark.position)));
        }
        while let Some(segment) = self.segments.get(number) {
            let is_behind = |header: &BatchHeader| header.last_offset() < offset;
            let floor = segment.position_floor(&self.disk, &self.dir, offset)?;
            let mut found = self.skip_while(segment, floor, is_behind)?;
            if floor > 0
                && found.is_none_or(|(position, header)| position == floor && header.base_offset > offset)
            {
                // The index may have led behind the place: the segment itself decides.
                found = self.skip_while(segment, 0, is_behind)?;
            }
            if let Some((position, _)) = found {
                return Ok(Some((number, position)));
            }
            number += 1;
        }
        Ok(None)
    }

    /// The first batch from `floor` on for which `is_skipped` does not hold.
    pub(super) fn skip_while(
        &self,
        segment: &Segment<D>,
        floor: u64,
        is_skipped: impl Fn(&BatchHeader) -> bool,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let file = segment.file(&self.disk, &self.dir)?;
        let mut scanner = Scanner::new(file.as_ref(), floor, segment.size, SHORT_SCAN_BYTES);
        loop {
            match scanner.peek()? {
                Found::Batch(header) if is_skipped(&header) => scanner.skip(&header),
                Found::Batch(header) => return Ok(Some((scanner.position(), header))),
                Found::End => return Ok(None),
                Found::Bad(_) if floor > 0 => {
                    // The index may be wrong; the segment itself decides.
                    return self.skip_while(segment, 0, is_skipped);
                }
                Found::Bad(error) => return Err(self.damaged(segment, scanner.position(), &error)),
            }
        }
    }

    pub(super) fn damaged(&self, segment: &Segment<D>, position: u64, error: &BatchError) -> ReadError {
        ReadError::Damaged {
            path: path(&self.dir, segment.base, LOG),
            position,
            reason: error.to_string(),
        }
    }

    /// Where the last batch ends that ends at `limit` or before it and holds no offset from `upper` on.
    fn find_end(&self, number: usize, start: u64, limit: u64, upper: i64) -> Result<u64, ReadError> {
        let segment = &self.segments[number];
        let end_offset = self
            .segments
            .get(number + 1)
            .map_or(self.log_end, |next| next.base);
        if segment.size <= limit && end_offset <= upper {
            return Ok(segment.size);
        }
        let flushed = self.flushed;
        if flushed.offset == upper && flushed.segment == segment.base && flushed.position <= limit {
            return Ok(flushed.position.max(start));
        }
        let fits = |mark: &Mark| mark.offset <= upper && mark.position <= limit;
        let recent = self
            .recent
            .partition_point(|mark| mark.segment < segment.base || fits(mark));
        if let Some(mark) = recent.checked_sub(1).and_then(|at| self.recent.get(at))
            && mark.segment == segment.base
            && fits(mark)
        {
            return Ok(mark.position.max(start));
        }
        let floor = segment.end_floor(&self.disk, &self.dir, limit, upper)?.max(start);
        let goes_on = |at: u64, header: &BatchHeader| {
            at + header.total_bytes() as u64 <= limit && header.last_offset() < upper
        };
        let file = segment.file(&self.disk, &self.dir)?;
        let mut scanner = Scanner::new(file.as_ref(), floor, segment.size, SHORT_SCAN_BYTES);
        loop {
            let at = scanner.position();
            match scanner.peek()? {
                Found::Batch(header) if goes_on(at, &header) => scanner.skip(&header),
                Found::Batch(header) if at > start && header.base_offset > upper => {
                    // The index led too far.
                    return Ok(self.whole_until(segment, start, limit, upper));
                }
                Found::Batch(header) => {
                    self.hint(Mark {
                        offset: header.base_offset,
                        segment: segment.base,
                        position: at,
                    });
                    return Ok(at);
                }
                Found::End => return Ok(at),
                // What lies before the damage can be read; with nothing before it, it is the reader's to know.
                Found::Bad(_) if at > start => return Ok(self.whole_until(segment, start, at, upper)),
                Found::Bad(error) => return Err(self.damaged(segment, at, &error)),
            }
        }
    }

    /// Where the readable batches between `start` and `end` that lie before offset `upper` end, found without the
    /// index.
    fn whole_until(&self, segment: &Segment<D>, start: u64, end: u64, upper: i64) -> u64 {
        let Ok(file) = segment.file(&self.disk, &self.dir) else {
            return start;
        };
        let mut scanner = Scanner::new(file.as_ref(), start, segment.size, LONG_SCAN_BYTES);
        while let Ok(Found::Batch(header)) = scanner.peek() {
            if scanner.position() + header.total_bytes() as u64 > end || header.last_offset() >= upper {
                break;
            }
            scanner.skip(&header);
        }
        scanner.position()
    }

    /// The exact place of the batch that holds `offset`, if it is remembered.
    fn marked(&self, offset: i64) -> Option<Mark> {
        if offset == self.flushed.offset
            && offset < self.log_end
            && self.flushed.position < self.active().size
        {
            return Some(self.flushed).filter(|mark| mark.segment == self.active().base);
        }
        if let Some(at) = self
            .recent
            .partition_point(|mark| mark.offset <= offset)
            .checked_sub(1)
        {
            return self.recent.get(at).copied();
        }
        let hints = self.hints.lock().expect("no panic while held");
        hints.iter().find(|hint| hint.offset == offset).copied()
    }

    fn hint(&self, mark: Mark) {
        let mut hints: std::sync::MutexGuard<'_, VecDeque<Mark>> =
            self.hints.lock().expect("no panic while held");
        if hints.contains(&mark) {
            return;
        }
        if hints.len() == HINTS_MAX {
            hints.pop_front();
        }
        hints.push_back(mark);
    }
}

/// Bytes that a search reads at a time: somewhat more than lies between two entries of an index.
const SHORT_SCAN_BYTES: usize = 8 * 1024;
/// Ends of reads that are remembered: about as many as there are consumers that lag behind.
const HINTS_MAX: usize = 16;
