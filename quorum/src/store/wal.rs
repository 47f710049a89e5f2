//! `quorum.log`: votes and log entries, in the order in which they were promised.
//!
//! The file is a sequence of frames (see [`super::frame`]). The first one, its head, says whose file it is and up to
//! where the log was purged. Every start and every purge writes the file anew, aside, and renames it: so a torn end is
//! cut, and what a start has read is surely on the disk, even if the process before it died between a write and its
//! sync, or after a sync that failed.
//!
//! # Why nothing here may be lost
//! Raft is safe because a node never takes back what it said. A node that forgot its **vote** could vote for a second
//! candidate in the same term: two leaders of one term, each with a majority, would commit different commands at the
//! same index, and brokers would hold different images for ever. A node that forgot an **entry** after it said to have
//! it could help to elect a leader without it, and a committed command would be gone. So both are synced before they
//! are acknowledged, a failed sync is never tried again, and a file with damage or a missing file is an error and no
//! reason to begin anew. What cannot be told from a torn write is damage to the very last record while nothing at all
//! was written after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use millstream_storage::disk::{Disk, DiskFile, Open, read_file, replace_file, write_all};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::frame::{self, Frame};
use crate::error::StoreError;
use crate::message::to_json;
use crate::types::{Entry, LogId, Vote};

/// The open file.
#[derive(Debug)]
pub struct Wal<D: Disk> {
    disk: D,
    path: PathBuf,
    me: u64,
    file: D::File,
    end: u64,
    durable: u64,
    /// Bytes of a write that failed lie behind the end.
    is_torn: bool,
    is_poisoned: bool,
}

/// What the file says.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The last entry that is no longer in the log.
    pub purged: Option<LogId>,
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry that is known to be committed; not always the newest that was known.
    pub committed: Option<LogId>,
    /// The log, by index, without holes.
    pub entries: BTreeMap<u64, Stored>,
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The entry.
    pub entry: Entry,
    /// Its size once encoded.
    pub bytes: usize,
}

/// One thing to remember.
#[derive(Debug, Clone)]
pub struct Record {
    kind: u8,
    body: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u16,
    node: u64,
    purged: Option<LogId>,
}

impl Record {
    /// A vote.
    pub fn vote(vote: &Vote) -> Self {
        Self::new(VOTE, vote)
    }

    /// An entry of the log.
    pub fn entry(entry: &Entry) -> Self {
        Self::new(ENTRY, entry)
    }

    /// The last entry that is known to be committed.
    pub fn committed(committed: &LogId) -> Self {
        Self::new(COMMITTED, committed)
    }

    /// Entries from this index on are taken back.
    pub fn truncate(from: u64) -> Self {
        Self::new(TRUNCATE, &from)
    }

    /// Its size without the frame around it.
    pub fn len(&self) -> usize {
        self.body.len()
    }

    fn new<T: Serialize>(kind: u8, body: &T) -> Self {
        Self {
            kind,
            body: to_json(body),
        }
    }
}

impl Contents {
    /// The last entry, or the last that was purged.
    pub fn last(&self) -> Option<LogId> {
        let last = self.entries.last_key_value();
        last.map(|(_, stored)| stored.entry.log_id).or(self.purged)
    }

    /// Forgets entries up to `upto`.
    pub fn purge(&mut self, upto: LogId) {
        self.entries = match upto.index.checked_add(1) {
            Some(next) => self.entries.split_off(&next),
            None => BTreeMap::new(),
        };
        self.purged = self.purged.max(Some(upto));
    }

    /// Takes an entry; one that was purged is known already.
    ///
    /// # Errors
    /// It would leave a hole.
    pub fn push(&mut self, entry: Entry, bytes: usize) -> Result<(), String> {
        let index = entry.log_id.index;
        match self.last() {
            _ if self.purged.is_some_and(|purged| index <= purged.index) => Ok(()),
            Some(last) if last.index + 1 != index => {
                Err(format!("entry {index} does not follow entry {}", last.index))
            }
            _ => {
                self.entries.insert(index, Stored { entry, bytes });
                Ok(())
            }
        }
    }

    fn apply(&mut self, frame: Frame<'_>) -> Result<(), String> {
        match frame.kind {
            VOTE => self.vote = Some(read(frame)?),
            COMMITTED => self.committed = Some(read(frame)?),
            ENTRY => self.push(read(frame)?, frame.body.len())?,
            TRUNCATE => drop(self.entries.split_off(&read(frame)?)),
            kind => return Err(format!("there is no kind {kind} of record")),
        }
        Ok(())
    }

    fn encode(&self, me: u64) -> Vec<u8> {
        let head = Head {
            format: FORMAT,
            node: me,
            purged: self.purged,
        };
        let vote = self.vote.as_ref().map(Record::vote);
        let entries = self.entries.values().map(|stored| Record::entry(&stored.entry));
        let committed = self.committed.as_ref().map(Record::committed);
        let records = std::iter::once(Record::new(HEAD, &head))
            .chain(vote)
            .chain(entries)
            .chain(committed);
        let records: Vec<_> = records.collect();
        let records: Vec<_> = records
            .iter()
            .map(|record| (record.kind, &record.body[..]))
            .collect();
        frame::seal(&records)
    }
}

