//! What a leader's partition does for its followers: compares logs, gives what they lack, counts what they hold.
//!
//! Everything names the leader epoch that the follower was admitted in. Once the term is over all of it is refused, so
//! nothing that this broker does to its log as a follower reaches those who still take it for the leader.

use std::sync::Arc;

use millstream_core::ids::{BrokerId, LeaderEpoch, Offset};
use millstream_core::replica::{self, Handshake};
use millstream_storage::ReadError;

use super::feeds::{Feed, ReadyQueue, Slot};
use super::partition::{State, Watermarks};
use super::role::Role;
use super::{FileSlice, Partition};

/// How far a follower's log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The epoch of its last record; -1 where it has none.
    pub last_epoch: LeaderEpoch,
    /// Where its next record goes.
    pub log_end: Offset,
    /// How much of it is safe there: on the disk, where the topic waits for that.
    pub durable_end: Offset,
}

/// A follower's partition on its stream.
#[derive(Debug, Clone, Copy)]
pub struct Line<'a> {
    /// Its name on the stream.
    pub slot: Slot,
    /// The stream's queue.
    pub queue: &'a Arc<ReadyQueue>,
    /// The epoch that the follower follows in.
    pub epoch: LeaderEpoch,
}

/// What a follower lacks, or a part of that.
#[derive(Debug)]
pub struct Shipment {
    /// Whole batches; none if it has all of them.
    pub slice: Option<FileSlice>,
    /// Offsets at the time.
    pub watermarks: Watermarks,
    /// Whether the follower is in sync.
    pub is_in_sync: bool,
}

/// Why a leader does nothing for a follower.
#[derive(Debug, thiserror::Error)]
pub enum NotServed {
    /// This broker does not lead in that epoch; it may not have heard of it yet.
    #[error("this broker does not lead in that epoch")]
    NotLeader,
    /// The broker is no replica of the partition, as far as this one has heard.
    #[error("the broker is no replica")]
    NotReplica,
    /// The follower says what cannot be.
    #[error("the follower holds more than its leader")]
    Impossible,
    /// The log begins behind what the follower needs next.
    #[error("the log begins later, at {start}")]
    Behind {
        /// Where its first batch begins.
        start: Offset,
    },
    /// The log cannot be read.
    #[error(transparent)]
    Read(ReadError),
}

