//! Opening a log, whatever state a crash left it in.
//!
//! What lies before the recovery point was made durable: it is not read, and nothing of it is ever deleted here. What
//! lies behind it is checked batch by batch and cut at the first one that is torn, damaged or out of order. All of it
//! may be interrupted and done again.

use std::io;
use std::path::Path;
use std::sync::Mutex;

use millstream_core::mutation::{Mutation, is_on};
use millstream_kafka::records::BatchError;

use super::{Log, LogConfig, Mark, Recovery};
use crate::aborted::AbortedIndex;
use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, DiskFile, Open, is_full, read_exact, remove_if_there, write_all};
use crate::epochs::{LEADER_EPOCHS, LeaderEpochs};
use crate::error::OpenError;
use crate::index::{GrowingIndex, OffsetEntry, StoredIndex, TimeEntry};
use crate::producer::Producers;
use crate::scan::{Found, LONG_SCAN_BYTES, Scanner};
use crate::segment::{Growing, INDEX, LOG, Segment, TIME_INDEX, offset_in_name, path};

impl<D: Disk> Log<D> {
    /// Opens the log in `dir`, or makes an empty one. Everything that is in it afterwards is durable.
    ///
    /// # Errors
    /// The disk failed, or what had been durable is gone or damaged. Nothing was deleted then.
    pub fn open(disk: D, dir: &Path, config: LogConfig, now_ms: i64) -> Result<(Self, Recovery), OpenError> {
        let start = Mark {
            offset: 0,
            segment: 0,
            position: 0,
        };
        let mut log = Self {
            disk,
            dir: dir.to_owned(),
            config,
            segments: Vec::new(),
            log_start: 0,
            log_end: 0,
            flushed: start,
            generation: 0,
            poisoned: None,
            producers: Producers::default(),
            epochs: LeaderEpochs::default(),
            recent: std::collections::VecDeque::new(),
            hints: Mutex::default(),
            checkpointed: Checkpoint::default(),
            snapshot_at: 0,
        };
        log.disk.create_dir(dir).map_err(|e| log.failed(e))?;
        let recovery = log.recover(now_ms)?;
        Ok((log, recovery))
    }

    /// Builds the state in memory anew from the files, after a truncation.
    pub(super) fn reload(&mut self, now_ms: i64) -> Result<(), OpenError> {
        let before = std::mem::take(&mut self.segments);
        let result = self.recover(now_ms);
        if result.is_err() {
            // The log is poisoned then, but there is always a segment.
            self.segments = before;
        }
        if is_on(Mutation::LoseAborted) {
            for segment in &mut self.segments {
                segment.aborted = AbortedIndex::default();
            }
        }
        result.map(|_| ())
    }

    fn recover(&mut self, now_ms: i64) -> Result<Recovery, OpenError> {
        let mut recovery = Recovery::default();
        let names = self.disk.list(&self.dir).map_err(|e| self.failed(e))?;
        // Names that a killed process made or removed may not be durable yet. One that came back with a power cut, after
        // the log has grown past it, would cut the log off there.
        self.disk.sync_dir(&self.dir).map_err(|e| self.failed(e))?;
        for name in names.iter().filter(|name| name.ends_with(".tmp")) {
            self.disk
                .remove(&self.dir.join(name))
                .map_err(|e| self.failed(e))?;
        }
        let mut bases: Vec<i64> = names
            .iter()
            .filter_map(|name| offset_in_name(name, LOG))
            .collect();
        bases.sort_unstable();
        let known = Checkpoint::read(&self.disk, &self.dir).map_err(|e| self.failed(e))?;
        self.checkpointed = known.unwrap_or_default();
        self.log_start = self.checkpointed.log_start;
        let first = known.map_or(0, |known| {
            bases
                .partition_point(|base| *base <= known.segment)
                .saturating_sub(1)
        });
        self.check_what_is_known(&bases, known.is_some())?;
        self.open_segments(&bases, first, known.is_some(), now_ms, &mut recovery)?;
        if known.is_none() {
            self.log_start = self.segments[0].base;
        }
        self.log_start = self.log_start.max(self.segments[0].base);
        self.settle(first, recovery.scanned_bytes > 0 || recovery.truncated_bytes > 0)
            .map_err(|e| self.failed(e))?;
        self.restore_derived(self.flushed.offset, now_ms, &mut recovery)
            .map_err(|e| self.failed(e))?;
        self.drop_segments_before(self.log_start)
            .map_err(|e| self.failed(e))?;
        if known.is_none() {
            // Who made the directory may have been killed before its name was durable.
            self.disk
                .sync_dir(self.dir.parent().unwrap_or(Path::new(".")))
                .map_err(|e| self.failed(e))?;
        }
        if known.is_none() || recovery.scanned_bytes > 0 || recovery.truncated_bytes > 0 {
            self.first_checkpoint(known.is_none())?;
        } else {
            self.settle_epochs().map_err(|e| self.failed(e))?;
        }
        Ok(recovery)
    }

