//! The owner of what one partition of an internal topic keeps: the broker's `coordinators/shard.rs`, without its tasks.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::group::consumer::ConsumerConfig;
use millstream_core::group::{self, GroupConfig, Groups, Token};
use millstream_core::ids::LeaderEpoch;
use millstream_core::transaction::{self, Producer, TransactionConfig, Transactions};
use millstream_kafka::records::{BatchBuilder, BatchView, EndTransaction, Scratch, batches};
use millstream_storage::{AppendError, EndMarker};

use super::classic::Waiting;
use super::markers::Decided;
use super::member::{Beat, Kept, SESSION_MS};
use super::{Ask, Parts};
use crate::client::Answer;
use crate::replica::{Fatal, Replica, Scene};

/// The state machine of one partition, for one term of its leader.
pub struct Shard<M> {
    pub epoch: LeaderEpoch,
    /// None until the log is read.
    machine: Option<M>,
    /// One past the last record that it wrote.
    written: i64,
    queue: VecDeque<(i64, Release)>,
    /// Who asked what is answered when others have asked, too.
    waiting: BTreeMap<Token, Waiting>,
}

/// What goes on once all before it is safe.
#[derive(Default)]
pub struct Release {
    pub answers: Vec<(Ask, Answer)>,
    /// Who has a transactional id from now on.
    pub holder: Option<(Arc<str>, Producer)>,
    pub decided: Vec<Decided>,
    /// Signs of life of members.
    pub beats: Vec<Beat>,
    /// An offset that a member keeps.
    pub kept: Option<Kept>,
    /// A transaction whose markers are all written.
    pub finished: Option<(Arc<str>, Producer)>,
}

impl Release {
    pub fn of(ask: Ask, answer: Answer) -> Self {
        Self {
            answers: vec![(ask, answer)],
            ..Self::default()
        }
    }
}

/// What is decided with.
pub trait Machine: Sized {
    type Record;
    fn empty() -> Self;
    /// Where those of a process are.
    fn shards(parts: &mut Parts) -> &mut BTreeMap<i32, Shard<Self>>;
    fn read(&mut self, batch: &BatchView<'_>);
    fn encode(record: &Self::Record) -> (Vec<u8>, Option<Vec<u8>>);
    fn take_over(&mut self, record: &Self::Record, producer: Option<(i64, i16)>);
    /// What partitions are to be told since a record that was taken over.
    fn follow_up(&self, record: &Self::Record) -> Option<Decided>;
}

impl<M: Machine> Shard<M> {
    pub fn new(epoch: LeaderEpoch) -> Self {
        Self {
            epoch,
            machine: None,
            written: 0,
            queue: VecDeque::new(),
            waiting: BTreeMap::new(),
        }
    }

    pub fn machine(&self) -> Option<&M> {
        self.machine.as_ref()
    }

    pub fn machine_mut(&mut self) -> Option<&mut M> {
        self.machine.as_mut()
    }

    pub fn is_ready(&self) -> bool {
        self.machine.is_some()
    }

    /// Reads the log.
    pub fn load(&mut self, replica: &Replica) -> Result<&mut M, Fatal> {
        let mut machine = M::empty();
        let bytes = replica.all_bytes()?;
        for batch in batches(&bytes).flatten() {
            machine.read(&batch);
        }
        Ok(self.machine.insert(machine))
    }

    /// Writes records and takes them over, then lets `release` go when they are safe. False if they could not be written.
    pub fn take(
        &mut self,
        replica: &mut Replica,
        records: &[M::Record],
        producer: Option<(i64, i16)>,
        mut release: Release,
        scene: &mut Scene<'_>,
    ) -> Result<Result<(), AppendError>, Fatal> {
        if !records.is_empty() {
            let batch = batch_of::<M>(records, producer, scene.local_ms);
            let append = |log: &mut millstream_storage::Log<_>, epoch, now_ms| {
                log.append_as_leader(&batch, epoch, now_ms)
            };
            match replica.append(append, scene)? {
                Ok(appended) => self.written = appended.last_offset.0 + 1,
                Err(error) => return Ok(Err(error)),
            }
        }
        let machine = self
            .machine
            .as_mut()
            .expect("it decides since it has read its log");
        for record in records {
            machine.take_over(record, producer);
            release.decided.extend(machine.follow_up(record));
        }
        self.queue.push_back((self.written, release));
        Ok(Ok(()))
    }

    /// What may go on since all before `high` is safe.
    pub fn due(&mut self, high: i64) -> Vec<(i64, Release)> {
        let mut due = Vec::new();
        while let Some(first) = self.queue.pop_front_if(|(end, _)| *end <= high) {
            due.push(first);
        }
        due
    }

