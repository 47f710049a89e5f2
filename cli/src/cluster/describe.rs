//! `millstream cluster describe` and `features`: what there is, and what all of it can do.

use anyhow::bail;
use millstream_client::Admin;
use serde_json::{Value, json};

use super::{brokers, quorum};
use crate::Global;
use crate::http::AdminHttp;
use crate::output::{Format, Rows, print_json, print_text};
use crate::topic::done;

/// Shows the cluster: its quorum and its brokers.
pub async fn describe(global: &Global) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let quorum = Admin::new(&client).describe_quorum().await?;
    let cluster = AdminHttp::new(&global.admin).get("/v1/cluster")?;
    let (brokers, members) = (brokers::rows(&cluster), quorum::rows(&quorum));
    if global.output == Format::Json {
        let mut body = cluster;
        body["quorum"] = json!({
            "leader": quorum.leader,
            "epoch": quorum.epoch,
            "members": members.objects(),
        });
        return Ok(print_json(&body)?);
    }
    let mut summary = Rows::new(&[
        "cluster",
        "feature_level",
        "controller",
        "topics",
        "partitions",
        "offline",
        "under_replicated",
        "moving",
    ]);
    summary.push([
        cluster["cluster_id"].clone(),
        cluster["feature_level"].clone(),
        json!(quorum.leader),
        cluster["topics"].clone(),
        cluster["partitions"].clone(),
        cluster["offline_partitions"].clone(),
        cluster["under_replicated_partitions"].clone(),
        cluster["moving_partitions"].clone(),
    ]);
    summary.print_one(global.output)?;
    print_text("")?;
    print_text(&members.table())?;
    print_text("")?;
    Ok(print_text(&brokers.table())?)
}

/// Shows the feature level, or raises it.
pub async fn features(global: &Global, raise: Option<i16>) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    let features = admin.features().await?;
    if let Some(level) = raise {
        let Some(feature) = features.first() else {
            bail!("the broker is alone and has no feature level; brokers of a cluster have one");
        };
        admin.update_feature(&feature.name, level).await?;
        let text = format!("raised {} to {level}", feature.name);
        return done(global, &text, json!({"feature": feature.name, "level": level}));
    }
    let mut rows = Rows::new(&["feature", "level", "lowest", "highest"]);
    for feature in features {
        rows.push([
            Value::String(feature.name),
            json!(feature.level),
            json!(feature.supported.0),
            json!(feature.supported.1),
        ]);
    }
    Ok(rows.print(global.output)?)
}

pub const FEATURES_EXAMPLE: &str = "\
Examples:
  millstream cluster features
  millstream cluster features --raise 1";
