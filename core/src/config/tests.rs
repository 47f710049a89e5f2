//! Stories of topic configurations.

use super::*;

fn parse(set: &[(&str, &str)]) -> Result<TopicConfig, String> {
    parse_over(set, &[])
}

fn parse_over(set: &[(&str, &str)], broker: &[(&str, &str)]) -> Result<TopicConfig, String> {
    let overrides = set
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    let defaults = broker.iter().map(|(k, v)| (*k, *v)).collect();
    TopicConfig::parse(&overrides, &defaults).map_err(|error| error.to_string())
}

#[test]
fn a_topic_without_configuration_has_kafkas_defaults() {
    let config = parse(&[]).unwrap();
    assert_eq!(config.retention_ms, 7 * 24 * 3_600_000);
    assert_eq!(config.segment_bytes, 1 << 30);
    assert_eq!(config.max_message_bytes, 1_048_588);
    assert_eq!(config.timestamp_after_max_ms, 3_600_000);
    assert_eq!(config.compression, CompressionType::Producer);
    assert!(!config.log_append_time && !config.compact && config.deletes);
    assert_eq!(config.attachments().count(), 0);
}

#[test]
fn records_go_by_age_where_the_policy_says_so() {
    let policies = |value| {
        let config = parse(&[("cleanup.policy", value)]).unwrap();
        (config.compact, config.deletes)
    };
    assert_eq!(policies("delete"), (false, true));
    assert_eq!(policies("compact"), (true, false));
    assert_eq!(policies("compact, delete"), (true, true));
    assert!(parse(&[("cleanup.policy", "")]).is_err());
}

#[test]
fn the_brokers_settings_stand_behind_the_topics() {
    let broker = [
        ("log.retention.ms", ""),
        ("log.retention.hours", "2"),
        ("compression.type", "zstd"),
    ];
    let config = parse_over(&[], &broker).unwrap();
    assert_eq!(config.retention_ms, 7_200_000);
    assert_eq!(config.compression, CompressionType::Codec(Codec::Zstd));
    let config = parse_over(&[("retention.ms", "-1")], &broker).unwrap();
    assert_eq!(config.retention_ms, -1);
    let stronger = [("log.retention.ms", "5"), ("log.retention.hours", "2")];
    assert_eq!(parse_over(&[], &stronger).unwrap().retention_ms, 5);
    assert_eq!(
        parse_over(&[], &[("log.retention.hours", "-1")])
            .unwrap()
            .retention_ms,
        -1
    );
}

#[test]
fn wrong_configurations_are_refused_with_a_reason() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (
            &[("retention.mss", "1")],
            "unknown topic config 'retention.mss'; did you mean 'retention.ms'?",
        ),
        (
            &[("zzzzzzzzzzzzzzzzzzzzzzz", "1")],
            "unknown topic config 'zzzzzzzzzzzzzzzzzzzzzzz'",
        ),
        (
            &[("retention.ms", "-2")],
            "invalid value '-2' for topic config 'retention.ms': must be at least -1",
        ),
        (
            &[("segment.bytes", "3g")],
            "invalid value '3g' for topic config 'segment.bytes': not a number of 32 bits",
        ),
        (
            &[("flush.ms", "x")],
            "invalid value 'x' for topic config 'flush.ms': not a number of 64 bits",
        ),
        (
            &[("preallocate", "yes")],
            "invalid value 'yes' for topic config 'preallocate': expected value to be either true or false",
        ),
        (
            &[("min.cleanable.dirty.ratio", "2")],
            "invalid value '2' for topic config 'min.cleanable.dirty.ratio': must be a number from 0 to 1",
        ),
        (
            &[("compression.type", "brotli")],
            "invalid value 'brotli' for topic config 'compression.type': must be one of producer, uncompressed, gzip, snappy, lz4, zstd",
        ),
        (
            &[("leader.replication.throttled.replicas", "0:1,1")],
            "invalid value '0:1,1' for topic config 'leader.replication.throttled.replicas': must be '*', or replicas as PARTITION:BROKER with commas between them, such as 0:1,0:2",
        ),
        (
            &[("unclean.leader.election.enable", "true")],
            "topic config 'unclean.leader.election.enable=true' is not built: a leader that may have lost records is elected by hand only",
        ),
        (
            &[
                ("millstream.view.plugins", "[]"),
                ("millstream.view.source", "a b"),
            ],
            "invalid value 'a b' for topic config 'millstream.view.source': topic name 'a b' has ' '; allowed are a-z, A-Z, 0-9, '.', '_' and '-'",
        ),
        (
            &[("millstream.view.plugins", "[\"mask\"]")],
            "topic config 'millstream.view.plugins' needs 'millstream.view.source': only views run it",
        ),
        (
            &[("millstream.view.source", "a"), ("retention.ms", "1")],
            "topic config 'retention.ms' cannot be set on a view: a view stores nothing and takes no records",
        ),
        (
            &[("millstream.view.source", "a"), ("millstream.ingest", "[]")],
            "topic config 'millstream.ingest' cannot be set on a view: a view stores nothing and takes no records",
        ),
        (
            &[
                ("millstream.view.source", "a"),
                ("millstream.view.plugins", "[\"m\"]"),
                ("millstream.view.on-error", "dead-letter:d"),
            ],
            "topic config 'millstream.view.on-error' cannot be 'dead-letter' in a view: reading must not write",
        ),
        (
            &[("millstream.ingest", "{}")],
            "invalid value '{}' for topic config 'millstream.ingest': must be a JSON list",
        ),
        (
            &[("millstream.ingest", "[{\"plugin\":\"a\",\"x\":1}]")],
            "invalid value '[{\"plugin\":\"a\",\"x\":1}]' for topic config 'millstream.ingest': entry 0: unknown field 'x'; known are plugin, config, on-error, limits",
        ),
        (
            &[("millstream.ingest", "[{\"plugin\":\"a@1\"}]")],
            "invalid value '[{\"plugin\":\"a@1\"}]' for topic config 'millstream.ingest': entry 0: plugin version '1' is not like 1.2.3",
        ),
        (
            &[("millstream.partitioner.config", "{}")],
            "topic config 'millstream.partitioner.config' needs 'millstream.partitioner'",
        ),
        (
            &[
                ("millstream.partitioner", "p"),
                ("millstream.partitioner.on-error", "dead-letter:x"),
            ],
            "invalid value 'dead-letter:x' for topic config 'millstream.partitioner.on-error': a partitioner can fail or skip only",
        ),
    ];
    for (set, expected) in cases {
        assert_eq!(parse(set).unwrap_err(), *expected);
    }
}

