//! `millstream cluster rebalance` and `reassignments`: partitions move to other brokers, a few at a time.

use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use millstream_client::{Admin, ConfigChange, ConfigResource, Reassignment, TopicPartition};
use serde::Deserialize;
use serde_json::json;

use crate::Global;
use crate::http::AdminHttp;
use crate::output::{Format, Rows, print_text};
use crate::topic::done;

/// What `cluster rebalance` takes.
#[derive(Debug, Args)]
pub struct RebalanceArgs {
    /// Shows the moves, and makes none
    #[arg(long)]
    dry_run: bool,
    /// Most partitions that are copied at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    at_a_time: u16,
    /// Most bytes that each leader sends in a second to brokers that copy, until all have arrived: 50MB/s, 800kB/s, 5000000
    #[arg(long, conflicts_with = "dry_run", value_name = "RATE", value_parser = parse_rate)]
    throttle: Option<u64>,
}

/// What `topic reassign` takes.
#[derive(Debug, Args)]
pub struct ReassignArgs {
    /// Name of the topic
    topic: String,
    /// A partition and the brokers that are to hold it, the preferred leader first; may be repeated
    #[arg(
        long,
        value_name = "PARTITION:ID,ID,...",
        value_parser = parse_replicas,
        required_unless_present_any = ["brokers", "cancel"]
    )]
    replicas: Vec<(i32, Vec<i32>)>,
    /// Brokers that are to hold all partitions, which take turns at being the preferred leader
    #[arg(
        long,
        value_name = "ID,ID,...",
        value_delimiter = ',',
        conflicts_with = "replicas"
    )]
    brokers: Vec<i32>,
    /// Takes back the moves that are under way
    #[arg(long, conflicts_with_all = ["replicas", "brokers"])]
    cancel: bool,
}

/// A planned move, as the admin interface tells it.
#[derive(Debug, Deserialize)]
struct Planned {
    topic: String,
    partition: i32,
    from: Vec<i32>,
    to: Vec<i32>,
    copies: Vec<i32>,
}

impl Planned {
    fn at(&self) -> TopicPartition {
        TopicPartition::new(&self.topic, self.partition)
    }

    fn reassignment(&self) -> Reassignment {
        Reassignment {
            at: self.at(),
            replicas: Some(self.to.clone()),
        }
    }
}

/// Shows the plan, and makes it so.
pub async fn run(global: &Global, args: &RebalanceArgs) -> anyhow::Result<()> {
    let planned = plan(global)?;
    if args.dry_run {
        return show(global, &planned);
    }
    if global.output == Format::Table && !planned.is_empty() {
        show(global, &planned)?;
    }
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    let moves = planned.len();
    if let Some(rate) = args.throttle {
        throttle(&admin, ConfigChange::set(REPLICATION_RATE, rate.to_string())).await?;
    }
    let made = make(&admin, &planned, usize::from(args.at_a_time)).await;
    if args.throttle.is_some() {
        throttle(&admin, ConfigChange::delete(REPLICATION_RATE)).await?;
    }
    made?;
    // Only now are the new preferred leaders in sync.
    admin
        .elect_leaders(millstream_client::Election::Preferred, None)
        .await?;
    let text = match moves {
        0 => "nothing to move".to_owned(),
        1 => "moved 1 partition".to_owned(),
        _ => format!("moved {moves} partitions"),
    };
    done(global, &text, json!({ "moved": moves }))
}

/// Changes how fast brokers copy.
async fn throttle(admin: &Admin, change: ConfigChange) -> anyhow::Result<()> {
    Ok(admin
        .alter_configs(&ConfigResource::AllBrokers, &[change])
        .await?)
}

fn plan(global: &Global) -> anyhow::Result<Vec<Planned>> {
    let planned = AdminHttp::new(&global.admin).get("/v1/cluster/rebalance")?;
    serde_json::from_value(planned).context("the plan cannot be read")
}

fn show(global: &Global, planned: &[Planned]) -> anyhow::Result<()> {
    let mut rows = Rows::new(&["topic", "partition", "from", "to", "copies"]);
    for step in planned {
        rows.push([
            json!(step.topic),
            json!(step.partition),
            json!(step.from),
            json!(step.to),
            json!(step.copies),
        ]);
    }
    if planned.is_empty() && global.output == Format::Table {
        return Ok(print_text("nothing to move")?);
    }
    Ok(rows.print(global.output)?)
}

