//! The rules, and what has to be remembered to see them broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::cluster::{Image, Partition};
use millstream_core::ids::BrokerId;
use millstream_kafka::records::{Scratch, batches};

use crate::bus::Life;
use crate::layout::Layout;
use crate::transactions::{Ledger, check_assignment};

/// Watches over a simulation.
pub struct Judge {
    /// Which topics there are.
    pub layout: &'static Layout,
    /// What transactions have done.
    pub ledger: Ledger,
    /// The first rule that was broken, and how.
    pub broken: Option<String>,
    /// Records that producers were told are safe, by partition and offset.
    acked: BTreeMap<(i32, i64), (String, i32)>,
    /// Records that readers saw.
    seen: BTreeMap<(i32, i64), String>,
    /// Where each value was seen: an idempotent write is there once.
    places: BTreeMap<(i32, String), i64>,
    /// One past the last record that was acknowledged, by partition.
    ends: BTreeMap<i32, i64>,
    /// Where each producer's last acknowledged batch begins, by partition.
    lasts: BTreeMap<(i32, String), i64>,
    leaders: BTreeMap<(i32, i32), Life>,
    durable: BTreeMap<(u64, i32), i64>,
    /// The largest offset before which records were deleted.
    starts: BTreeMap<i32, i64>,
    reader_highs: BTreeMap<u64, i64>,
    reader_stables: BTreeMap<u64, i64>,
    latest: Arc<Image>,
}

impl Judge {
    pub fn new(layout: &'static Layout) -> Self {
        Self {
            layout,
            ledger: Ledger::default(),
            broken: None,
            acked: BTreeMap::new(),
            seen: BTreeMap::new(),
            places: BTreeMap::new(),
            ends: BTreeMap::new(),
            lasts: BTreeMap::new(),
            leaders: BTreeMap::new(),
            durable: BTreeMap::new(),
            starts: BTreeMap::new(),
            reader_highs: BTreeMap::new(),
            reader_stables: BTreeMap::new(),
            latest: Arc::default(),
        }
    }

    /// A rule is broken. Only the first one is kept: others may follow from it.
    pub fn breaks(&mut self, rule: impl FnOnce() -> String) {
        self.broken.get_or_insert_with(rule);
    }

    /// Number of records that were acknowledged.
    pub fn acked(&self) -> usize {
        self.acked.len()
    }

    /// A producer is told by the leader of this epoch that its records are safe.
    pub fn acknowledged(&mut self, partition: i32, epoch: i32, base: i64, values: &[String]) {
        let end = self.ends.entry(partition).or_default();
        *end = (*end).max(base + values.len() as i64);
        if let Some((producer, _)) = values.first().and_then(|value| value.split_once('-')) {
            self.lasts.insert((partition, producer.to_owned()), base);
        }
        for (offset, value) in (base..).zip(values) {
            let (known, _) = self
                .acked
                .entry((partition, offset))
                .or_insert_with(|| (value.clone(), epoch));
            if known != value {
                let rule = format!(
                    "offset {offset} of partition {partition} was acknowledged for {known} and for {value}"
                );
                self.breaks(|| rule);
            }
            self.fits(partition, offset, value, "acknowledged");
        }
    }

    /// A reader got these bytes, asking from `next` on, from a leader whose high watermark was `high`. Gives the next
    /// offset.
    pub fn read(&mut self, reader: u64, partition: i32, next: i64, bytes: &Bytes) -> i64 {
        let mut expected = next;
        for (offset, value) in records(bytes) {
            if offset < next {
                continue;
            }
            if offset != expected {
                self.breaks(|| {
                    format!("reader {reader} of partition {partition} got offset {offset} after {expected}")
                });
            }
            expected = offset + 1;
            let known = self
                .seen
                .entry((partition, offset))
                .or_insert_with(|| value.clone());
            if *known != value {
                let rule = format!(
                    "offset {offset} of partition {partition} was {known} for one reader and {value} for another"
                );
                self.breaks(|| rule);
            }
            self.fits(partition, offset, &value, "read");
        }
        expected
    }

    /// A reader hears of a high watermark, of a leader that knows it.
    pub fn heard_high(&mut self, reader: u64, partition: i32, high: i64) {
        let known = self.reader_highs.entry(reader).or_default();
        let before = std::mem::replace(known, high.max(*known));
        if high < before {
            self.breaks(|| {
                format!("the high watermark of partition {partition} went back from {before} to {high} for a reader")
            });
        }
    }

