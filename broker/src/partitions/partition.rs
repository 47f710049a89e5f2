//! One partition of one topic: the only place that touches its log.
//!
//! The log lies behind one lock that is held for the length of an append or a lookup and never across an `.await`. What
//! the partition is here (leader, follower, neither) lies behind the same lock, so that no record gets into the log
//! under a role that is over. Appends are safe when the high watermark has passed them: a lone broker's follows its disk
//! (or, with `millstream.flush=replicated`, its log), a cluster's follows all that are in sync.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use millstream_core::ids::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};
use millstream_core::replica::Proposal;
use millstream_kafka::ErrorCode;
use millstream_storage::disk::RealDisk;
use millstream_storage::{Appended, Log, LogConfig, ReadError, SyncHandle};
use tokio::sync::{Notify, oneshot};

use super::FileSlice;
use super::feeds::Feed;
use super::flusher::Flusher;
use super::readers::Readers;
use super::reports::Reports;
use super::role::Role;
use super::transactions::{Isolation, Verifications};
use crate::metrics::Metrics;

/// A partition that this broker stores.
#[derive(Debug)]
pub struct Partition {
    /// Topic, by name.
    pub topic: TopicName,
    /// Topic, by id.
    pub topic_id: TopicId,
    /// Which of the topic's partitions this is.
    pub index: PartitionIndex,
    state: Mutex<State>,
    pub(super) office: Office,
}

/// What all partitions of a broker share.
#[derive(Debug, Clone)]
pub(super) struct Office {
    /// This broker.
    pub me: BrokerId,
    pub flusher: Arc<Flusher>,
    pub reports: Arc<Reports>,
    pub metrics: Arc<Metrics>,
}

#[derive(Debug)]
pub(super) struct State {
    pub log: Log<RealDisk>,
    pub role: Role,
    /// The entry of the image that gave it its role: the partition's epoch, and how many copies must be in sync.
    pub entry: Option<(i32, usize)>,
    /// The largest leader epoch that this broker has heard of.
    pub epoch: LeaderEpoch,
    /// The last term that began with an unclean election.
    pub unclean: Option<LeaderEpoch>,
    /// The high watermark as far as it is known; a leader's is in its role.
    pub high: Offset,
    /// Where the log of a follower's leader begins.
    pub leader_log_start: Offset,
    /// Who is told when there is more: followers of a leader, the leader of a follower.
    pub feeds: Vec<Feed>,
    /// Other in-sync replicas that wait to be proposed.
    pub proposal: Option<Proposal>,
    /// Until then nothing is proposed: the last proposal was refused, and so might be the next.
    pub quiet_until: Option<Instant>,
    /// Until then batches may be missing that producers send again.
    pub gaps_until: Option<Instant>,
    /// What coordinators are being asked.
    pub verifications: Verifications,
    /// Bytes appended since a checkpoint was last written.
    pub bytes_since_checkpoint: usize,
    /// Those who wait for the high watermark to pass an offset, in order of offset.
    pub waiters: VecDeque<(Offset, oneshot::Sender<Result<(), NotDurable>>)>,
    /// Fetches that wait for more to read.
    readers: Readers,
    pub queued: bool,
    pub waits_for_disk: bool,
    deleted: bool,
}

/// What an append did.
#[derive(Debug)]
pub struct Receipt {
    /// Where the batch is, and whether it was there before.
    pub appended: Appended,
    /// First offset of the log at the time.
    pub log_start_offset: Offset,
    /// Resolves when the high watermark has passed the batch, or will not here. None when it has already.
    pub durable: Option<oneshot::Receiver<Result<(), NotDurable>>>,
}

