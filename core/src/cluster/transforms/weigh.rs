//! Partitions are given out anew by what they cost, if that is worth it.

use std::collections::BTreeMap;

use super::{Assigned, Transform};
use crate::cluster::Image;
use crate::ids::TopicName;
use crate::transform::{COST_MAX, Load, loads};

/// Notes what partitions cost, and gives them out by that. Says whether it is to be: only if the busiest worker that can be
/// relieved is busy, and then costs a good part less. Whoever moves stands still for a moment, so nothing is done for little.
///
/// Nothing is done either if the costs are those of another release, or while one is on trial: a partition that moves would
/// begin its trial anew.
pub(super) fn weigh(
    image: &Image,
    transform: &mut Transform,
    generation: u64,
    costs: &BTreeMap<TopicName, Vec<u32>>,
) -> bool {
    if generation != transform.current.generation || transform.canary.is_some() {
        return false;
    }
    for assigned in &mut transform.assignment {
        let partition = usize::try_from(assigned.partition.0).ok();
        let measured = costs.get(&assigned.topic).zip(partition);
        let measured = measured.and_then(|(of, partition)| of.get(partition));
        if let Some(cost) = measured.filter(|cost| **cost > 0) {
            assigned.cost = (*cost).min(COST_MAX);
        }
    }
    let before = loads_of(&transform.assignment);
    transform.assignment = image.assignment(transform);
    let after = loads_of(&transform.assignment);
    // One that has a single partition cannot be relieved.
    let several = before.iter().filter(|(_, load)| load.partitions > 1);
    let busiest = several.max_by_key(|(worker, load)| (load.cost, std::cmp::Reverse(**worker)));
    busiest.is_some_and(|(worker, load)| {
        let then = after.get(worker).map_or(load.cost, |load| load.cost);
        load.cost >= BUSY_MIN && then * 100 <= load.cost * (100 - RELIEF_PERCENT_MIN)
    })
}

impl Image {
    /// Whether [`TransformChange::Weigh`](super::TransformChange::Weigh) would change anything now.
    pub fn would_weigh(&self, name: &str, generation: u64, costs: &BTreeMap<TopicName, Vec<u32>>) -> bool {
        let transform = self.transform(name);
        transform.is_some_and(|transform| weigh(self, &mut Transform::clone(transform), generation, costs))
    }
}

fn loads_of(assignment: &[Assigned]) -> BTreeMap<u32, Load> {
    let costs: Vec<_> = assignment.iter().map(|a| (a.worker, a.cost)).collect();
    loads(&costs)
}

/// What a worker must cost before anything is done for it, in thousandths of a core.
const BUSY_MIN: u64 = 100;
/// By how much the busiest worker must be relieved.
const RELIEF_PERCENT_MIN: u64 = 10;
