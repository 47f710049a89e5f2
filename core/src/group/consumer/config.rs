//! The bounds of groups that follow KIP-848: what brokers set for all of them, and what one group sets for itself, within
//! the limits of the brokers.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::assignor::Assignor;
use super::types::Migration;

/// Bounds of groups that follow KIP-848, with Kafka's defaults but for the assignment interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// Without a sign of life for so long, a member is out. Kafka's `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// What a group can set instead. Kafka's `group.consumer.min.session.timeout.ms` and its like.
    pub session_timeout_ms_limits: RangeInclusive<i32>,
    /// How often members are told to send heartbeats. Kafka's `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// What a group can set instead.
    pub heartbeat_interval_ms_limits: RangeInclusive<i32>,
    /// Shortest time between two assignments of a group (KIP-1263). Kafka's `group.consumer.assignment.interval.ms`, which
    /// is 1000 there: here members come soon again while their group changes.
    pub assignment_interval_ms: i32,
    /// What a group can set instead.
    pub assignment_interval_ms_limits: RangeInclusive<i32>,
    /// Most members of a group. Kafka's `group.consumer.max.size`.
    pub members_max: usize,
    /// The assignors that members can ask for; the first one is taken if nobody does. Never empty. Kafka's
    /// `group.consumer.assignors`.
    pub assignors: Vec<Assignor>,
    /// Which groups with members may change their protocol. Kafka's `group.consumer.migration.policy`.
    pub migration: Migration,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            session_timeout_ms: 45_000,
            session_timeout_ms_limits: 45_000..=60_000,
            heartbeat_interval_ms: 5000,
            heartbeat_interval_ms_limits: 5000..=15_000,
            assignment_interval_ms: 0,
            assignment_interval_ms_limits: 0..=15_000,
            members_max: i32::MAX as usize,
            assignors: Assignor::ALL.to_vec(),
            migration: Migration::Bidirectional,
        }
    }
}

/// What groups set for themselves: names and values by group, as the image of the cluster has them.
pub type OwnConfigs = BTreeMap<String, BTreeMap<String, String>>;

/// Something that brokers set for all groups and a group can set for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OwnConfig {
    /// How long a member may be silent.
    SessionTimeout,
    /// How often a member sends heartbeats.
    HeartbeatInterval,
    /// The time between two assignments.
    AssignmentInterval,
}

impl OwnConfig {
    /// All of them, in the order of names.
    pub const ALL: [Self; 3] = [
        Self::AssignmentInterval,
        Self::HeartbeatInterval,
        Self::SessionTimeout,
    ];

    /// Kafka's name of it, where a group sets it.
    pub fn name(self) -> &'static str {
        match self {
            Self::SessionTimeout => "consumer.session.timeout.ms",
            Self::HeartbeatInterval => "consumer.heartbeat.interval.ms",
            Self::AssignmentInterval => "consumer.assignment.interval.ms",
        }
    }

    /// Kafka's name of it, where a broker sets it.
    pub fn setting(self) -> &'static str {
        match self {
            Self::SessionTimeout => "group.consumer.session.timeout.ms",
            Self::HeartbeatInterval => "group.consumer.heartbeat.interval.ms",
            Self::AssignmentInterval => "group.consumer.assignment.interval.ms",
        }
    }

    /// What it means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::SessionTimeout => "A member that is silent for so many milliseconds is out.",
            Self::HeartbeatInterval => "How often members are told to send heartbeats, in milliseconds.",
            Self::AssignmentInterval => "Shortest time between two assignments, in milliseconds.",
        }
    }

    /// What brokers set, in milliseconds.
    pub fn usual_ms(self, config: &ConsumerConfig) -> i32 {
        match self {
            Self::SessionTimeout => config.session_timeout_ms,
            Self::HeartbeatInterval => config.heartbeat_interval_ms,
            Self::AssignmentInterval => config.assignment_interval_ms,
        }
    }

    /// What a group may set, in milliseconds.
    pub fn limits_ms(self, config: &ConsumerConfig) -> &RangeInclusive<i32> {
        match self {
            Self::SessionTimeout => &config.session_timeout_ms_limits,
            Self::HeartbeatInterval => &config.heartbeat_interval_ms_limits,
            Self::AssignmentInterval => &config.assignment_interval_ms_limits,
        }
    }

    /// What holds in a group, in milliseconds. What it set when the limits were others is brought within them.
    fn of(self, own: Option<&BTreeMap<String, String>>, config: &ConsumerConfig) -> i32 {
        let set = own.and_then(|own| own.get(self.name())?.parse::<i32>().ok());
        let limits = self.limits_ms(config);
        match set {
            Some(ms) if limits.is_empty() => ms,
            Some(ms) => ms.clamp(*limits.start(), *limits.end()),
            None => self.usual_ms(config),
        }
    }
}

/// Why a group cannot set something for itself.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OwnConfigError {
    /// There is no such configuration of a group.
    #[error("groups have no config '{0}'")]
    Unknown(String),
    /// It cannot have this value.
    #[error("group config '{name}': '{value}' {reason}")]
    Invalid {
        /// The configuration.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
}

/// Times that hold in one group, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::group) struct Times {
    pub(in crate::group) session_timeout_ms: i32,
    pub(in crate::group) heartbeat_interval_ms: i32,
    pub(in crate::group) assignment_interval_ms: i32,
}

impl ConsumerConfig {
    /// What holds in a group that sets `own` for itself.
    pub(in crate::group) fn times(&self, own: Option<&BTreeMap<String, String>>) -> Times {
        Times {
            session_timeout_ms: OwnConfig::SessionTimeout.of(own, self),
            heartbeat_interval_ms: OwnConfig::HeartbeatInterval.of(own, self),
            assignment_interval_ms: OwnConfig::AssignmentInterval.of(own, self),
        }
    }

    /// Checks what a group is to set for itself, as Kafka does.
    ///
    /// # Errors
    /// A name that groups do not have, a value outside of the limits, or a session that is no longer than the pause between
    /// two heartbeats.
    pub fn check_own(&self, own: &BTreeMap<String, String>) -> Result<(), OwnConfigError> {
        for (name, value) in own {
            let config = OwnConfig::ALL.into_iter().find(|config| config.name() == name);
            let config = config.ok_or_else(|| OwnConfigError::Unknown(name.clone()))?;
            let invalid = |reason| {
                let (name, value) = (config.name(), value.clone());
                OwnConfigError::Invalid { name, value, reason }
            };
            let limits = config.limits_ms(self);
            match value.parse::<i32>() {
                Ok(ms) if limits.contains(&ms) => {}
                Ok(_) => {
                    let (min, max) = (limits.start(), limits.end());
                    return Err(invalid(format!("is not within {min} and {max}")));
                }
                Err(_) => return Err(invalid("is not a number of the right size".to_owned())),
            }
        }
        let times = self.times(Some(own));
        if times.session_timeout_ms <= times.heartbeat_interval_ms {
            return Err(OwnConfigError::Invalid {
                name: OwnConfig::SessionTimeout.name(),
                value: times.session_timeout_ms.to_string(),
                reason: format!(
                    "is not longer than the heartbeat interval, {}",
                    times.heartbeat_interval_ms
                ),
            });
        }
        Ok(())
    }
}

impl crate::group::Groups {
    /// The times that hold in a group.
    pub(in crate::group) fn times(&self, group: &str) -> Times {
        self.config.consumer.times(self.own.get(group))
    }
}
