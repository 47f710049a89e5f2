//! `millstream topic`: create, list, describe, alter, delete; offsets and deleting records.

mod partitions;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use millstream_client::{
    Admin, Client, ConfigChange, ConfigEntry, ConfigResource, NewTopic, OffsetSpec, Start, TopicPartition,
};
use serde_json::{Value, json};

use crate::Global;
use crate::cluster::rebalance::{self, ReassignArgs};
use crate::output::{Format, Rows, print_json, print_text};
use crate::plugin::chain::Chain;
use crate::time::parse_start;

/// Topics.
#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Creates a topic
    #[command(
        after_help = "Example:\n  millstream topic create flights --partitions 6 --config retention.ms=86400000"
    )]
    Create(CreateArgs),
    /// Lists topics
    #[command(after_help = "Example:\n  millstream topic list --output json")]
    List {
        /// Also shows the cluster's own topics
        #[arg(long)]
        internal: bool,
    },
    /// Shows partitions and configs of a topic
    #[command(after_help = "Example:\n  millstream topic describe flights --all")]
    Describe {
        /// Name of the topic
        topic: String,
        /// Shows every config with its meaning, not only those that were set
        #[arg(long)]
        all: bool,
    },
    /// Changes configs, partitions, partitioner or ingest plugins of a topic
    #[command(after_help = ALTER_EXAMPLE)]
    Alter(AlterArgs),
    /// Moves partitions of a topic to other brokers, or takes such moves back
    #[command(after_help = REASSIGN_EXAMPLE)]
    Reassign(ReassignArgs),
    /// Deletes topics with everything in them
    #[command(after_help = "Example:\n  millstream topic delete flights")]
    Delete {
        /// Names of the topics
        #[arg(required = true)]
        topics: Vec<String>,
        /// Does not mind a topic that does not exist
        #[arg(long)]
        if_exists: bool,
    },
    /// Deletes the oldest records of a topic
    #[command(after_help = "Example:\n  millstream topic delete-records flights --partition 0 --before 1000")]
    DeleteRecords {
        /// Name of the topic
        topic: String,
        /// Partition; without it, all
        #[arg(long)]
        partition: Option<i32>,
        /// Deletes what comes before this offset, or `end` for everything
        #[arg(long, value_name = "OFFSET|end")]
        before: String,
    },
    /// Shows the first and last offset of each partition
    #[command(after_help = "Example:\n  millstream topic offsets flights --at 2026-11-24T15:30:00Z")]
    Offsets {
        /// Name of the topic
        topic: String,
        /// Also shows the offset at a time: @MILLISECONDS or 2026-11-24T15:30:00Z
        #[arg(long, value_name = "TIME")]
        at: Option<String>,
    },
}

/// What `topic create` takes.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the topic
    topic: String,
    /// Number of partitions; without it, the broker's num.partitions
    #[arg(long, short)]
    partitions: Option<i32>,
    /// Copies of each partition, on as many brokers; without it, the broker's default.replication.factor
    #[arg(long = "replication", alias = "replicas", value_name = "COPIES")]
    replicas: Option<i16>,
    /// Config of the topic; may be repeated
    #[arg(long = "config", short, value_name = "KEY=VALUE", value_parser = parse_pair)]
    configs: Vec<(String, String)>,
    /// Does not mind a topic that exists already
    #[arg(long)]
    if_not_exists: bool,
}

/// What `topic alter` takes.
#[derive(Debug, Args)]
pub struct AlterArgs {
    /// Name of the topic
    topic: String,
    /// Sets a config; may be repeated
    #[arg(long = "config", short, value_name = "KEY=VALUE", value_parser = parse_pair)]
    configs: Vec<(String, String)>,
    /// Puts a config back to its default; may be repeated
    #[arg(long = "delete-config", value_name = "KEY")]
    deleted: Vec<String>,
    /// Grows the topic to this many partitions
    #[arg(long)]
    partitions: Option<i32>,
    #[command(flatten)]
    ingest: IngestArgs,
}

/// Ingest plugins of a topic, in the order they run.
#[derive(Debug)]
struct IngestArgs(Chain);

crate::plugin::chain::chain_args!(IngestArgs {
    plugin: "ingest" =
        "Runs this filter or transform on what is produced, before it is stored; may be repeated",
    config: "ingest-config" = "Configuration of the --ingest before it",
    on_error: "on-error" =
        "What happens to a record that the --ingest before it fails on: fail, skip or dead-letter:TOPIC",
    limit: "limit" = "Limit of the --ingest before it, such as memory-bytes=16777216; may be repeated",
});

