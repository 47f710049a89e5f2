//! `millstream consume`: prints records, alone or as a member of a group.

mod format;

use std::io::{self, BufWriter, Write};
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::{Args, ValueEnum};
use millstream_client::{
    ConsumedRecord, Consumer, ConsumerConfig, Isolation, OffsetReset, Start, TopicPartition,
};
use tokio::signal::unix::{SignalKind, signal};

use crate::Global;
use crate::output::Format;
use crate::time::parse_start;
use format::RecordFormat;

/// What `consume` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct ConsumeArgs {
    /// Topics or views to read
    #[arg(required = true)]
    topics: Vec<String>,
    /// Reads as a member of this group, and commits what was printed
    #[arg(long, short)]
    group: Option<String>,
    /// Where to begin: earliest, latest, an offset, @MILLISECONDS, or a time such as 2026-11-24T15:30:00Z. In a group,
    /// only where nothing is committed. Default: latest, or earliest with --exit-at-end
    #[arg(long, value_name = "PLACE", value_parser = |text: &str| parse_start(text).map_err(|e| format!("{e:#}")))]
    from: Option<Start>,
    /// Partition to read; may be repeated. Without it, all
    #[arg(long = "partition", short, conflicts_with = "group")]
    partitions: Vec<i32>,
    /// Ends after so many records
    #[arg(long, short)]
    max: Option<u64>,
    /// Ends when every partition was read to its end
    #[arg(long, short = 'e')]
    exit_at_end: bool,
    /// Ends when nothing has come for so many seconds
    #[arg(long, value_name = "SECONDS")]
    idle: Option<u64>,
    /// What is read of transactions
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::ReadUncommitted)]
    isolation: Level,
    /// json, value, or a template such as '{partition} {offset} {key}: {value}'
    #[arg(long, short, value_name = "FORMAT", value_parser = RecordFormat::parse)]
    format: Option<RecordFormat>,
}

/// What is read of transactions, in the words of Kafka's `isolation.level`.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Level {
    /// Everything, also what may still be aborted or was
    ReadUncommitted,
    /// What is committed
    ReadCommitted,
}

/// Prints records until there is a reason to end.
pub async fn run(global: &Global, args: ConsumeArgs) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let mut consumer = begin(&client, &args).await?;
    let format = args.format.clone().unwrap_or(match global.output {
        Format::Table => RecordFormat::Value,
        Format::Json => RecordFormat::Json,
    });
    let mut terminate = signal(SignalKind::terminate())?;
    let outcome = tokio::select! {
        outcome = print(&mut consumer, &args, &format) => outcome,
        _ = tokio::signal::ctrl_c() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let committed = if outcome.is_ok() && args.group.is_some() {
        commit(&mut consumer).await
    } else {
        Ok(())
    };
    // A group should not have to wait for a member that has only failed to print.
    let closed = consumer.close().await;
    outcome?;
    committed?;
    Ok(closed?)
}

async fn begin(client: &millstream_client::Client, args: &ConsumeArgs) -> anyhow::Result<Consumer> {
    let from = args.from.unwrap_or(if args.exit_at_end {
        Start::Earliest
    } else {
        Start::Latest
    });
    let config = ConsumerConfig {
        group: args.group.clone(),
        offset_reset: if from == Start::Latest {
            OffsetReset::Latest
        } else {
            OffsetReset::Earliest
        },
        isolation: match args.isolation {
            Level::ReadUncommitted => Isolation::ReadUncommitted,
            Level::ReadCommitted => Isolation::ReadCommitted,
        },
        ..ConsumerConfig::default()
    };
    let mut consumer = Consumer::new(client, config);
    if args.group.is_some() {
        if !matches!(from, Start::Earliest | Start::Latest) {
            bail!(
                "a group begins at earliest or latest; 'millstream group reset-offsets' moves it elsewhere"
            );
        }
        let topics: Vec<&str> = args.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).await?;
        return Ok(consumer);
    }
    let mut partitions = Vec::new();
    for topic in &args.topics {
        let count = client.topic(topic, false).await?.partitions.len() as i32;
        if args.partitions.is_empty() {
            partitions.extend((0..count).map(|partition| TopicPartition::new(topic, partition)));
        } else {
            partitions.extend(
                args.partitions
                    .iter()
                    .map(|partition| TopicPartition::new(topic, *partition)),
            );
        }
    }
    consumer.assign(&partitions, from).await?;
    Ok(consumer)
}

async fn print(consumer: &mut Consumer, args: &ConsumeArgs, format: &RecordFormat) -> anyhow::Result<()> {
    let mut out = BufWriter::with_capacity(OUTPUT_BYTES, io::stdout());
    let mut left = args.max.unwrap_or(u64::MAX);
    let (mut last, mut committed) = (Instant::now(), Instant::now());
    let mut line = Vec::new();
    while left > 0 {
        let mut records = consumer.poll(POLL).await?;
        if !records.is_empty() {
            last = Instant::now();
        }
        if records.len() as u64 > left {
            records.truncate(left as usize);
            read_on_after(consumer, &records);
        }
        left -= records.len() as u64;
        for record in &records {
            line.clear();
            format.write(record, &mut line);
            out.write_all(&line)?;
        }
        // A record is committed only once it was printed: a reader that went away has not seen it.
        out.flush()?;
        if args.group.is_some() && committed.elapsed() >= COMMIT_INTERVAL {
            commit(consumer).await?;
            committed = Instant::now();
        }
        let idle = args
            .idle
            .is_some_and(|seconds| last.elapsed() >= Duration::from_secs(seconds));
        if idle || args.exit_at_end && records.is_empty() && consumer.reached_end() {
            break;
        }
    }
    Ok(())
}

fn read_on_after(consumer: &mut Consumer, records: &[ConsumedRecord]) {
    if let Some(last) = records.last() {
        consumer.seek(
            &TopicPartition::new(&*last.topic, last.partition),
            last.offset + 1,
        );
    }
}

/// Commits; a group that rebalances meanwhile hands the records to another member, which is no failure.
async fn commit(consumer: &mut Consumer) -> anyhow::Result<()> {
    match consumer.commit().await {
        Err(error) if error.is_lost_membership() => Ok(()),
        done => Ok(done?),
    }
}

/// How long one look for records takes at most: Ctrl-C, `--idle` and `--exit-at-end` are looked at in between.
const POLL: Duration = Duration::from_millis(250);
/// Pause between two commits of a group's positions.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);
/// Printed bytes that are gathered before they are written.
const OUTPUT_BYTES: usize = 64 * 1024;

const EXAMPLE: &str = "\
Examples:
  millstream consume flights --from earliest --max 10 --format json
  millstream consume flights.delayed --group g1 --from earliest
  millstream consume flights.late -e --isolation read_committed
  millstream consume flights -e --format '{partition} {offset} {key}: {value}'";
