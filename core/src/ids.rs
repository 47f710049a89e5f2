//! Names and numbers of the cluster's things, each with its own type, so that two bare integers are never mixed up.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! number {
    ($(#[doc = $doc:literal])+ $name:ident($inner:ty)) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<$inner> for $name {
            fn from(value: $inner) -> Self {
                Self(value)
            }
        }
    };
}

number! {
    /// Place of a record in a partition's log. The first is 0.
    Offset(i64)
}
number! {
    /// Counts the leaders that a partition has had (KIP-101).
    LeaderEpoch(i32)
}
number! {
    /// Names a broker in its cluster; Kafka's `node.id`.
    BrokerId(i32)
}
number! {
    /// Which partition of a topic. The first is 0.
    PartitionIndex(i32)
}
number! {
    /// Names an idempotent producer (KIP-98).
    ProducerId(i64)
}
number! {
    /// Fences older incarnations of a producer (KIP-98).
    ProducerEpoch(i16)
}

impl Offset {
    /// The first offset of every log.
    pub const ZERO: Self = Self(0);

    /// The offset `count` records later; none beyond the largest offset.
    pub fn checked_add(self, count: i64) -> Option<Self> {
        self.0.checked_add(count).map(Self)
    }

    /// The offset after this one; the largest offset has itself.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// How many offsets lie from `earlier` up to this one; negative if this one is the earlier.
    pub fn since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LeaderEpoch {
    /// What a client or a record says that knows no epoch.
    pub const UNKNOWN: Self = Self(-1);

    /// The epoch of the next leader; none beyond the largest.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl ProducerId {
    /// What a batch says that no idempotent producer wrote.
    pub const NONE: Self = Self(-1);

    /// Ids that are given to producers lie below; above are those that brokers derive from them.
    pub const DERIVED_FROM: i64 = 1 << 40;

    /// The id under which a partitioner spreads this producer's records from the partition that they came in by. Each
    /// entrance has its own, so that a target can tell the sequences apart. None for an id that cannot be spread: no
    /// broker gave it to a producer.
    pub fn at_entrance(self, entrance: PartitionIndex) -> Option<Self> {
        let entrance = i64::from(entrance.0)
            .checked_add(1)
            .filter(|n| (1..1 << 22).contains(n))?;
        (0..Self::DERIVED_FROM)
            .contains(&self.0)
            .then_some(Self(self.0 | entrance << 40))
    }

    /// Whether a partitioner spread the records.
    pub fn is_derived(self) -> bool {
        self.0 >= Self::DERIVED_FROM
    }

    /// The producer that it was derived from; one that was not derived has itself.
    pub fn origin(self) -> Self {
        match self.is_derived() {
            true => Self(self.0 & (Self::DERIVED_FROM - 1)),
            false => self,
        }
    }
}

impl ProducerEpoch {
    /// What a batch says that no idempotent producer wrote.
    pub const NONE: Self = Self(-1);
}

/// Names a topic for ever: a topic that is deleted and created again has another id (KIP-516).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Uuid> for TopicId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

/// A topic's name as Kafka allows it: 1 to 249 of `a-z A-Z 0-9 . _ -`, not `.` or `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(std::sync::Arc<str>);

/// Why a text cannot name a topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicNameError {
    /// It is empty.
    #[error("a topic name must not be empty")]
    Empty,
    /// It is `.` or `..`.
    #[error("a topic cannot be named '{0}'")]
    Dots(String),
    /// It is longer than 249 characters.
    #[error("a topic name of {length} characters is longer than {TOPIC_NAME_CHARACTERS_MAX}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It has a character that Kafka does not allow.
    #[error("topic name '{name}' has '{character}'; allowed are a-z, A-Z, 0-9, '.', '_' and '-'")]
    Character {
        /// The text, cut to what a log line can bear.
        name: String,
        /// The first character at fault.
        character: char,
    },
}