/// Runs a command.
pub async fn run(global: &Global, command: TopicCommand) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    match command {
        TopicCommand::Create(args) => create(global, &admin, args).await,
        TopicCommand::List { internal } => list(global, &client, internal).await,
        TopicCommand::Describe { topic, all } => describe(global, &client, &admin, &topic, all).await,
        TopicCommand::Alter(args) => alter(global, &admin, args).await,
        TopicCommand::Reassign(args) => rebalance::reassign(global, &args).await,
        TopicCommand::Delete { topics, if_exists } => {
            delete(global, &client, &admin, topics, if_exists).await
        }
        TopicCommand::DeleteRecords {
            topic,
            partition,
            before,
        } => delete_records(global, &client, &admin, &topic, partition, &before).await,
        TopicCommand::Offsets { topic, at } => offsets(global, &client, &admin, &topic, at.as_deref()).await,
    }
}

async fn create(global: &Global, admin: &Admin, args: CreateArgs) -> anyhow::Result<()> {
    let topic = NewTopic {
        name: args.topic,
        partitions: args.partitions,
        replicas: args.replicas,
        configs: args.configs.into_iter().collect(),
    };
    let created = match admin.create_topic(&topic, false).await {
        Ok(()) => true,
        Err(error)
            if args.if_not_exists
                && error.code() == Some(millstream_client::ErrorCode::TopicAlreadyExists) =>
        {
            false
        }
        Err(error) => return Err(error.into()),
    };
    let name = &topic.name;
    let text = if created {
        format!("created topic {name}")
    } else {
        format!("topic {name} exists already")
    };
    done(global, &text, json!({"topic": name, "created": created}))
}

async fn list(global: &Global, client: &Client, internal: bool) -> anyhow::Result<()> {
    let metadata = client.all_topics().await?;
    let mut rows = Rows::new(&["topic", "partitions", "replicas", "id"]);
    for topic in metadata
        .topics
        .values()
        .filter(|topic| internal || !topic.internal)
    {
        let replicas = topic
            .partitions
            .first()
            .map_or(0, |partition| partition.replicas.len());
        rows.push([
            json!(topic.name),
            json!(topic.partitions.len()),
            json!(replicas),
            json!(topic.id.to_string()),
        ]);
    }
    Ok(rows.print(global.output)?)
}

async fn describe(
    global: &Global,
    client: &Client,
    admin: &Admin,
    name: &str,
    all: bool,
) -> anyhow::Result<()> {
    let topic = client.topic(name, false).await?;
    let configs = admin
        .describe_configs(&ConfigResource::Topic(name.to_owned()))
        .await?;
    let mut shown = Rows::new(&["config", "value", "set", "meaning"]);
    for entry in configs.iter().filter(|entry| all || entry.is_set) {
        let meaning = entry.documentation.as_deref().filter(|_| all);
        shown.push([
            json!(entry.name),
            json!(entry.value),
            json!(entry.is_set),
            json!(meaning),
        ]);
    }
    let partitions = partitions::rows(global, client, admin, &topic).await?;
    if global.output == Format::Json {
        return Ok(print_json(&json!({
            "topic": topic.name,
            "id": topic.id.to_string(),
            "configs": shown.objects(),
            "partitions": partitions.objects(),
        }))?);
    }
    print_text(&format!(
        "topic {} ({})\n\n{}",
        topic.name,
        topic.id,
        partitions.table()
    ))?;
    if !all {
        // All of them are set, and nobody asked for their meaning.
        shown = set_only(&configs);
    }
    if shown.objects().is_empty() {
        Ok(())
    } else {
        Ok(print_text(&format!("\n{}", shown.table()))?)
    }
}

fn set_only(configs: &[ConfigEntry]) -> Rows {
    let mut rows = Rows::new(&["config", "value"]);
    for entry in configs.iter().filter(|entry| entry.is_set) {
        rows.push([json!(entry.name), json!(entry.value)]);
    }
    rows
}

async fn alter(global: &Global, admin: &Admin, args: AlterArgs) -> anyhow::Result<()> {
    let mut changes: Vec<ConfigChange> = args
        .configs
        .into_iter()
        .map(|(key, value)| ConfigChange::set(key, value))
        .collect();
    changes.extend(args.deleted.into_iter().map(ConfigChange::delete));
    if !args.ingest.0.is_empty() {
        changes.push(ConfigChange::set("millstream.ingest", args.ingest.0.to_json()));
    }
    if changes.is_empty() && args.partitions.is_none() {
        bail!("nothing to change was given; see 'millstream topic alter --help'");
    }
    if let Some(partitions) = args.partitions {
        admin.create_partitions(&args.topic, partitions).await?;
    }
    if !changes.is_empty() {
        admin
            .alter_configs(&ConfigResource::Topic(args.topic.clone()), &changes)
            .await?;
    }
    done(
        global,
        &format!("changed topic {}", args.topic),
        json!({"topic": args.topic, "changed": true}),
    )
}

