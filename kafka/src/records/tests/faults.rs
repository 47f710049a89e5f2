//! Damage is found, or does no harm; nothing panics.

use super::*;

proptest! {
    #[test]
    fn a_flipped_bit_is_found_or_lies_before_the_checksum(
        records in records(), codec in codec(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut batch = build(&records, codec).to_vec();
        let at = at.index(batch.len());
        batch[at] ^= 1u8 << bit;
        match validate(&batch, &LIMITS) {
            // Base offset and leader epoch are the leader's to write, and not covered.
            Ok(_) => prop_assert!(at < 8 || (12..16).contains(&at), "byte {} was changed", at),
            Err(_) => prop_assert!(!(12..16).contains(&at)),
        }
    }

    #[test]
    fn a_flipped_bit_under_a_right_checksum_never_panics(
        records in records(), codec in codec(), at in any::<prop::sample::Index>(), bit in 0u8..8,
    ) {
        let mut batch = build(&records, codec).to_vec();
        let at = 21 + at.index(batch.len() - 21);
        batch[at] ^= 1u8 << bit;
        read_all(&with_right_crc(batch));
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_all(&bytes);
        let mut batch = build(&[], Compression::None).to_vec();
        batch.extend(bytes);
        let length = (batch.len() - LOG_OVERHEAD_BYTES) as i32;
        batch[8..12].copy_from_slice(&length.to_be_bytes());
        for count in [1u32, 2, 3, 1000] {
            batch[57..61].copy_from_slice(&count.to_be_bytes());
            batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            read_all(&with_right_crc(batch.clone()));
        }
    }
}

/// Every way to read `bytes`; the records that are found agree with the spans.
fn read_all(bytes: &[u8]) {
    let _ = validate(bytes, &LIMITS);
    let mut scratch = Scratch::new();
    for batch in batches(bytes).flatten() {
        if let Ok(records) = batch.records(&mut scratch, LIMIT) {
            for record in records.flatten() {
                assert_eq!(record.headers.iter().count(), record.headers.len());
            }
        }
    }
}

#[test]
fn each_fault_has_its_name() {
    let good = build(&[record_of(b"value")], Compression::None);
    let changed = |at: usize, bytes: &[u8]| {
        let mut batch = good.to_vec();
        batch[at..at + bytes.len()].copy_from_slice(bytes);
        validate(&with_right_crc(batch), &LIMITS).unwrap_err()
    };
    assert_eq!(changed(16, &[1]), BatchError::UnsupportedMagic(1));
    assert_eq!(changed(16, &[0]).kind(), BatchErrorKind::UnsupportedFormat);
    assert_eq!(changed(16, &[3]), BatchError::UnknownMagic(3));
    assert_eq!(changed(8, &[0xff; 4]), BatchError::Length(-1));
    assert_eq!(changed(8, &[0x7f; 4]).kind(), BatchErrorKind::TooLarge);
    assert_eq!(changed(21, &[0, 7]), BatchError::UnknownCompression(7));
    assert_eq!(changed(21, &[0, 0x20]).kind(), BatchErrorKind::Invalid);
    assert_eq!(changed(21, &[0, 0x10]).kind(), BatchErrorKind::Invalid);
    assert_eq!(
        changed(57, &[0, 0, 0, 2]),
        BatchError::Field {
            field: "recordsCount",
            value: 2
        }
    );
    assert_eq!(
        changed(23, &[0, 0, 0, 2]),
        BatchError::Field {
            field: "recordsCount",
            value: 1
        }
    );
    assert_eq!(changed(0, &[0xff]).kind(), BatchErrorKind::Invalid);
    assert!(matches!(
        changed(21, &[0, 3]),
        BatchError::Compressed { codec: "lz4", .. }
    ));
}

#[test]
fn a_wrong_checksum_is_told_with_both_values() {
    let mut batch = build(&[record_of(b"value")], Compression::None).to_vec();
    batch[70] ^= 1;
    assert!(matches!(validate(&batch, &LIMITS), Err(BatchError::Crc { .. })));
}

#[test]
fn one_batch_is_one_batch() {
    let batch = build(&[record_of(b"value")], Compression::None);
    assert_eq!(
        validate(&[&batch[..], &batch[..]].concat(), &LIMITS),
        Err(BatchError::NotOneBatch)
    );
    assert!(matches!(
        validate(&batch[..batch.len() - 1], &LIMITS),
        Err(BatchError::Truncated { .. })
    ));
    assert!(matches!(
        validate(&[], &LIMITS),
        Err(BatchError::Truncated { .. })
    ));
}

#[test]
fn an_old_message_that_is_shorter_than_a_header_is_told_apart() {
    assert_eq!(BatchHeader::parse(&[0; 30]), Err(BatchError::UnsupportedMagic(0)));
}

#[test]
fn offsets_must_count_from_zero() {
    let mut builder = BatchBuilder::new();
    builder.append_raw(1, 0, None, None, Headers::default()).unwrap();
    builder.append_raw(2, 0, None, None, Headers::default()).unwrap();
    let mut batch = builder.finish().unwrap().to_vec();
    batch[23..27].copy_from_slice(&1u32.to_be_bytes());
    let fault = validate(&with_right_crc(batch), &LIMITS);
    assert_eq!(
        fault,
        Err(BatchError::Record {
            index: 0,
            reason: "offset deltas must count from 0"
        })
    );
}

#[test]
fn a_batch_over_the_limit_is_refused_before_its_bytes_are_looked_at() {
    let batch = build(&[record_of(&[0; 1000])], Compression::None);
    let limits = Limits {
        batch_bytes_max: 500,
        ..LIMITS
    };
    assert!(matches!(
        validate(&batch[..100], &limits),
        Err(BatchError::TooLarge { limit: 500, .. })
    ));
}

#[test]
fn a_record_that_expands_beyond_the_limit_is_refused() {
    let batch = build(&[record_of(&vec![0; 300_000])], Compression::Lz4);
    let limits = Limits {
        decompressed_bytes_max: 100_000,
        ..LIMITS
    };
    let fault = validate(&batch, &limits).unwrap_err();
    assert_eq!(fault, BatchError::DecompressedTooLarge { limit: 100_000 });
    assert_eq!(fault.kind(), BatchErrorKind::TooLarge);
}

fn record_of(value: &[u8]) -> Owned {
    Owned {
        timestamp: 0,
        key: None,
        value: Some(value.to_vec()),
        headers: vec![],
    }
}
