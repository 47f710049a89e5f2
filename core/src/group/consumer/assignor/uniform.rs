//! The assignor `uniform`: even, and sticky.
//!
//! Every member first keeps what it had and still may have. What is left goes to whoever has least, then partitions
//! move from who has most to who has least until that makes nothing more even. Where all members want the same topics,
//! the shares differ by one at most, and no more partitions move than have to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Problem, partitions_of};
use crate::group::consumer::record::Partitions;
use crate::ids::{PartitionIndex, TopicId};

pub(super) fn assign(problem: &Problem) -> BTreeMap<Arc<str>, Partitions> {
    if problem.members.is_empty() {
        return BTreeMap::new();
    }
    let mut shares = Shares::kept(problem);
    if problem.is_homogeneous() {
        shares.hand_out_evenly();
    } else {
        shares.hand_out(problem);
        shares.balance(problem);
    }
    shares.into_assignments()
}

/// What members have so far.
struct Shares {
    ids: Vec<Arc<str>>,
    held: Vec<Partitions>,
    loads: Vec<usize>,
    /// Partitions that nobody has, in the order of topics and indexes.
    free: Vec<(TopicId, PartitionIndex)>,
}

impl Shares {
    /// Everybody keeps what is still there and wanted. What two had, the first keeps.
    fn kept(problem: &Problem) -> Self {
        let mut taken: BTreeMap<TopicId, BTreeSet<PartitionIndex>> = BTreeMap::new();
        let mut shares = Self {
            ids: problem.members.keys().cloned().collect(),
            held: Vec::with_capacity(problem.members.len()),
            loads: Vec::with_capacity(problem.members.len()),
            free: Vec::new(),
        };
        for member in problem.members.values() {
            let mut held = Partitions::new();
            for (topic, partitions) in &member.before {
                let Some(count) = problem
                    .topics
                    .get(topic)
                    .filter(|_| member.topics.contains(topic))
                else {
                    continue;
                };
                let taken = taken.entry(*topic).or_default();
                let kept: BTreeSet<_> = partitions
                    .iter()
                    .filter(|partition| (0..*count).contains(&partition.0) && taken.insert(**partition))
                    .copied()
                    .collect();
                if !kept.is_empty() {
                    held.insert(*topic, kept);
                }
            }
            shares.loads.push(held.values().map(BTreeSet::len).sum());
            shares.held.push(held);
        }
        let wanted: BTreeSet<&TopicId> = problem.members.values().flat_map(|m| &m.topics).collect();
        for (topic, count) in problem.topics.iter().filter(|(topic, _)| wanted.contains(topic)) {
            let taken = taken.remove(topic).unwrap_or_default();
            let free = partitions_of(*count).filter(|partition| !taken.contains(partition));
            shares.free.extend(free.map(|partition| (*topic, partition)));
        }
        shares
    }

    /// Where everybody may have everything: nobody keeps more than its share, and who has less is filled up.
    fn hand_out_evenly(&mut self) {
        let total = self.loads.iter().sum::<usize>() + self.free.len();
        let (each, mut more) = (total / self.ids.len(), total % self.ids.len());
        let mut quotas = vec![each; self.ids.len()];
        // Those that have more than the others keep the ones that do not divide.
        for (quota, load) in quotas.iter_mut().zip(&self.loads) {
            if more > 0 && *load > each {
                *quota += 1;
                more -= 1;
            }
        }
        for quota in &mut quotas {
            if more > 0 && *quota == each {
                *quota += 1;
                more -= 1;
            }
        }
        for (n, quota) in quotas.iter().enumerate() {
            while self.loads[n] > *quota {
                self.give_back(n);
            }
        }
        let mut takers: BTreeSet<(usize, usize)> = (0..self.ids.len())
            .filter(|n| self.loads[*n] < quotas[*n])
            .map(|n| (self.loads[n], n))
            .collect();
        self.free.sort_unstable();
        for (topic, partition) in std::mem::take(&mut self.free) {
            let (_, n) = takers.pop_first().expect("quotas sum up to all partitions");
            self.take(n, topic, partition);
            if self.loads[n] < quotas[n] {
                takers.insert((self.loads[n], n));
            }
        }
    }

