mod transactions;

use std::path::Path;

use bytes::Bytes;
use millstream_core::ids::{LeaderEpoch, Offset, PartitionIndex, ProducerId};
use millstream_kafka::records::{BatchBuilder, BatchView};

use super::{Log, LogConfig, Recovery};
use crate::disk::{Disk, DiskFile, Open, RealDisk, read_file, replace_file};
use crate::error::AppendError;
use crate::sim_disk::SimDisk;

#[test]
fn a_log_closed_in_good_order_opens_without_being_read() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 300);
    let (end, size) = (log.log_end_offset(), log.size_bytes());
    log.close().unwrap();
    disk.crash();
    let (log, recovery) = open(&disk);
    assert_eq!(recovery, Recovery::default());
    assert_eq!(
        (log.log_end_offset(), log.flushed_offset(), log.size_bytes()),
        (end, end, size)
    );
}

#[test]
fn only_what_was_not_known_to_be_durable_is_checked() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 300);
    log.close().unwrap();
    let before = log.size_bytes();
    append(&mut log, 10);
    log.sync().unwrap();
    let tail = log.size_bytes() - before;
    disk.crash();
    let (log, recovery) = open(&disk);
    assert_eq!(
        recovery,
        Recovery {
            scanned_bytes: tail,
            ..Recovery::default()
        }
    );
    assert_eq!(log.log_end_offset(), Offset(310));
}

#[test]
fn after_a_kill_only_the_tail_is_read() {
    let disk = disk();
    let config = LogConfig {
        segment_bytes: 1 << 20,
        ..LogConfig::default()
    };
    let value = "x".repeat(10_000);
    let append = |log: &mut Log<SimDisk>, batches: usize| {
        for _ in 0..batches {
            log.append_as_leader(&batch(NOW, &value), LeaderEpoch(0), NOW)
                .unwrap();
        }
        log.sync().unwrap();
    };
    let restart = |expected_bytes: std::ops::RangeInclusive<u64>| {
        disk.restart();
        disk.take_read_bytes();
        let (log, recovery) = Log::open(disk.clone(), dir(), config.clone(), NOW).unwrap();
        assert!(
            expected_bytes.contains(&recovery.scanned_bytes),
            "{} checked, expected {expected_bytes:?}",
            recovery.scanned_bytes
        );
        // It is read to be checked, to be written again and for what is derived from it. Beside it: what lies between
        // the last index entry and the recovery point, and the small files.
        let read = disk.take_read_bytes();
        let allowed = 3 * recovery.scanned_bytes + (700 << 10);
        assert!(read <= allowed, "{read} bytes read, allowed {allowed}");
        log
    };
    let mut log = Log::open(disk.clone(), dir(), config.clone(), NOW).unwrap().0;
    for _ in 0..150 {
        append(&mut log, 10);
    }
    assert!(log.segment_count() > 10);
    // Without a checkpoint but those of its segments.
    drop(log);
    let mut log = restart(0..=2 << 20);
    append(&mut log, 30);
    log.write_checkpoint().unwrap();
    let durable = log.size_bytes();
    append(&mut log, 20);
    let tail = log.size_bytes() - durable;
    drop(log);
    let log = restart(tail..=tail);
    assert_eq!(log.log_end_offset(), Offset(1550));
    drop(log);
    restart(0..=0);
}

#[test]
fn after_a_failed_sync_nothing_that_needs_another_is_done() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 3);
    disk.fail_sync_after(0);
    assert!(log.sync().is_err());
    assert!(
        log.sync().is_err(),
        "the next one would succeed, and mean nothing"
    );
    assert!(log.close().is_err());
    assert!(log.delete_records_before(Offset(2)).is_err());
    let refused = log.append_as_leader(&batch(NOW, "v"), LeaderEpoch(0), NOW);
    assert!(matches!(refused, Err(AppendError::Poisoned(_))));
    assert_eq!(
        (log.flushed_offset(), log.log_start_offset()),
        (Offset(0), Offset(0))
    );
    assert!(log.read(Offset(0), 1, Offset(3), true).unwrap().is_some());
}

