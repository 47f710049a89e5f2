//! The broker's settings: one table with name, type, default and meaning.
//!
//! Settings carry Kafka's names and defaults where Kafka has the setting; ours begin with `millstream.`. The same
//! table serves the configuration file (TOML), environment, command line and `DescribeConfigs`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use millstream_core::group::consumer::assignor::Assignor;
use millstream_core::group::consumer::{ConsumerConfig, Migration, OwnConfig};

/// A value that a setting can have: read from and written as text.
trait SettingValue: Sized {
    /// Kafka's name of the type, as `DescribeConfigs` and error messages show it.
    const KIND: &'static str;
    fn parse(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $field:ident : $type:ty = $default:expr, $name:literal $(, $min:literal ..= $max:expr)? ; )+) => {
        /// All settings of a broker, parsed. See [`DEFINITIONS`] for names, types and meaning.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Settings { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        impl Default for Settings {
            fn default() -> Self { Self { $( $field: <$type>::from($default), )+ } }
        }

        /// Every setting, in the order of the documentation.
        pub const DEFINITIONS: &[Definition] = &[ $( Definition {
            name: $name, kind: <$type as SettingValue>::KIND, doc: concat!($($doc),+),
        }, )+ ];

        impl Settings {
            /// Sets one setting from text.
            ///
            /// # Errors
            /// An unknown name (with the nearest known one), or a value of the wrong type or out of range.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), SettingError> {
                match name {
                    $( $name => {
                        let value = <$type as SettingValue>::parse(text.trim())
                            .map_err(|reason| SettingError::invalid($name, text, reason))?;
                        $( within(&value, $min, $max).map_err(|reason| SettingError::invalid($name, text, reason))?; )?
                        self.$field = value;
                        Ok(())
                    } )+
                    _ => Err(SettingError::unknown(name)),
                }
            }

            /// Every setting by name, as text: what `DescribeConfigs` shows.
            pub fn show(&self) -> BTreeMap<&'static str, String> {
                BTreeMap::from([ $( ($name, SettingValue::show(&self.$field)), )+ ])
            }
        }
    };
}

