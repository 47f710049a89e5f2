//! `millstream cluster describe`: what there is.

use millstream_client::Admin;
use serde_json::json;

use crate::Global;
use crate::output::{Format, Rows, print_json, print_text};

/// Shows the cluster and its brokers.
pub async fn describe(global: &Global) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let cluster = Admin::new(&client).describe_cluster().await?;
    let mut brokers = Rows::new(&["broker", "address", "rack"]);
    for broker in &cluster.brokers {
        brokers.push([
            json!(broker.id),
            json!(format!("{}:{}", broker.host, broker.port)),
            json!(broker.rack),
        ]);
    }
    if global.output == Format::Json {
        return Ok(print_json(&json!({
            "cluster": cluster.cluster,
            "controller": cluster.controller,
            "brokers": brokers.objects(),
        }))?);
    }
    Ok(print_text(&format!(
        "cluster {}, controller {}\n\n{}",
        cluster.cluster,
        cluster.controller,
        brokers.table()
    ))?)
}
