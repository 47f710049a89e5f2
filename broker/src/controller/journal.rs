//! The journal of cluster commands on this broker's disk.
//!
//! `cluster.log` is a sequence of entries: length (u32), its complement (u32), CRC-32C of the payload (u32), payload
//! (JSON), little-endian. `cluster.snapshot` is one such entry with the image from which the journal goes on. A torn
//! last entry is cut off; damage before it is an error and never deletes anything, for what follows may be good.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// The open journal.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    file: File,
    bytes: u64,
    poisoned: bool,
}

/// What the journal held when it was opened.
#[derive(Debug, Default)]
pub struct Contents {
    /// Payload of the snapshot, where there is one.
    pub snapshot: Option<Vec<u8>>,
    /// Payloads of the commands since then, oldest first.
    pub entries: Vec<Vec<u8>>,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// An entry that is not the last does not match its checksum.
    #[error("{path}: damaged entry at byte {position}; nothing was changed, restore the file from a copy")]
    Damaged {
        /// The file.
        path: String,
        /// Where the entry begins.
        position: u64,
    },
    /// A write failed before; what is on the disk is not known.
    #[error("the journal failed before and takes no more commands until the broker restarts")]
    Poisoned,
}

impl Journal {
    /// Opens the journal in `directory`, making it where there is none.
    ///
    /// # Errors
    /// Files that cannot be read, or damage before the last entry.
    pub fn open(directory: &Path) -> Result<(Self, Contents), JournalError> {
        let path = directory.join(LOG);
        let snapshot = read_snapshot(&directory.join(SNAPSHOT))?;
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(&path)
            .map_err(|source| at(&path, source))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|source| at(&path, source))?;
        let (entries, valid) = split(&bytes, &path)?;
        if valid < bytes.len() {
            tracing::warn!(file = %path.display(), cut = bytes.len() - valid, "cut a torn entry off the journal");
            file.set_len(valid as u64).map_err(|source| at(&path, source))?;
            file.sync_all().map_err(|source| at(&path, source))?;
        }
        sync_directory(directory)?;
        let journal = Self {
            directory: directory.to_owned(),
            file,
            bytes: valid as u64,
            poisoned: false,
        };
        Ok((journal, Contents { snapshot, entries }))
    }

    /// Appends a command and makes it durable.
    ///
    /// # Errors
    /// When the command may not be on the disk. After a failed sync the journal takes no more until it is opened again.
    pub fn append(&mut self, payload: &[u8]) -> Result<(), JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned);
        }
        let entry = entry(payload);
        let failed = |source| at(&self.directory.join(LOG), source);
        if let Err(source) = self.file.write_all(&entry) {
            // Where the disk is full the journal goes on once there is room, if nothing of the entry stays.
            self.poisoned = self.file.set_len(self.bytes).is_err();
            return Err(failed(source));
        }
        if let Err(source) = self.file.sync_data() {
            self.poisoned = true;
            return Err(failed(source));
        }
        self.bytes += entry.len() as u64;
        Ok(())
    }

    /// Whether a snapshot is worth its price now.
    pub fn wants_snapshot(&self) -> bool {
        self.bytes > SNAPSHOT_AFTER_BYTES
    }

    /// Replaces the journal by a snapshot. Commands in the journal that the snapshot holds already are harmless only
    /// if the snapshot says up to which one it goes, so `payload` must contain that.
    ///
    /// # Errors
    /// When the snapshot could not be written; the journal is as it was.
    pub fn snapshot(&mut self, payload: &[u8]) -> Result<(), JournalError> {
        let path = self.directory.join(SNAPSHOT);
        let temporary = self.directory.join("cluster.snapshot.new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(&entry(payload))?;
            file.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|source| at(&path, source))?;
        sync_directory(&self.directory)?;
        self.file
            .set_len(0)
            .and_then(|()| self.file.sync_all())
            .map_err(|source| {
                self.poisoned = true;
                at(&self.directory.join(LOG), source)
            })?;
        self.bytes = 0;
        Ok(())
    }
}

/// Whether there is a journal in `directory`.
pub fn is_there(directory: &Path) -> bool {
    [LOG, SNAPSHOT].iter().any(|name| directory.join(name).exists())
}