#[test]
fn a_full_disk_is_read_and_emptied() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 300);
    log.sync().unwrap();
    disk.set_free_bytes(0);
    let refused = log.append_as_leader(&batch(NOW, "v"), LeaderEpoch(0), NOW);
    assert!(matches!(refused, Err(AppendError::DiskFull)));
    for _ in 0..2 {
        disk.restart();
        log = open(&disk).0;
        assert_eq!(log.log_end_offset(), Offset(300));
        assert!(log.read(Offset(150), 1, Offset(300), true).unwrap().is_some());
    }
    log.set_config(LogConfig {
        retention_bytes: 5_000,
        ..config()
    });
    assert!(log.apply_retention(NOW).unwrap() > 0);
    append(&mut log, 10);
    log.close().unwrap();
    let start = log.log_start_offset();
    disk.crash();
    let log = open(&disk).0;
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (start, Offset(310))
    );
}

#[test]
fn missing_and_damaged_indexes_are_built_anew() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 300);
    log.close().unwrap();
    assert!(log.segment_count() > 3);
    let index = dir().join("00000000000000000000.index");
    let good = read_file(&disk, &index).unwrap().unwrap();
    for damage in [
        None,
        Some(Vec::new()),
        Some(vec![0xff; good.len()]),
        Some(vec![0; good.len()]),
        Some(good[..5].to_vec()),
    ] {
        match &damage {
            None => disk.remove(&index).unwrap(),
            Some(bytes) => replace_file(&disk, &index, bytes).unwrap(),
        }
        disk.restart();
        let (log, recovery) = open(&disk);
        assert_eq!(recovery.truncated_bytes, 0);
        for offset in 0..300 {
            let slice = log.read(Offset(offset), 1, Offset(300), true).unwrap().unwrap();
            let mut bytes = vec![0; slice.len];
            slice.file.read_at(&mut bytes, slice.position).unwrap();
            assert_eq!(BatchView::parse(&bytes).unwrap().header().base_offset, offset);
        }
    }
    disk.remove(&index).unwrap();
    disk.restart();
    assert_eq!(open(&disk).1.rebuilt_indexes, 1);
    assert_eq!(read_file(&disk, &index).unwrap(), Some(good));
}

#[test]
fn leader_epochs_say_where_they_ended() {
    let disk = disk();
    let mut log = open(&disk).0;
    for (epoch, batches) in [(1, 3), (4, 2), (5, 1)] {
        for _ in 0..batches {
            log.append_as_leader(&batch(NOW, "v"), LeaderEpoch(epoch), NOW)
                .unwrap();
        }
    }
    let check = |log: &Log<SimDisk>| {
        let end_of = |epoch| {
            log.offset_for_leader_epoch(LeaderEpoch(epoch))
                .map(|(e, o)| (e.0, o.0))
        };
        assert_eq!(
            [0, 1, 3, 4, 5, 6].map(end_of),
            [
                Some((0, 0)),
                Some((1, 3)),
                Some((1, 3)),
                Some((4, 5)),
                Some((5, 6)),
                None
            ]
        );
    };
    check(&log);
    log.close().unwrap();
    disk.crash();
    check(&open(&disk).0);
    // From the batches alone, too.
    disk.remove(&dir().join("leader-epoch-checkpoint")).unwrap();
    disk.restart();
    check(&open(&disk).0);
}

