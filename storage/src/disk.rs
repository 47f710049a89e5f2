//! The disk as the log sees it, and the real one.
//!
//! # Order and durability
//! A write is visible to every later read at once and durable after a sync of its file that began afterwards and
//! succeeded. Until then a crash keeps all of it, none, or any sectors of it, whatever the order of the writes. A
//! file's name (creation, rename, removal) is durable after [`Disk::sync_dir`] of its directory; renames are atomic.
//! After a failed sync it is not known what is on disk, and a second attempt proves nothing: see [`crate::Log::poison`].
//! How the real disk syncs many files, and why so, is told in `docs/decisions/0001-group-commit-by-syncfs.md`.

use std::fmt::Debug;
use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags};

use crate::file_system::FileSystem;

/// How a file is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Open {
    /// For reading; it must exist.
    Read,
    /// For reading and writing; it must exist.
    Write,
    /// For reading and writing; it is made if it does not exist, and keeps its content if it does.
    Create,
}

/// Directories and names.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: DiskFile;

    /// Opens a file.
    ///
    /// # Errors
    /// As the system says.
    fn open(&self, path: &Path, how: Open) -> io::Result<Self::File>;
    /// Names in a directory, in no order.
    ///
    /// # Errors
    /// As the system says.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes a directory and those above it. Tells whether the directory is new. Not durable before a `sync_dir` of
    /// its parent.
    ///
    /// # Errors
    /// As the system says.
    fn create_dir(&self, dir: &Path) -> io::Result<bool>;
    /// Renames atomically, over an existing file if there is one. Durable after a `sync_dir`.
    ///
    /// # Errors
    /// As the system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file's name; who has it open still reads it.
    ///
    /// # Errors
    /// As the system says.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and what is in it.
    ///
    /// # Errors
    /// As the system says.
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    ///
    /// # Errors
    /// As the system says.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the content of all `files` durable. A failure says nothing about which of them are.
    ///
    /// # Errors
    /// As the system says.
    fn sync_many(&self, files: &[Arc<Self::File>]) -> io::Result<()>;
}

/// An open file. All positions are in bytes from its start.
pub trait DiskFile: Debug + Send + Sync + 'static {
    /// Reads up to `buffer.len()` bytes; 0 at the end.
    ///
    /// # Errors
    /// As the system says.
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize>;
    /// As [`DiskFile::read_at`], but none where that would wait for the disk.
    ///
    /// # Errors
    /// As the system says.
    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>>;
    /// Writes some of the bytes and tells how many.
    ///
    /// # Errors
    /// As the system says; a full disk is `StorageFull`.
    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes the content and the length durable (`fdatasync`).
    ///
    /// # Errors
    /// As the system says; the file must not be trusted afterwards.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file, or extends it with zeros. Durable after a sync.
    ///
    /// # Errors
    /// As the system says.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Length in bytes.
    ///
    /// # Errors
    /// As the system says.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file has no bytes.
    ///
    /// # Errors
    /// As [`DiskFile::len`].
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }
}

/// The file system of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

/// A file of the machine.
#[derive(Debug)]
pub struct RealFile {
    fd: OwnedFd,
    synced: SyncOnce,
}

impl AsFd for RealFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Remembers that a sync failed: the system tells so once, and whoever syncs next must hear of it too.
#[derive(Debug, Default)]
pub(crate) struct SyncOnce(Mutex<bool>);

impl SyncOnce {
    /// Does a sync, unless one failed before.
    pub fn sync(&self, sync: impl FnOnce() -> rustix::io::Result<()>) -> io::Result<()> {
        // Held meanwhile: a second sync must not succeed because the first has taken the failure, but not told it yet.
        let mut has_failed = self.0.lock().expect("no panic in a sync");
        if *has_failed {
            return Err(io::Error::other("a sync failed before"));
        }
        // Not tried again on any error, interruption included: the second call would say nothing about the first.
        let result = sync();
        *has_failed = result.is_err();
        Ok(result?)
    }
}

