//! Where the replicas of new partitions go, and who leads them.
//!
//! Replica by replica, the rack and in it the broker that has the fewest is taken. Of a topic, racks and so brokers are
//! always within one replica of each other where racks have equally many brokers; where they do not, having no rack twice
//! comes first. Among equals, what else the brokers hold decides, then a seed, so that any two brokers share some
//! partitions: when one of them stops, its work spreads over all.

use std::collections::{BTreeMap, BTreeSet};

use super::{Broker, Image, Partition, Refusal, Topic};
use crate::ids::BrokerId;

/// Replicas for the partitions of a new topic, the preferred leader first: no rack twice while there are enough, leaders
/// and replicas even. Only brokers that are in service and not draining take any.
///
/// # Errors
/// There are fewer of them than `factor`, which must not be 0.
pub fn place(
    image: &Image,
    partitions: usize,
    factor: usize,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    place_beside(image, &[], partitions, factor, seed)
}

/// Replicas for more partitions of a topic, as many for each as its first one has; they make up for what is uneven.
///
/// # Errors
/// There are too few brokers that can take replicas.
pub fn place_more(
    image: &Image,
    topic: &Topic,
    more: usize,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let factor = topic.partitions.first().map_or(1, |p| p.settled().len());
    place_beside(image, &topic.partitions, more, factor, seed)
}

fn place_beside(
    image: &Image,
    beside: &[Partition],
    partitions: usize,
    factor: usize,
    seed: u64,
) -> Result<Vec<Vec<BrokerId>>, Refusal> {
    let mut sites = Sites::new(image, beside, seed);
    if factor == 0 || factor > sites.all.len() {
        return Err(too_many(image, factor));
    }
    let sets: Vec<_> = (0..partitions).map(|n| sites.choose(n, factor)).collect();
    let leaders = sites.choose_leaders(&sets);
    let mut seconds = BTreeMap::new();
    let sets = sets.iter().zip(leaders).enumerate();
    let ordered = sets.map(|(n, (set, leader))| sites.in_order(n, set, leader, &mut seconds));
    Ok(ordered.collect())
}

fn too_many(image: &Image, factor: usize) -> Refusal {
    let those = |which: fn(&Broker) -> bool| {
        let brokers = image.brokers.values().filter(|broker| which(broker));
        brokers.map(|broker| broker.id).collect::<Vec<_>>()
    };
    Refusal::ReplicationFactor {
        factor,
        available: those(Broker::takes_replicas).len(),
        fenced: those(|broker| broker.fenced),
        draining: those(|broker| broker.draining && !broker.fenced),
    }
}

/// Brokers that take replicas; elsewhere in this file they are known by their place here.
struct Sites {
    all: Vec<Site>,
    racks: Vec<Rack>,
    seed: u64,
}

struct Site {
    id: BrokerId,
    replicas: Load,
    leaders: Load,
}

struct Rack {
    sites: Vec<usize>,
    replicas: Load,
}

/// How many, of the topic and of all topics: compared in this order.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Load {
    of_topic: usize,
    of_all: usize,
}

impl Load {
    fn add(&mut self) {
        self.of_topic += 1;
        self.of_all += 1;
    }

    /// The load of each of `count`, in small fractions.
    fn each_of(self, count: usize) -> Self {
        let share = |load: usize| load.saturating_mul(FRACTIONS) / count;
        Self {
            of_topic: share(self.of_topic),
            of_all: share(self.of_all),
        }
    }
}

impl Sites {
    fn new(image: &Image, beside: &[Partition], seed: u64) -> Self {
        let mut sites: BTreeMap<BrokerId, Site> = image
            .brokers
            .values()
            .filter(|broker| broker.takes_replicas())
            .map(|broker| (broker.id, Site::empty(broker.id)))
            .collect();
        for (_, _, partition) in image.stored_partitions() {
            count(&mut sites, partition, |load| load.of_all += 1);
        }
        for partition in beside {
            count(&mut sites, partition, |load| load.of_topic += 1);
        }
        let all: Vec<Site> = sites.into_values().collect();
        let mut by_rack: BTreeMap<RackName<'_>, Vec<usize>> = BTreeMap::new();
        for (n, site) in all.iter().enumerate() {
            by_rack.entry(rack_of(image, site.id)).or_default().push(n);
        }
        let rack = |sites: Vec<usize>| {
            let mut replicas = Load::default();
            for n in &sites {
                replicas.of_topic += all[*n].replicas.of_topic;
                replicas.of_all += all[*n].replicas.of_all;
            }
            Rack { sites, replicas }
        };
        let racks = by_rack.into_values().map(rack).collect();
        Self { all, racks, seed }
    }

    /// The brokers of the `partition`-th new partition.
    fn choose(&mut self, partition: usize, factor: usize) -> Vec<usize> {
        let mut chosen: Vec<usize> = Vec::with_capacity(factor);
        let mut used = vec![0; self.racks.len()];
        while chosen.len() < factor {
            let free = (0..self.racks.len()).filter(|r| used[*r] < self.racks[*r].sites.len());
            let rack = free.min_by_key(|r| {
                let Rack { sites, replicas } = &self.racks[*r];
                (used[*r], replicas.each_of(sites.len()), self.draw(partition, !*r))
            });
            let rack = rack.expect("no more are chosen than there are brokers");
            let free = self.racks[rack].sites.iter().filter(|n| !chosen.contains(n));
            let site = free.min_by_key(|n| (self.all[**n].replicas, self.draw(partition, **n)));
            let site = *site.expect("the rack has a broker that is not chosen yet");
            used[rack] += 1;
            self.racks[rack].replicas.add();
            self.all[site].replicas.add();
            chosen.push(site);
        }
        chosen
    }

