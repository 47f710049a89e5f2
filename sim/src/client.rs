//! Clients: idempotent producers that wait for all replicas, and readers.

use std::sync::Arc;

use bytes::Bytes;
use millstream_core::group::consumer::ConsumerAnswer;
use millstream_core::group::{GroupError, Response};
use millstream_core::ids::LeaderEpoch;
use millstream_core::transaction::{Producer, TransactionError};
use millstream_kafka::records::BatchBuilder;
use millstream_storage::AbortedTransaction;
use millstream_storage::sim_disk::Random;

use crate::bus::{Bus, Event};
use crate::judge::Judge;
use crate::transactions::{Member, PartRequest, committed_records};

/// What a client asks of a broker.
#[derive(Debug, Clone)]
pub enum Request {
    /// Append this batch, and answer when it is safe. `part`: it is in a transaction of this id.
    Produce {
        partition: i32,
        batch: Bytes,
        part: Option<Arc<str>>,
    },
    /// Give what is safe from this offset on, if you know of the leader's epoch that the client knows of (KIP-320).
    Fetch {
        partition: i32,
        offset: i64,
        epoch: LeaderEpoch,
        of_leader: bool,
        committed: bool,
    },
    /// Delete what lies before this offset.
    Trim { partition: i32, before: i64 },
    /// Something about transactions.
    Part(PartRequest),
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// A client.
    Client(u64),
    /// Another broker, or the same.
    Broker(u64),
}

/// What a broker answers.
#[derive(Debug, Clone)]
pub enum Answer {
    /// The batch is safe.
    Produced,
    /// Another broker leads, perhaps this one.
    NotLeader(Option<u64>),
    /// Not now.
    Later,
    /// The sequence number does not follow.
    Sequence(String),
    /// What was asked for, with the high watermark and the leader's epoch that who gave it knows of. Beside it, for who
    /// wants committed records, where what is undecided begins, and what is to be skipped.
    Fetched {
        bytes: Bytes,
        high: i64,
        epoch: LeaderEpoch,
        stable: i64,
        aborted: Vec<AbortedTransaction>,
    },
    /// A newer producer has the transactional id.
    Fenced,
    /// The coordinator of transactions refuses.
    Refused(TransactionError),
    /// Who the producer is from now on.
    Producer(Producer),
    /// The offset that a group has committed; -1 if none.
    Offset(i64),
    /// To a member of a group.
    Member(Result<ConsumerAnswer, GroupError>),
    /// To a member of the classic protocol: that it is in, or what it consumes.
    Waited(Arc<Response>),
    /// To a member of the classic protocol that has given a sign of life.
    Stays(Result<(), GroupError>),
    /// It is done.
    Done,
    /// The log holds only these.
    OutOfRange { start: i64, end: i64 },
}

/// A client of one partition.
pub struct Client {
    pub id: u64,
    pub partition: i32,
    work: Work,
    /// The broker that it asks.
    target: u64,
    /// It has answered.
    is_found: bool,
    request: u64,
    sent_ms: Option<u64>,
    random: Random,
    /// What it got done.
    pub done: u64,
}

enum Work {
    Produce {
        sequence: i32,
        values: Vec<String>,
        batch: Bytes,
    },
    Read {
        next: i64,
        epoch: LeaderEpoch,
        of_leader: bool,
        committed: bool,
    },
    Belong(Member),
}

impl Client {
    pub fn producer(id: u64, partition: i32, seed: u64) -> Self {
        let work = Work::Produce {
            sequence: 0,
            values: Vec::new(),
            batch: Bytes::new(),
        };
        Self::new(id, partition, seed, work)
    }

    /// `committed`: sees only what transactions have committed.
    pub fn reader(id: u64, partition: i32, seed: u64, of_leader: bool, committed: bool) -> Self {
        let work = Work::Read {
            next: 0,
            epoch: LeaderEpoch::UNKNOWN,
            of_leader,
            committed,
        };
        Self::new(id, partition, seed, work)
    }

    /// A member of a group, that reads nothing.
    pub fn of_group(id: u64, seed: u64, member: Member) -> Self {
        Self::new(id, 0, seed, Work::Belong(member))
    }

    /// Its process is another one from now on, that knows nothing and hears nothing of what was asked before.
    pub fn begin_anew(&mut self, moves: bool) {
        self.sent_ms = None;
        if let Work::Belong(member) = &mut self.work {
            member.begin_anew(moves);
        }
    }

    fn new(id: u64, partition: i32, seed: u64, work: Work) -> Self {
        Self {
            id,
            partition,
            work,
            target: 1,
            is_found: false,
            request: 0,
            sent_ms: None,
            random: Random(seed),
            done: 0,
        }
    }

    /// Where it goes on reading.
    pub fn next(&self) -> Option<i64> {
        match self.work {
            Work::Read { next, .. } => Some(next),
            _ => None,
        }
    }

    /// The member that it is, if it is one.
    pub fn member(&self) -> Option<&Member> {
        match &self.work {
            Work::Belong(member) => Some(member),
            _ => None,
        }
    }

    /// As [`Client::member`].
    pub fn member_mut(&mut self) -> Option<&mut Member> {
        match &mut self.work {
            Work::Belong(member) => Some(member),
            _ => None,
        }
    }

    pub fn is_producer(&self) -> bool {
        matches!(self.work, Work::Produce { .. })
    }

