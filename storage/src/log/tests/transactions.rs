//! Transactions in one log: what is open, what is stable, what was aborted; whatever becomes of the log meanwhile.

use bytes::Bytes;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::{BatchBuilder, BatchView, EndTransaction};

use super::{NOW, config, dir, disk, open};
use crate::disk::{Disk, DiskFile, read_file, replace_file};
use crate::error::AppendError;
use crate::log::{AbortedTransaction, Appended, EndMarker, Log, LogConfig};
use crate::producer::ProducerState;
use crate::sim_disk::{Random, SimDisk};

mod spread;

#[test]
fn a_transaction_is_open_from_its_first_batch_to_its_marker() {
    let mut log = open(&disk()).0;
    plain(&mut log, 3);
    assert!(!log.open_transaction(7, 0));
    put(&mut log, 7, 0, 0).unwrap();
    put(&mut log, 7, 0, 1).unwrap();
    assert!(log.open_transaction(7, 0));
    assert!(!log.open_transaction(7, 1) && !log.open_transaction(8, 0));
    assert_eq!(stable(&mut log, 5), 3);
    let ended = end(&mut log, 7, 0, true).unwrap();
    assert_eq!((ended.base_offset, ended.last_offset), (Offset(5), Offset(5)));
    assert!(!log.open_transaction(7, 0));
    assert_eq!(stable(&mut log, 5), 3, "its marker may yet be taken back");
    assert_eq!(stable(&mut log, 6), 6);
    assert_eq!(aborted(&log, 0, 6), []);
    put(&mut log, 7, 0, 2).unwrap();
    assert_eq!(
        stable(&mut log, 7),
        6,
        "sequence numbers go on, and the next one is open"
    );
    log.verify().unwrap();
}

#[test]
fn a_marker_is_kafkas_control_batch() {
    let append_time = LogConfig {
        log_append_time: true,
        ..config()
    };
    for config in [config(), append_time] {
        let mut log = Log::open(disk(), dir(), config, NOW).unwrap().0;
        put(&mut log, 7, 2, 0).unwrap();
        log.append_marker(marker(7, 3, false, 11), LeaderEpoch(4), NOW + 5)
            .unwrap();
        let bytes = read(&log, 1);
        let batch = BatchView::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        let header = batch.header();
        assert!(header.attributes.is_control() && header.attributes.is_transactional());
        assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence),
            (7, 3, -1)
        );
        assert_eq!(
            (header.partition_leader_epoch, header.max_timestamp),
            (4, NOW + 5)
        );
        let expected = EndTransaction {
            is_commit: false,
            coordinator_epoch: 11,
        };
        assert_eq!(EndTransaction::of(header, batch.payload()), Some(expected));
    }
}

#[test]
fn what_a_producer_writes_meanwhile_is_part_of_its_transaction() {
    let mut log = open(&disk()).0;
    log.append_as_leader(&batch(7, 0, 0, false), LeaderEpoch(0), NOW)
        .unwrap();
    put(&mut log, 7, 0, 1).expect("who wrote without a transaction may begin one");
    let outside = batch(7, 0, 2, false);
    assert!(matches!(
        log.append_as_leader(&outside, LeaderEpoch(0), NOW),
        Err(AppendError::InvalidTransactionState { producer_id: 7 })
    ));
    assert!(matches!(
        log.check_sequence(&outside),
        Err(AppendError::InvalidTransactionState { .. })
    ));
    assert!(
        put(&mut log, 7, 0, 1).unwrap().is_duplicate,
        "sent again is not new"
    );
    end(&mut log, 7, 0, true).unwrap();
    log.append_as_leader(&outside, LeaderEpoch(0), NOW).unwrap();
}