impl<D: Disk> Wal<D> {
    /// Opens the file in `directory`, making it where there is none. `covered` is the last entry in the snapshot.
    pub fn open(
        disk: D,
        directory: &Path,
        me: u64,
        covered: Option<LogId>,
    ) -> Result<(Self, Contents), StoreError> {
        let path = directory.join(LOG);
        let failed = |source| StoreError::io(&path, source);
        let contents = match read_file(&disk, &path).map_err(failed)? {
            Some(bytes) => load(&bytes, &path, me)?,
            None if covered.is_some() => {
                return Err(StoreError::damaged(
                    &path,
                    0,
                    "it is missing, but a snapshot lies next to it: this node has voted, and for whom is gone",
                ));
            }
            None => Contents::default(),
        };
        if contents.purged > covered {
            let reason =
                "the log was purged, and the snapshot that holds the purged entries is missing or too old";
            return Err(StoreError::damaged(&path, 0, reason));
        }
        let bytes = contents.encode(me);
        replace_file(&disk, &path, &bytes).map_err(failed)?;
        let file = disk.open(&path, Open::Write).map_err(failed)?;
        let end = bytes.len() as u64;
        let wal = Self {
            disk,
            path,
            me,
            file,
            end,
            durable: end,
            is_torn: false,
            is_poisoned: false,
        };
        Ok((wal, contents))
    }

    /// Appends records and makes them durable, with one sync.
    pub fn append(&mut self, records: &[Record]) -> Result<(), StoreError> {
        self.write(records, true)
    }

    /// Appends what may be lost again: it is durable with the next record that is.
    pub fn append_lazily(&mut self, record: &Record) -> Result<(), StoreError> {
        self.write(std::slice::from_ref(record), false)
    }

    /// Writes the file anew, with nothing but `contents`.
    pub fn rewrite(&mut self, contents: &Contents) -> Result<(), StoreError> {
        self.attempt(|wal| {
            let bytes = contents.encode(wal.me);
            super::replace(&wal.disk, &wal.path, &bytes)?;
            // The file that is open has no name from here on, so nothing more may be promised in it.
            let file = wal.disk.open(&wal.path, Open::Write);
            wal.file = file.map_err(|source| StoreError::unsure(&wal.path, source))?;
            wal.end = bytes.len() as u64;
            wal.durable = wal.end;
            wal.is_torn = false;
            Ok(())
        })
    }

    fn write(&mut self, records: &[Record], is_synced: bool) -> Result<(), StoreError> {
        self.attempt(|wal| {
            let mut bytes = Vec::new();
            for record in records {
                frame::push(&mut bytes, wal.durable, record.kind, &record.body);
            }
            if wal.is_torn {
                // Records of the write that failed could be taken for ones that follow what is written now.
                let cut = wal.file.truncate(wal.end);
                cut.map_err(|source| StoreError::io(&wal.path, source))?;
            }
            wal.is_torn = true;
            let written = write_all(&wal.file, &bytes, &[], wal.end);
            written.map_err(|source| StoreError::io(&wal.path, source))?;
            wal.is_torn = false;
            wal.end += bytes.len() as u64;
            if is_synced {
                let synced = wal.file.sync();
                synced.map_err(|source| StoreError::unsure(&wal.path, source))?;
                wal.durable = wal.end;
            }
            Ok(())
        })
    }

    /// After a failure it is not known what is on the disk, so nothing more is promised; except if there was no room:
    /// then nothing was promised of what was written, and it is written anew.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<(), StoreError>) -> Result<(), StoreError> {
        if self.is_poisoned {
            return Err(StoreError::Poisoned {
                path: self.path.clone(),
            });
        }
        self.is_poisoned = true;
        let done = work(self);
        self.is_poisoned = done.as_ref().is_err_and(|error| !error.is_disk_full());
        done
    }
}

fn load(bytes: &[u8], path: &Path, me: u64) -> Result<Contents, StoreError> {
    let damaged = |position, reason: String| StoreError::damaged(path, position, reason);
    let (frames, end) =
        frame::split(bytes).map_err(|damage| damaged(damage.position, damage.reason.to_owned()))?;
    let Some((head, frames)) = frames.split_first().filter(|(head, _)| head.kind == HEAD) else {
        return Err(damaged(0, "its first record cannot be read".to_owned()));
    };
    let head: Head = read(*head).map_err(|reason| damaged(0, reason))?;
    if head.format != FORMAT {
        let reason = format!("its format is {}, this version reads {FORMAT}", head.format);
        return Err(damaged(0, reason));
    }
    if head.node != me {
        return Err(StoreError::OtherNode {
            path: path.to_owned(),
            found: head.node,
            me,
        });
    }
    let mut contents = Contents {
        purged: head.purged,
        ..Contents::default()
    };
    for frame in frames {
        contents
            .apply(*frame)
            .map_err(|reason| damaged(frame.position, reason))?;
    }
    if end < bytes.len() {
        let cut = bytes.len() - end;
        tracing::warn!(file = %path.display(), cut, "cut a torn end off the quorum's log");
    }
    Ok(contents)
}

fn read<T: DeserializeOwned>(frame: Frame<'_>) -> Result<T, String> {
    serde_json::from_slice(frame.body)
        .map_err(|error| format!("a record is whole, but this version cannot read it: {error}"))
}

/// The file's name.
pub const LOG: &str = "quorum.log";
const FORMAT: u16 = 1;
const HEAD: u8 = b'H';
const VOTE: u8 = b'V';
const ENTRY: u8 = b'E';
const COMMITTED: u8 = b'C';
const TRUNCATE: u8 = b'T';