impl Partition {
    /// Compares a follower's log with this one (KIP-101). If it goes on from there, the follower is told of everything
    /// from now on by its line.
    ///
    /// # Errors
    /// This broker does not lead, or the other is no replica.
    pub fn admit(
        self: &Arc<Self>,
        follower: BrokerId,
        line: Line<'_>,
        position: Position,
        now_ms: i64,
    ) -> Result<Handshake, NotServed> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let floor = state.first_base()?;
        let leader = state.led_in(line.epoch)?;
        if !leader.followers(now_ms).any(|view| view.id == follower) {
            return Err(NotServed::NotReplica);
        }
        let Position {
            last_epoch,
            log_end,
            durable_end,
        } = position;
        let answer = replica::leader_answer(
            last_epoch,
            log_end,
            |epoch| state.end_of_leader_epoch(epoch),
            floor,
        );
        if answer != Handshake::Continue {
            return Ok(answer);
        }
        if log_end > state.log.log_end_offset() || durable_end > log_end {
            return Err(NotServed::Impossible);
        }
        state.feeds.retain(|feed| feed.broker != follower);
        state
            .feeds
            .push(Feed::new(follower, line.slot, line.queue.clone()));
        state.tell_feeds();
        let leader = state.led_in(line.epoch)?;
        let effects = leader.acknowledged(follower, durable_end, now_ms);
        self.carry_out(state, effects);
        Ok(answer)
    }

    /// What a follower lacks that has everything before `next`: up to `bytes_max`, or one batch that is larger.
    ///
    /// # Errors
    /// This broker does not lead any more, the log begins behind `next`, or cannot be read.
    pub fn ship(
        &self,
        follower: BrokerId,
        line: Line<'_>,
        next: Offset,
        bytes_max: usize,
    ) -> Result<Shipment, NotServed> {
        let mut state = self.lock();
        let is_in_sync = state.led_in(line.epoch)?.isr().contains(&follower);
        for feed in state
            .feeds
            .iter_mut()
            .filter(|feed| feed.is(line.slot, line.queue))
        {
            feed.heard();
        }
        let watermarks = state.watermarks();
        // The log may begin in the middle of a batch; the follower needs all of it.
        let floor = watermarks.log_start;
        if next < floor {
            let start = state.first_base()?;
            if next != start {
                return Err(NotServed::Behind { start });
            }
        }
        let slice = state
            .log
            .read(next.max(floor), bytes_max, watermarks.log_end, true)
            .map_err(NotServed::Read)?;
        Ok(Shipment {
            slice: slice.map(FileSlice::from),
            watermarks,
            is_in_sync,
        })
    }

    /// A shipment was read, and `next` comes behind it: its line is told if there is more.
    ///
    /// # Errors
    /// This broker does not lead any more: what was read may be anything.
    pub fn shipped(&self, line: Line<'_>, next: Offset) -> Result<(), NotServed> {
        let mut state = self.lock();
        state.led_in(line.epoch)?;
        if next < state.log.log_end_offset() {
            let mut feeds = state.feeds.iter_mut();
            if let Some(feed) = feeds.find(|feed| feed.is(line.slot, line.queue)) {
                feed.tell();
            }
        }
        Ok(())
    }

    /// Counts what a follower holds safely.
    ///
    /// # Errors
    /// This broker does not lead any more, or the follower holds more than it was given.
    pub fn acknowledged(
        self: &Arc<Self>,
        follower: BrokerId,
        epoch: LeaderEpoch,
        durable_end: Offset,
        now_ms: i64,
    ) -> Result<(), NotServed> {
        let mut guard = self.lock();
        let state = &mut *guard;
        let log_end = state.log.log_end_offset();
        let leader = state.led_in(epoch)?;
        if durable_end > log_end {
            return Err(NotServed::Impossible);
        }
        let effects = leader.acknowledged(follower, durable_end, now_ms);
        self.carry_out(state, effects);
        Ok(())
    }

    /// Tells a line nothing any more. A follower at its other end is not heard of until it follows again.
    pub fn forget_line(&self, slot: Slot, queue: &Arc<ReadyQueue>) {
        let mut state = self.lock();
        let Some(at) = state.feeds.iter().position(|feed| feed.is(slot, queue)) else {
            return;
        };
        let feed = state.feeds.swap_remove(at);
        if let Role::Leader(leader) = &mut state.role {
            leader.disconnected(feed.broker);
        }
    }
}

impl State {
    fn led_in(&mut self, epoch: LeaderEpoch) -> Result<&mut replica::Leader, NotServed> {
        match &mut self.role {
            Role::Leader(leader) if leader.epoch() == epoch => Ok(leader),
            _ => Err(NotServed::NotLeader),
        }
    }

    /// The offset that the log's first batch begins with: records may be deleted up to the middle of a batch.
    fn first_base(&self) -> Result<Offset, NotServed> {
        let start = self.log.log_start_offset();
        let first = self.log.read(start, 1, self.log.log_end_offset(), true);
        let Some(slice) = first.map_err(NotServed::Read)? else {
            return Ok(start);
        };
        let mut slice = FileSlice::from(slice);
        slice.len = slice.len.min(size_of::<i64>());
        let bytes = slice
            .read_blocking()
            .map_err(|error| NotServed::Read(error.into()))?;
        let base = bytes.try_into().map(i64::from_be_bytes);
        Ok(base.map_or(start, Offset))
    }
}
