//! The log of one partition.

mod append;
mod read;
mod recover;
mod restore;
mod retain;
mod start_over;
#[cfg(test)]
mod tests;
mod time;
mod transactions;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use millstream_core::ids::{LeaderEpoch, Offset};

use crate::checkpoint::Checkpoint;
use crate::disk::{Disk, replace_file};
use crate::epochs::{LEADER_EPOCHS, LeaderEpochs};
use crate::producer::Producers;
use crate::segment::{SNAPSHOT, Segment, offset_in_name, path};

pub use self::transactions::{AbortedTransaction, EndMarker};

/// One partition's log.
#[derive(Debug)]
pub struct Log<D: Disk> {
    disk: D,
    dir: PathBuf,
    config: LogConfig,
    /// By base offset; never empty, the last one is written to.
    segments: Vec<Segment<D>>,
    log_start: i64,
    log_end: i64,
    flushed: Mark,
    /// Changes when offsets are taken back, so that a sync that began before says nothing about what came after.
    generation: u64,
    poisoned: Option<&'static str>,
    producers: Producers,
    epochs: LeaderEpochs,
    /// The last batches appended, for reads at the tail.
    recent: VecDeque<Mark>,
    /// Where the last reads ended, for reads that go on from there.
    hints: Mutex<VecDeque<Mark>>,
    checkpointed: Checkpoint,
    snapshot_at: i64,
}

/// The batch that begins with `offset` lies in the segment `segment` at byte `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mark {
    offset: i64,
    segment: i64,
    position: u64,
}

/// What a topic's configuration says about its logs. Names and meaning are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// Size at which a new segment is begun.
    pub segment_bytes: u64,
    /// Age, in the time of the records, at which a new segment is begun.
    pub segment_ms: i64,
    /// Largest size of an index file.
    pub segment_index_bytes: u64,
    /// Bytes of log between two entries of an index.
    pub index_interval_bytes: u64,
    /// Records older than this may go; -1: never for age.
    pub retention_ms: i64,
    /// Above this size the oldest may go; -1: never for size.
    pub retention_bytes: i64,
    /// The broker gives records their timestamp (`message.timestamp.type=LogAppendTime`).
    pub log_append_time: bool,
    /// Silence after which a producer is forgotten.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    /// Kafka's defaults.
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: 7 * 24 * 3_600_000,
            retention_bytes: -1,
            log_append_time: false,
            producer_id_expiration_ms: 24 * 3_600_000,
        }
    }
}

/// Where an appended batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset of its last record.
    pub last_offset: Offset,
    /// The time that the broker gave its records, if the topic asks for that. Milliseconds.
    pub log_append_time_ms: Option<i64>,
    /// The batch was there before; nothing was written, and it may not be durable yet.
    pub is_duplicate: bool,
}

/// Consecutive whole batches in a segment file.
#[derive(Debug, Clone)]
pub struct Slice<F> {
    /// The file; it can be read although the segment is deleted meanwhile.
    pub file: Arc<F>,
    /// Where the first batch begins, in bytes.
    pub position: u64,
    /// Length in bytes.
    pub len: usize,
}

/// What has to be synced so that all that is appended now is durable.
#[derive(Debug)]
pub struct SyncHandle<D: Disk> {
    /// The files, oldest first; none when all is durable already.
    pub files: Vec<Arc<D::File>>,
    target: Mark,
    generation: u64,
}

impl<D: Disk> SyncHandle<D> {
    /// Records before this offset are durable once the files are synced.
    pub fn target(&self) -> Offset {
        Offset(self.target.offset)
    }
}

/// A record that a search by time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp, milliseconds.
    pub timestamp: i64,
    /// Its offset.
    pub offset: Offset,
}

/// What opening a log had to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Recovery {
    /// Bytes of batches that were checked because they had not been known to be on disk.
    pub scanned_bytes: u64,
    /// Bytes that were cut off: torn, damaged, or behind such a place.
    pub truncated_bytes: u64,
    /// Indexes that were built anew.
    pub rebuilt_indexes: usize,
}

impl<D: Disk> Log<D> {
    /// First offset that is kept.
    pub fn log_start_offset(&self) -> Offset {
        Offset(self.log_start)
    }

