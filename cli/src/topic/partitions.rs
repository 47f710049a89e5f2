//! Partitions as `topic describe` shows them: who leads and holds them, where they begin and end, how far followers are.
//!
//! A broker that is down holds nothing up: what only it knows is left out after a few seconds.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_client::{Admin, Client, Error, OffsetSpec, PartitionReplicas, Topic, TopicPartition};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::Global;
use crate::http::{AdminHttp, segment};
use crate::output::{Format, Rows};

/// First and end offset by partition.
pub type Ends = BTreeMap<i32, (Option<i64>, Option<i64>)>;

/// What the admin interface says of a topic's replicas.
#[derive(Default)]
struct Told {
    /// How far followers are, by partition.
    lags: BTreeMap<i64, Vec<Value>>,
    /// Racks of brokers, by their ids, also of those that are down.
    racks: Value,
}

/// The partitions of a topic; where there are several brokers, with all that is known of their replicas.
pub async fn rows(global: &Global, client: &Client, admin: &Admin, topic: &Topic) -> anyhow::Result<Rows> {
    // The one broker that is left of some is not alone.
    let is_alone =
        client.metadata().brokers.len() <= 1 && topic.partitions.iter().all(|p| p.replicas.len() <= 1);
    let replicas = match is_alone {
        true => None,
        false => match admin.topic_replicas(&topic.name).await {
            Ok(replicas) => Some(replicas),
            // An older broker of Kafka's.
            Err(Error::Unsupported { .. }) => None,
            Err(error) => return Err(error.into()),
        },
    };
    let Some(replicas) = replicas else {
        return Ok(few(topic, &ends_in_time(admin, topic).await));
    };
    let is_copied = replicas.iter().any(|partition| partition.replicas.len() > 1);
    let (ends, told) = tokio::join!(ends_in_time(admin, topic), async {
        match is_copied {
            true => followers(global, client, topic).await,
            false => Told::default(),
        }
    });
    Ok(all(global.output, client, &replicas, &ends, &told))
}

/// What there is to say of partitions where there is one broker.
fn few(topic: &Topic, ends: &Ends) -> Rows {
    let mut rows = Rows::new(&[
        "partition",
        "leader",
        "replicas",
        "in_sync",
        "start_offset",
        "end_offset",
    ]);
    for partition in &topic.partitions {
        let (start, end) = ends.get(&partition.index).copied().unwrap_or_default();
        rows.push([
            json!(partition.index),
            json!(partition.leader),
            json!(partition.replicas),
            json!(partition.in_sync),
            json!(start),
            json!(end),
        ]);
    }
    rows
}

fn all(format: Format, client: &Client, replicas: &[PartitionReplicas], ends: &Ends, told: &Told) -> Rows {
    let mut rows = Rows::new(&[
        "partition",
        "leader",
        "epoch",
        "replicas",
        "racks",
        "in_sync",
        "eligible",
        "offline",
        "start_offset",
        "end_offset",
        "lag",
    ]);
    let brokers = &client.metadata().brokers;
    for partition in replicas {
        let (start, end) = ends.get(&partition.index).copied().unwrap_or_default();
        let rack = |id: &i32| match brokers.get(id) {
            Some(broker) => broker.rack.as_deref(),
            None => told.racks[id.to_string()].as_str(),
        };
        let lag = told.lags.get(&i64::from(partition.index));
        rows.push([
            json!(partition.index),
            json!(partition.leader),
            json!(partition.leader_epoch),
            json!(partition.replicas),
            json!(partition.replicas.iter().map(rack).collect::<Vec<_>>()),
            json!(partition.in_sync),
            json!(partition.eligible),
            json!(partition.offline),
            json!(start),
            json!(end),
            match format {
                Format::Json => json!(lag),
                Format::Table => json!(lag.map(|lag| lag.iter().map(words).collect::<Vec<_>>())),
            },
        ]);
    }
    rows
}

