//! Transactions whose records a partitioner has spread: they end with those of the producer that they were derived from.

use millstream_core::ids::{PartitionIndex, ProducerId};

use super::*;

/// The id of producer 7 at one of its entrances.
fn at(entrance: i32) -> i64 {
    ProducerId(7).at_entrance(PartitionIndex(entrance)).unwrap().0
}

#[test]
fn a_marker_ends_what_was_spread_of_its_producer_and_nothing_else() {
    let other = ProducerId(8).at_entrance(PartitionIndex(0)).unwrap().0;
    let mut log = open(&disk()).0;
    put(&mut log, at(0), 0, 40).unwrap();
    put(&mut log, at(2), 0, 3).unwrap();
    put(&mut log, other, 0, 0).unwrap();
    put(&mut log, at(0), 0, 90).unwrap();
    let ended = end(&mut log, 7, 0, false).unwrap();
    assert_eq!((ended.base_offset, log.log_end_offset()), (Offset(6), Offset(7)));
    assert_eq!(aborted(&log, 0, 7), [(at(0), 0), (at(2), 1)]);
    assert_eq!((stable(&mut log, 7), log.open_transactions()), (2, 1));
    assert!(log.open_transaction(other, 0));
    end(&mut log, 7, 0, false).unwrap();
    assert_eq!(log.log_end_offset(), Offset(8), "there was nothing left of it");
    end(&mut log, 8, 0, true).unwrap();
    assert_eq!((stable(&mut log, 10), log.log_end_offset()), (10, Offset(10)));
    assert_eq!(aborted(&log, 0, 10).len(), 2);
    log.verify().unwrap();
}

#[test]
fn a_marker_leaves_alone_what_is_of_a_later_epoch_or_is_not_its_own() {
    let mut log = open(&disk()).0;
    put(&mut log, at(0), 3, 0).unwrap();
    end(&mut log, 7, 2, true).unwrap();
    assert!(log.open_transaction(at(0), 3));
    let late = log.append_marker(marker(7, 1, true, 1), LeaderEpoch(0), NOW);
    assert!(matches!(
        late,
        Err(AppendError::InvalidProducerEpoch { current: 2, .. })
    ));
    end(&mut log, 7, 4, true).unwrap();
    assert_eq!(log.open_transactions(), 0);
    let zombie = put(&mut log, at(0), 3, 1);
    assert!(matches!(
        zombie,
        Err(AppendError::InvalidProducerEpoch { current: 4, .. })
    ));
    // One that is named itself ends alone.
    put(&mut log, at(0), 4, 0).unwrap();
    put(&mut log, at(1), 4, 0).unwrap();
    end(&mut log, at(0), 4, true).unwrap();
    assert!(!log.open_transaction(at(0), 4) && log.open_transaction(at(1), 4));
}

#[test]
fn what_was_spread_and_is_open_is_known_after_a_crash_and_after_a_truncation() {
    for has_snapshot in [false, true] {
        let disk = disk();
        let mut log = open(&disk).0;
        put(&mut log, at(1), 0, 0).unwrap();
        if has_snapshot {
            log.close().unwrap();
            log = open(&disk).0;
        }
        put(&mut log, at(2), 0, 0).unwrap();
        log.sync().unwrap();
        disk.crash();
        log = open(&disk).0;
        end(&mut log, 7, 0, true).unwrap();
        assert_eq!((log.open_transactions(), log.log_end_offset()), (0, Offset(5)));
        log.truncate_to(Offset(3), NOW).unwrap();
        assert!(log.open_transaction(at(2), 0) && !log.open_transaction(at(1), 0));
        end(&mut log, 7, 0, true).unwrap();
        assert_eq!((log.open_transactions(), log.log_end_offset()), (0, Offset(5)));
    }
}