    /// The term is over: who waits has to ask elsewhere.
    pub fn into_waiting(self) -> impl Iterator<Item = Ask> {
        let releases = self.queue.into_iter();
        let queued = releases.flat_map(|(_, release)| release.answers);
        let waiting = self.waiting.into_values().map(|waiting| waiting.ask);
        waiting.chain(queued.map(|(ask, _)| ask))
    }
}

impl Shard<Groups> {
    /// Somebody waits for what others do.
    pub fn waits(&mut self, token: Token, waiting: Waiting) {
        self.waiting.insert(token, waiting);
    }

    /// Who waits no longer.
    pub fn waited(&mut self, token: Token) -> Option<Waiting> {
        self.waiting.remove(&token)
    }

    /// Ends a transaction in the partition of the groups.
    pub fn mark(
        &mut self,
        replica: &mut Replica,
        marker: EndMarker,
        ask: Ask,
        scene: &mut Scene<'_>,
    ) -> Result<Result<(), AppendError>, Fatal> {
        let append =
            |log: &mut millstream_storage::Log<_>, epoch, now_ms| log.append_marker(marker, epoch, now_ms);
        match replica.append(append, scene)? {
            Ok(appended) => self.written = appended.last_offset.0 + 1,
            Err(error) => return Ok(Err(error)),
        }
        let groups = self.machine.as_mut().expect("it is ready");
        groups.replay_marker(marker.producer_id, marker.is_commit);
        self.queue
            .push_back((self.written, Release::of(ask, Answer::Done)));
        Ok(Ok(()))
    }
}

impl Machine for Transactions {
    type Record = transaction::Record;

    fn empty() -> Self {
        Self::new(TransactionConfig::default())
    }

    fn shards(parts: &mut Parts) -> &mut BTreeMap<i32, Shard<Self>> {
        &mut parts.states
    }

    fn read(&mut self, batch: &BatchView<'_>) {
        each_record(batch, |key, value| {
            if let Ok(Some(record)) = transaction::Record::decode(key, value) {
                self.replay(&record);
            }
        });
    }

    fn encode(record: &Self::Record) -> (Vec<u8>, Option<Vec<u8>>) {
        record.encode()
    }

    fn take_over(&mut self, record: &Self::Record, _: Option<(i64, i16)>) {
        self.replay(record);
    }

    fn follow_up(&self, record: &Self::Record) -> Option<Decided> {
        let id = &record.transactional_id;
        Decided::of(id, self.get(id)?)
    }
}

impl Machine for Groups {
    type Record = group::Record;

    fn empty() -> Self {
        let config = GroupConfig {
            consumer: ConsumerConfig {
                session_timeout_ms: SESSION_MS,
                ..ConsumerConfig::default()
            },
            session_timeout_ms_min: SESSION_MS,
            initial_delay_ms: INITIAL_DELAY_MS,
            ..GroupConfig::default()
        };
        Self::new(config)
    }

    fn shards(parts: &mut Parts) -> &mut BTreeMap<i32, Shard<Self>> {
        &mut parts.offsets
    }

    fn read(&mut self, batch: &BatchView<'_>) {
        let header = batch.header();
        if let Some(end) = EndTransaction::of(header, batch.payload()) {
            self.replay_marker(header.producer_id, end.is_commit);
            return;
        }
        let producer = header.attributes.is_transactional();
        let producer = producer.then_some((header.producer_id, header.producer_epoch));
        each_record(batch, |key, value| {
            if let Ok(record) = group::Record::decode(key, value) {
                self.take_over(&record, producer);
            }
        });
    }

    fn encode(record: &Self::Record) -> (Vec<u8>, Option<Vec<u8>>) {
        record.encode()
    }

    fn take_over(&mut self, record: &Self::Record, producer: Option<(i64, i16)>) {
        match producer {
            None => self.replay(record),
            Some((id, _)) => self.replay_pending(id, record),
        }
    }

    fn follow_up(&self, _: &Self::Record) -> Option<Decided> {
        None
    }
}

fn each_record(batch: &BatchView<'_>, mut take: impl FnMut(&[u8], Option<&[u8]>)) {
    let mut scratch = Scratch::new();
    let Ok(records) = batch.records(&mut scratch, usize::MAX) else {
        return;
    };
    for record in records.flatten() {
        take(record.key.unwrap_or_default(), record.value);
    }
}

fn batch_of<M: Machine>(records: &[M::Record], producer: Option<(i64, i16)>, now_ms: i64) -> Bytes {
    let mut batch = BatchBuilder::new();
    if let Some((id, epoch)) = producer {
        batch = batch.producer(id, epoch, NO_SEQUENCE).transactional(true);
    }
    for record in records {
        let (key, value) = M::encode(record);
        batch
            .append(now_ms, Some(&key), value.as_deref(), &[])
            .expect("a small batch");
    }
    batch.finish().expect("a batch with records")
}

/// How long the first generation of a classic group waits for more members, in milliseconds.
const INITIAL_DELAY_MS: i32 = 500;
/// What brokers write for a producer has no numbers.
pub const NO_SEQUENCE: i32 = -1;
