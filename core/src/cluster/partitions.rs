//! Partitions: who holds them, who is in sync, who leads.
//!
//! The leader is always in sync, so whoever leads holds everything that was acknowledged. Whoever is in sync or eligible
//! does too, by two rules that brokers keep: a leader waits for all of `isr` before it acknowledges, and acknowledges
//! nothing, nor shows it to readers, while `isr` is smaller than [`Image::min_insync`].

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Broker, Image, Outcome, PartitionChange, PartitionRefusal, Refusal, Topic};
use crate::ids::{BrokerId, LeaderEpoch, PartitionIndex, TopicId};
use crate::mutation::{Mutation, is_on};

/// A partition of a topic.
///
/// The leader is in `isr`; `isr` and `elr` are among `replicas` and have nobody in common. A partition without a leader
/// waits for a member of `isr` or `elr`; with both empty, nobody is left who surely holds everything that was
/// acknowledged, and only an unclean election helps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    /// Brokers that hold it, the preferred leader first; while it moves, those that it moves to come last.
    pub replicas: Vec<BrokerId>,
    /// Those that hold everything that was acknowledged, and that the leader waits for.
    pub isr: Vec<BrokerId>,
    /// The broker that serves it.
    pub leader: Option<BrokerId>,
    /// Counts its leaders.
    pub leader_epoch: LeaderEpoch,
    /// Counts the changes of this entry.
    pub partition_epoch: i32,
    /// Eligible leader replicas (KIP-966): no longer in sync, but since they left, `isr` was smaller than
    /// `min.insync.replicas`, so that nothing was acknowledged that they lack.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elr: Vec<BrokerId>,
    /// Brokers that were in sync or eligible when their disk was lost, as long as nobody else is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<BrokerId>,
    /// The last term that began with an unclean election: what others held of the terms before it may be lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unclean: Option<LeaderEpoch>,
    /// The brokers that are to hold it, the preferred leader first; empty unless it moves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub target: Vec<BrokerId>,
    /// Those of `target` that did not hold it before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub adding: Vec<BrokerId>,
    /// Those that will no longer hold it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub removing: Vec<BrokerId>,
}

impl Partition {
    /// Whether it is on its way to other brokers.
    pub fn is_moving(&self) -> bool {
        !self.target.is_empty()
    }

    /// The brokers that are to hold it once it does not move any more.
    pub fn settled(&self) -> &[BrokerId] {
        match self.is_moving() {
            true => &self.target,
            false => &self.replicas,
        }
    }

    /// The brokers that held it before it began to move.
    pub fn origin(&self) -> Vec<BrokerId> {
        let stays = |id: &BrokerId| !self.adding.contains(id);
        self.replicas.iter().copied().filter(stays).collect()
    }

    /// Whether a broker that held it before it began to move is not in sync.
    pub fn is_under_replicated(&self) -> bool {
        let awaited = |id: &&BrokerId| !self.adding.contains(id);
        self.replicas
            .iter()
            .filter(awaited)
            .any(|id| !self.isr.contains(id))
    }

    /// The broker that leads when all are in sync.
    pub fn preferred(&self) -> Option<BrokerId> {
        self.replicas.first().copied()
    }

    /// How many copies must be in sync for anything to be acknowledged, if `min_insync` were set: no more than there are.
    fn copies_needed(&self, min_insync: usize) -> usize {
        let before = self.replicas.len().saturating_sub(self.adding.len());
        let after = self.settled().len();
        min_insync.min(before).min(after)
    }

    /// The broker whose settings count: its leader, or who led it last or may lead it next.
    fn set_by(&self) -> Option<BrokerId> {
        let next = self.isr.iter().chain(&self.elr).chain(&self.replicas);
        self.leader.or_else(|| next.copied().next())
    }

    /// Whether fencing a broker changes anything.
    pub(super) fn depends_on(&self, id: BrokerId) -> bool {
        self.isr.contains(&id) && (self.isr.len() > 1 || self.leader == Some(id))
    }

