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
    /// Makes the moves and waits for them; by default they are only shown
    #[arg(long)]
    run: bool,
    /// Most partitions that are copied at a time
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..), value_name = "N")]
    at_a_time: u16,
    /// Most bytes that each leader sends in a second to brokers that copy, until all have arrived
    #[arg(long, requires = "run", value_name = "BYTES_PER_S")]
    throttle: Option<u64>,
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

/// Shows the plan, or makes it so.
pub async fn run(global: &Global, args: &RebalanceArgs) -> anyhow::Result<()> {
    let planned = plan(global)?;
    if !args.run {
        return show(global, &planned);
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
pub async fn reassign(
    global: &Global,
    topic: &str,
    partition: Option<i32>,
    replicas: Option<Vec<i32>>,
) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    let known = client.topic(topic, false).await?.partitions;
    let mut wanted: Vec<_> = known
        .iter()
        .map(|known| TopicPartition::new(topic, known.index))
        .filter(|at| partition.is_none_or(|wanted| wanted == at.partition))
        .collect();
    if let (Some(partition), true) = (partition, wanted.is_empty()) {
        bail!("topic '{topic}' has no partition {partition}; 'millstream topic describe' shows those it has");
    }
    if replicas.is_none() {
        // Those that do not move have nothing to take back.
        let moving = admin.reassignments(Some(&wanted)).await?;
        wanted = moving.into_iter().map(|step| step.at).collect();
    }
    let moves: Vec<_> = wanted
        .into_iter()
        .map(|at| Reassignment {
            at,
            replicas: replicas.clone(),
        })
        .collect();
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
    let text = match &replicas {
        Some(_) => format!(
            "moving {} partitions of {topic}; 'millstream cluster reassignments' shows those under way",
            begun.len()
        ),
        None => format!("took back the moves of {} partitions of {topic}", begun.len()),
    };
    done(global, &text, json!({"topic": topic, "partitions": begun}))
}

/// Kafka's setting of how fast a leader sends to followers that are not in sync.
const REPLICATION_RATE: &str = "leader.replication.throttled.rate";
/// Pause between two looks at how far moves are.
const POLL_INTERVAL: Duration = Duration::from_millis(300);

pub const EXAMPLE: &str = "\
Examples:
  millstream cluster rebalance
  millstream cluster rebalance --run --at-a-time 2 --throttle 10000000";
