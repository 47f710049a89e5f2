//! The groups of one partition of `__consumer_offsets`, driven by a shard.

use std::sync::Arc;

use arc_swap::ArcSwap;
use millstream_core::group::consumer::{OwnConfigs, Topics};
use millstream_core::group::{
    self, GroupConfig, GroupError, Groups, JoinRequest, Record, Response, SyncRequest,
};
use millstream_kafka::records::{BatchError, BatchView, Scratch};

use super::events::Event;
use super::machine::{Machine, Step, Unserved};
use super::replay;
use super::shard::Shard;

impl Shard<Groups> {
    /// JoinGroup; the answer comes when the rebalance is done.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub async fn join(self: &Arc<Self>, request: JoinRequest) -> Result<Response, GroupError> {
        self.wait_for(|groups, now_ms, token| groups.join(now_ms, request, token))
            .await
    }

    /// SyncGroup; the answer comes when the leader has assigned.
    ///
    /// # Errors
    /// The coordinator cannot serve now.
    pub async fn sync(self: &Arc<Self>, request: &SyncRequest) -> Result<Response, GroupError> {
        self.wait_for(|groups, now_ms, token| groups.sync(now_ms, request, token))
            .await
    }
}

/// What groups are begun with.
#[derive(Debug, Clone, Default)]
pub struct Setting {
    /// The bounds that they keep.
    pub bounds: GroupConfig,
    /// What there is to consume. Owners that have read their logs are told when it changes, others look then.
    pub topics: Arc<ArcSwap<Topics>>,
    /// What they set for themselves, in the same way.
    pub own: Arc<ArcSwap<OwnConfigs>>,
}

impl Machine for Groups {
    type Config = Setting;
    type Record = Record;
    type Response = Response;
    type Error = GroupError;
    type FollowUp = ();

    const WHAT: &'static str = "groups";

    fn empty(setting: Setting) -> Self {
        Self::new(setting.bounds)
    }

    fn read(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<usize, BatchError> {
        replay::replay_batch(self, batch, scratch)
    }

    fn encode(record: &Record) -> (Vec<u8>, Option<Vec<u8>>) {
        record.encode()
    }

    fn replay(&mut self, record: &Record, producer: Option<(i64, i16)>) {
        match producer {
            None => Self::replay(self, record),
            Some((id, _)) => self.replay_pending(id, record),
        }
    }

    fn loaded(&mut self, setting: &Setting, now_ms: i64) -> Step<Self> {
        self.topics_changed(setting.topics.load_full());
        self.own_configs_changed(setting.own.load_full());
        Self::loaded(self, now_ms).into()
    }

    fn next_deadline(&self) -> Option<i64> {
        Self::next_deadline(self)
    }

    fn tick(&mut self, now_ms: i64) -> Step<Self> {
        Self::tick(self, now_ms).into()
    }

    fn expire(&mut self, now_ms: i64) -> Step<Self> {
        Self::expire(self, now_ms).into()
    }

    fn close(&mut self) -> Step<Self> {
        Self::close(self, GroupError::NotCoordinator).into()
    }

    fn failed(response: Response) -> Response {
        response.failed(GroupError::CoordinatorNotAvailable)
    }

    fn len(&self) -> usize {
        self.list().count()
    }

    fn live_record_count(&self) -> Option<usize> {
        // What is pending is in the log alone.
        (!self.has_pending()).then(|| Self::live_record_count(self))
    }

    fn live_records(&self) -> Vec<Record> {
        Self::live_records(self)
    }

    fn follow_up(&self, _: &Record) -> Option<()> {
        None
    }

    fn follow_ups(&self) -> Vec<()> {
        Vec::new()
    }
}

impl From<group::Step> for Step<Groups> {
    fn from(step: group::Step) -> Self {
        Self {
            records: step.records,
            producer: step.producer,
            guard: None,
            responses: step.responses,
            events: step.events.into_iter().map(Event::Group).collect(),
        }
    }
}

impl From<Unserved> for GroupError {
    fn from(unserved: Unserved) -> Self {
        match unserved {
            Unserved::Loading => Self::CoordinatorLoadInProgress,
            Unserved::NotAvailable => Self::CoordinatorNotAvailable,
            Unserved::Elsewhere => Self::NotCoordinator,
        }
    }
}