/// Why the high watermark will not pass a batch here. The batch may be kept nevertheless, by another leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// Another broker leads, or this one in another term.
    #[error("the leader has changed")]
    NotLeader,
    /// The disk failed.
    #[error("the disk failed")]
    Storage,
}

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Another broker leads the partition, or nobody does.
    #[error("this broker does not lead the partition")]
    NotLeader,
    /// It would begin a transaction, and nobody knows whether its coordinator wants that (KIP-890).
    #[error("the batch of producer {producer_id} is not part of a transaction that is under way")]
    Unverified {
        /// Who.
        producer_id: i64,
    },
    /// The log did not take it.
    #[error(transparent)]
    Log(#[from] millstream_storage::AppendError),
}

/// Offsets that answers carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that is kept.
    pub log_start: Offset,
    /// Consumers see what lies before it.
    pub high: Offset,
    /// What lies before it is decided: no transaction can still be aborted there. Never above `high`.
    pub last_stable: Offset,
    /// Where the next record goes.
    pub log_end: Offset,
}

/// What a read found.
#[derive(Debug)]
pub struct ReadOutcome {
    /// Whole batches, the first of which covers the offset asked for; none at the end of the log.
    pub slice: Option<FileSlice>,
    /// Offsets at the time.
    pub watermarks: Watermarks,
    /// Whether readers of committed records have to ask [`Partition::aborted_in`] what of it to skip.
    pub may_hold_aborted: bool,
}

impl Partition {
    /// Makes an opened log a partition, which is offline until it is given a role.
    pub(super) fn new(
        (topic, topic_id, index): (TopicName, TopicId, PartitionIndex),
        log: Log<RealDisk>,
        waits_for_disk: bool,
        office: Office,
    ) -> Arc<Self> {
        let state = State {
            role: Role::Offline,
            entry: None,
            epoch: LeaderEpoch::UNKNOWN,
            unclean: None,
            high: log.log_start_offset(),
            leader_log_start: Offset::ZERO,
            log,
            feeds: Vec::new(),
            proposal: None,
            quiet_until: None,
            gaps_until: None,
            verifications: Verifications::default(),
            waiters: VecDeque::new(),
            bytes_since_checkpoint: 0,
            readers: Readers::default(),
            queued: false,
            waits_for_disk,
            deleted: false,
        };
        Arc::new(Self {
            topic,
            topic_id,
            index,
            state: Mutex::new(state),
            office,
        })
    }

    /// Appends one validated batch, if this broker leads.
    ///
    /// # Errors
    /// It does not; sequence, disk and state errors of the log. Nothing is appended then.
    pub fn append(self: &Arc<Self>, batch: &[u8], now_ms: i64) -> Result<Receipt, AppendError> {
        let mut state = self.lock();
        let receipt = self.append_to(&mut state, batch.len(), |log, term| {
            log.append_as_leader(batch, term, now_ms)
        })?;
        self.sync_soon(state);
        Ok(receipt)
    }

    /// Has the log take `bytes` more in the term of now. [`Partition::sync_soon`] has to follow.
    #[inline]
    pub(super) fn append_to(
        self: &Arc<Self>,
        state: &mut State,
        bytes: usize,
        append: impl FnOnce(&mut Log<RealDisk>, LeaderEpoch) -> Result<Appended, millstream_storage::AppendError>,
    ) -> Result<Receipt, AppendError> {
        let Role::Leader(leader) = &mut state.role else {
            return Err(AppendError::NotLeader);
        };
        let appended = match append(&mut state.log, leader.epoch()) {
            Ok(appended) => appended,
            Err(error) => {
                self.report_failure(state, &error);
                return Err(error.into());
            }
        };
        state.bytes_since_checkpoint += bytes;
        let high_moved = leader.appended(state.log.log_end_offset());
        let high = leader.high_watermark();
        let log_start_offset = state.log.log_start_offset();
        let last = appended.last_offset;
        let durable = if last < high {
            None
        } else {
            let (sender, receiver) = oneshot::channel();
            state.waiters.push_back((last, sender));
            Some(receiver)
        };
        state.tell_feeds();
        if high_moved {
            state.high_moved();
        }
        Ok(Receipt {
            appended,
            log_start_offset,
            durable,
        })
    }