settings! {
    /// Number that names this broker in the cluster.
    node_id: i32 = 1, "node.id", 0..=i32::MAX;
    /// Rack of this broker, told to clients in metadata.
    broker_rack: Option<String> = None, "broker.rack";
    /// Directory that holds everything the broker stores.
    data_dir: String = "./millstream-data", "millstream.data.dir";
    /// Address on which Kafka clients are served. Port 0 picks a free port.
    kafka_listen: String = "127.0.0.1:9092", "millstream.kafka.listen";
    /// Address of the admin HTTP server. Port 0 picks a free port.
    http_listen: String = "127.0.0.1:9644", "millstream.http.listen";
    /// Address that clients are told to connect to; by default the one that is listened on.
    advertised: Option<String> = None, "millstream.advertised";
    /// Further host names, comma separated, that the admin HTTP server accepts in the Host header.
    http_allowed_hosts: String = "", "millstream.http.allowed.hosts";

    /// Address on which other brokers of the cluster are served (QUIC over UDP). Port 0 picks a free port.
    cluster_listen: Option<String> = None, "millstream.cluster.listen";
    /// Address that other brokers are told to connect to; by default this broker's among the voters, else the one that
    /// is listened on.
    cluster_advertised: Option<String> = None, "millstream.cluster.advertised";
    /// The brokers that begin the cluster as its quorum, as `ID@HOST:PORT,ID@HOST:PORT,...`; this one is among them.
    cluster_voters: Option<String> = None, "millstream.cluster.voters";
    /// Cluster address of any broker of the cluster that this broker joins.
    cluster_join: Option<String> = None, "millstream.cluster.join";
    /// Directory with `ca.pem`, `node.pem` and `node.key`: who this broker is in its cluster, and who it trusts.
    certs: Option<String> = None, "millstream.certs";
    /// A broker that is silent for so many milliseconds is fenced, and others lead its partitions. Six heartbeats must be
    /// lost one after the other: less would take a busy broker for a dead one, more would let clients wait longer.
    broker_lease_ms: i32 = 600, "millstream.broker.lease.ms", 100..=600_000;
    /// Milliseconds without a word from the quorum's leader until another one is elected. The first voter stands then;
    /// the others a third later each, so that they do not all stand at once. Kafka has 1000.
    quorum_election_timeout_ms: i32 = 300, "controller.quorum.election.timeout.ms", 100..=600_000;
    /// Whether partitions go back to their preferred leaders by themselves.
    auto_leader_rebalance_enable: bool = true, "auto.leader.rebalance.enable";
    /// Pause between two looks for partitions that their preferred leader could lead, in seconds. Kafka has 300.
    leader_imbalance_check_interval_seconds: i64 = 10, "leader.imbalance.check.interval.seconds", 1..=i64::MAX / 1000;
    /// A follower that has not held all of the leader's log for so many milliseconds is no longer in sync.
    replica_lag_time_max_ms: i64 = 30_000, "replica.lag.time.max.ms", 1..=i64::MAX;

    /// Whether a metadata or produce request for an unknown topic creates it.
    auto_create_topics_enable: bool = true, "auto.create.topics.enable";
    /// Partitions of a topic that is created without saying how many.
    num_partitions: i32 = 1, "num.partitions", 1..=100_000;
    /// Replicas of a topic that is created without saying how many.
    default_replication_factor: i32 = 1, "default.replication.factor", 1..=i16::MAX as i32;
    /// Whether topics can be deleted at all.
    delete_topic_enable: bool = true, "delete.topic.enable";
    /// Most partitions of one topic and of one broker; a request for more is refused.
    partitions_max: i32 = 100_000, "millstream.partitions.max", 1..=10_000_000;
    /// Largest record batch that is accepted, in bytes, after compression.
    message_max_bytes: i32 = 1_048_588, "message.max.bytes", 0..=i32::MAX;
    /// Largest size of one record batch once decompressed, in bytes.
    decompressed_max_bytes: i64 = 134_217_728_i64, "millstream.decompressed.max.bytes", 1024..=i32::MAX as i64;
    /// Copies of a batch that must exist before `acks=all` is answered.
    min_insync_replicas: i32 = 1, "min.insync.replicas", 1..=i32::MAX;
    /// Compression of stored batches; `producer` keeps what the client sent.
    compression_type: String = "producer", "compression.type";
    /// `CreateTime` keeps the client's timestamps, `LogAppendTime` sets the broker's.
    log_message_timestamp_type: String = "CreateTime", "log.message.timestamp.type";

    /// How long records are kept, in milliseconds; unset means `log.retention.minutes`, then `log.retention.hours`.
    log_retention_ms: Option<i64> = None, "log.retention.ms";
    /// How long records are kept, in minutes; unset means `log.retention.hours`.
    log_retention_minutes: Option<i64> = None, "log.retention.minutes";
    /// How long records are kept, in hours; -1 is for ever.
    log_retention_hours: i64 = 168, "log.retention.hours", -1..=i64::MAX / 3_600_000;
    /// Bytes that a partition keeps; -1 is without limit.
    log_retention_bytes: i64 = -1, "log.retention.bytes", -1..=i64::MAX;
    /// Pause between two looks for records to delete, in milliseconds.
    log_retention_check_interval_ms: i64 = 300_000, "log.retention.check.interval.ms", 1..=i64::MAX;
    /// Size at which a new segment file is begun, in bytes.
    log_segment_bytes: i32 = 1_073_741_824, "log.segment.bytes", 1_048_576..=i32::MAX;
    /// Age at which a new segment file is begun, in milliseconds; unset means `log.roll.hours`.
    log_roll_ms: Option<i64> = None, "log.roll.ms";
    /// Age at which a new segment file is begun, in hours.
    log_roll_hours: i64 = 168, "log.roll.hours", 1..=i64::MAX / 3_600_000;
    /// Bytes of log between two entries of the offset index.
    log_index_interval_bytes: i32 = 4096, "log.index.interval.bytes", 0..=i32::MAX;
    /// Largest size of an index file, in bytes.
    log_index_size_max_bytes: i32 = 10_485_760, "log.index.size.max.bytes", 4..=i32::MAX;
    /// How long the state of an idle idempotent producer is kept, in milliseconds.
    producer_id_expiration_ms: i32 = 86_400_000, "producer.id.expiration.ms", 1..=i32::MAX;

    /// How long the committed offsets of an empty group are kept, in minutes.
    offsets_retention_minutes: i32 = 10_080, "offsets.retention.minutes", 1..=i32::MAX;
    /// Pause between two looks for offsets that have expired, in milliseconds.
    offsets_retention_check_interval_ms: i64 = 600_000, "offsets.retention.check.interval.ms", 1..=i64::MAX;
    /// Partitions of the internal topic `__consumer_offsets`. Kafka has 50; a lone broker starts faster with fewer.
    offsets_topic_num_partitions: i32 = 4, "offsets.topic.num.partitions", 1..=10_000;
    /// Copies of every partition of `__consumer_offsets`, as far as there are brokers when it is made.
    offsets_topic_replication_factor: i32 = 3, "offsets.topic.replication.factor", 1..=i16::MAX as i32;
    /// Partitions of the internal topic `__transaction_state`. Kafka has 50; a lone broker starts faster with fewer.
    transaction_state_log_num_partitions: i32 = 4, "transaction.state.log.num.partitions", 1..=10_000;
    /// Copies of every partition of `__transaction_state`, as far as there are brokers when it is made.
    transaction_state_log_replication_factor: i32 = 3, "transaction.state.log.replication.factor", 1..=i16::MAX as i32;
    /// Copies of it that have to be in sync for transactions to go on, as far as there are copies.
    transaction_state_log_min_isr: i32 = 2, "transaction.state.log.min.isr", 1..=i16::MAX as i32;
    /// Longest time that a producer may ask for its transactions, in milliseconds.
    transaction_max_timeout_ms: i32 = 900_000, "transaction.max.timeout.ms", 1..=i32::MAX;
    /// How long a transactional id is remembered that nobody uses, in milliseconds.
    transactional_id_expiration_ms: i32 = 604_800_000, "transactional.id.expiration.ms", 1..=i32::MAX;
    /// Batches that transforms compute at a time on this broker, so that producers and consumers keep the rest of it; 0 is
    /// half as many as there are processors.
    transform_threads: i32 = 0, "millstream.transform.threads", 0..=1024;
    /// Largest metadata text beside a committed offset, in bytes.
    offset_metadata_max_bytes: i32 = 4096, "offset.metadata.max.bytes", 0..=i32::MAX;
    /// Shortest session timeout that a group member may ask for, in milliseconds.
    group_min_session_timeout_ms: i32 = 6000, "group.min.session.timeout.ms", 1..=i32::MAX;
    /// Longest session timeout that a group member may ask for, in milliseconds.
    group_max_session_timeout_ms: i32 = 1_800_000, "group.max.session.timeout.ms", 1..=i32::MAX;
    /// How long the first member of an empty group waits for others, in milliseconds.
    group_initial_rebalance_delay_ms: i32 = 3000, "group.initial.rebalance.delay.ms", 0..=i32::MAX;
    /// Most members of one group.
    group_max_size: i32 = i32::MAX, "group.max.size", 1..=i32::MAX;
    /// A member of a group of the new protocol (KIP-848) that is silent for so many milliseconds is out.
    group_consumer_session_timeout_ms: i32 = 45_000, "group.consumer.session.timeout.ms", 1..=i32::MAX;
    /// Shortest such time that a group can set for itself, in milliseconds.
    group_consumer_min_session_timeout_ms: i32 = 45_000, "group.consumer.min.session.timeout.ms", 1..=i32::MAX;
    /// Longest such time that a group can set for itself, in milliseconds.
    group_consumer_max_session_timeout_ms: i32 = 60_000, "group.consumer.max.session.timeout.ms", 1..=i32::MAX;
    /// How often members of groups of the new protocol are told to send heartbeats, in milliseconds.
    group_consumer_heartbeat_interval_ms: i32 = 5000, "group.consumer.heartbeat.interval.ms", 1..=i32::MAX;
    /// Shortest such interval that a group can set for itself, in milliseconds.
    group_consumer_min_heartbeat_interval_ms: i32 = 5000, "group.consumer.min.heartbeat.interval.ms", 1..=i32::MAX;
    /// Longest such interval that a group can set for itself, in milliseconds.
    group_consumer_max_heartbeat_interval_ms: i32 = 15_000, "group.consumer.max.heartbeat.interval.ms", 1..=i32::MAX;
    /// Shortest time between two assignments of a group of the new protocol, in milliseconds (KIP-1263). Kafka has 1000.
    group_consumer_assignment_interval_ms: i32 = 0, "group.consumer.assignment.interval.ms", 0..=i32::MAX;
    /// Shortest such time that a group can set for itself, in milliseconds.
    group_consumer_min_assignment_interval_ms: i32 = 0, "group.consumer.min.assignment.interval.ms", 0..=i32::MAX;
    /// Longest such time that a group can set for itself, in milliseconds.
    group_consumer_max_assignment_interval_ms: i32 = 15_000, "group.consumer.max.assignment.interval.ms", 0..=i32::MAX;
    /// Most members of one group of the new protocol.
    group_consumer_max_size: i32 = i32::MAX, "group.consumer.max.size", 1..=i32::MAX;
    /// Assignors that members of groups of the new protocol can ask for, comma separated: `uniform`, `range`. The first one is
    /// taken where nobody asks for one.
    group_consumer_assignors: Vec<Assignor> = Assignor::ALL, "group.consumer.assignors";
    /// Which groups with members may change their protocol: `upgrade` is to the new one, `downgrade` to the classic one,
    /// `bidirectional` both, `disabled` none.
    group_consumer_migration_policy: Migration = Migration::Bidirectional, "group.consumer.migration.policy";

    /// Largest request, in bytes; the connection that sends a larger one is closed.
    socket_request_max_bytes: i32 = 104_857_600, "socket.request.max.bytes", 1..=i32::MAX;
    /// Most connections at a time; more are closed at once.
    max_connections: i32 = i32::MAX, "max.connections", 0..=i32::MAX;
    /// Threads that serve Kafka's connections; 0 is one for each processor. Kafka has 3.
    num_network_threads: i32 = 0, "num.network.threads", 0..=1024;
    /// Most connections of one address at a time.
    max_connections_per_ip: i32 = i32::MAX, "max.connections.per.ip", 0..=i32::MAX;
    /// A connection without traffic is closed after so many milliseconds.
    connections_max_idle_ms: i64 = 600_000, "connections.max.idle.ms", 1..=i64::MAX;
    /// Produce requests of one connection that may wait for the disk at a time; reading pauses beyond it.
    inflight_requests_max: i32 = 64, "millstream.inflight.requests.max", 1..=100_000;
    /// Bytes of requests that all connections together may hold in memory; reading pauses beyond it.
    queued_max_request_bytes: i64 = 1_073_741_824_i64, "queued.max.request.bytes", 1_048_576..=i64::MAX;
    /// Most bytes that a fetch answers with, over all its partitions.
    fetch_max_bytes: i32 = 57_671_680, "fetch.max.bytes", 1024..=i32::MAX;
    /// Incremental fetch sessions that are kept.
    fetch_session_slots: i32 = 1000, "max.incremental.fetch.session.cache.slots", 0..=1_000_000;

    /// Largest plugin component that can be pushed, in bytes.
    plugin_max_bytes: i64 = 67_108_864_i64, "millstream.plugin.max.bytes", 1024..=1_073_741_824;
    /// Memory that one plugin instance may use, in bytes, unless set when pushing or attaching.
    plugin_memory_max_bytes: i64 = 67_108_864_i64, "millstream.plugin.memory.max.bytes", 65_536..=1_073_741_824;
    /// Instances of one attached plugin that may run at a time.
    plugin_instances_max: i32 = 4, "millstream.plugin.instances.max", 1..=256;
    /// Memory for batches that views have computed, in bytes; 0 turns the cache off.
    view_cache_bytes: i64 = 67_108_864_i64, "millstream.view.cache.bytes", 0..=i64::MAX;
}

