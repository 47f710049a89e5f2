//! A disk in memory that does, on a seed, all that [`crate::disk`] allows a disk to do: it forgets what was not
//! synced, keeps torn parts of it, fills up, flips bits and fails to sync.
//!
//! It is harsher than most file systems: writes reach the disk in any order, sector by sector, names that were not
//! synced may be gone, and after a failed sync the pages count as clean although they never got there (files that were
//! cut stay cut, and names wait for the next sync of their directory). Directories themselves are durable at once.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile, Open};

/// A simulated disk. Clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<World>>);

/// An open file of a simulated disk. A crash closes it.
#[derive(Debug)]
pub struct SimFile {
    world: Arc<Mutex<World>>,
    inode: usize,
    boot: u64,
}

#[derive(Debug)]
struct World {
    random: Random,
    boot: u64,
    inodes: Vec<Inode>,
    dirs: BTreeMap<PathBuf, Directory>,
    free_bytes: u64,
    read_bytes: u64,
    syncs_until_failure: Option<u32>,
}

#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    on_disk: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Debug)]
enum Change {
    Write { position: usize, bytes: Vec<u8> },
    Truncate(usize),
}

#[derive(Debug, Default)]
struct Directory {
    now: BTreeMap<String, usize>,
    on_disk: BTreeMap<String, usize>,
    pending: Vec<Naming>,
}

#[derive(Debug, Clone)]
enum Naming {
    Link(String, usize),
    Unlink(String),
    Rename(String, String),
}

impl SimDisk {
    /// An empty disk with room for `bytes`.
    pub fn new(seed: u64, bytes: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            random: Random(seed),
            boot: 0,
            inodes: Vec::new(),
            dirs: BTreeMap::new(),
            free_bytes: bytes,
            read_bytes: 0,
            syncs_until_failure: None,
        })))
    }

    /// Power fails and comes back: open files are closed, and of what was not synced some sectors and names are left.
    pub fn crash(&self) {
        let mut world = self.world();
        let World {
            random,
            inodes,
            dirs,
            boot,
            syncs_until_failure,
            ..
        } = &mut *world;
        *boot += 1;
        *syncs_until_failure = None;
        for inode in inodes {
            inode.crash(random);
        }
        for dir in dirs.values_mut() {
            let survivors = random.below(dir.pending.len() as u64 + 1) as usize;
            for naming in dir.pending.drain(..).take(survivors) {
                naming.apply(&mut dir.on_disk);
            }
            dir.now = dir.on_disk.clone();
        }
    }

    /// The process ends and starts again, the system goes on: open files are closed, nothing is lost.
    pub fn restart(&self) {
        let mut world = self.world();
        world.boot += 1;
        world.syncs_until_failure = None;
    }

    /// Sets the room that is left, in bytes.
    pub fn set_free_bytes(&self, bytes: u64) {
        self.world().free_bytes = bytes;
    }

    /// Bytes that were read from files since the last question.
    pub fn take_read_bytes(&self) -> u64 {
        std::mem::take(&mut self.world().read_bytes)
    }

    /// Lets the sync of a file or a directory after `syncs` more of them fail, once.
    pub fn fail_sync_after(&self, syncs: u32) {
        self.world().syncs_until_failure = Some(syncs);
    }

    /// Inverts one bit of a file, in memory and on the disk.
    ///
    /// # Errors
    /// There is no such file or byte.
    pub fn flip_bit(&self, path: &Path, position: u64, bit: u8) -> io::Result<()> {
        let mut world = self.world();
        let inode = world.inode(path)?;
        let inode = &mut world.inodes[inode];
        for image in [&mut inode.now, &mut inode.on_disk] {
            *image
                .get_mut(position as usize)
                .ok_or(io::ErrorKind::InvalidInput)? ^= 1 << (bit & 7);
        }
        Ok(())
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.0.lock().expect("no panic in the simulated disk")
    }

    fn file(&self, inode: usize, boot: u64) -> SimFile {
        SimFile {
            world: self.0.clone(),
            inode,
            boot,
        }
    }
}

