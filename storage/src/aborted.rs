//! The transactions that were aborted by the markers of one segment (KIP-98), in Kafka's `.txnindex`: what readers of
//! committed records must skip.
//!
//! Every segment that is complete has the file, an empty one as a rule, so that a lost one is noticed and made again from
//! the log. It is always replaced as a whole.

use std::io;
use std::path::Path;

use crate::disk::{Disk, place_file, read_file};

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub producer_id: i64,
    pub first_offset: i64,
    /// Offset of the marker.
    pub last_offset: i64,
    /// The first offset of those that were open then, else the one behind the marker. Whatever ends later begins there at
    /// the earliest.
    pub last_stable_offset: i64,
}

/// Those of one segment, in the order of their markers.
#[derive(Debug)]
pub(crate) enum AbortedIndex {
    /// Of a segment that is written to, or whose file could not be written.
    Memory {
        entries: Vec<Aborted>,
        /// The file says the same.
        is_stored: bool,
    },
    /// Of a segment that is complete.
    File(Summary),
}

/// What spares reading the file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summary {
    count: usize,
    first_offset_min: i64,
    last_stable_offset: i64,
}

impl Default for AbortedIndex {
    fn default() -> Self {
        Self::Memory {
            entries: Vec::new(),
            is_stored: false,
        }
    }
}

impl AbortedIndex {
    /// Reads from the file of a segment that begins with offset `base` the markers before `end`; if `is_whole`, there are no
    /// others. None if there is no file or it is damaged.
    pub fn load<D: Disk>(
        disk: &D,
        path: &Path,
        base: i64,
        end: i64,
        is_whole: bool,
    ) -> io::Result<Option<Self>> {
        let Some(bytes) = read_file(disk, path)? else {
            return Ok(None);
        };
        let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        if !rest.is_empty() {
            return Ok(None);
        }
        let mut entries = Vec::with_capacity(chunks.len());
        let mut least = base;
        for chunk in chunks {
            let Some(entry) = Aborted::from_bytes(chunk).filter(|entry| entry.last_offset >= least) else {
                return Ok(None);
            };
            if entry.last_offset >= end {
                if is_whole {
                    return Ok(None);
                }
                break;
            }
            least = entry.last_offset + 1;
            entries.push(entry);
        }
        let is_stored = entries.len() == chunks.len();
        Ok(Some(Self::Memory { entries, is_stored }))
    }

    /// Adds a transaction whose marker is behind the others'.
    pub fn push(&mut self, aborted: Aborted) {
        match self {
            Self::Memory { entries, is_stored } => {
                entries.push(aborted);
                *is_stored = false;
            }
            Self::File(_) => unreachable!("a complete segment gets no marker"),
        }
    }

    /// Number of transactions.
    pub fn len(&self) -> usize {
        match self {
            Self::Memory { entries, .. } => entries.len(),
            Self::File(summary) => summary.count,
        }
    }

    /// Replaces the file if it says something else. Which is there after a crash is open until the directory is synced.
    pub fn store<D: Disk>(&mut self, disk: &D, path: &Path) -> io::Result<()> {
        let Self::Memory { entries, is_stored } = self else {
            return Ok(());
        };
        if !*is_stored {
            let mut bytes = Vec::with_capacity(entries.len() * ENTRY_BYTES);
            entries.iter().for_each(|entry| entry.to_bytes(&mut bytes));
            place_file(disk, path, &bytes)?;
            *is_stored = true;
        }
        Ok(())
    }

    /// Leaves the entries to the file: the segment is complete. Not where the file could not be written.
    pub fn release(&mut self) {
        let Self::Memory {
            entries,
            is_stored: true,
        } = self
        else {
            return;
        };
        *self = Self::File(Summary {
            count: entries.len(),
            first_offset_min: entries.iter().map(|entry| entry.first_offset).min().unwrap_or(0),
            last_stable_offset: entries.last().map_or(0, |entry| entry.last_stable_offset),
        });
    }

    /// Whether a marker may lie at `from` or behind it.
    pub fn may_reach(&self, from: i64) -> bool {
        match self {
            Self::Memory { entries, .. } => entries.last().is_some_and(|entry| entry.last_offset >= from),
            Self::File(summary) => summary.count > 0,
        }
    }

    /// Adds to `found` those that overlap the offsets from `from` up to `to`. Returns whether there can be none in later
    /// segments.
    pub fn collect<D: Disk>(
        &self,
        disk: &D,
        path: &Path,
        (from, to): (i64, i64),
        found: &mut Vec<Aborted>,
    ) -> io::Result<bool> {
        let stored: Vec<Aborted>;
        let entries = match self {
            Self::Memory { entries, .. } => entries,
            Self::File(summary) if summary.count == 0 || summary.first_offset_min >= to => {
                return Ok(summary.count > 0 && summary.last_stable_offset >= to);
            }
            Self::File(_) => {
                let bytes = read_file(disk, path)?.ok_or(io::ErrorKind::NotFound)?;
                let (chunks, _) = bytes.as_chunks::<ENTRY_BYTES>();
                stored = chunks.iter().filter_map(Aborted::from_bytes).collect();
                &stored
            }
        };
        let first = entries.partition_point(|entry| entry.last_offset < from);
        for entry in &entries[first..] {
            if entry.first_offset < to {
                found.push(*entry);
            }
            if entry.last_stable_offset >= to {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Aborted {
    fn to_bytes(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&VERSION.to_be_bytes());
        for field in [
            self.producer_id,
            self.first_offset,
            self.last_offset,
            self.last_stable_offset,
        ] {
            out.extend_from_slice(&field.to_be_bytes());
        }
    }

    /// None for what no log says of a transaction.
    fn from_bytes(bytes: &[u8; ENTRY_BYTES]) -> Option<Self> {
        let (version, fields) = bytes.split_first_chunk()?;
        let ([producer_id, first_offset, last_offset, last_stable_offset], _) = fields.as_chunks::<8>()
        else {
            return None;
        };
        let aborted = Self {
            producer_id: i64::from_be_bytes(*producer_id),
            first_offset: i64::from_be_bytes(*first_offset),
            last_offset: i64::from_be_bytes(*last_offset),
            last_stable_offset: i64::from_be_bytes(*last_stable_offset),
        };
        let is_possible = i16::from_be_bytes(*version) == VERSION
            && aborted.producer_id >= 0
            && (0..aborted.last_offset).contains(&aborted.first_offset)
            && aborted.last_offset < i64::MAX
            && (0..=aborted.last_offset + 1).contains(&aborted.last_stable_offset);
        is_possible.then_some(aborted)
    }
}

/// An entry: version, producer id, first offset, last offset, last stable offset.
pub(crate) const ENTRY_BYTES: usize = 34;
const VERSION: i16 = 0;
