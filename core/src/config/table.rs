//! The table of topic configurations.

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub struct Definition {
    /// Kafka's name, or one of ours that begins with `millstream.`.
    pub name: &'static str,
    /// Type of the value.
    pub kind: Kind,
    /// Value of a topic and a broker that set nothing; none for what has no value then.
    pub default: Option<&'static str>,
    /// Smallest and largest number allowed.
    pub range: Option<(i64, i64)>,
    /// The only texts allowed; empty if any is.
    pub choices: &'static [&'static str],
    /// The broker's settings that give the default, the strongest first.
    pub synonyms: &'static [Synonym],
    /// Whether a view may set it. What concerns storing or producing it may not.
    pub for_views: bool,
    /// What it means; says so where the value is only kept for Kafka's tools and changes nothing.
    pub doc: &'static str,
}

/// Type of a value, as `DescribeConfigs` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Boolean,
    /// A text.
    String,
    /// A number of 32 bits.
    Int,
    /// A number of 64 bits.
    Long,
    /// A number with a fraction.
    Double,
    /// Texts with commas between them.
    List,
}

/// A broker setting that gives the default of a topic configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// Name of the broker setting.
    pub name: &'static str,
    /// One of its units in units of the topic configuration: an hour is 3,600,000 milliseconds.
    pub factor: i64,
}

const fn same(name: &'static str) -> Synonym {
    Synonym { name, factor: 1 }
}

const fn line(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Definition {
    Definition {
        name,
        kind,
        default: Some(default),
        range: None,
        choices: &[],
        synonyms: &[],
        for_views: false,
        doc,
    }
}

const fn optional(name: &'static str, for_views: bool, doc: &'static str) -> Definition {
    Definition {
        default: None,
        for_views,
        ..line(name, Kind::String, "", doc)
    }
}

impl Definition {
    const fn from(mut self, synonyms: &'static [Synonym]) -> Self {
        self.synonyms = synonyms;
        self
    }

    const fn within(mut self, min: i64, max: i64) -> Self {
        self.range = Some((min, max));
        self
    }

    const fn one_of(mut self, choices: &'static [&'static str]) -> Self {
        self.choices = choices;
        self
    }

    const fn also_for_views(mut self) -> Self {
        self.for_views = true;
        self
    }
}

const INT_MAX: i64 = i32::MAX as i64;
const LONG_MAX: i64 = i64::MAX;