#[test]
fn what_a_broker_writes_for_a_producer_without_numbers_is_part_of_its_transaction_too() {
    let mut log = open(&disk()).0;
    plain(&mut log, 1);
    put(&mut log, 7, 0, -1).unwrap();
    put(&mut log, 7, 0, -1).unwrap();
    assert!(log.open_transaction(7, 0));
    assert_eq!((stable(&mut log, 3), log.open_transactions()), (1, 1));
    assert!(!log.may_have_aborted(Offset(0)));
    end(&mut log, 7, 0, false).unwrap();
    assert_eq!((stable(&mut log, 4), log.open_transactions()), (4, 0));
    assert_eq!(aborted(&log, 0, 4), [(7, 1)]);
    assert!(log.may_have_aborted(Offset(3)) && !log.may_have_aborted(Offset(4)));
}

#[test]
fn replaced_producers_and_coordinators_are_fenced() {
    let mut log = open(&disk()).0;
    put(&mut log, 7, 1, 0).unwrap();
    let mut mark =
        |epoch, coordinator| log.append_marker(marker(7, epoch, true, coordinator), LeaderEpoch(0), NOW);
    assert!(matches!(
        mark(0, 5),
        Err(AppendError::InvalidProducerEpoch { current: 1, .. })
    ));
    mark(1, 5).unwrap();
    assert!(matches!(
        mark(1, 4),
        Err(AppendError::TransactionCoordinatorFenced {
            epoch: 4,
            current: 5,
            ..
        })
    ));
    mark(1, 5).expect("a coordinator may say it twice");
    mark(2, 6).unwrap();
    // The marker's epoch is the producer's now, and its numbers count anew.
    assert!(matches!(
        put(&mut log, 7, 1, 1),
        Err(AppendError::InvalidProducerEpoch { current: 2, .. })
    ));
    assert!(matches!(
        put(&mut log, 7, 2, 1),
        Err(AppendError::OutOfOrderSequence { expected: 0, .. })
    ));
    put(&mut log, 7, 2, 0).unwrap();
    assert_eq!(
        log.producers(),
        [ProducerState {
            id: 7,
            epoch: 2,
            last_sequence: 0,
            last_timestamp_ms: NOW,
            coordinator_epoch: 6,
            transaction_start: Some(Offset(4)),
        }]
    );
}

#[test]
fn a_marker_that_comes_again_does_not_end_the_next_transaction() {
    let mut log = open(&disk()).0;
    let of_one_epoch_each = |epoch| EndMarker {
        bumps_epoch: true,
        ..marker(7, epoch, true, 1)
    };
    put(&mut log, 7, 0, 0).unwrap();
    let mark =
        |log: &mut Log<SimDisk>, epoch| log.append_marker(of_one_epoch_each(epoch), LeaderEpoch(0), NOW);
    mark(&mut log, 1).unwrap();
    mark(&mut log, 1).expect("nothing is open: it ends nothing");
    put(&mut log, 7, 1, 0).unwrap();
    assert!(matches!(
        mark(&mut log, 1),
        Err(AppendError::InvalidProducerEpoch { current: 1, .. })
    ));
    assert!(log.open_transaction(7, 1));
    mark(&mut log, 2).unwrap();
    assert!(!log.open_transaction(7, 1));
}

#[test]
fn aborted_transactions_are_told_to_those_who_read_within_them() {
    let mut log = open(&disk()).0;
    put(&mut log, 1, 0, 0).unwrap(); // 0
    put(&mut log, 2, 0, 0).unwrap(); // 1
    plain(&mut log, 1); // 2
    put(&mut log, 3, 0, 0).unwrap(); // 3
    end(&mut log, 2, 0, false).unwrap(); // 4
    put(&mut log, 2, 0, 1).unwrap(); // 5
    end(&mut log, 3, 0, true).unwrap(); // 6
    end(&mut log, 1, 0, false).unwrap(); // 7
    assert_eq!(stable(&mut log, 8), 5);
    end(&mut log, 2, 0, false).unwrap(); // 8
    plain(&mut log, 1); // 9
    assert_eq!(aborted(&log, 0, 10), [(2, 1), (1, 0), (2, 5)]);
    assert_eq!(aborted(&log, 0, 1), [(1, 0)]);
    assert_eq!(aborted(&log, 2, 4), [(2, 1), (1, 0)]);
    assert_eq!(aborted(&log, 5, 5), [(1, 0)]);
    assert_eq!(aborted(&log, 5, 6), [(1, 0), (2, 5)]);
    assert_eq!(aborted(&log, 8, 9), [(2, 5)]);
    assert_eq!(aborted(&log, 9, 10), []);
}

