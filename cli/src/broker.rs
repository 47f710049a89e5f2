//! `millstream broker`: a broker in this process.
//!
//! Settings come from four places; the later one wins: defaults, configuration file, environment, command line.

use std::path::PathBuf;

use clap::Args;
use millstream_broker::{Broker, Settings};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use crate::output::print_text;
use crate::topic::parse_pair;

/// What `broker` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct BrokerArgs {
    /// Configuration file (TOML) with settings such as "log.segment.bytes" = 1048576
    #[arg(long, env = "MILLSTREAM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Directory for everything the broker stores [default: ./millstream-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<String>,
    /// Address for Kafka clients; port 0 picks a free one [default: 127.0.0.1:9092]
    #[arg(long, env = "MILLSTREAM_KAFKA", value_name = "HOST:PORT")]
    kafka: Option<String>,
    /// Address of the admin interface; port 0 picks a free one [default: 127.0.0.1:9644]
    #[arg(long, env = "MILLSTREAM_HTTP", value_name = "HOST:PORT")]
    http: Option<String>,
    /// Address that clients are told to use, where it differs from --kafka
    #[arg(long, value_name = "HOST:PORT")]
    advertised: Option<String>,
    /// Number that names this broker in its cluster [default: 1]
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Rack of this broker: copies of a partition go to different racks where they can
    #[arg(long, value_name = "RACK")]
    rack: Option<String>,
    /// Directory with ca.pem, node.pem and node.key, as 'millstream cluster certs' makes it
    #[arg(long, value_name = "DIR")]
    certs: Option<String>,
    /// Address for the other brokers of the cluster (UDP)
    #[arg(long, value_name = "HOST:PORT")]
    cluster: Option<String>,
    /// Begins a cluster with these brokers as its quorum; this one is among them, and all of them are given the same
    #[arg(long, value_name = "ID@HOST:PORT,...", conflicts_with = "join")]
    voters: Option<String>,
    /// Joins the cluster of the broker that has this cluster address
    #[arg(long, value_name = "HOST:PORT")]
    join: Option<String>,
    /// Sets any setting; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = parse_pair)]
    settings: Vec<(String, String)>,
    /// Prints one line of JSON with the addresses when the broker is ready
    #[arg(long)]
    ready_json: bool,
    /// Shows every setting with its value and meaning, and ends
    #[arg(long)]
    show_settings: bool,
}

/// Runs until it is told to end.
pub async fn run(args: BrokerArgs) -> anyhow::Result<()> {
    let settings = args.settings()?;
    if args.show_settings {
        return show(&settings);
    }
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let broker = tokio::select! {
        started = Broker::start(settings) => started?,
        // A broker of a cluster waits for others while it starts.
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    if args.ready_json {
        let mut ready = json!({"kafka": broker.kafka_addr(), "http": broker.http_addr()});
        if let Some(address) = broker.cluster_addr() {
            ready["cluster"] = json!(address);
        }
        print_text(&ready.to_string())?;
    } else {
        let cluster = broker
            .cluster_addr()
            .map(|address| format!(", cluster on {address}"));
        print_text(&format!(
            "ready: Kafka on {}, HTTP on http://{}{}",
            broker.kafka_addr(),
            broker.http_addr(),
            cluster.unwrap_or_default()
        ))?;
    }
    let failure = tokio::select! {
        _ = terminate.recv() => { tracing::info!("asked to end"); None }
        _ = interrupt.recv() => { tracing::info!("interrupted"); None }
        reason = broker.failed() => Some(reason),
    };
    broker.shutdown().await;
    failure.map_or(Ok(()), |reason| Err(anyhow::anyhow!(reason)))
}

impl BrokerArgs {
    fn settings(&self) -> anyhow::Result<Settings> {
        let mut settings = Settings::default();
        if let Some(file) = &self.config {
            settings.load_file(file)?;
        }
        // The environment is shared: what is not text is no setting of ours.
        let variables = std::env::vars_os();
        settings.load_env(
            variables.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )?;
        let named = [
            ("millstream.data.dir", &self.data_dir),
            ("millstream.kafka.listen", &self.kafka),
            ("millstream.http.listen", &self.http),
            ("millstream.advertised", &self.advertised),
            ("node.id", &self.node_id),
            ("broker.rack", &self.rack),
            ("millstream.certs", &self.certs),
            ("millstream.cluster.listen", &self.cluster),
            ("millstream.cluster.voters", &self.voters),
            ("millstream.cluster.join", &self.join),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                settings.set(name, value)?;
            }
        }
        for (name, value) in &self.settings {
            settings.set(name, value)?;
        }
        Ok(settings)
    }
}

fn show(settings: &Settings) -> anyhow::Result<()> {
    let values = settings.show();
    for definition in millstream_broker::settings::DEFINITIONS {
        let value = values.get(definition.name).map_or("", String::as_str);
        print_text(&format!(
            "# {} ({})\n\"{}\" = {value:?}\n",
            definition.doc.trim(),
            definition.kind,
            definition.name
        ))?;
    }
    Ok(())
}

const EXAMPLE: &str = "\
Examples:
  millstream broker
  millstream broker --data-dir /var/lib/millstream --kafka 0.0.0.0:9092 \\
      --advertised broker.example:9092 \\
      --set num.partitions=3 --set log.retention.hours=24
  millstream broker --node-id 1 --certs certs/1 --cluster 10.0.0.1:9094 \\
      --voters 1@10.0.0.1:9094,2@10.0.0.2:9094,3@10.0.0.3:9094
  millstream broker --node-id 4 --certs certs/4 --cluster 10.0.0.4:9094 \\
      --join 10.0.0.1:9094

Every setting is also an environment variable:
  MILLSTREAM_LOG_RETENTION_HOURS=24 MILLSTREAM_DATA_DIR=/data millstream broker";