    /// Gives every free partition to whoever wants its topic and has least. Topics that few want come first: whoever
    /// has to take these takes less of the others.
    fn hand_out(&mut self, problem: &Problem) {
        let mut by_topic: BTreeMap<TopicId, Vec<PartitionIndex>> = BTreeMap::new();
        for (topic, partition) in std::mem::take(&mut self.free) {
            by_topic.entry(topic).or_default().push(partition);
        }
        let mut topics: Vec<_> = by_topic
            .into_iter()
            .map(|(topic, partitions)| (takers_of(problem, topic), topic, partitions))
            .collect();
        topics.sort_by_key(|(takers, topic, _)| (takers.len(), *topic));
        for (takers, topic, partitions) in topics {
            let mut order: BTreeSet<_> = takers.into_iter().map(|n| (self.loads[n], n)).collect();
            for partition in partitions {
                let (_, n) = order
                    .pop_first()
                    .expect("a topic that nobody wants has no free partitions");
                self.take(n, topic, partition);
                order.insert((self.loads[n], n));
            }
        }
    }

    /// Moves partitions from who has most to who has least, topic by topic, until no move helps. Each one makes the
    /// sum of the squares of the loads smaller, so it ends.
    fn balance(&mut self, problem: &Problem) {
        let topics: Vec<_> = problem
            .topics
            .keys()
            .map(|topic| (*topic, takers_of(problem, *topic)))
            .filter(|(_, takers)| takers.len() > 1)
            .collect();
        for _ in 0..BALANCE_ROUNDS_MAX {
            let mut moved = false;
            for (topic, takers) in &topics {
                moved |= self.balance_topic(*topic, takers);
            }
            if !moved {
                return;
            }
        }
    }

    fn balance_topic(&mut self, topic: TopicId, takers: &[usize]) -> bool {
        let mut order: BTreeSet<_> = takers.iter().map(|n| (self.loads[*n], *n)).collect();
        let mut moved = false;
        loop {
            let giver = order
                .iter()
                .rev()
                .find(|(_, n)| self.held[*n].contains_key(&topic));
            let (Some(giver), Some(taker)) = (giver.copied(), order.first().copied()) else {
                return moved;
            };
            if giver.0 < taker.0 + 2 {
                return moved;
            }
            moved = true;
            order.remove(&giver);
            order.remove(&taker);
            let partition = self.give(giver.1, topic);
            self.take(taker.1, topic, partition);
            order.insert((self.loads[giver.1], giver.1));
            order.insert((self.loads[taker.1], taker.1));
        }
    }

    fn take(&mut self, n: usize, topic: TopicId, partition: PartitionIndex) {
        self.held[n].entry(topic).or_default().insert(partition);
        self.loads[n] += 1;
    }

    /// Takes the last partition of the topic of which the member has most.
    fn give_back(&mut self, n: usize) {
        let most = self.held[n].iter().max_by_key(|(_, partitions)| partitions.len());
        let topic = *most.expect("who has a load has partitions").0;
        let partition = self.give(n, topic);
        self.free.push((topic, partition));
    }

    fn give(&mut self, n: usize, topic: TopicId) -> PartitionIndex {
        let partitions = self.held[n].get_mut(&topic).expect("it is asked for what it has");
        let partition = partitions
            .pop_last()
            .expect("no topic is there without partitions");
        if partitions.is_empty() {
            self.held[n].remove(&topic);
        }
        self.loads[n] -= 1;
        partition
    }

    fn into_assignments(self) -> BTreeMap<Arc<str>, Partitions> {
        self.ids.into_iter().zip(self.held).collect()
    }
}

/// Places of the members that want a topic.
fn takers_of(problem: &Problem, topic: TopicId) -> Vec<usize> {
    let members = problem.members.values().enumerate();
    members
        .filter(|(_, member)| member.topics.contains(&topic))
        .map(|(n, _)| n)
        .collect()
}

/// Most rounds over all topics in search of a more even assignment; Kafka gives up as early.
const BALANCE_ROUNDS_MAX: usize = 16;
