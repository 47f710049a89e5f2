//! Random operations, crashes and faults on a simulated disk, against a model of what was appended.
//!
//! Held: what was acknowledged (synced) survives and reads back byte for byte; what is there after a crash is a front
//! part of what was appended, in order; reads never pass their bound; repeated batches are recognised, also after a
//! restart; transactions are open, stable and aborted as the batches say; damage below the recovery point is told and
//! never deletes anything.
//!
//! `MILLSTREAM_SIM_SEEDS` sets how many seeds are run, `MILLSTREAM_SIM_SEED` runs one.

#![allow(
    clippy::unwrap_used,
    reason = "a test panics when something is not as it must be"
)]

#[path = "sim/faults.rs"]
mod faults;
#[path = "sim/transactions.rs"]
mod transactions;

use std::path::Path;

use bytes::Bytes;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::{BatchBuilder, batches, stamp};
use millstream_storage::disk::{Disk, DiskFile, Open};
use millstream_storage::sim_disk::{Random, SimDisk, SimFile};
use millstream_storage::{AppendError, Appended, EndMarker, Log, LogConfig, OpenError, ReadError, Slice};

#[derive(Debug, Clone)]
struct Known {
    base: i64,
    last: i64,
    /// As it has to be in the file.
    bytes: Vec<u8>,
    /// As the producer sent it.
    sent: Bytes,
    producer: i64,
    epoch: i16,
    sequence: i32,
    /// What it says, if it ends a transaction.
    marker: Option<EndMarker>,
}

