//! What a node does for a partition that it leads: compares logs, sends what followers lack, counts what they hold.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_core::ids::{BrokerId, LeaderEpoch, Offset};
use millstream_core::mutation::{Mutation, is_on};
use millstream_core::replica::{Effects, Handshake, Leader, Term, leader_answer};

use super::{
    BATCHES_BYTES, Fatal, Feed, Replica, Role, Scene, UNDER_WAY_MAX, Waiting, end_of, first_base, read, send,
};
use crate::client::Answer;
use crate::message::Frame;
use crate::network::SessionId;

impl Replica {
    pub(super) fn lead(&mut self, term: Term, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        self.end_role(scene);
        self.epoch = term.epoch;
        let (log_end, epoch) = (self.log.log_end_offset(), self.epoch.0);
        let all = self.bytes(self.log.log_start_offset(), usize::MAX >> 1, log_end)?;
        scene.judge.leads(scene.life, self.index, epoch, log_end.0, &all);
        let leader = Leader::new(
            BrokerId(scene.life.node as i32),
            term,
            true,
            log_end,
            self.log.flushed_offset(),
            self.high,
            scene.local_ms,
        );
        self.role = Role::Leader {
            leader: Box::new(leader),
            feeds: BTreeMap::new(),
        };
        self.request_sync(scene);
        self.high_moved(scene)
    }

    pub(super) fn admit(
        &mut self,
        from: u64,
        session: SessionId,
        epoch: LeaderEpoch,
        (log_end, last_epoch, durable_end): (Offset, LeaderEpoch, Offset),
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let follower = BrokerId(from as i32);
        let first_base = self.first_base()?;
        let say = |frame| send(scene, from, session, self.index, frame);
        let Role::Leader { leader, feeds } = &mut self.role else {
            say(Frame::Refuse);
            return Ok(());
        };
        let is_replica = leader.followers(scene.local_ms).any(|view| view.id == follower);
        if leader.epoch() != epoch && !is_on(Mutation::IgnoreEpoch) || !is_replica {
            say(Frame::Refuse);
            return Ok(());
        }
        let log = &self.log;
        // Where the leader's own epoch has no record yet it begins at the end of the log.
        let end_of = |asked: LeaderEpoch| match log.latest_leader_epoch() {
            Some(latest) if asked >= latest => Some((latest, log.log_end_offset())),
            Some(_) => log.offset_for_leader_epoch(asked),
            None => Some((LeaderEpoch::UNKNOWN, log.log_start_offset())),
        };
        let answer = leader_answer(last_epoch, log_end, end_of, first_base);
        match answer {
            Handshake::Truncate { to } => say(Frame::Truncate { to }),
            Handshake::StartOver { at } => say(Frame::StartOver { at }),
            Handshake::Continue if log_end > log.log_end_offset() => say(Frame::StartOver { at: first_base }),
            Handshake::Continue => {
                say(Frame::Accept);
                let acked = log_end;
                feeds.insert(
                    from,
                    Feed {
                        session,
                        next: log_end,
                        acked,
                    },
                );
                let effects = leader.acknowledged(follower, durable_end, scene.local_ms);
                self.carry_out(effects, scene)?;
                self.feed(scene)?;
            }
        }
        Ok(())
    }

    pub(super) fn acknowledged(
        &mut self,
        from: u64,
        session: SessionId,
        epoch: LeaderEpoch,
        durable_end: Offset,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let Role::Leader { leader, feeds } = &mut self.role else {
            return Ok(());
        };
        let feed = feeds.get_mut(&from).filter(|feed| feed.session == session);
        if (feed.is_none() || leader.epoch() != epoch) && !is_on(Mutation::IgnoreEpoch) {
            return Ok(());
        }
        if let Some(feed) = feed {
            feed.acked = durable_end;
        }
        let effects = leader.acknowledged(BrokerId(from as i32), durable_end, scene.local_ms);
        self.carry_out(effects, scene)?;
        self.feed(scene)
    }

    /// Lets every follower know where the log is, also when nothing happens.
    pub(super) fn beat(&self, scene: &mut Scene<'_>) {
        let Role::Leader { leader, feeds } = &self.role else {
            return;
        };
        for (follower, feed) in feeds {
            let frame = Frame::Batches {
                epoch: self.epoch,
                bytes: Bytes::new(),
                high: leader.high_watermark(),
                log_start: self.log.log_start_offset(),
            };
            send(scene, *follower, feed.session, self.index, frame);
        }
    }

    /// Sends every follower what it lacks, as far as may be under way at once.
    pub(super) fn feed(&mut self, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        let Role::Leader { leader, feeds } = &mut self.role else {
            return Ok(());
        };
        let first = first_base(&self.log)?;
        let mut gone = Vec::new();
        for (follower, feed) in feeds.iter_mut() {
            let log_start = self.log.log_start_offset();
            if feed.next < first {
                gone.push((*follower, feed.session));
                continue;
            }
            while feed.next < self.log.log_end_offset() && feed.next.since(feed.acked) < UNDER_WAY_MAX {
                let from = feed.next.max(log_start);
                let bytes = read(&self.log, from, BATCHES_BYTES, self.log.log_end_offset())?;
                let Some(end) = end_of(&bytes) else {
                    break;
                };
                feed.next = end;
                let frame = Frame::Batches {
                    epoch: self.epoch,
                    bytes,
                    high: leader.high_watermark(),
                    log_start,
                };
                send(scene, *follower, feed.session, self.index, frame);
            }
        }
        for (follower, session) in gone {
            feeds.remove(&follower);
            scene.bus.close(session, [scene.life.node, follower]);
        }
        Ok(())
    }

    /// What became of a proposal.
    pub fn proposed(
        &mut self,
        epoch: LeaderEpoch,
        partition_epoch: i32,
        refused: bool,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let Role::Leader { leader, .. } = &mut self.role else {
            return Ok(());
        };
        if leader.epoch() != epoch {
            return Ok(());
        }
        if !refused {
            leader.proposal_failed(partition_epoch);
        } else if leader.proposal_refused(partition_epoch) {
            self.high_moved(scene)?;
        }
        Ok(())
    }

    pub(super) fn carry_out(&mut self, effects: Effects, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        if let Some(proposal) = effects.proposal {
            self.proposal = Some(proposal);
        }
        match effects.high_moved {
            true => self.high_moved(scene),
            false => Ok(()),
        }
    }

    pub(super) fn high_moved(&mut self, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        let high = self.high();
        scene
            .judge
            .high(scene.life.node, self.index, self.epoch.0, high.0);
        let is_safe = |waiting: &Waiting| waiting.end <= high.0 || is_on(Mutation::AnswerAtOnce);
        let safe: Vec<_> = self.waiting.extract_if(.., |waiting| is_safe(waiting)).collect();
        for Waiting {
            asker,
            id,
            base,
            values,
            ..
        } in safe
        {
            scene.judge.acknowledged(self.index, self.epoch.0, base, &values);
            scene.bus.answer(scene.life.node, asker, id, Answer::Produced);
        }
        self.beat(scene);
        Ok(())
    }
}
