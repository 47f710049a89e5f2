//! What must hold of transactions, and what has to be remembered to see it broken.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_core::transaction::Producer;

use super::job::{Job, Stage};
use super::member::Grants;
use crate::layout::{INPUT, LANES};

/// Knows all transactions, by their producer.
#[derive(Default)]
pub struct Ledger {
    producer_ids: i64,
    /// Whether each was committed.
    outcomes: BTreeMap<Producer, bool>,
    attempts: BTreeMap<Producer, Attempt>,
    /// How often each job was to be brought on.
    tries: BTreeMap<Job, u64>,
    /// Workers were told that these are committed.
    told: BTreeSet<Producer>,
    /// Who has each transactional id.
    holders: BTreeMap<Arc<str>, Producer>,
    /// Where the next transaction of each job begins, as far as coordinators have decided.
    positions: BTreeMap<Job, i64>,
    /// As far as all partitions know.
    finished: BTreeMap<Job, i64>,
    commits: BTreeMap<Job, u64>,
    /// What members of groups were given.
    grants: BTreeMap<&'static str, Grants>,
    /// The number that each reader is to see next, of each source and each way to where it reads.
    next: BTreeMap<(u64, Way), i64>,
    /// When faults ended: what each job had committed, and where each place ended.
    healed: Option<(BTreeMap<Job, u64>, BTreeMap<i32, i64>)>,
}

/// What a transaction is to do: bring a job from one offset to another.
#[derive(Debug, Clone, Copy)]
struct Attempt {
    job: Job,
    from: i64,
    to: i64,
}

/// Topic and partition, the source of the numbers, and the partition of `in` that they went through.
type Way = (&'static str, i32, i32, i64);

/// A value: a number of a source, and the transaction that it was written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Value {
    pub source: i32,
    pub number: i64,
    by: Option<Producer>,
}

impl Value {
    pub fn parse(text: &str) -> Option<Self> {
        let (what, by) = match text.split_once('@') {
            Some((what, by)) => (what, Some(by.split_once('.')?)),
            None => (text, None),
        };
        let (source, number) = what.split_once('-')?;
        let by = match by {
            Some((id, epoch)) => Some(Producer {
                id: id.parse().ok()?,
                epoch: epoch.parse().ok()?,
            }),
            None => None,
        };
        Some(Self {
            source: source.parse().ok()?,
            number: number.parse().ok()?,
            by,
        })
    }

    /// As it is written in a transaction of that producer.
    pub fn written_by(self, producer: Producer) -> String {
        let (source, number) = (self.source, self.number);
        format!("{source}-{number}@{}.{}", producer.id, producer.epoch)
    }
}

impl Ledger {
    /// What members of a group were given.
    pub fn grants(&mut self, group: &'static str) -> &mut Grants {
        self.grants.entry(group).or_default()
    }

    /// An id that no producer has had.
    pub fn fresh_producer_id(&mut self) -> i64 {
        self.producer_ids += 1;
        self.producer_ids
    }

    /// Somebody has the transactional id from now on.
    pub fn has_id(&mut self, id: &Arc<str>, producer: Producer) {
        self.holders.insert(id.clone(), producer);
    }

    /// A worker is about to bring its job from one offset to another.
    pub fn attempts(&mut self, job: Job, producer: Producer, (from, to): (i64, i64)) {
        self.attempts.insert(producer, Attempt { job, from, to });
        *self.tries.entry(job).or_default() += 1;
    }

    /// How often workers of a transform were about to commit.
    pub fn tries(&self, stage: Stage) -> u64 {
        stage.jobs().filter_map(|job| self.tries.get(&job)).sum()
    }

    /// What a coordinator has decided is safe. Markers carry the epoch that follows that of the transaction (KIP-890).
    pub fn decided(&mut self, id: &str, marked: Producer, is_commit: bool) -> Result<(), String> {
        let by = before(marked);
        match self.outcomes.insert(by, is_commit) {
            Some(known) if known == is_commit => return Ok(()),
            Some(_) => return Err(format!("the transaction {by:?} of {id} is committed and aborted")),
            None => {}
        }
        if !is_commit {
            return match self.told.contains(&by) {
                true => Err(format!(
                    "the transaction {by:?} of {id} was told to be committed, and is aborted"
                )),
                false => Ok(()),
            };
        }
        let Some(attempt) = self.attempts.get(&by) else {
            return Err(format!(
                "the transaction {by:?} of {id} is committed, which nobody wanted"
            ));
        };
        let position = self.positions.entry(attempt.job).or_default();
        if *position != attempt.from {
            return Err(format!(
                "the transaction {by:?} of {id} goes from {} to {}, but the one before ended at {position}",
                attempt.from, attempt.to
            ));
        }
        *position = attempt.to;
        *self.commits.entry(attempt.job).or_default() += 1;
        Ok(())
    }

    /// All markers of a transaction are safe.
    pub fn finished(&mut self, _: &str, marked: Producer) {
        let by = before(marked);
        if self.outcomes.get(&by) == Some(&true)
            && let Some(attempt) = self.attempts.get(&by)
        {
            self.finished.insert(attempt.job, attempt.to);
        }
    }

    /// A worker hears that its transaction is committed.
    pub fn told(&mut self, job: Job, by: Producer) -> Result<(), String> {
        self.told.insert(by);
        match self.outcomes.get(&by) {
            Some(false) => Err(format!(
                "{} hears that {by:?} is committed, which was aborted",
                job.id()
            )),
            _ => Ok(()),
        }
    }

