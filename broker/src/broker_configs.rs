//! Settings that change while brokers run (KIP-226): set for one broker or for all of them, in the cluster's image.
//!
//! What stands behind topic configurations can be set so, and how fast replicas catch up (KIP-73). The other settings are
//! read when a broker starts, and setting them here is refused rather than taken and forgotten.

use std::collections::BTreeMap;

use millstream_core::cluster::{ConfigChange, ConfigUpdate, Image};
use millstream_core::config::{BrokerDefaults, DEFINITIONS as TOPIC_CONFIGS, TopicConfig};
use millstream_core::ids::BrokerId;
use millstream_kafka::ErrorCode;

use crate::handlers::admin::Denied;
use crate::settings::{Definition, Settings};

/// Where a value of a broker's setting comes from, numbered as in `DescribeConfigs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// Set for the broker while it runs.
    Broker = 2,
    /// Set for all brokers while they run.
    AllBrokers = 3,
}

/// Whether a setting can change while brokers run.
pub fn is_changeable(name: &str) -> bool {
    let mut synonyms = TOPIC_CONFIGS.iter().flat_map(|config| config.synonyms);
    is_rate(name) || synonyms.any(|synonym| synonym.name == name) && !FIXED.contains(&name)
}

fn is_rate(name: &str) -> bool {
    RATES.iter().any(|rate| rate.name == name)
}

/// What is set for a broker while it runs, and where: what is for it alone counts more.
pub fn overrides(image: &Image, broker: BrokerId) -> BTreeMap<&str, (&str, Source)> {
    let set = |broker: Option<BrokerId>, source: Source| {
        let configs = image.broker_config(broker).iter();
        configs.map(move |(name, value)| (name.as_str(), (value.as_str(), source)))
    };
    let mut all: BTreeMap<_, _> = set(None, Source::AllBrokers).collect();
    all.extend(set(Some(broker), Source::Broker));
    all
}

/// A broker's settings as far as they stand behind topic configurations, as they are under `image`.
pub fn defaults(settings: &Settings, image: &Image, broker: BrokerId) -> BrokerDefaults {
    over(
        settings,
        overrides(image, broker)
            .into_iter()
            .map(|(name, (value, _))| (name, value)),
    )
}

fn over<'a>(settings: &Settings, set: impl Iterator<Item = (&'a str, &'a str)>) -> BrokerDefaults {
    let mut values = settings.show();
    for (name, value) in set {
        // One in smaller units would go before it: what was set last is meant.
        for family in FAMILIES.iter().filter(|family| family.contains(&name)) {
            for other in family.iter().filter(|other| **other != name) {
                values.insert(*other, String::new());
            }
        }
        if let Some(known) = values.keys().find(|known| **known == name).copied() {
            values.insert(known, value.to_owned());
        }
    }
    values.into_iter().collect()
}

/// Checks a change of what is set while brokers run.
///
/// # Errors
/// A setting that is not known or is only read at the start, or a value that it, or a topic, cannot have.
pub fn check(
    settings: &Settings,
    image: &Image,
    broker: Option<BrokerId>,
    update: &ConfigUpdate,
) -> Result<(), Denied> {
    let mut set: BTreeMap<&str, &str> = BTreeMap::new();
    match update {
        ConfigUpdate::Replace(configs) => {
            set.extend(
                configs
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str())),
            );
        }
        ConfigUpdate::Change(changes) => {
            for change in changes {
                match change {
                    ConfigChange::Set(name, value) => {
                        set.insert(name, value);
                    }
                    // Kafka's tools delete throttles that nobody set.
                    ConfigChange::Delete(_) => {}
                    ConfigChange::Append(name, _) | ConfigChange::Subtract(name, _) => {
                        let message = format!("setting '{name}' is not a list");
                        return Err(Denied::new(ErrorCode::InvalidConfig, message));
                    }
                }
            }
        }
    }
    for (name, value) in &set {
        check_one(settings, broker, name, value)?;
    }
    let defaults = over(settings, set.into_iter());
    let invalid = |error: String| Denied::new(ErrorCode::InvalidConfig, error);
    TopicConfig::parse(&BTreeMap::new(), &defaults).map_err(|error| invalid(error.to_string()))?;
    let mut topics = image.topics();
    topics.try_for_each(|topic| match topic.config(&defaults) {
        Ok(_) => Ok(()),
        Err(error) => Err(invalid(format!("topic '{}': {error}", topic.name))),
    })
}

fn check_one(settings: &Settings, broker: Option<BrokerId>, name: &str, value: &str) -> Result<(), Denied> {
    let refused = |message: String| Err(Denied::new(ErrorCode::InvalidRequest, message));
    if is_rate(name) {
        return match value.parse::<i64>() {
            Ok(0..) => Ok(()),
            _ => {
                let message = format!(
                    "setting '{name}': '{value}' is no number of bytes from 0 to {}",
                    i64::MAX
                );
                Err(Denied::new(ErrorCode::InvalidConfig, message))
            }
        };
    }
    if name == DIRECTORY_RATE {
        return refused(format!(
            "setting '{name}' is not built: a broker has one directory, and moves nothing to another"
        ));
    }
    let valid = settings.clone().set(name, value);
    valid.map_err(|error| Denied::new(ErrorCode::InvalidConfig, error.to_string()))?;
    if !is_changeable(name) {
        return refused(format!(
            "setting '{name}' is read when a broker starts: change it there and start the broker anew"
        ));
    }
    if broker.is_some() && FOR_ALL_ONLY.contains(&name) {
        return refused(format!(
            "setting '{name}' is the same on all brokers: set it for all of them, with an empty broker name"
        ));
    }
    Ok(())
}

