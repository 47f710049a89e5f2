//! Appending: sequence check, roll, one vectored write, bookkeeping.

use std::sync::Arc;

use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::{
    BatchHeader, BatchView, EndTransaction, HEADER_BYTES, STAMP_BYTES, TimestampType,
    restamp_log_append_time, stamp,
};

use super::{Appended, Log, Mark};
use crate::aborted::ENTRY_BYTES;
use crate::disk::{Disk, DiskFile, Open, write_all};
use crate::error::AppendError;
use crate::segment::{Growing, LOG, Segment, path};

impl<D: Disk> Log<D> {
    /// Appends one validated batch (see `millstream_kafka::records::validate`), giving its records their offsets.
    /// It is in the page cache on return, durable once [`Log::flushed_offset`] lies behind it. The first transactional batch
    /// of a producer begins a transaction, which [`Log::append_marker`] ends.
    ///
    /// # Errors
    /// Wrong sequence or transaction, full disk, poisoned or failing log; nothing is appended then.
    pub fn append_as_leader(
        &mut self,
        batch: &[u8],
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        self.writable()?;
        let header = BatchHeader::parse(batch)?;
        if header.has_producer_id()
            && let Some(known) = self.producers.check(&header)?
        {
            let is_append_time = self.config.log_append_time;
            return Ok(Appended {
                base_offset: Offset(known.base_offset()),
                last_offset: Offset(known.last_offset),
                log_append_time_ms: is_append_time.then_some(known.timestamp),
                is_duplicate: true,
            });
        }
        self.append_checked(header, batch, leader_epoch, now_ms)
    }

    /// Appends a batch that may follow, whose header is `header`.
    #[inline]
    pub(super) fn append_checked(
        &mut self,
        mut header: BatchHeader,
        batch: &[u8],
        leader_epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Appended, AppendError> {
        let marker = EndTransaction::of(&header, &batch[HEADER_BYTES..]);
        header.base_offset = self.log_end;
        header.partition_leader_epoch = leader_epoch.0;
        if self.config.log_append_time {
            header.max_timestamp = now_ms;
            header.attributes = header
                .attributes
                .with_timestamp_type(TimestampType::LogAppendTime);
            self.make_room(&header, batch.len(), now_ms)?;
            let front = restamp_log_append_time(batch, self.log_end, leader_epoch.0, now_ms);
            self.write(&header, marker, &front, &batch[front.len()..], now_ms)?;
        } else {
            self.make_room(&header, batch.len(), now_ms)?;
            let front = stamp(batch, self.log_end, leader_epoch.0);
            self.write(&header, marker, &front, &batch[STAMP_BYTES..], now_ms)?;
        }
        Ok(Appended {
            base_offset: Offset(header.base_offset),
            last_offset: Offset(header.last_offset()),
            log_append_time_ms: self.config.log_append_time.then_some(now_ms),
            is_duplicate: false,
        })
    }

    /// Whether a producer's batch is here already; if not it may be appended now, as far as its sequence numbers and
    /// transactions tell.
    ///
    /// # Errors
    /// Wrong sequence, epoch or transaction.
    pub fn check_sequence(&self, batch: &[u8]) -> Result<bool, AppendError> {
        let header = BatchHeader::parse(batch)?;
        Ok(header.has_producer_id() && self.producers.check(&header)?.is_some())
    }

    /// Appends batches as a leader stored them, one behind the other, offsets and epochs included. Checksums are
    /// compared.
    ///
    /// # Errors
    /// As [`Log::append_as_leader`], or the batches do not continue the log. Batches before the one at fault are
    /// appended.
    pub fn append_as_follower(&mut self, batches: &[u8], now_ms: i64) -> Result<(), AppendError> {
        for batch in millstream_kafka::records::batches(batches) {
            self.writable()?;
            let batch: BatchView<'_> = batch?;
            batch.verify_crc()?;
            let header = *batch.header();
            if header.base_offset != self.log_end {
                let (found, expected) = (Offset(header.base_offset), Offset(self.log_end));
                return Err(AppendError::NotContiguous { found, expected });
            }
            self.make_room(&header, batch.bytes().len(), now_ms)?;
            let marker = EndTransaction::of(&header, batch.payload());
            self.write(&header, marker, batch.bytes(), &[], now_ms)?;
        }
        Ok(())
    }

    pub(super) fn writable(&self) -> Result<(), AppendError> {
        self.poisoned
            .map_or(Ok(()), |reason| Err(AppendError::Poisoned(reason)))
    }

    /// Sees to it that a batch fits into the segment that is written to.
    fn make_room(&mut self, header: &BatchHeader, bytes: usize, now_ms: i64) -> Result<(), AppendError> {
        let limit = self.config.segment_bytes.min(i32::MAX as u64);
        if bytes as u64 > limit {
            return Err(AppendError::TooLarge { bytes, limit });
        }
        if header
            .base_offset
            .checked_add(i64::from(header.last_offset_delta) + 1)
            .is_none()
        {
            return Err(AppendError::OffsetsExhausted);
        }
        let active = self.active();
        let growing = active.growing.as_ref().expect("the last segment grows");
        let age = match (header.max_timestamp, active.first_timestamp) {
            (now, first) if now >= 0 && first >= 0 => now.saturating_sub(first),
            _ => now_ms.saturating_sub(active.created_ms),
        };
        let index_entries_max = self.config.segment_index_bytes as usize / 12;
        let is_full = active.size + bytes as u64 > limit
            || age > self.config.segment_ms
            || growing.offsets.entries().len() >= index_entries_max.max(1)
            || active.aborted.len() >= (self.config.segment_index_bytes as usize / ENTRY_BYTES).max(1)
            || header.last_offset() - active.base > i64::from(i32::MAX);
        if is_full && active.size > 0 {
            self.roll(header.base_offset, now_ms)
                .map_err(AppendError::from_io)?;
        }
        Ok(())
    }

    /// Ends the segment that is written to and begins the next. A checkpoint follows, so that after a crash there is
    /// never more than about a segment to check.
    pub(super) fn roll(&mut self, base: i64, now_ms: i64) -> std::io::Result<()> {
        self.take_snapshot()?;
        self.active_mut_parts(|segment, disk, dir| segment.store_indexes(disk, dir, true))?;
        let next = match self.new_segment(base, now_ms) {
            Ok(next) => next,
            Err(error) => {
                // Where there was no room for its name the log goes on. A name that may be there or not after a crash
                // would cut off what is appended before it.
                let removed = self.disk.remove(&path(&self.dir, base, LOG));
                if !removed.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
                    self.poison_because("a new segment could not be made durable");
                }
                return Err(error);
            }
        };
        self.active_mut().complete();
        self.segments.push(next);
        self.move_checkpoint()
    }

