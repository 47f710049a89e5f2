//! Compiled plugins on disk, by the hash of the component and the engine's version.
//!
//! Compiled code runs without any check, so loading it is as dangerous as loading a shared library. Why nobody can feed this cache:
//!
//! - Only [`Cache::store`] writes into it, and only what our own compiler made of a component. What is pushed is always a
//!   component, never compiled code.
//! - A file begins with an HMAC-SHA-256 (RFC 2104) over the component's hash, the engine's version, and the compiled code, by
//!   a random key that only the owner of the folder may read. A file from elsewhere, of another component, a torn one or one with
//!   a flipped bit is not loaded but compiled and written anew.
//! - Names of files are hashes, so nothing that a user wrote is part of a path.
//!
//! Whoever can read the key is the broker's own user, who could replace the broker itself. A cache that cannot be written
//! is no error; compiling again costs time only.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

/// A folder of compiled plugins.
pub(crate) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
    compatibility: u64,
}

impl Cache {
    /// Opens the folder, and makes it and its key if they are missing.
    pub fn open(folder: &Path, compatibility: u64) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        Ok(Self {
            key: read_or_make_key(folder)?,
            folder: folder.to_owned(),
            compatibility,
        })
    }

    /// What was compiled of a component, if it is there and ours.
    pub fn load(&self, engine: &Engine, sha256: &[u8; 32]) -> Option<Component> {
        let mut bytes = Vec::new();
        let file = File::open(self.path(sha256)).ok()?;
        let length = file.metadata().ok()?.len();
        if length > FILE_BYTES_MAX {
            return None;
        }
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (mac, code) = bytes.split_at_checked(MAC_BYTES)?;
        if !same(mac, &self.mac(sha256, code)) {
            return None;
        }
        // SAFETY: the code authenticates as what `store` serialised from a component that this engine's version and settings
        // compiled; see the top of this file.
        unsafe { Component::deserialize(engine, code) }.ok()
    }

    /// Keeps what was compiled. Fails silently: the next start compiles again.
    pub fn store(&self, compiled: &Component, sha256: &[u8; 32]) {
        let Ok(code) = compiled.serialize() else { return };
        let bytes = (code.len() + MAC_BYTES) as u64;
        if bytes > FILE_BYTES_MAX {
            return;
        }
        self.make_room(bytes);
        let temporary = temporary(&self.folder);
        let written = write_new(&temporary, &[&self.mac(sha256, &code), &code])
            .and_then(|()| fs::rename(&temporary, self.path(sha256)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }

    /// Removes the oldest files until another one keeps within the bounds.
    fn make_room(&self, bytes: u64) {
        let Ok(entries) = fs::read_dir(&self.folder) else {
            return;
        };
        let mut files: Vec<_> = entries
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let metadata = entry.metadata().ok()?;
                let ours = entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == EXTENSION);
                ours.then_some((metadata.modified().ok()?, entry.path(), metadata.len()))
            })
            .collect();
        files.sort();
        let mut count = files.len();
        let mut total: u64 = files.iter().map(|(_, _, length)| length).sum();
        for (_, path, length) in files {
            if count < FILES_MAX && total + bytes <= FOLDER_BYTES_MAX {
                break;
            }
            let _ = fs::remove_file(path);
            count -= 1;
            total -= length;
        }
    }

    fn path(&self, sha256: &[u8; 32]) -> PathBuf {
        let hash: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder
            .join(format!("{hash}-{:016x}.{EXTENSION}", self.compatibility))
    }

    /// HMAC-SHA-256; the fields before the code have fixed lengths, so no two inputs run together.
    fn mac(&self, sha256: &[u8; 32], code: &[u8]) -> [u8; MAC_BYTES] {
        let pad = |with: u8| {
            let mut block = [with; BLOCK_BYTES];
            block
                .iter_mut()
                .zip(self.key)
                .for_each(|(byte, key)| *byte ^= key);
            block
        };
        let inner = Sha256::new()
            .chain_update(pad(0x36))
            .chain_update(b"millstream compiled plugin 1")
            .chain_update(self.compatibility.to_le_bytes())
            .chain_update(sha256)
            .chain_update(code)
            .finalize();
        Sha256::new()
            .chain_update(pad(0x5c))
            .chain_update(inner)
            .finalize()
            .into()
    }
}

/// Compares without telling by the time where the difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

/// Two processes may do this at once; linking lets one of them win, and both read the same key.
fn read_or_make_key(folder: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let path = folder.join("key");
    for _ in 0..2 {
        match fs::read(&path) {
            Ok(bytes) => match bytes.try_into() {
                Ok(key) => return Ok(key),
                Err(_) => fs::remove_file(&path)?,
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let mut key = [0; KEY_BYTES];
        getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
        let temporary = temporary(folder);
        write_new(&temporary, &[&key])?;
        let linked = fs::hard_link(&temporary, &path);
        fs::remove_file(&temporary)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    fs::read(&path)?
        .try_into()
        .map_err(|_| io::Error::other("the key has a wrong length"))
}

/// Writes a file that was not there and that only its owner may read.
fn write_new(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    parts.iter().try_for_each(|part| file.write_all(part))
}

fn temporary(folder: &Path) -> PathBuf {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{}-{number}.temporary", std::process::id()))
}

const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
/// Of SHA-256.
const BLOCK_BYTES: usize = 64;
const EXTENSION: &str = "compiled";
/// Largest file that is written or read. Python with its library is about 100 MiB.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Most files, and most bytes of all of them.
const FILES_MAX: usize = 256;
const FOLDER_BYTES_MAX: u64 = 4 << 30;
