//! The crate `kafka-protocol` reads what we write and writes what we read.
//!
//! It merges headers of one key, so headers have distinct keys here; that ours are kept is tested elsewhere.

use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records::{self as theirs, RecordBatchDecoder, RecordBatchEncoder, RecordEncodeOptions};

use super::*;

proptest! {
    #[test]
    fn it_reads_what_we_write(records in records(), codec in codec()) {
        let records = with_distinct_keys(records);
        let mut batch = build(&records, codec);
        let set = RecordBatchDecoder::decode(&mut batch).unwrap();
        prop_assert_eq!(set.records.iter().map(ours).collect::<Vec<_>>(), records);
    }

    #[test]
    fn we_read_what_it_writes(records in records(), codec in codec()) {
        let records = with_distinct_keys(records);
        let theirs: Vec<_> = (0..).zip(&records).map(|(offset, record)| their_record(offset, record)).collect();
        let mut bytes = bytes::BytesMut::new();
        let options = RecordEncodeOptions { version: 2, compression: their_codec(codec) };
        RecordBatchEncoder::encode(&mut bytes, &theirs, &options).unwrap();
        validate(&bytes, &LIMITS).unwrap();
        prop_assert_eq!(read(&bytes), records);
    }
}

fn with_distinct_keys(mut records: Vec<Owned>) -> Vec<Owned> {
    for record in &mut records {
        let mut seen = std::collections::HashSet::new();
        record.headers.retain(|(key, _)| seen.insert(key.clone()));
    }
    records
}

fn ours(record: &theirs::Record) -> Owned {
    Owned {
        timestamp: record.timestamp,
        key: record.key.as_ref().map(|key| key.to_vec()),
        value: record.value.as_ref().map(|value| value.to_vec()),
        headers: record
            .headers
            .iter()
            .map(|(key, value)| {
                (
                    key.as_bytes().to_vec(),
                    value.as_ref().map(|value| value.to_vec()),
                )
            })
            .collect(),
    }
}

fn their_record(offset: i64, record: &Owned) -> theirs::Record {
    let headers: IndexMap<_, _> = record
        .headers
        .iter()
        .map(|(key, value)| {
            let key = String::from_utf8(key.clone()).unwrap();
            (StrBytes::from_string(key), value.clone().map(Bytes::from))
        })
        .collect();
    theirs::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: theirs::TimestampType::Creation,
        offset,
        sequence: offset as i32,
        timestamp: record.timestamp,
        key: record.key.clone().map(Bytes::from),
        value: record.value.clone().map(Bytes::from),
        headers,
    }
}

fn their_codec(codec: Compression) -> theirs::Compression {
    match codec {
        Compression::None => theirs::Compression::None,
        Compression::Gzip => theirs::Compression::Gzip,
        Compression::Snappy => theirs::Compression::Snappy,
        Compression::Lz4 => theirs::Compression::Lz4,
        Compression::Zstd => theirs::Compression::Zstd,
    }
}
