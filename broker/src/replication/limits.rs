//! How fast replicas catch up that are not in sync (KIP-73), so that a move of partitions leaves bandwidth to those that
//! are, and to clients.
//!
//! A broker has a rate for all that it gives as a leader, and one for all that it takes as a follower. Both are kept to by
//! leaders: what comes over a stream is for partitions in sync as well, so a follower cannot let it wait. The leaders
//! that a follower catches up from have equal shares of its rate, which the image tells each of them alike.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use millstream_core::cluster::{Image, Topic};
use millstream_core::config::{THROTTLED_FOLLOWERS, THROTTLED_LEADERS, ThrottledReplicas};
use millstream_core::ids::{BrokerId, PartitionIndex, TopicId};

use super::follower::Key;
use super::throttle::Throttle;
use crate::broker_configs::{self, FOLLOWER_RATE, LEADER_RATE};

/// What this broker gives to replicas that are not in sync.
pub(super) struct Limits {
    me: BrokerId,
    given: Throttle,
    /// By follower, this broker's share of what each takes.
    taken: Mutex<BTreeMap<BrokerId, Arc<Throttle>>>,
    /// Of the topics that name any.
    lists: ArcSwap<BTreeMap<TopicId, Lists>>,
}

/// The replicas of a topic that are meant.
#[derive(Default)]
struct Lists {
    leaders: ThrottledReplicas,
    followers: ThrottledReplicas,
}

impl Limits {
    /// Nothing is bounded yet.
    pub fn new(me: BrokerId) -> Self {
        Self {
            me,
            given: Throttle::default(),
            taken: Mutex::default(),
            lists: ArcSwap::default(),
        }
    }

    /// What the image says holds from now on.
    pub fn update(&self, image: &Image) {
        self.given.set(rate(image, self.me, LEADER_RATE));
        let named = named(image);
        let shares = shares(image, &named);
        self.lists.store(Arc::new(named));
        let mut taken = self.taken.lock().expect("no panic while the limits are held");
        taken.retain(|id, _| shares.contains_key(id));
        for (id, share) in shares {
            taken.entry(id).or_default().set(share);
        }
    }

    /// Lets a follower have `bytes` of a partition that it is not in sync with, or says how long it has to wait.
    ///
    /// # Errors
    /// The time to wait.
    pub fn take(&self, follower: BrokerId, key: Key, bytes: usize, now: Instant) -> Result<(), Duration> {
        let (topic, partition) = key;
        let lists = self.lists.load();
        let (by_leader, by_follower) = match lists.get(&topic) {
            Some(lists) => (
                lists.leaders.names(partition, self.me),
                lists.followers.names(partition, follower),
            ),
            None => (true, true),
        };
        let taken = if by_follower {
            self.taken_by(follower)
        } else {
            None
        };
        let given = by_leader.then_some(&self.given);
        let throttles: Vec<&Throttle> = given.into_iter().chain(taken.as_deref()).collect();
        Throttle::take(&throttles, bytes, now)
    }

    fn taken_by(&self, follower: BrokerId) -> Option<Arc<Throttle>> {
        let taken = self.taken.lock().expect("no panic while the limits are held");
        taken.get(&follower).cloned()
    }
}

impl Lists {
    fn of(topic: &Topic) -> Option<(TopicId, Self)> {
        // They were checked when they were set.
        let list = |name| {
            let value = topic.configs.get(name)?;
            ThrottledReplicas::parse(name, value).ok()
        };
        let (leaders, followers) = (list(THROTTLED_LEADERS), list(THROTTLED_FOLLOWERS));
        let lists = Self {
            leaders: leaders.clone().unwrap_or_default(),
            followers: followers.clone().unwrap_or_default(),
        };
        (leaders.is_some() || followers.is_some()).then_some((topic.id, lists))
    }
}

/// The replicas that topics name, of those that name any.
fn named(image: &Image) -> BTreeMap<TopicId, Lists> {
    image.topics().filter_map(|topic| Lists::of(topic)).collect()
}

/// What each leader may give to each follower that has a rate.
fn shares(image: &Image, lists: &BTreeMap<TopicId, Lists>) -> BTreeMap<BrokerId, u64> {
    let ids = image.brokers().keys();
    let rates = ids.map(|id| (*id, rate(image, *id, FOLLOWER_RATE)));
    let rates: BTreeMap<BrokerId, u64> = rates.filter(|(_, rate)| *rate > 0).collect();
    if rates.is_empty() {
        return rates;
    }
    let mut leaders: BTreeMap<BrokerId, BTreeSet<BrokerId>> = BTreeMap::new();
    for topic in image.topics().filter(|topic| !topic.is_view()) {
        let lists = lists.get(&topic.id);
        for (described, index) in topic.partitions.iter().zip(0..) {
            let Some(leader) = described.leader else { continue };
            for follower in described.replicas.iter().filter(|id| !described.isr.contains(id)) {
                let is_meant = |lists: &Lists| lists.followers.names(PartitionIndex(index), *follower);
                if rates.contains_key(follower) && lists.is_none_or(is_meant) {
                    leaders.entry(*follower).or_default().insert(leader);
                }
            }
        }
    }
    let share = |(id, rate): (BrokerId, u64)| {
        let leaders = leaders.get(&id).map_or(1, |leaders| leaders.len() as u64);
        // None at all would be no bound.
        (id, (rate / leaders).max(1))
    };
    rates.into_iter().map(share).collect()
}

