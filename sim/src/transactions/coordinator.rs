//! What coordinators answer, and how they begin and end with the terms of the leaders that they live with.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::TRANSACTION_STATE;
use millstream_core::group::consumer::{ConsumerHeartbeat, Topics};
use millstream_core::group::{GroupError, Groups, Identity, OffsetCommit, Step, TxnCommitRequest};
use millstream_core::mutation::{Mutation, is_on};
use millstream_core::transaction::{
    EndRequest, InitRequest, Producer, Record, TransactionError, Transactions, Version,
};
use millstream_storage::AppendError;

use super::markers::Decided;
use super::member::Beat;
use super::shard::{Machine, Release, Shard};
use super::{Ask, Here, Job};
use crate::client::Answer;
use crate::judge::Judge;
use crate::layout::STATES;
use crate::replica::{Fatal, Replica, Role};

impl Here<'_, '_> {
    /// A producer takes its transactional id.
    pub(super) fn init(&mut self, ask: Ask, job: Job) -> Result<(), Fatal> {
        let place = job.state_place(self.scene.judge.layout);
        let id = job.id();
        let init = |fresh| {
            let id = id.clone();
            move |transactions: &mut Transactions, now_ms| {
                let request = InitRequest {
                    timeout_ms: TRANSACTION_MS_MAX,
                    expected: None,
                    fresh,
                };
                transactions.init(now_ms, &id, request)
            }
        };
        let Some(mut decided) = self.with_transactions(ask, place, init(None)) else {
            return Ok(());
        };
        if decided.0 == Err(TransactionError::ProducerIdNeeded) {
            let fresh = Some(self.scene.judge.ledger.fresh_producer_id());
            let again = self.with_transactions(ask, place, init(fresh));
            decided = again.expect("it was ready a moment ago");
        }
        let (result, step) = decided;
        let release = Release {
            holder: result.ok().map(|producer| (id, producer)),
            ..Release::of(ask, answer(result))
        };
        self.keep(place, &step.records, release)
    }

    /// A partition belongs to a transaction from now on.
    pub(super) fn take_part(
        &mut self,
        ask: Ask,
        id: &str,
        producer: Producer,
        touched: i32,
    ) -> Result<(), Fatal> {
        let layout = self.scene.judge.layout;
        let place = Job::of_id(id).expect("nobody has another id").state_place(layout);
        let (topic, partition) = layout.at(touched);
        let touched = BTreeMap::from([(Arc::from(topic), vec![partition])]);
        let add = |transactions: &mut Transactions, now_ms| {
            transactions.add(now_ms, id, producer, &touched, Version::V2)
        };
        match self.with_transactions(ask, place, add) {
            Some(Ok(step)) => self.keep(place, &step.records, Release::of(ask, Answer::Done)),
            Some(Err(error)) => self.keep(place, &[], Release::of(ask, Answer::Refused(error))),
            None => Ok(()),
        }
    }

    /// A producer ends its transaction.
    pub(super) fn end(
        &mut self,
        ask: Ask,
        job: Job,
        producer: Producer,
        is_commit: bool,
    ) -> Result<(), Fatal> {
        let place = job.state_place(self.scene.judge.layout);
        let request = EndRequest {
            producer,
            is_commit,
            version: Version::V2,
            fresh: None,
        };
        let id = job.id();
        let end = |transactions: &mut Transactions, now_ms| transactions.end(now_ms, &id, request);
        let (result, records) = match self.with_transactions(ask, place, end) {
            Some(Ok((next, step))) => (Ok(next), step.records),
            Some(Err(error)) => (Err(error), Vec::new()),
            None => return Ok(()),
        };
        if is_on(Mutation::EndBeforeDurable) {
            self.answer(ask, answer(result));
            return self.keep(place, &records, Release::default());
        }
        self.keep(place, &records, Release::of(ask, answer(result)))
    }

    /// All markers of a transaction are written.
    pub(super) fn finished(&mut self, place: i32, decided: &Decided) -> Result<(), Fatal> {
        let now_ms = self.scene.local_ms;
        let Some(transactions) = self.parts.states.get(&place).and_then(Shard::machine) else {
            return Ok(());
        };
        if !decided.is_prepared(transactions) {
            return Ok(());
        }
        let step = transactions.finished(now_ms, &decided.id, decided.producer);
        let release = Release {
            finished: Some((decided.id.clone(), decided.producer)),
            ..Release::default()
        };
        self.keep(place, &step.records, release)
    }