#[test]
fn a_log_says_how_much_somebody_lacks_and_under_which_leader_it_was_written() {
    let disk = disk();
    let mut log = open(&disk).0;
    for epoch in [2, 2, 5] {
        for _ in 0..100 {
            log.append_as_leader(&batch(NOW, "v"), LeaderEpoch(epoch), NOW)
                .unwrap();
        }
    }
    let each = batch(NOW, "v").len() as u64;
    for (offset, batches) in [(0, 300), (1, 299), (150, 150), (299, 1), (300, 0), (400, 0)] {
        assert_eq!(
            log.bytes_from(Offset(offset)).unwrap(),
            batches * each,
            "{offset}"
        );
    }
    for (offset, epoch) in [(0, 2), (199, 2), (200, 5), (300, 5)] {
        assert_eq!(log.leader_epoch_at(Offset(offset)), Some(LeaderEpoch(epoch)));
    }
}

#[test]
fn spread_producers_may_skip_numbers_but_not_come_twice() {
    let disk = disk();
    let mut log = open(&disk).0;
    // Offset and whether it was there; none where the batch is refused.
    let put = |log: &mut Log<SimDisk>, epoch, sequence, values: &[&str]| {
        let batch = spread(epoch, sequence, values);
        match log.append_as_leader(&batch, LeaderEpoch(0), NOW) {
            Ok(appended) => Some((appended.base_offset.0, appended.is_duplicate)),
            Err(AppendError::OutOfOrderSequence { .. }) => None,
            Err(error) => panic!("{error}"),
        }
    };
    assert_eq!(put(&mut log, 0, 5, &["v", "v"]), Some((0, false)));
    assert_eq!(
        put(&mut log, 0, 17, &["v"]),
        Some((2, false)),
        "what lies between went to other partitions"
    );
    assert_eq!(put(&mut log, 0, 5, &["v", "v"]), Some((0, true)));
    for other in [&["v"][..], &["v", "w"], &["v", "v", "v"]] {
        assert_eq!(put(&mut log, 0, 5, other), None, "records of it may be nowhere");
    }
    assert_eq!(put(&mut log, 0, 9, &["v"]), None);
    log.sync().unwrap();
    disk.crash();
    log = open(&disk).0;
    assert_eq!(put(&mut log, 0, 5, &["v", "w"]), None, "also after a crash");
    log.close().unwrap();
    log = open(&disk).0;
    assert_eq!(put(&mut log, 0, 5, &["v", "w"]), None, "and with a snapshot");
    assert_eq!(put(&mut log, 0, 5, &["v", "v"]), Some((0, true)));
    for n in 1..10 {
        assert!(!put(&mut log, 0, 17 + 10 * n, &["v"]).unwrap().1);
    }
    assert_eq!(put(&mut log, 0, 5, &["v", "v"]), None, "too long ago to know");
    assert_eq!(
        put(&mut log, 1, 40, &["v"]),
        Some((12, false)),
        "the next epoch may begin anywhere here"
    );
    assert_eq!(
        put(&mut log, 1, i32::MAX - 1, &["v"]),
        None,
        "more than half around is behind"
    );
    for n in 1..=2 {
        assert!(!put(&mut log, 1, n * ((1 << 30) - 50), &["v"]).unwrap().1);
    }
    assert!(!put(&mut log, 1, 2, &["v"]).unwrap().1, "numbers wrap");
    assert_eq!(put(&mut log, 1, i32::MAX - 200, &["v"]), None);
}

fn spread(epoch: i16, sequence: i32, values: &[&str]) -> Bytes {
    let id = ProducerId(9).at_entrance(PartitionIndex(3)).unwrap().0;
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
    for value in values {
        builder.append(NOW, None, Some(value.as_bytes()), &[]).unwrap();
    }
    builder.finish().unwrap()
}

#[test]
fn files_that_are_only_read_are_not_held_open() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 300);
    let held = |log: &Log<SimDisk>| log.segments.iter().filter(|s| s.opened().is_some()).count();
    assert!(log.segment_count() > 3 && held(&log) == log.segment_count());
    log.sync().unwrap();
    for offset in (0..300).map(Offset) {
        log.read(offset, 100, Offset(300), true).unwrap().unwrap();
    }
    assert_eq!(held(&log), 1);
}