/// Name, type and meaning of a setting.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Kafka's name, or one that begins with `millstream.`.
    pub name: &'static str,
    /// Type: `boolean`, `int`, `long` or `string`.
    pub kind: &'static str,
    /// Meaning and unit.
    pub doc: &'static str,
}

/// A setting that is unknown or has a value that it cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// No setting has this name.
    #[error("unknown setting '{name}'{}", nearest.map(|n| format!("; did you mean '{n}'?")).unwrap_or_default())]
    Unknown {
        /// The name that was given.
        name: String,
        /// The known setting whose name is nearest, where one is near.
        nearest: Option<&'static str>,
    },
    /// The value does not fit.
    #[error("setting '{name}': '{value}' {reason}")]
    Invalid {
        /// The setting.
        name: &'static str,
        /// The value that was given.
        value: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The configuration file cannot be read.
    #[error("configuration file: {0}")]
    File(String),
}

impl SettingError {
    fn unknown(name: &str) -> Self {
        Self::Unknown {
            name: name.to_owned(),
            nearest: nearest(name, DEFINITIONS.iter().map(|d| d.name)),
        }
    }

    fn invalid(name: &'static str, value: &str, reason: String) -> Self {
        Self::Invalid {
            name,
            value: value.to_owned(),
            reason,
        }
    }
}

