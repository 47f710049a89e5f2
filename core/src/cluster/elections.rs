//! Elections that somebody asks for: of preferred leaders, and of replicas that may have lost records.

use super::partitions::Facts;
use super::{Elected, Election, Image, Outcome, Partition, PartitionRefusal};
use crate::ids::{BrokerId, PartitionIndex, TopicId};

impl Image {
    /// Partitions whose preferred leader could lead them but does not, in the order of topic names.
    pub fn not_led_by_preferred(&self) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
        self.electable(Election::Preferred)
    }

    /// Partitions that an election of this kind would give another leader.
    fn electable(&self, kind: Election) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
        self.stored_partitions()
            .filter(move |(topic, _, partition)| choose(kind, partition, &self.facts(topic)).is_ok())
            .map(|(topic, index, _)| (topic.id, index))
    }
}

pub(super) fn elect_leaders(
    image: &mut Image,
    kind: Election,
    partitions: Option<&[(TopicId, PartitionIndex)]>,
) -> Outcome {
    let electable: Vec<_>;
    let partitions = match partitions {
        Some(named) => named,
        None => {
            electable = image.electable(kind).collect();
            &electable
        }
    };
    let elections = partitions.iter().map(|(topic, partition)| Elected {
        topic: *topic,
        partition: *partition,
        result: elect(image, kind, *topic, *partition),
    });
    Outcome::Elections(elections.collect())
}

fn elect(
    image: &mut Image,
    kind: Election,
    topic: TopicId,
    index: PartitionIndex,
) -> Result<BrokerId, PartitionRefusal> {
    let (found, partition) = image.stored_partition(topic, index)?;
    let leader = choose(kind, partition, &image.facts(found))?;
    image.change_partition(topic, index, |partition, _| {
        let is_clean = partition.isr.contains(&leader) || partition.elr.contains(&leader);
        if !is_clean {
            // Whoever comes back with more must not bring it into a log that went on without.
            partition.isr.clear();
            partition.elr.clear();
        }
        partition.lead_by(Some(leader));
        if !is_clean {
            partition.unclean = Some(partition.leader_epoch);
        }
    });
    Ok(leader)
}

/// Who an election would make leader.
fn choose(kind: Election, partition: &Partition, facts: &Facts<'_>) -> Result<BrokerId, PartitionRefusal> {
    match kind {
        Election::Preferred => {
            let preferred = partition.preferred().expect("a partition has replicas");
            if partition.leader == Some(preferred) {
                return Err(PartitionRefusal::ElectionNotNeeded { leader: preferred });
            }
            let can = partition.isr.contains(&preferred)
                && facts.is_live(preferred)
                && !facts.is_draining(preferred);
            can.then_some(preferred)
                .ok_or(PartitionRefusal::PreferredNotAvailable(preferred))
        }
        Election::Unclean => {
            if let Some(leader) = partition.leader {
                return Err(PartitionRefusal::ElectionNotNeeded { leader });
            }
            let live = |id: &&BrokerId| facts.is_live(**id);
            let mut intact = partition
                .replicas
                .iter()
                .filter(|id| !partition.lost.contains(id));
            let chosen = partition.candidate(facts);
            chosen
                .or_else(|| intact.find(live).copied())
                .or_else(|| partition.replicas.iter().find(live).copied())
                .ok_or_else(|| PartitionRefusal::NobodyLives {
                    replicas: partition.replicas.clone(),
                })
        }
    }
}