#[test]
fn a_producer_of_old_records_is_remembered_as_long_as_others() {
    let disk = disk();
    let mut log = open(&disk).0;
    let mut builder = BatchBuilder::new().producer(9, 0, 0);
    builder.append(1_000, None, Some(b"of 1970"), &[]).unwrap();
    let old = builder.finish().unwrap();
    log.append_as_leader(&old, LeaderEpoch(0), NOW).unwrap();
    log.apply_retention(NOW + 1_000).unwrap();
    let again = log.append_as_leader(&old, LeaderEpoch(0), NOW + 1_000).unwrap();
    assert!(again.is_duplicate);
    log.close().unwrap();
    log = open(&disk).0;
    log.apply_retention(NOW + log.config().producer_id_expiration_ms)
        .unwrap();
    assert_eq!(log.producer_count(), 1);
    log.apply_retention(NOW + log.config().producer_id_expiration_ms + 1)
        .unwrap();
    assert_eq!(log.producer_count(), 0);
}

#[test]
fn an_epoch_that_was_taken_back_leaves_no_trace() {
    let disk = disk();
    let mut log = open(&disk).0;
    let append = |log: &mut Log<SimDisk>, epoch, batches| {
        for _ in 0..batches {
            log.append_as_leader(&batch(NOW, "v"), LeaderEpoch(epoch), NOW)
                .unwrap();
        }
    };
    append(&mut log, 4, 3);
    append(&mut log, 5, 2);
    log.close().unwrap();
    // The next leader never saw epoch 5, but more of epoch 4.
    log.truncate_to(Offset(3), NOW).unwrap();
    append(&mut log, 4, 2);
    log.sync().unwrap();
    disk.crash();
    let log = open(&disk).0;
    assert_eq!(log.latest_leader_epoch(), Some(LeaderEpoch(4)));
    assert_eq!(
        log.offset_for_leader_epoch(LeaderEpoch(4)),
        Some((LeaderEpoch(4), Offset(5)))
    );
}

#[test]
fn a_full_disk_keeps_a_log_from_being_cut_and_does_it_no_harm() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 5);
    log.close().unwrap();
    append(&mut log, 5);
    log.sync().unwrap();
    for to in [7, 3] {
        disk.set_free_bytes(0);
        assert!(log.truncate_to(Offset(to), NOW).is_err());
        assert!(!log.is_poisoned());
        let refused = log.append_as_leader(&batch(NOW, "v"), LeaderEpoch(0), NOW);
        assert!(matches!(refused, Err(AppendError::DiskFull)));
        disk.set_free_bytes(1 << 20);
        log.truncate_to(Offset(to), NOW).unwrap();
        assert_eq!(log.log_end_offset(), Offset(to));
    }
    append(&mut log, 2);
    log.sync().unwrap();
    disk.crash();
    let log = open(&disk).0;
    assert_eq!(log.log_end_offset(), Offset(5));
    assert!(log.read(Offset(0), 1, Offset(5), true).unwrap().is_some());
}

#[test]
fn fenced_and_repeating_producers_are_told_apart() {
    let disk = disk();
    let mut log = open(&disk).0;
    let of = |epoch, sequence| {
        let mut builder = BatchBuilder::new().producer(9, epoch, sequence);
        builder.append(NOW, None, Some(b"v"), &[]).unwrap();
        builder.finish().unwrap()
    };
    let mut put = |epoch, sequence| log.append_as_leader(&of(epoch, sequence), LeaderEpoch(0), NOW);
    assert!(
        !put(0, i32::MAX - 1).unwrap().is_duplicate,
        "an unknown producer begins anywhere"
    );
    put(0, i32::MAX).unwrap();
    put(0, 0).unwrap();
    let again = put(0, i32::MAX).unwrap();
    assert_eq!((again.base_offset, again.is_duplicate), (Offset(1), true));
    assert!(matches!(
        put(1, 5),
        Err(AppendError::OutOfOrderSequence { expected: 0, .. })
    ));
    put(1, 0).unwrap();
    assert!(matches!(
        put(0, 1),
        Err(AppendError::InvalidProducerEpoch { current: 1, .. })
    ));
    for sequence in 1..=5 {
        put(1, sequence).unwrap();
    }
    assert!(put(1, 1).unwrap().is_duplicate);
    assert!(
        matches!(put(1, 0), Err(AppendError::OutOfOrderSequence { .. })),
        "five are remembered"
    );
    assert_eq!(log.log_end_offset(), Offset(9));
}