    /// Looks at the clock: asks, or asks again when nobody answered.
    pub fn tick(&mut self, bus: &Bus, now_ms: u64) {
        // Only who has answered before is worth a long wait.
        let member = self.member().filter(|_| self.is_found);
        let wait_ms = member.map_or(CLIENT_WAIT_MS, Member::wait_ms);
        let waits = self.sent_ms.is_some_and(|sent_ms| now_ms < sent_ms + wait_ms);
        if !waits {
            if self.sent_ms.is_some() {
                self.guess();
            }
            self.ask(bus, now_ms);
        }
        let delay_ms = 10 + self.random.below(60);
        bus.after(delay_ms, Event::ClientTick(self.id));
    }

    /// Goes on without waiting for the next look at the clock, mostly.
    pub fn tick_soon(&mut self, bus: &Bus) {
        if self.is_producer() && self.sent_ms.is_none() && self.random.below(2) > 0 {
            self.ask(bus, bus.now_ms());
        }
    }

    fn guess(&mut self) {
        self.target = 1 + self.random.below(5);
        self.is_found = false;
    }

    fn ask(&mut self, bus: &Bus, now_ms: u64) {
        let Some(request) = self.next_request(now_ms) else {
            return;
        };
        self.request += 1;
        self.sent_ms = Some(now_ms);
        bus.request(self.id, self.request, self.target, request);
    }

    fn next_request(&mut self, now_ms: u64) -> Option<Request> {
        let partition = self.partition;
        let request = match &mut self.work {
            Work::Belong(member) => Request::Part(member.next_request(now_ms, &mut self.random)?),
            Work::Produce {
                sequence,
                values,
                batch,
            } => {
                if values.is_empty() {
                    let count = 1 + self.random.below(3) as i32;
                    *values = (*sequence..*sequence + count)
                        .map(|n| format!("p{}-{n}", self.id))
                        .collect();
                    *batch = batch_of(self.id, *sequence, values, now_ms as i64);
                }
                let batch = batch.clone();
                Request::Produce {
                    partition,
                    batch,
                    part: None,
                }
            }
            Work::Read {
                next,
                committed: false,
                ..
            } if self.done > 20 && self.random.below(300) == 0 => {
                let before = *next - 5;
                Request::Trim { partition, before }
            }
            Work::Read {
                next,
                epoch,
                of_leader,
                committed,
            } => Request::Fetch {
                partition,
                offset: *next,
                epoch: *epoch,
                of_leader: *of_leader,
                committed: *committed,
            },
        };
        Some(request)
    }

    /// Hears an answer.
    pub fn answered(&mut self, id: u64, answer: Answer, judge: &mut Judge) {
        if id != self.request || self.sent_ms.is_none() {
            return;
        }
        self.sent_ms = None;
        self.is_found = !matches!(answer, Answer::NotLeader(_));
        let partition = self.partition;
        match (answer, &mut self.work) {
            (Answer::Produced, Work::Produce { sequence, values, .. }) => {
                *sequence += values.len() as i32;
                values.clear();
                self.done += 1;
            }
            (
                Answer::Fetched {
                    bytes,
                    high,
                    epoch: known,
                    stable,
                    aborted,
                },
                Work::Read {
                    next,
                    epoch,
                    of_leader,
                    committed,
                },
            ) => {
                *epoch = known.max(*epoch);
                let before = std::mem::replace(next, judge.read(self.id, partition, *next, &bytes));
                if *of_leader {
                    judge.heard_high(self.id, partition, high);
                }
                if *committed {
                    let records = committed_records(&bytes, before, &aborted).records;
                    judge.saw_committed(self.id, partition, &records);
                    if *of_leader {
                        judge.heard_stable(self.id, partition, stable);
                    }
                }
                self.done += 1;
            }
            (answer @ (Answer::Member(_) | Answer::Waited(_) | Answer::Stays(_)), Work::Belong(member)) => {
                self.done += 1;
                let before = member.name();
                let is_heard = member.hears(answer, judge.layout);
                let grants = judge.ledger.grants(member.group);
                grants.has(before, &member.owned);
                grants.has(member.name(), &member.owned);
                if !is_heard {
                    self.guess();
                }
            }
            (Answer::OutOfRange { start, .. }, Work::Read { next, .. }) if *next < start => *next = start,
            (
                Answer::OutOfRange { end, .. },
                Work::Read {
                    next,
                    of_leader: true,
                    ..
                },
            ) => {
                let next = *next;
                judge.breaks(|| {
                    format!(
                        "a reader that has read up to {next} is told that partition {partition} ends at {end}"
                    )
                });
            }
            (Answer::Sequence(text), _) => {
                judge.breaks(|| format!("a producer that repeats what was not answered is refused: {text}"));
            }
            (Answer::NotLeader(Some(leader)), _) => self.target = leader,
            _ => self.guess(),
        }
    }
}

fn batch_of(producer: u64, sequence: i32, values: &[String], now_ms: i64) -> Bytes {
    let mut batch = BatchBuilder::new().producer(producer as i64, 0, sequence);
    for value in values {
        batch
            .append(EPOCH_MS + now_ms, None, Some(value.as_bytes()), &[])
            .expect("a small batch");
    }
    batch.finish().expect("a batch with records")
}

/// The beginning of simulated time, in milliseconds since 1970.
pub const EPOCH_MS: i64 = 1_700_000_000_000;
pub const CLIENT_WAIT_MS: u64 = 1500;
