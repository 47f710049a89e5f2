//! One segment: a file of batches and its indexes.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use millstream_kafka::records::BatchHeader;

use crate::aborted::AbortedIndex;
use crate::disk::{Disk, DiskFile, Open};
use crate::index::{Entry, GrowingIndex, OffsetEntry, StoredIndex, TimeEntry};

/// A segment of the log.
#[derive(Debug)]
pub(crate) struct Segment<D: Disk> {
    /// Offset that its names carry; none of its records lies before it.
    pub base: i64,
    /// Bytes of whole batches in it.
    pub size: u64,
    /// Largest timestamp in it, or -1.
    pub max_timestamp: i64,
    /// Last offset of the batch that has it.
    pub max_timestamp_offset: i64,
    /// What the first batch says its time is, or -1: segments roll by it.
    pub first_timestamp: i64,
    /// When this process began to write to it.
    pub created_ms: i64,
    /// Present while it is written to.
    pub growing: Option<Growing>,
    /// The transactions whose markers in it say that they were aborted.
    pub aborted: AbortedIndex,
    /// Held while the segment is written to or has to be synced, so that files which are only read are open as long as
    /// somebody reads them.
    file: OnceLock<Arc<D::File>>,
}

/// The indexes of the segment that is written to.
#[derive(Debug)]
pub(crate) struct Growing {
    pub offsets: GrowingIndex<OffsetEntry>,
    pub times: GrowingIndex<TimeEntry>,
    /// Bytes of log since the last entry.
    pub unindexed: u64,
}

impl Growing {
    pub fn new() -> Self {
        Self {
            offsets: GrowingIndex::new(),
            times: GrowingIndex::new(),
            unindexed: 0,
        }
    }
}

impl<D: Disk> Segment<D> {
    pub fn new(base: i64, size: u64, created_ms: i64, growing: Option<Growing>) -> Self {
        Self {
            base,
            size,
            max_timestamp: -1,
            max_timestamp_offset: -1,
            first_timestamp: -1,
            created_ms,
            growing,
            aborted: AbortedIndex::default(),
            file: OnceLock::new(),
        }
    }

    /// The open file.
    pub fn file(&self, disk: &D, dir: &Path) -> io::Result<Arc<D::File>> {
        if let Some(file) = self.file.get() {
            return Ok(file.clone());
        }
        let file = Arc::new(disk.open(&path(dir, self.base, LOG), Open::Write)?);
        if self.growing.is_none() {
            return Ok(file);
        }
        Ok(self.file.get_or_init(|| file).clone())
    }

    /// Lets go of the file: all of it is durable, and nothing more is written to it.
    pub fn release_file(&mut self) {
        self.file = OnceLock::new();
    }

    /// Gives the segment its file, just made or opened.
    pub fn set_file(&mut self, file: Arc<D::File>) {
        self.file = OnceLock::from(file);
    }

    /// The file, if it is held open.
    pub fn opened(&self) -> Option<&Arc<D::File>> {
        self.file.get()
    }

    /// Counts a batch at the end of the file as part of the segment.
    pub fn account(&mut self, header: &BatchHeader, interval: u64) {
        let position = self.size as u32;
        let last = header.last_offset();
        if self.size == 0 {
            self.first_timestamp = header.max_timestamp;
        }
        if header.max_timestamp > self.max_timestamp {
            self.max_timestamp = header.max_timestamp;
            self.max_timestamp_offset = last;
        }
        let time = self.time_entry();
        let bytes = header.total_bytes() as u64;
        if let Some(growing) = &mut self.growing {
            if growing.unindexed > interval {
                growing.offsets.push(OffsetEntry {
                    offset: (last - self.base) as u32,
                    position,
                });
                growing.times.push(time);
                growing.unindexed = 0;
            }
            growing.unindexed += bytes;
        }
        self.size += bytes;
    }

    /// Writes the indexes to their files, durably. `is_last`: the segment will not grow any more.
    pub fn store_indexes(&mut self, disk: &D, dir: &Path, is_last: bool) -> io::Result<()> {
        let time = self.time_entry();
        let Some(growing) = &mut self.growing else {
            return Ok(());
        };
        if is_last && self.max_timestamp >= 0 {
            growing.times.push(time);
        }
        growing.offsets.store(disk, &path(dir, self.base, INDEX))?;
        growing.times.store(disk, &path(dir, self.base, TIME_INDEX))
    }

