//! Any bytes as the records of a batch whose header and checksum are right, so that the input reaches the
//! codecs and the records. What passes is built again, record by record, and must say the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_kafka::records::{BatchBuilder, BatchHeader, BatchView, HEADER_BYTES, LOG_OVERHEAD_BYTES};
use millstream_kafka::records::{Compression, Limits, Scratch, crc32c, validate};

fuzz_target!(|input: (u8, u16, &[u8])| {
    let (codec, count, payload) = input;
    let codec = Compression::ALL[usize::from(codec) % Compression::ALL.len()];
    let batch = batch_of(codec, i32::from(count) + 1, payload);
    let limits = Limits {
        batch_bytes_max: LIMIT,
        decompressed_bytes_max: LIMIT,
    };
    if validate(&batch, &limits).is_ok() {
        build_again(&batch);
    }
});

fn batch_of(codec: Compression, count: i32, payload: &[u8]) -> Vec<u8> {
    let empty = BatchBuilder::new()
        .finish()
        .expect("an empty batch can always be built");
    let mut header = BatchHeader::parse(&empty).expect("what the builder builds can be parsed");
    header.batch_length = (HEADER_BYTES - LOG_OVERHEAD_BYTES + payload.len()) as i32;
    header.attributes = header.attributes.with_compression(codec);
    header.records_count = count;
    header.last_offset_delta = count - 1;
    let mut batch = header.to_bytes().to_vec();
    batch.extend_from_slice(payload);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn build_again(batch: &[u8]) {
    let (mut scratch, mut scratch_again) = (Scratch::new(), Scratch::new());
    let view = BatchView::parse(batch).expect("a validated batch can be parsed");
    let data = view
        .data(&mut scratch, LIMIT)
        .expect("a validated batch can be decompressed");
    let mut builder = BatchBuilder::like(view.header());
    for span in view.spans(data) {
        let span = span.expect("a validated batch has whole records");
        let timestamp = view.header().timestamp_of(span.timestamp_delta);
        let headers = span.headers_in(data);
        builder
            .append_raw(
                span.offset_delta,
                timestamp,
                span.key_in(data),
                span.value_in(data),
                headers,
            )
            .expect("offsets of a validated batch rise");
    }
    let again = builder.finish().expect("no larger than it was");
    let view_again = BatchView::parse(&again).expect("what the builder builds can be parsed");
    view_again
        .verify_crc()
        .expect("what the builder builds has its checksum");
    let data_again = view_again
        .data(&mut scratch_again, LIMIT * 2)
        .expect("what was compressed can be read");
    let records = view.spans(data).zip(view_again.spans(data_again));
    for (before, after) in records {
        let (before, after) = (before.expect("read before"), after.expect("built well"));
        assert_eq!(before.offset_delta, after.offset_delta);
        assert_eq!(before.timestamp_delta, after.timestamp_delta);
        assert_eq!(before.key_in(data), after.key_in(data_again));
        assert_eq!(before.value_in(data), after.value_in(data_again));
        assert_eq!(before.headers_in(data), after.headers_in(data_again));
    }
}

const LIMIT: usize = 1 << 20;