/// Settings of one meaning in several units.
const FAMILIES: &[&[&str]] = &[
    &["log.retention.ms", "log.retention.minutes", "log.retention.hours"],
    &["log.roll.ms", "log.roll.hours"],
    &["log.roll.jitter.ms", "log.roll.jitter.hours"],
];
/// Settings behind topic configurations of which only one value is built.
const FIXED: &[&str] = &["unclean.leader.election.enable"];
/// Settings that decide what is acknowledged: whoever leads must not change that.
const FOR_ALL_ONLY: &[&str] = &["min.insync.replicas"];
/// Bounds what a leader gives to replicas that are not in sync.
pub const LEADER_RATE: &str = "leader.replication.throttled.rate";
/// Bounds what a follower takes of partitions that it is not in sync with.
pub const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";
/// Settings that are only there while brokers run. They have no value unless they are set.
pub const RATES: &[Definition] = &[
    Definition {
        name: FOLLOWER_RATE,
        kind: "long",
        doc: "Bytes a second that the broker takes of partitions whose replicas here are not in sync, from all leaders together. 0 for no bound.",
    },
    Definition {
        name: LEADER_RATE,
        kind: "long",
        doc: "Bytes a second that the broker gives, as a leader, to replicas that are not in sync. 0 for no bound.",
    },
];
/// Kafka's bound on moves between directories of one broker.
const DIRECTORY_RATE: &str = "replica.alter.log.dirs.io.max.bytes.per.second";

#[cfg(test)]
mod tests {
    use millstream_core::cluster::{Broker, Command, apply};

    use super::*;

    fn image_with(configs: &[(Option<i32>, &str, &str)]) -> Image {
        let mut image = Image::default();
        let broker = Broker {
            id: BrokerId(1),
            ..Default::default()
        };
        apply(&mut image, &Command::RegisterBroker { broker }).unwrap();
        for (broker, name, value) in configs {
            let command = Command::AlterBrokerConfigs {
                broker: broker.map(BrokerId),
                update: ConfigUpdate::Change(vec![ConfigChange::Set((*name).into(), (*value).into())]),
            };
            apply(&mut image, &command).unwrap();
        }
        image
    }

    fn retention_ms(image: &Image, settings: &Settings) -> i64 {
        let defaults = defaults(settings, image, BrokerId(1));
        TopicConfig::parse(&BTreeMap::new(), &defaults)
            .unwrap()
            .retention_ms
    }

    #[test]
    fn what_is_set_for_a_broker_counts_more_than_what_is_set_for_all() {
        let mut settings = Settings::default();
        settings.set("log.retention.ms", "5").unwrap();
        assert_eq!(retention_ms(&image_with(&[]), &settings), 5);
        let for_all = image_with(&[(None, "log.retention.ms", "6")]);
        assert_eq!(retention_ms(&for_all, &settings), 6);
        let both = image_with(&[
            (None, "log.retention.ms", "6"),
            (Some(1), "log.retention.ms", "7"),
        ]);
        assert_eq!(retention_ms(&both, &settings), 7);
        assert_eq!(
            overrides(&both, BrokerId(1))["log.retention.ms"],
            ("7", Source::Broker)
        );
        assert_eq!(
            overrides(&both, BrokerId(2))["log.retention.ms"],
            ("6", Source::AllBrokers)
        );
    }

    #[test]
    fn a_value_in_larger_units_is_not_hidden_by_one_of_the_file() {
        let mut settings = Settings::default();
        settings.set("log.retention.ms", "5").unwrap();
        let image = image_with(&[(None, "log.retention.hours", "1")]);
        assert_eq!(retention_ms(&image, &settings), 3_600_000);
    }

    #[test]
    fn only_what_takes_effect_can_be_set() {
        let (settings, image) = (Settings::default(), image_with(&[]));
        let set = |broker: Option<i32>, name: &str, value: &str| {
            let change = ConfigChange::Set(name.to_owned(), value.to_owned());
            let update = ConfigUpdate::Change(vec![change]);
            check(&settings, &image, broker.map(BrokerId), &update).map_err(|denied| denied.code)
        };
        assert_eq!(set(Some(1), "log.retention.ms", "60000"), Ok(()));
        assert_eq!(set(None, "min.insync.replicas", "2"), Ok(()));
        assert_eq!(
            set(Some(1), "min.insync.replicas", "2"),
            Err(ErrorCode::InvalidRequest)
        );
        assert_eq!(
            set(None, "num.network.threads", "2"),
            Err(ErrorCode::InvalidRequest)
        );
        assert_eq!(
            set(None, "log.retention.ms", "soon"),
            Err(ErrorCode::InvalidConfig)
        );
        assert_eq!(set(None, "no.such", "1"), Err(ErrorCode::InvalidConfig));
        for rate in [LEADER_RATE, FOLLOWER_RATE] {
            for broker in [None, Some(1)] {
                assert_eq!(set(broker, rate, "1000000"), Ok(()));
                assert_eq!(set(broker, rate, "9223372036854775807"), Ok(()));
                for wrong in ["-1", "", "fast", "9223372036854775808", "1.5"] {
                    assert_eq!(set(broker, rate, wrong), Err(ErrorCode::InvalidConfig), "{wrong}");
                }
            }
        }
        assert_eq!(set(Some(1), DIRECTORY_RATE, "1"), Err(ErrorCode::InvalidRequest));
        let update = ConfigUpdate::Change(vec![ConfigChange::Delete(DIRECTORY_RATE.to_owned())]);
        assert!(check(&settings, &image, Some(BrokerId(1)), &update).is_ok());
    }
}