    /// Says what was found, so that the next start need not look for it again. Where there is no room it will have to.
    fn first_checkpoint(&mut self, is_new: bool) -> Result<(), OpenError> {
        self.settle_epochs().map_err(|e| self.failed(e))?;
        let mut written = self.write_checkpoint();
        if written.is_ok() && is_new {
            self.checkpointed.log_start = self.log_start;
            written = self.checkpointed.write(&self.disk, &self.dir);
        }
        match written {
            Err(error) if is_full(&error) => {
                tracing::warn!(dir = %self.dir.display(), "no room for a checkpoint");
                Ok(())
            }
            written => written.map_err(|e| self.failed(e)),
        }
    }

    /// Epochs that were cut off must not be found in their file once there are records where they began.
    fn settle_epochs(&mut self) -> io::Result<()> {
        match self.store_epochs() {
            Err(error) if is_full(&error) => {
                // Without the file they are read from the segments.
                remove_if_there(&self.disk, &self.dir.join(LEADER_EPOCHS))?;
                self.disk.sync_dir(&self.dir)
            }
            stored => stored,
        }
    }

    /// Stores the indexes of a segment that is complete. Where there is no room they stay in memory, and what their files
    /// hold from before must not be taken for them.
    fn complete(&self, segment: &mut Segment<D>) -> io::Result<()> {
        match segment.store_indexes(&self.disk, &self.dir, true) {
            Err(error) if is_full(&error) => segment.empty_indexes(&self.disk, &self.dir),
            stored => {
                stored?;
                segment.growing = None;
                Ok(())
            }
        }
    }

    /// The segments that the checkpoint speaks of must be there.
    fn check_what_is_known(&self, bases: &[i64], is_known: bool) -> Result<(), OpenError> {
        let Checkpoint {
            recovery_point,
            segment,
            position,
            ..
        } = self.checkpointed;
        // It may have been deleted for good when all of it lay before the log's start.
        let has_successor = bases
            .iter()
            .any(|base| *base > segment && *base <= recovery_point);
        if is_known && position > 0 && !bases.contains(&segment) && !has_successor {
            let reason = format!("missing, although records up to offset {recovery_point} were durable");
            return Err(OpenError::Damaged {
                path: path(&self.dir, segment, LOG),
                position: 0,
                reason,
            });
        }
        Ok(())
    }

    /// Opens all segments; those from `first` on may hold what is not known to be durable.
    fn open_segments(
        &mut self,
        bases: &[i64],
        first: usize,
        is_known: bool,
        now_ms: i64,
        recovery: &mut Recovery,
    ) -> Result<(), OpenError> {
        let mut bases = bases.to_vec();
        if bases.is_empty() {
            let base = self.checkpointed.recovery_point.max(self.log_start);
            self.segments
                .push(self.new_segment(base, now_ms).map_err(|e| self.failed(e))?);
            self.log_end = base;
            return Ok(());
        }
        let mut expected = None;
        let mut number = 0;
        while let Some(base) = bases.get(number).copied() {
            if number < first {
                let segment = self.open_complete(base, now_ms, recovery)?;
                self.segments.push(segment);
                number += 1;
                continue;
            }
            if expected.is_some_and(|end: i64| end != base) {
                // The end of the segment before was lost: so are its successors, that came later.
                if !is_known {
                    let reason = format!(
                        "follows a segment that ends at offset {}",
                        expected.unwrap_or_default()
                    );
                    return Err(OpenError::Damaged {
                        path: path(&self.dir, base, LOG),
                        position: 0,
                        reason,
                    });
                }
                self.drop_from(&bases.split_off(number), recovery)
                    .map_err(|e| self.failed(e))?;
                break;
            }
            let durable = if base == self.checkpointed.segment {
                self.checkpointed.position
            } else {
                0
            };
            let is_last = number + 1 == bases.len();
            let next = bases.get(number + 1).copied();
            let tail = Tail {
                durable,
                may_cut: is_known || is_last,
                next: next.unwrap_or(i64::MAX),
            };
            let (mut segment, end, is_cut) = self.scan_segment(base, &tail, now_ms, recovery)?;
            expected = Some(end);
            self.log_end = end;
            // What was cut may be the rest of an older cut, behind the end that the next segment continues.
            if is_cut && next != Some(end) {
                self.drop_from(&bases.split_off(number + 1), recovery)
                    .map_err(|e| self.failed(e))?;
            } else if next == Some(end) {
                self.complete(&mut segment).map_err(|e| self.failed(e))?;
            }
            self.segments.push(segment);
            number += 1;
        }
        Ok(())
    }