#[test]
fn interleaved_transactions_survive_whatever_happens() {
    let disk = disk();
    let mut log = open(&disk).0;
    let expected = interleave(&mut log, 60);
    assert!(log.segment_count() > 4);
    expected.check(&mut log);
    log.sync().unwrap();
    disk.crash();
    expected.check(&mut open(&disk).0);
    let mut log = open(&disk).0;
    log.close().unwrap();
    disk.crash();
    let (mut log, recovery) = open(&disk);
    assert_eq!(recovery.rebuilt_indexes, 0);
    expected.check(&mut log);
    // A follower finds out the same from the batches.
    let mut follower = open(&super::disk()).0;
    for offset in 0..log.log_end_offset().0 {
        follower.append_as_follower(&read(&log, offset), NOW).unwrap();
    }
    expected.check(&mut follower);
}

#[test]
fn lost_and_damaged_indexes_are_made_again() {
    let disk = disk();
    let mut log = open(&disk).0;
    let expected = interleave(&mut log, 60);
    log.close().unwrap();
    let mut files = disk.list(dir()).unwrap();
    files.retain(|name| name.ends_with(".txnindex"));
    files.sort();
    assert_eq!(files.len(), log.segment_count());
    let contents: Vec<_> = files
        .iter()
        .map(|name| read_file(&disk, &dir().join(name)).unwrap().unwrap())
        .collect();
    assert!(contents.iter().filter(|bytes| !bytes.is_empty()).count() > 2);
    let check = |damaged: usize| {
        disk.restart();
        let (mut log, recovery) = open(&disk);
        assert_eq!((recovery.rebuilt_indexes, recovery.truncated_bytes), (damaged, 0));
        expected.check(&mut log);
        for (name, content) in files.iter().zip(&contents) {
            assert_eq!(
                read_file(&disk, &dir().join(name)).unwrap().as_ref(),
                Some(content),
                "{name}"
            );
        }
    };
    check(0);
    for (name, content) in files.iter().zip(&contents) {
        disk.remove(&dir().join(name)).unwrap();
        check(1);
        for damage in [
            vec![0; 34],
            vec![0xff; 34],
            content.iter().copied().chain([0]).collect(),
        ] {
            replace_file(&disk, &dir().join(name), &damage).unwrap();
            check(1);
        }
    }
    for name in &files {
        disk.remove(&dir().join(name)).unwrap();
    }
    check(files.len());
    // Nor does it take the snapshots.
    for name in disk.list(dir()).unwrap() {
        if name.ends_with(".snapshot") || name == files[1] {
            disk.remove(&dir().join(name)).unwrap();
        }
    }
    disk.restart();
    expected.check(&mut open(&disk).0);
}

#[test]
fn what_is_taken_back_was_never_begun_or_ended() {
    let disk = disk();
    let mut log = open(&disk).0;
    let expected = interleave(&mut log, 60);
    log.close().unwrap();
    for to in (0..log.log_end_offset().0).rev() {
        log.truncate_to(Offset(to), NOW).unwrap();
        expected.up_to(to).check(&mut log);
        if to % 7 == 0 {
            log.write_checkpoint().unwrap();
        }
        if to % 10 == 0 {
            disk.crash();
            log = open(&disk).0;
            expected.up_to(to).check(&mut log);
        }
    }
    // In the middle of a transaction, which then goes on otherwise.
    put(&mut log, 5, 0, 0).unwrap();
    put(&mut log, 5, 0, 1).unwrap();
    end(&mut log, 5, 0, true).unwrap();
    log.truncate_to(Offset(1), NOW).unwrap();
    assert!(log.open_transaction(5, 0));
    end(&mut log, 5, 0, false).unwrap();
    assert_eq!(aborted(&log, 0, 2), [(5, 0)]);
    assert_eq!(stable(&mut log, 2), 2);
}

