//! On which broker each worker is.

use std::collections::{BTreeMap, BTreeSet};

use super::{Shares, Source};
use crate::ids::BrokerId;

/// The workers with their brokers.
pub(super) struct Homes {
    /// The broker of each worker.
    pub brokers: Vec<BrokerId>,
    /// Whether each worker was there before, so that its partitions stay with it.
    pub keeps: Vec<bool>,
}

/// The worker that a partition had, if there still is such a one.
pub(super) fn worker_before(source: &Source, workers: usize) -> Option<usize> {
    let worker = source.before?.worker as usize;
    (worker < workers).then_some(worker)
}

/// Workers are where they were, if that broker may work; the others go where most partitions are led that no worker has
/// room for. Then those move that gain by it.
pub(super) fn choose(
    partitions: &[Source],
    brokers: &BTreeSet<BrokerId>,
    workers: usize,
    shares: &Shares,
) -> Homes {
    let mut demands = Demands::of(partitions, brokers, *shares);
    let mut before: Vec<Option<BrokerId>> = vec![None; workers];
    for source in partitions {
        if let (Some(worker), Some(place)) = (worker_before(source, workers), source.before) {
            before[worker].get_or_insert(place.broker);
        }
    }
    for known in &mut before {
        *known = known.filter(|broker| brokers.contains(broker));
        if let Some(broker) = known {
            demands.at(*broker).workers += 1;
        }
    }
    let keeps: Vec<bool> = before.iter().map(Option::is_some).collect();
    let mut homes: Vec<BrokerId> = before
        .iter()
        .map(|known| known.unwrap_or_else(|| demands.settle_one()))
        .collect();
    while let Some((from, to)) = demands.best_move() {
        let worker = most_willing(partitions, &homes, &keeps, from, to);
        homes[worker] = to;
        demands.at(from).workers -= 1;
        demands.at(to).workers += 1;
    }
    Homes {
        brokers: homes,
        keeps,
    }
}

/// The worker on `from` that loses least and gains most when it goes to `to`, the last of several.
fn most_willing(
    partitions: &[Source],
    homes: &[BrokerId],
    keeps: &[bool],
    from: BrokerId,
    to: BrokerId,
) -> usize {
    let mut losses = vec![0_i64; homes.len()];
    for source in partitions {
        match worker_before(source, homes.len()).filter(|worker| keeps[*worker]) {
            Some(worker) if source.leader == Some(from) => losses[worker] += 1,
            Some(worker) if source.leader == Some(to) => losses[worker] -= 1,
            _ => {}
        }
    }
    let there = (0..homes.len()).filter(|worker| homes[*worker] == from);
    there
        .min_by_key(|worker| (losses[*worker], std::cmp::Reverse(*worker)))
        .expect("a move is from a broker that has a worker")
}

/// What is led on each broker, and how many workers there are for it.
struct Demands {
    of: BTreeMap<BrokerId, Demand>,
    shares: Shares,
}

#[derive(Clone, Copy, Default)]
struct Demand {
    /// Partitions that are led there.
    led: usize,
    /// Workers that are there.
    workers: usize,
}

impl Demands {
    fn of(partitions: &[Source], brokers: &BTreeSet<BrokerId>, shares: Shares) -> Self {
        let mut of: BTreeMap<_, _> = brokers.iter().map(|id| (*id, Demand::default())).collect();
        for leader in partitions.iter().filter_map(|source| source.leader) {
            if let Some(demand) = of.get_mut(&leader) {
                demand.led += 1;
            }
        }
        Self { of, shares }
    }

    fn at(&mut self, broker: BrokerId) -> &mut Demand {
        self.of
            .get_mut(&broker)
            .expect("only brokers that may work are asked for")
    }

    /// Puts a worker where most is led that there are no workers for; of several where fewest are, then the first.
    fn settle_one(&mut self) -> BrokerId {
        let least = self.shares.least;
        let rank = |demand: &Demand| {
            let unmet = demand.led as i64 - (least * demand.workers) as i64;
            (-unmet, demand.workers)
        };
        let (broker, demand) = self
            .of
            .iter_mut()
            .min_by_key(|(_, demand)| rank(demand))
            .expect("there are brokers that may work");
        demand.workers += 1;
        *broker
    }

    /// The move of a worker from broker to broker that gains most, if more than half of a worker's partitions gain.
    fn best_move(&self) -> Option<(BrokerId, BrokerId)> {
        let met = self.met();
        let mut best = None;
        for (from, had) in self.of.iter().filter(|(_, demand)| demand.workers > 0) {
            let gone = met.with(had, had.workers - 1, self.shares);
            for (to, has) in self.of.iter().filter(|(to, _)| *to != from) {
                let gain = gone
                    .with(has, has.workers + 1, self.shares)
                    .local(self.shares)
                    .saturating_sub(met.local(self.shares));
                if 2 * gain > self.shares.least && best.is_none_or(|(most, _)| gain > most) {
                    best = Some((gain, (*from, *to)));
                }
            }
        }
        best.map(|(_, step)| step)
    }

    fn met(&self) -> Met {
        let nothing = Met { least: 0, most: 0 };
        self.of.values().fold(nothing, |met, demand| {
            let none = Demand {
                workers: 0,
                ..*demand
            };
            met.with(&none, demand.workers, self.shares)
        })
    }
}

/// How many partitions can run where they are led.
#[derive(Clone, Copy)]
struct Met {
    /// If each worker has the least that it may have.
    least: usize,
    /// If each has one more.
    most: usize,
}

impl Met {
    /// As if a broker had so many workers instead.
    fn with(self, demand: &Demand, workers: usize, shares: Shares) -> Self {
        let met = |share: usize, workers: usize| demand.led.min(share * workers);
        let changed = |sum: usize, share: usize| sum - met(share, demand.workers) + met(share, workers);
        Self {
            least: changed(self.least, shares.least),
            most: changed(self.most, shares.least + 1),
        }
    }

    /// With as many workers that have one more as there are.
    fn local(self, shares: Shares) -> usize {
        (self.least + shares.larger).min(self.most)
    }
}