impl Disk for SimDisk {
    type File = SimFile;

    fn open(&self, path: &Path, how: Open) -> io::Result<SimFile> {
        let mut world = self.world();
        let inode = match world.inode(path) {
            Err(_) if how == Open::Create => {
                if world.free_bytes == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                let inode = world.inodes.len();
                world.inodes.push(Inode::default());
                world.name(path, |name| Naming::Link(name, inode))?;
                inode
            }
            found => found?,
        };
        Ok(self.file(inode, world.boot))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        let world = self.world();
        Ok(world
            .dirs
            .get(dir)
            .ok_or(io::ErrorKind::NotFound)?
            .now
            .keys()
            .cloned()
            .collect())
    }

    fn create_dir(&self, dir: &Path) -> io::Result<bool> {
        let mut world = self.world();
        let is_new = !world.dirs.contains_key(dir);
        world.dirs.entry(dir.to_owned()).or_default();
        Ok(is_new)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut world = self.world();
        if let Some(dir) = world.dirs.remove(from) {
            world.dirs.insert(to.to_owned(), dir);
            return Ok(());
        }
        world.inode(from)?;
        let to = name_of(to)?;
        world.name(from, |name| Naming::Rename(name, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut world = self.world();
        world.inode(path)?;
        world.name(path, Naming::Unlink)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.world()
            .dirs
            .remove(dir)
            .map(|_| ())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut world = self.world();
        if world.next_sync_fails() {
            return Err(io::Error::other(SYNC_FAILURE));
        }
        if let Some(dir) = world.dirs.get_mut(dir) {
            for naming in dir.pending.drain(..) {
                naming.apply(&mut dir.on_disk);
            }
        }
        Ok(())
    }

    fn sync_many(&self, files: &[Arc<SimFile>]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync())
    }
}

impl SimFile {
    fn with<T>(&self, work: impl FnOnce(&mut World, usize) -> io::Result<T>) -> io::Result<T> {
        let mut world = self.world.lock().expect("no panic in the simulated disk");
        if world.boot != self.boot {
            return Err(io::Error::other("the machine was started anew"));
        }
        work(&mut world, self.inode)
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        self.with(|world, inode| {
            let left = world.inodes[inode]
                .now
                .get(position as usize..)
                .unwrap_or_default();
            let read = left.len().min(buffer.len());
            buffer[..read].copy_from_slice(&left[..read]);
            world.read_bytes += read as u64;
            Ok(read)
        })
    }

    fn read_at_nowait(&self, buffer: &mut [u8], position: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, position).map(Some)
    }

    fn write_at(&self, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        self.with(|world, inode| {
            let mut bytes = Vec::new();
            buffers.iter().for_each(|buffer| bytes.extend_from_slice(buffer));
            let len = world.inodes[inode].now.len();
            let position = position as usize;
            let growth = (position + bytes.len()).saturating_sub(len) as u64;
            if growth > world.free_bytes {
                let fits = bytes.len().saturating_sub((growth - world.free_bytes) as usize);
                if fits == 0 {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                bytes.truncate(fits);
            }
            world.free_bytes -= (position + bytes.len()).saturating_sub(len) as u64;
            let written = bytes.len();
            let change = Change::Write { position, bytes };
            change.apply(&mut world.inodes[inode].now, |_| true);
            world.inodes[inode].pending.push(change);
            Ok(written)
        })
    }

    fn sync(&self) -> io::Result<()> {
        self.with(|world, inode| {
            let fails = world.next_sync_fails();
            let inode = &mut world.inodes[inode];
            if fails {
                // Lengths are kept in the file system's journal: one that fails takes the file system with it.
                for change in inode
                    .pending
                    .drain(..)
                    .filter(|change| matches!(change, Change::Truncate(_)))
                {
                    change.apply(&mut inode.on_disk, |_| true);
                }
                return Err(io::Error::other(SYNC_FAILURE));
            }
            for change in inode.pending.drain(..) {
                change.apply(&mut inode.on_disk, |_| true);
            }
            Ok(())
        })
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.with(|world, inode| {
            let file = &mut world.inodes[inode];
            world.free_bytes += (file.now.len() as u64).saturating_sub(len);
            file.now.resize(len as usize, 0);
            file.pending.push(Change::Truncate(len as usize));
            Ok(())
        })
    }

    fn len(&self) -> io::Result<u64> {
        self.with(|world, inode| Ok(world.inodes[inode].now.len() as u64))
    }
}

impl World {
    /// Counts a sync; true for the one that has to fail.
    fn next_sync_fails(&mut self) -> bool {
        match self.syncs_until_failure {
            Some(0) => {
                self.syncs_until_failure = None;
                true
            }
            left => {
                self.syncs_until_failure = left.map(|left| left - 1);
                false
            }
        }
    }

