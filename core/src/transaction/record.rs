//! Records of `__transaction_state` in Kafka's binary formats.
//!
//! Keys: `TransactionLogKey` (version 0). Values: `TransactionLogValue` (read 0 and 1, written 1). Each begins with its
//! version.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Outcome, TransactionState};
pub use crate::record_bytes::RecordError;
use crate::record_bytes::{Input, Output};

/// One record: what is so of a transactional id now, or none where it is forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Transactional id, at most 32767 bytes long.
    pub transactional_id: Arc<str>,
    /// What is so now.
    pub value: Option<TransactionValue>,
}

/// A transactional id: who may use it, and the transaction that is open or was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionValue {
    /// Producer id that the transaction writes under.
    pub producer_id: i64,
    /// Producer id of the last transaction that ended; -1 if none (KIP-890).
    pub previous_producer_id: i64,
    /// Producer id that the producer goes on with when the transaction has ended; -1 if the same (KIP-890).
    pub next_producer_id: i64,
    /// Epoch of the producer id; -1 before the first.
    pub producer_epoch: i16,
    /// Epoch of `next_producer_id`; -1 if none.
    pub next_producer_epoch: i16,
    /// After which an open transaction is aborted, in milliseconds.
    pub timeout_ms: i32,
    /// State, as Kafka numbers it, from 0 to 5; 0 if there has been no transaction under this producer id and epoch.
    pub status: i8,
    /// Partitions of the transaction, sorted, by topic. Status 0 has none, and they are not written.
    pub partitions: BTreeMap<Arc<str>, Vec<i32>>,
    /// When this was last changed, in milliseconds since 1970.
    pub last_update_ms: i64,
    /// When the transaction was begun, in milliseconds since 1970; -1 if there is none.
    pub start_ms: i64,
    /// Version of transactions that the producer speaks: 2 with KIP-890, 0 or 1 before.
    pub client_version: i16,
}

impl Record {
    /// Key and value as bytes.
    pub fn encode(&self) -> (Vec<u8>, Option<Vec<u8>>) {
        let mut key = Output::default();
        key.i16(KEY_VERSION);
        key.text(&self.transactional_id);
        (key.bytes, self.value.as_ref().map(TransactionValue::encode))
    }

    /// Reads a record; none if it is about something that only newer brokers know.
    ///
    /// # Errors
    /// Damaged bytes, or a value of a version that is not known.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<Self>, RecordError> {
        let mut input = Input::new(key);
        if input.i16()? != KEY_VERSION {
            return Ok(None);
        }
        Ok(Some(Self {
            transactional_id: input.whole(Input::text)?.into(),
            value: value
                .map(|bytes| Input::new(bytes).whole(TransactionValue::decode))
                .transpose()?,
        }))
    }
}

impl TransactionValue {
    /// What was decided with this record, if it decides a transaction: its partitions are to be told still.
    pub fn outcome(&self) -> Option<Outcome> {
        TransactionState::from_log(self.status).outcome()
    }

    fn encode(&self) -> Vec<u8> {
        let mut output = Output::flexible();
        output.i16(1);
        output.i64(self.producer_id);
        output.i16(self.producer_epoch);
        output.i32(self.timeout_ms);
        output.i8(self.status);
        if self.status == STATUS_EMPTY {
            output.count(None);
        } else {
            output.count(Some(self.partitions.len()));
            for (topic, partitions) in &self.partitions {
                output.text(topic);
                output.count(Some(partitions.len()));
                for partition in partitions {
                    output.i32(*partition);
                }
                output.tags(&[]);
            }
        }
        output.i64(self.last_update_ms);
        output.i64(self.start_ms);
        output.tags(&self.tags());
        output.bytes
    }

    /// The tagged fields that are not what they are without.
    fn tags(&self) -> Vec<(u32, Vec<u8>)> {
        let mut tags = Vec::new();
        for (tag, id) in [
            (TAG_PREVIOUS_PRODUCER_ID, self.previous_producer_id),
            (TAG_NEXT_PRODUCER_ID, self.next_producer_id),
        ] {
            if id != -1 {
                tags.push((tag, id.to_be_bytes().to_vec()));
            }
        }
        if self.client_version != 0 {
            tags.push((TAG_CLIENT_VERSION, self.client_version.to_be_bytes().to_vec()));
        }
        if self.next_producer_epoch != -1 {
            tags.push((
                TAG_NEXT_PRODUCER_EPOCH,
                self.next_producer_epoch.to_be_bytes().to_vec(),
            ));
        }
        tags
    }

