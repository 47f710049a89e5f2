//! What partitions cost, and what of it is a worker's fair share.

use std::collections::BTreeMap;

/// The cost of each of so many partitions, at least 1, so that none is for nothing. One that is not known counts as the
/// mean of those that are. None if no cost is known.
pub(super) fn complete(known: &[u32], partitions: usize) -> Option<Vec<u64>> {
    let clamped = |cost: &u32| u64::from((*cost).min(COST_MAX));
    let measured = || {
        known
            .iter()
            .take(partitions)
            .map(clamped)
            .filter(|cost| *cost > 0)
    };
    let count = measured().count() as u64;
    if count == 0 {
        return None;
    }
    let mean = measured().sum::<u64>().div_ceil(count);
    let all = (0..partitions).map(|n| known.get(n).map_or(0, clamped));
    Some(all.map(|cost| if cost == 0 { mean } else { cost }).collect())
}

/// How many partitions a worker has, and what they cost in all, in thousandths of a core.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Partitions.
    pub partitions: usize,
    /// What they cost.
    pub cost: u64,
}

/// What each worker has, of the worker of each partition and its cost; that is 0 where it is not known.
pub fn loads(partitions: &[(u32, u32)]) -> BTreeMap<u32, Load> {
    let known: Vec<u32> = partitions.iter().map(|(_, cost)| *cost).collect();
    let costs = complete(&known, partitions.len());
    let costs = costs.unwrap_or_else(|| vec![0; partitions.len()]);
    let mut loads: BTreeMap<u32, Load> = BTreeMap::new();
    for ((worker, _), cost) in partitions.iter().zip(costs) {
        let load = loads.entry(*worker).or_default();
        load.partitions += 1;
        load.cost += cost;
    }
    loads
}

/// What is even enough.
#[derive(Debug, Clone, Copy)]
pub(super) struct Band {
    /// A worker that costs more is to be relieved.
    pub ceiling: u64,
    /// A worker that costs less gives nothing away for the sake of nearness.
    pub floor: u64,
    /// What a step is to take off, unless it takes off the whole cost of what it moves.
    pub step: u64,
}

impl Band {
    /// Around the mean of the workers. Partitions that cost more than that are left out, each with a worker that can have
    /// nothing else: the others are to be even among themselves.
    pub(super) fn of(costs: &[u64], workers: usize) -> Self {
        let mut descending = costs.to_vec();
        descending.sort_unstable_by(|a, b| b.cmp(a));
        let (mut sum, mut workers) = (costs.iter().sum::<u64>(), workers.max(1) as u64);
        for cost in descending {
            if cost * workers <= sum {
                break;
            }
            sum -= cost;
            workers -= 1;
        }
        let share = sum.div_ceil(workers.max(1)).max(1);
        let slack = share / SLACK;
        Self {
            ceiling: share + slack,
            floor: share - slack,
            step: (share / STEPS).max(1),
        }
    }
}

/// The highest cost, in thousandths of a core: what another broker says is more counts as this.
pub const COST_MAX: u32 = 1_000_000;
/// A worker may cost more or less than its share by one part of so many.
const SLACK: u64 = 5;
/// A share has so many steps.
const STEPS: u64 = 32;
