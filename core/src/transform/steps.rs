//! Steps that bring partitions to the brokers that lead them. Each leads to more of them, so that there is an end.

use std::collections::{BTreeMap, BTreeSet};

use super::Draft;
use crate::ids::BrokerId;

/// Partitions that run on a broker that does not lead them, by that broker and by who does.
struct Guests(BTreeMap<(BrokerId, Option<BrokerId>), BTreeSet<usize>>);

impl Guests {
    fn of(draft: &Draft) -> Self {
        let mut guests = Self(BTreeMap::new());
        for partition in 0..draft.workers.len() {
            guests.note(draft, partition);
        }
        guests
    }

    fn key(draft: &Draft, partition: usize) -> Option<(BrokerId, Option<BrokerId>)> {
        let worker = draft.workers[partition].filter(|_| !draft.is_local(partition))?;
        Some((draft.homes[worker], draft.leaders[partition]))
    }

    fn note(&mut self, draft: &Draft, partition: usize) {
        if let Some(key) = Self::key(draft, partition) {
            self.0.entry(key).or_default().insert(partition);
        }
    }

    fn forget(&mut self, draft: &Draft, partition: usize) {
        if let Some(key) = Self::key(draft, partition)
            && let Some(guests) = self.0.get_mut(&key)
        {
            guests.remove(&partition);
            if guests.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// A guest on a broker; rather one that is led on `wanted`.
    fn on(&self, broker: BrokerId, wanted: BrokerId) -> Option<usize> {
        let led_there = self.0.get(&(broker, Some(wanted)));
        let any = || {
            let from = (broker, None);
            let mut guests = self.0.range(from..).take_while(|((on, _), _)| *on == broker);
            guests.next().map(|(_, guests)| guests)
        };
        led_there.or_else(any)?.first().copied()
    }

    fn all(&self) -> impl Iterator<Item = usize> {
        self.0.values().flatten().copied()
    }
}

impl Draft {
    /// Takes steps until there are none.
    pub(super) fn take_steps(&mut self) {
        let mut guests = Guests::of(self);
        loop {
            // What a guest of a larger worker leaves behind need not be filled, so that room can be made elsewhere.
            let mut spare = self.spare(&guests);
            let mut stepped = false;
            for partition in guests.all().collect::<BTreeSet<_>>() {
                if self.step(partition, &mut guests, spare) {
                    stepped = true;
                    spare = self.spare(&guests);
                }
            }
            if !stepped {
                return;
            }
        }
    }

    /// A guest of a worker that has one more than the least.
    fn spare(&self, guests: &Guests) -> Option<usize> {
        let mut all = guests.all();
        all.find(|guest| self.workers[*guest].is_some_and(|worker| self.sizes[worker] > self.shares.least))
    }

    /// Brings a guest home, if that is possible: in exchange for a guest there, or as one more there, while one less is
    /// here or where a spare guest comes from.
    fn step(&mut self, partition: usize, guests: &mut Guests, spare: Option<usize>) -> bool {
        let (Some(here), Some(leader)) = (self.workers[partition], self.leaders[partition]) else {
            return false;
        };
        if self.is_local(partition) {
            return false;
        }
        if let Some(guest) = guests.on(leader, self.homes[here]) {
            let there = self.workers[guest].expect("a guest has a worker");
            self.bring(partition, there, guests);
            self.bring(guest, here, guests);
            return true;
        }
        let is_larger = self.sizes[here] > self.shares.least;
        let Some(spare) = (if is_larger { Some(partition) } else { spare }) else {
            return false;
        };
        let on_leader =
            |worker: &usize| self.homes[*worker] == leader && self.sizes[*worker] == self.shares.least;
        let Some(there) = (0..self.homes.len()).find(on_leader) else {
            return false;
        };
        self.bring(partition, there, guests);
        if spare != partition {
            self.bring(spare, here, guests);
        }
        true
    }

    fn bring(&mut self, partition: usize, worker: usize, guests: &mut Guests) {
        guests.forget(self, partition);
        if let Some(before) = self.workers[partition].replace(worker) {
            self.sizes[before] -= 1;
        }
        self.sizes[worker] += 1;
        guests.note(self, partition);
    }
}