struct World {
    random: Random,
    disk: SimDisk,
    log: Log<SimDisk>,
    batches: Vec<Known>,
    start: i64,
    acknowledged: i64,
    /// Up to which everybody has it; only a truncation takes that back.
    high: i64,
    epoch: i32,
    now_ms: i64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let disk = SimDisk::new(random.next_u64(), u64::MAX / 2);
        let (log, _) = Log::open(disk.clone(), dir(), config(), NOW).unwrap();
        Self {
            random,
            disk,
            log,
            batches: Vec::new(),
            start: 0,
            acknowledged: 0,
            high: 0,
            epoch: 0,
            now_ms: NOW,
        }
    }

    fn end(&self) -> i64 {
        self.batches.last().map_or(0, |batch| batch.last + 1)
    }

    fn step(&mut self) {
        self.now_ms += 10;
        match self.random.below(100) {
            0..49 => self.append(),
            49..65 => self.sync(),
            65..75 => self.read(),
            75..77 => self.repeat(),
            77..78 => self.search_by_time(),
            78..81 => self.log.write_checkpoint().unwrap(),
            81..84 => self.crash(),
            84..86 => {
                self.disk.restart();
                self.reopen();
            }
            86..88 => {
                self.log.close().unwrap();
                self.acknowledged = self.end();
                self.crash();
            }
            88..90 => self.fail_sync(),
            90..93 => self.fill_disk(),
            93..95 => self.delete_records(),
            95..96 => self.retain(),
            96..97 => self.truncate(),
            97..98 => self.epoch += 1,
            _ => self.fail_anywhere(),
        }
        assert_eq!(self.log.log_end_offset().0, self.end());
        assert_eq!(self.log.log_start_offset().0, self.start);
        self.check_transactions();
    }

    fn epoch_of(&self, producer: i64) -> i16 {
        let mut of_producer = self.batches.iter().rev();
        of_producer
            .find(|batch| batch.producer == producer)
            .map_or(0, |batch| batch.epoch)
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let last = self.last_of(producer, 1).next();
        last.map_or(0, |at| {
            let batch = &self.batches[at];
            batch.sequence + (batch.last - batch.base) as i32 + 1
        })
    }

    /// Some batch that may follow: records or the end of a transaction.
    fn build(&mut self) -> Known {
        let producer = self.random.below(2 * PRODUCERS as u64 + 1) as i64 - 1;
        if let Some(marker) = self.build_marker(producer) {
            return marker;
        }
        let (epoch, sequence) = match producer {
            0.. => (self.epoch_of(producer), self.next_sequence(producer)),
            _ => (-1, -1),
        };
        let mut builder = BatchBuilder::new()
            .producer(producer, epoch, sequence)
            .transactional(producer >= PRODUCERS);
        for _ in 0..=self.random.below(5) {
            let value = vec![self.random.next_u64() as u8; self.random.below(700) as usize];
            builder.append(self.now_ms, None, Some(&value), &[]).unwrap();
        }
        let sent = builder.finish().unwrap();
        self.known(sent, None)
    }

    /// A batch as it will be in the log.
    fn known(&self, sent: Bytes, marker: Option<EndMarker>) -> Known {
        let base = self.end();
        let header = *batches(&sent).next().unwrap().unwrap().header();
        let mut bytes = sent.to_vec();
        bytes[..16].copy_from_slice(&stamp(&sent, base, self.epoch));
        Known {
            base,
            last: base + i64::from(header.last_offset_delta),
            bytes,
            sent,
            producer: header.producer_id,
            epoch: header.producer_epoch,
            sequence: header.base_sequence,
            marker,
        }
    }

    fn put(&mut self, batch: &Known) -> Result<Appended, AppendError> {
        let epoch = LeaderEpoch(self.epoch);
        match batch.marker {
            Some(marker) => self.log.append_marker(marker, epoch, self.now_ms),
            None => self.log.append_as_leader(&batch.sent, epoch, self.now_ms),
        }
    }

    fn append(&mut self) {
        let batch = self.build();
        let done = self.put(&batch).unwrap();
        assert_eq!(
            (done.base_offset.0, done.last_offset.0, done.is_duplicate),
            (batch.base, batch.last, false)
        );
        self.batches.push(batch);
    }

    fn sync(&mut self) {
        let handle = self.log.sync_handle();
        let target = handle.target().0;
        for _ in 0..self.random.below(3) {
            self.append();
        }
        self.disk.sync_many(&handle.files).unwrap();
        self.log.synced(handle);
        assert!(self.log.flushed_offset().0 >= target);
        self.acknowledged = self.log.flushed_offset().0;
    }

    fn crash(&mut self) {
        self.disk.crash();
        self.reopen();
    }

    /// Opens the log again, sometimes with a crash in the middle of that, and takes from the model what was lost.
    fn reopen(&mut self) {
        self.damage_an_index_of_transactions();
        if self.random.below(4) == 0 {
            // An interrupted recovery leaves nothing behind that the next one minds.
            self.disk.fail_sync_after(self.random.below(4) as u32);
            let _ = Log::open(self.disk.clone(), dir(), config(), self.now_ms);
            if self.random.below(2) == 0 {
                self.disk.crash()
            } else {
                self.disk.restart()
            }
        }
        // A full disk hinders writing, not opening and reading.
        if self.random.below(4) == 0 {
            self.disk.set_free_bytes(self.random.below(400));
        }
        let opened = Log::open(self.disk.clone(), dir(), config(), self.now_ms);
        self.log = opened.expect("what was durable is there").0;
        let end = self.log.log_end_offset().0;
        assert!(
            end >= self.acknowledged,
            "acknowledged up to {}, found {end}",
            self.acknowledged
        );
        assert!(end <= self.end(), "{end} was never appended");
        self.batches.retain(|batch| batch.last < end);
        assert_eq!(self.end(), end, "the log ends within a batch");
        assert_eq!(self.log.flushed_offset().0, end);
        self.acknowledged = end;
        self.check_all();
        self.check_transactions();
        for producer in 0..2 * PRODUCERS {
            for at in self.last_of(producer, 5).collect::<Vec<_>>() {
                self.expect_duplicate(at);
            }
        }
        self.disk.set_free_bytes(u64::MAX / 2);
    }

    /// The last batches of records that a producer wrote in its present epoch.
    fn last_of(&self, producer: i64, count: usize) -> impl Iterator<Item = usize> {
        let epoch = self.epoch_of(producer);
        let is_of_producer = move |at: &usize| {
            let batch = &self.batches[*at];
            batch.producer == producer && batch.epoch == epoch && batch.marker.is_none()
        };
        (0..self.batches.len()).rev().filter(is_of_producer).take(count)
    }

    fn expect_duplicate(&mut self, at: usize) {
        let batch = self.batches[at].clone();
        let again = self
            .log
            .append_as_leader(&batch.sent, LeaderEpoch(self.epoch), self.now_ms)
            .unwrap();
        assert_eq!(
            (again.base_offset.0, again.last_offset.0, again.is_duplicate),
            (batch.base, batch.last, true)
        );
    }

    fn repeat(&mut self) {
        let producer = self.random.below(2 * PRODUCERS as u64) as i64;
        let last = self.last_of(producer, 1).next();
        if let Some(at) = last {
            self.expect_duplicate(at);
            let next = self.next_sequence(producer) + 1;
            let mut builder = BatchBuilder::new()
                .producer(producer, self.epoch_of(producer), next)
                .transactional(producer >= PRODUCERS);
            builder.append(self.now_ms, None, None, &[]).unwrap();
            let gap = builder.finish().unwrap();
            let refused = self
                .log
                .append_as_leader(&gap, LeaderEpoch(self.epoch), self.now_ms);
            assert!(
                matches!(refused, Err(AppendError::OutOfOrderSequence { .. })),
                "{refused:?}"
            );
        }
    }

    fn check_all(&self) {
        let mut from = self.start;
        while let Some(slice) = self
            .log
            .read(Offset(from), 1000, self.log.log_end_offset(), true)
            .unwrap()
        {
            from = self.expect_batches(&bytes_of(&slice), from, self.end());
        }
        assert_eq!(from, self.end());
        self.log.verify().unwrap();
    }

    /// The batches from the one that holds `from` on, and no other; returns the offset behind them.
    fn expect_batches(&self, bytes: &[u8], from: i64, bound: i64) -> i64 {
        let mut at = self.batches.partition_point(|batch| batch.last < from);
        let mut rest = bytes;
        let mut next = from;
        while !rest.is_empty() {
            let batch = &self.batches[at];
            assert!(
                rest.starts_with(&batch.bytes),
                "batch at {} is another one",
                batch.base
            );
            assert!(batch.last < bound, "read {} beyond {bound}", batch.last);
            rest = &rest[batch.bytes.len()..];
            next = batch.last + 1;
            at += 1;
        }
        next
    }

    fn read(&mut self) {
        let from = self.start + self.random.below((self.end() - self.start) as u64 + 2) as i64;
        let flushed = self.log.flushed_offset().0;
        let bound = if self.random.below(2) == 0 {
            flushed
        } else {
            self.random.below(self.end() as u64 + 1) as i64
        };
        let bytes_max = self.random.below(6000) as usize;
        let at_least_one = self.random.below(2) == 0;
        let result = self
            .log
            .read(Offset(from), bytes_max, Offset(bound), at_least_one);
        if from > self.end() {
            assert!(matches!(result, Err(ReadError::OutOfRange { .. })));
            return;
        }
        let found = result.unwrap().map(|slice| bytes_of(&slice)).unwrap_or_default();
        let next = self.expect_batches(&found, from, bound);
        // As much as is allowed, too; a slice ends with its segment.
        if let Some(batch) = self.batches.iter().find(|batch| batch.last >= next) {
            let is_first = found.is_empty();
            let fits = found.len() + batch.bytes.len() <= bytes_max || (is_first && at_least_one);
            let begins_segment = !is_first
                && self
                    .disk
                    .list(dir())
                    .unwrap()
                    .contains(&format!("{:020}.log", batch.base));
            assert!(
                !fits || batch.last >= bound || begins_segment,
                "{from}..{bound}: stops before {}",
                batch.base
            );
        }
    }

    fn delete_records(&mut self) {
        let to = self.start + self.random.below((self.end() - self.start) as u64 + 1) as i64;
        self.log.delete_records_before(Offset(to)).unwrap();
        self.start = to;
        self.acknowledged = self.log.flushed_offset().0;
    }

    fn retain(&mut self) {
        self.log.set_config(LogConfig {
            retention_bytes: self.random.below(20_000) as i64,
            ..config()
        });
        self.log.apply_retention(self.now_ms).unwrap();
        self.start = self.log.log_start_offset().0;
        assert!(self.start <= self.acknowledged);
        self.log.set_config(config());
    }

    /// Where the log ends after a truncation to `to`. Whole batches go; none if the log's start lies within the one that
    /// would be the first to go.
    fn cut_at(&self, to: i64) -> Option<i64> {
        let cut = self.batches.iter().find(|batch| batch.last >= to)?.base;
        (cut >= self.start && cut > 0).then_some(cut)
    }

    fn truncate(&mut self) {
        let to = self.start + self.random.below((self.end() - self.start) as u64 + 1) as i64;
        let Some(cut) = self.cut_at(to) else { return };
        self.log.truncate_to(Offset(to), self.now_ms).unwrap();
        self.batches.retain(|batch| batch.last < cut);
        self.acknowledged = self.log.flushed_offset().0;
        self.check_all();
    }

    fn search_by_time(&mut self) {
        let at = NOW + self.random.below((self.now_ms - NOW + 20) as u64) as i64;
        let time_of = |batch: &Known| {
            batches(&batch.bytes)
                .next()
                .unwrap()
                .unwrap()
                .header()
                .max_timestamp
        };
        let mut kept = self.batches.iter().filter(|batch| batch.last >= self.start);
        let expected = kept
            .find(|batch| time_of(batch) >= at)
            .map(|batch| batch.base.max(self.start));
        assert_eq!(
            self.log
                .offset_for_timestamp(at)
                .unwrap()
                .map(|found| found.offset.0),
            expected
        );
    }
}

