//! Bytes of records, as Kafka writes them.

use super::*;

#[test]
fn an_offset_commit_has_kafkas_bytes() {
    let record = Record {
        key: Key::Offset {
            group: "g".into(),
            topic: "t".into(),
            partition: 2,
        },
        value: Some(Value::Offset(OffsetValue {
            offset: 5,
            leader_epoch: -1,
            metadata: "m".to_owned(),
            commit_ms: 7,
            expire_ms: -1,
        })),
    };
    let (key, value) = record.encode();
    assert_eq!(key, [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2]);
    let expected = [
        0, 3, 0, 0, 0, 0, 0, 0, 0, 5, 255, 255, 255, 255, 0, 1, b'm', 0, 0, 0, 0, 0, 0, 0, 7,
    ];
    assert_eq!(value.as_deref(), Some(&expected[..]));
}

#[test]
fn other_versions_of_kafkas_records_are_read() {
    let key = [0, 1, 0, 1, b'g', 0, 1, b't', 0, 0, 0, 2];
    let old = [
        &[0, 1][..],
        &5_i64.to_be_bytes(),
        &[0, 0],
        &7_i64.to_be_bytes(),
        &9_i64.to_be_bytes(),
    ]
    .concat();
    let read = Record::decode(&key, Some(&old)).unwrap();
    assert!(
        matches!(read.value, Some(Value::Offset(o)) if (o.offset, o.commit_ms, o.expire_ms) == (5, 7, 9))
    );
    // Version 4 has compact texts, and tagged fields at the end.
    let new = [
        &[0, 4][..],
        &5_i64.to_be_bytes(),
        &3_i32.to_be_bytes(),
        &[2, b'm'],
        &7_i64.to_be_bytes(),
        &[0],
    ]
    .concat();
    let read = Record::decode(&key, Some(&new)).unwrap();
    assert!(
        matches!(read.value, Some(Value::Offset(o)) if (o.offset, o.leader_epoch, o.metadata.as_str()) == (5, 3, "m"))
    );
    let group_key = [0, 2, 0, 1, b'g'];
    let new = [
        &[0, 4, 9][..],
        b"consumer",
        &4_i32.to_be_bytes(),
        &[6],
        b"range",
        &[2, b'a'],
        &8_i64.to_be_bytes(),
        &[2, 2, b'a', 0, 2, b'c', 2, b'h'],
        &1_i32.to_be_bytes(),
        &2_i32.to_be_bytes(),
        &[2, 7, 2, 8, 0, 0],
    ]
    .concat();
    let Some(Value::Group(group)) = Record::decode(&group_key, Some(&new)).unwrap().value else {
        panic!("a group")
    };
    let member = &group.members["a"];
    assert_eq!(
        (group.generation, member.rebalance_timeout_ms, &*member.assignment),
        (4, 1, &[8][..])
    );
}

#[test]
fn damaged_records_are_errors() {
    assert_eq!(Record::decode(&[0, 4, 0, 0], None), Err(RecordError::Version(4)));
    assert_eq!(Record::decode(&[0], None), Err(RecordError::Truncated));
    assert_eq!(
        Record::decode(&[0, 2, 0x7f, 0xff], None),
        Err(RecordError::Length)
    );
    assert_eq!(Record::decode(&[0, 2, 0, 1, 0xff], None), Err(RecordError::Text));
    let huge_count = [
        &[0, 3][..],
        &[0, 0],
        &[0; 4],
        &[255, 255, 255, 255],
        &[0; 8],
        &[0x7f, 255, 255, 255],
    ]
    .concat();
    assert_eq!(
        Record::decode(&[0, 2, 0, 1, b'g'], Some(&huge_count)),
        Err(RecordError::Length)
    );
}