/// How far a follower is, in a few words: its id, records that it lacks, and for how long.
fn words(lag: &Value) -> String {
    let (broker, records) = (&lag["broker"], &lag["lag_records"]);
    match lag["lag_ms"].as_u64().unwrap_or(0) {
        0 => format!("{broker}: {records}"),
        ms @ 1..=9999 => format!("{broker}: {records} ({ms} ms)"),
        ms => format!("{broker}: {records} ({} s)", ms / 1000),
    }
}

/// First and end offset of the partitions that have a leader to ask.
pub async fn ends(admin: &Admin, topic: &Topic) -> Result<Ends, Error> {
    let mut ends = Ends::new();
    let earliest: Vec<_> = led(topic).map(|at| (at, OffsetSpec::Earliest)).collect();
    for (at, found) in admin.list_offsets(&earliest).await? {
        ends.entry(at.partition).or_default().0 = found.map(|found| found.offset);
    }
    let latest: Vec<_> = led(topic).map(|at| (at, OffsetSpec::Latest)).collect();
    for (at, found) in admin.list_offsets(&latest).await? {
        ends.entry(at.partition).or_default().1 = found.map(|found| found.offset);
    }
    Ok(ends)
}

/// First and end offset of the partitions whose leaders answer before long.
async fn ends_in_time(admin: &Admin, topic: &Topic) -> Ends {
    let deadline = Instant::now() + WAIT;
    let mut asked = JoinSet::new();
    for at in led(topic) {
        let admin = admin.clone();
        asked.spawn(async move {
            let find = async |spec| {
                let question = [(at.clone(), spec)];
                let found = tokio::time::timeout_at(deadline, admin.list_offsets(&question)).await;
                let found = found.ok()?.ok()?.remove(&at)?;
                found.map(|found| found.offset)
            };
            let ends = tokio::join!(find(OffsetSpec::Earliest), find(OffsetSpec::Latest));
            (at.partition, ends)
        });
    }
    asked.join_all().await.into_iter().collect()
}

/// The partitions that have a leader.
pub fn led(topic: &Topic) -> impl Iterator<Item = TopicPartition> + '_ {
    topic
        .partitions
        .iter()
        .filter(|partition| partition.leader.is_some())
        .map(|partition| TopicPartition::new(&topic.name, partition.index))
}

/// How far followers are: their leaders know, and the admin interface of any broker asks them. Where it does not answer,
/// that is told, and the rest is shown.
async fn followers(global: &Global, client: &Client, topic: &Topic) -> Told {
    let path = format!("/v1/topics/{}/followers", segment(&topic.name));
    let address = global.admin.clone();
    let asking = tokio::task::spawn_blocking(move || AdminHttp::within(&address, WAIT).get(&path));
    let answer = match asking.await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            eprintln!("warning: how far followers are is not known: {error:#}");
            return Told::default();
        }
        Err(_) => return Told::default(),
    };
    let cluster = client.metadata().cluster_id.clone();
    if answer["cluster_id"].as_str() != cluster.as_deref() {
        eprintln!(
            "warning: how far followers are is not known: {} is of another cluster; --admin names one of this",
            global.admin
        );
        return Told::default();
    }
    let partitions = answer["partitions"].as_array().into_iter().flatten();
    let lag = |told: &Value| {
        let followers = told["followers"].as_array()?;
        Some((told["partition"].as_i64()?, followers.clone()))
    };
    Told {
        lags: partitions.filter_map(lag).collect(),
        racks: answer["racks"].clone(),
    }
}

/// Longest wait for what other brokers know.
const WAIT: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_that_lacks_nothing_is_told_shortly() {
        let lag = |records, ms| words(&json!({"broker": 2, "lag_records": records, "lag_ms": ms}));
        assert_eq!(lag(0, 0), "2: 0");
        assert_eq!(lag(1200, 350), "2: 1200 (350 ms)");
        assert_eq!(lag(1200, 61_500), "2: 1200 (61 s)");
    }
}