#[test]
fn what_was_deleted_leaves_transactions_as_they_were() {
    let disk = disk();
    let mut log = open(&disk).0;
    put(&mut log, 9, 0, 0).unwrap();
    let expected = interleave(&mut log, 60);
    log.sync().unwrap();
    let start = log.log_end_offset().0 / 2;
    log.delete_records_before(Offset(start)).unwrap();
    log.set_config(LogConfig {
        producer_id_expiration_ms: 10,
        ..config()
    });
    log.apply_retention(NOW + 1000).unwrap();
    for _ in 0..2 {
        assert!(log.open_transaction(9, 0), "who has one open is not forgotten");
        assert_eq!(stable(&mut log, start + 3), start, "not before the log's start");
        expected.check_aborted(&log, start);
        disk.crash();
        log = open(&disk).0;
    }
    end(&mut log, 9, 0, false).unwrap();
    log.apply_retention(NOW + 10_000_000_000).unwrap();
    assert!(!log.open_transaction(9, 0));
    log.start_over(Offset(5000), NOW).unwrap();
    assert_eq!((log.producers(), stable(&mut log, 5000)), (Vec::new(), 5000));
    assert_eq!(aborted(&log, 0, 5000), []);
}

#[test]
fn without_room_for_an_index_it_stays_in_memory_and_is_made_again() {
    let disk = disk();
    let mut log = open(&disk).0;
    let mut expected = interleave(&mut log, 60);
    log.close().unwrap();
    let mut files = disk.list(dir()).unwrap();
    files.retain(|name| name.ends_with(".txnindex"));
    for name in &files {
        disk.remove(&dir().join(name)).unwrap();
    }
    disk.set_free_bytes(0);
    for _ in 0..2 {
        disk.restart();
        let (mut log, recovery) = open(&disk);
        assert_eq!(recovery.rebuilt_indexes, files.len());
        expected.check(&mut log);
    }
    disk.set_free_bytes(1 << 20);
    disk.restart();
    expected.check(&mut open(&disk).0);
    assert_eq!(open(&disk).1.rebuilt_indexes, 0);
    // What a file says from before is not taken for what could not be written, if all that told better is lost.
    for name in disk.list(dir()).unwrap() {
        let path = dir().join(&name);
        if name.ends_with(".txnindex") {
            replace_file(&disk, &path, &[]).unwrap();
        } else if name.ends_with(".snapshot") {
            disk.remove(&path).unwrap();
        }
    }
    disk.set_free_bytes(0);
    disk.restart();
    log = open(&disk).0;
    expected.check(&mut log);
    disk.set_free_bytes(1 << 20);
    plain(&mut log, 1);
    expected.0.push(Step::Plain);
    log.close().unwrap();
    disk.restart();
    expected.check(&mut open(&disk).0);
}

#[test]
fn whatever_an_index_holds_the_log_opens() {
    let disk = disk();
    let mut log = open(&disk).0;
    let expected = interleave(&mut log, 60);
    log.close().unwrap();
    let file = dir().join("00000000000000000000.txnindex");
    let good = read_file(&disk, &file).unwrap().unwrap();
    let mut random = Random(3);
    for round in 0..300 {
        let mut bytes = good.clone();
        if round % 2 == 0 {
            bytes = (0..random.below(300)).map(|_| random.next_u64() as u8).collect();
        } else {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] ^= 1 << random.below(8);
        }
        replace_file(&disk, &file, &bytes).unwrap();
        disk.restart();
        let (mut log, recovery) = open(&disk);
        assert_eq!(
            (log.log_end_offset().0, recovery.truncated_bytes),
            (expected.end(), 0)
        );
        log.aborted_transactions(Offset(0), log.log_end_offset()).unwrap();
        log.last_stable_offset(log.log_end_offset());
        if recovery.rebuilt_indexes > 0 {
            expected.check(&mut log);
            assert_eq!(read_file(&disk, &file).unwrap().as_ref(), Some(&good));
        }
    }
}