impl Disk for RealDisk {
    type File = RealFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<RealFile> {
        let flags = OFlags::CLOEXEC
            | match how {
                Open::Read => OFlags::RDONLY,
                Open::Write => OFlags::RDWR,
                Open::Create => OFlags::RDWR | OFlags::CREATE,
            };
        Ok(RealFile {
            fd: rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?,
            synced: SyncOnce::default(),
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(dir)? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let is_new = !dir.is_dir();
        fs::create_dir_all(dir)?;
        FileSystem::watch(dir)?;
        Ok(is_new)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = if dir.as_os_str().is_empty() {
            Path::new(".")
        } else {
            dir
        };
        fs::File::open(dir)?.sync_all()
    }

    fn sync_many(&self, files: &[Arc<RealFile>]) -> io::Result<()> {
        if files.len() < SYNCFS_FROM_FILES {
            return files.iter().try_for_each(|file| file.sync());
        }
        // One call per file system: files may lie on several.
        let mut file_systems: Vec<Arc<FileSystem>> = Vec::new();
        for file in files {
            let device = rustix::fs::fstat(file.as_fd())?.st_dev;
            if file_systems.iter().any(|known| known.device() == device) {
                continue;
            }
            match FileSystem::of(device) {
                Some(file_system) => file_systems.push(file_system),
                None => file.sync()?,
            }
        }
        file_systems.iter().try_for_each(|file_system| file_system.sync())
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        Ok(retry(|| rustix::io::pread(&self.fd, &mut *buffer, position))?)
    }

    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        let mut buffers = [IoSliceMut::new(buffer)];
        match retry(|| rustix::io::preadv2(&self.fd, &mut buffers, position, ReadWriteFlags::NOWAIT)) {
            Ok(read) => Ok(Some(read)),
            Err(Errno::AGAIN | Errno::OPNOTSUPP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(retry(|| rustix::io::pwritev(&self.fd, buffers, position))?)
    }

    fn sync(&self) -> io::Result<()> {
        self.synced.sync(|| rustix::fs::fdatasync(&self.fd))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        Ok(retry(|| rustix::fs::ftruncate(&self.fd, len))?)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(rustix::fs::fstat(&self.fd)?.st_size as u64)
    }
}

/// Reads exactly `buffer.len()` bytes.
pub(crate) fn read_exact<F: DiskFile>(file: &F, mut buffer: &mut [u8], mut position: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match file.read_at(buffer, position)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                position += read as u64;
                buffer = &mut buffer[read..];
            }
        }
    }
    Ok(())
}

/// Writes all of `front` and then all of `back`: one call, unless the system takes less.
///
/// # Errors
/// As [`DiskFile::write_at`].
pub fn write_all<F: DiskFile>(file: &F, front: &[u8], back: &[u8], position: u64) -> io::Result<()> {
    let total = front.len() + back.len();
    let mut written = 0;
    while written < total {
        let back = &back[written.saturating_sub(front.len())..];
        let front = &front[written.min(front.len())..];
        match file.write_at(
            &[IoSlice::new(front), IoSlice::new(back)],
            position + written as u64,
        )? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            more => written += more,
        }
    }
    Ok(())
}

/// The whole content of a small file; none if there is no such file.
///
/// # Errors
/// The file cannot be read.
pub fn read_file<D: Disk>(disk: &D, path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Open::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = vec![0; file.len()? as usize];
    read_exact(&file, &mut bytes, 0)?;
    Ok(Some(bytes))
}

/// Replaces a file so that after a crash either the old or the new content is there; durable on return.
///
/// # Errors
/// The disk cannot be written; either content may be there then.
pub fn replace_file<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> io::Result<()> {
    place_file(disk, path, bytes)?;
    disk.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// As [`replace_file`], but which content is there after a crash is open until the directory is synced.
///
/// # Errors
/// The file cannot be written; the one before is still there.
pub fn place_file<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = Path::new(&temporary);
    let place = || {
        let file = disk.open(temporary, Open::Create)?;
        file.truncate(0)?;
        write_all(&file, bytes, &[], 0)?;
        file.sync()?;
        disk.rename(temporary, path)
    };
    place().inspect_err(|_| {
        // It may hold what little room there is; the next start removes it otherwise.
        let _ = disk.remove(temporary);
    })
}

/// Whether there was no room: nothing is broken then.
pub fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

/// Removes a file that may not be there.
pub(crate) fn remove_if_there<D: Disk>(disk: &D, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            done => return done,
        }
    }
}

/// Number of dirty files from which on one `syncfs` is taken instead of an `fdatasync` each. On ext4 it wins from a
/// handful on (`examples/sync_cost.rs`), but it also waits for what others have dirtied on the same file system, so it
/// has to win clearly.
pub const SYNCFS_FROM_FILES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_that_failed_is_told_to_everyone_who_syncs_later() {
        let synced = SyncOnce::default();
        synced.sync(|| Ok(())).unwrap();
        assert!(synced.sync(|| Err(Errno::IO)).is_err());
        assert!(synced.sync(|| Ok(())).is_err());
    }

    #[test]
    fn many_files_of_several_file_systems_are_synced() {
        let folders: Vec<_> = [std::env::temp_dir(), "/dev/shm".into(), ".".into()]
            .into_iter()
            .filter(|folder| folder.is_dir())
            .map(|folder| tempfile::tempdir_in(folder).unwrap())
            .collect();
        let mut files = Vec::new();
        for folder in &folders {
            RealDisk.create_dir(&folder.path().join("flights-0")).unwrap();
            for number in 0..SYNCFS_FROM_FILES {
                let path = folder.path().join(format!("flights-0/{number}"));
                let file = RealDisk.open(&path, Open::Create).unwrap();
                write_all(&file, b"record", &[], 0).unwrap();
                files.push(Arc::new(file));
            }
        }
        RealDisk.sync_many(&files).unwrap();
        RealDisk.sync_many(&files[..1]).unwrap();
    }
}