    /// A reader of committed records hears where what is undecided begins, of a leader that knows it.
    pub fn heard_stable(&mut self, reader: u64, partition: i32, stable: i64) {
        let known = self.reader_stables.entry(reader).or_default();
        let before = std::mem::replace(known, stable.max(*known));
        if stable < before {
            self.breaks(|| {
                format!("the last stable offset of partition {partition} went back from {before} to {stable} for a reader")
            });
        }
    }

    /// A reader of committed records got these.
    pub fn saw_committed(&mut self, reader: u64, partition: i32, records: &[(i64, String)]) {
        let seen = self.ledger.saw(reader, self.layout.at(partition), records);
        self.must(seen);
    }

    /// A rule of transactions holds, or not.
    pub fn must(&mut self, kept: Result<(), String>) {
        if let Err(rule) = kept {
            self.broken.get_or_insert(rule);
        }
    }

    /// What lies before `end` was told to be safe.
    pub fn safe(&mut self, partition: i32, end: i64) {
        let known = self.ends.entry(partition).or_default();
        *known = end.max(*known);
    }

    /// Up to where records may be deleted: no producer's last batch. Who copies a log that lacks it cannot know that the
    /// producer sends it again. It is so with Kafka, and not the mistake that is looked for here.
    pub fn deletable(&self, partition: i32) -> i64 {
        let lasts = self
            .lasts
            .range((partition, String::new())..(partition + 1, String::new()));
        let known: Vec<_> = lasts.map(|(_, base)| *base).collect();
        match known.len() >= PRODUCERS {
            true => known.into_iter().min().unwrap_or(0),
            false => 0,
        }
    }

    /// Records before `start` are deleted.
    pub fn begins(&mut self, partition: i32, start: i64) {
        let known = self.starts.entry(partition).or_default();
        *known = start.max(*known);
    }

    /// A broker leads a partition from now on with this log. What was acknowledged in later epochs it may lack: it leads
    /// late, and does not know yet that it does not lead any more.
    pub fn leads(&mut self, life: Life, partition: i32, epoch: i32, log_end: i64, log: &Bytes) {
        let first = *self.leaders.entry((partition, epoch)).or_insert(life);
        if first != life {
            self.breaks(|| {
                format!("{first:?} and {life:?} both lead partition {partition} in epoch {epoch}")
            });
        }
        let held: BTreeMap<i64, String> = records(log).into_iter().collect();
        let begin = self.starts.get(&partition).copied().unwrap_or(0);
        let safe = self.acked.range((partition, begin)..(partition + 1, 0));
        let lost = safe
            .into_iter()
            .filter(|(_, (_, acknowledged_in))| *acknowledged_in < epoch)
            .find(|((_, offset), (value, _))| held.get(offset) != Some(value));
        if let Some(((_, offset), (value, _))) = lost {
            let found = held.get(offset);
            let rule = format!(
                "{life:?} leads partition {partition} in epoch {epoch} up to {log_end} and lacks {value}, acknowledged at offset \
                 {offset}: it has {found:?}"
            );
            self.breaks(|| rule);
        }
    }

    /// A node holds everything before `end` on its disk, and nothing behind it for sure.
    pub fn durable(&mut self, node: u64, partition: i32, end: i64) {
        let before = self.durable.insert((node, partition), end).unwrap_or(0);
        if end < before {
            self.holds_all(node, partition);
        }
    }

    /// A node has an image. Who is in sync in it, if it is the newest, holds everything that was acknowledged.
    pub fn image(&mut self, image: &Arc<Image>) {
        if image.version() <= self.latest.version() {
            return;
        }
        self.latest = image.clone();
        self.must(check_assignment(image));
        for partition in self.ends.keys().copied().collect::<Vec<_>>() {
            for id in self
                .entry(partition)
                .map(|entry| entry.isr.clone())
                .unwrap_or_default()
            {
                self.holds_all(id.0 as u64, partition);
            }
        }
    }

    fn holds_all(&mut self, node: u64, partition: i32) {
        let id = BrokerId(node as i32);
        let is_in_sync = self.entry(partition).is_some_and(|entry| entry.isr.contains(&id));
        let held = self.durable.get(&(node, partition)).copied().unwrap_or(0);
        let end = self.ends.get(&partition).copied().unwrap_or(0);
        if is_in_sync && held < end {
            self.breaks(|| {
                format!("broker {id} is in sync in partition {partition} and has {held} on its disk, but {end} are acknowledged")
            });
        }
    }

    /// Whether the newest image says that a node leads in an epoch.
    pub fn is_leader(&self, node: u64, partition: i32, epoch: i32) -> bool {
        let entry = self.entry(partition);
        entry
            .is_some_and(|entry| entry.leader_epoch.0 == epoch && entry.leader == Some(BrokerId(node as i32)))
    }