/// Every topic configuration, in the order of names.
pub const DEFINITIONS: &[Definition] = &[
    line("cleanup.policy", Kind::List, "delete", "What becomes of old records: 'delete' removes them by time and size; 'compact' keeps at least the last one of every key, and for now all of them; with both, old ones are removed.")
        .one_of(&["delete", "compact"])
        .from(&[same("log.cleanup.policy")]),
    line("compression.type", Kind::String, "producer", "How batches are compressed when stored; 'producer' keeps what the client sent.")
        .one_of(&["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"])
        .from(&[same("compression.type")]),
    line("delete.retention.ms", Kind::Long, "86400000", "How long a compacted topic keeps tombstones, in milliseconds. Kept for Kafka's tools; changes nothing, as they are all kept.")
        .within(0, LONG_MAX)
        .from(&[same("log.cleaner.delete.retention.ms")]),
    line("file.delete.delay.ms", Kind::Long, "60000", "How long the files of a deleted segment stay on the disk, in milliseconds.")
        .within(0, LONG_MAX)
        .from(&[same("log.segment.delete.delay.ms")]),
    line("flush.messages", Kind::Long, "9223372036854775807", "Records between two syncs in Kafka. Kept for Kafka's tools; what is acknowledged is synced anyway, see millstream.flush.")
        .within(1, LONG_MAX)
        .from(&[same("log.flush.interval.messages")]),
    line("flush.ms", Kind::Long, "9223372036854775807", "Time between two syncs in Kafka, in milliseconds. Kept for Kafka's tools; what is acknowledged is synced anyway, see millstream.flush.")
        .within(0, LONG_MAX)
        .from(&[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")]),
    line("follower.replication.throttled.replicas", Kind::List, "", "Replicas that, while they catch up, take no more than their broker's follower.replication.throttled.rate: PARTITION:BROKER with commas between them, or '*'. All, where the topic names none."),
    line("index.interval.bytes", Kind::Int, "4096", "Bytes of log between two entries of the offset index.")
        .within(0, INT_MAX)
        .from(&[same("log.index.interval.bytes")]),
    line("leader.replication.throttled.replicas", Kind::List, "", "Leaders, as PARTITION:BROKER with commas between them, or '*', that give followers which catch up no more than leader.replication.throttled.rate. All, where the topic names none."),
    line("max.compaction.lag.ms", Kind::Long, "9223372036854775807", "Longest time that a record stays uncompacted, in milliseconds. Kept for Kafka's tools; changes nothing: none is compacted away.")
        .within(1, LONG_MAX)
        .from(&[same("log.cleaner.max.compaction.lag.ms")]),
    line("max.message.bytes", Kind::Int, "1048588", "Largest record batch that is accepted, in bytes, after compression.")
        .within(0, INT_MAX)
        .from(&[same("message.max.bytes")]),
    line("message.timestamp.after.max.ms", Kind::Long, "3600000", "How far a record's timestamp may lie after the broker's clock, in milliseconds (KIP-937).")
        .within(0, LONG_MAX)
        .from(&[same("log.message.timestamp.after.max.ms")]),
    line("message.timestamp.before.max.ms", Kind::Long, "9223372036854775807", "How far a record's timestamp may lie before the broker's clock, in milliseconds (KIP-937).")
        .within(0, LONG_MAX)
        .from(&[same("log.message.timestamp.before.max.ms")]),
    line("message.timestamp.type", Kind::String, "CreateTime", "Whether records keep the client's timestamp (CreateTime) or get the broker's (LogAppendTime).")
        .one_of(&["CreateTime", "LogAppendTime"])
        .from(&[same("log.message.timestamp.type")]),
    line("millstream.flush", Kind::String, "always", "What acks=all waits for: 'always' the disk, 'replicated' only the copies in memory, as Kafka does.")
        .one_of(&["always", "replicated"]),
    optional("millstream.ingest", false, "Filter and transform plugins that every record passes on its way in: a JSON list of {\"plugin\": \"NAME@VERSION\", \"config\": ..., \"on-error\": \"fail|skip|dead-letter:TOPIC\"}."),
    line("millstream.ingest.on-error", Kind::String, "fail", "What happens to records that an ingest plugin fails on: fail (the batch is refused), skip (they are dropped), or dead-letter:TOPIC."),
    optional("millstream.partitioner", false, "Plugin that chooses the partition of every record: NAME, NAME@VERSION or NAME@latest."),
    optional("millstream.partitioner.config", false, "Configuration that the partitioner gets."),
    line("millstream.partitioner.on-error", Kind::String, "fail", "What happens when the partitioner fails: fail (the batch is refused) or skip (records stay on the partition that the client chose)."),
    line("millstream.view.on-error", Kind::String, "fail", "What happens to records that a plugin of the view fails on: fail (the fetch fails) or skip (they are left out).")
        .also_for_views(),
    optional("millstream.view.plugins", true, "Plugins that compute the view: a JSON list of {\"plugin\": \"NAME@VERSION\", \"config\": ..., \"on-error\": \"fail|skip\"}."),
    optional("millstream.view.source", true, "Topic that this topic is a view of. A view stores nothing: it is computed when it is read."),
    line("min.cleanable.dirty.ratio", Kind::Double, "0.5", "Share of a log that may be dirty before it is compacted. Kept for Kafka's tools; changes nothing: none is compacted.")
        .within(0, 1)
        .from(&[same("log.cleaner.min.cleanable.ratio")]),
    line("min.compaction.lag.ms", Kind::Long, "0", "Shortest time that a record stays uncompacted, in milliseconds. Kept for Kafka's tools; changes nothing: none is compacted away.")
        .within(0, LONG_MAX)
        .from(&[same("log.cleaner.min.compaction.lag.ms")]),
    line("min.insync.replicas", Kind::Int, "1", "Copies that must exist before acks=all is answered.")
        .within(1, INT_MAX)
        .from(&[same("min.insync.replicas")]),
    line("preallocate", Kind::Boolean, "false", "Whether Kafka reserves the space of a segment. Kept for Kafka's tools; changes nothing.")
        .from(&[same("log.preallocate")]),
    line("remote.storage.enable", Kind::Boolean, "false", "Whether old segments move to remote storage. Only false is built."),
    line("retention.bytes", Kind::Long, "-1", "Bytes that a partition keeps; -1 is without limit.")
        .within(-1, LONG_MAX)
        .from(&[same("log.retention.bytes")]),
    line("retention.ms", Kind::Long, "604800000", "How long records are kept, in milliseconds; -1 is for ever.")
        .within(-1, LONG_MAX)
        .from(&[
            same("log.retention.ms"),
            Synonym { name: "log.retention.minutes", factor: 60_000 },
            Synonym { name: "log.retention.hours", factor: 3_600_000 },
        ]),
    line("segment.bytes", Kind::Int, "1073741824", "Size at which a new segment file is begun, in bytes.")
        .within(1_048_576, INT_MAX)
        .from(&[same("log.segment.bytes")]),
    line("segment.index.bytes", Kind::Int, "10485760", "Largest size of an index file, in bytes.")
        .within(4, INT_MAX)
        .from(&[same("log.index.size.max.bytes")]),
    line("segment.jitter.ms", Kind::Long, "0", "Random part of segment.ms that Kafka takes off. Kept for Kafka's tools; changes nothing.")
        .within(0, LONG_MAX)
        .from(&[same("log.roll.jitter.ms"), Synonym { name: "log.roll.jitter.hours", factor: 3_600_000 }]),
    line("segment.ms", Kind::Long, "604800000", "Age at which a new segment file is begun, in milliseconds.")
        .within(1, LONG_MAX)
        .from(&[same("log.roll.ms"), Synonym { name: "log.roll.hours", factor: 3_600_000 }]),
    line("unclean.leader.election.enable", Kind::Boolean, "false", "Whether a replica that may have lost records can be elected by itself. Only false is built.")
        .from(&[same("unclean.leader.election.enable")]),
];
