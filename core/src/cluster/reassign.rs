//! Moves of partitions to other brokers (KIP-455).
//!
//! While a partition moves, the new brokers are replicas beside the old ones, at the end, so that the old order is still
//! there if the move is taken back. It is done when everyone that is to hold the partition is in sync.

use super::{Image, Outcome, Partition, PartitionRefusal, Reassignment};
use crate::ids::BrokerId;

pub(super) fn reassign(image: &mut Image, changes: &[Reassignment]) -> Outcome {
    let results = changes.iter().map(|change| reassign_one(image, change));
    Outcome::Partitions(results.collect())
}

fn reassign_one(image: &mut Image, change: &Reassignment) -> Result<(), PartitionRefusal> {
    let (_, partition) = image.stored_partition(change.topic, change.partition)?;
    let origin = partition.origin();
    let (target, replicas) = match &change.replicas {
        Some(target) => {
            check_target(image, partition, target)?;
            let added = target.iter().filter(|id| !origin.contains(id));
            let replicas: Vec<_> = origin.iter().chain(added).copied().collect();
            (target.clone(), replicas)
        }
        None if partition.is_moving() => (origin.clone(), origin.clone()),
        None => return Err(PartitionRefusal::NoReassignment),
    };
    if !partition.isr.is_empty() && !partition.isr.iter().any(|id| replicas.contains(id)) {
        return Err(PartitionRefusal::NobodyInSync { replicas });
    }
    image.change_partition(change.topic, change.partition, |partition, facts| {
        let (adding, removing) = (without(&target, &origin), without(&origin, &target));
        let stays = adding.is_empty() && removing.is_empty();
        let (replicas, target) = match stays {
            // Only the order is another, or the old one again.
            true => (target, Vec::new()),
            false => (replicas, target),
        };
        partition.target = target;
        partition.adding = adding;
        partition.removing = removing;
        partition.hold_by(replicas, facts);
    });
    Ok(())
}

fn check_target(image: &Image, partition: &Partition, target: &[BrokerId]) -> Result<(), PartitionRefusal> {
    let twice = |(n, id): (usize, &BrokerId)| target[..n].contains(id);
    if target.is_empty() || target.iter().enumerate().any(twice) {
        return Err(PartitionRefusal::Replicas {
            replicas: target.to_vec(),
        });
    }
    for id in without(target, &partition.replicas) {
        let broker = image.brokers.get(&id);
        let broker = broker.ok_or(PartitionRefusal::UnknownBroker(id))?;
        if broker.fenced {
            return Err(PartitionRefusal::BrokerFenced(id));
        }
        if broker.draining {
            return Err(PartitionRefusal::BrokerDraining(id));
        }
    }
    let lives = |id: &BrokerId| image.brokers.get(id).is_some_and(|broker| !broker.fenced);
    if !target.iter().any(lives) {
        return Err(PartitionRefusal::AllFenced {
            replicas: target.to_vec(),
        });
    }
    Ok(())
}

fn without(ids: &[BrokerId], others: &[BrokerId]) -> Vec<BrokerId> {
    ids.iter().copied().filter(|id| !others.contains(id)).collect()
}