#[test]
fn an_index_that_is_full_ends_its_segment() {
    let config = LogConfig {
        segment_index_bytes: 3 * 34,
        ..LogConfig::default()
    };
    let mut log = Log::open(disk(), dir(), config, NOW).unwrap().0;
    for sequence in 0..10 {
        put(&mut log, 1, 0, sequence).unwrap();
        end(&mut log, 1, 0, false).unwrap();
    }
    assert_eq!(log.segment_count(), 4);
    assert_eq!(aborted(&log, 0, 20).len(), 10);
    assert_eq!(aborted(&log, 7, 11), [(1, 6), (1, 8), (1, 10)]);
}

/// What was put into a log, offset by offset.
#[derive(Debug, Default, Clone)]
struct Story(Vec<Step>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Plain,
    Record(i64),
    Commit(i64),
    Abort(i64),
}

impl Story {
    fn end(&self) -> i64 {
        self.0.len() as i64
    }

    fn up_to(&self, end: i64) -> Self {
        Self(self.0[..end as usize].to_vec())
    }

    /// Producer, first offset, marker's offset if it has one, whether it was aborted.
    fn transactions(&self) -> Vec<(i64, i64, Option<i64>, bool)> {
        let mut all: Vec<(i64, i64, Option<i64>, bool)> = Vec::new();
        for (offset, step) in self.0.iter().enumerate() {
            let offset = offset as i64;
            let (Step::Record(id) | Step::Commit(id) | Step::Abort(id)) = *step else {
                continue;
            };
            let open = all
                .iter_mut()
                .find(|(of, _, marker, _)| *of == id && marker.is_none());
            match (step, open) {
                (Step::Record(_), None) => all.push((id, offset, None, false)),
                (Step::Commit(_) | Step::Abort(_), Some(open)) => {
                    (open.2, open.3) = (Some(offset), matches!(step, Step::Abort(_)));
                }
                _ => {}
            }
        }
        all
    }

    /// Producer, first offset and marker's offset, in the order of the markers.
    fn aborted(&self) -> Vec<(i64, i64, i64)> {
        let all = self.transactions().into_iter();
        let mut found: Vec<_> = all
            .filter_map(|(id, first, marker, is_aborted)| is_aborted.then_some((id, first, marker?)))
            .collect();
        found.sort_by_key(|(_, _, marker)| *marker);
        found
    }

    fn check_aborted(&self, log: &Log<SimDisk>, start: i64) {
        let (all, end) = (self.aborted(), self.end());
        for from in start..=end {
            for to in [from, from + 1, from + 5, end] {
                let overlaps = all
                    .iter()
                    .filter(|(_, first, marker)| *first < to && *marker >= from);
                let expected: Vec<_> = overlaps.map(|(id, first, _)| (*id, *first)).collect();
                assert_eq!(aborted(log, from, to), expected, "{from}..{to}");
            }
        }
    }

    fn check(&self, log: &mut Log<SimDisk>) {
        let end = self.end();
        assert_eq!(log.log_end_offset().0, end);
        let all = self.transactions();
        let open: Vec<_> = all.iter().filter(|(_, _, marker, _)| marker.is_none()).collect();
        let states = log.producers();
        for (id, first, ..) in &open {
            assert!(log.open_transaction(*id, 0), "{id}");
            let state = states.iter().find(|state| state.id == *id).unwrap();
            assert_eq!(state.transaction_start, Some(Offset(*first)));
        }
        assert_eq!(
            states
                .iter()
                .filter(|state| state.transaction_start.is_some())
                .count(),
            open.len()
        );
        let first = open.iter().map(|(_, first, ..)| *first).min();
        assert_eq!(stable(log, end), first.unwrap_or(end));
        self.check_aborted(log, 0);
    }
}

