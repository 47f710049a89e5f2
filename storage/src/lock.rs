//! One broker for each data directory.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::Path;

use rustix::fs::FlockOperation;

/// Holds a data directory; given back when dropped or when the process ends, however it ends.
#[derive(Debug)]
pub struct DirLock {
    _file: File,
}

impl DirLock {
    /// Takes the lock of `dir`, which must exist, and makes its name durable: who made it may have been killed before
    /// that, and all that is written into it would be lost with it.
    ///
    /// # Errors
    /// `WouldBlock` when another process holds it; else as the system says.
    pub fn acquire(dir: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(dir.join(LOCK))?;
        rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
        match File::open(dir.canonicalize()?.parent().unwrap_or(dir)) {
            Ok(parent) => parent.sync_all()?,
            // Not ours to read, so it is not we who made the name.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
        Ok(Self { _file: file })
    }
}

const LOCK: &str = ".lock";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_broker_is_refused_until_the_first_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let first = DirLock::acquire(dir.path()).unwrap();
        assert_eq!(
            DirLock::acquire(dir.path()).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        drop(first);
        DirLock::acquire(dir.path()).unwrap();
    }
}
