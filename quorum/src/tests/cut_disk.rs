//! A simulated disk whose power fails in the middle of a chosen operation, or that is full from a chosen write on.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use millstream_storage::disk::{Disk, DiskFile, Open};
use millstream_storage::sim_disk::{SimDisk, SimFile};

/// Counts what changes the disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct CutDisk {
    disk: SimDisk,
    left: Arc<AtomicI64>,
    room: Arc<Room>,
}

/// What there is room for.
#[derive(Debug)]
struct Room {
    writes: AtomicI64,
    syncs: AtomicI64,
}

#[derive(Debug)]
pub struct CutFile {
    file: SimFile,
    left: Arc<AtomicI64>,
    room: Arc<Room>,
}

impl CutDisk {
    pub fn new(seed: u64) -> Self {
        Self {
            disk: SimDisk::new(seed, 1 << 30),
            left: Arc::new(AtomicI64::new(i64::MAX)),
            room: Arc::new(Room {
                writes: AtomicI64::new(i64::MAX),
                syncs: AtomicI64::new(i64::MAX),
            }),
        }
    }

    /// Lets some of the write after `writes` more be the last for which there is room.
    pub fn fill_after(&self, writes: i64) {
        self.room.writes.store(writes, Ordering::Relaxed);
    }

    /// Whether something was not written for want of room.
    pub fn is_full(&self) -> bool {
        self.room.writes.load(Ordering::Relaxed) < 0
    }

    /// There is room again.
    pub fn make_room(&self) {
        self.fill_after(i64::MAX);
    }

    /// Lets syncs after `syncs` more find that there was no room for what was written.
    pub fn find_full_after(&self, syncs: i64) {
        self.room.syncs.store(syncs, Ordering::Relaxed);
    }

    /// Lets the power fail in the operation after `operations` more.
    pub fn cut_after(&self, operations: i64) {
        self.left.store(operations, Ordering::Relaxed);
    }

    /// Whether the power has failed.
    pub fn is_cut(&self) -> bool {
        self.left.load(Ordering::Relaxed) < 0
    }

    /// Power comes back.
    pub fn power_on(&self) {
        self.disk.crash();
        self.left.store(i64::MAX, Ordering::Relaxed);
    }
}

/// Does the operation; its end is never heard of if the power failed in it, and later ones are not even begun.
fn attempt<T>(left: &AtomicI64, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let off = || io::Error::other("the power is off");
    let before = left.fetch_sub(1, Ordering::Relaxed);
    if before < 0 {
        return Err(off());
    }
    let done = work();
    if before == 0 { Err(off()) } else { done }
}

impl Room {
    fn sync(&self) -> io::Result<()> {
        match self.syncs.fetch_sub(1, Ordering::Relaxed) {
            ..=0 => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(()),
        }
    }
}

impl Disk for CutDisk {
    type File = CutFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<CutFile> {
        let open = || self.disk.open(path, how);
        let file = match how {
            Open::Create => attempt(&self.left, open)?,
            _ => open()?,
        };
        Ok(CutFile {
            file,
            left: self.left.clone(),
            room: self.room.clone(),
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        attempt(&self.left, || self.disk.create_dir(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        attempt(&self.left, || self.disk.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        attempt(&self.left, || self.disk.remove(path))
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        attempt(&self.left, || self.disk.remove_dir(dir))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.room.sync()?;
        attempt(&self.left, || self.disk.sync_dir(dir))
    }

    fn sync_many(&self, files: &[Arc<CutFile>]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync())
    }
}

impl DiskFile for CutFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.file.read_at(buffer, position)
    }

    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.file.read_at_nowait(buffer, position)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        match self.room.writes.fetch_sub(1, Ordering::Relaxed) {
            ..0 => return Err(io::ErrorKind::StorageFull.into()),
            0 => {
                let bytes: Vec<u8> = buffers.iter().flat_map(|buffer| buffer.to_vec()).collect();
                // Some of it, and now and then none.
                let fits = bytes.len() * (position as usize % 4) / 4;
                if fits == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let some = [IoSlice::new(&bytes[..fits])];
                return attempt(&self.left, || self.file.write_at(&some, position));
            }
            _ => {}
        }
        attempt(&self.left, || self.file.write_at(buffers, position))
    }

    fn sync(&self) -> io::Result<()> {
        self.room.sync()?;
        attempt(&self.left, || self.file.sync())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        attempt(&self.left, || self.file.truncate(len))
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
}