    /// How far a job has come.
    pub(super) fn offset(&mut self, ask: Ask, job: Job) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        let (topic, partition) = job.source();
        let look = |groups: &mut Groups, _| {
            let group = job.group();
            let offset = groups.fetch_offset(&group, topic, partition, true)?;
            let offset = offset.map_or(-1, |known| known.offset);
            Ok((offset, groups.confirmation(&group, topic, partition)))
        };
        let (answer, confirmation) = match self.with_groups(ask, place, look) {
            Some(Ok((offset, confirmation))) => (Answer::Offset(offset), Some(confirmation)),
            Some(Err(GroupError::UnstableOffsetCommit)) => (Answer::Later, None),
            Some(Err(error)) => panic!("nobody is refused an offset: {error}"),
            None => return Ok(()),
        };
        let confirmation = confirmation.filter(|_| !is_on(Mutation::OldOffsets));
        let step = Step {
            records: confirmation.into_iter().collect(),
            ..Step::default()
        };
        if self.keep_offsets(place, step, Release::of(ask, answer))?.is_err() {
            self.answer(ask, Answer::Later);
        }
        Ok(())
    }

    /// Keeps the offset of a job in its transaction.
    pub(super) fn commit(
        &mut self,
        ask: Ask,
        job: Job,
        producer: Producer,
        offset: i64,
    ) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        let (topic, partition) = job.source();
        let request = TxnCommitRequest {
            who: Identity {
                group: job.group(),
                generation: -1,
                ..Identity::default()
            },
            producer: (producer.id, producer.epoch),
            offsets: vec![OffsetCommit {
                topic: topic.to_owned(),
                partition,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }],
        };
        let commit = |groups: &mut Groups, now_ms| groups.txn_commit(now_ms, &request);
        let Some((_, step)) = self.with_groups(ask, place, commit) else {
            return Ok(());
        };
        match self.keep_offsets(place, step, Release::of(ask, Answer::Done))? {
            Ok(()) => {}
            Err(AppendError::InvalidProducerEpoch { .. }) => self.answer(ask, Answer::Fenced),
            Err(_) => self.answer(ask, Answer::Later),
        }
        Ok(())
    }

    /// A member lives, joins or gives something back.
    pub(super) fn heartbeat(&mut self, ask: Ask, request: &ConsumerHeartbeat) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        let beat = |groups: &mut Groups, now_ms| groups.consumer_heartbeat(now_ms, request);
        let Some((result, step)) = self.with_groups(ask, place, beat) else {
            return Ok(());
        };
        let beat = result.as_ref().ok().map(|answer| Beat {
            member: request.member.clone(),
            assignment: answer.assignment.clone(),
            heard_ms: self.scene.now_ms,
        });
        let release = Release {
            beat,
            ..Release::of(ask, Answer::Member(result))
        };
        if self.keep_offsets(place, step, release)?.is_err() {
            self.answer(ask, Answer::Later);
        }
        Ok(())
    }

    fn with_transactions<T>(
        &mut self,
        ask: Ask,
        place: i32,
        work: impl FnOnce(&mut Transactions, i64) -> T,
    ) -> Option<T> {
        let now_ms = self.scene.local_ms;
        match self.parts.states.get_mut(&place).map(Shard::machine_mut) {
            Some(Some(machine)) => return Some(work(machine, now_ms)),
            Some(None) => self.answer(ask, Answer::Later),
            None => self.not_leader(ask, place),
        }
        None
    }

    fn with_groups<T>(
        &mut self,
        ask: Ask,
        place: i32,
        work: impl FnOnce(&mut Groups, i64) -> T,
    ) -> Option<T> {
        let now_ms = self.scene.local_ms;
        match self.parts.offsets.get_mut(&place).map(Shard::machine_mut) {
            Some(Some(machine)) => return Some(work(machine, now_ms)),
            Some(None) => self.answer(ask, Answer::Later),
            None => self.not_leader(ask, place),
        }
        None
    }

    /// Writes what was decided; `release` goes when it is safe. Where it cannot be written, whoever asked asks again.
    fn keep(&mut self, place: i32, records: &[Record], release: Release) -> Result<(), Fatal> {
        let shard = self.parts.states.get_mut(&place).expect("it has decided");
        let replica = self.replicas.get_mut(&place).expect("it has decided");
        let ask = release.answer.as_ref().map(|(ask, _)| *ask);
        let written = shard.take(replica, records, None, release, self.scene)?;
        if let (Err(_), Some(ask)) = (written, ask) {
            self.answer(ask, Answer::Later);
        }
        Ok(())
    }

    fn keep_offsets(
        &mut self,
        place: i32,
        step: Step,
        release: Release,
    ) -> Result<Result<(), AppendError>, Fatal> {
        let shard = self.parts.offsets.get_mut(&place).expect("it has decided");
        let replica = self.replicas.get_mut(&place).expect("it has decided");
        shard.take(replica, &step.records, step.producer, release, self.scene)
    }

    /// Aborts what took too long, and ends the sessions of members that are silent.
    pub(super) fn time_passes(&mut self) -> Result<(), Fatal> {
        let now_ms = self.scene.local_ms;
        for place in self.parts.offsets.keys().copied().collect::<Vec<_>>() {
            let shard = self.parts.offsets.get_mut(&place);
            let Some(groups) = shard.and_then(Shard::machine_mut) else {
                continue;
            };
            groups.topics_changed(Arc::new(Topics::of(self.image)));
            let step = groups.tick(now_ms);
            if !step.records.is_empty() {
                // What cannot be written is due again when somebody asks.
                let _ = self.keep_offsets(place, step, Release::default())?;
            }
        }
        for place in self.parts.states.keys().copied().collect::<Vec<_>>() {
            let machine = self.parts.states[&place].machine();
            let Some(step) = machine.map(|transactions| transactions.tick(now_ms)) else {
                continue;
            };
            if !step.records.is_empty() {
                self.keep(place, &step.records, Release::default())?;
            }
        }
        Ok(())
    }

    /// Coordinators serve for one term of their leader, once that knows all that was acknowledged before.
    pub(super) fn begin_and_end_shards(&mut self) -> Result<(), Fatal> {
        let layout = self.scene.judge.layout;
        for partition in 0..STATES as i32 {
            let Some(place) = layout.place(TRANSACTION_STATE, partition) else {
                return Ok(());
            };
            let (replica, shards) = (self.replicas.get(&place), &mut self.parts.states);
            let (begun, ended) = in_term(replica, place, shards)?;
            for ask in ended {
                self.not_leader(ask, place);
            }
            if begun {
                self.resume(place)?;
            }
        }
        let place = self.scene.judge.layout.offsets_place();
        let (replica, shards) = (self.replicas.get(&place), &mut self.parts.offsets);
        let (begun, ended) = in_term(replica, place, shards)?;
        for ask in ended {
            self.not_leader(ask, place);
        }
        if begun && let Some(Some(groups)) = self.parts.offsets.get_mut(&place).map(Shard::machine_mut) {
            groups.topics_changed(Arc::new(Topics::of(self.image)));
            let step = groups.loaded(self.scene.local_ms);
            assert!(step.records.is_empty(), "nobody follows the classic protocol");
        }
        Ok(())
    }

    /// Goes on with what the coordinator before had decided.
    fn resume(&mut self, place: i32) -> Result<(), Fatal> {
        let Some(shard) = self.parts.states.get(&place) else {
            return Ok(());
        };
        let epoch = shard.epoch;
        let prepared = shard.machine().into_iter().flat_map(Transactions::prepared);
        let decided: Vec<_> = prepared
            .filter_map(|(id, known)| Decided::of(id, known))
            .collect();
        decided
            .into_iter()
            .try_for_each(|decided| self.decided(place, epoch, decided))
    }

    /// What waited until records were safe goes on.
    pub(super) fn release(&mut self) -> Result<(), Fatal> {
        let mut due = Vec::new();
        for (place, shard) in &mut self.parts.states {
            let high = self.replicas.get(place).map_or(0, |replica| replica.high().0);
            let (place, epoch) = (*place, shard.epoch);
            due.extend(
                shard
                    .due(high)
                    .into_iter()
                    .map(|(end, release)| (place, epoch, end, release)),
            );
        }
        for (place, shard) in &mut self.parts.offsets {
            let high = self.replicas.get(place).map_or(0, |replica| replica.high().0);
            let (place, epoch) = (*place, shard.epoch);
            due.extend(
                shard
                    .due(high)
                    .into_iter()
                    .map(|(end, release)| (place, epoch, end, release)),
            );
        }
        for (place, epoch, end, release) in due {
            self.scene.judge.safe(place, end);
            if let Some((id, producer)) = release.holder {
                self.scene.judge.ledger.has_id(&id, producer);
            }
            let is_leader = |judge: &Judge| judge.is_leader(self.life.node, place, epoch.0);
            if let Some(beat) = release.beat.filter(|_| is_leader(self.scene.judge)) {
                let kept = self.scene.judge.ledger.grants.beats(beat);
                self.scene.judge.must(kept);
            }
            for decided in release.decided {
                self.decided(place, epoch, decided)?;
            }
            if let Some((id, producer)) = release.finished {
                self.scene.judge.ledger.finished(&id, producer);
            }
            if let Some((ask, answer)) = release.answer {
                self.answer(ask, answer);
            }
        }
        self.markers_safe();
        Ok(())
    }
}

