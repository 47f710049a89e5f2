//! How a leader asks a coordinator before it lets a batch begin a transaction (KIP-890): the broker's
//! `partitions/transactions.rs`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::ids::LeaderEpoch;
use millstream_core::mutation::{Mutation, is_on};
use millstream_core::transaction::{Producer, TransactionError};
use millstream_kafka::records::BatchHeader;

use super::{Ask, Here, Job, PartRequest};
use crate::client::{Answer, Request};
use crate::replica::Fatal;

/// What another broker was asked for.
pub enum Asked {
    /// Whether a batch may be appended.
    Produce(Produce),
    /// Whether an offset may be kept.
    Commit(Commit),
    /// To write a marker.
    Mark {
        id: Arc<str>,
        producer: Producer,
        place: i32,
        until_ms: u64,
    },
    /// Something, by a worker.
    Worker { job: Job, until_ms: u64 },
}

/// A batch that waits for its transaction's coordinator.
pub struct Produce {
    ask: Ask,
    place: i32,
    batch: Bytes,
    guard: Guard,
    until_ms: u64,
}

/// An offset that does.
pub struct Commit {
    ask: Ask,
    job: Job,
    producer: Producer,
    offset: i64,
    guard: Option<Guard>,
    until_ms: u64,
}

impl Asked {
    pub fn until_ms(&self) -> u64 {
        match self {
            Self::Produce(Produce { until_ms, .. })
            | Self::Commit(Commit { until_ms, .. })
            | Self::Mark { until_ms, .. }
            | Self::Worker { until_ms, .. } => *until_ms,
        }
    }
}

/// Says that no marker has ended a transaction of the producer since the question was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guard(u64);

/// The questions that are under way for one partition.
#[derive(Debug, Default)]
pub struct Verifications {
    epoch: LeaderEpoch,
    by_producer: BTreeMap<i64, Guard>,
    begun: u64,
}

impl Verifications {
    fn begin(&mut self, producer_id: i64) -> Guard {
        self.begun += 1;
        *self.by_producer.entry(producer_id).or_insert(Guard(self.begun))
    }

    fn holds(&self, producer_id: i64, guard: Guard) -> bool {
        self.by_producer.get(&producer_id) == Some(&guard)
    }

    /// A transaction of the producer has begun or ended: guards of before are worth nothing.
    pub fn forget(&mut self, producer_id: i64) {
        self.by_producer.remove(&producer_id);
    }
}

impl Here<'_, '_> {
    /// The questions of a place; nothing that was asked in one term holds in the next.
    pub(super) fn verifications(&mut self, place: i32) -> &mut Verifications {
        let verifications = self.parts.verifications.entry(place).or_default();
        if let Some(replica) = self.replicas.get(&place)
            && verifications.epoch != replica.epoch
        {
            verifications.epoch = replica.epoch;
            verifications.by_producer.clear();
        }
        verifications
    }

    /// A batch of a transaction. Where it would begin one, the coordinator is asked first.
    pub fn produce(&mut self, ask: Ask, place: i32, batch: Bytes, id: Arc<str>) -> Result<(), Fatal> {
        let Ok(header) = BatchHeader::parse(&batch) else {
            return Ok(());
        };
        let producer = producer_of(&header);
        let Some(replica) = self.led(place) else {
            let known = self
                .replicas
                .get(&place)
                .and_then(|replica| replica.known_leader());
            self.answer(ask, Answer::NotLeader(known));
            return Ok(());
        };
        if replica.log.open_transaction(producer.id, producer.epoch) {
            return self.append(ask, place, &batch);
        }
        let verifications = self.verifications(place);
        let guard = verifications.begin(producer.id);
        let layout = self.scene.judge.layout;
        let coordinator = Job::of_id(&id).map(|job| job.state_place(layout));
        let skips = is_on(Mutation::SkipVerification);
        let waiting = batch.clone();
        let asked = coordinator.and_then(|coordinator| {
            let request = Request::Part(PartRequest::TakePart { id, producer, place });
            self.ask(coordinator, request, |until_ms| {
                Asked::Produce(Produce {
                    ask,
                    place,
                    batch: waiting,
                    guard,
                    until_ms,
                })
            })
        });
        match asked {
            Some(token) if skips => {
                self.parts.asked.remove(&token);
                self.append(ask, place, &batch)
            }
            Some(_) => Ok(()),
            None => {
                self.answer(ask, Answer::Later);
                Ok(())
            }
        }
    }