/// Two producers and records without any, for `rounds`; both have a transaction open at the end.
fn interleave(log: &mut Log<SimDisk>, rounds: usize) -> Story {
    let first = log.log_end_offset().0;
    let mut story = Story((0..first).map(|_| Step::Record(9)).collect());
    let mut sequences = [0; 2];
    for round in 0..rounds {
        let steps = match round % 6 {
            0 => [Step::Record(1), Step::Plain, Step::Record(2)],
            1 => [Step::Record(2), Step::Abort(1), Step::Record(1)],
            2 => [Step::Commit(2), Step::Record(1), Step::Plain],
            3 => [Step::Record(2), Step::Record(1), Step::Abort(2)],
            4 => [Step::Plain, Step::Record(2), Step::Record(2)],
            _ => [Step::Commit(1), Step::Record(1), Step::Record(2)],
        };
        for step in steps {
            match step {
                Step::Plain => plain(log, 1),
                Step::Record(id) => {
                    let sequence = &mut sequences[id as usize - 1];
                    put(log, id, 0, *sequence).unwrap();
                    *sequence += 1;
                }
                Step::Commit(id) => drop(end(log, id, 0, true).unwrap()),
                Step::Abort(id) => drop(end(log, id, 0, false).unwrap()),
            }
            story.0.push(step);
        }
        if round % 11 == 10 {
            log.sync().unwrap();
            log.write_checkpoint().unwrap();
        }
    }
    story
}

fn put(log: &mut Log<SimDisk>, id: i64, epoch: i16, sequence: i32) -> Result<Appended, AppendError> {
    log.append_as_leader(&batch(id, epoch, sequence, true), LeaderEpoch(0), NOW)
}

fn end(log: &mut Log<SimDisk>, id: i64, epoch: i16, is_commit: bool) -> Result<Appended, AppendError> {
    log.append_marker(marker(id, epoch, is_commit, 1), LeaderEpoch(0), NOW)
}

fn marker(producer_id: i64, producer_epoch: i16, is_commit: bool, coordinator_epoch: i32) -> EndMarker {
    EndMarker {
        producer_id,
        producer_epoch,
        is_commit,
        coordinator_epoch,
        bumps_epoch: false,
    }
}

fn plain(log: &mut Log<SimDisk>, count: usize) {
    super::append(log, count);
}

fn batch(id: i64, epoch: i16, sequence: i32, is_transactional: bool) -> Bytes {
    let mut builder = BatchBuilder::new()
        .producer(id, epoch, sequence)
        .transactional(is_transactional);
    builder
        .append(
            NOW,
            None,
            Some(b"a value of some length, so that segments roll"),
            &[],
        )
        .unwrap();
    builder.finish().unwrap()
}

fn stable(log: &mut Log<SimDisk>, high: i64) -> i64 {
    log.last_stable_offset(Offset(high)).0
}

fn aborted(log: &Log<SimDisk>, from: i64, to: i64) -> Vec<(i64, i64)> {
    let found = log.aborted_transactions(Offset(from), Offset(to)).unwrap();
    let pair = |AbortedTransaction {
                    producer_id,
                    first_offset,
                }| (producer_id, first_offset.0);
    found.into_iter().map(pair).collect()
}

/// The batch at `offset`.
fn read(log: &Log<SimDisk>, offset: i64) -> Vec<u8> {
    let slice = log
        .read(Offset(offset), 1, log.log_end_offset(), true)
        .unwrap()
        .unwrap();
    let mut bytes = vec![0; slice.len];
    slice.file.read_at(&mut bytes, slice.position).unwrap();
    bytes
}
