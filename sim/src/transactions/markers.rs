//! Tells partitions what became of transactions, as long as that takes; and what their leaders do then.

use std::collections::BTreeSet;
use std::sync::Arc;

use millstream_core::ids::LeaderEpoch;
use millstream_core::transaction::{Outcome, Producer, Transaction, Transactions};
use millstream_storage::{AppendError, EndMarker};

use super::shard::Shard;
use super::verify::Asked;
use super::{Ask, Here, PartRequest};
use crate::client::{Answer, Request};
use crate::replica::{Fatal, Role};

/// A transaction that is decided.
#[derive(Debug, Clone)]
pub struct Decided {
    pub id: Arc<str>,
    /// The producer that the markers name.
    pub producer: Producer,
    pub outcome: Outcome,
    started_ms: i64,
    partitions: Vec<(Arc<str>, i32)>,
}

impl Decided {
    pub fn of(id: &Arc<str>, known: &Transaction) -> Option<Self> {
        let partitions = known.partitions.iter();
        let partitions =
            partitions.flat_map(|(topic, indexes)| indexes.iter().map(|index| (topic.clone(), *index)));
        Some(Self {
            id: id.clone(),
            producer: known.producer,
            outcome: known.state.outcome()?,
            started_ms: known.started_ms,
            partitions: partitions.collect(),
        })
    }

    /// Whether it is not over yet.
    pub fn is_prepared(&self, transactions: &Transactions) -> bool {
        let known = transactions.get(&self.id);
        known.is_some_and(|known| {
            known.state.outcome() == Some(self.outcome)
                && known.producer == self.producer
                && known.started_ms == self.started_ms
        })
    }
}

/// Partitions are being told.
pub struct Telling {
    /// Where the decision is kept, and in which term.
    place: i32,
    epoch: LeaderEpoch,
    decided: Decided,
    left: BTreeSet<i32>,
    again_ms: u64,
}

/// A marker that is not safe yet.
pub struct Marked {
    place: i32,
    epoch: LeaderEpoch,
    end: i64,
    ask: Ask,
}

impl Here<'_, '_> {
    /// What a coordinator has decided is safe: partitions hear of it.
    pub(super) fn decided(&mut self, place: i32, epoch: LeaderEpoch, decided: Decided) -> Result<(), Fatal> {
        let is_commit = decided.outcome == Outcome::Commit;
        let kept = self
            .scene
            .judge
            .ledger
            .decided(&decided.id, decided.producer, is_commit);
        self.scene.judge.must(kept);
        let layout = self.scene.judge.layout;
        let partitions = decided.partitions.iter();
        let left = partitions.filter_map(|(topic, partition)| layout.place(topic, *partition));
        let telling = Telling {
            place,
            epoch,
            left: left.collect(),
            decided,
            again_ms: 0,
        };
        self.parts.tellings.push(telling);
        self.tell_again()
    }

    /// Writes the markers that nobody has said to be written.
    pub(super) fn tell_again(&mut self) -> Result<(), Fatal> {
        let now_ms = self.scene.now_ms;
        let tellings = std::mem::take(&mut self.parts.tellings);
        let (mut kept, mut over) = (Vec::new(), Vec::new());
        for mut telling in tellings {
            let shard = self.parts.states.get(&telling.place);
            let shard = shard.filter(|shard| shard.epoch == telling.epoch);
            // Another term does it: it has read what was decided.
            let is_prepared = shard
                .and_then(Shard::machine)
                .is_some_and(|transactions| telling.decided.is_prepared(transactions));
            if !is_prepared {
                continue;
            }
            if now_ms >= telling.again_ms {
                telling.again_ms = now_ms + AGAIN_MS;
                for place in telling.left.iter().copied() {
                    self.tell(&telling, place);
                }
                if telling.left.is_empty() {
                    over.push((telling.place, telling.decided.clone()));
                }
            }
            kept.push(telling);
        }
        self.parts.tellings = kept;
        over.into_iter()
            .try_for_each(|(place, decided)| self.finished(place, &decided))
    }

    fn tell(&mut self, telling: &Telling, place: i32) {
        let Decided {
            id,
            producer,
            outcome,
            ..
        } = &telling.decided;
        let marker = EndMarker {
            producer_id: producer.id,
            producer_epoch: producer.epoch,
            is_commit: *outcome == Outcome::Commit,
            coordinator_epoch: telling.epoch.0,
            bumps_epoch: true,
        };
        let request = Request::Part(PartRequest::Mark { place, marker });
        let (id, producer) = (id.clone(), *producer);
        self.ask(place, request, |until_ms| Asked::Mark {
            id,
            producer,
            place,
            until_ms,
        });
    }

    /// A leader answers.
    pub(super) fn told(
        &mut self,
        id: &str,
        producer: Producer,
        place: i32,
        answer: &Answer,
    ) -> Result<(), Fatal> {
        let of_it =
            |telling: &&mut Telling| &*telling.decided.id == id && telling.decided.producer == producer;
        let Some(telling) = self.parts.tellings.iter_mut().find(of_it) else {
            return Ok(());
        };
        match answer {
            // A newer producer has written there: a marker of its has ended this transaction, too.
            Answer::Done | Answer::Fenced => telling.left.remove(&place),
            _ => return Ok(()),
        };
        if telling.left.is_empty() {
            telling.again_ms = 0;
            return self.tell_again();
        }
        Ok(())
    }

    /// A leader writes a marker.
    pub(super) fn mark(&mut self, ask: Ask, place: i32, marker: EndMarker) -> Result<(), Fatal> {
        let Some(replica) = self.replicas.get_mut(&place) else {
            self.not_leader(ask, place);
            return Ok(());
        };
        if !matches!(replica.role, Role::Leader { .. }) {
            self.not_leader(ask, place);
            return Ok(());
        }
        let written = if place == self.scene.judge.layout.offsets_place() {
            let Some(shard) = self
                .parts
                .offsets
                .get_mut(&place)
                .filter(|shard| shard.is_ready())
            else {
                self.answer(ask, Answer::Later);
                return Ok(());
            };
            shard.mark(replica, marker, ask, self.scene)?
        } else {
            let (epoch, marked) = (replica.epoch, &mut self.parts.marked);
            let append = |log: &mut millstream_storage::Log<_>, epoch, now_ms| {
                log.append_marker(marker, epoch, now_ms)
            };
            let appended = replica.append(append, self.scene)?;
            appended.map(|appended| {
                marked.push(Marked {
                    place,
                    epoch,
                    end: appended.last_offset.0 + 1,
                    ask,
                });
            })
        };
        match written {
            Ok(()) => {
                let verifications = self.verifications(place);
                verifications.forget(marker.producer_id);
            }
            Err(AppendError::InvalidProducerEpoch { .. }) => self.answer(ask, Answer::Fenced),
            Err(_) => self.answer(ask, Answer::Later),
        }
        Ok(())
    }

    /// Coordinators hear of markers that are safe.
    pub(super) fn markers_safe(&mut self) {
        let marked = std::mem::take(&mut self.parts.marked);
        for marked in marked {
            let epoch = marked.epoch;
            let replica = self.led(marked.place).filter(|replica| replica.epoch == epoch);
            match replica.map(|replica| replica.high().0) {
                Some(high) if marked.end <= high => {
                    self.scene.judge.safe(marked.place, marked.end);
                    self.answer(marked.ask, Answer::Done);
                }
                Some(_) => self.parts.marked.push(marked),
                None => self.not_leader(marked.ask, marked.place),
            }
        }
    }
}

/// Pause before markers are written again.
const AGAIN_MS: u64 = 400;
