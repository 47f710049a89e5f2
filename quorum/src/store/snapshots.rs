//! `quorum.snapshot`: the image, and which entry of the log it ends with.
//!
//! Two frames (see [`super::frame`]): openraft's description in JSON, and the image as it encodes itself. The file is
//! written aside, synced and renamed, so it is whole or it is damaged.

use std::path::{Path, PathBuf};

use millstream_core::cluster::Image;
use millstream_storage::disk::{Disk, read_file};

use super::frame;
use crate::error::StoreError;
use crate::message::to_json;
use crate::types::{LogId, SnapshotMeta};

/// The file.
#[derive(Debug)]
pub struct Snapshots<D> {
    disk: D,
    path: PathBuf,
    last: Option<LogId>,
}

/// What the file held when it was opened.
#[derive(Debug)]
pub struct Latest {
    /// openraft's description.
    pub meta: SnapshotMeta,
    /// The image.
    pub image: Image,
}

impl<D: Disk> Snapshots<D> {
    /// Looks for a snapshot in `directory`.
    pub fn open(disk: D, directory: &Path) -> Result<(Self, Option<Latest>), StoreError> {
        let mut snapshots = Self {
            disk,
            path: directory.join(SNAPSHOT),
            last: None,
        };
        let Some((meta, bytes)) = snapshots.read()? else {
            return Ok((snapshots, None));
        };
        let image = Image::decode(&bytes).map_err(|error| {
            let reason = format!("the image is whole, but this version cannot read it: {error}");
            StoreError::damaged(&snapshots.path, 0, reason)
        })?;
        snapshots.last = meta.last_log_id;
        Ok((snapshots, Some(Latest { meta, image })))
    }

    /// The snapshot and its encoded image.
    pub fn read(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, StoreError> {
        let path = &self.path;
        let bytes = read_file(&self.disk, path).map_err(|source| StoreError::io(path, source))?;
        let Some(bytes) = bytes else {
            return Ok(None);
        };
        let (frames, end) = frame::split(&bytes)
            .map_err(|damage| StoreError::damaged(path, damage.position, damage.reason))?;
        match frames[..] {
            [meta, image] if meta.kind == META && image.kind == IMAGE && end == bytes.len() => {
                let parsed = serde_json::from_slice(meta.body);
                let meta = parsed.map_err(|error| StoreError::damaged(path, 0, error.to_string()))?;
                Ok(Some((meta, image.body.to_vec())))
            }
            _ => Err(StoreError::damaged(path, end as u64, "it is not whole")),
        }
    }

    /// Replaces the snapshot, durably. Tells false, and does nothing, if the one that is there holds more: a snapshot
    /// that was taken before the leader sent a newer one is written after it.
    pub fn write(&mut self, meta: &SnapshotMeta, image: &[u8]) -> Result<bool, StoreError> {
        if meta.last_log_id < self.last {
            return Ok(false);
        }
        let bytes = frame::seal(&[(META, &to_json(meta)), (IMAGE, image)]);
        super::replace(&self.disk, &self.path, &bytes)?;
        self.last = meta.last_log_id;
        Ok(true)
    }
}

/// The file's name.
pub const SNAPSHOT: &str = "quorum.snapshot";
const META: u8 = b'M';
const IMAGE: u8 = b'I';
