//! One partition of one topic: the only place that touches its log.
//!
//! The log lies behind one lock that is held for the length of an append or a lookup and never across an `.await`.
//! Appends are durable when the flusher says so; the high watermark follows, and with it what consumers see. With
//! `millstream.flush=replicated` the high watermark does not wait for the disk (Kafka's promise, on one broker).

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use millstream_core::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicName};
use millstream_kafka::ErrorCode;
use millstream_storage::disk::RealDisk;
use millstream_storage::{AppendError, Appended, Log, LogConfig, ReadError, SyncHandle};
use tokio::sync::{Notify, oneshot};

use super::FileSlice;
use super::flusher::Flusher;

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
    flusher: Arc<Flusher>,
}

#[derive(Debug)]
struct State {
    log: Log<RealDisk>,
    /// Bytes appended since a checkpoint was last written.
    bytes_since_checkpoint: usize,
    /// Those who wait for an offset to be durable, in order of offset.
    durable: VecDeque<(Offset, oneshot::Sender<()>)>,
    /// Fetches that wait for more to read.
    readers: Vec<Weak<Notify>>,
    queued: bool,
    waits_for_disk: bool,
    deleted: bool,
}

/// What an append did.
#[derive(Debug)]
pub struct Receipt {
    /// Where the batch is, and whether it was there before.
    pub appended: Appended,
    /// First offset of the log at the time.
    pub log_start_offset: Offset,
    /// Resolves when the batch is durable; fails when the disk did. None when it is durable already.
    pub durable: Option<oneshot::Receiver<()>>,
}

/// Offsets that answers carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// First offset that is kept.
    pub log_start: Offset,
    /// Consumers see what lies before it.
    pub high: Offset,
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
}

impl Partition {
    /// Makes an opened log a partition.
    pub fn new(
        topic: TopicName,
        topic_id: TopicId,
        index: PartitionIndex,
        log: Log<RealDisk>,
        waits_for_disk: bool,
        flusher: Arc<Flusher>,
    ) -> Arc<Self> {
        let state = State {
            log,
            durable: VecDeque::new(),
            bytes_since_checkpoint: 0,
            readers: Vec::new(),
            queued: false,
            waits_for_disk,
            deleted: false,
        };
        Arc::new(Self {
            topic,
            topic_id,
            index,
            state: Mutex::new(state),
            flusher,
        })
    }

    /// Appends one validated batch.
    ///
    /// # Errors
    /// Sequence, disk and state errors of the log; nothing is appended then.
    pub fn append(
        self: &Arc<Self>,
        batch: &[u8],
        epoch: LeaderEpoch,
        now_ms: i64,
    ) -> Result<Receipt, AppendError> {
        let mut state = self.lock();
        let appended = state.log.append_as_leader(batch, epoch, now_ms)?;
        state.bytes_since_checkpoint += batch.len();
        let last = appended.last_offset;
        let log_start_offset = state.log.log_start_offset();
        let durable = if state.is_durable(last) {
            None
        } else {
            let (sender, receiver) = oneshot::channel();
            state.durable.push_back((last, sender));
            Some(receiver)
        };
        if !state.waits_for_disk {
            state.wake_readers();
        } else if !state.queued {
            state.queued = true;
            drop(state);
            self.flusher.enqueue(self.clone());
        }
        Ok(Receipt {
            appended,
            log_start_offset,
            durable,
        })
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
        let state = self.lock();
        let watermarks = state.watermarks();
        let slice = state
            .log
            .read(offset, bytes_max, watermarks.high, one_batch_at_least)?;
        let slice = slice.map(|s| FileSlice {
            file: s.file,
            position: s.position,
            len: s.len,
        });
        Ok(ReadOutcome { slice, watermarks })
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
        match LeaderEpoch(known) {
            LeaderEpoch::UNKNOWN => Ok(()),
            known if known > LEADER_EPOCH => Err(ErrorCode::UnknownLeaderEpoch),
            known if known < LEADER_EPOCH => Err(ErrorCode::FencedLeaderEpoch),
            _ => Ok(()),
        }
    }