    /// A broker is out of service: it leaves the in-sync replicas, unless it is the last.
    pub(super) fn fence(&mut self, id: BrokerId, facts: &Facts<'_>) {
        if self.isr.len() > 1 {
            let isr = self.isr.iter().copied().filter(|m| *m != id).collect();
            self.set_isr(isr);
        }
        if self.leader == Some(id) {
            self.elect(facts);
        }
    }

    /// A broker holds nothing any more: it is in sync nowhere, even if nobody else is.
    pub(super) fn lose(&mut self, id: BrokerId, facts: &Facts<'_>) {
        self.isr.retain(|m| *m != id);
        self.elr.retain(|m| *m != id);
        self.lost.push(id);
        if self.leader == Some(id) {
            self.elect(facts);
        }
    }

    /// Other in-sync replicas; who left may be eligible, [`Partition::settle`] decides.
    fn set_isr(&mut self, isr: Vec<BrokerId>) {
        let before = std::mem::replace(&mut self.isr, isr);
        self.elr.extend(before);
    }

    /// Gives it the next leader, or none.
    pub(super) fn elect(&mut self, facts: &Facts<'_>) {
        let next = self.candidate(facts);
        self.lead_by(next);
    }

    /// Who could lead and loses nothing: the first replica in order that is in sync, else eligible; a draining broker
    /// only if there is no other.
    pub(super) fn candidate(&self, facts: &Facts<'_>) -> Option<BrokerId> {
        let first = |among: &[BrokerId], draining: bool| {
            let mut able = self.replicas.iter().filter(|id| among.contains(id));
            able.find(|id| facts.is_live(**id) && (draining || !facts.is_draining(**id)))
                .copied()
        };
        first(&self.isr, false)
            .or_else(|| first(&self.isr, true))
            .or_else(|| first(&self.elr, false))
            .or_else(|| first(&self.elr, true))
            .or_else(|| first(&self.replicas, true).filter(|_| is_on(Mutation::ElectAnybody)))
    }

    /// A new term. A leader that is not in sync is from now on the only one that is.
    pub(super) fn lead_by(&mut self, leader: Option<BrokerId>) {
        if let Some(id) = leader
            && !self.isr.contains(&id)
        {
            self.set_isr(vec![id]);
        }
        self.leader = leader;
        if is_on(Mutation::SameEpoch) {
            return;
        }
        self.leader_epoch = self.leader_epoch.next().unwrap_or(self.leader_epoch);
    }

    /// Others hold it from now on. Who holds it no more forgets it, and could come again within one term, unnoticed by a
    /// leader that still knows what it held: so a new term begins whenever somebody goes.
    pub(super) fn hold_by(&mut self, replicas: Vec<BrokerId>, facts: &Facts<'_>) {
        let goes = |id: &BrokerId| !replicas.contains(id);
        let somebody_goes = self.replicas.iter().any(goes);
        self.isr.retain(|id| replicas.contains(id));
        self.elr.retain(|id| replicas.contains(id));
        self.replicas = replicas;
        match self.leader {
            Some(leader) if !self.replicas.contains(&leader) => self.elect(facts),
            leader if somebody_goes => self.lead_by(leader),
            _ => {}
        }
    }

    /// Ends a move whose targets are all in sync, and forgets who is eligible, or lost, once that does not matter.
    pub(super) fn settle(&mut self, facts: &Facts<'_>) {
        if self.is_moving() && self.target.iter().all(|id| self.isr.contains(id)) {
            let target = std::mem::take(&mut self.target);
            self.adding.clear();
            self.removing.clear();
            self.hold_by(target, facts);
        }
        if self.isr.len() >= self.copies_needed(facts.min_insync(self)) {
            self.elr.clear();
        }
        let (isr, elr) = (&self.isr, &self.elr);
        let eligible = |id: &&BrokerId| elr.contains(id) && !isr.contains(id);
        self.elr = self.replicas.iter().filter(eligible).copied().collect();
        if !(self.isr.is_empty() && self.elr.is_empty()) {
            self.lost.clear();
        }
    }
}

