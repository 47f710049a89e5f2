//! `millstream cluster describe` and `features`: what there is, and what all of it can do.

use anyhow::bail;
use millstream_client::{Admin, QuorumDescription};
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
    if let Some(doubt) = doubt(&cluster, Some(&quorum)) {
        print_text(&format!("{doubt}\n"))?;
    }
    summary.print_one(global.output)?;
    print_text("")?;
    print_text(&members.table())?;
    print_text("")?;
    Ok(print_text(&brokers.table())?)
}

/// Why what is known of the cluster may be long over, if it may.
pub fn doubt(cluster: &Value, quorum: Option<&QuorumDescription>) -> Option<String> {
    let is_in_touch = cluster["in_touch"].as_bool().unwrap_or(true);
    if is_in_touch && quorum.is_none_or(|quorum| quorum.leader.is_some()) {
        return None;
    }
    Some(format!(
        "the quorum has no leader, as far as broker {} knows: most of its voters are down, or cannot be reached.\n\
         Nothing can be decided. This is what was last known: brokers that are shown as serving may be down.",
        cluster["node_id"]
    ))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_over_is_not_shown_without_saying_so() {
        let quorum = |leader| QuorumDescription {
            leader,
            epoch: 3,
            decided: 40,
            voters: Vec::new(),
            observers: Vec::new(),
        };
        let cluster = |in_touch: bool| json!({"node_id": 2, "in_touch": in_touch});
        assert_eq!(doubt(&cluster(true), Some(&quorum(Some(1)))), None);
        assert_eq!(doubt(&cluster(true), None), None);
        for (in_touch, leader) in [(true, None), (false, Some(1)), (false, None)] {
            let said = doubt(&cluster(in_touch), Some(&quorum(leader))).unwrap();
            assert!(said.contains("no leader, as far as broker 2 knows"), "{said}");
        }
    }
}
