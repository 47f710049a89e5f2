//! What a follower's partition does: says how far it is, takes what its leader sends, tells what is safe.
//!
//! As with a leader, everything names the epoch: what a leader of the past still sends is not taken.

use std::sync::Arc;

use millstream_core::ids::{BrokerId, LeaderEpoch, Offset};
use millstream_kafka::records::BatchHeader;
use millstream_storage::ReadError;

use super::Partition;
use super::feeds::{Feed, ReadyQueue, Slot};
use super::leading::{Line, Position};
use super::partition::State;
use super::role::Role;

/// Why a follower did not do what its leader said.
#[derive(Debug, thiserror::Error)]
pub enum NotCopied {
    /// It follows another leader by now, or leads itself.
    #[error("the partition does not follow in that epoch")]
    NotFollower,
    /// A batch of a later term than the leader's.
    #[error("a batch is of leader epoch {found}, later than its sender's {expected}")]
    Epoch {
        /// The batch's.
        found: LeaderEpoch,
        /// The leader's.
        expected: LeaderEpoch,
    },
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] millstream_storage::AppendError),
    /// The log could not be made shorter.
    #[error(transparent)]
    Cut(#[from] ReadError),
}

/// Where the leader's log is, as it says with everything that it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderOffsets {
    /// Its high watermark.
    pub high: Offset,
    /// Its first offset.
    pub log_start: Offset,
}

impl Partition {
    /// How far the log goes, for a leader that is about to be asked for more. The line is told whenever more of it is
    /// safe. None if the partition does not follow `leader` in that epoch any more.
    pub fn begin_to_follow(self: &Arc<Self>, leader: BrokerId, line: Line<'_>) -> Option<Position> {
        let mut state = self.lock();
        match state.role {
            Role::Follower { epoch, leader: l } if epoch == line.epoch && l == leader => {}
            _ => return None,
        }
        if state.log.is_poisoned() {
            return None;
        }
        state.feeds.clear();
        state.feeds.push(Feed::new(leader, line.slot, line.queue.clone()));
        let log_end = state.log.log_end_offset();
        let position = Position {
            last_epoch: state.log.latest_leader_epoch().unwrap_or(LeaderEpoch::UNKNOWN),
            log_end,
            durable_end: state.safe_end(),
        };
        drop(state);
        self.request_sync();
        Some(position)
    }

    /// Takes batches as the leader has them.
    ///
    /// # Errors
    /// The partition does not follow in that epoch, the batches do not continue the log, or the disk failed.
    pub fn copy(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        batches: &[u8],
        offsets: LeaderOffsets,
        now_ms: i64,
    ) -> Result<(), NotCopied> {
        check_epochs(batches, epoch)?;
        let mut guard = self.lock();
        let state = &mut *guard;
        state.follows_in(epoch)?;
        if let Err(error) = state.log.append_as_follower(batches, now_ms) {
            self.report_failure(state, &error);
            return Err(error.into());
        }
        state.bytes_since_checkpoint += batches.len();
        state.take_offsets(offsets)?;
        if !state.waits_for_disk {
            state.tell_feeds();
        } else if !state.queued && !batches.is_empty() {
            state.queued = true;
            drop(guard);
            self.office.flusher.enqueue(self.clone());
        }
        Ok(())
    }

    /// Takes the leader's offsets.
    ///
    /// # Errors
    /// The partition does not follow in that epoch, or the disk failed.
    pub fn note_offsets(&self, epoch: LeaderEpoch, offsets: LeaderOffsets) -> Result<(), NotCopied> {
        let mut state = self.lock();
        state.follows_in(epoch)?;
        state.take_offsets(offsets)
    }

    /// Up to where what was copied is safe, for the leader to know. None if the partition does not follow in that epoch
    /// any more.
    pub fn safe_end(&self, slot: Slot, queue: &Arc<ReadyQueue>, epoch: LeaderEpoch) -> Option<Offset> {
        let mut state = self.lock();
        state.follows_in(epoch).ok()?;
        let feed = state.feeds.iter_mut().find(|feed| feed.is(slot, queue))?;
        feed.heard();
        Some(state.safe_end())
    }