    /// The coordinator has answered.
    pub(super) fn produce_if(&mut self, waiting: Produce, answer: Answer) -> Result<(), Fatal> {
        let Produce {
            ask,
            place,
            batch,
            guard,
            ..
        } = waiting;
        if !matches!(answer, Answer::Done) {
            self.answer(ask, refused(answer));
            return Ok(());
        }
        let header = BatchHeader::parse(&batch).expect("it was read before");
        let Some(replica) = self.led(place) else {
            self.not_leader(ask, place);
            return Ok(());
        };
        let begins = !replica
            .log
            .open_transaction(header.producer_id, header.producer_epoch)
            && !replica.log.check_sequence(&batch).is_ok_and(|is_known| is_known);
        let verifications = self.verifications(place);
        if begins && !verifications.holds(header.producer_id, guard) {
            self.answer(ask, Answer::Later);
            return Ok(());
        }
        self.append(ask, place, &batch)
    }

    fn append(&mut self, (asker, id): Ask, place: i32, batch: &Bytes) -> Result<(), Fatal> {
        let replica = self.replicas.get_mut(&place).expect("it leads");
        replica.produce(asker, id, batch, self.scene)?;
        if let Ok(header) = BatchHeader::parse(batch) {
            let verifications = self.verifications(place);
            verifications.forget(header.producer_id);
        }
        Ok(())
    }

    /// An offset that is to be kept in a transaction: the coordinator is asked first.
    pub(super) fn ask_to_commit(&mut self, ask: Ask, job: Job, producer: Producer, offset: i64) {
        let place = self.scene.judge.layout.offsets_place();
        let Some(replica) = self.led(place) else {
            self.not_leader(ask, place);
            return;
        };
        let is_open = replica.log.open_transaction(producer.id, producer.epoch);
        let verifications = self.verifications(place);
        let guard = (!is_open).then(|| verifications.begin(producer.id));
        let coordinator = job.state_place(self.scene.judge.layout);
        let request = Request::Part(PartRequest::TakePart {
            id: job.id(),
            producer,
            place,
        });
        let asked = self.ask(coordinator, request, |until_ms| {
            Asked::Commit(Commit {
                ask,
                job,
                producer,
                offset,
                guard,
                until_ms,
            })
        });
        if asked.is_none() {
            self.answer(ask, Answer::Later);
        }
    }

    /// The coordinator has answered.
    pub(super) fn commit_if(&mut self, waiting: Commit, answer: Answer) -> Result<(), Fatal> {
        let Commit {
            ask,
            job,
            producer,
            offset,
            guard,
            ..
        } = waiting;
        if !matches!(answer, Answer::Done) {
            self.answer(ask, refused(answer));
            return Ok(());
        }
        let place = self.scene.judge.layout.offsets_place();
        let Some(replica) = self.led(place) else {
            self.not_leader(ask, place);
            return Ok(());
        };
        let is_open = replica.log.open_transaction(producer.id, producer.epoch);
        let verifications = self.verifications(place);
        if !is_open && !guard.is_some_and(|guard| verifications.holds(producer.id, guard)) {
            self.answer(ask, Answer::Later);
            return Ok(());
        }
        verifications.forget(producer.id);
        self.commit(ask, job, producer, offset)
    }
}

/// What a producer hears where its coordinator refuses: what passes is to be tried again.
fn refused(answer: Answer) -> Answer {
    match answer {
        Answer::Refused(TransactionError::ProducerFenced) => Answer::Fenced,
        Answer::Refused(TransactionError::ConcurrentTransactions) => Answer::Later,
        Answer::Refused(error) => Answer::Refused(error),
        _ => Answer::Later,
    }
}

fn producer_of(header: &BatchHeader) -> Producer {
    Producer {
        id: header.producer_id,
        epoch: header.producer_epoch,
    }
}