    /// Writes the index of aborted transactions to its file if that says something else.
    pub fn store_aborted(&mut self, disk: &D, dir: &Path) -> io::Result<()> {
        self.aborted.store(disk, &path(dir, self.base, TXN_INDEX))
    }

    /// Nothing more is written to the segment, and its indexes are stored.
    pub fn complete(&mut self) {
        self.growing = None;
        self.aborted.release();
    }

    /// A place at or before the batches that hold offset `target` or follow it.
    pub fn position_floor(&self, disk: &D, dir: &Path, target: i64) -> io::Result<u64> {
        let relative = target - self.base;
        let is_before = |entry: OffsetEntry| i64::from(entry.offset) <= relative;
        Ok(self
            .floor(disk, dir, is_before)?
            .map_or(0, |entry| entry.position.into()))
    }

    /// The furthest known place up to `position`, before which all batches end before offset `end`.
    pub fn end_floor(&self, disk: &D, dir: &Path, position: u64, end: i64) -> io::Result<u64> {
        let relative = end - self.base;
        let is_before =
            |entry: OffsetEntry| u64::from(entry.position) <= position && i64::from(entry.offset) < relative;
        Ok(self
            .floor(disk, dir, is_before)?
            .map_or(0, |entry| entry.position.into()))
    }

    /// An offset, no batch before which has a timestamp of `timestamp` or later.
    pub fn time_floor(&self, disk: &D, dir: &Path, timestamp: i64) -> io::Result<i64> {
        let is_before = |entry: TimeEntry| entry.timestamp < timestamp;
        let floor = match &self.growing {
            Some(growing) => last_before(growing.times.entries(), is_before),
            None => StoredIndex::open::<D, TimeEntry>(disk, &path(dir, self.base, TIME_INDEX))?
                .floor(is_before)?,
        };
        Ok(floor.map_or(self.base, |entry| self.base + i64::from(entry.offset)))
    }

    /// Gives up what its indexes take on the disk, durably. They are built anew at the next start.
    pub fn empty_indexes(&self, disk: &D, dir: &Path) -> io::Result<()> {
        for kind in [INDEX, TIME_INDEX] {
            match disk.open(&path(dir, self.base, kind), Open::Write) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                file => {
                    let file = file?;
                    file.truncate(0)?;
                    file.sync()?;
                }
            }
        }
        Ok(())
    }

    /// Removes the segment's files. Who still reads one of them goes on.
    pub fn remove(&self, disk: &D, dir: &Path) -> io::Result<()> {
        for kind in [INDEX, TIME_INDEX, SNAPSHOT, TXN_INDEX, LOG] {
            crate::disk::remove_if_there(disk, &path(dir, self.base, kind))?;
        }
        Ok(())
    }

    fn floor(
        &self,
        disk: &D,
        dir: &Path,
        is_before: impl Fn(OffsetEntry) -> bool,
    ) -> io::Result<Option<OffsetEntry>> {
        match &self.growing {
            Some(growing) => Ok(last_before(growing.offsets.entries(), is_before)),
            None => {
                let index = StoredIndex::open::<D, OffsetEntry>(disk, &path(dir, self.base, INDEX))?;
                Ok(index
                    .floor(is_before)?
                    .filter(|entry| u64::from(entry.position) < self.size))
            }
        }
    }

    fn time_entry(&self) -> TimeEntry {
        let offset = (self.max_timestamp_offset - self.base).max(0) as u32;
        TimeEntry {
            timestamp: self.max_timestamp,
            offset,
        }
    }
}

/// Path of a segment's file of one kind.
pub(crate) fn path(dir: &Path, base: i64, kind: &str) -> PathBuf {
    dir.join(format!("{base:020}.{kind}"))
}

/// The offset in the name of a file of one kind.
pub(crate) fn offset_in_name(name: &str, kind: &str) -> Option<i64> {
    let digits = name.strip_suffix(kind)?.strip_suffix('.')?;
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit())).then(|| digits.parse().ok())?
}

fn last_before<E: Entry>(entries: &[E], is_before: impl Fn(E) -> bool) -> Option<E> {
    entries[..entries.partition_point(|entry| is_before(*entry))]
        .last()
        .copied()
}

pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const TIME_INDEX: &str = "timeindex";
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const TXN_INDEX: &str = "txnindex";
