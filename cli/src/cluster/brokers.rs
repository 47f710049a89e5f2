//! `millstream cluster brokers`, `drain` and `remove`: brokers come by themselves, and go in steps.

use clap::Args;
use millstream_client::Admin;
use serde_json::{Value, json};

use super::describe;
use crate::Global;
use crate::http::AdminHttp;
use crate::output::Rows;
use crate::topic::done;

/// What `cluster drain` takes.
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// Id of the broker
    broker: i32,
    /// Takes the broker back: it gets replicas again
    #[arg(long)]
    cancel: bool,
}

/// Lists the brokers.
pub fn list(global: &Global) -> anyhow::Result<()> {
    let cluster = AdminHttp::new(&global.admin).get("/v1/cluster")?;
    if let Some(doubt) = describe::doubt(&cluster, None) {
        eprintln!("warning: {doubt}");
    }
    Ok(rows(&cluster).print(global.output)?)
}

/// The brokers of a cluster as the admin interface shows it.
pub fn rows(cluster: &Value) -> Rows {
    let mut rows = Rows::new(&[
        "broker", "state", "address", "peer", "rack", "replicas", "leaders", "lagging",
    ]);
    for broker in cluster["brokers"].as_array().into_iter().flatten() {
        let host = broker["host"].as_str().unwrap_or_default();
        let host = match host.contains(':') {
            true => format!("[{host}]"),
            false => host.to_owned(),
        };
        rows.push([
            broker["id"].clone(),
            json!(state(broker)),
            json!(format!("{host}:{}", broker["port"])),
            broker["peer"].clone(),
            broker["rack"].clone(),
            broker["replicas"].clone(),
            broker["leaders"].clone(),
            broker["lagging"].clone(),
        ]);
    }
    rows
}

/// One word for what a broker does.
fn state(broker: &Value) -> &'static str {
    let is = |name: &str| broker[name].as_bool().unwrap_or(false);
    match (is("fenced"), is("draining")) {
        (true, true) => "fenced, draining",
        (true, false) => "fenced",
        (false, true) => "draining",
        (false, false) => "serving",
    }
}

/// Begins to empty a broker, or takes it back.
pub fn drain(global: &Global, args: &DrainArgs) -> anyhow::Result<()> {
    let admin = AdminHttp::new(&global.admin);
    let path = format!("/v1/cluster/brokers/{}/drain", args.broker);
    let text = if args.cancel {
        admin.delete(&path)?;
        format!("broker {} takes replicas again", args.broker)
    } else {
        admin.post(&path, &[], &[])?;
        format!(
            "broker {} gets no more replicas; 'millstream cluster rebalance' moves those that it has",
            args.broker
        )
    };
    done(
        global,
        &text,
        json!({"broker": args.broker, "draining": !args.cancel}),
    )
}

/// Forgets a broker.
pub async fn remove(global: &Global, broker: i32) -> anyhow::Result<()> {
    let client = global.connect().await?;
    Admin::new(&client).unregister_broker(broker).await?;
    let text = format!("removed broker {broker}");
    done(global, &text, json!({"broker": broker, "removed": true}))
}

pub const DRAIN_EXAMPLE: &str = "\
Examples:
  millstream cluster drain 3
  millstream cluster rebalance    # moves what it holds
  millstream cluster drain 3 --cancel";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_shown_with_their_state() {
        let cluster = json!({"brokers": [
            {"id": 1, "host": "::1", "port": 9092, "peer": null, "rack": "a", "fenced": false, "draining": true,
             "replicas": 3, "leaders": 1, "lagging": 0},
        ]});
        let shown = rows(&cluster).objects();
        assert_eq!(shown[0]["state"], "draining");
        assert_eq!(shown[0]["address"], "[::1]:9092");
    }
}
