//! Gives the partitions of transforms to brokers anew when a command changed what that depends on: leaders, brokers,
//! partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Assigned, Transform};
use crate::cluster::{Command, Image, Outcome};
use crate::ids::{BrokerId, PartitionIndex, TopicId, TopicName};
use crate::mutation::{Mutation, is_on};
use crate::transform::{Place, Source, assign_by_cost};

/// What a command may change that assignments depend on, as it was before.
pub(in crate::cluster) enum Watch {
    /// Nothing.
    Nothing,
    /// Which brokers work, and all leaders.
    Everything,
    /// A topic: its partitions, or for a view where they are.
    Topic(TopicName),
    /// The leaders of these partitions.
    Leaders(Vec<(TopicId, PartitionIndex, Option<BrokerId>)>),
    /// The leaders of those that the outcome names.
    Elected,
}

impl Watch {
    /// What is to be watched while this command is applied.
    pub(in crate::cluster) fn new(image: &Image, command: &Command) -> Self {
        let leader = |topic: TopicId, partition: PartitionIndex| {
            let found = image.stored_partition(topic, partition);
            (topic, partition, found.ok().and_then(|(_, entry)| entry.leader))
        };
        match command {
            Command::Bootstrap { .. } => Self::Everything,
            _ if image.transforms.is_empty() => Self::Nothing,
            Command::RegisterBroker { .. }
            | Command::UnfenceBroker { .. }
            | Command::FenceBroker { .. }
            | Command::DrainBroker { .. } => Self::Everything,
            Command::CreatePartitions { topic, .. } | Command::AlterConfigs { topic, .. } => {
                Self::Topic(topic.clone())
            }
            Command::AlterPartition { changes, .. } => {
                Self::Leaders(changes.iter().map(|c| leader(c.topic, c.partition)).collect())
            }
            Command::Reassign { changes } => {
                Self::Leaders(changes.iter().map(|c| leader(c.topic, c.partition)).collect())
            }
            Command::ElectLeaders { .. } => Self::Elected,
            // Transforms settle themselves when they are deployed or changed; the rest moves nothing.
            Command::CreateTopic { .. }
            | Command::DeleteTopic { .. }
            | Command::RegisterPlugin { .. }
            | Command::DeletePlugin { .. }
            | Command::AllocateProducerIds { .. }
            | Command::RemoveBroker { .. }
            | Command::AlterBrokerConfigs { .. }
            | Command::AlterGroupConfigs { .. }
            | Command::SetFeatureLevel { .. }
            | Command::DeployTransform { .. }
            | Command::ChangeTransform { .. }
            | Command::DeleteTransform { .. } => Self::Nothing,
        }
    }

    /// Gives out anew what depends on what the command changed.
    pub(in crate::cluster) fn settle(self, image: &mut Image, outcome: &Outcome) {
        let topics: BTreeSet<TopicId> = match self {
            Self::Nothing => return,
            Self::Everything => return image.settle_transforms(),
            Self::Topic(name) => {
                let topic = image.topic(&name);
                topic
                    .map(|topic| image.stored_topic(topic).id)
                    .into_iter()
                    .collect()
            }
            Self::Leaders(before) => {
                let moved = before.iter().filter(|(topic, partition, leader)| {
                    let found = image.stored_partition(*topic, *partition);
                    found.is_ok_and(|(_, entry)| entry.leader != *leader)
                });
                moved.map(|(topic, ..)| *topic).collect()
            }
            Self::Elected => match outcome {
                Outcome::Elections(elections) => {
                    let held = elections.iter().filter(|election| election.result.is_ok());
                    held.map(|election| election.topic).collect()
                }
                _ => return,
            },
        };
        if !topics.is_empty() {
            image.settle_transforms_if(|image, transform| image.reads(transform, &topics));
        }
    }
}

impl Image {
    /// Gives the partitions of all transforms to brokers anew; where nothing is to be changed, nothing is.
    pub(in crate::cluster) fn settle_transforms(&mut self) {
        self.settle_transforms_if(|_, _| true);
    }

