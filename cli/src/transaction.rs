//! `millstream transaction`: what transactional producers are doing, and ending what nobody else ends.
//!
//! Means what Kafka's `kafka-transactions` means (KIP-664).

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use millstream_client::{
    Admin, Client, ErrorCode, ProducerDescription, TopicPartition, TransactionDescription, TransactionFilter,
};
use serde_json::{Value, json};

use crate::Global;
use crate::amount::{parse_duration, show_duration};
use crate::confirm::confirmed;
use crate::output::{Format, Rows};
use crate::time::show_time;
use crate::topic::done;

/// Transactions.
#[derive(Debug, Subcommand)]
pub enum TransactionCommand {
    /// Lists transactional ids, their coordinators and states
    #[command(after_help = "Example:\n  millstream transaction list --state Ongoing")]
    List {
        /// Only those in this state, such as Ongoing or CompleteCommit; may be repeated
        #[arg(long = "state")]
        states: Vec<String>,
        /// Only that of this producer; may be repeated
        #[arg(long = "producer-id", value_name = "ID")]
        producers: Vec<i64>,
    },
    /// Shows a transactional id: its producer, how long its transaction takes already, and where it writes
    #[command(after_help = "Example:\n  millstream transaction describe orders-1")]
    Describe {
        /// The transactional id
        id: String,
    },
    /// Finds partitions with open transactions that their coordinator does not know or should have ended
    #[command(after_help = "Example:\n  millstream transaction find-hanging --topic orders --min-age 5m")]
    FindHanging(HangingArgs),
    /// Ends a transaction that hangs, in one partition: what it wrote there is never seen
    #[command(after_help = ABORT_EXAMPLE)]
    Abort(AbortArgs),
}

/// What `transaction find-hanging` takes.
#[derive(Debug, Args)]
pub struct HangingArgs {
    /// Only partitions of this topic; by default all of them
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition of the topic
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Only transactions that wrote nothing for so long: 15m, 60s, 0s
    #[arg(long, default_value = "15m", value_name = "TIME", value_parser = parse_duration)]
    min_age: Duration,
}

/// What `transaction abort` takes.
#[derive(Debug, Args)]
pub struct AbortArgs {
    /// Name of the topic
    #[arg(long)]
    topic: String,
    /// The partition
    #[arg(long)]
    partition: i32,
    /// Offset at which the transaction begins there, as find-hanging shows it
    #[arg(long, value_name = "OFFSET", required_unless_present = "producer_id")]
    start_offset: Option<i64>,
    /// Producer whose transaction it is
    #[arg(long, value_name = "ID")]
    producer_id: Option<i64>,
    /// Does not ask first
    #[arg(long)]
    yes: bool,
}

/// Runs a command.
pub async fn run(global: &Global, command: TransactionCommand) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    match command {
        TransactionCommand::List { states, producers } => {
            list(global, &admin, TransactionFilter { states, producers }).await
        }
        TransactionCommand::Describe { id } => describe(global, &admin, &id).await,
        TransactionCommand::FindHanging(args) => find_hanging(global, &client, &admin, &args).await,
        TransactionCommand::Abort(args) => abort(global, &client, &admin, &args).await,
    }
}

async fn list(global: &Global, admin: &Admin, filter: TransactionFilter) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["transactional_id", "coordinator", "producer_id", "state"]);
    for listed in admin.list_transactions(&filter).await? {
        rows.push([
            json!(listed.id),
            json!(listed.coordinator),
            json!(listed.producer_id),
            json!(listed.state),
        ]);
    }
    Ok(rows.print(global.output)?)
}

async fn describe(global: &Global, admin: &Admin, id: &str) -> anyhow::Result<()> {
    let described = admin.describe_transaction(id).await?.with_context(|| {
        format!("transactional id '{id}' does not exist; 'millstream transaction list' shows those that do")
    })?;
    let is_table = global.output == Format::Table;
    let mut rows = Rows::new(match is_table {
        true => &DESCRIBED,
        false => &DESCRIBED_IN_JSON,
    });
    let age = described
        .started_ms
        .map(|started| now_ms().saturating_sub(started).max(0));
    let time = |at: Option<i64>| match is_table {
        true => json!(at.map(show_time)),
        false => json!(at),
    };
    let span = |ms: Option<i64>| match is_table {
        true => json!(ms.map(show_duration)),
        false => json!(ms),
    };
    let partitions = described.partitions.iter().map(ToString::to_string);
    let partitions: Vec<String> = partitions.collect();
    rows.push([
        json!(described.id),
        json!(described.coordinator),
        json!(described.state),
        json!(described.producer_id),
        json!(described.producer_epoch),
        span(Some(described.timeout_ms.into())),
        time(described.started_ms),
        span(age),
        // A line that says nothing is left out.
        match is_table && partitions.is_empty() {
            true => Value::Null,
            false => json!(partitions),
        },
    ]);
    Ok(rows.print_one(global.output)?)
}

