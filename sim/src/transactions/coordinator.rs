//! What coordinators answer, and how they begin and end with the terms of the leaders that they live with.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_core::cluster::TRANSACTION_STATE;
use millstream_core::group::Groups;
use millstream_core::group::consumer::Topics;
use millstream_core::ids::LeaderEpoch;
use millstream_core::mutation::{Mutation, is_on};
use millstream_core::transaction::{
    EndRequest, InitRequest, Producer, TransactionError, Transactions, Version,
};
use millstream_storage::AppendError;

use super::markers::Decided;
use super::shard::{Machine, Release, Shard};
use super::{Ask, Here, Job};
use crate::client::Answer;
use crate::judge::Judge;
use crate::layout::STATES;
use crate::replica::{Fatal, Role};

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
        let Some(mut decided) = self.with(ask, place, init(None)) else {
            return Ok(());
        };
        if decided.0 == Err(TransactionError::ProducerIdNeeded) {
            let fresh = Some(self.scene.judge.ledger.fresh_producer_id());
            let again = self.with(ask, place, init(fresh));
            decided = again.expect("it was ready a moment ago");
        }
        let (result, step) = decided;
        let release = Release {
            holder: result.ok().map(|producer| (id, producer)),
            ..Release::of(ask, answer(result))
        };
        self.keep::<Transactions>(place, &step.records, None, release)
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
        match self.with(ask, place, add) {
            Some(Ok(step)) => {
                self.keep::<Transactions>(place, &step.records, None, Release::of(ask, Answer::Done))
            }
            Some(Err(error)) => {
                self.keep::<Transactions>(place, &[], None, Release::of(ask, Answer::Refused(error)))
            }
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
        let (result, records) = match self.with(ask, place, end) {
            Some(Ok((next, step))) => (Ok(next), step.records),
            Some(Err(error)) => (Err(error), Vec::new()),
            None => return Ok(()),
        };
        if is_on(Mutation::EndBeforeDurable) {
            self.answer(ask, answer(result));
            return self.keep::<Transactions>(place, &records, None, Release::default());
        }
        self.keep::<Transactions>(place, &records, None, Release::of(ask, answer(result)))
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
        self.keep::<Transactions>(place, &step.records, None, release)
    }

    /// Lets a coordinator decide that lives at a place. Where it does not, whoever asks hears that.
    pub(super) fn with<M: Machine, T>(
        &mut self,
        ask: Ask,
        place: i32,
        work: impl FnOnce(&mut M, i64) -> T,
    ) -> Option<T> {
        let now_ms = self.scene.local_ms;
        match M::shards(self.parts).get_mut(&place).map(Shard::machine_mut) {
            Some(Some(machine)) => return Some(work(machine, now_ms)),
            Some(None) => self.answer(ask, Answer::Later),
            None => self.not_leader(ask, place),
        }
        None
    }

    /// Writes what was decided; `release` goes when it is safe. Where it cannot be written, whoever asked asks again.
    pub(super) fn keep<M: Machine>(
        &mut self,
        place: i32,
        records: &[M::Record],
        producer: Option<(i64, i16)>,
        release: Release,
    ) -> Result<(), Fatal> {
        let shard = M::shards(self.parts).get_mut(&place).expect("it has decided");
        let replica = self.replicas.get_mut(&place).expect("it has decided");
        let asks: Vec<Ask> = release.answers.iter().map(|(ask, _)| *ask).collect();
        let refusal = match shard.take(replica, records, producer, release, self.scene)? {
            Ok(()) => return Ok(()),
            Err(AppendError::InvalidProducerEpoch { .. }) => Answer::Fenced,
            Err(_) => Answer::Later,
        };
        for ask in asks {
            self.answer(ask, refusal.clone());
        }
        Ok(())
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
            // What cannot be written is due again when somebody asks.
            self.keep_step(place, step, Release::default())?;
        }
        for place in self.parts.states.keys().copied().collect::<Vec<_>>() {
            let machine = self.parts.states[&place].machine();
            let Some(step) = machine.map(|transactions| transactions.tick(now_ms)) else {
                continue;
            };
            if !step.records.is_empty() {
                self.keep::<Transactions>(place, &step.records, None, Release::default())?;
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
            if self.in_term::<Transactions>(place)? {
                self.resume(place)?;
            }
        }
        let place = self.scene.judge.layout.offsets_place();
        if self.in_term::<Groups>(place)?
            && let Some(Some(groups)) = self.parts.offsets.get_mut(&place).map(Shard::machine_mut)
        {
            groups.topics_changed(Arc::new(Topics::of(self.image)));
            let step = groups.loaded(self.scene.local_ms);
            self.keep_step(place, step, Release::default())?;
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
        let mut due = self.due::<Transactions>();
        due.extend(self.due::<Groups>());
        for (place, epoch, end, release) in due {
            self.scene.judge.safe(place, end);
            if let Some((id, producer)) = release.holder {
                self.scene.judge.ledger.has_id(&id, producer);
            }
            let is_leader = |judge: &Judge| judge.is_leader(self.life.node, place, epoch.0);
            if is_leader(self.scene.judge) {
                for beat in release.beats {
                    let kept = self.scene.judge.ledger.grants(beat.group).beats(beat);
                    self.scene.judge.must(kept);
                }
                if let Some(kept) = release.kept {
                    let may = self
                        .scene
                        .judge
                        .ledger
                        .grants(kept.group)
                        .keeps(&kept, self.scene.now_ms);
                    self.scene.judge.must(may);
                }
            }
            for decided in release.decided {
                self.decided(place, epoch, decided)?;
            }
            if let Some((id, producer)) = release.finished {
                self.scene.judge.ledger.finished(&id, producer);
            }
            for (ask, answer) in release.answers {
                self.answer(ask, answer);
            }
        }
        self.markers_safe();
        Ok(())
    }

    /// What waited at one kind of coordinators and is safe now: the place, the term, where its records end.
    fn due<M: Machine>(&mut self) -> Vec<(i32, LeaderEpoch, i64, Release)> {
        let mut due = Vec::new();
        for (place, shard) in M::shards(self.parts) {
            let high = self.replicas.get(place).map_or(0, |replica| replica.high().0);
            let (place, epoch) = (*place, shard.epoch);
            let safe = shard.due(high).into_iter();
            due.extend(safe.map(|(end, release)| (place, epoch, end, release)));
        }
        due
    }

    /// Whether a coordinator begins at a place. Whoever waits for the answer of one that ends has to ask elsewhere.
    fn in_term<M: Machine>(&mut self, place: i32) -> Result<bool, Fatal> {
        let replica = self.replicas.get(&place);
        let leads = replica.and_then(|replica| match &replica.role {
            Role::Leader { leader, .. } => Some((replica, leader.is_established())),
            _ => None,
        });
        let shards = M::shards(self.parts);
        let serves = |shard: &mut Shard<M>| leads.is_some_and(|(replica, _)| replica.epoch == shard.epoch);
        let ended = shards.extract_if(place..=place, |_, shard| !serves(shard));
        let ended: Vec<Ask> = ended.flat_map(|(_, shard)| shard.into_waiting()).collect();
        let begins = match leads {
            Some((replica, is_established)) => {
                let shard = shards.entry(place).or_insert_with(|| Shard::new(replica.epoch));
                let begins = shard.machine().is_none() && is_established;
                if begins {
                    shard.load(replica)?;
                }
                begins
            }
            None => false,
        };
        for ask in ended {
            self.not_leader(ask, place);
        }
        Ok(begins)
    }
}

fn answer(result: Result<Producer, TransactionError>) -> Answer {
    match result {
        Ok(producer) => Answer::Producer(producer),
        Err(error) => Answer::Refused(error),
    }
}

/// Longest time of a transaction.
const TRANSACTION_MS_MAX: i32 = 3000;
