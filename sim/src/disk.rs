//! The disk of one life of a node: after a crash, what is left of the process reaches it no more.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_storage::disk::{Disk, Open};
use millstream_storage::sim_disk::{SimDisk, SimFile};

/// A simulated disk, as long as the process lives that has it open.
#[derive(Debug, Clone)]
pub struct LifeDisk {
    disk: SimDisk,
    lives: Arc<AtomicBool>,
}

impl LifeDisk {
    pub fn new(disk: SimDisk) -> Self {
        let lives = Arc::new(AtomicBool::new(true));
        Self { disk, lives }
    }

    /// The process is gone.
    pub fn end(&self) {
        self.lives.store(false, Ordering::Relaxed);
    }

    fn alive(&self) -> io::Result<&SimDisk> {
        match self.lives.load(Ordering::Relaxed) {
            true => Ok(&self.disk),
            false => Err(io::Error::other("the process is gone")),
        }
    }
}

impl Disk for LifeDisk {
    type File = SimFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        self.alive()?.open(path, how)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.alive()?.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        self.alive()?.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.alive()?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.alive()?.remove(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.alive()?.remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.alive()?.sync_dir(dir)
    }

    fn sync_many(&self, files: &[Arc<SimFile>]) -> io::Result<()> {
        self.alive()?.sync_many(files)
    }
}