    /// Makes an empty segment, its name durable.
    pub(super) fn new_segment(&self, base: i64, now_ms: i64) -> std::io::Result<Segment<D>> {
        let file = self.disk.open(&path(&self.dir, base, LOG), Open::Create)?;
        file.truncate(0)?;
        self.disk.sync_dir(&self.dir)?;
        let mut segment = Segment::new(base, 0, now_ms, Some(Growing::new()));
        segment.set_file(Arc::new(file));
        Ok(segment)
    }

    fn write(
        &mut self,
        header: &BatchHeader,
        marker: Option<EndTransaction>,
        front: &[u8],
        back: &[u8],
        now_ms: i64,
    ) -> Result<(), AppendError> {
        let (base, position) = (self.active().base, self.active().size);
        let file = self
            .active()
            .file(&self.disk, &self.dir)
            .map_err(AppendError::from_io)?;
        if let Err(error) = write_all(file.as_ref(), front, back, position) {
            // What was written of it must not be found after a crash, least of all when the segment is complete by then.
            if file.truncate(position).and_then(|()| file.sync()).is_err() {
                self.poison_because("a failed write could not be undone");
            }
            return Err(AppendError::from_io(error));
        }
        let interval = self.config.index_interval_bytes;
        self.active_mut().account(header, interval);
        match marker {
            None => self.producers.note(header, header.base_offset, now_ms),
            Some(marker) => {
                if let Some(aborted) = self.producers.note_marker(header, &marker, now_ms) {
                    self.active_mut().aborted.push(aborted);
                }
            }
        }
        self.epochs
            .assign(header.partition_leader_epoch, header.base_offset);
        if self.recent.len() == RECENT_BATCHES {
            self.recent.pop_front();
        }
        self.recent.push_back(Mark {
            offset: header.base_offset,
            segment: base,
            position,
        });
        self.log_end = header.next_offset();
        Ok(())
    }
}

/// Batches whose places are remembered, for reads at the tail.
const RECENT_BATCHES: usize = 32;