    /// Where a leader epoch ended (KIP-101): the largest epoch up to it, and the offset behind its last record. The
    /// epoch of now has no end yet and has the log's.
    pub fn end_of_leader_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        let state = self.lock();
        if epoch == LEADER_EPOCH {
            return Some((LEADER_EPOCH, state.log.log_end_offset()));
        }
        let known = state.log.offset_for_leader_epoch(epoch);
        // Before the first epoch there was nothing, also where the log does not know an epoch yet.
        let is_older = epoch < LEADER_EPOCH && epoch != LeaderEpoch::UNKNOWN;
        known.or_else(|| is_older.then(|| (epoch, state.log.log_start_offset())))
    }

    /// Wakes `reader` the next time that there is more to read, or the partition goes away.
    pub fn notify_when_readable(&self, reader: &Arc<Notify>) {
        let mut state = self.lock();
        if state.readers.len() >= READERS_PRUNED_AFTER {
            state.readers.retain(|r| r.strong_count() > 0);
        }
        state.readers.push(Arc::downgrade(reader));
    }

    /// Lets the caller ask or tell the log something that is not on the way of records.
    pub fn with_log<T>(&self, work: impl FnOnce(&mut Log<RealDisk>) -> T) -> T {
        work(&mut self.lock().log)
    }

    /// Applies another configuration.
    pub fn configure(self: &Arc<Self>, config: LogConfig, waits_for_disk: bool) {
        let mut state = self.lock();
        state.log.set_config(config);
        state.waits_for_disk = waits_for_disk;
        state.wake_readers();
        drop(state);
        // What was appended while nobody waited for the disk is not seen again before it is there.
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
        Ok(state.log.log_start_offset())
    }

    /// Queues a sync of whatever is not durable yet.
    pub fn request_sync(self: &Arc<Self>) {
        let mut state = self.lock();
        if !state.queued && !state.deleted && state.log.flushed_offset() < state.log.log_end_offset() {
            state.queued = true;
            drop(state);
            self.flusher.enqueue(self.clone());
        }
    }

    /// Resolves when what is in the log now is durable; fails when the disk did. None when it is durable already.
    pub fn when_durable(self: &Arc<Self>) -> Option<oneshot::Receiver<()>> {
        let mut state = self.lock();
        let last = Offset(state.log.log_end_offset().0 - 1);
        if state.is_durable(last) {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        if !state.log.is_poisoned() {
            state.durable.push_back((last, sender));
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
        while state
            .durable
            .front()
            .is_some_and(|(offset, _)| state.is_durable(*offset))
        {
            if let Some((_, waiter)) = state.durable.pop_front() {
                let _ = waiter.send(());
            }
        }
        state.wake_readers();
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
    pub(super) fn poison(&self) {
        let mut state = self.lock();
        state.log.poison();
        state.durable.clear();
        state.wake_readers();
    }

    /// The topic was deleted: waiting requests end. Gives the directory that is to be removed.
    pub(super) fn retire(&self) -> std::io::Result<PathBuf> {
        let mut state = self.lock();
        state.deleted = true;
        state.log.poison();
        state.durable.clear();
        state.wake_readers();
        state.log.retire()
    }

    /// Writes what makes the next start fast.
    pub(super) fn close(&self) -> std::io::Result<()> {
        self.lock().log.close()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the log is held")
    }
}

impl State {
    fn watermarks(&self) -> Watermarks {
        let log_end = self.log.log_end_offset();
        let high = if self.waits_for_disk {
            self.log.flushed_offset()
        } else {
            log_end
        };
        Watermarks {
            log_start: self.log.log_start_offset(),
            high,
            log_end,
        }
    }

    fn is_durable(&self, last: Offset) -> bool {
        !self.waits_for_disk || last < self.log.flushed_offset()
    }

    fn wake_readers(&mut self) {
        for reader in self.readers.drain(..) {
            if let Some(reader) = reader.upgrade() {
                reader.notify_one();
            }
        }
    }
}

/// A lone broker has led its partitions from the beginning.
const LEADER_EPOCH: LeaderEpoch = LeaderEpoch(0);
/// Number of waiting readers from which on those that have gone are looked for.
const READERS_PRUNED_AFTER: usize = 64;
/// Bytes from which on a checkpoint is due before its time: they bound what a start after a crash has to read.
const CHECKPOINT_BYTES: usize = 128 << 20;
