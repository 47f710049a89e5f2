//! The worker of a job: reads committed records, writes what comes of them and keeps its offset in one transaction, over
//! and over. Whoever begins takes the transactional id, and so fences who had it.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_core::ids::LeaderEpoch;
use millstream_core::mutation::{Mutation, is_on};
use millstream_core::transaction::{Producer, TransactionError};
use millstream_kafka::records::BatchBuilder;

use super::deployed::How;
use super::job::{Job, Stage};
use super::ledger::Value;
use super::verify::Asked;
use super::{Here, PartRequest, committed_records};
use crate::client::{Answer, EPOCH_MS, Request};

/// Where a job is.
pub struct Worker {
    /// As the image wanted it when this one began; none for one that the image knows nothing of.
    pub how: Option<How>,
    step: Step,
    producer: Producer,
    /// The offset that is committed.
    committed: i64,
    /// What is to be read next.
    next: i64,
    /// Next sequence number by sink.
    sequences: BTreeMap<i32, i32>,
    /// How often it reads and writes before it commits.
    rounds: u64,
    /// What it waits for.
    errands: Vec<Errand>,
    begun_ms: u64,
    idle_until_ms: u64,
    /// Does and hears nothing until then, whatever becomes of its job.
    pub stalled_until_ms: u64,
    /// Runs until then although the image does not say so.
    pub intrudes_until_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Take,
    Locate,
    Read,
    Write,
    Commit,
    End { is_commit: bool },
}

/// A question, asked until it is answered.
struct Errand {
    place: i32,
    request: Request,
    token: Option<u64>,
    again_ms: u64,
}

impl Worker {
    pub fn new(how: Option<How>) -> Self {
        Self {
            how,
            step: Step::Take,
            producer: Producer::NONE,
            committed: 0,
            next: 0,
            sequences: BTreeMap::new(),
            rounds: 0,
            errands: Vec::new(),
            begun_ms: 0,
            idle_until_ms: 0,
            stalled_until_ms: 0,
            intrudes_until_ms: 0,
        }
    }

    /// Whether it does what the image says.
    pub fn heeds(&self) -> bool {
        self.stalled_until_ms == 0 && self.intrudes_until_ms == 0
    }

    fn has_written(&self) -> bool {
        !self.sequences.is_empty()
    }
}

impl Here<'_, '_> {
    /// Begins what the image gives to this node, ends what it does not, and goes on with the rest.
    pub fn work(&mut self) {
        for job in Job::all() {
            let how = How::of(self.image, job, self.life.node);
            let known = self.parts.workers.remove(&job);
            if let Some(worker) = self.next_worker(job, known, how) {
                self.parts.workers.insert(job, worker);
            }
        }
    }

    fn next_worker(&mut self, job: Job, known: Option<Worker>, how: Option<How>) -> Option<Worker> {
        let now_ms = self.scene.now_ms;
        let mut known = known;
        if known
            .as_ref()
            .is_some_and(|worker| worker.stalled_until_ms > now_ms)
        {
            return known;
        }
        // One that was stalled learns of it only when it has gone on.
        let kept = known.take_if(|worker| {
            let was_stalled = std::mem::take(&mut worker.stalled_until_ms) > 0;
            let is_same = how.is_some() && (worker.how == how || is_on(Mutation::KeepRelease));
            was_stalled || is_same || worker.intrudes_until_ms > now_ms
        });
        let mut worker = match (kept, how) {
            (Some(kept), _) => kept,
            (None, Some(_)) => Worker::new(how),
            (None, None) => return None,
        };
        self.go_on(job, &mut worker);
        Some(worker)
    }

    fn go_on(&mut self, job: Job, worker: &mut Worker) {
        let now_ms = self.scene.now_ms;
        let is_late = worker.has_written() && now_ms > worker.begun_ms + TRANSACTION_MS_MAX;
        if is_late && worker.step != Step::Take {
            self.start_over(job, worker);
        }
        if worker.errands.is_empty() && now_ms >= worker.idle_until_ms {
            match worker.step {
                Step::Take => self.start_over(job, worker),
                Step::Read => self.read(job, worker),
                step => unreachable!("{step:?} waits for something"),
            }
        }
        self.run_errands(job, worker);
    }