    fn settle_transforms_if(&mut self, wanted: impl Fn(&Self, &Transform) -> bool) {
        let mut moved = Vec::new();
        for transform in self.transforms.values() {
            if wanted(self, transform) {
                let assignment = self.assignment(transform);
                if assignment != transform.assignment {
                    moved.push((transform.spec.name.clone(), assignment));
                }
            }
        }
        for (name, assignment) in moved {
            if let Some(transform) = self.transforms.get_mut(&name) {
                Arc::make_mut(transform).assignment = assignment;
            }
        }
    }

    /// Whether the records of one of these topics are read by a transform, through views or not.
    fn reads(&self, transform: &Transform, topics: &BTreeSet<TopicId>) -> bool {
        let sources = transform.spec.sources.iter().filter_map(|name| self.topic(name));
        sources
            .map(|topic| self.stored_topic(topic).id)
            .any(|id| topics.contains(&id))
    }

    /// All partitions that a transform reads, with their leaders, in order.
    pub(super) fn source_partitions<'a>(
        &'a self,
        transform: &'a Transform,
    ) -> impl Iterator<Item = (&'a TopicName, PartitionIndex, Option<BrokerId>)> {
        let sources = transform.spec.sources.iter().filter_map(|name| self.topic(name));
        sources.flat_map(|topic| {
            let numbered = self.partitions(topic).iter().zip(0..);
            numbered.map(|(partition, n)| (&topic.name, PartitionIndex(n), partition.leader))
        })
    }

    /// Who is to run each partition of a transform.
    pub(super) fn assignment(&self, transform: &Transform) -> Vec<Assigned> {
        let held: BTreeMap<_, _> = transform
            .assignment
            .iter()
            .map(|held| ((&held.topic, held.partition), held))
            .collect();
        let partitions: Vec<_> = self.source_partitions(transform).collect();
        let sources: Vec<Source> = partitions
            .iter()
            .map(|(topic, partition, leader)| Source {
                leader: *leader,
                before: held.get(&(*topic, *partition)).map(|held| Place {
                    broker: held.broker,
                    worker: held.worker,
                }),
            })
            .collect();
        let costs: Vec<u32> = partitions
            .iter()
            .map(|(topic, partition, _)| held.get(&(*topic, *partition)).map_or(0, |held| held.cost))
            .collect();
        let places = assign_by_cost(&sources, &costs, &self.working_brokers(), transform.spec.workers);
        let on_trial = transform.partitions_on_trial(partitions.len());
        let given = partitions.iter().zip(&sources).zip(places).enumerate();
        given
            .map(|(n, (((topic, partition, _), source), place))| Assigned {
                topic: (*topic).clone(),
                partition: *partition,
                broker: place.broker,
                worker: place.worker,
                canary: n < on_trial,
                since: match held.get(&(*topic, *partition)) {
                    Some(held) if source.before == Some(place) => held.since,
                    _ => self.version + 1,
                },
                cost: costs[n],
            })
            .collect()
    }

    /// The brokers that may run transforms: those in service that are not draining, or all in service if there is no such.
    fn working_brokers(&self) -> BTreeSet<BrokerId> {
        let keeps_all = is_on(Mutation::KeepFencedWorkers);
        let live = || self.brokers.values().filter(|broker| !broker.fenced || keeps_all);
        let staying: BTreeSet<_> = live()
            .filter(|broker| !broker.draining)
            .map(|broker| broker.id)
            .collect();
        match staying.is_empty() {
            true => live().map(|broker| broker.id).collect(),
            false => staying,
        }
    }
}

impl Transform {
    /// How many of its partitions run the canary: at least one does, and one does not.
    fn partitions_on_trial(&self, partitions: usize) -> usize {
        let Some(canary) = &self.canary else { return 0 };
        let share = (partitions * usize::from(canary.trial.percent)).div_ceil(100);
        share.max(1).min(partitions.saturating_sub(1))
    }
}
