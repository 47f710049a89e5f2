//! A writer process is killed in the middle of its work, again and again: what it said was durable is there.
#![allow(
    clippy::unwrap_used,
    reason = "a test panics when something is not as it must be"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::BatchBuilder;
use millstream_storage::disk::RealDisk;
use millstream_storage::{Log, LogConfig};

#[test]
fn a_killed_writer_loses_nothing_that_it_acknowledged() {
    if let Some(dir) = std::env::var_os(WRITER_DIR) {
        write(Path::new(&dir));
    }
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("flights-0");
    let mut end = 0;
    for round in 1..=8_usize {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "a_killed_writer_loses_nothing_that_it_acknowledged",
                "--nocapture",
            ])
            .env(WRITER_DIR, &dir)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut acknowledgements =
            lines.filter_map(|line| line.strip_prefix("durable ")?.parse::<i64>().ok());
        let mut acknowledged = acknowledgements
            .by_ref()
            .nth(round * 7)
            .expect("the writer writes");
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said before it died counts as well.
        acknowledged = acknowledgements.last().unwrap_or(acknowledged);
        let (mut log, _) = Log::open(RealDisk, &dir, config(), NOW).unwrap();
        end = log.log_end_offset().0;
        assert!(end >= acknowledged, "acknowledged {acknowledged}, found {end}");
        log.verify().unwrap();
        if round % 2 == 0 {
            log.close().unwrap();
        }
    }
    let (log, recovery) = Log::open(RealDisk, &dir, config(), NOW).unwrap();
    assert_eq!((log.log_end_offset(), recovery.scanned_bytes), (Offset(end), 0));
}

/// Appends, syncs and says how far, until it is killed.
fn write(dir: &Path) -> ! {
    let (mut log, _) = Log::open(RealDisk, dir, config(), NOW).unwrap();
    let mut out = std::io::stdout();
    for number in 0_u64.. {
        let mut builder = BatchBuilder::new();
        builder
            .append(NOW, None, Some(&[number as u8; 900]), &[])
            .unwrap();
        log.append_as_leader(&builder.finish().unwrap(), LeaderEpoch(0), NOW)
            .unwrap();
        if number % 5 == 4 {
            log.sync().unwrap();
            writeln!(out, "\ndurable {}", log.flushed_offset()).unwrap();
        }
        if number % 31 == 30 {
            log.write_checkpoint().unwrap();
        }
    }
    unreachable!("it writes until it is killed")
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 40_000,
        ..LogConfig::default()
    }
}

const WRITER_DIR: &str = "MILLSTREAM_TEST_WRITER_DIR";
const NOW: i64 = 1_700_000_000_000;