    /// A worker that has taken its transactional id hears where to go on. Transactions of before are over then, and only
    /// its own can come.
    pub fn located(&self, job: Job, producer: Producer, offset: i64) -> Result<(), String> {
        let position = self.positions.get(&job).copied().unwrap_or(0);
        let is_holder = self.holders.get(&job.id()) == Some(&producer);
        match !is_holder || offset == position {
            true => Ok(()),
            false => Err(format!(
                "{} hears that {offset} is committed, where its output is at {position}",
                job.id()
            )),
        }
    }

    /// Somebody who is to see only what was committed saw these.
    pub fn all_committed(&self, who: &str, records: &[(i64, String)]) -> Result<(), String> {
        for (offset, text) in records {
            let by = Value::parse(text).and_then(|value| value.by);
            let outcome = by.and_then(|by| self.outcomes.get(&by));
            if outcome != Some(&true) {
                let what = match outcome {
                    Some(_) => "was aborted",
                    None => "is not decided",
                };
                return Err(format!("{who} sees {text} at offset {offset}, which {what}"));
            }
        }
        Ok(())
    }

    /// A reader saw these.
    pub fn saw(
        &mut self,
        reader: u64,
        (topic, partition): (&'static str, i32),
        records: &[(i64, String)],
    ) -> Result<(), String> {
        self.all_committed(&format!("reader {reader}"), records)?;
        for (offset, text) in records {
            let value = Value::parse(text).expect("it was read a moment ago");
            let way = (topic, partition, value.source, value.number % LANES as i64);
            let stride = stride(topic);
            let first = first(way);
            let next = self.next.entry((reader, way)).or_insert(first);
            if *next != value.number {
                return Err(format!(
                    "reader {reader} of {topic}-{partition} sees {text} at offset {offset}, and was to see {next} of it"
                ));
            }
            *next += stride;
        }
        Ok(())
    }

    /// Faults have ended; `ends` tells where the places end.
    pub fn heals(&mut self, ends: BTreeMap<i32, i64>) {
        self.healed = Some((self.commits.clone(), ends));
    }

    /// Where a place ended then.
    pub fn end_at_healing(&self, place: i32) -> i64 {
        let ends = self.healed.as_ref().and_then(|(_, ends)| ends.get(&place));
        ends.copied().unwrap_or(0)
    }

    /// A job that has not gone on since.
    pub fn lacking(&self) -> Option<String> {
        let (commits, _) = self.healed.as_ref()?;
        let count = |commits: &BTreeMap<Job, u64>, job| commits.get(&job).copied().unwrap_or(0);
        let stands = |job: &Job| count(&self.commits, *job) < count(commits, *job) + 3;
        let job = Job::all().find(stands)?;
        Some(format!(
            "{} has committed {} transactions and no more",
            job.id(),
            count(&self.commits, job)
        ))
    }

    /// How many transactions were committed.
    pub fn commits(&self) -> u64 {
        self.commits.values().sum()
    }

    /// The end: what was committed in each partition, by topic and partition.
    pub fn ends_with(
        &mut self,
        committed: &BTreeMap<(&'static str, i32), Vec<(i64, String)>>,
    ) -> Result<(), String> {
        for ((topic, partition), records) in committed {
            self.saw(JUDGE, (topic, *partition), records)?;
        }
        let values = |records: &[(i64, String)]| -> BTreeSet<(i32, i64)> {
            let values = records.iter().filter_map(|(_, text)| Value::parse(text));
            values.map(|value| (value.source, value.number)).collect()
        };
        let in_sinks = |job: Job| -> BTreeSet<(i32, i64)> {
            let (topic, _) = job.sink(0);
            let sinks = committed.iter().filter(|((name, _), _)| *name == topic);
            sinks.flat_map(|(_, records)| values(records)).collect()
        };
        for job in Job::all() {
            let end = self.finished.get(&job).copied().unwrap_or(0);
            let (topic, partition) = job.source();
            let read: BTreeSet<(i32, i64)> = match job.stage {
                Stage::Numbers => (0..end).map(|number| (job.lane, number)).collect(),
                Stage::Copies => {
                    let records = &committed[&(topic, partition)];
                    let before = records.partition_point(|(offset, _)| *offset < end);
                    values(&records[..before])
                }
            };
            let written = in_sinks(job);
            if let Some((source, number)) = read.difference(&written).next() {
                return Err(format!(
                    "{} has committed offset {end}, and its sinks lack {source}-{number}",
                    job.id()
                ));
            }
        }
        Ok(())
    }

    /// Whether a committed offset may be what a group keeps.
    pub fn offset_ends(&self, job: Job, offset: i64) -> Result<(), String> {
        let finished = self.finished.get(&job).copied().unwrap_or(0);
        let position = self.positions.get(&job).copied().unwrap_or(0);
        match (finished..=position).contains(&offset) {
            true => Ok(()),
            false => Err(format!(
                "the offset of {} is {offset}, where its output is at {finished} to {position}",
                job.id()
            )),
        }
    }
}

/// Who wrote what a marker ends.
fn before(marked: Producer) -> Producer {
    Producer {
        epoch: marked.epoch - 1,
        ..marked
    }
}

/// The first number that takes a way.
fn first((topic, partition, _, through): Way) -> i64 {
    match topic {
        INPUT => through,
        _ => through + i64::from(partition) * LANES as i64,
    }
}

/// What lies between two numbers that take the same way.
fn stride(topic: &str) -> i64 {
    match topic {
        INPUT => LANES as i64,
        _ => (LANES * LANES) as i64,
    }
}

/// The reader that reads everything in the end.
const JUDGE: u64 = 0;