/// Whatever bit below the recovery point changes: it is told, or the log is as it was. Nothing is deleted.
fn flip_a_durable_bit(seed: u64) {
    let mut world = World::new(seed);
    for _ in 0..30 {
        world.append();
    }
    world.log.close().unwrap();
    let size_before = world.log.size_bytes();
    let mut logs = world.disk.list(dir()).unwrap();
    logs.retain(|name| name.ends_with(".log"));
    logs.sort();
    let disk = world.disk.clone();
    let len_of = |name: &String| disk.open(&dir().join(name), Open::Read).unwrap().len().unwrap();
    let name = logs[world.random.below(logs.len() as u64) as usize].clone();
    let position = world.random.below(len_of(&name));
    world
        .disk
        .flip_bit(&dir().join(&name), position, world.random.below(8) as u8)
        .unwrap();
    world.disk.restart();
    match Log::open(world.disk.clone(), dir(), config(), NOW) {
        Err(OpenError::Damaged { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok((log, recovery)) => {
            assert_eq!((recovery.truncated_bytes, log.size_bytes()), (0, size_before));
            let is_covered = {
                let mut at = 0;
                let batch = world.batches.iter().find(|batch| {
                    let here = logs
                        .iter()
                        .rev()
                        .find(|n| n.as_str() <= format!("{:020}.log", batch.base).as_str());
                    let begins = if here == Some(&name) { at } else { u64::MAX };
                    if here == Some(&name) {
                        at += batch.bytes.len() as u64;
                    }
                    begins <= position && position < at
                });
                let batch = batch.expect("each byte is of a batch");
                // Where the records are checksummed; before that lie offset, length, epoch, magic and checksum.
                at - position <= batch.bytes.len() as u64 - 21
            };
            let verified = log.verify();
            assert!(
                !is_covered || matches!(verified, Err(ReadError::Damaged { .. })),
                "the damage went unnoticed"
            );
        }
    }
    assert_eq!(
        logs.iter().map(len_of).sum::<u64>(),
        size_before,
        "damage deleted data"
    );
}

#[test]
fn whatever_happens_nothing_acknowledged_is_lost() {
    run_seeds(|seed| {
        let mut world = World::new(seed);
        for _ in 0..60 {
            world.step();
        }
        world.crash();
    });
}

#[test]
fn durable_data_that_changed_is_told_and_kept() {
    run_seeds(flip_a_durable_bit);
}

/// Runs `story` for each seed. A seed that fails is printed.
fn run_seeds(story: impl Fn(u64)) {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|value| value.parse::<u64>().expect("a number"))
    };
    let seeds = match number("MILLSTREAM_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MILLSTREAM_SIM_SEEDS").unwrap_or(3000),
    };
    for seed in seeds {
        if let Err(panic) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| story(seed))) {
            eprintln!("failed with seed {seed}; replay with MILLSTREAM_SIM_SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

fn bytes_of(slice: &Slice<SimFile>) -> Vec<u8> {
    let mut bytes = vec![0; slice.len];
    assert_eq!(slice.file.read_at(&mut bytes, slice.position).unwrap(), slice.len);
    bytes
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 12_000,
        index_interval_bytes: 1000,
        ..LogConfig::default()
    }
}

fn dir() -> &'static Path {
    Path::new("data/topic-0")
}

/// Producers without transactions, and as many with.
const PRODUCERS: i64 = 3;
const NOW: i64 = 1_700_000_000_000;