/// Bytes per second, as the broker's configuration says; 0 for no bound.
fn rate(image: &Image, broker: BrokerId, name: &str) -> u64 {
    let set = broker_configs::overrides(image, broker);
    let value = set.get(name).and_then(|(value, _)| value.parse().ok());
    value.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use millstream_core::cluster::{Broker, Command, ConfigChange, ConfigUpdate, Reassignment, apply};
    use millstream_core::ids::TopicName;
    use uuid::Uuid;

    use super::*;

    const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

    /// Brokers 1 to 4, and a topic whose partitions 0, 1 and 2 these brokers lead, and 4 is to have.
    fn image(configs: &[(Option<i32>, &str, &str)], topic: &[(&str, &str)]) -> Image {
        let mut image = Image::default();
        for id in 1..=4 {
            let broker = Broker {
                id: BrokerId(id),
                ..Default::default()
            };
            apply(&mut image, &Command::RegisterBroker { broker }).unwrap();
        }
        let change = |name: &str, value: &str| ConfigChange::Set(name.to_owned(), value.to_owned());
        for (broker, name, value) in configs {
            let command = Command::AlterBrokerConfigs {
                broker: broker.map(BrokerId),
                update: ConfigUpdate::Change(vec![change(name, value)]),
            };
            apply(&mut image, &command).unwrap();
        }
        let command = Command::CreateTopic {
            name: TopicName::new("t").unwrap(),
            id: TOPIC,
            partitions: (1..=3).map(|leader| vec![BrokerId(leader)]).collect(),
            configs: topic
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        apply(&mut image, &command).unwrap();
        let moves = (0..3).map(|index| Reassignment {
            topic: TOPIC,
            partition: PartitionIndex(index),
            replicas: Some(vec![BrokerId(4), BrokerId(index + 1)]),
        });
        let changes = moves.collect();
        apply(&mut image, &Command::Reassign { changes }).unwrap();
        image
    }

    /// Whether broker 1 lets broker 4 have so much of partition 0 at once and then more.
    fn is_bounded(configs: &[(Option<i32>, &str, &str)], topic: &[(&str, &str)]) -> bool {
        let limits = Limits::new(BrokerId(1));
        limits.update(&image(configs, topic));
        let (key, now) = ((TOPIC, PartitionIndex(0)), Instant::now());
        let take = || limits.take(BrokerId(4), key, 1 << 20, now);
        assert_eq!(take(), Ok(()), "what there is first");
        take().is_err()
    }

    #[test]
    fn a_rate_of_a_leader_or_of_a_follower_bounds_what_is_copied() {
        assert!(!is_bounded(&[], &[]));
        assert!(is_bounded(&[(Some(1), LEADER_RATE, "1000")], &[]));
        assert!(is_bounded(&[(Some(4), FOLLOWER_RATE, "1000")], &[]));
        assert!(is_bounded(&[(None, FOLLOWER_RATE, "1000")], &[]));
        let of_others = [(Some(2), LEADER_RATE, "1000"), (Some(1), FOLLOWER_RATE, "1000")];
        assert!(!is_bounded(&of_others, &[]));
    }

    #[test]
    fn a_topic_that_names_replicas_means_these() {
        let both = [(None, LEADER_RATE, "1000"), (None, FOLLOWER_RATE, "1000")];
        assert!(is_bounded(
            &both,
            &[(THROTTLED_LEADERS, "*"), (THROTTLED_FOLLOWERS, "*")]
        ));
        let neither = [(THROTTLED_LEADERS, "0:4,1:1"), (THROTTLED_FOLLOWERS, "0:1,1:4")];
        assert!(!is_bounded(&both, &neither));
        let by_leader = [(THROTTLED_LEADERS, "0:1"), (THROTTLED_FOLLOWERS, "0:1")];
        assert!(is_bounded(&both, &by_leader));
        assert!(!is_bounded(&[(None, FOLLOWER_RATE, "1000")], &by_leader));
        let by_follower = [(THROTTLED_LEADERS, "0:4"), (THROTTLED_FOLLOWERS, "0:4")];
        assert!(is_bounded(&both, &by_follower));
        assert!(!is_bounded(&[(None, LEADER_RATE, "1000")], &by_follower));
    }

    #[test]
    fn leaders_share_what_a_follower_takes() {
        let shares_of = |topic: &[(&str, &str)]| {
            let image = image(&[(Some(4), FOLLOWER_RATE, "900")], topic);
            shares(&image, &named(&image))
        };
        assert_eq!(shares_of(&[]), BTreeMap::from([(BrokerId(4), 300)]));
        let named = [(THROTTLED_FOLLOWERS, "0:4,1:4,2:3")];
        assert_eq!(shares_of(&named), BTreeMap::from([(BrokerId(4), 450)]));
        let none_named = [(THROTTLED_FOLLOWERS, "9:4")];
        assert_eq!(shares_of(&none_named), BTreeMap::from([(BrokerId(4), 900)]));
    }
}