/// Whether a coordinator begins at a place, and who waited for the answer of the one that ends.
fn in_term<M: Machine>(
    replica: Option<&Replica>,
    place: i32,
    shards: &mut BTreeMap<i32, Shard<M>>,
) -> Result<(bool, Vec<Ask>), Fatal> {
    let leads = replica.and_then(|replica| match &replica.role {
        Role::Leader { leader, .. } => Some((replica, leader.is_established())),
        _ => None,
    });
    let mut ended = Vec::new();
    let serves = |shard: &Shard<M>| leads.is_some_and(|(replica, _)| replica.epoch == shard.epoch);
    if shards.get(&place).is_some_and(|shard| !serves(shard)) {
        ended.extend(shards.remove(&place).into_iter().flat_map(Shard::waiting));
    }
    let Some((replica, is_established)) = leads else {
        return Ok((false, ended));
    };
    let shard = shards.entry(place).or_insert_with(|| Shard::new(replica.epoch));
    let begins = shard.machine().is_none() && is_established;
    if begins {
        shard.load(replica)?;
    }
    Ok((begins, ended))
}

fn answer(result: Result<Producer, TransactionError>) -> Answer {
    match result {
        Ok(producer) => Answer::Producer(producer),
        Err(error) => Answer::Refused(error),
    }
}

/// Longest time of a transaction.
const TRANSACTION_MS_MAX: i32 = 3000;