impl Settings {
    /// Reads a TOML file: `"log.segment.bytes" = 1048576` and `[log] segment.bytes = 1048576` mean the same.
    ///
    /// # Errors
    /// A file that cannot be read or is not TOML, an unknown setting, a wrong value.
    pub fn load_file(&mut self, path: &Path) -> Result<(), SettingError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| SettingError::File(format!("{}: {error}", path.display())))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error| SettingError::File(format!("{}: {error}", path.display())))?;
        self.set_table("", &table)
    }

    fn set_table(&mut self, prefix: &str, table: &toml::Table) -> Result<(), SettingError> {
        for (key, value) in table {
            let name = if prefix.is_empty() {
                key.clone()
            } else {
                format!("{prefix}.{key}")
            };
            match value {
                toml::Value::Table(inner) => self.set_table(&name, inner)?,
                toml::Value::String(text) => self.set(&name, text)?,
                other => self.set(&name, &other.to_string())?,
            }
        }
        Ok(())
    }

    /// Sets what the environment says: `MILLSTREAM_LOG_SEGMENT_BYTES=1048576` is `log.segment.bytes`; a setting of
    /// ours has the prefix once: `MILLSTREAM_DATA_DIR` is `millstream.data.dir`.
    ///
    /// # Errors
    /// A wrong value. Variables that name no setting are left alone, as the environment is shared; of those that nearly
    /// name one the log tells.
    pub fn load_env(&mut self, vars: impl Iterator<Item = (String, String)>) -> Result<(), SettingError> {
        let by_variable: BTreeMap<String, &str> = DEFINITIONS
            .iter()
            .map(|d| (environment_variable(d.name), d.name))
            .collect();
        for (variable, value) in vars {
            if let Some(name) = by_variable.get(&variable) {
                self.set(name, &value)?;
            } else if let Some(near) = nearly(&variable, by_variable.keys()) {
                tracing::warn!(
                    variable,
                    near,
                    "an environment variable names no setting, but nearly one"
                );
            }
        }
        Ok(())
    }

    /// Checks what depends on several settings.
    ///
    /// # Errors
    /// Limits of which the lower one is the higher one, what is not within its limits, or sessions that end before the next
    /// heartbeat.
    pub fn check(&self) -> Result<(), SettingError> {
        let groups = self.consumer_groups();
        for config in OwnConfig::ALL {
            let (name, value) = (config.setting(), config.usual_ms(&groups));
            let limits = config.limits_ms(&groups);
            if !limits.contains(&value) {
                let (min, max) = (limits.start(), limits.end());
                let reason = format!("is not within the limits that are set for groups, {min} and {max}");
                return Err(SettingError::invalid(name, &value.to_string(), reason));
            }
        }
        let (session_ms, heartbeat_ms) = (groups.session_timeout_ms, groups.heartbeat_interval_ms);
        if session_ms <= heartbeat_ms {
            let name = OwnConfig::SessionTimeout.setting();
            let reason = format!("is not longer than group.consumer.heartbeat.interval.ms, {heartbeat_ms}");
            return Err(SettingError::invalid(name, &session_ms.to_string(), reason));
        }
        let (min, max) = (
            self.group_min_session_timeout_ms,
            self.group_max_session_timeout_ms,
        );
        if min > max {
            let reason = format!("is longer than group.max.session.timeout.ms, {max}");
            return Err(SettingError::invalid(
                "group.min.session.timeout.ms",
                &min.to_string(),
                reason,
            ));
        }
        Ok(())
    }

    /// The bounds of groups of the new protocol (KIP-848).
    pub fn consumer_groups(&self) -> ConsumerConfig {
        ConsumerConfig {
            session_timeout_ms: self.group_consumer_session_timeout_ms,
            session_timeout_ms_limits: self.group_consumer_min_session_timeout_ms
                ..=self.group_consumer_max_session_timeout_ms,
            heartbeat_interval_ms: self.group_consumer_heartbeat_interval_ms,
            heartbeat_interval_ms_limits: self.group_consumer_min_heartbeat_interval_ms
                ..=self.group_consumer_max_heartbeat_interval_ms,
            assignment_interval_ms: self.group_consumer_assignment_interval_ms,
            assignment_interval_ms_limits: self.group_consumer_min_assignment_interval_ms
                ..=self.group_consumer_max_assignment_interval_ms,
            members_max: self.group_consumer_max_size as usize,
            assignors: self.group_consumer_assignors.clone(),
            migration: self.group_consumer_migration_policy,
        }
    }

    /// How long records are kept by default, in milliseconds; -1 is for ever.
    pub fn retention_ms(&self) -> i64 {
        self.log_retention_ms
            .or(self
                .log_retention_minutes
                .map(|m| if m < 0 { -1 } else { m.saturating_mul(60_000) }))
            .unwrap_or(if self.log_retention_hours < 0 {
                -1
            } else {
                self.log_retention_hours * 3_600_000
            })
    }

    /// Age at which a segment is rolled by default, in milliseconds.
    pub fn roll_ms(&self) -> i64 {
        self.log_roll_ms.unwrap_or(self.log_roll_hours * 3_600_000)
    }
}