    /// Queues a sync of what was appended, where somebody waits for the disk.
    #[inline]
    pub(super) fn sync_soon(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.waits_for_disk && !state.queued {
            state.queued = true;
            drop(state);
            self.office.flusher.enqueue(self.clone());
        }
    }

    /// Notes that a batch was refused which its producer sends again.
    pub fn note_refusal(&self) {
        self.lock().expect_gaps();
    }

    /// Whether a batch may be missing here that its producer sends again: one was refused, or this broker has begun to
    /// lead, not long ago.
    pub fn may_miss_batches(&self) -> bool {
        self.lock().gaps_until.is_some_and(|until| Instant::now() < until)
    }

    /// Finds batches from `offset` on, up to the high watermark.
    ///
    /// # Errors
    /// The offset lies outside the log, or the log cannot be read.
    pub fn read(
        &self,
        offset: Offset,
        bytes_max: usize,
        one_batch_at_least: bool,
    ) -> Result<ReadOutcome, ReadError> {
        self.read_as(Isolation::Uncommitted, offset, bytes_max, one_batch_at_least)
    }

    /// As [`Partition::read`], up to where a reader with that isolation may see.
    ///
    /// # Errors
    /// As [`Partition::read`].
    pub fn read_as(
        &self,
        isolation: Isolation,
        offset: Offset,
        bytes_max: usize,
        one_batch_at_least: bool,
    ) -> Result<ReadOutcome, ReadError> {
        let mut state = self.lock();
        let watermarks = state.watermarks();
        let end = watermarks.readable(isolation);
        let slice = state.log.read(offset, bytes_max, end, one_batch_at_least)?;
        let may_hold_aborted =
            isolation == Isolation::Committed && slice.is_some() && state.log.may_have_aborted(offset);
        Ok(ReadOutcome {
            slice: slice.map(FileSlice::from),
            watermarks,
            may_hold_aborted,
        })
    }

    /// Offsets of the log at this moment.
    pub fn watermarks(&self) -> Watermarks {
        self.lock().watermarks()
    }

