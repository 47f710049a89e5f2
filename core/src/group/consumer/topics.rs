//! The topics that groups can consume, as the cluster has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::pattern::Pattern;
use crate::cluster::{Image, is_internal};
use crate::ids::TopicId;

/// Names, ids and partitions of all topics and views of one image.
#[derive(Debug, Clone, Default)]
pub struct Topics {
    version: u64,
    by_name: BTreeMap<Arc<str>, TopicFacts>,
    by_id: BTreeMap<TopicId, Arc<str>>,
}

/// What groups have to know of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

impl Topics {
    /// These topics. Another `version` says that they may be others.
    pub fn new(version: u64, topics: impl IntoIterator<Item = (Arc<str>, TopicFacts)>) -> Self {
        let by_name: BTreeMap<_, _> = topics.into_iter().collect();
        let by_id = by_name
            .iter()
            .map(|(name, facts)| (facts.id, name.clone()))
            .collect();
        Self {
            version,
            by_name,
            by_id,
        }
    }

    /// Those of an image of the cluster. A view has the partitions of the topic that it reads.
    pub fn of(image: &Image) -> Self {
        let topic = |topic| {
            let partitions = i32::try_from(image.partitions(topic).len()).unwrap_or(i32::MAX);
            let facts = TopicFacts {
                id: topic.id,
                partitions,
            };
            (Arc::from(topic.name.as_str()), facts)
        };
        Self::new(image.version(), image.topics().map(topic))
    }

    /// Whether an image has these topics, with these partitions: a look at every topic, without making anything.
    pub fn are_of(&self, image: &Image) -> bool {
        let mut known = self.by_name.iter();
        let same = image.topics().all(|topic| {
            let known = known.next();
            known.is_some_and(|(name, facts)| {
                **name == *topic.name.as_str()
                    && facts.id == topic.id
                    && usize::try_from(facts.partitions) == Ok(image.partitions(topic).len())
            })
        });
        same && known.next().is_none()
    }

    /// Whether both have the same topics with the same partitions.
    pub fn has_same(&self, other: &Self) -> bool {
        self.by_name == other.by_name
    }

    /// Whether an image was ever seen.
    pub fn are_known(&self) -> bool {
        self.version > 0 || !self.by_name.is_empty()
    }

    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn find(&self, name: &str) -> Option<TopicFacts> {
        self.by_name.get(name).copied()
    }

    pub(super) fn name(&self, id: TopicId) -> Option<&Arc<str>> {
        self.by_id.get(&id)
    }

    /// Topics whose names a pattern means. The brokers' own are not meant by any: whoever wants them names them.
    pub(super) fn matching(&self, pattern: &Pattern) -> BTreeSet<Arc<str>> {
        let names = self.by_name.keys();
        names
            .filter(|name| !is_internal(name) && pattern.means(name))
            .cloned()
            .collect()
    }

    /// A number that changes when one of these topics is created or deleted or gets more partitions. It stands in the
    /// log, so it is the same in every build: FNV-1a over ids, names and counts.
    pub(super) fn hash<'a>(&self, names: impl IntoIterator<Item = &'a Arc<str>>) -> i64 {
        let mut hash = FNV_BASIS;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
            }
        };
        let mut any = false;
        for name in names {
            if let Some(facts) = self.by_name.get(name) {
                any = true;
                add(facts.id.0.as_bytes());
                add(&facts.partitions.to_be_bytes());
                add(name.as_bytes());
                add(&[0]);
            }
        }
        if any { hash as i64 } else { 0 }
    }
}

/// Where FNV-1a begins.
const FNV_BASIS: u64 = 0xcbf2_9ce4_8422_2325;
/// What FNV-1a multiplies with.
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use uuid::Uuid;

    use super::*;
    use crate::cluster::{Command, apply};
    use crate::ids::{BrokerId, TopicName};

    fn create(image: &mut Image, name: &str, id: u128, partitions: usize) {
        let create = Command::CreateTopic {
            name: TopicName::new(name).unwrap(),
            id: TopicId(Uuid::from_u128(id)),
            partitions: vec![vec![BrokerId(1)]; partitions],
            configs: BTreeMap::new(),
        };
        apply(image, &create).unwrap();
    }

    #[test]
    fn topics_are_those_of_every_image_until_one_has_others() {
        let mut image = Image::default();
        create(&mut image, "a", 1, 2);
        create(&mut image, "b", 2, 1);
        let topics = Topics::of(&image);
        assert!(topics.are_of(&image));
        let broker = crate::cluster::Broker {
            id: BrokerId(1),
            ..Default::default()
        };
        apply(&mut image, &Command::RegisterBroker { broker }).unwrap();
        assert!(topics.are_of(&image), "brokers are no topics");
        let change = |command: Command| {
            let mut image = image.clone();
            apply(&mut image, &command).unwrap();
            image
        };
        let (topic, added) = (TopicName::new("a").unwrap(), vec![vec![BrokerId(1)]]);
        let grown = change(Command::CreatePartitions { topic, added });
        let gone = change(Command::DeleteTopic {
            id: TopicId(Uuid::from_u128(2)),
        });
        let mut again = gone.clone();
        create(&mut again, "b", 3, 1);
        let mut more = image.clone();
        create(&mut more, "c", 3, 1);
        for (what, image) in [
            ("grown", grown),
            ("gone", gone),
            ("made again", again),
            ("made", more),
        ] {
            assert!(!topics.are_of(&image), "{what}");
            assert!(Topics::of(&image).are_of(&image), "{what}");
        }
    }

    #[test]
    #[ignore = "measures"]
    fn how_long_a_look_at_many_topics_takes() {
        for (count, partitions) in [(10_000, 1), (100, 100)] {
            let mut image = Image::default();
            for n in 0..count {
                create(&mut image, &format!("topic-{n}"), n as u128 + 1, partitions);
            }
            let begun = Instant::now();
            let topics = Topics::of(&image);
            let made = begun.elapsed();
            let begun = Instant::now();
            assert!(topics.are_of(&image));
            println!(
                "{count} topics of {partitions}: made in {made:?}, compared in {:?}",
                begun.elapsed()
            );
        }
    }
}
