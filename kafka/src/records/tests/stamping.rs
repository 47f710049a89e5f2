//! Stamped batches keep a right checksum and their records.

use super::*;

proptest! {
    #[test]
    fn a_stamp_changes_offset_and_epoch_alone(records in records(), offset in 0i64..1 << 50, epoch in 0..9) {
        let mut batch = build(&records, Compression::None).to_vec();
        let front = stamp(&batch, offset, epoch);
        batch[..STAMP_BYTES].copy_from_slice(&front);
        let header = BatchHeader::parse(&batch).unwrap();
        prop_assert_eq!((header.base_offset, header.partition_leader_epoch), (offset, epoch));
        prop_assert_eq!(read(&batch), records);
    }

    #[test]
    fn append_time_replaces_the_records_own(records in records(), codec in codec(), time in 0i64..1 << 41) {
        let mut batch = build(&records, codec).to_vec();
        let front = restamp_log_append_time(&batch, 5, 1, time);
        batch[..HEADER_BYTES].copy_from_slice(&front);
        prop_assert!(read(&batch).iter().all(|record| record.timestamp == time));
    }
}

#[test]
fn a_wrong_largest_timestamp_can_be_put_right() {
    let wrong = BatchBuilder::new().max_timestamp(1);
    let record = Owned {
        timestamp: 50,
        key: None,
        value: None,
        headers: vec![],
    };
    let mut batch = fill(wrong, std::slice::from_ref(&record)).to_vec();
    let validated = validate(&batch, &LIMITS).unwrap();
    assert!(!validated.max_timestamp_is_right());
    let front = restamp(&batch, 9, 0, TimestampType::CreateTime, validated.max_timestamp);
    batch[..HEADER_BYTES].copy_from_slice(&front);
    assert!(validate(&batch, &LIMITS).unwrap().max_timestamp_is_right());
    assert_eq!(read(&batch), vec![record]);
}
