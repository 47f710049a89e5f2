//! `millstream group`: consumer groups, how far they have read, and how to move them.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use millstream_client::{Admin, Client, GroupDescription, OffsetAt, OffsetSpec, Start, TopicPartition};
use serde_json::json;

use crate::Global;
use crate::output::{Format, Rows, print_json, print_text};
use crate::time::parse_start;
use crate::topic::done;

/// Consumer groups.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Lists groups
    #[command(after_help = "Example:\n  millstream group list")]
    List,
    /// Shows members of a group, their partitions, and how far behind they are
    #[command(after_help = "Example:\n  millstream group describe g1")]
    Describe {
        /// Id of the group
        group: String,
    },
    /// Deletes groups that have no members, with their offsets
    #[command(after_help = "Example:\n  millstream group delete g1")]
    Delete {
        /// Ids of the groups
        #[arg(required = true)]
        groups: Vec<String>,
    },
    /// Moves a group that has no members to other offsets
    #[command(
        after_help = "Example:\n  millstream group reset-offsets g1 --topic flights --to earliest --dry-run"
    )]
    ResetOffsets(ResetArgs),
}

/// What `group reset-offsets` takes.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Id of the group
    group: String,
    /// Topic to move in; may be repeated. Without it, every topic the group has offsets in
    #[arg(long = "topic")]
    topics: Vec<String>,
    /// Partition to move in; may be repeated. Without it, all
    #[arg(long = "partition")]
    partitions: Vec<i32>,
    /// earliest, latest, an offset, @MILLISECONDS, or a time such as 2026-11-24T15:30:00Z
    #[arg(long, value_name = "PLACE", value_parser = |text: &str| parse_start(text).map_err(|e| format!("{e:#}")))]
    to: Start,
    /// Only shows where it would go
    #[arg(long)]
    dry_run: bool,
}

/// Runs a command.
pub async fn run(global: &Global, command: GroupCommand) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    match command {
        GroupCommand::List => {
            let mut rows = Rows::new(&["group", "state", "type"]);
            for group in admin.list_groups().await? {
                rows.push([json!(group.group), json!(group.state), json!(group.protocol_type)]);
            }
            Ok(rows.print(global.output)?)
        }
        GroupCommand::Describe { group } => describe(global, &admin, &group).await,
        GroupCommand::Delete { groups } => {
            // All or none: one that does not exist is found before another is deleted.
            for group in &groups {
                find(&admin, group).await?;
            }
            for group in &groups {
                admin.delete_group(group).await?;
            }
            done(
                global,
                &format!("deleted {}", groups.join(", ")),
                json!({ "deleted": groups }),
            )
        }
        GroupCommand::ResetOffsets(args) => reset(global, &client, &admin, args).await,
    }
}

async fn find(admin: &Admin, name: &str) -> anyhow::Result<GroupDescription> {
    admin.describe_group(name).await?.with_context(|| {
        format!("group '{name}' does not exist; 'millstream group list' shows those that do")
    })
}

async fn describe(global: &Global, admin: &Admin, name: &str) -> anyhow::Result<()> {
    let group = find(admin, name).await?;
    let committed = admin.committed_offsets(name).await?;
    let owners: BTreeMap<_, _> = group
        .members
        .iter()
        .flat_map(|member| member.partitions.iter().map(move |at| (at.clone(), member)))
        .collect();
    let all: BTreeSet<TopicPartition> = committed.keys().chain(owners.keys()).cloned().collect();
    let asked: Vec<_> = all.iter().map(|at| (at.clone(), OffsetSpec::Latest)).collect();
    let ends = admin.list_offsets(&asked).await?;
    let mut rows = Rows::new(&["topic", "partition", "committed", "end", "lag", "member", "host"]);
    for at in all {
        let committed = committed.get(&at).copied();
        let end = ends.get(&at).copied().flatten().map(|end| end.offset);
        let lag = end
            .zip(committed)
            .map(|(end, committed)| (end - committed).max(0));
        let owner = owners.get(&at);
        let (member, host) = (owner.map(|owner| &owner.member), owner.map(|owner| &owner.host));
        rows.push([
            json!(at.topic),
            json!(at.partition),
            json!(committed),
            json!(end),
            json!(lag),
            json!(member),
            json!(host),
        ]);
    }
    if global.output == Format::Json {
        let members = group.members.iter().map(|member| {
            json!({"member": member.member, "instance": member.instance, "client": member.client, "host": member.host})
        });
        return Ok(print_json(&json!({
            "group": group.group, "state": group.state, "assignor": group.protocol,
            "members": members.collect::<Vec<_>>(), "partitions": rows.objects(),
        }))?);
    }
    Ok(print_text(&format!(
        "group {name}: {}, {}\n\n{}",
        group.state,
        members(&group),
        rows.table()
    ))?)
}