#[test]
fn plugins_are_attached_by_configuration() {
    let config = parse(&[
        ("millstream.partitioner", "by-field"),
        ("millstream.partitioner.config", r#"{"pointer":"/carrier"}"#),
        ("millstream.ingest.on-error", "skip"),
        ("millstream.ingest", r#"["validate-json@latest", {"plugin": "mask@0.2.0", "config": {"pointers": ["/a"]}, "on-error": "dead-letter:bad", "limits": {"memory-bytes": 65536}}]"#),
    ])
    .unwrap();
    let partitioner = config.partitioner.as_ref().unwrap();
    assert_eq!(
        (
            partitioner.plugin.to_string().as_str(),
            partitioner.config.as_str()
        ),
        ("by-field@latest", r#"{"pointer":"/carrier"}"#)
    );
    assert_eq!(config.ingest[0].on_error, OnError::Skip);
    assert_eq!(config.ingest[1].plugin.to_string(), "mask@0.2.0");
    assert_eq!(config.ingest[1].config, r#"{"pointers":["/a"]}"#);
    assert_eq!(
        config.ingest[1].on_error,
        OnError::DeadLetter(TopicName::new("bad").unwrap())
    );
    assert_eq!(config.ingest[1].limits.memory_bytes, Some(65536));
    let roles: Vec<Role> = config.attachments().map(|(role, _)| role).collect();
    assert_eq!(roles, [Role::Partitioner, Role::Ingest, Role::Ingest]);
}

#[test]
fn every_line_of_the_table_stands_in_order_and_passes_its_own_check() {
    assert!(DEFINITIONS.windows(2).all(|pair| pair[0].name < pair[1].name));
    for definition in DEFINITIONS {
        if let Some(default) = definition.default {
            parse(&[("millstream.view.source", "a")]).unwrap();
            if !definition.for_views {
                parse(&[(definition.name, default)]).unwrap();
            }
        }
    }
}

#[test]
fn a_description_says_where_values_come_from() {
    let overrides = BTreeMap::from([("retention.ms".to_owned(), "9".to_owned())]);
    let defaults = [("log.retention.hours", "168"), ("log.segment.bytes", "2000000")]
        .into_iter()
        .collect();
    let all = describe(&overrides, &defaults);
    let find = |name: &str| all.iter().find(|d| d.name == name).unwrap();
    let retention = find("retention.ms");
    assert_eq!(
        (retention.value.as_deref(), retention.source),
        (Some("9"), Source::Topic)
    );
    assert_eq!(
        retention.synonyms[1],
        SynonymValue {
            name: "log.retention.hours",
            value: "168".to_owned(),
            source: Source::Default
        }
    );
    let segment = find("segment.bytes");
    assert_eq!(
        (segment.value.as_deref(), segment.source),
        (Some("2000000"), Source::StaticBroker)
    );
    assert_eq!(find("flush.ms").source, Source::Default);
    assert_eq!(find("millstream.partitioner").value, None);
}