    /// A segment all of which is durable: its indexes are taken as they are, or built anew if one is missing.
    fn open_complete(
        &self,
        base: i64,
        now_ms: i64,
        recovery: &mut Recovery,
    ) -> Result<Segment<D>, OpenError> {
        let opened = (|| {
            let file = self.disk.open(&path(&self.dir, base, LOG), Open::Read)?;
            let size = file.len()?;
            let mut segment = Segment::new(base, size, now_ms, None);
            let (Some(offsets), Some(times)) = (
                self.stored::<OffsetEntry>(base, INDEX)?,
                self.stored::<TimeEntry>(base, TIME_INDEX)?,
            ) else {
                return Ok((segment, false));
            };
            let last: Option<OffsetEntry> = offsets.last()?;
            let last_time: Option<TimeEntry> = times.last()?;
            if let Some(time) = last_time {
                segment.max_timestamp = time.timestamp;
                segment.max_timestamp_offset = base + i64::from(time.offset);
            }
            // An index that points behind the segment's end, or is empty where it should not be, is not believed.
            let is_good =
                last.is_none_or(|last| u64::from(last.position) < size) && (last_time.is_some() || size == 0);
            Ok((segment, is_good))
        })();
        let (segment, has_indexes) = opened.map_err(|e| self.failed(e))?;
        if has_indexes {
            return Ok(segment);
        }
        let size = segment.size;
        remove_if_there(&self.disk, &path(&self.dir, base, INDEX)).map_err(|e| self.failed(e))?;
        remove_if_there(&self.disk, &path(&self.dir, base, TIME_INDEX)).map_err(|e| self.failed(e))?;
        let tail = Tail {
            durable: size,
            may_cut: false,
            next: i64::MAX,
        };
        let (mut segment, _, _) = self.scan_segment(base, &tail, now_ms, recovery)?;
        recovery.rebuilt_indexes += 1;
        self.complete(&mut segment).map_err(|e| self.failed(e))?;
        Ok(segment)
    }