impl TopicName {
    /// Checks and keeps a name.
    ///
    /// # Errors
    /// Which of Kafka's rules it breaks.
    pub fn new(name: &str) -> Result<Self, TopicNameError> {
        if name.is_empty() {
            return Err(TopicNameError::Empty);
        }
        if name == "." || name == ".." {
            return Err(TopicNameError::Dots(name.to_owned()));
        }
        if let Some(character) = name.chars().find(|c| !is_topic_character(*c)) {
            let name = name.chars().take(TOPIC_NAME_CHARACTERS_MAX).collect();
            return Err(TopicNameError::Character { name, character });
        }
        if name.len() > TOPIC_NAME_CHARACTERS_MAX {
            return Err(TopicNameError::TooLong { length: name.len() });
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both names would be the same metric: `.` and `_` are one character there, so Kafka refuses the second.
    pub fn collides_with(&self, other: &Self) -> bool {
        self.metric_name() == other.metric_name()
    }

    /// The name with `_` for every `.`: equal for names that collide.
    pub fn metric_name(&self) -> String {
        self.0.replace('.', "_")
    }

    /// Whether the name can collide with another at all.
    pub fn has_collision_characters(&self) -> bool {
        self.0.contains(['.', '_'])
    }
}

impl TryFrom<String> for TopicName {
    type Error = TopicNameError;

    fn try_from(name: String) -> Result<Self, TopicNameError> {
        Self::new(&name)
    }
}

impl TryFrom<&str> for TopicName {
    type Error = TopicNameError;

    fn try_from(name: &str) -> Result<Self, TopicNameError> {
        Self::new(name)
    }
}

impl std::str::FromStr for TopicName {
    type Err = TopicNameError;

    fn from_str(name: &str) -> Result<Self, TopicNameError> {
        Self::new(name)
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.as_str().to_owned()
    }
}

impl std::ops::Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for TopicName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for TopicName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One partition of one topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic, by name.
    pub topic: TopicName,
    /// Which of its partitions.
    pub partition: PartitionIndex,
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

fn is_topic_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Longest topic name, in characters.
pub const TOPIC_NAME_CHARACTERS_MAX: usize = 249;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_follow_kafkas_rules() {
        for good in ["a", "flights.delayed", "A_b-9", "...", &"x".repeat(249)] {
            assert_eq!(TopicName::new(good).unwrap().as_str(), good);
        }
        assert_eq!(TopicName::new(""), Err(TopicNameError::Empty));
        assert_eq!(TopicName::new(".."), Err(TopicNameError::Dots("..".to_owned())));
        assert_eq!(
            TopicName::new(&"x".repeat(250)),
            Err(TopicNameError::TooLong { length: 250 })
        );
        let refused = TopicName::new("a/b").unwrap_err();
        assert_eq!(
            refused,
            TopicNameError::Character {
                name: "a/b".to_owned(),
                character: '/'
            }
        );
    }

    #[test]
    fn dots_and_underscores_collide() {
        let dots = TopicName::new("a.b_c").unwrap();
        assert!(dots.collides_with(&TopicName::new("a_b.c").unwrap()));
        assert!(!dots.collides_with(&TopicName::new("a-b_c").unwrap()));
    }

    #[test]
    fn every_entrance_derives_its_own_producer_ids() {
        let id = ProducerId(7);
        let derived = [0, 1, 99_999].map(|n| id.at_entrance(PartitionIndex(n)).unwrap());
        assert!(derived.iter().all(|id| id.is_derived()) && !id.is_derived());
        assert!(derived[0] != derived[1] && derived[1] != derived[2]);
        assert_eq!(derived[0].at_entrance(PartitionIndex(0)), None, "derived once");
        assert_eq!(ProducerId::NONE.at_entrance(PartitionIndex(0)), None);
        assert!(derived.iter().all(|derived| derived.origin() == id));
        assert_eq!((id.origin(), ProducerId::NONE.origin()), (id, ProducerId::NONE));
    }

    #[test]
    fn offsets_do_not_wrap() {
        assert_eq!(Offset(i64::MAX).checked_add(1), None);
        assert_eq!(Offset(i64::MAX).next(), Offset(i64::MAX));
        assert_eq!(Offset(7).since(Offset(9)), -2);
        assert_eq!(LeaderEpoch(i32::MAX).next(), None);
    }
}
