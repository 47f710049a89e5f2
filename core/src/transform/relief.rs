//! Steps that relieve workers that cost too much. Each takes something off what workers cost above the ceiling in all: the
//! whole cost of the partition that it moves, or a good part of a share, so that there is an end, and that soon.

use std::cmp::Reverse;

use super::loads::{Loads, at_least, at_most, first};

/// A partition that may go to another worker, and what may come back for it.
struct Step {
    partition: usize,
    to: usize,
    back: Option<usize>,
    /// What it takes off.
    gain: u64,
    /// How many partitions more run where they are led.
    nearer: i8,
    /// What it moves.
    cost: u64,
}

impl Step {
    /// Much is taken off, nothing is led away, little is moved.
    fn rank(&self) -> impl Ord + use<> {
        let last = Reverse((self.partition, self.to, self.back));
        (self.gain, self.nearer, Reverse(self.cost), last)
    }
}

impl Loads {
    /// Takes such steps until there are none; says whether there was one. The costliest workers come first.
    pub(super) fn relieve(&mut self) -> bool {
        let mut has_stepped = false;
        loop {
            let above = (self.band.ceiling, usize::MAX);
            let busy: Vec<usize> = self.order.range(above..).rev().map(|(_, w)| *w).collect();
            let mut steps = 0;
            for worker in busy {
                while let Some(step) = self.relief_of(worker) {
                    self.bring(step.partition, step.to);
                    if let Some(back) = step.back {
                        self.bring(back, worker);
                    }
                    steps += 1;
                }
            }
            if steps == 0 {
                return has_stepped;
            }
            has_stepped = true;
        }
    }

    /// The best step for a worker: rather one that moves one partition than one that moves two.
    fn relief_of(&self, worker: usize) -> Option<Step> {
        let excess = self.excess(worker);
        if excess == 0 || self.held[worker].count < 2 {
            return None;
        }
        let moves = self.moves(worker, excess);
        let best = moves.max_by_key(Step::rank);
        best.or_else(|| match excess < self.band.step {
            true => None,
            false => self.exchanges(worker, excess).max_by_key(Step::rank),
        })
    }

    /// To the worker that costs least of all, and to the one that does where the partition is led: what one that costs
    /// more can take, these can, too.
    fn moves(&self, worker: usize, excess: u64) -> impl Iterator<Item = Step> {
        let groups = self.held[worker].by_leader.iter();
        groups.flat_map(move |(leader, group)| {
            let there = leader.and_then(|leader| first(&self.on[&leader]));
            let targets = first(&self.order).into_iter().chain(there);
            let targets = targets.filter(move |(load, to)| *to != worker && *load < self.band.ceiling);
            targets.flat_map(move |(load, to)| {
                let room = self.band.ceiling - load;
                let sizes = [
                    at_least(group, excess),
                    at_most(group, room),
                    at_least(group, room + 1),
                ];
                sizes.into_iter().flatten().filter_map(move |(cost, partition)| {
                    let gain = self.gain(worker, load, cost);
                    (gain >= cost.min(self.band.step)).then_some(Step {
                        partition,
                        to,
                        back: None,
                        gain,
                        nearer: self.nearer(partition, worker, to),
                        cost,
                    })
                })
            })
        })
    }

    /// Against a cheaper partition of one of the workers that cost least. A worker that no move relieves has few.
    fn exchanges(&self, worker: usize, excess: u64) -> impl Iterator<Item = Step> {
        let cheap = self.order.iter().take(TARGETS_MAX).copied();
        let cheap = cheap.filter(move |(load, to)| *to != worker && *load < self.band.ceiling);
        let own = self.held[worker].by_leader.values().flatten();
        let pairs = own.flat_map(move |one| cheap.clone().map(move |other| (*one, other)));
        pairs.flat_map(move |((cost, partition), (load, to))| {
            let room = self.band.ceiling - load;
            let groups = self.held[to].by_leader.values();
            groups.flat_map(move |group| {
                let sizes = [
                    cost.checked_sub(excess).and_then(|most| at_most(group, most)),
                    at_least(group, cost.saturating_sub(room)),
                    cost.checked_sub(room + 1).and_then(|most| at_most(group, most)),
                ];
                sizes.into_iter().flatten().filter_map(move |(theirs, back)| {
                    let gain = self.gain(worker, load, cost.checked_sub(theirs)?);
                    (gain >= self.band.step).then_some(Step {
                        partition,
                        to,
                        back: Some(back),
                        gain,
                        nearer: self.nearer(partition, worker, to) + self.nearer(back, to, worker),
                        cost: cost + theirs,
                    })
                })
            })
        })
    }

    /// What is taken off if so much goes from a worker to another one.
    fn gain(&self, worker: usize, load_there: u64, cost: u64) -> u64 {
        let above = |load: u64| load.saturating_sub(self.band.ceiling);
        let load = self.held[worker].load;
        let before = above(load) + above(load_there);
        before.saturating_sub(above(load - cost) + above(load_there + cost))
    }

    fn nearer(&self, partition: usize, from: usize, to: usize) -> i8 {
        i8::from(self.is_local(partition, to)) - i8::from(self.is_local(partition, from))
    }
}

/// How many of the workers that cost least are looked at.
const TARGETS_MAX: usize = 64;
