//! Who catches up is slowed down as configurations say, and nobody else.

use std::time::Instant;

use millstream_core::cluster::{ConfigChange, ConfigUpdate};
use millstream_core::config::{THROTTLED_FOLLOWERS, THROTTLED_LEADERS};

use super::*;
use crate::broker_configs::{FOLLOWER_RATE, LEADER_RATE};

#[tokio::test(flavor = "multi_thread")]
async fn who_catches_up_is_slowed_down_and_who_is_in_sync_is_not() {
    let world = World::of(3);
    world.set(1, LEADER_RATE, "1000000");
    assert!(world.catches_up_in().await > SLOW);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_followers_own_rate_slows_it_down() {
    let world = World::of(3);
    world.set(2, FOLLOWER_RATE, "1");
    world.set(3, FOLLOWER_RATE, "1000000");
    assert!(world.catches_up_in().await > SLOW);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_their_topic_does_not_name_are_not_slowed_down() {
    let world = World::of(3);
    world.set(1, LEADER_RATE, "1");
    world.set(3, FOLLOWER_RATE, "1");
    world.name(THROTTLED_LEADERS, "0:3");
    world.name(THROTTLED_FOLLOWERS, "0:1,0:2");
    world.catches_up_in().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_that_is_deleted_is_none() {
    let world = World::of(3);
    world.set(1, LEADER_RATE, "1");
    world.fall_behind().await;
    world.heal(3);
    world.produce(1, b"it goes on").await;
    assert_ne!(
        world.partition(3).watermarks().log_end,
        world.partition(1).watermarks().log_end
    );
    world.alter(1, ConfigChange::Delete(LEADER_RATE.to_owned()));
    world.agree(&[1, 2, 3]).await;
}

impl World {
    fn set(&self, broker: i32, name: &str, value: &str) {
        self.alter(broker, ConfigChange::Set(name.to_owned(), value.to_owned()));
    }

    fn alter(&self, broker: i32, change: ConfigChange) {
        self.shared.apply(&Command::AlterBrokerConfigs {
            broker: Some(BrokerId(broker)),
            update: ConfigUpdate::Change(vec![change]),
        });
    }

    fn name(&self, list: &str, replicas: &str) {
        let change = ConfigChange::Set(list.to_owned(), replicas.to_owned());
        self.shared.apply(&Command::AlterConfigs {
            topic: TopicName::new(TOPIC).unwrap(),
            update: ConfigUpdate::Change(vec![change]),
        });
    }

    /// Broker 3 lacks records that the others hold.
    async fn fall_behind(&self) {
        self.cut(3).await;
        self.fence(3);
        for _ in 0..24 {
            self.append(1, &[7; 100_000]);
        }
        self.produce(1, b"all").await;
    }

    /// How long it takes broker 3 to catch up; broker 2, which is in sync, does not wait for that.
    async fn catches_up_in(&self) -> Duration {
        self.fall_behind().await;
        let started = Instant::now();
        self.heal(3);
        self.produce(1, &[7; 100_000]).await;
        assert!(started.elapsed() < SLOW, "2 is in sync");
        self.agree(&[1, 2, 3]).await;
        started.elapsed()
    }
}

/// What it takes at the least to copy the second and third MiB at a million bytes a second.
const SLOW: Duration = Duration::from_millis(700);