    /// Who leads each partition, so that nobody leads more than one more than another, where that is possible.
    fn choose_leaders(&mut self, sets: &[Vec<usize>]) -> Vec<usize> {
        let mut leaders = Vec::with_capacity(sets.len());
        for (n, set) in sets.iter().enumerate() {
            let least = set
                .iter()
                .min_by_key(|site| (self.all[**site].leaders, self.draw(n, **site)));
            let leader = *least.expect("a partition has replicas");
            self.all[leader].leaders.add();
            leaders.push(leader);
        }
        let mut loads: Vec<_> = self.all.iter().map(|site| site.leaders.of_topic).collect();
        even_leaders(sets, &mut leaders, &mut loads);
        leaders
    }

    /// The leader first, then whoever follows this leader least often: that is who leads when it stops.
    fn in_order(
        &self,
        partition: usize,
        set: &[usize],
        leader: usize,
        seconds: &mut BTreeMap<(usize, usize), usize>,
    ) -> Vec<BrokerId> {
        let mut rest: Vec<usize> = set.iter().copied().filter(|site| *site != leader).collect();
        let often = |site: &usize| seconds.get(&(leader, *site)).copied().unwrap_or(0);
        rest.sort_by_key(|site| (often(site), self.draw(partition, *site)));
        if let Some(second) = rest.first() {
            *seconds.entry((leader, *second)).or_default() += 1;
        }
        let places = std::iter::once(leader).chain(rest);
        places.map(|site| self.all[site].id).collect()
    }

    /// Decides among equals: looks random, and is the same for the same seed (the mixer of SplitMix64).
    fn draw(&self, partition: usize, of: usize) -> u64 {
        let mut z = self
            .seed
            .wrapping_add((partition as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .wrapping_add((of as u64).wrapping_mul(0xd1b5_4a32_d192_ed03));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Site {
    fn empty(id: BrokerId) -> Self {
        Self {
            id,
            replicas: Load::default(),
            leaders: Load::default(),
        }
    }
}

/// Counts a partition that is there for the brokers that are to hold and to lead it.
fn count(sites: &mut BTreeMap<BrokerId, Site>, partition: &Partition, add: impl Fn(&mut Load)) {
    for id in partition.settled() {
        if let Some(site) = sites.get_mut(id) {
            add(&mut site.replicas);
        }
    }
    if let Some(site) = partition.settled().first().and_then(|id| sites.get_mut(id)) {
        add(&mut site.leaders);
    }
}

/// A rack's name; a broker that has none is in a rack of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum RackName<'a> {
    Named(&'a str),
    Own(BrokerId),
}

pub(super) fn rack_of(image: &Image, id: BrokerId) -> RackName<'_> {
    let rack = image.brokers.get(&id).and_then(|broker| broker.rack.as_deref());
    rack.map_or(RackName::Own(id), RackName::Named)
}

/// Hands leaderships on, each within its set, until nobody can be relieved any more: then loads are as even as the sets
/// allow. Chains of hand-overs are the shortest, so few leaderships move. (Optimal semi-matchings: Harvey, Ladner,
/// Lovász, Tamir, 2006.)
pub(super) fn even_leaders(sets: &[Vec<usize>], leaders: &mut [usize], loads: &mut [usize]) {
    let mut sources: Vec<usize> = (0..loads.len()).collect();
    loop {
        sources.sort_by_key(|site| (std::cmp::Reverse(loads[*site]), *site));
        let chain = sources
            .iter()
            .find_map(|source| chain_from(*source, sets, leaders, loads));
        let Some(chain) = chain else { return };
        for (partition, to) in chain {
            loads[leaders[partition]] -= 1;
            loads[to] += 1;
            leaders[partition] = to;
        }
    }
}

/// Partitions and their next leaders that relieve `source` by giving one more to a broker that leads two fewer.
fn chain_from(
    source: usize,
    sets: &[Vec<usize>],
    leaders: &[usize],
    loads: &[usize],
) -> Option<Vec<(usize, usize)>> {
    let lowest = loads.iter().min()?;
    if lowest + 2 > loads[source] {
        return None;
    }
    let mut led: Vec<Vec<usize>> = vec![Vec::new(); loads.len()];
    for (partition, leader) in leaders.iter().enumerate() {
        led[*leader].push(partition);
    }
    // How each broker that is reached gets its leadership: which partition's, and from whom.
    let mut through: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    let mut seen = BTreeSet::from([source]);
    let mut reached = vec![source];
    let mut next = 0;
    while let Some(at) = reached.get(next).copied() {
        next += 1;
        for partition in &led[at] {
            for to in &sets[*partition] {
                if !seen.insert(*to) {
                    continue;
                }
                through.insert(*to, (*partition, at));
                reached.push(*to);
                if loads[*to] + 2 <= loads[source] {
                    return Some(back(*to, source, &through));
                }
            }
        }
    }
    None
}

fn back(mut to: usize, source: usize, through: &BTreeMap<usize, (usize, usize)>) -> Vec<(usize, usize)> {
    let mut chain = Vec::new();
    while to != source {
        let (partition, from) = through[&to];
        chain.push((partition, to));
        to = from;
    }
    chain
}

/// Loads of racks of different sizes are compared in this many parts of a replica.
const FRACTIONS: usize = 1 << 16;