/// What decides about the partitions of one topic.
pub(super) struct Facts<'a> {
    brokers: &'a BTreeMap<BrokerId, Broker>,
    broker_configs: &'a BTreeMap<BrokerId, BTreeMap<String, String>>,
    /// What the topic sets.
    of_topic: Option<usize>,
    /// What is set for all brokers while they run.
    of_all: Option<usize>,
}

impl Facts<'_> {
    /// How many copies must be in sync, were there enough of them: what the topic sets, else what is set while brokers run
    /// for the partition's leader or for all, else what the leader started with.
    fn min_insync(&self, partition: &Partition) -> usize {
        let leader = partition.set_by();
        let of_leader = || number(self.broker_configs.get(&leader?)?);
        let at_start = || Some(self.brokers.get(&leader?)?.min_insync);
        let set = self.of_topic.or_else(of_leader).or(self.of_all);
        set.or_else(at_start).unwrap_or(1).max(1)
    }

    pub(super) fn is_live(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| !broker.fenced)
    }

    pub(super) fn is_draining(&self, id: BrokerId) -> bool {
        self.brokers.get(&id).is_some_and(|broker| broker.draining)
    }
}

impl Image {
    /// How many brokers must be in sync for anything to be acknowledged with `acks=all` or shown to readers: the topic's
    /// `min.insync.replicas`, else the leader's, but no more than there are replicas (KIP-966).
    pub fn min_insync(&self, topic: &Topic, partition: &Partition) -> usize {
        partition.copies_needed(self.facts(topic).min_insync(partition))
    }

    /// One stored partition, by the topic's id.
    ///
    /// # Errors
    /// It is not there, or it is a view's.
    pub fn stored_partition(
        &self,
        topic: TopicId,
        partition: PartitionIndex,
    ) -> Result<(&Arc<Topic>, &Partition), PartitionRefusal> {
        let found = self
            .topic_by_id(topic)
            .ok_or(PartitionRefusal::UnknownTopic(topic))?;
        if found.is_view() {
            return Err(PartitionRefusal::View {
                view: found.name.clone(),
                stored: self.stored_topic(found).name.clone(),
            });
        }
        let entry = self.partition(found, partition);
        let entry = entry.ok_or_else(|| PartitionRefusal::UnknownPartition {
            topic: found.name.clone(),
            partition,
        })?;
        Ok((found, entry))
    }

    /// All stored partitions.
    pub fn stored_partitions(&self) -> impl Iterator<Item = (&Arc<Topic>, PartitionIndex, &Partition)> {
        self.topics.values().flat_map(|topic| {
            let numbered = topic.partitions.iter().zip(0..);
            numbered.map(move |(partition, n)| (topic, PartitionIndex(n), partition))
        })
    }

    /// How many replicas each broker holds, or is about to.
    pub fn replica_counts(&self) -> BTreeMap<BrokerId, usize> {
        let mut counts = BTreeMap::new();
        for (_, _, partition) in self.stored_partitions() {
            for id in &partition.replicas {
                *counts.entry(*id).or_default() += 1;
            }
        }
        counts
    }

