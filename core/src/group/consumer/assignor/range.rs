//! The assignor `range`, as Kafka's: for each topic the members that want it, static ones first, get consecutive
//! partitions. Topics with as many partitions and the same members are cut alike, so partitions of the same index meet
//! at the same member, which is what joins need.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Problem, Subscriber, partitions_of};
use crate::group::consumer::record::Partitions;

pub(super) fn assign(problem: &Problem) -> BTreeMap<Arc<str>, Partitions> {
    let mut order: Vec<(&Arc<str>, &Subscriber)> = problem.members.iter().collect();
    // Static members keep their places when their ids change. None sorts before Some, so it is turned around.
    order.sort_by_key(|(id, member)| (member.instance.is_none(), member.instance.as_ref(), *id));
    let mut assigned: BTreeMap<Arc<str>, Partitions> = problem
        .members
        .keys()
        .map(|id| (id.clone(), Partitions::new()))
        .collect();
    for (topic, count) in &problem.topics {
        let takers: Vec<&Arc<str>> = order
            .iter()
            .filter(|(_, member)| member.topics.contains(topic))
            .map(|(id, _)| *id)
            .collect();
        if takers.is_empty() {
            continue;
        }
        let (each, more) = (*count as usize / takers.len(), *count as usize % takers.len());
        let mut left = partitions_of(*count);
        for (n, taker) in takers.into_iter().enumerate() {
            let range: std::collections::BTreeSet<_> =
                left.by_ref().take(each + usize::from(n < more)).collect();
            if !range.is_empty()
                && let Some(partitions) = assigned.get_mut(taker)
            {
                partitions.insert(*topic, range);
            }
        }
    }
    assigned
}