    fn run_errands(&mut self, job: Job, worker: &mut Worker) {
        let now_ms = self.scene.now_ms;
        for errand in worker
            .errands
            .iter_mut()
            .filter(|errand| errand.again_ms <= now_ms)
        {
            let request = errand.request.clone();
            errand.token = self.ask(errand.place, request, |until_ms| Asked::Worker { job, until_ms });
            errand.again_ms = now_ms + super::ANSWER_MS_MAX;
        }
    }

    /// An answer comes.
    pub(super) fn worker_hears(&mut self, job: Job, token: u64, answer: Answer) {
        let now_ms = self.scene.now_ms;
        let Some(mut worker) = self.parts.workers.remove(&job) else {
            return;
        };
        let of_it = |errand: &Errand| errand.token == Some(token);
        if worker.stalled_until_ms <= now_ms
            && let Some(at) = worker.errands.iter().position(of_it)
        {
            self.hears(job, &mut worker, at, answer);
            self.run_errands(job, &mut worker);
        }
        self.parts.workers.insert(job, worker);
    }

    fn hears(&mut self, job: Job, worker: &mut Worker, at: usize, answer: Answer) {
        let pause_ms = self.scene.now_ms + 20 + self.scene.random.below(80);
        match (worker.step, answer) {
            (Step::Take, Answer::Producer(producer)) => {
                worker.producer = producer;
                worker.step = Step::Locate;
                let place = self.scene.judge.layout.offsets_place();
                worker.errands = vec![errand(place, PartRequest::Offset { job })];
            }
            (Step::Locate, Answer::Offset(offset)) => {
                let offset = offset.max(0);
                let kept = self.scene.judge.ledger.located(job, worker.producer, offset);
                self.scene.judge.must(kept);
                worker.committed = offset;
                self.begin(worker);
            }
            (Step::Read, Answer::Fetched { bytes, aborted, .. }) => {
                worker.errands.clear();
                let seen = committed_records(&bytes, worker.next, &aborted);
                self.has_read(job, worker, &seen.records, seen.next);
            }
            (Step::Write, Answer::Produced) => {
                worker.errands.remove(at);
                if worker.errands.is_empty() {
                    worker.rounds -= 1;
                    worker.step = Step::Read;
                    match worker.rounds {
                        0 => self.commit_offset(job, worker),
                        _ => self.read(job, worker),
                    }
                }
            }
            (Step::Commit, Answer::Done) => self.end_transaction(job, worker),
            (Step::End { is_commit }, Answer::Producer(next)) => {
                if is_commit {
                    let kept = self.scene.judge.ledger.told(job, worker.producer);
                    self.scene.judge.must(kept);
                    worker.committed = worker.next;
                }
                worker.producer = next;
                self.begin(worker);
            }
            (_, Answer::Sequence(text)) => {
                let job = job.id();
                self.scene
                    .judge
                    .breaks(|| format!("{job} repeats what was not answered and is refused: {text}"));
            }
            (
                _,
                Answer::Later
                | Answer::NotLeader(_)
                | Answer::OutOfRange { .. }
                | Answer::Refused(TransactionError::ConcurrentTransactions),
            ) => {
                worker.errands[at].token = None;
                worker.errands[at].again_ms = pause_ms;
            }
            // Somebody else has the transactional id, or the coordinator has given it up.
            _ => {
                self.start_over(job, worker);
                // Or two that take it from each other never get anything done.
                worker.errands[0].again_ms = self.scene.now_ms + self.scene.random.below(BACK_OFF_MS_MAX);
            }
        }
    }

    /// Commits, mostly.
    fn end_transaction(&mut self, job: Job, worker: &mut Worker) {
        let is_commit = self.scene.random.below(7) > 0;
        worker.step = Step::End { is_commit };
        let place = job.state_place(self.scene.judge.layout);
        let end = PartRequest::End {
            job,
            producer: worker.producer,
            is_commit,
        };
        worker.errands = vec![errand(place, end)];
    }

    /// Takes the transactional id.
    fn start_over(&mut self, job: Job, worker: &mut Worker) {
        worker.step = Step::Take;
        worker.sequences.clear();
        let place = job.state_place(self.scene.judge.layout);
        worker.errands = vec![errand(place, PartRequest::Init { job })];
    }

    /// The next transaction.
    fn begin(&mut self, worker: &mut Worker) {
        worker.step = Step::Read;
        worker.errands.clear();
        worker.next = worker.committed;
        worker.sequences.clear();
        worker.rounds = 1 + self.scene.random.below(3);
        worker.idle_until_ms = self.scene.now_ms + self.scene.random.below(150);
    }

