//! The bytes of plugins, as files named by their SHA-256.
//!
//! The image says which names and versions there are; here are only the bytes they refer to. A file is made durable
//! before the image may name it, and its bytes are compared with its name whenever it is read.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The directory of components.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
}

/// Why the bytes of a plugin cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file is gone.
    #[error("the component {sha256} is not in {directory}: restore the file, or push the plugin again")]
    Missing {
        /// What was looked for.
        sha256: String,
        /// Where.
        directory: String,
    },
    /// The file does not hold what its name says.
    #[error(
        "{path} is damaged: its bytes do not have the SHA-256 that is its name; restore it, or push the plugin again"
    )]
    Damaged {
        /// The file.
        path: String,
    },
    /// The disk failed or is full.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Store {
    /// Opens the directory, making it where there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(|source| at(directory, source))?;
        let store = Self {
            directory: directory.to_owned(),
        };
        store.sync_directory()?;
        Ok(store)
    }

    /// Makes `component` durable under its hash.
    ///
    /// # Errors
    /// The disk fails or is full.
    pub fn write(&self, sha256: &str, component: &[u8]) -> Result<(), StoreError> {
        let path = self.path(sha256);
        if self.read(sha256).is_ok() {
            return Ok(());
        }
        let temporary = path.with_extension("new");
        let written = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            file.write_all(component)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        if let Err(source) = written() {
            let _ = fs::remove_file(&temporary);
            return Err(at(&path, source));
        }
        self.sync_directory()
    }

    /// The component with this hash.
    ///
    /// # Errors
    /// It is missing or damaged, or the disk fails.
    pub fn read(&self, sha256: &str) -> Result<Vec<u8>, StoreError> {
        let path = self.path(sha256);
        let bytes = fs::read(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => StoreError::Missing {
                sha256: sha256.to_owned(),
                directory: self.directory.display().to_string(),
            },
            _ => at(&path, source),
        })?;
        match hash(&bytes) == sha256 {
            true => Ok(bytes),
            false => Err(StoreError::Damaged {
                path: path.display().to_string(),
            }),
        }
    }

    /// Removes a component that no version refers to any more.
    ///
    /// # Errors
    /// The disk fails.
    pub fn remove(&self, sha256: &str) -> Result<(), StoreError> {
        let path = self.path(sha256);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => Err(at(&path, source)),
            _ => self.sync_directory(),
        }
    }

    /// Removes what a push left behind that came to no end: files that are not `wanted`.
    ///
    /// # Errors
    /// The disk fails.
    pub fn sweep(&self, wanted: impl Fn(&str) -> bool) -> Result<(), StoreError> {
        let entries = fs::read_dir(&self.directory).map_err(|source| at(&self.directory, source))?;
        for entry in entries {
            let path = entry.map_err(|source| at(&self.directory, source))?.path();
            let name = path
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            let is_left = name.ends_with(".new")
                || name
                    .strip_suffix(SUFFIX)
                    .is_some_and(|sha256| sha256.len() == HASH_DIGITS && !wanted(sha256));
            if is_left && path.is_file() {
                fs::remove_file(&path).map_err(|source| at(&path, source))?;
            }
        }
        Ok(())
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.directory.join(format!("{sha256}{SUFFIX}"))
    }

    fn sync_directory(&self) -> Result<(), StoreError> {
        File::open(&self.directory)
            .and_then(|directory| directory.sync_all())
            .map_err(|source| at(&self.directory, source))
    }
}

/// SHA-256 of `bytes` in hexadecimal.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn at(path: &Path, source: io::Error) -> StoreError {
    StoreError::Io {
        path: path.display().to_string(),
        source,
    }
}

const SUFFIX: &str = ".wasm";
const HASH_DIGITS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_comes_back_as_it_was_and_damage_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join("plugins")).unwrap();
        let sha256 = hash(b"component");
        assert!(matches!(store.read(&sha256), Err(StoreError::Missing { .. })));
        store.write(&sha256, b"component").unwrap();
        assert_eq!(store.read(&sha256).unwrap(), b"component");
        fs::write(store.path(&sha256), b"componenT").unwrap();
        assert!(matches!(store.read(&sha256), Err(StoreError::Damaged { .. })));
        store.write(&sha256, b"component").unwrap();
        assert_eq!(
            store.read(&sha256).unwrap(),
            b"component",
            "pushing again repairs it"
        );
        store.remove(&sha256).unwrap();
        store.remove(&sha256).unwrap();
        assert!(matches!(store.read(&sha256), Err(StoreError::Missing { .. })));
    }

    #[test]
    fn what_nothing_refers_to_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (kept, left) = (hash(b"kept"), hash(b"left"));
        store.write(&kept, b"kept").unwrap();
        store.write(&left, b"left").unwrap();
        fs::write(dir.path().join("torn.new"), b"t").unwrap();
        fs::write(dir.path().join("README"), b"someone's own").unwrap();
        store.sweep(|sha256| sha256 == kept).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [std::ffi::OsString::from(format!("{kept}.wasm")), "README".into()]
        );
    }
}