/// Begins the variables of settings.
const VARIABLE_PREFIX: &str = "MILLSTREAM_";

/// The known name that a mistyped one is nearest to, where one is near.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len() / 3 + 1)
        .map(|(_, known)| known)
}

/// The variable of a setting that another one was surely meant for. Those of other programs begin as ours do.
fn nearly<'a>(variable: &str, mut known: impl Iterator<Item = &'a String>) -> Option<&'a String> {
    known.find(|known| {
        variable.starts_with(VARIABLE_PREFIX) && strsim::damerau_levenshtein(variable, known) <= 2
    })
}

/// The environment variable of a setting.
pub fn environment_variable(name: &str) -> String {
    let name = name.strip_prefix("millstream.").unwrap_or(name);
    format!(
        "{VARIABLE_PREFIX}{}",
        name.replace(['.', '-'], "_").to_ascii_uppercase()
    )
}

fn within<T: PartialOrd + fmt::Display>(value: &T, min: T, max: T) -> Result<(), String> {
    if *value < min || *value > max {
        Err(format!("is not within {min} and {max}"))
    } else {
        Ok(())
    }
}

fn parse_number<T: FromStr>(text: &str) -> Result<T, String> {
    text.replace('_', "")
        .parse()
        .map_err(|_| "is not a number of the right size".to_owned())
}

