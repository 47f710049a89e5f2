//! What a node does for a partition that it follows: cuts where its leader says, copies, acknowledges.

use bytes::Bytes;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_core::mutation::{Mutation, is_on};
use millstream_storage::AppendError;

use super::{Fatal, Replica, Role, SILENCE_MS, Scene, send};
use crate::message::Frame;
use crate::network::SessionId;

impl Replica {
    /// A follower hears its leader.
    pub(super) fn told(
        &mut self,
        from: u64,
        session: SessionId,
        frame: Frame,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let own_epoch = self.epoch;
        let Role::Follower {
            leader,
            session: own,
            accepted,
            heard_ms,
        } = &mut self.role
        else {
            return Ok(());
        };
        let is_own = *leader == from && *own == session;
        if !is_own && !is_on(Mutation::IgnoreEpoch) {
            return Ok(());
        }
        // One that could not be taken is not followed by others that can: the stream is begun anew.
        if *accepted || !matches!(frame, Frame::Batches { .. }) {
            *heard_ms = scene.now_ms;
        }
        match frame {
            Frame::Accept => {
                *accepted = true;
                // A sync may have ended since it said what it holds, and another one may not follow.
                self.acknowledge(scene);
            }
            // It may not have heard yet that it leads: asked again at the next tick.
            Frame::Refuse => *heard_ms = scene.now_ms.saturating_sub(SILENCE_MS - 100),
            Frame::Truncate { to } => {
                self.cut(to, scene)?;
                self.follow(scene)?;
            }
            Frame::StartOver { at } => {
                let result = self.log.start_over(at, scene.local_ms);
                result.map_err(|error| Fatal(error.to_string()))?;
                self.shortened(scene);
                self.follow(scene)?;
            }
            Frame::Batches {
                epoch,
                bytes,
                high,
                log_start,
            } => {
                if epoch == own_epoch && *accepted || is_on(Mutation::IgnoreEpoch) {
                    self.copy(&bytes, high, log_start, scene)?;
                }
            }
            Frame::Follow { .. } | Frame::Ack { .. } => {}
        }
        Ok(())
    }

    fn copy(
        &mut self,
        bytes: &Bytes,
        high: Offset,
        log_start: Offset,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        match self.log.append_as_follower(bytes, scene.local_ms) {
            Ok(()) => {}
            Err(error @ (AppendError::Poisoned(_) | AppendError::Io(_))) => {
                return Err(Fatal(error.to_string()));
            }
            Err(_) => {
                // Begun again after a while, from where the log ends.
                if let Role::Follower { accepted, .. } = &mut self.role {
                    *accepted = false;
                }
                return Ok(());
            }
        }
        self.high = self.high.max(high.min(self.log.log_end_offset()));
        let start = log_start.min(self.high).min(self.log.flushed_offset());
        if start > self.log.log_start_offset() {
            self.delete_before(start)?;
        }
        if is_on(Mutation::AckUnsynced) {
            self.acknowledge(scene);
        }
        self.request_sync(scene);
        Ok(())
    }

    fn cut(&mut self, to: Offset, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        let result = match to < self.log.log_start_offset() {
            true => self.log.start_over(to, scene.local_ms),
            false => self.log.truncate_to(to, scene.local_ms),
        };
        result.map_err(|error| Fatal(error.to_string()))?;
        self.shortened(scene);
        Ok(())
    }

    fn shortened(&mut self, scene: &mut Scene<'_>) {
        let (start, end) = (self.log.log_start_offset(), self.log.log_end_offset());
        self.high = self.high.clamp(start, end.max(start));
        let flushed = self.log.flushed_offset();
        scene.judge.durable(scene.life.node, self.index, flushed.0);
    }

    /// Begins a stream to the leader.
    pub(super) fn follow(&mut self, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        let fresh = scene.random.next_u64();
        if is_on(Mutation::CutAtHigh) {
            self.cut(self.high, scene)?;
        }
        let Role::Follower {
            leader,
            session,
            accepted,
            heard_ms,
        } = &mut self.role
        else {
            return Ok(());
        };
        (*session, *accepted, *heard_ms) = (fresh, false, scene.now_ms);
        let leader = *leader;
        let frame = Frame::Follow {
            epoch: self.epoch,
            log_end: self.log.log_end_offset(),
            last_epoch: self.log.latest_leader_epoch().unwrap_or(LeaderEpoch::UNKNOWN),
            durable_end: self.held(),
        };
        send(scene, leader, fresh, self.index, frame);
        self.request_sync(scene);
        Ok(())
    }

    fn held(&self) -> Offset {
        match is_on(Mutation::AckUnsynced) {
            true => self.log.log_end_offset(),
            false => self.log.flushed_offset(),
        }
    }

    pub(super) fn acknowledge(&self, scene: &mut Scene<'_>) {
        if let Role::Follower {
            leader,
            session,
            accepted: true,
            ..
        } = &self.role
        {
            let frame = Frame::Ack {
                epoch: self.epoch,
                durable_end: self.held(),
            };
            send(scene, *leader, *session, self.index, frame);
        }
    }
}