    fn stored<E: crate::index::Entry>(
        &self,
        base: i64,
        kind: &str,
    ) -> io::Result<Option<StoredIndex<D::File>>> {
        match StoredIndex::open::<D, E>(&self.disk, &path(&self.dir, base, kind)) {
            Ok(index) => Ok(Some(index)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a segment from its last trusted index entry on. The first `durable` bytes must be good; behind them
    /// checksums are compared, and the file is cut at the first fault. Returns where the segment ends, and whether it
    /// was cut.
    fn scan_segment(
        &self,
        base: i64,
        tail: &Tail,
        now_ms: i64,
        recovery: &mut Recovery,
    ) -> Result<(Segment<D>, i64, bool), OpenError> {
        let Tail {
            durable,
            may_cut,
            next,
        } = *tail;
        let file = self
            .disk
            .open(&path(&self.dir, base, LOG), Open::Write)
            .map_err(|e| self.failed(e))?;
        let len = file.len().map_err(|e| self.failed(e))?;
        let damaged = |position, error: &BatchError| OpenError::Damaged {
            path: path(&self.dir, base, LOG),
            position,
            reason: error.to_string(),
        };
        if len < durable {
            let lost = BatchError::Truncated {
                needed: durable as usize,
                available: len as usize,
            };
            return Err(damaged(len, &lost));
        }
        let (mut segment, mut end) = self
            .trusted_front(base, durable, &file, now_ms)
            .map_err(|e| self.failed(e))?;
        let interval = self.config.index_interval_bytes;
        let mut scanner = Scanner::new(&file, segment.size, len, LONG_SCAN_BYTES);
        let mut fault = None;
        loop {
            let position = scanner.position();
            let found = if position < durable {
                scanner.peek()
            } else {
                scanner.peek_verified()
            };
            match found.map_err(|e| self.failed(e))? {
                Found::Batch(header)
                    if header.base_offset < end
                        || position >= durable && header.base_offset > end
                        || header.next_offset() > next =>
                {
                    fault = Some(BatchError::Field {
                        field: "baseOffset",
                        value: header.base_offset,
                    });
                }
                Found::Batch(header) => {
                    segment.account(&header, interval);
                    end = header.next_offset();
                    scanner.skip(&header);
                    recovery.scanned_bytes += if position < durable {
                        0
                    } else {
                        header.total_bytes() as u64
                    };
                    continue;
                }
                Found::End => {}
                Found::Bad(error) => fault = Some(error),
            }
            break;
        }
        if let Some(fault) = &fault {
            if segment.size < durable || !may_cut {
                return Err(damaged(segment.size, fault));
            }
            tracing::warn!(dir = %self.dir.display(), segment = base, position = segment.size, bytes = len - segment.size, %fault, "unflushed end of the log is cut");
            recovery.truncated_bytes += len - segment.size;
            file.truncate(segment.size).map_err(|e| self.failed(e))?;
        }
        if segment.size > durable {
            write_again(&file, durable, segment.size).map_err(|e| self.failed(e))?;
        }
        segment.set_file(std::sync::Arc::new(file));
        Ok((segment, end, fault.is_some()))
    }

    /// The part of a segment that its stored index spares reading, and the offset that follows it.
    fn trusted_front(
        &self,
        base: i64,
        durable: u64,
        file: &D::File,
        now_ms: i64,
    ) -> io::Result<(Segment<D>, i64)> {
        let is_durable = |entry: OffsetEntry| u64::from(entry.position) < durable;
        let offsets = GrowingIndex::load(&self.disk, &path(&self.dir, base, INDEX), is_durable)?;
        let fresh = || (Segment::new(base, 0, now_ms, Some(Growing::new())), base);
        let Some(last) = offsets.entries().last().copied() else {
            return Ok(fresh());
        };
        let last_offset = base + i64::from(last.offset);
        let mut scanner = Scanner::new(file, last.position.into(), durable, 0);
        let Found::Batch(header) = scanner.peek()? else {
            return Ok(fresh());
        };
        if header.last_offset() != last_offset {
            return Ok(fresh());
        }
        // The entry was made before its batch was accounted for; so it is now.
        let is_before = |entry: TimeEntry| entry.offset <= last.offset;
        let times = GrowingIndex::load(&self.disk, &path(&self.dir, base, TIME_INDEX), is_before)?;
        let Some(time) = times.entries().last().copied() else {
            return Ok(fresh());
        };
        let Found::Batch(first) = Scanner::new(file, 0, durable, 0).peek()? else {
            return Ok(fresh());
        };
        let mut segment = Segment::new(base, last.position.into(), now_ms, None);
        segment.first_timestamp = first.max_timestamp;
        segment.max_timestamp = time.timestamp;
        segment.max_timestamp_offset = base + i64::from(time.offset);
        segment.growing = Some(Growing {
            offsets,
            times,
            unindexed: 0,
        });
        Ok((segment, header.base_offset))
    }

    fn drop_from(&self, bases: &[i64], recovery: &mut Recovery) -> io::Result<()> {
        for base in bases {
            let segment = Segment::<D>::new(*base, 0, 0, None);
            let bytes = segment.file(&self.disk, &self.dir)?.len()?;
            tracing::warn!(dir = %self.dir.display(), segment = base, bytes, "segment behind the end of the log is removed");
            recovery.truncated_bytes += bytes;
            segment.remove(&self.disk, &self.dir)?;
        }
        // One that came back once the log has grown up to it would be taken for its continuation.
        self.disk.sync_dir(&self.dir)
    }

    /// Makes durable what was found and what was cut.
    fn settle(&mut self, first: usize, changed: bool) -> io::Result<()> {
        if changed {
            for segment in &self.segments[first.min(self.segments.len() - 1)..] {
                segment.file(&self.disk, &self.dir)?.sync()?;
            }
        }
        self.set_flushed(self.end_mark());
        Ok(())
    }

    fn failed(&self, error: io::Error) -> OpenError {
        OpenError::Io {
            path: self.dir.clone(),
            error,
        }
    }
}

/// What is known of a segment that may end in what was not durable.
struct Tail {
    /// Bytes that are durable.
    durable: u64,
    /// The rest may be cut at the first fault.
    may_cut: bool,
    /// Base offset of the segment behind it.
    next: i64,
}

/// Writes bytes of a file over themselves. After a failed sync the system may hold pages that never reached the disk
/// for clean; another sync would skip them and succeed.
fn write_again<F: DiskFile>(file: &F, mut position: u64, end: u64) -> io::Result<()> {
    let mut piece = vec![0; LONG_SCAN_BYTES.min((end - position) as usize)];
    while position < end {
        let piece = &mut piece[..LONG_SCAN_BYTES.min((end - position) as usize)];
        read_exact(file, piece, position)?;
        write_all(file, piece, &[], position)?;
        position += piece.len() as u64;
    }
    Ok(())
}
