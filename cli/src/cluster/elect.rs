//! `millstream cluster elect-leaders`: preferred replicas lead again, or partitions go on with what is left of them.

use std::io::{BufRead, IsTerminal, Write};

use anyhow::bail;
use clap::Args;
use millstream_client::{Admin, Election, TopicPartition};
use serde_json::json;

use crate::Global;
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
    if args.unclean && !args.yes && !confirmed()? {
        bail!("nothing was done; --yes elects without asking");
    }
    let elected = Admin::new(&client)
        .elect_leaders(election, partitions.as_deref())
        .await?;
    let mut rows = Rows::new(&["topic", "partition", "elected", "reason"]);
    let mut failures = 0;
    for (at, result) in elected {
        let needless = |error: &millstream_client::Error| {
            error.code() == Some(millstream_client::ErrorCode::ElectionNotNeeded)
        };
        failures += usize::from(result.as_ref().is_err_and(|error| !needless(error)));
        let reason = result.as_ref().err().map(ToString::to_string);
        rows.push([
            json!(at.topic),
            json!(at.partition),
            json!(result.is_ok()),
            json!(reason),
        ]);
    }
    rows.print(global.output)?;
    match failures {
        0 => Ok(()),
        1 => bail!("one partition has no other leader"),
        _ => bail!("{failures} partitions have no other leader"),
    }
}

/// Asks at the terminal. Where there is none, nobody said yes.
fn confirmed() -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Ok(false);
    }
    let mut err = std::io::stderr();
    write!(
        err,
        "An unclean election loses records that only replicas hold that are not there. Type 'yes' to elect: "
    )?;
    err.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}

pub const EXAMPLE: &str = "\
Examples:
  millstream cluster elect-leaders
  millstream cluster elect-leaders --topic flights --partition 2 \\
      --unclean --yes";
