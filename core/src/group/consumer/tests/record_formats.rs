//! Bytes that Kafka 4.3.1's own classes wrote.

use super::*;
use crate::group::RecordError;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).unwrap()).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

/// Both ways.
fn check(part: Part, key: &str, value: ConsumerValue, written: &str) {
    let record = super::record(&GROUP.into(), part, Some(value));
    assert_eq!(
        Record::decode(&bytes(key), Some(&bytes(written))),
        Ok(record.clone())
    );
    assert_eq!(record.encode(), (bytes(key), Some(bytes(written))));
    let tombstone = Record {
        value: None,
        ..record
    };
    assert_eq!(Record::decode(&bytes(key), None), Ok(tombstone));
}

fn topic_id() -> TopicId {
    TopicId(Uuid::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10))
}

fn held(pairs: &[(i32, i32)]) -> Held {
    let partitions = pairs
        .iter()
        .map(|(partition, epoch)| (PartitionIndex(*partition), *epoch));
    Held::from([(topic_id(), partitions.collect())])
}

#[test]
fn groups_and_targets_are_written_as_kafka_does() {
    let group = |metadata_hash| {
        ConsumerValue::Group(EpochValue {
            epoch: 7,
            metadata_hash,
        })
    };
    check(
        Part::Group,
        "0003000167",
        group(-2),
        "000000000007010008fffffffffffffffe",
    );
    check(Part::Group, "0003000167", group(0), "00000000000700");
    let target = TargetValue {
        epoch: 9,
        made_ms: 1_234_567_890_123,
    };
    let written = "0000000000090100080000011f71fb04cb";
    check(Part::Target, "0006000167", ConsumerValue::Target(target), written);
    let partitions = Partitions::from([(topic_id(), [0, 2].map(PartitionIndex).into())]);
    let written = "0000020102030405060708090a0b0c0d0e0f100300000000000000020000";
    check(
        Part::TargetOf("m".into()),
        "000700016700016d",
        ConsumerValue::TargetOf(partitions),
        written,
    );
}

#[test]
fn members_are_written_as_kafka_does() {
    let member = MemberValue {
        instance: Some("i".to_owned()),
        client_id: "c".to_owned(),
        client_host: "/h".to_owned(),
        topics: ["a".into(), "b".into()].into(),
        pattern: Some("t.*".into()),
        rebalance_timeout_ms: 300_000,
        assignor: Some("range".to_owned()),
        ..MemberValue::default()
    };
    let written = "00000269000263032f68030261026204742e2a000493e00672616e676501000100";
    check(
        Part::Member("m".into()),
        "000500016700016d",
        ConsumerValue::Member(member),
        written,
    );
    let classic = MemberValue {
        rack: Some("r".to_owned()),
        rebalance_timeout_ms: -1,
        classic: Some(ClassicValue {
            session_timeout_ms: 10_000,
            protocols: vec![("range".to_owned(), [1, 2, 3].into())],
        }),
        ..MemberValue::default()
    };
    let written = "000000027201010100ffffffff000100120100002710020672616e6765040102030000";
    check(
        Part::Member("m".into()),
        "000500016700016d",
        ConsumerValue::Member(classic),
        written,
    );
}

#[test]
fn assignments_and_patterns_are_written_as_kafka_does() {
    let current = CurrentValue {
        epoch: 5,
        previous_epoch: 4,
        state: MemberState::UnrevokedPartitions,
        assigned: held(&[(0, 3), (2, 5)]),
        revoking: held(&[(1, 4)]),
    };
    let written = "0000000000050000000401020102030405060708090a0b0c0d0e0f1003000000000000000201000903000000030000000\
                   5020102030405060708090a0b0c0d0e0f100200000001010005020000000400";
    let part = Part::Current("m".into());
    check(
        part.clone(),
        "000800016700016d",
        ConsumerValue::Current(current.clone()),
        &written.replace(' ', ""),
    );
    // Brokers before 4.3 wrote no epochs.
    let old = "0000000000050000000400020102030405060708090a0b0c0d0e0f10030000000000000002000100";
    let read = Record::decode(&bytes("000800016700016d"), Some(&bytes(old))).unwrap();
    let expected = CurrentValue {
        state: MemberState::Stable,
        assigned: held(&[(0, 5), (2, 5)]),
        revoking: Held::new(),
        ..current
    };
    assert_eq!(
        read,
        super::record(&GROUP.into(), part, Some(ConsumerValue::Current(expected)))
    );
    let pattern = PatternValue {
        topics: ["a".into(), "tt".into()].into(),
        version: 12,
        resolved_ms: 34,
    };
    let written = "0000030261037474000000000000000c000000000000002200";
    check(
        Part::Pattern("t.*".into()),
        "00100001670003742e2a",
        ConsumerValue::Pattern(pattern),
        written,
    );
}

#[test]
fn damaged_and_unknown_records_are_errors() {
    let decode = |key: &str, value: &str| Record::decode(&bytes(key), Some(&bytes(value)));
    assert_eq!(decode("0004000167", "0000"), Err(RecordError::Version(4)));
    assert_eq!(decode("0003000167", "000100000007"), Err(RecordError::Version(1)));
    assert_eq!(decode("0003000167", "00000000"), Err(RecordError::Truncated));
    assert_eq!(
        decode("000500016700016d", "000000ff"),
        Err(RecordError::Truncated)
    );
    let mismatched =
        "0000000000050000000400020102030405060708090a0b0c0d0e0f1003000000000000000201000502000000030100";
    assert_eq!(decode("000800016700016d", mismatched), Err(RecordError::Length));
}