    /// A leader's high watermark is at `high` now.
    pub fn high(&mut self, node: u64, partition: i32, epoch: i32, high: i64) {
        if !self.is_leader(node, partition, epoch) {
            return;
        }
        let isr = self.entry(partition).map(|entry| entry.isr.clone());
        for id in isr.unwrap_or_default() {
            let held = self.durable.get(&(id.0 as u64, partition)).copied().unwrap_or(0);
            if held < high {
                self.breaks(|| {
                    format!(
                        "broker {id} is in sync in partition {partition} and has {held} on its disk, but the high watermark is \
                         {high}"
                    )
                });
            }
        }
    }

    /// The logs of a partition as all nodes have them, each up to its high watermark.
    pub fn compare(&mut self, partition: i32, logs: &[(u64, Bytes)]) {
        let mut known: BTreeMap<i64, (u64, Bytes)> = BTreeMap::new();
        for (node, log) in logs {
            for batch in batches(log) {
                let Ok(batch) = batch else {
                    self.breaks(|| format!("node {node} has a damaged batch in partition {partition}"));
                    continue;
                };
                let base = batch.header().base_offset;
                let bytes = Bytes::copy_from_slice(batch.bytes());
                let (other, same) = known.entry(base).or_insert_with(|| (*node, bytes.clone()));
                if *same != bytes {
                    let rule = format!(
                        "nodes {other} and {node} differ in partition {partition} at offset {base}, which is safe"
                    );
                    self.breaks(|| rule);
                }
            }
            for (offset, value) in records(log) {
                self.fits(partition, offset, &value, "stored");
            }
        }
    }

    /// The log of a leader when all is well again: it holds everything that was acknowledged, and every value once.
    pub fn ends_with(&mut self, partition: i32, log: &Bytes) {
        let held: BTreeMap<i64, String> = records(log).into_iter().collect();
        let begin = self.starts.get(&partition).copied().unwrap_or(0);
        let safe = self.acked.range((partition, begin)..(partition + 1, 0));
        let lost = safe
            .into_iter()
            .find(|((_, offset), (value, _))| held.get(offset) != Some(value));
        if let Some(((_, offset), (value, _))) = lost {
            let rule = format!("{value}, acknowledged at offset {offset} of partition {partition}, is lost");
            self.breaks(|| rule);
        }
        for (offset, value) in held {
            self.fits(partition, offset, &value, "stored");
        }
    }

    /// The newest image that any node has.
    pub fn latest(&self) -> &Arc<Image> {
        &self.latest
    }

    /// The newest entry of a partition.
    pub fn entry(&self, partition: i32) -> Option<&Partition> {
        self.layout.entry(&self.latest, partition)
    }

    /// Every value has one place, and every offset one value, whoever says so.
    fn fits(&mut self, partition: i32, offset: i64, value: &str, how: &str) {
        if !self.layout.holds_values(partition) {
            return;
        }
        let place = self.places.entry((partition, value.to_owned())).or_insert(offset);
        if *place != offset {
            let place = *place;
            self.breaks(|| {
                format!(
                    "{value} is {how} at offset {offset} of partition {partition}, and was at {place} before"
                )
            });
        }
        for known in [
            self.acked.get(&(partition, offset)).map(|(value, _)| value),
            self.seen.get(&(partition, offset)),
        ] {
            if let Some(known) = known.filter(|known| *known != value) {
                let rule = format!(
                    "offset {offset} of partition {partition} was {known}, and {value} is {how} there"
                );
                self.broken.get_or_insert(rule);
            }
        }
    }
}

/// Producers of a partition.
pub const PRODUCERS: usize = 2;

/// The records of whole batches; markers are records, too.
pub fn records(bytes: &Bytes) -> Vec<(i64, String)> {
    let mut found = Vec::new();
    let mut scratch = Scratch::new();
    for batch in batches(bytes).flatten() {
        let header = batch.header();
        if header.attributes.is_control() {
            let (offset, producer, epoch) = (header.base_offset, header.producer_id, header.producer_epoch);
            found.push((offset, format!("marker {offset} of {producer}.{epoch}")));
            continue;
        }
        let Ok(records) = batch.records(&mut scratch, usize::MAX) else {
            continue;
        };
        for record in records.flatten() {
            let value = String::from_utf8_lossy(record.value.unwrap_or_default());
            found.push((record.offset, value.into_owned()));
        }
    }
    found
}
