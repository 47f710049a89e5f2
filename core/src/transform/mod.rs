//! Which broker runs which partition of a deployed transform, and in which of its workers.
//!
//! It knows brokers, leaders and what was before, and nothing else of the cluster. The rules, the first before the next:
//!
//! 1. Every partition has one worker, on a broker that may work. There are as many workers as were asked for, but no more
//!    than partitions; each has as many partitions as any other, or one more. Once it is known what partitions cost, workers
//!    are even by that instead: none costs more than a fifth above the mean, as far as whole partitions can be shared out
//!    so, and none has nothing.
//! 2. A partition runs on the broker that leads it, as far as the first rule allows.
//! 3. A partition stays where it is, unless the first two rules want it elsewhere. A worker goes to another broker with
//!    all that it has only if the greater half of it gains by that.
//!
//! What it gives is an end: given in again, with nothing changed, it comes out as it was. That is so because it makes of
//! what was before something that the first rule allows, which changes nothing where it is so already, and then takes
//! steps only that lead to more partitions that run where they are led, until there are none. By cost it begins with what
//! was before, however uneven, and a step leads to less above the ceiling, or to no more of it and less that runs elsewhere:
//! what is even enough moves for nobody.

mod costs;
mod homes;
mod loads;
mod nearer;
mod relief;
mod steps;

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::BrokerId;
pub use costs::{COST_MAX, Load, loads};
use loads::Loads;

/// A partition that is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The broker that leads it.
    pub leader: Option<BrokerId>,
    /// Where it ran before.
    pub before: Option<Place>,
}

/// Where a partition runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The broker.
    pub broker: BrokerId,
    /// The worker, counted over all brokers from 0; it is on this broker only.
    pub worker: u32,
}

/// Says for each partition, in their order, where it runs, so that workers are even by the number of partitions. Nothing
/// runs, and the answer is empty, without brokers that may work, partitions or workers.
pub fn assign(partitions: &[Source], brokers: &BTreeSet<BrokerId>, workers: u32) -> Vec<Place> {
    let workers = partitions.len().min(workers as usize);
    if workers == 0 || brokers.is_empty() {
        return Vec::new();
    }
    let shares = Shares::of(partitions.len(), workers);
    let homes = homes::choose(partitions, brokers, workers, &shares);
    let mut draft = Draft::of(partitions, homes, shares);
    draft.even_out();
    draft.give_out();
    draft.take_steps();
    draft.places()
}

/// As [`assign`], but so that workers are even by what their partitions cost: time in the plugin as a part of all time, in
/// thousandths of a core. A partition whose cost is 0, or that has none, is taken for one like the others; if no cost is known,
/// or nothing can be chosen, workers are even by number.
pub fn assign_by_cost(
    partitions: &[Source],
    costs: &[u32],
    brokers: &BTreeSet<BrokerId>,
    workers: u32,
) -> Vec<Place> {
    let count = partitions.len().min(workers as usize);
    let can_choose = 1 < count && count < partitions.len() && !brokers.is_empty();
    let Some(costs) = costs::complete(costs, partitions.len()).filter(|_| can_choose) else {
        return assign(partitions, brokers, workers);
    };
    let homes = homes::choose(partitions, brokers, count, &Shares::of(partitions.len(), count));
    let mut loads = Loads::of(partitions, costs, homes);
    loop {
        let has_relieved = loads.relieve();
        if !loads.bring_nearer() && !has_relieved {
            return loads.places();
        }
    }
}

/// How many partitions workers have.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Each has so many, or one more.
    least: usize,
    /// So many have one more.
    larger: usize,
}

impl Shares {
    /// There are no more workers than partitions.
    fn of(partitions: usize, workers: usize) -> Self {
        Self {
            least: partitions / workers,
            larger: partitions % workers,
        }
    }
}

/// An assignment in the making.
struct Draft {
    shares: Shares,
    /// Who leads each partition; none unless it is a broker that has a worker.
    leaders: Vec<Option<BrokerId>>,
    /// The worker of each partition, if it has one yet.
    workers: Vec<Option<usize>>,
    /// The broker of each worker.
    homes: Vec<BrokerId>,
    /// How many partitions each worker has.
    sizes: Vec<usize>,
}