#[test]
fn the_broker_gives_the_time_where_the_topic_asks_for_it() {
    let disk = disk();
    let config = LogConfig {
        log_append_time: true,
        ..config()
    };
    let mut log = Log::open(disk, dir(), config, NOW).unwrap().0;
    let appended = log
        .append_as_leader(&batch(1, "v"), LeaderEpoch(0), NOW + 7)
        .unwrap();
    assert_eq!(appended.log_append_time_ms, Some(NOW + 7));
    log.verify().expect("the checksum is right");
    assert_eq!(log.offset_of_max_timestamp().unwrap().unwrap().timestamp, NOW + 7);
}

#[test]
fn time_finds_the_exact_record() {
    let disk = disk();
    let mut log = open(&disk).0;
    for number in 0..200 {
        let mut builder = BatchBuilder::new();
        for record in 0..3 {
            builder
                .append(NOW + number * 30 + record * 10, None, Some(&[0; 90]), &[])
                .unwrap();
        }
        log.append_as_leader(&builder.finish().unwrap(), LeaderEpoch(0), NOW)
            .unwrap();
    }
    for offset in [0, 1, 2, 77, 300, 599] {
        let found = log.offset_for_timestamp(NOW + offset * 10 - 5).unwrap().unwrap();
        assert_eq!(
            (found.offset, found.timestamp),
            (Offset(offset), NOW + offset * 10)
        );
    }
    assert_eq!(log.offset_for_timestamp(NOW + 6000).unwrap(), None);
    assert_eq!(
        log.offset_of_max_timestamp().unwrap().unwrap().offset,
        Offset(599)
    );
}

#[test]
fn old_segments_go_by_age_and_by_size_but_nothing_that_is_not_durable() {
    let disk = disk();
    let mut log = open(&disk).0;
    append(&mut log, 300);
    let segments = log.segment_count();
    log.set_config(LogConfig {
        retention_bytes: 5_000,
        ..config()
    });
    assert_eq!(log.apply_retention(NOW).unwrap(), 0);
    log.sync().unwrap();
    assert!(log.apply_retention(NOW).unwrap() > segments / 2);
    assert!(log.size_bytes() >= 5_000 && log.size_bytes() < 10_000);
    log.set_config(LogConfig {
        retention_ms: 1000,
        ..config()
    });
    log.apply_retention(NOW + 1_000_000).unwrap();
    assert_eq!(
        (log.size_bytes(), log.log_start_offset(), log.log_end_offset()),
        (0, Offset(300), Offset(300))
    );
    disk.crash();
    let log = open(&disk).0;
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset()),
        (Offset(300), Offset(300))
    );
}

#[test]
fn segments_roll_by_age_and_refuse_what_can_never_fit() {
    let disk = disk();
    let mut log = Log::open(
        disk,
        dir(),
        LogConfig {
            segment_ms: 100,
            ..config()
        },
        NOW,
    )
    .unwrap()
    .0;
    for time in [NOW, NOW + 50, NOW + 101, NOW + 150] {
        log.append_as_leader(&batch(time, "v"), LeaderEpoch(0), NOW)
            .unwrap();
    }
    assert_eq!(log.segment_count(), 2);
    let large = batch(NOW, &"x".repeat(10_000));
    assert!(matches!(
        log.append_as_leader(&large, LeaderEpoch(0), NOW),
        Err(AppendError::TooLarge { .. })
    ));
}

