//! An assignment in the making that is to be even by what partitions cost.

use std::collections::{BTreeMap, BTreeSet};

use super::costs::Band;
use super::homes::{self, Homes};
use super::{Place, Source};
use crate::ids::BrokerId;

/// Partitions with their workers, and workers in the order of what they cost.
pub(super) struct Loads {
    pub(super) band: Band,
    pub(super) costs: Vec<u64>,
    /// Who leads each partition; none unless it is a broker that has a worker.
    pub(super) leaders: Vec<Option<BrokerId>>,
    /// The broker of each worker.
    pub(super) homes: Vec<BrokerId>,
    /// The worker of each partition, if it has one yet.
    pub(super) workers: Vec<Option<usize>>,
    /// What each worker has.
    pub(super) held: Vec<Held>,
    /// All workers, the one that costs least first.
    pub(super) order: Order,
    /// The same for each broker.
    pub(super) on: BTreeMap<BrokerId, Order>,
    /// Whether each worker had a partition before.
    is_known: Vec<bool>,
}

/// Workers by what they cost.
pub(super) type Order = BTreeSet<(u64, usize)>;
/// Partitions by what they cost.
pub(super) type ByCost = BTreeSet<(u64, usize)>;

/// What a worker has.
#[derive(Debug, Clone, Default)]
pub(super) struct Held {
    /// What it costs in all.
    pub load: u64,
    /// Partitions.
    pub count: usize,
    /// These, by who leads them.
    pub by_leader: BTreeMap<Option<BrokerId>, ByCost>,
}

impl Loads {
    /// Partitions are where they were, except those that lost their worker, or whose worker lost its broker: these go
    /// where they are led if a worker there has room, else to the worker that costs least. No worker has nothing, and one
    /// that is new has about its share.
    pub(super) fn of(partitions: &[Source], costs: Vec<u64>, homes: Homes) -> Self {
        let count = homes.brokers.len();
        let mut on: BTreeMap<BrokerId, Order> = BTreeMap::new();
        for (worker, broker) in homes.brokers.iter().enumerate() {
            on.entry(*broker).or_default().insert((0, worker));
        }
        let led = |source: &Source| source.leader.filter(|leader| on.contains_key(leader));
        let mut loads = Self {
            band: Band::of(&costs, count),
            costs,
            leaders: partitions.iter().map(led).collect(),
            homes: homes.brokers,
            workers: vec![None; partitions.len()],
            held: vec![Held::default(); count],
            order: (0..count).map(|worker| (0, worker)).collect(),
            on,
            is_known: vec![false; count],
        };
        for (partition, source) in partitions.iter().enumerate() {
            if let Some(worker) = homes::worker_before(source, count) {
                loads.is_known[worker] = true;
                if homes.keeps[worker] {
                    loads.bring(partition, worker);
                }
            }
        }
        loads.give_out();
        loads.fill_up();
        loads
    }

    /// Gives workers to the partitions that have none, the costliest first.
    fn give_out(&mut self) {
        let mut orphans: Vec<usize> = (0..self.workers.len())
            .filter(|partition| self.workers[*partition].is_none())
            .collect();
        orphans.sort_by_key(|partition| (std::cmp::Reverse(self.costs[*partition]), *partition));
        for partition in orphans {
            let cost = self.costs[partition];
            let near = self.leaders[partition].and_then(|leader| first(&self.on[&leader]));
            let near = near.filter(|(load, _)| load + cost <= self.band.ceiling);
            let (_, worker) = near.or_else(|| first(&self.order)).expect("there are workers");
            self.bring(partition, worker);
        }
    }

    /// Sees to it that every worker has something, and one that is new what it may give away again.
    fn fill_up(&mut self) {
        for worker in 0..self.held.len() {
            let wanted = match self.is_known[worker] {
                true => 1,
                false => self.band.floor,
            };
            while self.held[worker].load < wanted
                && let Some(partition) = self.gift(worker)
            {
                self.bring(partition, worker);
            }
        }
    }

    /// What the costliest worker that has several partitions can give to another one and still cost as much: the costliest
    /// partition of that kind. For a worker that has nothing there always is one.
    fn gift(&self, worker: usize) -> Option<usize> {
        let mut givers = self.order.iter().rev();
        let (load, giver) = givers.find(|(_, giver)| self.held[*giver].count > 1)?;
        let limit = load.saturating_sub(self.held[worker].load) / 2;
        let groups = self.held[*giver].by_leader.iter();
        let gifts = groups.filter_map(|(leader, group)| {
            let (cost, partition) = at_most(group, limit)?;
            Some((cost, *leader == Some(self.homes[worker]), partition))
        });
        gifts.max().map(|(.., partition)| partition)
    }

    /// Whether a partition runs where it is led.
    pub(super) fn is_local(&self, partition: usize, worker: usize) -> bool {
        self.leaders[partition] == Some(self.homes[worker])
    }

    /// What a worker costs above the ceiling.
    pub(super) fn excess(&self, worker: usize) -> u64 {
        self.held[worker].load.saturating_sub(self.band.ceiling)
    }

    /// Gives a partition to a worker.
    pub(super) fn bring(&mut self, partition: usize, worker: usize) {
        let (cost, leader) = (self.costs[partition], self.leaders[partition]);
        if let Some(before) = self.workers[partition].replace(worker) {
            self.change(before, |held| {
                held.load -= cost;
                held.count -= 1;
                if let Some(group) = held.by_leader.get_mut(&leader) {
                    group.remove(&(cost, partition));
                    if group.is_empty() {
                        held.by_leader.remove(&leader);
                    }
                }
            });
        }
        self.change(worker, |held| {
            held.load += cost;
            held.count += 1;
            held.by_leader
                .entry(leader)
                .or_default()
                .insert((cost, partition));
        });
    }

    /// Changes what a worker has, and its place in the orders.
    fn change(&mut self, worker: usize, change: impl FnOnce(&mut Held)) {
        let before = (self.held[worker].load, worker);
        change(&mut self.held[worker]);
        let after = (self.held[worker].load, worker);
        let on = self.on.get_mut(&self.homes[worker]);
        let on = on.expect("every home has its workers");
        for order in [&mut self.order, on] {
            order.remove(&before);
            order.insert(after);
        }
    }

    pub(super) fn places(self) -> Vec<Place> {
        let workers = self.workers.into_iter();
        workers
            .map(|worker| {
                let worker = worker.expect("every partition was given out");
                Place {
                    broker: self.homes[worker],
                    worker: u32::try_from(worker).expect("there are no more workers than were asked for"),
                }
            })
            .collect()
    }
}

/// The worker that costs least.
pub(super) fn first(order: &Order) -> Option<(u64, usize)> {
    order.first().copied()
}

/// The costliest partition that costs at most so much.
pub(super) fn at_most(group: &ByCost, cost: u64) -> Option<(u64, usize)> {
    group.range(..=(cost, usize::MAX)).next_back().copied()
}

/// The cheapest partition that costs at least so much.
pub(super) fn at_least(group: &ByCost, cost: u64) -> Option<(u64, usize)> {
    group.range((cost, 0)..).next().copied()
}
