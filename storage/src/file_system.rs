//! A file system that is synced as a whole.
//!
//! `syncfs` tells an open file of a failed write-back once, and only if the file was open when it failed. So each file
//! system is watched through one descriptor of its own, opened before the first file in it is written to, and what it
//! tells is remembered for all who ask later.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use rustix::fs::{Mode, OFlags};

use crate::disk::SyncOnce;

/// A file system that this process writes to.
#[derive(Debug)]
pub(crate) struct FileSystem {
    device: u64,
    directory: OwnedFd,
    synced: SyncOnce,
}

impl FileSystem {
    /// Watches the file system of `dir` from now on, if it is of a kind that tells whether `syncfs` succeeded.
    pub fn watch(dir: &Path) -> io::Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(dir, flags, Mode::empty())?;
        let device = rustix::fs::fstat(&directory)?.st_dev;
        let kind = rustix::fs::fstatfs(&directory)?.f_type as u64 & 0xffff_ffff;
        let mut watched = WATCHED.lock().expect("no panic while held");
        if KINDS.contains(&kind)
            && system_tells_failures()
            && watched.iter().all(|known| known.device != device)
        {
            watched.push(Arc::new(Self {
                device,
                directory,
                synced: SyncOnce::default(),
            }));
        }
        Ok(())
    }

    /// The file system of a device number; none if it is not watched, and its files must be synced one by one.
    pub fn of(device: u64) -> Option<Arc<Self>> {
        let watched = WATCHED.lock().expect("no panic while held");
        watched.iter().find(|known| known.device == device).cloned()
    }

    /// As `stat` numbers it.
    pub fn device(&self) -> u64 {
        self.device
    }

    /// Makes everything in it durable.
    pub fn sync(&self) -> io::Result<()> {
        self.synced.sync(|| rustix::fs::syncfs(&self.directory))
    }
}

/// Before Linux 5.8 `syncfs` kept failed write-backs to itself.
fn system_tells_failures() -> bool {
    static TELLS: OnceLock<bool> = OnceLock::new();
    *TELLS.get_or_init(|| {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        version(&release).is_some_and(|version| version >= (5, 8))
    })
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// One for each file system that logs lie on: a few.
static WATCHED: Mutex<Vec<Arc<FileSystem>>> = Mutex::new(Vec::new());
/// Magic numbers (`linux/magic.h`) of ext4, XFS, Btrfs, F2FS and tmpfs. Stacked and remote ones are not among them.
const KINDS: [u64; 5] = [0xef53, 0x5846_5342, 0x9123_683e, 0xf2f5_2010, 0x0102_1994];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_by_number() {
        assert_eq!(version("6.18.5-1-amd64\n"), Some((6, 18)));
        assert_eq!(version("5.10.0"), Some((5, 10)));
        assert_eq!(version(""), None);
    }

    #[test]
    fn a_file_system_is_watched_once() {
        let dir = tempfile::tempdir().unwrap();
        FileSystem::watch(dir.path()).unwrap();
        FileSystem::watch(dir.path()).unwrap();
        let watched = WATCHED.lock().unwrap();
        let mut devices: Vec<_> = watched.iter().map(|known| known.device).collect();
        devices.sort_unstable();
        devices.dedup();
        assert_eq!(devices.len(), watched.len());
    }
}
