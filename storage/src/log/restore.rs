//! What a log derives from its batches, after it was opened: leader epochs, producers and their transactions. Taken from
//! their files as far as those go, then from the batches.

use std::io;

use millstream_kafka::records::{BatchHeader, EndTransaction, HEADER_BYTES};

use super::{Log, Recovery};
use crate::aborted::{Aborted, AbortedIndex};
use crate::disk::{Disk, is_full, read_file, remove_if_there};
use crate::epochs::{LEADER_EPOCHS, LeaderEpochs};
use crate::producer::Producers;
use crate::scan::{Found, LONG_SCAN_BYTES, Scanner};
use crate::segment::{SNAPSHOT, TXN_INDEX, offset_in_name, path};

impl<D: Disk> Log<D> {
    /// Makes anew all that is derived from the batches, which end at `end`.
    pub(super) fn restore_derived(
        &mut self,
        end: i64,
        now_ms: i64,
        recovery: &mut Recovery,
    ) -> io::Result<()> {
        let epochs = read_file(&self.disk, &self.dir.join(LEADER_EPOCHS))?;
        let epochs = epochs.and_then(|bytes| LeaderEpochs::parse(std::str::from_utf8(&bytes).ok()?));
        let has_epochs = epochs.is_some();
        self.epochs = epochs.unwrap_or_default();
        self.epochs.truncate_to(end);
        let (producers, snapshot_at) = self.last_snapshot(end)?;
        self.snapshot_at = snapshot_at;
        let rebuilt = self.load_aborted(now_ms)?;
        recovery.rebuilt_indexes += rebuilt.len();
        let replay_epochs_from = if has_epochs {
            self.checkpointed.recovery_point.min(snapshot_at)
        } else {
            self.log_start
        };
        self.producers = self.replay(producers, replay_epochs_from, now_ms)?;
        self.settle_aborted(&rebuilt)
    }

