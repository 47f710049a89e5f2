//! Steps that bring partitions to the brokers that lead them while workers stay even by cost. Each leads to less that runs
//! elsewhere, so that there is an end.

use std::cmp::Reverse;

use super::loads::{Loads, at_least, at_most, first};

impl Loads {
    /// Takes such steps, the costliest partitions first; says whether there was one.
    pub(super) fn bring_nearer(&mut self) -> bool {
        let away = (0..self.costs.len()).filter(|partition| self.is_away(*partition).is_some());
        let mut away: Vec<usize> = away.collect();
        away.sort_by_key(|partition| (Reverse(self.costs[*partition]), *partition));
        let mut has_stepped = false;
        for partition in away {
            has_stepped |= self.bring_home(partition);
        }
        has_stepped
    }

    /// The worker of a partition, if it could run where it is led and does not.
    fn is_away(&self, partition: usize) -> Option<usize> {
        let worker = self.workers[partition]?;
        (self.leaders[partition].is_some() && !self.is_local(partition, worker)).then_some(worker)
    }

    /// Brings a partition to the worker there that costs least, if it has room, or in exchange for one that is led
    /// elsewhere.
    fn bring_home(&mut self, partition: usize) -> bool {
        let (Some(here), Some(leader)) = (self.is_away(partition), self.leaders[partition]) else {
            return false;
        };
        let cost = self.costs[partition];
        if let Some((load, there)) = first(&self.on[&leader])
            && load + cost <= self.band.ceiling
            && self.held[here].load - cost >= self.band.floor
        {
            self.bring(partition, there);
            return true;
        }
        let Some((back, there)) = self.guest_for(partition, here) else {
            return false;
        };
        self.bring(partition, there);
        self.bring(back, here);
        true
    }

    /// A partition that is led elsewhere and could be exchanged for this one, with its worker: rather one that would run
    /// where it is led, too, then one that costs much the same.
    fn guest_for(&self, partition: usize, here: usize) -> Option<(usize, usize)> {
        let (cost, leader) = (self.costs[partition], self.leaders[partition]?);
        let workers = self.on[&leader]
            .iter()
            .take(TARGETS_MAX)
            .map(|(_, worker)| *worker);
        let guests = workers.flat_map(|there| {
            let groups = self.held[there].by_leader.iter();
            let led_elsewhere = groups.filter(move |(by, _)| **by != Some(leader));
            let close =
                led_elsewhere.flat_map(move |(_, group)| [at_most(group, cost), at_least(group, cost)]);
            close.flatten().map(move |guest| (guest, there))
        });
        let fitting = guests.filter(|((theirs, _), there)| {
            self.stays_even(here, cost, *theirs) && self.stays_even(*there, *theirs, cost)
        });
        let best = fitting.min_by_key(|((theirs, guest), there)| {
            let is_home = self.leaders[*guest] == Some(self.homes[here]);
            (!is_home, theirs.abs_diff(cost), *there, *guest)
        });
        best.map(|((_, guest), there)| (guest, there))
    }

    /// Whether a worker is as even as it was, or even enough, when it gives one thing and takes another.
    fn stays_even(&self, worker: usize, gives: u64, takes: u64) -> bool {
        let before = self.held[worker].load;
        let after = before - gives + takes;
        (before.min(self.band.floor)..=before.max(self.band.ceiling)).contains(&after)
    }
}

/// How many workers of a broker are looked at.
const TARGETS_MAX: usize = 8;