#[test]
fn followers_take_batches_as_they_are_and_only_in_order() {
    let (leader_disk, follower_disk) = (disk(), disk());
    let mut leader = open(&leader_disk).0;
    append(&mut leader, 20);
    let slice = leader
        .read(Offset(0), 1 << 20, Offset(20), true)
        .unwrap()
        .unwrap();
    let mut bytes = vec![0; slice.len];
    slice.file.read_at(&mut bytes, slice.position).unwrap();
    let mut follower = open(&follower_disk).0;
    follower.append_as_follower(&bytes, NOW).unwrap();
    assert_eq!(follower.log_end_offset(), Offset(20));
    assert!(matches!(
        follower.append_as_follower(&bytes, NOW),
        Err(AppendError::NotContiguous { .. })
    ));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    assert!(matches!(
        open(&disk()).0.append_as_follower(&bytes, NOW),
        Err(AppendError::Batch(_))
    ));
}

#[test]
fn the_machines_disk_does_as_the_simulated_one() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("flights-0");
    let mut log = Log::open(RealDisk, &dir, config(), NOW).unwrap().0;
    for _ in 0..100 {
        log.append_as_leader(
            &batch(NOW, "value of some length, so that segments roll"),
            LeaderEpoch(0),
            NOW,
        )
        .unwrap();
    }
    let handle = log.sync_handle();
    RealDisk.sync_many(&handle.files).unwrap();
    log.synced(handle);
    assert_eq!(log.flushed_offset(), Offset(100));
    drop(log);
    // As a killed process leaves it, with half a batch at the end.
    let last = RealDisk
        .list(&dir)
        .unwrap()
        .into_iter()
        .filter(|name| name.ends_with(".log"))
        .max()
        .unwrap();
    let file = RealDisk.open(&dir.join(last), Open::Write).unwrap();
    file.write_at(
        &[std::io::IoSlice::new(&batch(NOW, "torn")[..40])],
        file.len().unwrap(),
    )
    .unwrap();
    let (mut log, recovery) = Log::open(RealDisk, &dir, config(), NOW).unwrap();
    assert_eq!(
        (log.log_end_offset(), recovery.truncated_bytes),
        (Offset(100), 40)
    );
    log.verify().unwrap();
    let slice = log.read(Offset(99), 1 << 20, Offset(100), true).unwrap().unwrap();
    let mut bytes = vec![0; slice.len];
    assert_eq!(
        slice.file.read_at_nowait(&mut bytes, slice.position).unwrap(),
        Some(slice.len)
    );
    log.delete().unwrap();
    assert!(RealDisk.list(folder.path()).unwrap().is_empty());
}

fn append(log: &mut Log<SimDisk>, batches: usize) {
    for _ in 0..batches {
        log.append_as_leader(&batch(NOW, "a value"), LeaderEpoch(0), NOW)
            .unwrap();
    }
}

fn batch(timestamp: i64, value: &str) -> Bytes {
    let mut builder = BatchBuilder::new();
    builder
        .append(timestamp, Some(b"key"), Some(value.as_bytes()), &[])
        .unwrap();
    builder.finish().unwrap()
}

fn open(disk: &SimDisk) -> (Log<SimDisk>, Recovery) {
    Log::open(disk.clone(), dir(), config(), NOW).unwrap()
}

fn disk() -> SimDisk {
    SimDisk::new(1, u64::MAX / 2)
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 4_000,
        index_interval_bytes: 256,
        ..LogConfig::default()
    }
}

fn dir() -> &'static Path {
    Path::new("data/topic-0")
}

const NOW: i64 = 1_700_000_000_000;