    /// The last snapshot of producers that holds good, and its offset. Those of what lies behind `end` are removed.
    fn last_snapshot(&self, end: i64) -> io::Result<(Producers, i64)> {
        // Batches before the log's start count as long as their segment is there; a snapshot from before the first
        // segment would leave out what was deleted with later ones.
        let first = self.segments[0].base;
        let mut snapshots = self.snapshots()?;
        let mut has_removed = false;
        let mut last = (Producers::default(), first);
        while let Some(offset) = snapshots.pop() {
            let is_of_this_log = (first..=end).contains(&offset);
            if is_of_this_log && let Some(producers) = self.snapshot(offset)? {
                last = (producers, offset);
                break;
            }
            remove_if_there(&self.disk, &path(&self.dir, offset, SNAPSHOT))?;
            has_removed = true;
        }
        if has_removed || self.segments.len() == 1 {
            // A snapshot of what was lost must not come back once its offsets are used again.
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(last)
    }

    /// The offsets of all snapshots, ascending.
    fn snapshots(&self) -> io::Result<Vec<i64>> {
        let names = self.disk.list(&self.dir)?;
        let offsets = names.iter().filter_map(|name| offset_in_name(name, SNAPSHOT));
        let mut offsets: Vec<i64> = offsets.collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    fn snapshot(&self, offset: i64) -> io::Result<Option<Producers>> {
        let bytes = read_file(&self.disk, &path(&self.dir, offset, SNAPSHOT))?;
        Ok(bytes.and_then(|bytes| Producers::from_snapshot(&bytes)))
    }

    /// Takes the aborted transactions whose markers lie before the snapshot from their files, those behind it are replayed.
    /// Where a file is missing or damaged it is made again; returns the numbers of these segments.
    fn load_aborted(&mut self, now_ms: i64) -> io::Result<Vec<usize>> {
        let mut missing = Vec::new();
        for number in 0..self.segments.len() {
            let base = self.segments[number].base;
            let end = self.end_of(number);
            let is_whole = end <= self.snapshot_at && number + 1 < self.segments.len();
            let loaded = if base < self.snapshot_at {
                let file = path(&self.dir, base, TXN_INDEX);
                AbortedIndex::load(&self.disk, &file, base, end.min(self.snapshot_at), is_whole)?
            } else {
                Some(AbortedIndex::default())
            };
            if loaded.is_none() {
                missing.push(number);
            }
            self.segments[number].aborted = loaded.unwrap_or_default();
            if is_whole {
                self.segments[number].aborted.release();
            }
        }
        if let (Some(first), Some(last)) = (missing.first(), missing.last()) {
            tracing::warn!(dir = %self.dir.display(), segments = missing.len(), "indexes of aborted transactions are built anew");
            self.rebuild_aborted(*first, *last, &missing, now_ms)?;
        }
        Ok(missing)
    }

    /// The offset behind a segment, given by its number.
    fn end_of(&self, number: usize) -> i64 {
        self.segments
            .get(number + 1)
            .map_or(self.log_end, |next| next.base)
    }

    /// Finds the aborted transactions of the `missing` segments, from `first` to `last`, up to the snapshot.
    fn rebuild_aborted(
        &mut self,
        first: usize,
        last: usize,
        missing: &[usize],
        now_ms: i64,
    ) -> io::Result<()> {
        let base = self.segments[first].base;
        let mut known = (Producers::default(), self.segments[0].base);
        for offset in self.snapshots()?.into_iter().rev() {
            if (known.1..=base).contains(&offset)
                && let Some(producers) = self.snapshot(offset)?
            {
                known = (producers, offset);
                break;
            }
        }
        let (mut producers, from) = known;
        for number in self.segment_of(from)..=last {
            let mut aborted = Vec::new();
            self.each_batch(number, from, |header, marker| {
                if header.base_offset < self.snapshot_at {
                    aborted.extend(note(&mut producers, header, marker, now_ms));
                }
            })?;
            if missing.contains(&number) {
                for aborted in aborted {
                    self.segments[number].aborted.push(aborted);
                }
            }
        }
        Ok(())
    }

    /// Adds to `producers` what lies behind their snapshot, and the leader epochs from `epochs_from` on.
    fn replay(&mut self, mut producers: Producers, epochs_from: i64, now_ms: i64) -> io::Result<Producers> {
        let producers_from = self.snapshot_at;
        let from = producers_from.min(epochs_from).max(self.segments[0].base);
        if from >= self.log_end {
            return Ok(producers);
        }
        let mut epochs = std::mem::take(&mut self.epochs);
        for number in self.segment_of(from)..self.segments.len() {
            let mut aborted = Vec::new();
            self.each_batch(number, from, |header, marker| {
                if header.base_offset >= producers_from {
                    aborted.extend(note(&mut producers, header, marker, now_ms));
                }
                epochs.assign(header.partition_leader_epoch, header.base_offset);
            })?;
            for aborted in aborted {
                self.segments[number].aborted.push(aborted);
            }
        }
        self.epochs = epochs;
        Ok(producers)
    }

    /// The number of the segment that holds `offset`.
    fn segment_of(&self, offset: i64) -> usize {
        self.segments
            .partition_point(|segment| segment.base <= offset)
            .saturating_sub(1)
    }

    /// Hands the batches of a segment that begin at `from` or behind it to `take`.
    fn each_batch(
        &self,
        number: usize,
        from: i64,
        mut take: impl FnMut(&BatchHeader, Option<EndTransaction>),
    ) -> io::Result<()> {
        let segment = &self.segments[number];
        let position = match segment.base < from {
            true => segment.position_floor(&self.disk, &self.dir, from)?,
            false => 0,
        };
        let file = segment.file(&self.disk, &self.dir)?;
        let mut scanner = Scanner::new(file.as_ref(), position, segment.size, LONG_SCAN_BYTES);
        while let Found::Batch(header) = scanner.peek()? {
            if header.base_offset >= from {
                let marker = match header.attributes.is_control() {
                    true => EndTransaction::of(&header, &scanner.batch_bytes(&header)?[HEADER_BYTES..]),
                    false => None,
                };
                take(&header, marker);
            }
            scanner.skip(&header);
        }
        Ok(())
    }

    /// Stores the indexes of aborted transactions that nothing is added to any more, and those that were `rebuilt`. Where
    /// there is no room they stay in memory, and what their files hold from before must not be taken for them.
    fn settle_aborted(&mut self, rebuilt: &[usize]) -> io::Result<()> {
        let last = self.segments.len() - 1;
        let mut has_removed = false;
        for (number, segment) in self.segments.iter_mut().enumerate() {
            if number == last && !rebuilt.contains(&number) {
                continue;
            }
            match segment.store_aborted(&self.disk, &self.dir) {
                Err(error) if is_full(&error) => {
                    remove_if_there(&self.disk, &path(&self.dir, segment.base, TXN_INDEX))?;
                    has_removed = true;
                }
                stored => stored?,
            }
            if number != last {
                segment.aborted.release();
            }
        }
        if has_removed {
            self.disk.sync_dir(&self.dir)?;
        }
        Ok(())
    }
}

/// Notes a batch that is in the log; gives the transaction whose abort it is.
fn note(
    producers: &mut Producers,
    header: &BatchHeader,
    marker: Option<EndTransaction>,
    now_ms: i64,
) -> Option<Aborted> {
    match marker {
        Some(marker) => producers.note_marker(header, &marker, now_ms),
        None => {
            producers.note(header, header.base_offset, now_ms);
            None
        }
    }
}
