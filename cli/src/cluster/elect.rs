//! `millstream cluster elect-leaders`: preferred replicas lead again, or partitions go on with what is left of them.

use std::collections::BTreeMap;

use anyhow::bail;
use clap::Args;
use millstream_client::{Admin, Client, Election, TopicPartition};
use serde_json::json;

use crate::Global;
use crate::confirm::confirmed;
use crate::output::Rows;

/// What `cluster elect-leaders` takes.
#[derive(Debug, Args)]
pub struct ElectArgs {
    /// Only partitions of this topic; by default all that need it
    #[arg(long)]
    topic: Option<String>,
    /// Only this partition of the topic
    #[arg(long, requires = "topic")]
    partition: Option<i32>,
    /// Elects any replica that lives, where none is in sync: records are lost
    #[arg(long)]
    unclean: bool,
    /// Does not ask before an unclean election
    #[arg(long)]
    yes: bool,
}

/// Elects leaders.
pub async fn run(global: &Global, args: ElectArgs) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let partitions = match &args.topic {
        None => None,
        Some(name) => {
            let topic = client.topic(name, false).await?;
            let all = topic.partitions.iter().map(|partition| partition.index);
            let wanted: Vec<_> = all
                .filter(|index| args.partition.is_none_or(|wanted| wanted == *index))
                .map(|index| TopicPartition::new(name, index))
                .collect();
            if let (Some(partition), true) = (args.partition, wanted.is_empty()) {
                bail!(
                    "topic '{name}' has no partition {partition}; 'millstream topic describe' shows those it has"
                );
            }
            Some(wanted)
        }
    };
    let election = match args.unclean {
        true => Election::Unclean,
        false => Election::Preferred,
    };
    if args.unclean && !args.yes && !confirmed(QUESTION)? {
        bail!("nothing was done; --yes elects without asking");
    }
    let admin = Admin::new(&client);
    let leaderless = match args.unclean {
        true => leaderless(&client).await?,
        false => BTreeMap::new(),
    };
    let elected = admin.elect_leaders(election, partitions.as_deref()).await?;
    let mut failures = 0;
    let mut told = Vec::with_capacity(elected.len());
    for (at, result) in elected {
        let needless = |error: &millstream_client::Error| {
            error.code() == Some(millstream_client::ErrorCode::ElectionNotNeeded)
        };
        failures += usize::from(result.as_ref().is_err_and(|error| !needless(error)));
        let kept = match leaderless.get(&at).filter(|_| result.is_ok()) {
            // The election is over; how much it keeps is only told.
            Some(epoch) => admin.end_of_epoch(&at, *epoch).await.ok(),
            None => None,
        };
        let reason = result.as_ref().err().map(ToString::to_string);
        told.push((at, result.is_ok(), kept, reason));
    }
    show(global, args.unclean, told)?;
    match failures {
        0 => Ok(()),
        1 => bail!("one partition has no other leader"),
        _ => bail!("{failures} partitions have no other leader"),
    }
}

/// Partitions without a leader, and the epoch of the last one.
async fn leaderless(client: &Client) -> anyhow::Result<BTreeMap<TopicPartition, i32>> {
    let metadata = client.all_topics().await?;
    let all = metadata.topics.values().flat_map(|topic| {
        let without = topic
            .partitions
            .iter()
            .filter(|partition| partition.leader.is_none());
        without.map(|partition| {
            (
                TopicPartition::new(&topic.name, partition.index),
                partition.leader_epoch,
            )
        })
    });
    Ok(all.collect())
}

/// A partition, whether it has another leader, the end of what that one had, and why there is none.
type Told = (TopicPartition, bool, Option<i64>, Option<String>);

fn show(global: &Global, unclean: bool, told: Vec<Told>) -> anyhow::Result<()> {
    let is_any = told.iter().any(|(_, elected, _, _)| *elected);
    let mut rows = match unclean {
        true => Rows::new(&["topic", "partition", "elected", "kept_up_to", "reason"]),
        false => Rows::new(&["topic", "partition", "elected", "reason"]),
    };
    for (at, elected, kept, reason) in told {
        let (topic, partition, elected, reason) = (
            json!(at.topic),
            json!(at.partition),
            json!(elected),
            json!(reason),
        );
        match unclean {
            true => rows.push([topic, partition, elected, json!(kept), reason]),
            false => rows.push([topic, partition, elected, reason]),
        }
    }
    rows.print(global.output)?;
    if unclean && is_any {
        eprintln!(
            "Records from the offset under KEPT UP TO on are lost, if there were any. No broker that is up knows how many: a replica that \
             comes back with more cuts them off, logs their number, and counts them in millstream_records_lost_total."
        );
    }
    Ok(())
}

const QUESTION: &str =
    "An unclean election loses records that only replicas hold that are not there. Type 'yes' to elect";

pub const EXAMPLE: &str = "\
Examples:
  millstream cluster elect-leaders
  millstream cluster elect-leaders --topic flights --partition 2 \\
      --unclean --yes";
