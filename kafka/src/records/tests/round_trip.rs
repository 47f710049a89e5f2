//! What is built can be validated and read.

use super::*;

proptest! {
    #[test]
    fn records_come_back_from_every_codec(records in records(), codec in codec()) {
        let batch = build(&records, codec);
        let validated = validate(&batch, &LIMITS).unwrap();
        prop_assert_eq!(validated.header.compression(), codec);
        prop_assert_eq!(validated.header.records_count as usize, records.len());
        prop_assert!(validated.max_timestamp_is_right());
        let max = records.iter().map(|record| record.timestamp).max().unwrap();
        prop_assert_eq!(validated.max_timestamp, max);
        let first_max = records.iter().position(|record| record.timestamp == max).unwrap();
        prop_assert_eq!(validated.max_timestamp_offset_delta as usize, first_max);
        prop_assert_eq!(read(&batch), records);
    }

    #[test]
    fn another_codec_changes_no_record(records in records(), before in codec(), after in codec()) {
        let batch = fill(BatchBuilder::new().compression(before).producer(5, 1, 9), &records);
        let view = BatchView::parse(&batch).unwrap();
        let changed = recompress(&view, after, &mut Scratch::new(), LIMIT).unwrap();
        let header = validate(&changed, &LIMITS).unwrap().header;
        prop_assert_eq!(header.compression(), after);
        prop_assert_eq!((header.producer_id, header.base_sequence), (5, 9));
        prop_assert_eq!(read(&changed), records);
    }

    #[test]
    fn a_filtered_batch_keeps_offsets_timestamps_and_producer(
        records in records(), codec in codec(), keep in prop::collection::vec(any::<bool>(), 40),
    ) {
        let builder = BatchBuilder::new().base_offset(1000).leader_epoch(3).producer(77, 2, 500);
        let source = fill(builder.compression(codec).transactional(true), &records);
        let view = BatchView::parse(&source).unwrap();
        let mut scratch = Scratch::new();
        let data = view.data(&mut scratch, LIMIT).unwrap();
        let mut filtered = BatchBuilder::like(view.header());
        let mut copied = BatchBuilder::like(view.header());
        for span in view.spans(data).map(Result::unwrap).filter(|span| keep[span.offset_delta as usize]) {
            copied.append_encoded(&span, data).unwrap();
            let timestamp = view.header().timestamp_of(span.timestamp_delta);
            let headers = span.headers_in(data);
            filtered
                .append_raw(span.offset_delta, timestamp, span.key_in(data), span.value_in(data), headers)
                .unwrap();
        }
        let filtered = filtered.finish().unwrap();
        prop_assert_eq!(&copied.finish().unwrap(), &filtered);

        let (before, after) = (*view.header(), BatchHeader::parse(&filtered).unwrap());
        prop_assert_eq!(after.next_offset(), before.next_offset());
        prop_assert_eq!(after.max_timestamp, before.max_timestamp);
        prop_assert_eq!(after.partition_leader_epoch, 3);
        prop_assert_eq!((after.producer_id, after.producer_epoch, after.base_sequence), (77, 2, 500));
        prop_assert!(after.attributes.is_transactional());
        let expected: Vec<_> = records.iter().zip(&keep).filter(|(_, keep)| **keep).map(|(r, _)| r.clone()).collect();
        prop_assert_eq!(read(&filtered), expected);
    }
}

#[test]
fn an_empty_batch_still_covers_its_offsets() {
    let source = build(&[plain("a"), plain("b"), plain("c")], Compression::Lz4);
    let header = BatchHeader::parse(&source).unwrap();
    let empty = BatchBuilder::like(&header).base_offset(42).finish().unwrap();
    assert_eq!(empty.len(), HEADER_BYTES);
    let header = BatchHeader::parse(&empty).unwrap();
    assert_eq!((header.records_count, header.next_offset()), (0, 45));
    assert_eq!(header.compression(), Compression::None);
    assert!(read(&empty).is_empty());
}

#[test]
fn repeated_header_keys_are_kept_in_order() {
    let mut record = plain("v");
    record.headers = vec![(b"k".to_vec(), Some(b"1".to_vec())), (b"k".to_vec(), None)];
    assert_eq!(
        read(&build(std::slice::from_ref(&record), Compression::None)),
        vec![record]
    );
}

#[test]
fn batches_that_lie_one_behind_the_other_are_walked() {
    let mut bytes = Vec::new();
    for (offset, codec) in (0..).zip(Compression::ALL) {
        if codec.is_supported() {
            bytes.extend(fill(
                BatchBuilder::new().base_offset(offset).compression(codec),
                &[plain("x")],
            ));
        }
    }
    assert!(batches(&bytes).all(|batch| batch.unwrap().verify_crc().is_ok()));
    let cut = &bytes[..bytes.len() - 1];
    let last = batches(cut).last().unwrap();
    assert!(matches!(last, Err(BatchError::Truncated { .. })), "{last:?}");
}

#[test]
fn log_append_time_is_the_time_of_every_record() {
    let batch = fill(BatchBuilder::new().log_append_time(99), &[plain("a"), plain("b")]);
    assert!(read(&batch).iter().all(|record| record.timestamp == 99));
}

#[test]
fn offset_deltas_must_rise_and_stay_within_the_batch() {
    let mut builder = BatchBuilder::new().last_offset_delta(5);
    let mut append = |delta| builder.append_raw(delta, 0, None, None, Headers::default());
    append(3).unwrap();
    assert_eq!(append(3), Err(BuildError::OffsetDelta { delta: 3, last: 3 }));
    assert_eq!(append(6), Err(BuildError::OffsetDelta { delta: 6, last: 3 }));
    append(5).unwrap();
}

#[test]
fn sequence_numbers_wrap() {
    let batch = fill(
        BatchBuilder::new().producer(1, 0, i32::MAX),
        &[plain("a"), plain("b")],
    );
    assert_eq!(validate(&batch, &LIMITS).unwrap().header.last_sequence(), 0);
}

fn plain(value: &str) -> Owned {
    Owned {
        timestamp: 7,
        key: None,
        value: Some(value.as_bytes().to_vec()),
        headers: vec![],
    }
}