fn members(group: &GroupDescription) -> String {
    match group.members.len() {
        1 => "1 member".to_owned(),
        count => format!("{count} members"),
    }
}

async fn reset(global: &Global, client: &Client, admin: &Admin, args: ResetArgs) -> anyhow::Result<()> {
    // A member would go on from where it is, and commit that.
    if let Some(group) = admin.describe_group(&args.group).await?
        && !group.members.is_empty()
    {
        bail!(
            "group '{}' still has members ({}); stop them first: 'millstream group describe' shows them",
            args.group,
            members(&group)
        );
    }
    let committed = admin.committed_offsets(&args.group).await?;
    let topics: BTreeSet<String> = if args.topics.is_empty() {
        committed.keys().map(|at| at.topic.clone()).collect()
    } else {
        args.topics.into_iter().collect()
    };
    if topics.is_empty() {
        bail!(
            "group '{}' has no offsets yet; name a --topic to give it some",
            args.group
        );
    }
    let mut partitions = Vec::new();
    for name in &topics {
        for partition in &client.topic(name, false).await?.partitions {
            if args.partitions.is_empty() || args.partitions.contains(&partition.index) {
                partitions.push(TopicPartition::new(name, partition.index));
            }
        }
    }
    let targets = targets(admin, &partitions, args.to).await?;
    if !args.dry_run {
        admin.commit_offsets(&args.group, &targets).await?;
    }
    let mut rows = Rows::new(&["topic", "partition", "before", "after"]);
    for (at, offset) in targets {
        rows.push([
            json!(at.topic),
            json!(at.partition),
            json!(committed.get(&at)),
            json!(offset),
        ]);
    }
    Ok(rows.print(global.output)?)
}

/// Where each partition goes. An offset outside of the log goes to its nearer end, as Kafka's tool has it.
async fn targets(
    admin: &Admin,
    partitions: &[TopicPartition],
    to: Start,
) -> anyhow::Result<BTreeMap<TopicPartition, i64>> {
    let look_up = async |spec| {
        let asked: Vec<_> = partitions.iter().map(|at| (at.clone(), spec)).collect();
        admin.list_offsets(&asked).await
    };
    let first = look_up(OffsetSpec::Earliest).await?;
    let last = look_up(OffsetSpec::Latest).await?;
    let timed = match to {
        Start::Timestamp(ms) => look_up(OffsetSpec::Timestamp(ms)).await?,
        _ => BTreeMap::new(),
    };
    let offset = |found: &BTreeMap<TopicPartition, Option<OffsetAt>>, at: &TopicPartition| {
        found.get(at).copied().flatten().map(|found| found.offset)
    };
    let target = |at: &TopicPartition| {
        let (first, last) = (offset(&first, at).unwrap_or(0), offset(&last, at).unwrap_or(0));
        match to {
            Start::Earliest => first,
            Start::Latest => last,
            Start::Offset(wanted) => wanted.clamp(first, last.max(first)),
            Start::Timestamp(_) => offset(&timed, at).unwrap_or(last),
        }
    };
    Ok(partitions.iter().map(|at| (at.clone(), target(at))).collect())
}
