//! What makes a log shorter: retention, DeleteRecords, truncation.

use std::io;

use millstream_core::ids::Offset;

use super::{Log, Mark};
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskFile, is_full};
use crate::error::ReadError;
use crate::scan::{Found, Scanner};
use crate::segment::Segment;

/// Where a log is cut.
struct Cut {
    /// Of the segment that is its last one then.
    number: usize,
    /// In that segment.
    position: u64,
    /// The log's end then.
    end: i64,
}

impl<D: Disk> Log<D> {
    /// Deletes what the configuration allows to go: whole old segments by age and by size, never beyond what is
    /// durable. Also forgets producers that fell silent. Returns the number of segments deleted.
    ///
    /// # Errors
    /// The disk failed. What was deleted until then is deleted.
    pub fn apply_retention(&mut self, now_ms: i64) -> Result<usize, ReadError> {
        self.apply_retention_before(Offset(i64::MAX), now_ms)
    }

    /// As [`Log::apply_retention`], but nothing from `limit` on goes: records that may yet be taken back.
    ///
    /// # Errors
    /// As [`Log::apply_retention`].
    pub fn apply_retention_before(&mut self, limit: Offset, now_ms: i64) -> Result<usize, ReadError> {
        self.producers
            .expire(now_ms.saturating_sub(self.config.producer_id_expiration_ms));
        let is_expired = |segment: &Segment<D>, retention_ms: i64| {
            segment.max_timestamp >= 0 && now_ms.saturating_sub(segment.max_timestamp) > retention_ms
        };
        let retention_ms = self.config.retention_ms;
        if retention_ms >= 0
            && self.active().size > 0
            && is_expired(self.active(), retention_ms)
            && self.flushed.offset == self.log_end
            && self.poisoned.is_none()
        {
            self.roll(self.log_end, now_ms)?;
            self.set_flushed(self.end_mark());
        }
        let mut excess = match self.config.retention_bytes {
            limit @ 0.. => self.size_bytes().saturating_sub(limit as u64),
            _ => 0,
        };
        let mut gone = 0;
        for (segment, next) in self.segments.iter().zip(self.segments.iter().skip(1)) {
            let is_old = retention_ms >= 0 && is_expired(segment, retention_ms);
            let is_too_much = excess > 0 && excess >= segment.size;
            let is_before_start = next.base <= self.log_start;
            if next.base > self.flushed.offset.min(limit.0) || !(is_old || is_too_much || is_before_start) {
                break;
            }
            excess = excess.saturating_sub(segment.size);
            gone += 1;
        }
        if gone > 0 {
            let start = self.segments[gone].base;
            self.advance_start(start.max(self.log_start))?;
        }
        Ok(gone)
    }