    fn read(&mut self, job: Job, worker: &mut Worker) {
        if job.stage == Stage::Numbers {
            let next = worker.next + 1 + self.scene.random.below(RECORDS_MAX as u64) as i64;
            let numbers = worker.next..next;
            let records: Vec<_> = numbers
                .map(|number| (number, format!("{}-{number}", job.lane)))
                .collect();
            return self.write(job, worker, &records, next);
        }
        let (topic, partition) = job.source();
        let layout = self.scene.judge.layout;
        let place = layout.place(topic, partition).expect("a topic of the cluster");
        let epoch = layout.entry(self.image, place).map(|entry| entry.leader_epoch);
        let fetch = Request::Fetch {
            partition: place,
            offset: worker.next,
            epoch: epoch.unwrap_or(LeaderEpoch::UNKNOWN),
            of_leader: true,
            committed: true,
        };
        worker.errands = vec![Errand {
            place,
            request: fetch,
            token: None,
            again_ms: 0,
        }];
    }

    fn has_read(&mut self, job: Job, worker: &mut Worker, records: &[(i64, String)], next: i64) {
        let kept = self.scene.judge.ledger.all_committed(&job.id(), records);
        self.scene.judge.must(kept);
        let first = &records[..records.len().min(RECORDS_MAX)];
        match first.last() {
            Some((last, _)) if first.len() < records.len() => self.write(job, worker, first, last + 1),
            Some(_) => self.write(job, worker, first, next),
            None if worker.has_written() => {
                worker.next = next;
                self.commit_offset(job, worker);
            }
            None => {
                worker.next = next;
                worker.idle_until_ms = self.scene.now_ms + 50 + self.scene.random.below(100);
            }
        }
    }

    fn write(&mut self, job: Job, worker: &mut Worker, records: &[(i64, String)], next: i64) {
        if !worker.has_written() {
            worker.begun_ms = self.scene.now_ms;
        }
        worker.next = next;
        let layout = self.scene.judge.layout;
        let mut values: BTreeMap<i32, Vec<String>> = BTreeMap::new();
        for value in records.iter().filter_map(|(_, value)| Value::parse(value)) {
            let (topic, partition) = job.sink(value.number);
            let place = layout.place(topic, partition).expect("a topic of the cluster");
            let value = value.written_by(worker.producer);
            values.entry(place).or_default().push(value);
        }
        worker.step = Step::Write;
        for (place, values) in values {
            let sequence = worker.sequences.entry(place).or_insert(0);
            let batch = batch_of(worker.producer, *sequence, &values, self.scene.now_ms as i64);
            *sequence += values.len() as i32;
            let request = Request::Produce {
                partition: place,
                batch,
                part: Some(job.id()),
            };
            worker.errands.push(Errand {
                place,
                request,
                token: None,
                again_ms: 0,
            });
        }
    }

    fn commit_offset(&mut self, job: Job, worker: &mut Worker) {
        let (producer, offset) = (worker.producer, worker.next);
        let ledger = &mut self.scene.judge.ledger;
        ledger.attempts(job, producer, (worker.committed, offset));
        worker.step = Step::Commit;
        let place = self.scene.judge.layout.offsets_place();
        let commit = PartRequest::Commit {
            job,
            producer,
            offset,
        };
        worker.errands = vec![errand(place, commit)];
    }
}

fn errand(place: i32, request: PartRequest) -> Errand {
    Errand {
        place,
        request: Request::Part(request),
        token: None,
        again_ms: 0,
    }
}

fn batch_of(producer: Producer, sequence: i32, values: &[String], now_ms: i64) -> Bytes {
    let batch = BatchBuilder::new().producer(producer.id, producer.epoch, sequence);
    let mut batch = batch.transactional(true);
    for value in values {
        batch
            .append(EPOCH_MS + now_ms, None, Some(value.as_bytes()), &[])
            .expect("a small batch");
    }
    batch.finish().expect("a batch with records")
}

/// Longest pause of a worker that somebody else has fenced.
const BACK_OFF_MS_MAX: u64 = 600;
/// Records that are read at a time.
const RECORDS_MAX: usize = 3;
/// A transaction that is not done by then is given up.
const TRANSACTION_MS_MAX: u64 = 4000;
