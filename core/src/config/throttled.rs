//! Replicas whose copying may be slowed down, as topics name them (KIP-73).

use std::collections::BTreeSet;

use super::ConfigError;
use super::value::Values;
use crate::ids::{BrokerId, PartitionIndex};

/// What a topic's `leader.replication.throttled.replicas`, or its like for followers, names. A topic that names none says
/// nothing about it, and means all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ThrottledReplicas(Option<BTreeSet<(PartitionIndex, BrokerId)>>);

impl ThrottledReplicas {
    /// Reads `*`, or replicas as `PARTITION:BROKER` with commas between them.
    ///
    /// # Errors
    /// The value is neither; the error names the configuration `name`.
    pub fn parse(name: &str, value: &str) -> Result<Self, ConfigError> {
        let value = value.trim();
        if value == "*" {
            return Ok(Self(None));
        }
        let entries = value.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        let named: Option<BTreeSet<_>> = entries.map(replica).collect();
        match named {
            Some(named) => Ok(Self(Some(named).filter(|named| !named.is_empty()))),
            None => Err(ConfigError::invalid(name, value, SHAPE)),
        }
    }

    /// Whether the copying of a partition at a broker may be slowed down.
    pub fn names(&self, partition: PartitionIndex, broker: BrokerId) -> bool {
        match &self.0 {
            Some(named) => named.contains(&(partition, broker)),
            None => true,
        }
    }
}

/// Checks both lists.
pub(super) fn check(values: &Values<'_>) -> Result<(), ConfigError> {
    let mut lists = [THROTTLED_FOLLOWERS, THROTTLED_LEADERS].into_iter();
    lists.try_for_each(|name| ThrottledReplicas::parse(name, &values.text(name)).map(|_| ()))
}

fn replica(entry: &str) -> Option<(PartitionIndex, BrokerId)> {
    let (partition, broker) = entry.split_once(':')?;
    Some((PartitionIndex(number(partition)?), BrokerId(number(broker)?)))
}

fn number(text: &str) -> Option<i32> {
    // A sign is none of Kafka's digits.
    text.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| text.parse().ok())?
}

/// The list for those who take copies as followers.
pub const THROTTLED_FOLLOWERS: &str = "follower.replication.throttled.replicas";
/// The list for those who give copies as leaders.
pub const THROTTLED_LEADERS: &str = "leader.replication.throttled.replicas";
const SHAPE: &str = "must be '*', or replicas as PARTITION:BROKER with commas between them, such as 0:1,0:2";

#[cfg(test)]
mod tests {
    use super::*;

    fn names(value: &str, partition: i32, broker: i32) -> bool {
        let list = ThrottledReplicas::parse(THROTTLED_LEADERS, value).unwrap();
        list.names(PartitionIndex(partition), BrokerId(broker))
    }

    #[test]
    fn a_list_names_replicas_and_an_empty_one_means_all() {
        for all in ["*", " * ", "", ",", " , "] {
            assert!(names(all, 7, 1), "'{all}'");
        }
        assert!(names("0:1,1:2", 0, 1) && names(" 0:1 , 1:2 ,", 1, 2));
        assert!(!names("0:1,1:2", 0, 2) && !names("0:1,1:2", 2, 1));
    }

    #[test]
    fn what_is_no_list_of_replicas_is_refused() {
        let wrong = [
            "0",
            "0:",
            ":1",
            "0:1:2",
            "-1:1",
            "0:+1",
            "a:b",
            "*,0:1",
            "none",
            "99999999999:1",
            "0 : 1",
        ];
        for value in wrong {
            let error = ThrottledReplicas::parse(THROTTLED_FOLLOWERS, value).unwrap_err();
            let expected = format!(
                "invalid value '{value}' for topic config 'follower.replication.throttled.replicas': {SHAPE}"
            );
            assert_eq!(error.to_string(), expected);
        }
    }
}