/// Keeps the journal in `directory`, if there is one, under other names: a quorum has taken its place.
///
/// # Errors
/// The files cannot be renamed.
pub fn set_aside(directory: &Path) -> io::Result<()> {
    if !is_there(directory) {
        return Ok(());
    }
    for name in [LOG, SNAPSHOT] {
        match std::fs::rename(directory.join(name), directory.join(format!("{name}{ASIDE}"))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    File::open(directory)?.sync_all()
}

fn entry(payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut entry = Vec::with_capacity(payload.len() + HEADER_BYTES);
    entry.extend_from_slice(&length.to_le_bytes());
    entry.extend_from_slice(&(!length).to_le_bytes());
    entry.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
    entry.extend_from_slice(payload);
    entry
}

fn read_snapshot(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(at(path, source)),
    };
    let (mut entries, valid) = split(&bytes, path)?;
    match entries.pop() {
        Some(payload) if entries.is_empty() && valid == bytes.len() => Ok(Some(payload)),
        _ => Err(JournalError::Damaged {
            path: path.display().to_string(),
            position: 0,
        }),
    }
}

/// The entries, and how many bytes they take: what follows is a torn write.
fn split(bytes: &[u8], path: &Path) -> Result<(Vec<Vec<u8>>, usize), JournalError> {
    let damaged = |position: usize| JournalError::Damaged {
        path: path.display().to_string(),
        position: position as u64,
    };
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    let mut entries = Vec::new();
    let mut position = 0;
    while position + HEADER_BYTES <= bytes.len() {
        let (length, complement, crc) = (word(position), word(position + 4), word(position + 8));
        let end = position + HEADER_BYTES + length as usize;
        let payload = bytes
            .get(position + HEADER_BYTES..end)
            .filter(|_| length == !complement);
        match payload.filter(|payload| crc32c::crc32c(payload) == crc) {
            Some(payload) => entries.push(payload.to_vec()),
            // A write that was torn can leave any of its sectors, but nothing follows it.
            None if has_entry(&bytes[position + 1..]) => return Err(damaged(position)),
            None => break,
        }
        position = end;
    }
    Ok((entries, position))
}

/// Whether a whole entry begins anywhere in `bytes`.
fn has_entry(bytes: &[u8]) -> bool {
    bytes.windows(HEADER_BYTES).enumerate().any(|(position, header)| {
        let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
        let payload = position + HEADER_BYTES..position + HEADER_BYTES + word(0) as usize;
        word(0) == !word(4)
            && bytes
                .get(payload)
                .is_some_and(|payload| crc32c::crc32c(payload) == word(8))
    })
}

fn sync_directory(directory: &Path) -> Result<(), JournalError> {
    File::open(directory)
        .and_then(|d| d.sync_all())
        .map_err(|source| at(directory, source))
}

fn at(path: &Path, source: io::Error) -> JournalError {
    JournalError::Io {
        path: path.display().to_string(),
        source,
    }
}

const HEADER_BYTES: usize = 12;
const LOG: &str = "cluster.log";
const SNAPSHOT: &str = "cluster.snapshot";
/// Ends the names of files that a quorum has taken the place of.
const ASIDE: &str = ".before-cluster";
/// Size of the journal beyond which a snapshot replaces it.
const SNAPSHOT_AFTER_BYTES: u64 = 4 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> (tempfile::TempDir, Vec<u8>) {
        let dir = tempfile::tempdir().unwrap();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        for text in ["one", "two", "three"] {
            journal.append(text.as_bytes()).unwrap();
        }
        let bytes = std::fs::read(dir.path().join(LOG)).unwrap();
        (dir, bytes)
    }

    #[test]
    fn a_journal_cut_at_any_byte_keeps_every_whole_entry() {
        let (dir, bytes) = filled();
        for cut in 0..=bytes.len() {
            std::fs::write(dir.path().join(LOG), &bytes[..cut]).unwrap();
            let (_, contents) = Journal::open(dir.path()).unwrap();
            let whole = [15, 30, 47].iter().filter(|end| **end <= cut).count();
            assert_eq!(contents.entries.len(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn whatever_sectors_of_the_last_entry_are_left_it_is_cut_off() {
        let (dir, bytes) = filled();
        for lost in [30..35, 34..47, 42..47, 30..31, 30..47] {
            let mut bytes = bytes.clone();
            bytes[lost.clone()].fill(0);
            bytes.extend_from_slice(&[0; 100]);
            std::fs::write(dir.path().join(LOG), &bytes).unwrap();
            let (mut journal, contents) = Journal::open(dir.path()).unwrap();
            assert_eq!(
                contents.entries,
                [b"one".to_vec(), b"two".to_vec()],
                "without {lost:?}"
            );
            journal.append(b"four").unwrap();
            let (_, contents) = Journal::open(dir.path()).unwrap();
            assert_eq!(contents.entries.last().unwrap(), b"four");
        }
    }

    #[test]
    fn damage_before_the_last_entry_is_an_error_and_changes_nothing() {
        let (dir, bytes) = filled();
        for (position, hurt) in [(0, 2), (0, 13), (15, 16)] {
            let mut bytes = bytes.clone();
            bytes[hurt] ^= 0x40;
            std::fs::write(dir.path().join(LOG), &bytes).unwrap();
            let error = Journal::open(dir.path()).unwrap_err();
            assert!(
                matches!(error, JournalError::Damaged { position: p, .. } if p == position),
                "{error}"
            );
            assert_eq!(std::fs::read(dir.path().join(LOG)).unwrap(), bytes);
        }
    }

    #[test]
    fn a_snapshot_replaces_the_entries() {
        let (dir, _) = filled();
        let (mut journal, _) = Journal::open(dir.path()).unwrap();
        journal.snapshot(b"image").unwrap();
        journal.append(b"four").unwrap();
        drop(journal);
        let (_, contents) = Journal::open(dir.path()).unwrap();
        assert_eq!(contents.snapshot.as_deref(), Some(&b"image"[..]));
        assert_eq!(contents.entries, [b"four".to_vec()]);
    }
}