    fn inode(&self, path: &Path) -> io::Result<usize> {
        let dir = self
            .dirs
            .get(path.parent().unwrap_or(Path::new("")))
            .ok_or(io::ErrorKind::NotFound)?;
        dir.now
            .get(&name_of(path)?)
            .copied()
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn name(&mut self, path: &Path, naming: impl FnOnce(String) -> Naming) -> io::Result<()> {
        let dir = self
            .dirs
            .get_mut(path.parent().unwrap_or(Path::new("")))
            .ok_or(io::ErrorKind::NotFound)?;
        let naming = naming(name_of(path)?);
        let gone = match &naming {
            Naming::Link(..) => None,
            Naming::Unlink(name) | Naming::Rename(_, name) => dir.now.get(name),
        };
        self.free_bytes += gone.map_or(0, |inode| self.inodes[*inode].now.len() as u64);
        naming.clone().apply(&mut dir.now);
        dir.pending.push(naming);
        Ok(())
    }
}

impl Inode {
    fn crash(&mut self, random: &mut Random) {
        if self.pending.is_empty() && self.now == self.on_disk {
            return;
        }
        // Mostly sectors of all ages are mixed; sometimes all or nothing got there.
        let kept_of_four = random.below(5);
        for change in self.pending.drain(..) {
            match change {
                Change::Truncate(_) if random.below(4) >= kept_of_four => {}
                change => change.apply(&mut self.on_disk, |_| random.below(4) < kept_of_four),
            }
        }
        self.now = self.on_disk.clone();
    }
}

impl Change {
    /// Applies the sectors of the change that `keeps` wants.
    fn apply(&self, image: &mut Vec<u8>, mut keeps: impl FnMut(usize) -> bool) {
        match self {
            Self::Truncate(len) => image.resize(*len, 0),
            Self::Write { position, bytes } => {
                let mut from = 0;
                while from < bytes.len() {
                    let at = position + from;
                    let until = (from + SECTOR_BYTES - at % SECTOR_BYTES).min(bytes.len());
                    if keeps(at / SECTOR_BYTES) {
                        if image.len() < position + until {
                            image.resize(position + until, 0);
                        }
                        image[at..position + until].copy_from_slice(&bytes[from..until]);
                    }
                    from = until;
                }
            }
        }
    }
}

impl Naming {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Link(name, inode) => {
                names.insert(name, inode);
            }
            Self::Unlink(name) => {
                names.remove(&name);
            }
            Self::Rename(from, to) => {
                if let Some(inode) = names.remove(&from) {
                    names.insert(to, inode);
                }
            }
        }
    }
}

/// Steele, Lea and Flood's SplitMix64: small, and the same everywhere.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next_u64().checked_rem(bound).unwrap_or(0)
    }
}

fn name_of(path: &Path) -> io::Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

/// Bytes that a disk writes wholly or not at all.
const SECTOR_BYTES: usize = 512;
const SYNC_FAILURE: &str = "simulated failure of a sync";
