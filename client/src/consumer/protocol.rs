//! What members of a consumer group tell each other through the coordinator, and how partitions are dealt out.
//!
//! Formats are those of Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`; only what every
//! version of them has is read, so that members of any version get along.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::metadata::TopicPartition;

/// Kafka's name of this way to deal out partitions.
pub(crate) const RANGE: &str = "range";
/// Kafka's name of groups whose members are consumers.
pub(crate) const CONSUMER_PROTOCOL: &str = "consumer";

/// What a member wants: its topics.
pub(crate) fn write_subscription(topics: &[String]) -> Bytes {
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(topics.len() as i32);
    for topic in topics {
        put_text(&mut out, topic);
    }
    out.put_i32(-1);
    out.freeze()
}

/// The topics a member wants; `None` where the bytes are no subscription.
pub(crate) fn read_subscription(mut bytes: &[u8]) -> Option<Vec<String>> {
    bytes.try_get_i16().ok()?;
    (0..take_count(&mut bytes)?)
        .map(|_| take_text(&mut bytes))
        .collect()
}

/// What a member gets: its partitions.
pub(crate) fn write_assignment(partitions: &[TopicPartition]) -> Bytes {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for at in partitions {
        by_topic.entry(&at.topic).or_default().push(at.partition);
    }
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        put_text(&mut out, topic);
        out.put_i32(partitions.len() as i32);
        partitions
            .into_iter()
            .for_each(|partition| out.put_i32(partition));
    }
    out.put_i32(-1);
    out.freeze()
}

/// The partitions a member gets; `None` where the bytes are no assignment. No bytes are no partitions.
pub(crate) fn read_assignment(mut bytes: &[u8]) -> Option<Vec<TopicPartition>> {
    if bytes.is_empty() {
        return Some(Vec::new());
    }
    bytes.try_get_i16().ok()?;
    let mut assigned = Vec::new();
    for _ in 0..take_count(&mut bytes)? {
        let topic = take_text(&mut bytes)?;
        for _ in 0..take_count(&mut bytes)? {
            assigned.push(TopicPartition::new(topic.clone(), bytes.try_get_i32().ok()?));
        }
    }
    Some(assigned)
}

/// Deals out each topic in ranges of neighbouring partitions, as Kafka's range assignor does: members in order of
/// their id, the first ones get one more where it does not come out even.
///
/// `members`: id and wanted topics. `partitions`: how many each topic has; unknown topics are left out.
pub(crate) fn assign_ranges(
    members: &[(String, Vec<String>)],
    partitions: &BTreeMap<String, i32>,
) -> BTreeMap<String, Vec<TopicPartition>> {
    let mut assigned: BTreeMap<String, Vec<TopicPartition>> = members
        .iter()
        .map(|(member, _)| (member.clone(), Vec::new()))
        .collect();
    for (topic, count) in partitions {
        let mut wanting: Vec<&String> = members
            .iter()
            .filter(|(_, topics)| topics.contains(topic))
            .map(|(member, _)| member)
            .collect();
        wanting.sort_unstable();
        let mut next = 0;
        for (place, member) in wanting.iter().enumerate() {
            let share =
                *count as usize / wanting.len() + usize::from(place < *count as usize % wanting.len());
            let range = next..next + share as i32;
            next = range.end;
            let mine = assigned.get_mut(*member).expect("every member has an entry");
            mine.extend(range.map(|partition| TopicPartition::new(topic.clone(), partition)));
        }
    }
    assigned
}

fn put_text(out: &mut BytesMut, text: &str) {
    let text = &text.as_bytes()[..text.len().min(i16::MAX as usize)];
    out.put_i16(text.len() as i16);
    out.put_slice(text);
}

/// A count that the bytes at hand can hold at all: an element has two bytes or more.
fn take_count(bytes: &mut &[u8]) -> Option<usize> {
    let count = usize::try_from(bytes.try_get_i32().ok()?).ok()?;
    (count <= bytes.len() / 2).then_some(count)
}

fn take_text(bytes: &mut &[u8]) -> Option<String> {
    let length = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let (text, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(std::str::from_utf8(text).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(topic: &str, partitions: &[i32]) -> Vec<TopicPartition> {
        partitions
            .iter()
            .map(|p| TopicPartition::new(topic, *p))
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let topics = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(read_subscription(&write_subscription(&topics)), Some(topics));
        let mut assigned = parts("a", &[0, 3]);
        assigned.extend(parts("b", &[1]));
        assert_eq!(read_assignment(&write_assignment(&assigned)), Some(assigned));
    }

    #[test]
    fn nonsense_is_no_assignment_and_takes_no_memory() {
        assert_eq!(read_assignment(&[0, 0, 0x7f, 0xff, 0xff, 0xff]), None);
        assert_eq!(read_subscription(&[0, 0, 0, 0, 0, 1, 0x7f, 0xff]), None);
        assert_eq!(read_assignment(&[]), Some(Vec::new()));
        let whole = write_assignment(&parts("flights", &[0, 1, 2]));
        for cut in 1..whole.len() - 4 {
            assert_eq!(read_assignment(&whole[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn ranges_are_dealt_out_as_kafka_does() {
        let both = vec!["t".to_owned(), "u".to_owned()];
        let members = vec![
            ("m2".to_owned(), both.clone()),
            ("m1".to_owned(), both),
            ("m3".to_owned(), vec!["u".to_owned()]),
        ];
        let dealt = assign_ranges(
            &members,
            &BTreeMap::from([("t".to_owned(), 5), ("u".to_owned(), 2)]),
        );
        assert_eq!(dealt["m1"], [parts("t", &[0, 1, 2]), parts("u", &[0])].concat());
        assert_eq!(dealt["m2"], [parts("t", &[3, 4]), parts("u", &[1])].concat());
        assert_eq!(dealt["m3"], []);
    }
}