    /// Takes back what the leader does not have, from `to` on. Blocks.
    ///
    /// # Errors
    /// The partition does not follow in that epoch, or the disk failed.
    pub fn truncate(self: &Arc<Self>, epoch: LeaderEpoch, to: Offset, now_ms: i64) -> Result<(), NotCopied> {
        let mut state = self.lock();
        state.follows_in(epoch)?;
        let (from, high) = (state.log.log_end_offset(), state.high);
        let (topic, partition) = (&self.topic, self.index.0);
        let last = state.log.latest_leader_epoch();
        let is_unclean = last.is_some_and(|last| state.unclean.is_some_and(|unclean| last < unclean));
        if to < high {
            if !is_unclean {
                tracing::error!(%topic, partition, %to, %high, "records that were safe are cut off: the leader lacks them");
            }
            state.high = to;
        }
        let truncated = state.log.truncate_to(to, now_ms);
        state.wake_readers();
        truncated?;
        let end = state.log.log_end_offset();
        if is_unclean {
            // Of those below the high watermark it is certain that they were acknowledged; what that was, a broker that
            // was down does not know any more.
            let (records, acknowledged) = (from.0 - end.0, (high.0 - end.0).max(0));
            self.office.metrics.records_lost.inc_by(records.max(0) as u64);
            tracing::warn!(%topic, partition, records, first = %end, last = from.0 - 1, acknowledged_at_least = acknowledged, "an unclean election went on without these records: they are cut off here");
        } else {
            tracing::info!(%topic, partition, %from, to = %end, %epoch, "records that the leader does not have are cut off");
        }
        Ok(())
    }

    /// Drops everything, since the leader's log begins behind it, and begins at `at`. Blocks.
    ///
    /// # Errors
    /// The partition does not follow in that epoch, or the disk failed.
    pub fn start_over(
        self: &Arc<Self>,
        epoch: LeaderEpoch,
        at: Offset,
        now_ms: i64,
    ) -> Result<(), NotCopied> {
        let mut state = self.lock();
        state.follows_in(epoch)?;
        let (start, end) = (state.log.log_start_offset(), state.log.log_end_offset());
        state.log.start_over(at, now_ms)?;
        state.high = at;
        state.wake_readers();
        let (topic, partition) = (&self.topic, self.index.0);
        tracing::info!(%topic, partition, %start, %end, %at, "the log begins anew where its leader's does");
        Ok(())
    }
}

impl State {
    fn follows_in(&self, expected: LeaderEpoch) -> Result<(), NotCopied> {
        match self.role {
            Role::Follower { epoch, .. } if epoch == expected => Ok(()),
            _ => Err(NotCopied::NotFollower),
        }
    }

    fn safe_end(&self) -> Offset {
        match self.waits_for_disk {
            true => self.log.flushed_offset(),
            false => self.log.log_end_offset(),
        }
    }

    fn take_offsets(&mut self, offsets: LeaderOffsets) -> Result<(), NotCopied> {
        self.note_high(offsets.high);
        self.leader_log_start = offsets.log_start;
        Ok(self.drop_what_the_leader_dropped()?)
    }

    /// Begins the log where the leader's begins, or as far as that is on the disk: the rest goes once it is.
    pub fn drop_what_the_leader_dropped(&mut self) -> Result<(), ReadError> {
        let is_safe = self.high.min(self.log.flushed_offset());
        let start = self.leader_log_start.min(is_safe);
        if start > self.log.log_start_offset() {
            self.log.delete_records_before(start)?;
        }
        Ok(())
    }
}

/// A leader has no batch of a later term than its own. One that has is no leader any more and has cut its log since.
fn check_epochs(batches: &[u8], expected: LeaderEpoch) -> Result<(), NotCopied> {
    let mut rest = batches;
    while let Ok(header) = BatchHeader::parse(rest) {
        let found = LeaderEpoch(header.partition_leader_epoch);
        if found > expected {
            return Err(NotCopied::Epoch { found, expected });
        }
        rest = rest.get(header.total_bytes()..).unwrap_or_default();
    }
    Ok(())
}
