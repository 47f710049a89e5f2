//! What a coordinator decides with: a state machine whose records are one partition of an internal topic.

use millstream_core::group::Token;
use millstream_core::ids::LeaderEpoch;
use millstream_kafka::records::{BatchError, BatchView, Scratch};

use super::events::Event;
use crate::partitions::Guard;

/// A state machine that a [`Shard`](super::shard::Shard) drives: it decides, the shard appends what is to be written and
/// hands it back to be replayed.
pub trait Machine: Sized + Send + 'static {
    /// What it is begun with: the bounds that it keeps, and what it has to know of the rest of the broker.
    type Config: Clone + Send + Sync + 'static;
    /// What it writes.
    type Record: Send + 'static;
    /// What it answers to requests that wait.
    type Response: Send + 'static;
    /// Why a request is refused.
    type Error: From<Unserved> + Copy;
    /// What is to be done elsewhere once a record is safe.
    type FollowUp: Send + 'static;

    /// What it keeps, for the log and for what is counted.
    const WHAT: &'static str;

    /// Knows nothing yet.
    fn empty(config: Self::Config) -> Self;
    /// Takes over a batch of the log, and says how many records it has. What is not understood is skipped and told.
    ///
    /// # Errors
    /// The batch is damaged.
    fn read(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<usize, BatchError>;
    /// Key and value of a record.
    fn encode(record: &Self::Record) -> (Vec<u8>, Option<Vec<u8>>);
    /// Takes over what was written. `producer` is that of the transaction that it was written in.
    fn replay(&mut self, record: &Self::Record, producer: Option<(i64, i16)>);
    /// The log is read; from now on it decides.
    fn loaded(&mut self, config: &Self::Config, now_ms: i64) -> Step<Self>;
    /// When [`Machine::tick`] has something to do.
    fn next_deadline(&self) -> Option<i64>;
    /// Does what is due.
    fn tick(&mut self, now_ms: i64) -> Step<Self>;
    /// Forgets what is old.
    fn expire(&mut self, now_ms: i64) -> Step<Self>;
    /// Ends: answers whoever waits.
    fn close(&mut self) -> Step<Self>;
    /// The answer in place of one whose records could not be written.
    fn failed(response: Self::Response) -> Self::Response;
    /// Number of things that it keeps, for the log.
    fn len(&self) -> usize;
    /// Number of records that say all there is; none while the log must not be written anew.
    fn live_record_count(&self) -> Option<usize>;
    /// Those records.
    fn live_records(&self) -> Vec<Self::Record>;
    /// What is to be done once a record is safe that was replayed a moment ago.
    fn follow_up(&self, record: &Self::Record) -> Option<Self::FollowUp>;
    /// What is to be done since the log was read.
    fn follow_ups(&self) -> Vec<Self::FollowUp>;
}

/// What a decision leads to.
pub struct Step<M: Machine> {
    /// To be written in this order; all or nothing.
    pub records: Vec<M::Record>,
    /// The producer in whose transaction they are written.
    pub producer: Option<(i64, i16)>,
    /// What lets them begin that transaction in the partition.
    pub guard: Option<Guard>,
    /// Answers to requests that waited.
    pub responses: Vec<(Token, M::Response)>,
    /// What happened, to be counted.
    pub events: Vec<Event>,
}

impl<M: Machine> Default for Step<M> {
    fn default() -> Self {
        Self {
            records: Vec::new(),
            producer: None,
            guard: None,
            responses: Vec::new(),
            events: Vec::new(),
        }
    }
}

/// What is to be done elsewhere, since a record is safe.
#[derive(Debug)]
pub struct Follow<T> {
    /// The partition that the record is in.
    pub partition: i32,
    /// The term that it was found in.
    pub epoch: LeaderEpoch,
    /// What is to be done.
    pub what: T,
}

/// Why a coordinator does not serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unserved {
    /// It reads its log.
    #[error("the coordinator is loading")]
    Loading,
    /// It cannot write, or not read.
    #[error("the coordinator is not available")]
    NotAvailable,
    /// Another broker coordinates.
    #[error("another broker coordinates")]
    Elsewhere,
}
