//! openraft's own tests of a store.

use std::path::{Path, PathBuf};

use millstream_storage::disk::{Disk, RealDisk};
use millstream_storage::sim_disk::SimDisk;
use openraft::testing::{StoreBuilder, Suite};
use tempfile::TempDir;

use crate::store::log::LogStore;
use crate::store::machine::StateMachine;
use crate::store::room::Room;
use crate::store::worker::Worker;
use crate::store::{self};
use crate::types::{StorageError, Types};

struct Simulated;
struct Real;

fn build<D: Disk>(disk: &D, directory: &Path, is_inline: bool) -> (LogStore<D>, StateMachine<D>) {
    let (wal, contents, snapshots, latest) = store::open_files(disk, directory, 0).unwrap();
    let (wal, snapshots) = if is_inline {
        (Worker::inline(wal), Worker::inline(snapshots))
    } else {
        let wal = Worker::thread("quorum-log", wal).unwrap();
        (wal, Worker::thread("quorum-snapshot", snapshots).unwrap())
    };
    let machine = StateMachine::new(
        0,
        snapshots,
        Room::default(),
        latest,
        std::sync::Arc::new(|_, _| {}),
    );
    // The suite purges without taking snapshots, so the log does not wait for any.
    (LogStore::new(wal, Room::default(), contents, None), machine)
}

impl StoreBuilder<Types, LogStore<SimDisk>, StateMachine<SimDisk>> for Simulated {
    async fn build(&self) -> Result<((), LogStore<SimDisk>, StateMachine<SimDisk>), StorageError> {
        let (log, machine) = build(&SimDisk::new(1, 1 << 30), &PathBuf::from("quorum"), true);
        Ok(((), log, machine))
    }
}

impl StoreBuilder<Types, LogStore<RealDisk>, StateMachine<RealDisk>, TempDir> for Real {
    async fn build(&self) -> Result<(TempDir, LogStore<RealDisk>, StateMachine<RealDisk>), StorageError> {
        let directory = tempfile::tempdir().unwrap();
        let (log, machine) = build(&RealDisk, &directory.path().join("quorum"), false);
        Ok((directory, log, machine))
    }
}

#[test]
fn the_store_on_a_simulated_disk_does_what_openraft_wants() {
    Suite::test_all(Simulated).unwrap();
}

#[test]
fn the_store_on_a_real_disk_does_what_openraft_wants() {
    Suite::test_all(Real).unwrap();
}
