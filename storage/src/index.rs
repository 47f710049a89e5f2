//! The two sparse indexes of a segment, in Kafka's formats: offset to position (`.index`), time to offset
//! (`.timeindex`).
//!
//! An index is a hint: it is derived from the segment and rebuilt from it when it is missing. The one of the segment
//! that is written to lies in memory and goes to its file at checkpoints; those of older segments are read where they
//! lie, by binary search.

use std::io;
use std::path::Path;

use crate::disk::{Disk, DiskFile, Open, place_file, read_exact, read_file, write_all};

/// An entry with a fixed size on disk.
pub(crate) trait Entry: Copy {
    /// That size.
    const BYTES: usize;
    fn to_bytes(self, out: &mut Vec<u8>);
    fn from_bytes(bytes: &[u8]) -> Self;
    /// Whether `self` may follow `earlier`.
    fn follows(self, earlier: Self) -> bool;
}

/// The batch whose last offset is `offset` (relative to the segment's base) begins at byte `position`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    pub offset: u32,
    pub position: u32,
}

/// Up to the batch whose last offset is `offset` (relative), `timestamp` is the largest one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(Rust, packed(4))]
pub(crate) struct TimeEntry {
    pub timestamp: i64,
    pub offset: u32,
}

impl Entry for OffsetEntry {
    const BYTES: usize = 8;

    fn to_bytes(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let [a, b, c, d, e, f, g, h] = *bytes.first_chunk().expect("eight bytes an entry");
        Self {
            offset: u32::from_be_bytes([a, b, c, d]),
            position: u32::from_be_bytes([e, f, g, h]),
        }
    }

    fn follows(self, earlier: Self) -> bool {
        self.offset > earlier.offset && self.position > earlier.position
    }
}

impl Entry for TimeEntry {
    const BYTES: usize = 12;

    fn to_bytes(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&{ self.timestamp }.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let timestamp = i64::from_be_bytes(*bytes.first_chunk().expect("twelve bytes an entry"));
        let [a, b, c, d] = *bytes.last_chunk().expect("twelve bytes an entry");
        Self {
            timestamp,
            offset: u32::from_be_bytes([a, b, c, d]),
        }
    }

    fn follows(self, earlier: Self) -> bool {
        self.timestamp > earlier.timestamp && self.offset >= earlier.offset
    }
}

/// The index of the segment that is written to.
#[derive(Debug)]
pub(crate) struct GrowingIndex<E> {
    entries: Vec<E>,
    /// Entries that the file holds already.
    stored: usize,
}

impl<E: Entry> GrowingIndex<E> {
    pub fn new() -> Self {
        Self {
            entries: Vec::new(),
            stored: 0,
        }
    }

    /// Takes the entries of a file as far as they are in order and `keep` says so. None of them count as stored: what
    /// lies behind the kept ones must go from the file.
    pub fn load<D: Disk>(disk: &D, path: &Path, keep: impl Fn(E) -> bool) -> io::Result<Self> {
        let mut index = Self::new();
        for bytes in read_file(disk, path)?.unwrap_or_default().chunks_exact(E::BYTES) {
            let entry = E::from_bytes(bytes);
            if !keep(entry) || !index.push(entry) {
                break;
            }
        }
        Ok(index)
    }

    /// Adds an entry; not if it does not follow the last one.
    pub fn push(&mut self, entry: E) -> bool {
        let fits = self.entries.last().is_none_or(|last| entry.follows(*last));
        if fits {
            self.entries.push(entry);
        }
        fits
    }

    pub fn entries(&self) -> &[E] {
        &self.entries
    }

    /// Writes the entries that the file lacks and makes them durable.
    pub fn store<D: Disk>(&mut self, disk: &D, path: &Path) -> io::Result<()> {
        if self.stored == self.entries.len() && self.stored > 0 {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity((self.entries.len() - self.stored) * E::BYTES);
        for entry in &self.entries[self.stored..] {
            entry.to_bytes(&mut bytes);
        }
        if self.stored == 0 {
            // Under its name there is never a file that could be read now and lost later.
            place_file(disk, path, &bytes)?;
        } else {
            let file = disk.open(path, Open::Create)?;
            write_all(&file, &bytes, &[], (self.stored * E::BYTES) as u64)?;
            file.truncate((self.entries.len() * E::BYTES) as u64)?;
            file.sync()?;
        }
        self.stored = self.entries.len();
        Ok(())
    }
}

/// The index of a segment that is complete, in its file.
#[derive(Debug)]
pub(crate) struct StoredIndex<F> {
    file: F,
    entries: usize,
}

impl<F: DiskFile> StoredIndex<F> {
    pub fn open<D: Disk<File = F>, E: Entry>(disk: &D, path: &Path) -> io::Result<Self> {
        let file = disk.open(path, Open::Read)?;
        let entries = file.len()? as usize / E::BYTES;
        Ok(Self { file, entries })
    }

    pub fn last<E: Entry>(&self) -> io::Result<Option<E>> {
        self.entries
            .checked_sub(1)
            .map(|last| self.entry(last))
            .transpose()
    }

    /// The last entry for which `is_before` holds; it holds for a front part of the entries.
    pub fn floor<E: Entry>(&self, is_before: impl Fn(E) -> bool) -> io::Result<Option<E>> {
        let (mut low, mut high, mut floor) = (0, self.entries, None);
        while low < high {
            let middle = low + (high - low) / 2;
            let entry = self.entry(middle)?;
            if is_before(entry) {
                floor = Some(entry);
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(floor)
    }

    fn entry<E: Entry>(&self, number: usize) -> io::Result<E> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..E::BYTES];
        read_exact(&self.file, bytes, (number * E::BYTES) as u64)?;
        Ok(E::from_bytes(bytes))
    }
}