    fn decode(input: &mut Input<'_>) -> Result<Self, RecordError> {
        input.version(0..=1, 1)?;
        let mut value = Self {
            producer_id: input.i64()?,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: input.i16()?,
            next_producer_epoch: -1,
            timeout_ms: input.i32()?,
            status: decode_status(input)?,
            partitions: decode_partitions(input)?,
            last_update_ms: input.i64()?,
            start_ms: input.i64()?,
            client_version: 0,
        };
        input.tagged(|tag, field| {
            match tag {
                TAG_PREVIOUS_PRODUCER_ID => value.previous_producer_id = field.whole(Input::i64)?,
                TAG_NEXT_PRODUCER_ID => value.next_producer_id = field.whole(Input::i64)?,
                TAG_CLIENT_VERSION => value.client_version = field.whole(Input::i16)?,
                TAG_NEXT_PRODUCER_EPOCH => value.next_producer_epoch = field.whole(Input::i16)?,
                _ => {}
            }
            Ok(())
        })?;
        if value.status == STATUS_EMPTY {
            value.partitions.clear();
        }
        Ok(value)
    }
}

/// Kafka has more numbers, for what it never writes.
fn decode_status(input: &mut Input<'_>) -> Result<i8, RecordError> {
    let status = input.i8()?;
    if (STATUS_EMPTY..=STATUS_COMPLETE_ABORT).contains(&status) {
        Ok(status)
    } else {
        Err(RecordError::State(status))
    }
}

/// Kafka writes them in no order, and each once.
fn decode_partitions(input: &mut Input<'_>) -> Result<BTreeMap<Arc<str>, Vec<i32>>, RecordError> {
    let mut topics = BTreeMap::<Arc<str>, Vec<i32>>::new();
    for _ in 0..input.count()? {
        let partitions = topics.entry(input.text()?.into()).or_default();
        for _ in 0..input.count()? {
            partitions.push(input.i32()?);
        }
        input.tags()?;
    }
    for partitions in topics.values_mut() {
        partitions.sort_unstable();
        partitions.dedup();
    }
    Ok(topics)
}

const KEY_VERSION: i16 = 0;

/// The first status, which has no list of partitions.
const STATUS_EMPTY: i8 = 0;
/// The last status.
const STATUS_COMPLETE_ABORT: i8 = 5;