/// Begins moves while fewer than `at_a_time` are under way, until all have arrived. Moves that others began count.
async fn make(admin: &Admin, planned: &[Planned], at_a_time: usize) -> anyhow::Result<()> {
    let mut waiting = planned.iter();
    loop {
        let under_way = admin.reassignments(None).await?;
        let free = at_a_time.saturating_sub(under_way.len());
        let next: Vec<_> = waiting.by_ref().take(free).map(Planned::reassignment).collect();
        if next.is_empty() && under_way.is_empty() && waiting.len() == 0 {
            return Ok(());
        }
        if !next.is_empty() {
            for (at, moved) in admin.reassign(&next).await? {
                moved?;
                eprintln!("moving {at}, {} to go", waiting.len());
            }
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// Lists the moves that are under way.
pub async fn list(global: &Global) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let mut rows = Rows::new(&["topic", "partition", "replicas", "adding", "removing"]);
    for step in Admin::new(&client).reassignments(None).await? {
        rows.push([
            json!(step.at.topic),
            json!(step.at.partition),
            json!(step.replicas),
            json!(step.adding),
            json!(step.removing),
        ]);
    }
    Ok(rows.print(global.output)?)
}

/// Moves one topic's partitions, or takes their moves back.
pub async fn reassign(global: &Global, args: &ReassignArgs) -> anyhow::Result<()> {
    let topic = &args.topic;
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    let known = client.topic(topic, false).await?.partitions;
    let at = |index: i32| TopicPartition::new(topic, index);
    let moves: Vec<Reassignment> = if args.cancel {
        let all: Vec<_> = known.iter().map(|known| at(known.index)).collect();
        // Those that do not move have nothing to take back.
        let moving = admin.reassignments(Some(&all)).await?.into_iter();
        let take_back = |at| Reassignment { at, replicas: None };
        moving.map(|step| take_back(step.at)).collect()
    } else if args.brokers.is_empty() {
        for (partition, _) in &args.replicas {
            if !known.iter().any(|known| known.index == *partition) {
                bail!(
                    "topic '{topic}' has no partition {partition}; 'millstream topic describe' shows those it has"
                );
            }
        }
        let wanted = args.replicas.iter().map(|(partition, replicas)| Reassignment {
            at: at(*partition),
            replicas: Some(replicas.clone()),
        });
        wanted.collect()
    } else {
        let turned = known.iter().map(|known| {
            let mut replicas = args.brokers.clone();
            replicas.rotate_left(known.index as usize % args.brokers.len());
            Reassignment {
                at: at(known.index),
                replicas: Some(replicas),
            }
        });
        turned.collect()
    };
    if moves.is_empty() {
        return done(
            global,
            "no partition moves",
            json!({"topic": topic, "partitions": []}),
        );
    }
    let mut begun = Vec::new();
    for (at, moved) in admin.reassign(&moves).await? {
        moved?;
        begun.push(at.partition);
    }
    let text = match args.cancel {
        false => format!(
            "moving {} partitions of {topic}; 'millstream cluster reassignments' shows those under way",
            begun.len()
        ),
        true => format!("took back the moves of {} partitions of {topic}", begun.len()),
    };
    done(global, &text, json!({"topic": topic, "partitions": begun}))
}

/// A partition and its brokers: `0:1,2,4`.
fn parse_replicas(text: &str) -> Result<(i32, Vec<i32>), String> {
    let wrong = || format!("'{text}' is not PARTITION:ID,ID,..., such as 0:1,2,4");
    let (partition, brokers) = text.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse::<i32>().ok().filter(|number| *number >= 0);
    let brokers: Option<Vec<i32>> = brokers.split(',').map(number).collect();
    number(partition).zip(brokers).ok_or_else(wrong)
}

/// Bytes in a second: `50MB/s`, `800kB/s`, `5000000`.
fn parse_rate(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no rate such as 50MB/s");
    let number = text.strip_suffix("/s").unwrap_or(text).trim();
    let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    let factor = match number[end..].trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    let bytes = number[..end]
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(factor));
    bytes.filter(|bytes| *bytes > 0).ok_or_else(wrong)
}

/// Kafka's setting of how fast a leader sends to followers that are not in sync.
const REPLICATION_RATE: &str = "leader.replication.throttled.rate";
/// Pause between two looks at how far moves are.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

pub const EXAMPLE: &str = "\
Examples:
  millstream cluster rebalance --dry-run
  millstream cluster rebalance --at-a-time 2 --throttle 50MB/s";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_and_rates_are_read_as_they_are_written() {
        assert_eq!(parse_replicas("0:1,2,4"), Ok((0, vec![1, 2, 4])));
        for wrong in ["1,2", ":1", "0:", "0:1,,2", "0:a", "-1:1"] {
            assert!(parse_replicas(wrong).is_err(), "{wrong}");
        }
        let rates = ["50MB/s", "800kB/s", "5000000", "1 GB/s"].map(parse_rate);
        assert_eq!(
            rates,
            [Ok(50_000_000), Ok(800_000), Ok(5_000_000), Ok(1_000_000_000)]
        );
        for wrong in ["", "0", "MB/s", "5 apples", "99999999999GB"] {
            assert!(parse_rate(wrong).is_err(), "{wrong}");
        }
    }
}
