//! Which partitions are to move so that draining brokers become empty and the others hold equally many.
//!
//! Nothing moves that need not: a broker gives away what it has too much of, and the new order of leaders is made of
//! leaderships handed over among replicas that are there. Racks come first: a move never brings two replicas together
//! in a rack that were apart. The brokers' own topics may have been made when there were fewer brokers: they get the
//! replicas that they lack.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::placement::{RackName, even_leaders, rack_of};
use super::{Image, Reassignment};
use crate::ids::{BrokerId, PartitionIndex, TopicId};

/// A partition that is to be held by others, or led by another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Move {
    /// The topic.
    pub topic: TopicId,
    /// Which of its partitions.
    pub partition: PartitionIndex,
    /// Who holds it, the preferred leader first.
    pub from: Vec<BrokerId>,
    /// Who is to hold it, the preferred leader first.
    pub to: Vec<BrokerId>,
}

impl Move {
    /// Brokers that have to copy the partition.
    pub fn copies(&self) -> impl Iterator<Item = BrokerId> {
        self.to.iter().copied().filter(|id| !self.from.contains(id))
    }

    /// The command's part that makes the move.
    pub fn reassignment(&self) -> Reassignment {
        Reassignment {
            topic: self.topic,
            partition: self.partition,
            replicas: Some(self.to.clone()),
        }
    }
}

/// The moves to evenness, in the order of topic names. Partitions that move already are left to arrive; brokers that are
/// fenced keep what they have, unless they drain. Of the brokers' own topics there are to be `internal_copies`, as far as
/// there are brokers.
pub fn plan(image: &Image, internal_copies: usize) -> Vec<Move> {
    let mut state = State::new(image);
    state.empty_draining();
    state.add_copies(internal_copies);
    while state.relieve_one() {}
    state.even_leaders();
    let moves = state.moves.into_iter();
    moves.filter(|m| m.from != m.to).collect()
}

struct State<'a> {
    image: &'a Image,
    racks: BTreeMap<BrokerId, RackName<'a>>,
    /// All partitions that may move, as they would be.
    moves: Vec<Move>,
    /// Which of `moves` a broker holds.
    held: BTreeMap<BrokerId, BTreeSet<usize>>,
    /// How many replicas are on each broker that takes any, of all partitions.
    loads: BTreeMap<BrokerId, usize>,
    /// How many partitions, that may not move, are to be led by a broker.
    settled_leaders: BTreeMap<BrokerId, usize>,
    /// How many replicas of a topic a broker holds.
    of_topic: BTreeMap<(TopicId, BrokerId), usize>,
}

impl<'a> State<'a> {
    fn new(image: &'a Image) -> Self {
        let takers = image.brokers.values().filter(|broker| broker.takes_replicas());
        let all = image.brokers.keys();
        let mut state = Self {
            image,
            racks: all.map(|id| (*id, rack_of(image, *id))).collect(),
            moves: Vec::new(),
            held: BTreeMap::new(),
            loads: takers.map(|broker| (broker.id, 0)).collect(),
            settled_leaders: BTreeMap::new(),
            of_topic: BTreeMap::new(),
        };
        for (topic, index, partition) in image.stored_partitions() {
            let replicas = partition.settled();
            for id in replicas {
                state.count(topic.id, *id);
            }
            if partition.is_moving() {
                if let Some(leader) = replicas.first() {
                    *state.settled_leaders.entry(*leader).or_default() += 1;
                }
                continue;
            }
            for id in replicas {
                state.held.entry(*id).or_default().insert(state.moves.len());
            }
            state.moves.push(Move {
                topic: topic.id,
                partition: index,
                from: replicas.to_vec(),
                to: replicas.to_vec(),
            });
        }
        state
    }

    fn count(&mut self, topic: TopicId, id: BrokerId) {
        if let Some(load) = self.loads.get_mut(&id) {
            *load += 1;
        }
        *self.of_topic.entry((topic, id)).or_default() += 1;
    }

    /// Moves everything from draining brokers to those that have the least, as far as there are enough.
    fn empty_draining(&mut self) {
        let draining = self.image.brokers.values().filter(|broker| broker.draining);
        for broker in draining.map(|broker| broker.id) {
            let held = self.held.get(&broker).cloned().unwrap_or_default();
            for n in held {
                let topic = self.moves[n].topic;
                let free = self.loads.iter().filter(|(id, _)| !self.moves[n].to.contains(id));
                let best = free.min_by_key(|(id, load)| {
                    let of_topic = self.of_topic.get(&(topic, **id)).copied();
                    (self.together(n, broker, **id), **load, of_topic)
                });
                if let Some((to, _)) = best {
                    self.replace(n, broker, *to);
                }
            }
        }
    }

    /// Gives the partitions of the brokers' own topics the replicas that they lack: in other racks, where there are any, on
    /// those that have the least.
    fn add_copies(&mut self, wanted: usize) {
        let wanted = wanted.min(self.loads.len());
        for n in 0..self.moves.len() {
            let topic = self.moves[n].topic;
            let is_internal = self
                .image
                .topic_by_id(topic)
                .is_some_and(|topic| topic.is_internal());
            while is_internal && self.moves[n].to.len() < wanted {
                let free = self.loads.iter().filter(|(id, _)| !self.moves[n].to.contains(id));
                let best = free.min_by_key(|(id, load)| {
                    let of_topic = self.of_topic.get(&(topic, **id)).copied();
                    (self.together(n, **id, **id), **load, of_topic)
                });
                let Some((to, _)) = best else { break };
                let to = *to;
                self.moves[n].to.push(to);
                self.held.entry(to).or_default().insert(n);
                self.count(topic, to);
            }
        }
    }

