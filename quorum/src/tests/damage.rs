//! Files that do not hold what was written are errors, and stay as they are.

use std::path::{Path, PathBuf};

use millstream_storage::disk::{Disk, read_file, replace_file};
use millstream_storage::sim_disk::SimDisk;

use crate::error::StoreError;
use crate::store::snapshots::{SNAPSHOT, Snapshots};
use crate::store::wal::{Contents, LOG, Record, Wal};
use crate::types::{SnapshotMeta, Vote};

fn directory() -> PathBuf {
    PathBuf::from("quorum")
}

fn open(disk: &SimDisk, me: u64) -> Result<Contents, StoreError> {
    let (_, latest) = Snapshots::open(disk.clone(), &directory())?;
    let covered = latest.and_then(|latest| latest.meta.last_log_id);
    Wal::open(disk.clone(), &directory(), me, covered).map(|(_, contents)| contents)
}

/// A disk with three votes, and where each of them ends.
fn voted() -> (SimDisk, Vec<u64>) {
    let disk = SimDisk::new(1, 1 << 20);
    disk.create_dir(&directory()).unwrap();
    let (mut wal, _) = Wal::open(disk.clone(), &directory(), 1, None).unwrap();
    let len = || read_file(&disk, &directory().join(LOG)).unwrap().unwrap().len() as u64;
    let mut ends = vec![len()];
    for term in 1..4 {
        wal.append(&[Record::vote(&Vote::new(term, 1))]).unwrap();
        ends.push(len());
    }
    (disk, ends)
}

#[test]
fn a_damaged_log_is_an_error_and_stays_as_it_is() {
    let (_, ends) = voted();
    for position in 0..ends[2] {
        let (disk, _) = voted();
        let path = directory().join(LOG);
        disk.flip_bit(&path, position, 3).unwrap();
        let before = read_file(&disk, &path).unwrap();
        let error = open(&disk, 1).unwrap_err();
        assert!(
            matches!(error, StoreError::Damaged { .. }),
            "at {position}: {error}"
        );
        assert_eq!(read_file(&disk, &path).unwrap(), before);
    }
}

#[test]
fn a_start_seals_what_it_has_read() {
    let (disk, _) = voted();
    assert_eq!(open(&disk, 1).unwrap().vote, Some(Vote::new(3, 1)));
    let path = directory().join(LOG);
    let len = read_file(&disk, &path).unwrap().unwrap().len() as u64;
    // Even the last record is known to have been durable now.
    disk.flip_bit(&path, len - 1, 0).unwrap();
    open(&disk, 1).unwrap_err();
}

#[test]
fn what_a_full_disk_took_by_half_is_not_taken_for_what_is_written_later() {
    // As long as the ones that are written instead, so that they would lie right behind these.
    let votes: Vec<_> = (1..=9).map(|term| Record::vote(&Vote::new(term, 1))).collect();
    let (disk, ends) = voted();
    let one = ends[2] - ends[1];
    let (mut wal, _) = Wal::open(disk.clone(), &directory(), 1, None).unwrap();
    for room in 0..4 * one {
        disk.set_free_bytes(room);
        let error = wal.append(&votes[5..9]).unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        disk.set_free_bytes(1 << 20);
        wal.append(&votes[3..4]).unwrap();
        let bytes = read_file(&disk, &directory().join(LOG)).unwrap().unwrap();
        // The process ends here, and what it wrote is all there.
        let copy = SimDisk::new(1, 1 << 20);
        copy.create_dir(&directory()).unwrap();
        replace_file(&copy, &directory().join(LOG), &bytes).unwrap();
        assert_eq!(
            open(&copy, 1).unwrap().vote,
            Some(Vote::new(4, 1)),
            "room for {room}"
        );
    }
}

#[test]
fn another_nodes_log_is_refused() {
    let (disk, _) = voted();
    let error = open(&disk, 2).unwrap_err();
    assert!(
        matches!(error, StoreError::OtherNode { found: 1, me: 2, .. }),
        "{error}"
    );
}

#[test]
fn a_node_that_lost_its_vote_does_not_start() {
    let (disk, _) = voted();
    let (mut snapshots, _) = Snapshots::open(disk.clone(), &directory()).unwrap();
    let meta = SnapshotMeta {
        last_log_id: Some(openraft::LogId::new(openraft::CommittedLeaderId::new(1, 1), 4)),
        ..SnapshotMeta::default()
    };
    let image = millstream_core::cluster::Image::default().encode();
    assert!(snapshots.write(&meta, &image).unwrap());
    open(&disk, 1).unwrap();
    let older = SnapshotMeta::default();
    assert!(!snapshots.write(&older, &image).unwrap(), "the newer one stays");
    disk.remove(&directory().join(LOG)).unwrap();
    let error = open(&disk, 1).unwrap_err();
    assert!(error.to_string().contains("this node has voted"), "{error}");
}

#[test]
fn a_damaged_snapshot_is_an_error() {
    let disk = SimDisk::new(1, 1 << 20);
    disk.create_dir(Path::new("quorum")).unwrap();
    let (mut snapshots, _) = Snapshots::open(disk.clone(), &directory()).unwrap();
    let image = millstream_core::cluster::Image::default().encode();
    snapshots.write(&SnapshotMeta::default(), &image).unwrap();
    let path = directory().join(SNAPSHOT);
    let len = read_file(&disk, &path).unwrap().unwrap().len() as u64;
    for position in 0..len {
        disk.flip_bit(&path, position, 5).unwrap();
        Snapshots::open(disk.clone(), &directory()).unwrap_err();
        disk.flip_bit(&path, position, 5).unwrap();
    }
    Snapshots::open(disk, &directory()).unwrap();
}