/// A transaction that nobody ends.
#[derive(Debug)]
struct Hanging {
    at: TopicPartition,
    producer: ProducerDescription,
    start: i64,
    transactional_id: Option<String>,
    reason: String,
}

async fn find_hanging(
    global: &Global,
    client: &Client,
    admin: &Admin,
    args: &HangingArgs,
) -> anyhow::Result<()> {
    let partitions = partitions(client, args.topic.as_deref(), args.partition).await?;
    let latest = now_ms().saturating_sub(i64::try_from(args.min_age.as_millis()).unwrap_or(i64::MAX));
    let mut open = Vec::new();
    for (at, told) in admin.describe_producers(&partitions).await? {
        match told {
            Ok(producers) => {
                let old = producers
                    .into_iter()
                    .filter(|known| known.last_timestamp_ms <= latest);
                open.extend(old.filter_map(|known| Some((at.clone(), known, known.transaction_start?))));
            }
            // Nobody writes to a view.
            Err(error) if error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => eprintln!("warning: not looked at: {error}"),
        }
    }
    let hanging = judge(admin, open).await?;
    show_hanging(global, hanging)
}

/// The partitions of a topic, or one of them, or all that there are.
async fn partitions(
    client: &Client,
    topic: Option<&str>,
    partition: Option<i32>,
) -> anyhow::Result<Vec<TopicPartition>> {
    let topics = match topic {
        Some(name) => vec![client.topic(name, false).await?],
        None => client.all_topics().await?.topics.values().cloned().collect(),
    };
    let all = topics.iter().flat_map(|topic| {
        let at = |index| TopicPartition::new(&topic.name, index);
        topic.partitions.iter().map(move |known| at(known.index))
    });
    let wanted: Vec<_> = all
        .filter(|at| partition.is_none_or(|wanted| wanted == at.partition))
        .collect();
    if let (Some(name), Some(partition), true) = (topic, partition, wanted.is_empty()) {
        bail!("topic '{name}' has no partition {partition}; 'millstream topic describe' shows those it has");
    }
    Ok(wanted)
}

/// Keeps of open transactions those that their coordinators will not end.
async fn judge(
    admin: &Admin,
    open: Vec<(TopicPartition, ProducerDescription, i64)>,
) -> anyhow::Result<Vec<Hanging>> {
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let mut producers: Vec<i64> = open.iter().map(|(_, producer, _)| producer.producer_id).collect();
    producers.sort_unstable();
    producers.dedup();
    let filter = TransactionFilter {
        producers,
        ..Default::default()
    };
    let listed = admin.list_transactions(&filter).await?;
    let ids: BTreeMap<i64, String> = listed
        .into_iter()
        .map(|found| (found.producer_id, found.id))
        .collect();
    let mut described: BTreeMap<&str, Option<TransactionDescription>> = BTreeMap::new();
    for id in ids.values() {
        described.insert(id, admin.describe_transaction(id).await?);
    }
    let now = now_ms();
    let judged = open.into_iter().filter_map(|(at, producer, start)| {
        let id = ids.get(&producer.producer_id);
        let known = id
            .and_then(|id| described.get(id.as_str()))
            .and_then(Option::as_ref);
        Some(Hanging {
            reason: reason(known, &at, now)?,
            transactional_id: id.cloned(),
            at,
            producer,
            start,
        })
    });
    Ok(judged.collect())
}

/// Why a transaction that is open in a partition hangs, of what its coordinator knows; nothing if it does not hang.
fn reason(known: Option<&TransactionDescription>, at: &TopicPartition, now_ms: i64) -> Option<String> {
    let Some(known) = known else {
        return Some("no coordinator knows its producer".to_owned());
    };
    if !known.partitions.contains(at) {
        return Some(format!(
            "the partition is not in its coordinator's transaction ({})",
            known.state
        ));
    }
    let age = known.started_ms.map(|started| now_ms.saturating_sub(started));
    let is_late = age.is_some_and(|age| age > i64::from(known.timeout_ms) + TIMEOUT_SLACK_MS);
    is_late.then(|| {
        let (age, timeout) = (
            show_duration(age.unwrap_or(0)),
            show_duration(known.timeout_ms.into()),
        );
        format!("it takes {age}, and its time-out is {timeout} ({})", known.state)
    })
}

fn show_hanging(global: &Global, hanging: Vec<Hanging>) -> anyhow::Result<()> {
    let is_table = global.output == Format::Table;
    let mut rows = Rows::new(match is_table {
        true => &HANGING,
        false => &HANGING_IN_JSON,
    });
    let now = now_ms();
    for found in hanging {
        let last = found.producer.last_timestamp_ms;
        rows.push([
            json!(found.at.topic),
            json!(found.at.partition),
            json!(found.producer.producer_id),
            json!(found.producer.producer_epoch),
            json!(found.start),
            match is_table {
                true => json!(format!("{} ago", show_duration(now.saturating_sub(last)))),
                false => json!(last),
            },
            json!(found.transactional_id),
            json!(found.reason),
        ]);
    }
    Ok(rows.print(global.output)?)
}

