//! What a node of the quorum keeps: its vote and its log in `quorum.log`, its image in `quorum.snapshot`.
//!
//! The log is always wholly in memory too: it is bounded by the snapshots that replace it. Files are written by a
//! [`worker::Worker`] each, so a large snapshot does not hold a vote up.

use std::path::Path;
use std::sync::Arc;

use millstream_core::cluster::Image;
use millstream_storage::disk::{Disk, place_file};

use crate::config::QuorumConfig;
use crate::error::StoreError;

mod frame;
pub mod log;
pub mod machine;
pub mod room;
pub mod snapshots;
pub mod wal;
pub mod worker;

use log::LogStore;
use machine::StateMachine;
use room::Room;
use snapshots::Snapshots;
use wal::Wal;
use worker::Worker;

/// Called with every new image, and the index of the last log entry in it.
pub type OnImage = Arc<dyn Fn(Arc<Image>, u64) + Send + Sync>;

/// Opens the files in a node's directory, making them where there are none.
///
/// # Errors
/// They cannot be read or written, or are damaged.
pub async fn open<D: Disk>(
    config: &QuorumConfig,
    disk: D,
    on_image: OnImage,
    room: &Room,
) -> Result<(LogStore<D>, StateMachine<D>), StoreError> {
    let directory = &config.directory;
    let failed = |source| StoreError::io(directory, source);
    let (me, path) = (config.me, directory.clone());
    let work = move || open_files(&disk, &path, me);
    let (wal, contents, snapshots, latest) = if config.inline_disk {
        work()?
    } else {
        let opened = tokio::task::spawn_blocking(work).await;
        opened.map_err(|error| failed(std::io::Error::other(error)))??
    };
    let (wal, snapshots) = if config.inline_disk {
        (Worker::inline(wal), Worker::inline(snapshots))
    } else {
        (
            Worker::thread("quorum-log", wal).map_err(failed)?,
            Worker::thread("quorum-snapshot", snapshots).map_err(failed)?,
        )
    };
    let machine = StateMachine::new(me, snapshots, room.clone(), latest, on_image);
    let log = LogStore::new(wal, room.clone(), contents, Some(machine.watch_durable()));
    Ok((log, machine))
}

pub(crate) type Files<D> = (Wal<D>, wal::Contents, Snapshots<D>, Option<snapshots::Latest>);

pub(crate) fn open_files<D: Disk>(disk: &D, directory: &Path, me: u64) -> Result<Files<D>, StoreError> {
    let failed = |source| StoreError::io(directory, source);
    if disk.create_dir(directory).map_err(failed)?
        && let Some(parent) = directory.parent()
    {
        disk.sync_dir(parent).map_err(failed)?;
    }
    let (snapshots, latest) = Snapshots::open(disk.clone(), directory)?;
    let covered = latest.as_ref().and_then(|latest| latest.meta.last_log_id);
    let (wal, contents) = Wal::open(disk.clone(), directory, me, covered)?;
    Ok((wal, contents, snapshots, latest))
}

/// Replaces a file, durably. Where the last step fails it is not known which content a crash leaves.
fn replace<D: Disk>(disk: &D, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    place_file(disk, path, bytes).map_err(|source| StoreError::io(path, source))?;
    let synced = disk.sync_dir(path.parent().unwrap_or(Path::new(".")));
    synced.map_err(|source| StoreError::unsure(path, source))
}