    /// Compares the leader epoch that a client knows with the one of now (KIP-320); -1 knows none.
    ///
    /// # Errors
    /// The client is behind, or it has heard of a leader that this broker has not.
    pub fn check_leader_epoch(&self, known: i32) -> Result<(), ErrorCode> {
        let current = self.leader_epoch();
        match LeaderEpoch(known) {
            LeaderEpoch::UNKNOWN => Ok(()),
            known if known > current => Err(ErrorCode::UnknownLeaderEpoch),
            known if known < current => Err(ErrorCode::FencedLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Where a leader epoch ended (KIP-101): the largest epoch up to it, and the offset behind its last record. The
    /// epoch of now has no end yet and has the log's.
    pub fn end_of_leader_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.lock().end_of_leader_epoch(epoch)
    }

    /// Wakes `reader` the next time that there is more to read, or the partition goes away.
    pub fn notify_when_readable(&self, reader: &Arc<Notify>) {
        self.lock().readers.add(reader, None);
    }

    /// Wakes `reader` the next time that there is more to read with that isolation, or the partition goes away.
    pub fn notify_when_readable_as(&self, isolation: Isolation, reader: &Arc<Notify>) {
        let mut state = self.lock();
        let stable = (isolation == Isolation::Committed).then(|| state.watermarks().last_stable);
        state.readers.add(reader, stable);
    }

    /// Lets the caller ask or tell the log something that is not on the way of records.
    pub fn with_log<T>(&self, work: impl FnOnce(&mut Log<RealDisk>) -> T) -> T {
        let mut state = self.lock();
        let outcome = work(&mut state.log);
        state.catch_up_with_log();
        outcome
    }

    /// Deletes old segments, as the topic's configuration says, but none that the high watermark has not passed. Gives
    /// their number.
    ///
    /// # Errors
    /// The disk failed.
    pub fn apply_retention(&self, now_ms: i64) -> Result<usize, ReadError> {
        let mut state = self.lock();
        if state.log.is_poisoned() {
            return Ok(0);
        }
        // Records that are not safe yet may be taken back, and then the log must still begin before them.
        let high = state.watermarks().high;
        let gone = state.log.apply_retention_before(high, now_ms);
        state.catch_up_with_log();
        gone
    }

    /// Applies another configuration.
    pub fn configure(self: &Arc<Self>, config: LogConfig, waits_for_disk: bool) {
        let mut state = self.lock();
        state.log.set_config(config);
        if state.waits_for_disk != waits_for_disk {
            state.waits_for_disk = waits_for_disk;
            self.lead_on_as_configured(&mut state);
        }
        state.wake_readers();
        drop(state);
        // What was appended while nobody waited for the disk is to be there, too.
        self.request_sync();
    }

    /// Moves the log's start, as DeleteRecords and compaction by load do.
    ///
    /// # Errors
    /// The offset lies beyond the high watermark, or the disk fails.
    pub fn delete_records_before(&self, offset: Offset) -> Result<Offset, ReadError> {
        let mut state = self.lock();
        let high = state.watermarks().high;
        if offset > high {
            return Err(ReadError::OutOfRange {
                offset,
                start: state.log.log_start_offset(),
                end: high,
            });
        }
        state.log.delete_records_before(offset)?;
        state.catch_up_with_log();
        state.tell_feeds();
        Ok(state.log.log_start_offset())
    }

    /// Queues a sync of whatever is not durable yet.
    pub fn request_sync(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.queued && !state.deleted && state.log.flushed_offset() < state.log.log_end_offset() {
            state.queued = true;
            drop(state);
            self.office.flusher.enqueue(self.clone());
        }
    }

    /// Resolves when the high watermark has passed what is in the log now, or will not here. None when it has already.
    pub fn when_durable(self: &Arc<Self>) -> Option<oneshot::Receiver<Result<(), NotDurable>>> {
        let mut state = self.lock();
        let Watermarks { high, log_end, .. } = state.watermarks();
        if high >= log_end {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        if state.log.is_poisoned() {
            let _ = sender.send(Err(NotDurable::Storage));
        } else {
            state.waiters.push_back((Offset(log_end.0 - 1), sender));
        }
        drop(state);
        self.request_sync();
        Some(receiver)
    }

    /// What the flusher has to sync now.
    pub(super) fn begin_sync(&self) -> SyncHandle<RealDisk> {
        let mut state = self.lock();
        state.queued = false;
        state.log.sync_handle()
    }

    /// The flusher has synced what `handle` named.
    pub(super) fn synced(&self, handle: SyncHandle<RealDisk>) {
        let mut state = self.lock();
        state.log.synced(handle);
        state.catch_up_with_log();
        if let Role::Follower { .. } = state.role {
            state.tell_feeds();
            if let Err(error) = state.drop_what_the_leader_dropped() {
                tracing::error!(topic = %self.topic, partition = self.index.0, %error, "deleted records stay");
            }
        }
        if state.bytes_since_checkpoint >= CHECKPOINT_BYTES {
            self.checkpoint(&mut state);
        }
    }

    /// Notes how far the log is on the disk, so that the next start has less to check.
    pub fn write_checkpoint(&self) {
        self.checkpoint(&mut self.lock());
    }

    fn checkpoint(&self, state: &mut State) {
        state.bytes_since_checkpoint = 0;
        if state.log.is_poisoned() {
            return;
        }
        if let Err(error) = state.log.write_checkpoint() {
            tracing::warn!(topic = %self.topic, partition = self.index.0, %error, "no checkpoint: the next start may take longer");
        }
    }

    /// A sync failed: nothing is acknowledged any more.
    pub(crate) fn poison(self: &Arc<Self>) {
        let mut state = self.lock();
        state.log.poison();
        state.release_waiters(NotDurable::Storage);
        state.wake_readers();
        drop(state);
        self.office.reports.failed(self.clone());
    }

    /// Tells the cluster of an append that the disk kept from happening.
    pub(super) fn report_failure(self: &Arc<Self>, state: &State, error: &millstream_storage::AppendError) {
        if state.log.is_poisoned() || matches!(error, millstream_storage::AppendError::DiskFull) {
            self.office.reports.failed(self.clone());
        }
    }

    /// Whether the log takes no writes any more.
    pub fn has_failed(&self) -> bool {
        let state = self.lock();
        state.log.is_poisoned() && !state.deleted
    }

    /// The partition is to be here no longer: waiting requests end. Gives the directory that is to be removed.
    pub(super) fn retire(&self) -> std::io::Result<PathBuf> {
        let mut state = self.lock();
        state.deleted = true;
        state.end_role();
        state.log.poison();
        state.release_waiters(NotDurable::NotLeader);
        state.wake_readers();
        state.log.retire()
    }

    /// Writes what makes the next start fast.
    pub(super) fn close(&self) -> std::io::Result<()> {
        self.lock().log.close()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the log is held")
    }
}

impl State {
    pub fn watermarks(&mut self) -> Watermarks {
        let log_end = self.log.log_end_offset();
        let high = match &self.role {
            Role::Leader(leader) => leader.high_watermark(),
            _ => self.high.min(log_end),
        };
        Watermarks {
            log_start: self.log.log_start_offset(),
            high,
            last_stable: self.log.last_stable_offset(high),
            log_end,
        }
    }

    pub fn end_of_leader_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let end = self.log.log_end_offset();
        if epoch == self.epoch && epoch != LeaderEpoch::UNKNOWN {
            return Some((epoch, end));
        }
        if let Some(known) = self.log.offset_for_leader_epoch(epoch) {
            return Some(known);
        }
        let is_older = epoch < self.epoch && epoch != LeaderEpoch::UNKNOWN;
        is_older.then(|| match self.log.latest_leader_epoch() {
            // The epoch of now has no record yet, and begins at the end.
            Some(latest) if latest < epoch => (latest, end),
            // Before the first epoch there was nothing, also where the log does not know an epoch yet.
            _ => (epoch, self.log.log_start_offset()),
        })
    }

    /// Brings the role up to what the log holds and has on the disk by now.
    pub fn catch_up_with_log(&mut self) {
        if let Role::Leader(leader) = &mut self.role {
            let by_disk = leader.flushed(self.log.flushed_offset());
            let by_log = leader.appended(self.log.log_end_offset());
            if by_disk || by_log {
                self.high_moved();
            }
        }
    }

    /// Lets go what waited for the high watermark, which is another one than before.
    pub fn high_moved(&mut self) {
        let Watermarks {
            high, last_stable, ..
        } = self.watermarks();
        while self.waiters.front().is_some_and(|(offset, _)| *offset < high) {
            if let Some((_, waiter)) = self.waiters.pop_front() {
                // Whoever waited may have gone.
                let _ = waiter.send(Ok(()));
            }
        }
        self.readers.wake_where_more_is(last_stable);
        if let Role::Leader(_) = self.role {
            self.tell_feeds();
        }
    }

    pub fn release_waiters(&mut self, reason: NotDurable) {
        for (_, waiter) in self.waiters.drain(..) {
            let _ = waiter.send(Err(reason));
        }
    }

    pub fn tell_feeds(&mut self) {
        self.feeds.iter_mut().for_each(Feed::tell);
    }

    pub fn wake_readers(&mut self) {
        self.readers.wake_all();
    }
}

/// Bytes from which on a checkpoint is due before its time: they bound what a start after a crash has to read.
const CHECKPOINT_BYTES: usize = 128 << 20;
