//! Kafka's own tool reads what we write, without a complaint.
//!
//! Needs `java` and `KAFKA_CLASSPATH`, a class path with Apache Kafka. Without them the test says that it did nothing;
//! with `CI=true` it fails instead.

#![allow(
    clippy::unwrap_used,
    reason = "a test panics when something is not as it must be"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use millstream_core::ids::LeaderEpoch;
use millstream_kafka::records::{BatchBuilder, Compression};
use millstream_storage::disk::RealDisk;
use millstream_storage::{EndMarker, Log, LogConfig};

#[test]
fn kafka_reads_our_segments_indexes_and_snapshots() {
    let Ok(class_path) = std::env::var("KAFKA_CLASSPATH") else {
        assert_ne!(
            std::env::var("CI").as_deref(),
            Ok("true"),
            "KAFKA_CLASSPATH must be set in CI"
        );
        eprintln!("KAFKA_CLASSPATH is not set: Kafka's tool was not asked");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let partition = dir.path().join("flights-0");
    let Written {
        records,
        aborted,
        open,
    } = write_log(&partition);
    let files = |extension: &str| -> Vec<PathBuf> {
        let all = std::fs::read_dir(&partition)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = all
            .filter(|path| path.extension().is_some_and(|e| e == extension))
            .collect();
        files.sort();
        files
    };
    assert!(files("log").len() > 2, "several segments");

    let segments = dump(
        &class_path,
        &["--deep-iteration", "--print-data-log"],
        &files("log"),
    );
    assert_eq!(segments.matches("| offset:").count(), records);
    assert_eq!(
        segments
            .matches("endTxnMarker: ABORT coordinatorEpoch: 5")
            .count(),
        aborted.len()
    );
    assert!(!segments.contains("isvalid: false"), "{segments}");
    for check in ["--index-sanity-check", "--verify-index-only"] {
        let indexes = dump(&class_path, &[check], &files("index"));
        assert!(
            indexes.contains("passed sanity check") || check != "--index-sanity-check",
            "{indexes}"
        );
    }
    dump(&class_path, &[], &files("index"));
    dump(&class_path, &[], &files("timeindex"));
    let snapshots = dump(&class_path, &[], &files("snapshot"));
    assert!(snapshots.contains("producerId: 7 "), "{snapshots}");
    let last = dump(
        &class_path,
        &[],
        &files("snapshot")[files("snapshot").len() - 1..],
    );
    assert!(last.contains(&open), "{last}");

    assert_eq!(files("txnindex").len(), files("log").len());
    let told = dump(&class_path, &[], &files("txnindex"));
    let told: Vec<_> = told
        .lines()
        .filter(|line| line.starts_with("version: 0 "))
        .collect();
    assert_eq!(told, aborted);
}

struct Written {
    records: usize,
    /// What Kafka's tool says of each transaction that was aborted.
    aborted: Vec<String>,
    /// What it says of one that is open.
    open: String,
}

/// Several segments with all codecs, timestamps that go back at times, leader epochs, producers and transactions.
fn write_log(dir: &Path) -> Written {
    let config = LogConfig {
        segment_bytes: 200_000,
        index_interval_bytes: 4096,
        ..LogConfig::default()
    };
    let (mut log, _) = Log::open(RealDisk, dir, config, NOW).unwrap();
    let codecs = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let (mut records, mut sequence) = (0, 0);
    let mut transaction = Transaction::default();
    let mut aborted = Vec::new();
    for number in 0..1502_i64 {
        let mut builder = BatchBuilder::new().compression(codecs[number as usize % codecs.len()]);
        let count = 1 + (number % 7) as i32;
        if number % 3 == 0 {
            builder = builder.producer(7, 0, sequence);
            sequence += count;
        }
        for record in 0..count {
            let time = NOW + number * 10 - i64::from(record) - (number % 11) * 25;
            let value = format!(
                "flight {number} leg {record} {}",
                "x".repeat((number % 400) as usize)
            );
            builder
                .append(time, Some(b"key"), Some(value.as_bytes()), &[])
                .unwrap();
            records += 1;
        }
        log.append_as_leader(
            &builder.finish().unwrap(),
            LeaderEpoch((number / 400) as i32),
            NOW,
        )
        .unwrap();
        records += transaction.go_on(&mut log, number, &mut aborted);
        if number == 700 {
            log.sync().unwrap();
            log.write_checkpoint().unwrap();
        }
    }
    log.close().unwrap();
    let first = transaction.first.expect("the last one is open");
    Written {
        records,
        aborted,
        open: format!(
            "producerId: 8 producerEpoch: 3 coordinatorEpoch: 5 currentTxnFirstOffset: OptionalLong[{first}]"
        ),
    }
}

/// What one producer does between the batches of others.
#[derive(Default)]
struct Transaction {
    sequence: i32,
    first: Option<i64>,
}

impl Transaction {
    /// A record, or the end of the transaction that is open. Returns how many records the log has more.
    fn go_on(&mut self, log: &mut Log<RealDisk>, number: i64, aborted: &mut Vec<String>) -> usize {
        let epoch = LeaderEpoch((number / 400) as i32);
        if number % 30 == 29 {
            let is_commit = number % 60 == 29;
            let marker = EndMarker {
                producer_id: 8,
                producer_epoch: 3,
                is_commit,
                coordinator_epoch: 5,
                bumps_epoch: false,
            };
            let marker = log.append_marker(marker, epoch, NOW).unwrap().base_offset;
            let first = self.first.take().expect("it has records");
            if !is_commit {
                aborted.push(format!(
                    "version: 0 producerId: 8 firstOffset: {first} lastOffset: {marker} lastStableOffset: {}",
                    marker.next()
                ));
            }
            return 1;
        }
        if number % 4 != 0 {
            return 0;
        }
        let mut builder = BatchBuilder::new()
            .producer(8, 3, self.sequence)
            .transactional(true);
        builder.append(NOW, None, Some(b"part of it"), &[]).unwrap();
        let appended = log
            .append_as_leader(&builder.finish().unwrap(), epoch, NOW)
            .unwrap();
        self.first.get_or_insert(appended.base_offset.0);
        self.sequence += 1;
        1
    }
}

fn dump(class_path: &str, options: &[&str], files: &[PathBuf]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let mut java = Command::new("java");
    java.args(["-cp", class_path, "org.apache.kafka.tools.DumpLogSegments"])
        .args(options)
        .args(["--files", &names.join(",")]);
    let output = java.output().expect("java runs");
    let mut told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{told}");
    // The tool compares the first record of every segment with -1, also of segments that Kafka wrote.
    told = told
        .lines()
        .filter(|line| !line.starts_with("  -1 is followed by "))
        .collect::<Vec<_>>()
        .join("\n");
    for complaint in [
        "Exception",
        "mismatch",
        "out of order",
        "Index offset:",
        "is followed by",
    ] {
        let at = told.find(complaint);
        assert!(
            at.is_none(),
            "{options:?}: {}",
            told[at.unwrap_or(0)..].chars().take(500).collect::<String>()
        );
    }
    told
}

const NOW: i64 = 1_700_000_000_000;