async fn abort(global: &Global, client: &Client, admin: &Admin, args: &AbortArgs) -> anyhow::Result<()> {
    let (topic, partition) = (args.topic.as_str(), args.partition);
    let wanted = partitions(client, Some(topic), Some(partition)).await?;
    let at = TopicPartition::new(topic, partition);
    let told = admin.describe_producers(&wanted).await?.remove(&at);
    let producers = told.with_context(|| format!("nothing is known of {at}"))??;
    let open = producers
        .into_iter()
        .filter_map(|known| Some((known, known.transaction_start?)));
    let found = open.into_iter().find(|(known, start)| {
        args.start_offset.is_none_or(|offset| offset == *start)
            && args.producer_id.is_none_or(|id| id == known.producer_id)
    });
    let Some((producer, start)) = found else {
        let what = match (args.start_offset, args.producer_id) {
            (Some(offset), None) => format!("that begins at offset {offset}"),
            (None, Some(id)) => format!("of producer {id}"),
            (offset, id) => format!(
                "of producer {} that begins at offset {}",
                id.unwrap_or(-1),
                offset.unwrap_or(-1)
            ),
        };
        bail!(
            "in {at} no transaction is open {what}; 'millstream transaction find-hanging' shows those that hang"
        );
    };
    let id = producer.producer_id;
    if !args.yes && !confirmed(&question(admin, &at, &producer, start).await?)? {
        bail!("nothing was done; --yes aborts without asking");
    }
    admin.abort_in_partition(&at, &producer).await?;
    done(
        global,
        &format!("aborted the transaction of producer {id} in {at}, which began at offset {start}"),
        json!({"topic": topic, "partition": partition, "producer_id": id, "start_offset": start, "aborted": true}),
    )
}

/// What a person is asked, who may not know that the transaction goes on.
async fn question(
    admin: &Admin,
    at: &TopicPartition,
    producer: &ProducerDescription,
    start: i64,
) -> anyhow::Result<String> {
    let id = producer.producer_id;
    let hanging = judge(admin, vec![(at.clone(), *producer, start)]).await?;
    let state = match hanging.first() {
        Some(found) => format!("It hangs: {}", found.reason),
        None => {
            "It does not hang: its coordinator will end it, and what it writes elsewhere may be committed"
                .to_owned()
        }
    };
    Ok(format!(
        "Producer {id} has a transaction in {at} since offset {start}. {state}. Readers of committed records will never see \
         what it wrote here. Type 'yes' to abort"
    ))
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

const DESCRIBED: [&str; 9] = [
    "transactional_id",
    "coordinator",
    "state",
    "producer_id",
    "producer_epoch",
    "timeout",
    "started",
    "age",
    "partitions",
];
const DESCRIBED_IN_JSON: [&str; 9] = [
    "transactional_id",
    "coordinator",
    "state",
    "producer_id",
    "producer_epoch",
    "timeout_ms",
    "started_ms",
    "age_ms",
    "partitions",
];
const HANGING: [&str; 8] = [
    "topic",
    "partition",
    "producer_id",
    "producer_epoch",
    "start_offset",
    "last_write",
    "transactional_id",
    "reason",
];
const HANGING_IN_JSON: [&str; 8] = [
    "topic",
    "partition",
    "producer_id",
    "producer_epoch",
    "start_offset",
    "last_write_ms",
    "transactional_id",
    "reason",
];
/// How long a coordinator may take, beyond a transaction's time-out, until it has ended it everywhere.
const TIMEOUT_SLACK_MS: i64 = 30_000;

const ABORT_EXAMPLE: &str = "\
Examples:
  millstream transaction abort --topic orders --partition 0 --start-offset 42
  millstream transaction abort --topic orders --partition 0 --producer-id 7 \\
      --yes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_hangs_where_its_coordinator_will_not_end_it() {
        let (here, elsewhere) = (TopicPartition::new("t", 0), TopicPartition::new("t", 1));
        let known = |partitions: &[&TopicPartition], started_ms| TransactionDescription {
            id: "x".to_owned(),
            coordinator: 1,
            state: "Ongoing".to_owned(),
            producer_id: 7,
            producer_epoch: 0,
            timeout_ms: 60_000,
            started_ms,
            partitions: partitions.iter().map(|at| (*at).clone()).collect(),
        };
        let judged = |known: Option<&TransactionDescription>| reason(known, &here, 1_000_000);
        assert_eq!(judged(None).unwrap(), "no coordinator knows its producer");
        let other = judged(Some(&known(&[&elsewhere], Some(999_000)))).unwrap();
        assert!(other.contains("not in its coordinator's transaction"), "{other}");
        assert_eq!(judged(Some(&known(&[&elsewhere, &here], Some(999_000)))), None);
        assert_eq!(
            judged(Some(&known(
                &[&here],
                Some(1_000_000 - 60_000 - TIMEOUT_SLACK_MS)
            ))),
            None
        );
        let late = judged(Some(&known(&[&here], Some(0)))).unwrap();
        assert_eq!(late, "it takes 16 m 40 s, and its time-out is 1 m 0 s (Ongoing)");
    }
}