    /// Moves one replica, or a chain of them, from a broker that has too many; false if that is not possible.
    fn relieve_one(&mut self) -> bool {
        let mut sources: Vec<(BrokerId, usize)> = self.loads.iter().map(|(id, load)| (*id, *load)).collect();
        sources.sort_by_key(|(id, load)| (std::cmp::Reverse(*load), *id));
        let Some((_, lowest)) = sources.last().copied() else {
            return false;
        };
        let sources = sources.into_iter().take_while(|(_, load)| *load >= lowest + 2);
        for (source, load) in sources {
            let Some(chain) = self.chain_from(source, load) else {
                continue;
            };
            // From its end, so that nobody on the way has more than before, even if the chain breaks.
            for (from, to) in chain {
                match self.best_move(from, to) {
                    Some(n) => self.replace(n, from, to),
                    None => return false,
                }
            }
            return true;
        }
        false
    }

    /// The shortest chain of brokers that relieves `source`, its last link first.
    fn chain_from(&self, source: BrokerId, load: usize) -> Option<Vec<(BrokerId, BrokerId)>> {
        let mut through: BTreeMap<BrokerId, BrokerId> = BTreeMap::new();
        let mut reached = vec![source];
        let mut next = 0;
        let mut targets: Vec<(usize, BrokerId)> = self.loads.iter().map(|(id, load)| (*load, *id)).collect();
        targets.sort_unstable();
        while let Some(at) = reached.get(next).copied() {
            next += 1;
            for (its_load, to) in &targets {
                if reached.contains(to) || self.movable(at, *to).next().is_none() {
                    continue;
                }
                through.insert(*to, at);
                reached.push(*to);
                if its_load + 2 <= load {
                    let mut chain = vec![(at, *to)];
                    let mut link = at;
                    while let Some(from) = through.get(&link) {
                        chain.push((*from, link));
                        link = *from;
                    }
                    return Some(chain);
                }
            }
        }
        None
    }

    /// What best goes from one broker to another: what has to be copied anyway, what is then alone in its rack, what its
    /// topic has most of there.
    fn best_move(&self, from: BrokerId, to: BrokerId) -> Option<usize> {
        // Partitions of one topic lie side by side, so what is known of a topic is looked up once.
        let mut last: Option<(TopicId, i64)> = None;
        let mut skew = |topic: TopicId| match last {
            Some((known, skew)) if known == topic => skew,
            _ => {
                let count = |id| self.of_topic.get(&(topic, id)).copied().unwrap_or(0) as i64;
                let skew = count(to) - count(from);
                last = Some((topic, skew));
                skew
            }
        };
        let ranked = self.movable(from, to).map(|(n, closer)| {
            let entry = &self.moves[n];
            let more_copies = i64::from(!entry.from.contains(&to)) - i64::from(!entry.from.contains(&from));
            ((more_copies, closer, skew(entry.topic)), n)
        });
        ranked.min().map(|(_, n)| n)
    }

    /// What may go from one broker to another, with how many replicas more would then share a rack: none, or fewer.
    fn movable(&self, from: BrokerId, to: BrokerId) -> impl Iterator<Item = (usize, i64)> {
        let held = self.held.get(&from).into_iter().flatten().copied();
        let free = held.filter(move |n| !self.moves[*n].to.contains(&to));
        free.filter_map(move |n| {
            let (before, after) = (self.together(n, from, from), self.together(n, from, to));
            (after <= before).then_some((n, after as i64 - before as i64))
        })
    }

    /// How many others of a partition's replicas would be in the rack of `id`, were it in the place of `instead_of`.
    fn together(&self, n: usize, instead_of: BrokerId, id: BrokerId) -> usize {
        let rack = self.racks.get(&id);
        let others = self.moves[n].to.iter().filter(|other| **other != instead_of);
        others.filter(|other| self.racks.get(other) == rack).count()
    }

    fn replace(&mut self, n: usize, from: BrokerId, to: BrokerId) {
        let topic = self.moves[n].topic;
        for id in &mut self.moves[n].to {
            if *id == from {
                *id = to;
            }
        }
        if let Some(held) = self.held.get_mut(&from) {
            held.remove(&n);
        }
        self.held.entry(to).or_default().insert(n);
        if let Some(load) = self.loads.get_mut(&from) {
            *load -= 1;
        }
        if let Some(count) = self.of_topic.get_mut(&(topic, from)) {
            *count -= 1;
        }
        self.count(topic, to);
    }

    /// Makes preferred leaders even among brokers that are in service, by changing the order of replicas.
    fn even_leaders(&mut self) {
        let takers: Vec<BrokerId> = self.loads.keys().copied().collect();
        let place: BTreeMap<BrokerId, usize> = takers.iter().copied().zip(0..).collect();
        let mut loads: Vec<usize> = takers
            .iter()
            .map(|id| self.settled_leaders.get(id).copied().unwrap_or(0))
            .collect();
        let (mut which, mut sets, mut leaders) = (Vec::new(), Vec::new(), Vec::new());
        for (n, entry) in self.moves.iter().enumerate() {
            let Some(leader) = entry.to.first().and_then(|id| place.get(id)) else {
                continue;
            };
            loads[*leader] += 1;
            leaders.push(*leader);
            sets.push(entry.to.iter().filter_map(|id| place.get(id)).copied().collect());
            which.push(n);
        }
        even_leaders(&sets, &mut leaders, &mut loads);
        for (n, leader) in which.into_iter().zip(leaders) {
            let to = &mut self.moves[n].to;
            let at = to.iter().position(|id| *id == takers[leader]);
            to.swap(0, at.expect("the leader is a replica"));
        }
    }
}