impl SettingValue for bool {
    const KIND: &'static str = "boolean";
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("is neither true nor false".to_owned()),
        }
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for i32 {
    const KIND: &'static str = "int";
    fn parse(text: &str) -> Result<Self, String> {
        parse_number(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for i64 {
    const KIND: &'static str = "long";
    fn parse(text: &str) -> Result<Self, String> {
        parse_number(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl SettingValue for String {
    const KIND: &'static str = "string";
    fn parse(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
    fn show(&self) -> String {
        self.clone()
    }
}

impl SettingValue for Migration {
    const KIND: &'static str = "string";
    fn parse(text: &str) -> Result<Self, String> {
        Self::from_name(text).ok_or_else(|| "is not bidirectional, upgrade, downgrade or disabled".to_owned())
    }
    fn show(&self) -> String {
        self.name().to_owned()
    }
}

impl SettingValue for Vec<Assignor> {
    const KIND: &'static str = "list";
    fn parse(text: &str) -> Result<Self, String> {
        let mut assignors = Self::new();
        for name in text.split(',') {
            match Assignor::from_name(name.trim()) {
                Some(assignor) if !assignors.contains(&assignor) => assignors.push(assignor),
                Some(_) => return Err("names an assignor twice".to_owned()),
                None => return Err("is not a list of uniform and range".to_owned()),
            }
        }
        Ok(assignors)
    }
    fn show(&self) -> String {
        let names: Vec<_> = self.iter().map(|assignor| assignor.name()).collect();
        names.join(",")
    }
}

impl<T: SettingValue> SettingValue for Option<T> {
    const KIND: &'static str = T::KIND;
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            Ok(None)
        } else {
            T::parse(text).map(Some)
        }
    }
    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }
}

#[cfg(test)]
impl Settings {
    /// Of a broker in a test: alone, in this directory, on any free ports.
    pub(crate) fn of_test(directory: &std::path::Path) -> Self {
        Self {
            data_dir: directory.display().to_string(),
            kafka_listen: "127.0.0.1:0".to_owned(),
            http_listen: "127.0.0.1:0".to_owned(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_setting_names_the_nearest() {
        let error = Settings::default().set("log.segment.byte", "1").unwrap_err();
        assert_eq!(
            error.to_string(),
            "unknown setting 'log.segment.byte'; did you mean 'log.segment.bytes'?"
        );
        let error = Settings::default().set("xyzzy", "1").unwrap_err();
        assert_eq!(error.to_string(), "unknown setting 'xyzzy'");
    }

    #[test]
    fn a_value_out_of_range_is_refused() {
        let mut settings = Settings::default();
        assert!(settings.set("num.partitions", "0").is_err());
        assert!(settings.set("num.partitions", "six").is_err());
        settings.set("num.partitions", "6").unwrap();
        assert_eq!(settings.num_partitions, 6);
    }

    #[test]
    fn a_policy_is_one_of_kafkas_in_whatever_case() {
        let (mut settings, name) = (Settings::default(), "group.consumer.migration.policy");
        assert_eq!(settings.show()[name], "bidirectional");
        settings.set(name, "Upgrade").unwrap();
        assert_eq!(settings.show()[name], "upgrade");
        assert!(settings.set(name, "sideways").is_err());
    }

    #[test]
    fn assignors_are_kafkas_names_in_an_order_that_counts() {
        let (mut settings, name) = (Settings::default(), "group.consumer.assignors");
        assert_eq!(settings.show()[name], "uniform,range");
        settings.set(name, "range, uniform").unwrap();
        assert_eq!(settings.consumer_groups().assignors[0], Assignor::Range);
        for wrong in ["", "uniform,", "range,range", "sticky"] {
            assert!(settings.set(name, wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_groups_get_has_to_be_what_a_group_could_set() {
        let with = |set: &[(&str, &str)]| {
            let mut settings = Settings::default();
            set.iter()
                .for_each(|(name, value)| settings.set(name, value).unwrap());
            settings.check().map_err(|error| error.to_string())
        };
        let session = ("group.consumer.session.timeout.ms", "10000");
        let limit = ("group.consumer.min.session.timeout.ms", "6000");
        assert_eq!(with(&[]), Ok(()));
        assert_eq!(with(&[session, limit]), Ok(()));
        for (wrong, says) in [
            (vec![session], "45000 and 60000"),
            (
                vec![("group.consumer.max.session.timeout.ms", "40000")],
                "45000 and 40000",
            ),
            (
                vec![("group.consumer.heartbeat.interval.ms", "4999")],
                "5000 and 15000",
            ),
            (
                vec![("group.consumer.assignment.interval.ms", "15001")],
                "0 and 15000",
            ),
            (
                vec![session, limit, ("group.consumer.heartbeat.interval.ms", "10000")],
                "heartbeat.interval.ms, 10000",
            ),
            (
                vec![("group.max.session.timeout.ms", "5999")],
                "max.session.timeout.ms, 5999",
            ),
        ] {
            let error = with(&wrong).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn file_and_environment_reach_the_same_settings() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("broker.toml");
        std::fs::write(
            &file,
            "num.partitions = 3\n[log]\nsegment.bytes = 2097152\n\"retention.ms\" = 5\n",
        )
        .unwrap();
        let mut settings = Settings::default();
        settings.load_file(&file).unwrap();
        settings
            .load_env(
                [
                    ("MILLSTREAM_DATA_DIR".to_owned(), "/x".to_owned()),
                    ("MILLSTREAM_BOOTSTRAP".into(), "y".into()),
                ]
                .into_iter(),
            )
            .unwrap();
        assert_eq!(
            (settings.num_partitions, settings.log_segment_bytes),
            (3, 2_097_152)
        );
        assert_eq!((settings.retention_ms(), settings.data_dir.as_str()), (5, "/x"));
    }

    #[test]
    fn every_setting_shows_a_value_that_it_accepts() {
        let mut settings = Settings::default();
        for (name, value) in settings.clone().show() {
            settings.set(name, &value).unwrap_or_else(|e| panic!("{e}"));
        }
        assert_eq!(settings, Settings::default());
    }
}
