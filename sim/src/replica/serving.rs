//! What a node does for those who ask it about a partition: appends, reads, deletes.

use bytes::Bytes;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_core::mutation::{Mutation, is_on};
use millstream_storage::disk;
use millstream_storage::{AbortedTransaction, AppendError, Appended, Log, ReadError};

use super::{FETCH_BYTES, Fatal, Replica, Role, Scene, Waiting, end_of};
use crate::client::{Answer, Asker};
use crate::disk::LifeDisk;
use crate::judge::records;

/// Where a reader is, and what it wants.
pub struct Position {
    pub offset: i64,
    /// The latest epoch that it knows of.
    pub epoch: LeaderEpoch,
    pub of_leader: bool,
    /// Only what transactions have committed.
    pub committed: bool,
}

impl Replica {
    /// A producer's batch.
    pub fn produce(
        &mut self,
        asker: Asker,
        id: u64,
        batch: &Bytes,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let node = scene.life.node;
        let Role::Leader { leader, .. } = &mut self.role else {
            let known = self.known_leader();
            scene.bus.answer(node, asker, id, Answer::NotLeader(known));
            return Ok(());
        };
        if !leader.has_enough_in_sync() && !is_on(Mutation::TooFewInSync) {
            scene.bus.answer(node, asker, id, Answer::Later);
            return Ok(());
        }
        let appended = self.append(
            |log, epoch, now_ms| log.append_as_leader(batch, epoch, now_ms),
            scene,
        )?;
        let appended = match appended {
            Ok(appended) => appended,
            Err(AppendError::DiskFull) => {
                scene.bus.answer(node, asker, id, Answer::Later);
                return Ok(());
            }
            Err(AppendError::InvalidProducerEpoch { .. }) => {
                scene.bus.answer(node, asker, id, Answer::Fenced);
                return Ok(());
            }
            // A copy of a request that came late: nobody waits for the answer.
            Err(AppendError::DuplicateSequence { .. }) => return Ok(()),
            Err(error) => {
                // A leader that does not know yet that it is none lacks what others acknowledged since.
                let answer = match scene.judge.is_leader(node, self.index, self.epoch.0) {
                    true => Answer::Sequence(error.to_string()),
                    false => Answer::NotLeader(None),
                };
                scene.bus.answer(node, asker, id, answer);
                return Ok(());
            }
        };
        let values = records(batch).into_iter().map(|(_, value)| value).collect();
        self.waiting.push(Waiting {
            asker,
            id,
            base: appended.base_offset.0,
            end: appended.last_offset.0 + 1,
            values,
        });
        if is_on(Mutation::AnswerAtOnce) || self.high().0 > appended.last_offset.0 {
            self.high_moved(scene)?;
        }
        Ok(())
    }

    /// Appends as the leader that it is; followers are sent it, and the disk is told.
    pub fn append(
        &mut self,
        append: impl FnOnce(&mut Log<LifeDisk>, LeaderEpoch, i64) -> Result<Appended, AppendError>,
        scene: &mut Scene<'_>,
    ) -> Result<Result<Appended, AppendError>, Fatal> {
        let appended = match append(&mut self.log, self.epoch, scene.local_ms) {
            Ok(appended) => appended,
            Err(error @ (AppendError::Poisoned(_) | AppendError::Io(_))) => {
                return Err(Fatal(error.to_string()));
            }
            Err(error) => return Ok(Err(error)),
        };
        let end = self.log.log_end_offset();
        let Role::Leader { leader, .. } = &mut self.role else {
            unreachable!("only a leader appends");
        };
        let moved = leader.appended(end);
        self.request_sync(scene);
        self.feed(scene)?;
        if moved {
            self.high_moved(scene)?;
        }
        Ok(Ok(appended))
    }

    /// Who leads, as far as it follows somebody.
    pub fn known_leader(&self) -> Option<u64> {
        match self.role {
            Role::Follower { leader, .. } => Some(leader),
            _ => None,
        }
    }

    /// A reader's question. Where the reader knows of a later epoch than this replica, it is not to believe this one.
    pub fn fetch(
        &mut self,
        asker: Asker,
        id: u64,
        position: &Position,
        scene: &mut Scene<'_>,
    ) -> Result<(), Fatal> {
        let node = scene.life.node;
        let refused = match &self.role {
            _ if position.epoch > self.epoch => Some(Answer::Later),
            Role::Leader { leader, .. } if leader.is_established() || is_on(Mutation::ShowUnsafe) => None,
            Role::Leader { .. } => Some(Answer::Later),
            Role::Follower { .. } if !position.of_leader => None,
            Role::Follower { leader, .. } => Some(Answer::NotLeader(Some(*leader))),
            Role::Offline => Some(Answer::NotLeader(None)),
        };
        if let Some(answer) = refused {
            scene.bus.answer(node, asker, id, answer);
            return Ok(());
        }
        let answer = self.fetched(position)?;
        scene.bus.answer(node, asker, id, answer);
        Ok(())
    }

    fn fetched(&mut self, position: &Position) -> Result<Answer, Fatal> {
        let offset = position.offset;
        let high = match is_on(Mutation::ShowUnsafe) {
            true => self.log.log_end_offset(),
            false => self.high(),
        };
        let start = self.log.log_start_offset();
        if offset < start.0 || offset > high.0 {
            let (start, end) = (start.0, high.0);
            return Ok(Answer::OutOfRange { start, end });
        }
        let stable = match position.committed {
            true => self.log.last_stable_offset(high),
            false => high,
        };
        let bytes = self.bytes(Offset(offset), FETCH_BYTES, stable)?;
        let aborted = match end_of(&bytes).filter(|_| position.committed) {
            Some(end) => self.aborted_in(Offset(offset), end)?,
            None => Vec::new(),
        };
        Ok(Answer::Fetched {
            bytes,
            high: high.0,
            epoch: self.epoch,
            stable: stable.0,
            aborted,
        })
    }

    fn aborted_in(&self, from: Offset, to: Offset) -> Result<Vec<AbortedTransaction>, Fatal> {
        let aborted = self.log.aborted_transactions(from, to);
        aborted.map_err(|error| Fatal(error.to_string()))
    }

    /// All that readers of committed records get, and what they are to skip of it.
    pub fn committed_bytes(&mut self) -> Result<(Bytes, Vec<AbortedTransaction>), Fatal> {
        let (start, high) = (self.log.log_start_offset(), self.high());
        let stable = self.log.last_stable_offset(high);
        let bytes = self.bytes(start, usize::MAX >> 1, stable)?;
        let aborted = self.aborted_in(start, stable)?;
        Ok((bytes, aborted))
    }

    /// All there is, safe or not.
    pub fn all_bytes(&self) -> Result<Bytes, Fatal> {
        self.bytes(
            self.log.log_start_offset(),
            usize::MAX >> 1,
            self.log.log_end_offset(),
        )
    }

    /// Deletes records that are safe.
    pub fn trim(&mut self, before: i64, scene: &mut Scene<'_>) -> Result<(), Fatal> {
        let before = before.min(scene.judge.deletable(self.index));
        if matches!(self.role, Role::Leader { .. }) && before < self.high().0 && before > 0 {
            scene.judge.begins(self.index, before);
            self.delete_before(Offset(before))?;
            self.feed(scene)?;
        }
        Ok(())
    }

    pub(super) fn delete_before(&mut self, before: Offset) -> Result<(), Fatal> {
        match self.log.delete_records_before(before) {
            Err(ReadError::Io(error)) if disk::is_full(&error) => Ok(()),
            Err(error) => Err(Fatal(error.to_string())),
            Ok(()) => Ok(()),
        }
    }
}