    /// Changes every partition that is `wanted`; a topic is copied once, and only if one of its partitions is.
    pub(super) fn change_partitions(
        &mut self,
        wanted: impl Fn(&Partition) -> bool,
        mut change: impl FnMut(&mut Partition, &Facts<'_>),
    ) {
        let of_all = number(&self.default_broker_config);
        for topic in self.topics.values_mut() {
            if !topic.partitions.iter().any(&wanted) {
                continue;
            }
            let facts = Facts {
                brokers: &self.brokers,
                broker_configs: &self.broker_configs,
                of_topic: number(&topic.configs),
                of_all,
            };
            let partitions = &mut Arc::make_mut(topic).partitions;
            for partition in partitions.iter_mut().filter(|p| wanted(p)) {
                change(partition, &facts);
                partition.settle(&facts);
                partition.partition_epoch = partition.partition_epoch.saturating_add(1);
            }
        }
    }

    /// Changes one partition, which is there.
    pub(super) fn change_partition(
        &mut self,
        topic: TopicId,
        partition: PartitionIndex,
        change: impl FnOnce(&mut Partition, &Facts<'_>),
    ) {
        let name = self.names.get(&topic);
        let topic = name.and_then(|name| self.topics.get_mut(name));
        let topic = topic.expect("the partition was looked up before");
        let facts = Facts {
            brokers: &self.brokers,
            broker_configs: &self.broker_configs,
            of_topic: number(&topic.configs),
            of_all: number(&self.default_broker_config),
        };
        let index = usize::try_from(partition.0).expect("the partition was looked up before");
        let partition = &mut Arc::make_mut(topic).partitions[index];
        change(partition, &facts);
        partition.settle(&facts);
        partition.partition_epoch = partition.partition_epoch.saturating_add(1);
    }

    /// What decides about the partitions of a topic.
    pub(super) fn facts(&self, topic: &Topic) -> Facts<'_> {
        Facts {
            brokers: &self.brokers,
            broker_configs: &self.broker_configs,
            of_topic: number(&topic.configs),
            of_all: number(&self.default_broker_config),
        }
    }

    /// Forgets who is eligible where fewer copies are needed than before: from now on things may be acknowledged that
    /// they lack.
    pub(super) fn settle_eligible(&mut self) {
        let mut fewer = Vec::new();
        for (topic, index, partition) in self.stored_partitions() {
            if !partition.elr.is_empty() && partition.isr.len() >= self.min_insync(topic, partition) {
                fewer.push((topic.id, index));
            }
        }
        for (topic, index) in fewer {
            self.change_partition(topic, index, |_, _| {});
        }
    }
}

/// What a configuration says of how many copies must be in sync.
fn number(configs: &BTreeMap<String, String>) -> Option<usize> {
    configs.get(MIN_INSYNC)?.trim().parse().ok()
}

/// Changes the in-sync replicas of partitions that `broker` leads.
pub(super) fn alter_partitions(
    image: &mut Image,
    broker: BrokerId,
    broker_epoch: u64,
    changes: &[PartitionChange],
) -> Result<Outcome, Refusal> {
    image.check_epoch(broker, broker_epoch)?;
    let alter = |change: &PartitionChange| {
        check_change(image, broker, change)?;
        let isr = change.isr.clone();
        image.change_partition(change.topic, change.partition, |p, _| p.set_isr(isr));
        Ok(())
    };
    Ok(Outcome::Partitions(changes.iter().map(alter).collect()))
}

fn check_change(image: &Image, broker: BrokerId, change: &PartitionChange) -> Result<(), PartitionRefusal> {
    let (_, partition) = image.stored_partition(change.topic, change.partition)?;
    let (given, current) = (change.leader_epoch, partition.leader_epoch);
    if given < current {
        return Err(PartitionRefusal::FencedLeaderEpoch { given, current });
    }
    if given > current {
        return Err(PartitionRefusal::UnknownLeaderEpoch { given, current });
    }
    if partition.leader != Some(broker) {
        let leader = partition.leader;
        return Err(PartitionRefusal::NotLeader { broker, leader });
    }
    let (given, current) = (change.partition_epoch, partition.partition_epoch);
    if given != current && !is_on(Mutation::AcceptStaleChange) {
        return Err(PartitionRefusal::StalePartitionEpoch { given, current });
    }
    let isr = &change.isr;
    let once = |(n, id): (usize, &BrokerId)| !isr[..n].contains(id) && partition.replicas.contains(id);
    let told = change.epochs.is_empty() || change.epochs.len() == isr.len();
    if !isr.contains(&broker) || !isr.iter().enumerate().all(once) || !told {
        return Err(PartitionRefusal::InSync { isr: isr.clone() });
    }
    for (n, id) in isr.iter().enumerate() {
        let known = image.brokers.get(id);
        let is_new = !partition.isr.contains(id);
        let may = is_on(Mutation::AcceptStaleChange)
            || known.is_some_and(|b| {
                let is_same = change.epochs.get(n).is_none_or(|e| *e == b.epoch);
                !b.fenced && is_same && !(is_new && b.serves_since > change.version)
            });
        if !may {
            return Err(PartitionRefusal::Ineligible(*id));
        }
    }
    Ok(())
}

const MIN_INSYNC: &str = "min.insync.replicas";
