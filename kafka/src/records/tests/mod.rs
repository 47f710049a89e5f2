//! Batches as a story: made, checked, read again, damaged.

mod codecs;
mod faults;
mod oracle;
mod round_trip;
mod stamping;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

/// A record that owns its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Owned {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Owned {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect()
    }
}

impl From<Record<'_>> for Owned {
    fn from(record: Record<'_>) -> Self {
        Self {
            timestamp: record.timestamp,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record
                .headers
                .iter()
                .map(|header| (header.key.to_vec(), header.value.map(<[u8]>::to_vec)))
                .collect(),
        }
    }
}

fn record() -> impl Strategy<Value = Owned> {
    let part = || prop::option::weighted(0.9, prop::collection::vec(any::<u8>(), 0..200));
    let key = prop::sample::select(vec!["a", "b", "trace-id", ""]).prop_map(|key| key.as_bytes().to_vec());
    let headers = prop::collection::vec((key, part()), 0..4);
    (0i64..1 << 41, part(), part(), headers).prop_map(|(timestamp, key, value, headers)| Owned {
        timestamp,
        key,
        value,
        headers,
    })
}

fn records() -> impl Strategy<Value = Vec<Owned>> {
    prop::collection::vec(record(), 1..40)
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(
        Compression::ALL
            .into_iter()
            .filter(|codec| codec.is_supported())
            .collect::<Vec<_>>(),
    )
}

fn build(records: &[Owned], codec: Compression) -> Bytes {
    fill(BatchBuilder::new().compression(codec), records)
}

fn fill(mut builder: BatchBuilder, records: &[Owned]) -> Bytes {
    for record in records {
        builder
            .append(
                record.timestamp,
                record.key.as_deref(),
                record.value.as_deref(),
                &record.headers(),
            )
            .unwrap();
    }
    builder.finish().unwrap()
}

fn read(batch: &[u8]) -> Vec<Owned> {
    let mut scratch = Scratch::new();
    let view = BatchView::parse(batch).unwrap();
    view.verify_crc().unwrap();
    view.records(&mut scratch, LIMIT)
        .unwrap()
        .map(|record| record.unwrap().into())
        .collect()
}

/// A batch whose bytes were changed, with a checksum that fits again.
fn with_right_crc(mut batch: Vec<u8>) -> Vec<u8> {
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

const LIMIT: usize = 1 << 20;
const LIMITS: Limits = Limits {
    batch_bytes_max: LIMIT,
    decompressed_bytes_max: LIMIT,
};