async fn delete(
    global: &Global,
    client: &Client,
    admin: &Admin,
    topics: Vec<String>,
    if_exists: bool,
) -> anyhow::Result<()> {
    // All or none: one that does not exist is found before another is deleted.
    if !if_exists {
        for topic in &topics {
            client.topic(topic, false).await?;
        }
    }
    let mut deleted = Vec::new();
    for topic in topics {
        match admin.delete_topic(&topic).await {
            Ok(()) => deleted.push(topic),
            Err(error)
                if if_exists
                    && error.code() == Some(millstream_client::ErrorCode::UnknownTopicOrPartition) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let text = if deleted.is_empty() {
        "nothing to delete".to_owned()
    } else {
        format!("deleted {}", deleted.join(", "))
    };
    done(global, &text, json!({"deleted": deleted}))
}

async fn delete_records(
    global: &Global,
    client: &Client,
    admin: &Admin,
    topic: &str,
    partition: Option<i32>,
    before: &str,
) -> anyhow::Result<()> {
    let before = match before {
        "end" => -1,
        offset => offset
            .parse::<i64>()
            .with_context(|| format!("'{offset}' is neither an offset nor 'end'"))?,
    };
    let known = client.topic(topic, false).await?.partitions;
    let partitions: Vec<i32> = known
        .iter()
        .map(|known| known.index)
        .filter(|index| partition.is_none_or(|wanted| wanted == *index))
        .collect();
    if let (Some(partition), true) = (partition, partitions.is_empty()) {
        bail!("topic '{topic}' has no partition {partition}; 'millstream topic describe' shows those it has");
    }
    let mut rows = Rows::new(&["partition", "start_offset"]);
    for partition in partitions {
        let start = admin
            .delete_records(&TopicPartition::new(topic, partition), before)
            .await?;
        rows.push([json!(partition), json!(start)]);
    }
    Ok(rows.print(global.output)?)
}

async fn offsets(
    global: &Global,
    client: &Client,
    admin: &Admin,
    name: &str,
    at: Option<&str>,
) -> anyhow::Result<()> {
    let topic = client.topic(name, false).await?;
    let ends = partitions::ends(admin, &topic).await?;
    let Some(at) = at else {
        let mut rows = Rows::new(&["partition", "start_offset", "end_offset"]);
        for (partition, (start, end)) in ends {
            rows.push([json!(partition), json!(start), json!(end)]);
        }
        return Ok(rows.print(global.output)?);
    };
    let Start::Timestamp(ms) = parse_start(at)? else {
        bail!("--at takes a time, as @MILLISECONDS or 2026-11-24T15:30:00Z")
    };
    let asked: Vec<_> = partitions::led(&topic)
        .map(|at| (at, OffsetSpec::Timestamp(ms)))
        .collect();
    let found = admin.list_offsets(&asked).await?;
    let mut rows = Rows::new(&["partition", "start_offset", "end_offset", "offset", "timestamp"]);
    for (partition, (start, end)) in ends {
        let found = found
            .get(&TopicPartition::new(name, partition))
            .copied()
            .flatten();
        let timestamp = found.and_then(|found| found.timestamp);
        rows.push([
            json!(partition),
            json!(start),
            json!(end),
            json!(found.map(|f| f.offset)),
            json!(timestamp),
        ]);
    }
    Ok(rows.print(global.output)?)
}

/// Tells that something was done.
pub fn done(global: &Global, text: &str, value: Value) -> anyhow::Result<()> {
    match global.output {
        Format::Table => print_text(text)?,
        Format::Json => print_json(&value)?,
    }
    Ok(())
}

/// Reads `KEY=VALUE`. The value may hold further equals signs.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

const REASSIGN_EXAMPLE: &str = "\
Examples:
  millstream topic reassign flights --replicas 0:1,2,4 --replicas 1:2,4,1
  millstream topic reassign flights --brokers 1,2,4
  millstream topic reassign flights --cancel";

const ALTER_EXAMPLE: &str = r#"Examples:
  millstream topic alter flights --config retention.ms=86400000 \
      --delete-config segment.bytes
  millstream topic alter flights --config millstream.partitioner=by-field \
      --config 'millstream.partitioner.config={"pointer":"/carrier"}'
  millstream topic alter flights --ingest validate-json \
      --ingest-config '{"required":["/carrier"]}' --on-error skip"#;