    /// Offset of the next record.
    pub fn log_end_offset(&self) -> Offset {
        Offset(self.log_end)
    }

    /// Records before this offset are durable.
    pub fn flushed_offset(&self) -> Offset {
        Offset(self.flushed.offset)
    }

    /// Bytes of all segments.
    pub fn size_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.size).sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Number of producers whose sequence numbers are remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Applies another configuration from now on.
    pub fn set_config(&mut self, config: LogConfig) {
        self.config = config;
    }

    /// The configuration.
    pub fn config(&self) -> &LogConfig {
        &self.config
    }

    /// What to sync now. Appends may go on meanwhile; they are part of the next handle.
    pub fn sync_handle(&self) -> SyncHandle<D> {
        let target = self.end_mark();
        let mut files = Vec::new();
        if self.flushed.offset < self.log_end && self.poisoned.is_none() {
            let first = self
                .segments
                .partition_point(|s| s.base <= self.flushed.segment)
                .saturating_sub(1);
            files.extend(self.segments[first..].iter().filter_map(|s| s.opened().cloned()));
        }
        SyncHandle {
            files,
            target,
            generation: self.generation,
        }
    }

    /// Says that all files of `handle` were synced after it was made. `flushed_offset` follows.
    pub fn synced(&mut self, handle: SyncHandle<D>) {
        let in_time = handle.generation == self.generation && self.poisoned.is_none();
        if in_time && handle.target.offset > self.flushed.offset {
            self.set_flushed(handle.target);
        }
    }

    /// Notes how far the log is durable. Files that lie before need not be held open any more.
    fn set_flushed(&mut self, flushed: Mark) {
        let before = std::mem::replace(&mut self.flushed, flushed).segment;
        let first = self.segments.partition_point(|s| s.base < before);
        let durable = self.segments[first..].iter_mut();
        durable
            .take_while(|segment| segment.base < flushed.segment)
            .for_each(Segment::release_file);
    }

    /// Syncs all that is appended, here and now.
    ///
    /// # Errors
    /// The disk failed, or had before; the log is poisoned then.
    pub fn sync(&mut self) -> io::Result<()> {
        if let Some(reason) = self.poisoned {
            return Err(io::Error::other(reason));
        }
        let handle = self.sync_handle();
        if let Err(error) = self.disk.sync_many(&handle.files) {
            self.poison();
            return Err(error);
        }
        self.synced(handle);
        Ok(())
    }

    /// Refuses writes from now on, for good: a sync failed, and what is on disk is not known. Reading goes on.
    pub fn poison(&mut self) {
        self.poison_because("a sync of its files failed");
    }

    /// Whether the log refuses writes.
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }

    /// Where leader epoch `epoch` ended (KIP-101): the largest epoch up to it that the log knows, and the first
    /// offset behind that one. None if the log knows no such epoch.
    pub fn offset_for_leader_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_of(epoch, self.log_end)
    }

    /// The leader epoch of the record at `offset`. None if the log knows no epoch that begins no later.
    pub fn leader_epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.at(offset.0).map(LeaderEpoch)
    }

    /// Largest leader epoch with a record.
    pub fn latest_leader_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest().map(LeaderEpoch)
    }

    /// Writes what makes the next start fast: indexes, leader epochs, a producer snapshot, and how far the log is
    /// known to be on disk. Costs nothing when nothing changed. Never needed for durability.
    ///
    /// # Errors
    /// The disk failed. What was written before still holds.
    pub fn write_checkpoint(&mut self) -> io::Result<()> {
        self.store_epochs()?;
        if self.known() == self.checkpointed {
            return Ok(());
        }
        self.take_snapshot()?;
        self.active_mut_parts(|segment, disk, dir| segment.store_indexes(disk, dir, false))?;
        self.move_checkpoint()?;
        self.drop_old_snapshots()
    }

    /// Syncs and writes a checkpoint, so that the next start has nothing to check. The log stays usable.
    ///
    /// # Errors
    /// The disk failed, or had before.
    pub fn close(&mut self) -> io::Result<()> {
        self.sync()?;
        self.write_checkpoint()
    }

    /// Removes the log's directory: renamed first, so that a crash leaves nothing that looks like a log.
    ///
    /// # Errors
    /// The disk failed.
    pub fn delete(&mut self) -> io::Result<()> {
        let renamed = self.retire()?;
        self.disk.sync_dir(renamed.parent().unwrap_or(Path::new(".")))?;
        self.disk.remove_dir(&renamed)
    }

    /// The first half of [`Log::delete`], for who deletes many logs of one directory and syncs that once: gives the
    /// new name of the log's directory, which is to be removed after a sync of the one above it.
    ///
    /// # Errors
    /// The disk failed.
    pub fn retire(&mut self) -> io::Result<PathBuf> {
        self.poison_because("it was deleted");
        let mut name = self.dir.file_name().unwrap_or_default().to_owned();
        name.push(DELETED_SUFFIX);
        let renamed = self.dir.with_file_name(name);
        if self.disk.list(&renamed).is_ok() {
            self.disk.remove_dir(&renamed)?;
        }
        self.disk.rename(&self.dir, &renamed)?;
        Ok(renamed)
    }

    fn poison_because(&mut self, reason: &'static str) {
        self.poisoned.get_or_insert(reason);
    }

    fn active(&self) -> &Segment<D> {
        self.segments.last().expect("a log has a segment")
    }

    fn active_mut(&mut self) -> &mut Segment<D> {
        self.segments.last_mut().expect("a log has a segment")
    }

    fn active_mut_parts<T>(&mut self, work: impl FnOnce(&mut Segment<D>, &D, &Path) -> T) -> T {
        work(
            self.segments.last_mut().expect("a log has a segment"),
            &self.disk,
            &self.dir,
        )
    }

    fn end_mark(&self) -> Mark {
        let active = self.active();
        Mark {
            offset: self.log_end,
            segment: active.base,
            position: active.size,
        }
    }

    fn forget_positions(&mut self) {
        self.recent.clear();
        self.hints.lock().expect("no panic while held").clear();
    }

    /// What a checkpoint would say now.
    fn known(&self) -> Checkpoint {
        Checkpoint {
            recovery_point: self.flushed.offset,
            log_start: self.log_start,
            segment: self.flushed.segment,
            position: self.flushed.position,
        }
    }

    fn move_checkpoint(&mut self) -> io::Result<()> {
        let now = self.known();
        if now != self.checkpointed {
            self.store_epochs()?;
            now.write(&self.disk, &self.dir)?;
            self.checkpointed = now;
        }
        Ok(())
    }

    fn store_epochs(&mut self) -> io::Result<()> {
        if self.epochs.dirty {
            let text = self.epochs.to_text();
            replace_file(&self.disk, &self.dir.join(LEADER_EPOCHS), text.as_bytes())?;
            self.epochs.dirty = false;
        }
        Ok(())
    }

    /// Writes what is known of producers at the log's end. Who reads it needs the aborted transactions before that place from
    /// their file, so that is written first.
    fn take_snapshot(&mut self) -> io::Result<()> {
        if self.active().size > 0 {
            self.active_mut_parts(Segment::store_aborted)?;
        }
        if self.snapshot_at != self.log_end {
            let bytes = self.producers.to_snapshot();
            replace_file(&self.disk, &path(&self.dir, self.log_end, SNAPSHOT), &bytes)?;
            self.snapshot_at = self.log_end;
        }
        Ok(())
    }

    /// Keeps the snapshots of segments, which truncation may need, and the last ones up to the recovery point.
    fn drop_old_snapshots(&self) -> io::Result<()> {
        let mut others: Vec<i64> = self
            .disk
            .list(&self.dir)?
            .iter()
            .filter_map(|n| offset_in_name(n, SNAPSHOT))
            .collect();
        others.retain(|offset| self.segments.binary_search_by_key(offset, |s| s.base).is_err());
        others.sort_unstable();
        let durable = others.partition_point(|offset| *offset <= self.checkpointed.recovery_point);
        for offset in &others[..durable.saturating_sub(1)] {
            self.disk.remove(&path(&self.dir, *offset, SNAPSHOT))?;
        }
        Ok(())
    }
}

/// Ends the name of a partition directory that is being removed. Such directories are to be removed at start.
pub const DELETED_SUFFIX: &str = "-delete";
