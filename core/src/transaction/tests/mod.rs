//! Stories of one transactional id. A small driver writes and replays records at once, as a broker with a fast disk does.

use super::*;

use Markers::{Missing, Written};
use Outcome::{Abort, Commit};
use Past::{Ended, Fenced, New, Open, TimedOut};
use TransactionError::{
    ConcurrentTransactions, InvalidProducerIdMapping, InvalidRequest, InvalidTransactionTimeout,
    InvalidTxnState, NotInTransaction, ProducerFenced, ProducerIdNeeded, TooManyIds,
};
use TransactionState::{CompleteAbort, CompleteCommit, Empty, Ongoing, PrepareAbort, PrepareCommit};
use Version::{V1, V2};

mod in_each_state;
mod properties;
mod stories;

/// A coordinator of transactions with a log.
#[derive(Clone)]
struct World {
    transactions: Transactions,
    log: Vec<Record>,
    now_ms: i64,
    next_producer_id: i64,
}

impl World {
    fn new() -> Self {
        Self {
            transactions: Transactions::new(TransactionConfig::default()),
            log: Vec::new(),
            now_ms: NOON,
            next_producer_id: FIRST_ID,
        }
    }

    /// With an id whose first producer has this epoch.
    fn with_epoch(epoch: ProducerEpoch) -> (Self, Producer) {
        let mut world = Self::new();
        let producer = world.init(None).expect("the id is new");
        let mut record = world.log.pop().expect("it was written");
        record.value.as_mut().expect("it is not forgotten").producer_epoch = epoch;
        world.run(Step::of(record));
        (world, Producer { epoch, ..producer })
    }

    fn run(&mut self, step: Step) {
        for record in step.records {
            let (key, value) = record.encode();
            let read = Record::decode(&key, value.as_deref()).expect("it can be read");
            assert_eq!(read.as_ref(), Some(&record), "records survive the log");
            self.transactions.replay(&record);
            self.log.push(record);
        }
    }

    /// Asks again with a fresh producer id if one is needed, as the driver does.
    fn with_fresh<T>(
        &mut self,
        ask: impl Fn(&Transactions, Option<i64>) -> Result<T, TransactionError>,
    ) -> Result<T, TransactionError> {
        match ask(&self.transactions, None) {
            Err(TransactionError::ProducerIdNeeded) => {
                self.next_producer_id += 1;
                ask(&self.transactions, Some(self.next_producer_id))
            }
            answer => answer,
        }
    }

    fn init(&mut self, expected: Option<Producer>) -> Result<Producer, TransactionError> {
        let now_ms = self.now_ms;
        let (answer, step) = self.with_fresh(|transactions, fresh| {
            let request = InitRequest {
                timeout_ms: TIMEOUT_MS,
                expected,
                fresh,
            };
            match transactions.init(now_ms, ID, request) {
                (Err(TransactionError::ProducerIdNeeded), step) => {
                    assert_eq!(step, Step::default());
                    Err(TransactionError::ProducerIdNeeded)
                }
                answered => Ok(answered),
            }
        })?;
        self.run(step);
        answer
    }

    /// Asks until there is a producer, as clients do; markers are written meanwhile.
    fn init_until_done(&mut self, expected: Option<Producer>) -> Result<Producer, TransactionError> {
        for _ in 0..3 {
            match self.init(expected) {
                Err(TransactionError::ConcurrentTransactions) => self.finish(),
                answer => return answer,
            }
        }
        panic!("it never gets a producer: {:?}", self.get());
    }

    fn add(&mut self, producer: Producer, partition: i32, version: Version) -> Result<(), TransactionError> {
        let partitions = [(Arc::from(TOPIC), vec![partition])].into();
        let step = self
            .transactions
            .add(self.now_ms, ID, producer, &partitions, version)?;
        self.run(step);
        Ok(())
    }

    fn verify(&self, producer: Producer, partition: i32) -> Result<(), TransactionError> {
        self.transactions.verify(ID, producer, TOPIC, partition)
    }

    fn end(
        &mut self,
        producer: Producer,
        outcome: Outcome,
        version: Version,
    ) -> Result<Producer, TransactionError> {
        let now_ms = self.now_ms;
        let (after, step) = self.with_fresh(|transactions, fresh| {
            let request = EndRequest {
                producer,
                is_commit: outcome == Outcome::Commit,
                version,
                fresh,
            };
            transactions.end(now_ms, ID, request)
        })?;
        self.run(step);
        Ok(after)
    }

    /// All markers of what is decided are written.
    fn finish(&mut self) {
        let prepared: Vec<_> = self
            .transactions
            .prepared()
            .map(|(id, t)| (id.clone(), t.producer))
            .collect();
        for (id, producer) in prepared {
            let step = self.transactions.finished(self.now_ms, &id, producer);
            self.run(step);
        }
    }

    fn end_and_finish(
        &mut self,
        producer: Producer,
        outcome: Outcome,
        version: Version,
    ) -> Result<Producer, TransactionError> {
        let after = self.end(producer, outcome, version)?;
        self.finish();
        Ok(after)
    }

    fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
        let step = self.transactions.tick(self.now_ms);
        self.run(step);
    }

    /// Another coordinator reads the log.
    fn restarted(&self) -> Transactions {
        replayed(&self.log)
    }

    fn get(&self) -> &Transaction {
        self.transactions.get(ID).expect("the id is known")
    }
}

fn replayed(records: &[Record]) -> Transactions {
    let mut transactions = Transactions::new(TransactionConfig::default());
    records.iter().for_each(|record| transactions.replay(record));
    transactions
}

/// All that coordinators have to agree in.
fn everything(transactions: &Transactions) -> impl PartialEq + std::fmt::Debug {
    let known: Vec<_> = transactions
        .iter()
        .map(|(id, t)| (id.clone(), t.clone()))
        .collect();
    let prepared: Vec<_> = transactions.prepared().map(|(id, _)| id.clone()).collect();
    (known, prepared, transactions.next_deadline())
}

/// How a transactional id got where it is; its producer had epoch 5 as it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Past {
    /// No transaction yet.
    New,
    /// One is open.
    Open,
    /// Its producer ended one, and markers are written or not.
    Ended(Outcome, Version, Markers),
    /// Somebody else came for the id as one was open.
    Fenced(Markers),
    /// It took too long.
    TimedOut(Markers),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Markers {
    Missing,
    Written,
}

fn at(past: Past) -> (World, Producer) {
    let (mut world, producer) = World::with_epoch(5);
    if past != New {
        world.add(producer, 0, V2).expect("it has the id");
    }
    let markers = match past {
        New | Open => Missing,
        Ended(outcome, version, markers) => {
            world.end(producer, outcome, version).expect("it is open");
            markers
        }
        Fenced(markers) => {
            assert_eq!(world.init(None), Err(ConcurrentTransactions));
            markers
        }
        TimedOut(markers) => {
            world.pass(i64::from(TIMEOUT_MS));
            markers
        }
    };
    if markers == Written {
        world.finish();
    }
    (world, producer)
}

fn epoch(answer: Result<Producer, TransactionError>) -> Result<ProducerEpoch, TransactionError> {
    answer.map(|producer| {
        assert_eq!(producer.id, FIRST_ID + 1);
        producer.epoch
    })
}

const ID: &str = "payments";
const TOPIC: &str = "orders";
const NOON: i64 = 1_700_000_000_000;
const FIRST_ID: i64 = 1000;
const TIMEOUT_MS: i32 = 60_000;
