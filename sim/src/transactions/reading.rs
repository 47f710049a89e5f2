//! How a client reads committed records, as Kafka's consumer does: it skips what the answer says was aborted.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_kafka::records::{EndTransaction, Scratch, batches};
use millstream_storage::AbortedTransaction;

/// What was read.
pub struct Seen {
    /// Offsets and values.
    pub records: Vec<(i64, String)>,
    /// Where to read next.
    pub next: i64,
}

/// The records of whole batches from `from` on that were not aborted.
pub fn committed_records(bytes: &Bytes, from: i64, aborted: &[AbortedTransaction]) -> Seen {
    let mut to_come: Vec<_> = aborted.iter().collect();
    to_come.sort_by_key(|aborted| std::cmp::Reverse(aborted.first_offset));
    let mut skipped = BTreeSet::new();
    let mut seen = Seen {
        records: Vec::new(),
        next: from,
    };
    let mut scratch = Scratch::new();
    for batch in batches(bytes).flatten() {
        let header = batch.header();
        while let Some(next) = to_come.pop_if(|next| next.first_offset.0 <= header.last_offset()) {
            skipped.insert(next.producer_id);
        }
        seen.next = seen.next.max(header.next_offset());
        if header.attributes.is_control() {
            let end = EndTransaction::of(header, batch.payload());
            if end.is_some_and(|end| !end.is_commit) {
                skipped.remove(&header.producer_id);
            }
            continue;
        }
        if header.attributes.is_transactional() && skipped.contains(&header.producer_id) {
            continue;
        }
        let Ok(records) = batch.records(&mut scratch, usize::MAX) else {
            continue;
        };
        for record in records.flatten().filter(|record| record.offset >= from) {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            seen.records.push((record.offset, value.into_owned()));
        }
    }
    seen
}

/// The records that a marker in the log says were committed, read without the index of those that were aborted.
pub fn marked_records(bytes: &Bytes) -> Vec<(i64, String)> {
    let mut open: Vec<(i64, Vec<(i64, String)>)> = Vec::new();
    let mut found = Vec::new();
    let mut scratch = Scratch::new();
    for batch in batches(bytes).flatten() {
        let header = batch.header();
        let of_it = |(producer, _): &mut (i64, _)| *producer == header.producer_id;
        if header.attributes.is_control() {
            let is_commit = EndTransaction::of(header, batch.payload()).is_some_and(|end| end.is_commit);
            let ended = open.extract_if(.., of_it).flat_map(|(_, records)| records);
            found.extend(ended.filter(|_| is_commit));
            continue;
        }
        let Ok(records) = batch.records(&mut scratch, usize::MAX) else {
            continue;
        };
        let records = records.flatten().map(|record| {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            (record.offset, value.into_owned())
        });
        open.push((header.producer_id, records.collect()));
    }
    found.sort();
    found
}
