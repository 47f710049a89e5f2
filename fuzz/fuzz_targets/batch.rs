//! Any bytes as a run of batches: parsed, checked and iterated without a panic or a sanitizer's complaint.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_kafka::records::{Limits, Scratch, batches, validate};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits {
        batch_bytes_max: LIMIT,
        decompressed_bytes_max: LIMIT,
    };
    let _ = validate(bytes, &limits);
    let mut scratch = Scratch::new();
    for batch in batches(bytes).flatten() {
        let _ = batch.verify_crc();
        if let Ok(records) = batch.records(&mut scratch, LIMIT) {
            for record in records.flatten() {
                assert_eq!(record.headers.iter().count(), record.headers.len());
            }
        }
    }
});

const LIMIT: usize = 1 << 20;