    /// Makes `offset` the first offset of the log, durably, and deletes the segments before it (KIP-107). An offset
    /// before the present start changes nothing.
    ///
    /// # Errors
    /// The offset lies behind the end of the log, or the disk failed.
    pub fn delete_records_before(&mut self, offset: Offset) -> Result<(), ReadError> {
        if offset.0 > self.log_end {
            let (start, end) = (Offset(self.log_start), Offset(self.log_end));
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        if offset.0 <= self.log_start {
            return Ok(());
        }
        if offset.0 > self.flushed.offset {
            self.sync()?;
        }
        Ok(self.advance_start(offset.0)?)
    }

    /// Takes back all records from `offset` on, as a follower does whose leader does not have them. Batches are taken
    /// back whole: the log may end before `offset` afterwards. Durable on return.
    ///
    /// # Errors
    /// The offset lies before the log, or there is no room to note that less is promised: nothing is changed then. Or the
    /// disk failed; the log is poisoned then.
    pub fn truncate_to(&mut self, offset: Offset, now_ms: i64) -> Result<(), ReadError> {
        if offset.0 >= self.log_end {
            return Ok(());
        }
        if offset.0 < self.log_start {
            let (start, end) = (Offset(self.log_start), Offset(self.log_end));
            return Err(ReadError::OutOfRange { offset, start, end });
        }
        let result = match self.promise_less(offset.0) {
            Ok(Some(cut)) => self.cut(&cut, now_ms),
            Ok(None) => Ok(()),
            Err(ReadError::Io(error)) if is_full(&error) => return Err(error.into()),
            Err(error) => Err(error),
        };
        if result.is_err() {
            self.poison_because("a truncation failed");
        }
        result
    }

    /// Takes back the promise about what is to be cut off, and nothing else.
    fn promise_less(&mut self, offset: i64) -> Result<Option<Cut>, ReadError> {
        let Some((number, position)) = self.locate(offset)? else {
            return Ok(None);
        };
        let base = self.segments[number].base;
        let file = self.segments[number].file(&self.disk, &self.dir)?;
        let end = match Scanner::new(file.as_ref(), position, self.segments[number].size, 0).peek()? {
            Found::Batch(header) => header.base_offset,
            _ => offset,
        };
        // First the promise is taken back, then what it was about; recovery does the rest after a crash. Also where the
        // last checkpoint promised less: one whose writing failed may be found nevertheless.
        let mut now = Checkpoint {
            log_start: self.log_start,
            ..self.checkpointed
        };
        if now.recovery_point > end {
            (now.recovery_point, now.segment, now.position) = (end, base, position);
        }
        now.write(&self.disk, &self.dir)?;
        self.checkpointed = now;
        Ok(Some(Cut {
            number,
            position,
            end,
        }))
    }

    fn cut(&mut self, cut: &Cut, now_ms: i64) -> Result<(), ReadError> {
        let &Cut {
            number,
            position,
            end,
        } = cut;
        self.generation += 1;
        self.forget_positions();
        let base = self.segments[number].base;
        let file = self.segments[number].file(&self.disk, &self.dir)?;
        for segment in &self.segments[number + 1..] {
            segment.remove(&self.disk, &self.dir)?;
        }
        file.truncate(position)?;
        file.sync()?;
        self.disk.sync_dir(&self.dir)?;
        if self.flushed.offset > end {
            self.flushed = Mark {
                offset: end,
                segment: base,
                position,
            };
        }
        self.reload(now_ms).map_err(ReadError::from)
    }

    fn advance_start(&mut self, start: i64) -> io::Result<()> {
        match self.store_start(start) {
            Err(error) if is_full(&error) => {
                // What would make room needs some. The indexes of what goes are given up first: without them its reading
                // is slow, but right.
                for segment in &self.segments[..self.first_kept(start)] {
                    segment.empty_indexes(&self.disk, &self.dir)?;
                }
                self.store_start(start)?;
            }
            stored => stored?,
        }
        self.log_start = start;
        self.epochs.advance_to(start);
        self.drop_segments_before(start)
    }

    fn store_start(&mut self, start: i64) -> io::Result<()> {
        // The start is durable before files go: a crash in between leaves files that the next start removes.
        let known = Checkpoint {
            log_start: start,
            ..self.checkpointed
        };
        let known = if known.recovery_point < start {
            // All before the start is durable or not wanted any more.
            let Mark {
                offset,
                segment,
                position,
            } = self.flushed;
            Checkpoint {
                recovery_point: offset,
                segment,
                position,
                log_start: start,
            }
        } else {
            known
        };
        if known.recovery_point != self.checkpointed.recovery_point {
            self.write_checkpoint()?;
        }
        known.write(&self.disk, &self.dir)?;
        self.checkpointed = known;
        Ok(())
    }

    /// The segment, by its number, that a log which begins with `start` begins with.
    fn first_kept(&self, start: i64) -> usize {
        self.segments
            .partition_point(|s| s.base <= start)
            .saturating_sub(1)
    }

    /// Removes the segments that hold nothing from `start` on.
    pub(super) fn drop_segments_before(&mut self, start: i64) -> io::Result<()> {
        let keep_from = self.first_kept(start);
        if keep_from == 0 {
            return Ok(());
        }
        self.hints.lock().expect("no panic while held").clear();
        let first = self.segments[keep_from].base;
        self.recent.retain(|mark| mark.segment >= first);
        for segment in &self.segments[..keep_from] {
            segment.remove(&self.disk, &self.dir)?;
        }
        self.segments.drain(..keep_from);
        self.disk.sync_dir(&self.dir)
    }
}