impl Draft {
    /// Partitions are where they were, except those that lost their worker, or whose worker lost its broker.
    fn of(partitions: &[Source], homes: homes::Homes, shares: Shares) -> Self {
        let with_workers: BTreeSet<_> = homes.brokers.iter().copied().collect();
        let led = |source: &Source| source.leader.filter(|leader| with_workers.contains(leader));
        let workers: Vec<_> = partitions
            .iter()
            .map(|source| homes::worker_before(source, homes.brokers.len()).filter(|w| homes.keeps[*w]))
            .collect();
        let mut sizes = vec![0; homes.brokers.len()];
        for worker in workers.iter().flatten() {
            sizes[*worker] += 1;
        }
        Self {
            shares,
            leaders: partitions.iter().map(led).collect(),
            workers,
            homes: homes.brokers,
            sizes,
        }
    }

    fn is_local(&self, partition: usize) -> bool {
        self.workers[partition].is_some_and(|worker| self.leaders[partition] == Some(self.homes[worker]))
    }

    /// Takes from workers what they have too much: first what is led elsewhere, then what comes last.
    fn even_out(&mut self) {
        let mut held: Vec<Vec<usize>> = vec![Vec::new(); self.homes.len()];
        for (partition, worker) in self.workers.iter().enumerate() {
            if let Some(worker) = worker {
                held[*worker].push(partition);
            }
        }
        let locals = |of: &[usize]| of.iter().filter(|p| self.is_local(**p)).count();
        let mut crowded: Vec<usize> = (0..held.len())
            .filter(|worker| held[*worker].len() > self.shares.least)
            .collect();
        // Those keep one more that have use for it.
        crowded.sort_by_key(|worker| (std::cmp::Reverse(locals(&held[*worker])), *worker));
        for (n, worker) in crowded.into_iter().enumerate() {
            let room = self.shares.least + usize::from(n < self.shares.larger);
            let mut kept = std::mem::take(&mut held[worker]);
            kept.sort_by_key(|partition| (!self.is_local(*partition), *partition));
            for partition in kept.split_off(room.min(kept.len())) {
                self.workers[partition] = None;
            }
            self.sizes[worker] = kept.len();
        }
    }

    /// Gives workers to the partitions that have none: where they are led as far as there is room, then anywhere.
    fn give_out(&mut self) {
        let mut on: BTreeMap<BrokerId, Vec<usize>> = BTreeMap::new();
        for (worker, broker) in self.homes.iter().enumerate() {
            on.entry(*broker).or_default().push(worker);
        }
        let everywhere: Vec<usize> = (0..self.homes.len()).collect();
        for local in [true, false] {
            for partition in 0..self.workers.len() {
                if self.workers[partition].is_some() {
                    continue;
                }
                let among = match (local, self.leaders[partition]) {
                    (true, Some(leader)) => &on[&leader],
                    (true, None) => continue,
                    (false, _) => &everywhere,
                };
                if let Some(worker) = self.roomiest(among) {
                    self.workers[partition] = Some(worker);
                    self.sizes[worker] += 1;
                }
            }
        }
    }

    /// The first of these workers that has fewest partitions, if it may have one more.
    fn roomiest(&self, among: &[usize]) -> Option<usize> {
        let worker = *among.iter().min_by_key(|worker| self.sizes[**worker])?;
        let is_short = self.sizes[worker] < self.shares.least;
        let may_exceed = || self.sizes[worker] == self.shares.least && self.has_larger_left();
        (is_short || may_exceed()).then_some(worker)
    }

    /// Whether another worker may have one more than the least.
    fn has_larger_left(&self) -> bool {
        let larger = self.sizes.iter().filter(|size| **size > self.shares.least);
        larger.count() < self.shares.larger
    }

    fn places(self) -> Vec<Place> {
        let workers = self.workers.into_iter();
        workers
            .map(|worker| {
                let worker = worker.expect("shares add up to the partitions, so that each has found room");
                Place {
                    broker: self.homes[worker],
                    worker: u32::try_from(worker).expect("there are no more workers than were asked for"),
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod tests;