const TAG_PREVIOUS_PRODUCER_ID: u32 = 0;
const TAG_NEXT_PRODUCER_ID: u32 = 1;
const TAG_CLIENT_VERSION: u32 = 2;
const TAG_NEXT_PRODUCER_EPOCH: u32 = 3;

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn ongoing() -> TransactionValue {
        TransactionValue {
            producer_id: 1,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 2,
            next_producer_epoch: -1,
            timeout_ms: 3,
            status: 1,
            partitions: [("t".into(), vec![4, 5])].into(),
            last_update_ms: 6,
            start_ms: 7,
            client_version: 0,
        }
    }

    fn record(value: Option<TransactionValue>) -> Record {
        Record {
            transactional_id: "id".into(),
            value,
        }
    }

    const KEY: &[u8] = &[0, 0, 0, 2, b'i', b'd'];

    #[test]
    fn an_ongoing_transaction_has_kafkas_bytes() {
        let (key, value) = record(Some(ongoing())).encode();
        assert_eq!(key, KEY);
        let expected = [
            &[0, 1][..],
            &1_i64.to_be_bytes(),
            &[0, 2, 0, 0, 0, 3, 1],
            &[2, 2, b't', 3, 0, 0, 0, 4, 0, 0, 0, 5, 0],
            &6_i64.to_be_bytes(),
            &7_i64.to_be_bytes(),
            &[0],
        ]
        .concat();
        assert_eq!(value, Some(expected));
    }

    #[test]
    fn what_kip_890_adds_is_in_tagged_fields_in_order() {
        let value = TransactionValue {
            previous_producer_id: 8,
            next_producer_id: 9,
            next_producer_epoch: 0,
            client_version: 2,
            ..ongoing()
        };
        let (_, bytes) = record(Some(value.clone())).encode();
        let tags = [
            &[4, 0, 8][..],
            &8_i64.to_be_bytes(),
            &[1, 8],
            &9_i64.to_be_bytes(),
            &[2, 2, 0, 2, 3, 2, 0, 0],
        ]
        .concat();
        let bytes = bytes.unwrap();
        assert!(bytes.ends_with(&tags), "{bytes:?}");
        assert_eq!(Record::decode(KEY, Some(&bytes)), Ok(Some(record(Some(value)))));
    }

    #[test]
    fn an_id_without_a_transaction_has_no_list_of_partitions() {
        let empty = TransactionValue {
            status: STATUS_EMPTY,
            partitions: BTreeMap::new(),
            ..ongoing()
        };
        let (_, bytes) = record(Some(empty.clone())).encode();
        let bytes = bytes.unwrap();
        assert_eq!(bytes[16..18], [0, 0], "status, and a compact null");
        assert_eq!(Record::decode(KEY, Some(&bytes)), Ok(Some(record(Some(empty)))));
        let mut listed = first_version();
        listed[16] = 0;
        let Ok(Some(read)) = Record::decode(KEY, Some(&listed)) else {
            panic!("it can be read")
        };
        assert!(read.value.unwrap().partitions.is_empty(), "nor does a list count");
        let (key, none) = record(None).encode();
        assert_eq!((Record::decode(&key, None), none), (Ok(Some(record(None))), None));
    }

    /// Bytes that Kafka's own classes wrote.
    #[test]
    fn kafkas_bytes_are_read_and_written() {
        let ongoing = TransactionValue {
            producer_id: 4000,
            previous_producer_id: -1,
            next_producer_id: -1,
            producer_epoch: 7,
            next_producer_epoch: -1,
            timeout_ms: 60_000,
            status: 1,
            partitions: [
                ("__consumer_offsets".into(), vec![31]),
                ("orders".into(), vec![0, 2]),
            ]
            .into(),
            last_update_ms: 1_700_000_000_123,
            start_ms: 1_700_000_000_001,
            client_version: 0,
        };
        let with_kip_890 = TransactionValue {
            previous_producer_id: 3000,
            next_producer_id: 5000,
            next_producer_epoch: 0,
            client_version: 2,
            ..ongoing.clone()
        };
        let empty = TransactionValue {
            status: STATUS_EMPTY,
            partitions: BTreeMap::new(),
            start_ms: -1,
            ..ongoing.clone()
        };
        for (value, first, second) in [
            (ongoing, Some(FIRST_ONGOING), SECOND_ONGOING),
            (with_kip_890, None, SECOND_WITH_KIP_890),
            (empty, Some(FIRST_EMPTY), SECOND_EMPTY),
        ] {
            let record = Record {
                transactional_id: "payments-1".into(),
                value: Some(value),
            };
            let (key, bytes) = record.encode();
            assert_eq!(
                (hex(&key), bytes.map(|bytes| hex(&bytes))),
                (KAFKAS_KEY.to_owned(), Some(second.to_owned()))
            );
            for bytes in first.into_iter().chain([second]) {
                assert_eq!(
                    Record::decode(&key, Some(&from_hex(bytes))),
                    Ok(Some(record.clone()))
                );
            }
        }
    }

    const KAFKAS_KEY: &str = "0000000a7061796d656e74732d31";
    const FIRST_ONGOING: &str = "00000000000000000fa000070000ea60010000000200125f5f636f6e73756d65725f6f66667365747300000001000000\
        1f00066f72646572730000000200000000000000020000018bcfe5687b0000018bcfe56801";
    const SECOND_ONGOING: &str = "00010000000000000fa000070000ea600103135f5f636f6e73756d65725f6f666673657473020000001f00076f726465\
        7273030000000000000002000000018bcfe5687b0000018bcfe5680100";
    const SECOND_WITH_KIP_890: &str = "00010000000000000fa000070000ea600103135f5f636f6e73756d65725f6f666673657473020000001f00076f726465\
        7273030000000000000002000000018bcfe5687b0000018bcfe568010400080000000000000bb8010800000000000013\
        880202000203020000";
    const FIRST_EMPTY: &str = "00000000000000000fa000070000ea6000ffffffff0000018bcfe5687bffffffffffffffff";
    const SECOND_EMPTY: &str = "00010000000000000fa000070000ea6000000000018bcfe5687bffffffffffffffff00";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn from_hex(text: &str) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
        (0..text.len()).step_by(2).map(digits).collect()
    }

    /// The first version of a value has plain lengths and no tagged fields. Kafka has the partitions in the order of a hash.
    fn first_version() -> Vec<u8> {
        [
            &[0, 0][..],
            &1_i64.to_be_bytes(),
            &[0, 2, 0, 0, 0, 3, 1],
            &[0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 4],
            &6_i64.to_be_bytes(),
            &7_i64.to_be_bytes(),
        ]
        .concat()
    }

    #[test]
    fn records_of_older_and_newer_brokers_are_read() {
        let read = Record::decode(KEY, Some(&first_version()));
        assert_eq!(read, Ok(Some(record(Some(ongoing())))));
        let mut newer = record(Some(ongoing())).encode().1.unwrap();
        newer.pop();
        newer.extend([1, 9, 3, 1, 2, 3]);
        assert_eq!(
            Record::decode(KEY, Some(&newer)),
            Ok(Some(record(Some(ongoing())))),
            "a tag that is not known"
        );
        assert_eq!(
            Record::decode(&[0, 1, 7], Some(&[7])),
            Ok(None),
            "a key that is not known"
        );
        assert_eq!(
            Record::decode(KEY, Some(&[0, 2])),
            Err(RecordError::Version(2)),
            "a value that is not known"
        );
    }

    #[test]
    fn damaged_records_are_errors() {
        let whole = first_version();
        for end in 0..whole.len() {
            assert!(Record::decode(KEY, Some(&whole[..end])).is_err(), "cut at {end}");
        }
        let of_status = |status| [&whole[..16], &[status], &whole[17..]].concat();
        for (damaged, error) in [
            (of_status(6), RecordError::State(6)),
            (of_status(255), RecordError::State(-1)),
            ([&whole[..], &[0]].concat(), RecordError::Overlong),
            (
                [&whole[..17], &[255, 255, 255, 254]].concat(),
                RecordError::Length,
            ),
            (
                [&whole[..17], &[127, 255, 255, 255]].concat(),
                RecordError::Length,
            ),
            (
                [&whole[..17], &[0, 0, 0, 1, 0, 1, 255]].concat(),
                RecordError::Text,
            ),
        ] {
            assert_eq!(Record::decode(KEY, Some(&damaged)), Err(error));
        }
        assert_eq!(Record::decode(&[], None), Err(RecordError::Truncated));
        assert_eq!(Record::decode(&KEY[..5], None), Err(RecordError::Length));
        assert_eq!(
            Record::decode(&[KEY, &[0]].concat(), None),
            Err(RecordError::Overlong)
        );
        let mut tagged = record(Some(ongoing())).encode().1.unwrap();
        tagged.pop();
        for (tags, error) in [
            (&[1, 2, 1, 0][..], RecordError::Truncated),
            (&[1, 2, 3, 0, 0, 0], RecordError::Overlong),
            (&[1, 2, 3, 0], RecordError::Truncated),
        ] {
            assert_eq!(
                Record::decode(KEY, Some(&[&tagged[..], tags].concat())),
                Err(error)
            );
        }
    }

    fn any_value() -> impl Strategy<Value = TransactionValue> {
        let ids = (any::<i64>(), -1..2_i64, -1..2_i64, any::<i16>(), -1..2_i16);
        let topics = btree_map(".{0,9}", btree_set(any::<i32>(), 0..4), 0..4);
        let rest = (
            any::<i32>(),
            STATUS_EMPTY..=STATUS_COMPLETE_ABORT,
            any::<i64>(),
            any::<i64>(),
            -1..3_i16,
        );
        (ids, topics, rest).prop_map(|(ids, topics, rest)| TransactionValue {
            producer_id: ids.0,
            previous_producer_id: ids.1,
            next_producer_id: ids.2,
            producer_epoch: ids.3,
            next_producer_epoch: ids.4,
            timeout_ms: rest.0,
            status: rest.1,
            partitions: topics
                .into_iter()
                .filter(|_| rest.1 != STATUS_EMPTY)
                .map(|(topic, partitions)| (topic.into(), partitions.into_iter().collect()))
                .collect(),
            last_update_ms: rest.2,
            start_ms: rest.3,
            client_version: rest.4,
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(id in ".{0,20}", value in proptest::option::of(any_value())) {
            let written = Record { transactional_id: id.into(), value };
            let (key, value) = written.encode();
            prop_assert_eq!(Record::decode(&key, value.as_deref()), Ok(Some(written)));
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            key in vec(any::<u8>(), 0..20),
            mut value in vec(any::<u8>(), 0..200),
            version in 0..3_u8,
            known in any::<bool>(),
        ) {
            if value.len() > 1 {
                value[..2].copy_from_slice(&[0, version]);
            }
            let key = if known { KEY } else { &key };
            if let Ok(Some(read)) = Record::decode(key, Some(&value)) {
                let (key, value) = read.encode();
                prop_assert_eq!(Record::decode(&key, value.as_deref()), Ok(Some(read)));
            }
        }

        #[test]
        fn a_flipped_byte_is_read_or_refused(value in any_value(), at in any::<prop::sample::Index>(), bits in 1..=255_u8) {
            let (key, value) = Record { transactional_id: "id".into(), value: Some(value) }.encode();
            let mut value = value.expect("it has one");
            let at = at.index(value.len());
            value[at] ^= bits;
            let _ = Record::decode(&key, Some(&value));
        }
    }
}
