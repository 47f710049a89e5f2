//! `millstream`: the broker and everything one does with it, in one binary.
//!
//! Each command has a file of its own. A command prints its result to standard output, as a table or as JSON, progress
//! and warnings to standard error, and one line to standard error if it fails.

mod amount;
mod broker;
mod cluster;
mod confirm;
mod consume;
#[cfg(test)]
mod examples;
mod failure;
mod group;
mod http;
mod log;
mod output;
mod plugin;
mod produce;
mod time;
mod topic;
mod transaction;
mod transform;
mod view;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use millstream_client::{Client, ClientConfig};
use tracing_subscriber::EnvFilter;

use output::Format;

/// A streaming broker that speaks Kafka's protocol and runs WebAssembly plugins, and the tools to use it.
#[derive(Debug, Parser)]
#[command(name = "millstream", version, after_help = EXAMPLE)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    /// Brokers to begin with, comma separated
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_name = "HOST:PORT"
    )]
    bootstrap: String,
    /// Admin HTTP address, for plugins, views and transforms
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_ADMIN",
        default_value = "http://127.0.0.1:9644",
        value_name = "URL"
    )]
    admin: String,
    /// How results are printed
    #[arg(
        long,
        global = true,
        env = "MILLSTREAM_OUTPUT",
        default_value = "table",
        value_name = "FORMAT"
    )]
    output: Format,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a broker
    Broker(broker::BrokerArgs),
    /// Creates, lists, describes, changes and deletes topics
    #[command(subcommand, after_help = TOPIC_EXAMPLE)]
    Topic(topic::TopicCommand),
    /// Sends lines as records
    Produce(produce::ProduceArgs),
    /// Reads records
    Consume(consume::ConsumeArgs),
    /// Makes, tests, pushes and lists plugins
    #[command(subcommand, after_help = PLUGIN_EXAMPLE)]
    Plugin(plugin::PluginCommand),
    /// Creates, lists and deletes views: topics that plugins compute as they are read
    #[command(subcommand, after_help = VIEW_EXAMPLE)]
    View(view::ViewCommand),
    /// Deploys transforms, plugins that run from topics to topics, and looks after them
    #[command(subcommand, after_help = TRANSFORM_EXAMPLE)]
    Transform(transform::TransformCommand),
    /// Lists, describes, resets and deletes consumer groups
    #[command(subcommand, after_help = GROUP_EXAMPLE)]
    Group(group::GroupCommand),
    /// Lists and describes transactions, finds those that hang, and ends them
    #[command(subcommand, after_help = TRANSACTION_EXAMPLE)]
    Transaction(transaction::TransactionCommand),
    /// Describes the cluster and changes what it is made of: brokers, quorum, where partitions lie
    #[command(subcommand, after_help = CLUSTER_EXAMPLE)]
    Cluster(cluster::ClusterCommand),
    /// Looks into log files
    #[command(subcommand, after_help = LOG_EXAMPLE)]
    Log(log::LogCommand),
}

impl Global {
    /// Connects to the cluster.
    async fn connect(&self) -> anyhow::Result<Client> {
        Ok(Client::connect(ClientConfig::new(&self.bootstrap)).await?)
    }
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse_arguments(&error),
    };
    let is_broker = matches!(cli.command, Command::Broker(_));
    start_log(if is_broker { BROKER_LOG } else { "error" });
    let global = cli.global.clone();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: `millstream consume … | head`.
        Err(error) if failure::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", failure::line(&error, &global));
            ExitCode::FAILURE
        }
    }
}

/// Shows the help that was asked for, or that an incomplete command needs; anything else is told in one line.
fn refuse_arguments(error: &clap::Error) -> ExitCode {
    let help = ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand;
    if error.use_stderr() && error.kind() != help {
        eprintln!("{}", failure::usage_line(&error.render().to_string()));
    } else {
        // Whoever read our output has seen enough.
        let _ = error.print();
    }
    // 0 for help and version, 2 for mistakes, as clap has them.
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

fn run(cli: Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let global = &cli.global;
    runtime.block_on(async {
        match cli.command {
            Command::Broker(args) => broker::run(args).await,
            Command::Topic(command) => topic::run(global, command).await,
            Command::Produce(args) => produce::run(global, args).await,
            Command::Consume(args) => consume::run(global, args).await,
            Command::Plugin(command) => plugin::run(global, command),
            Command::View(command) => view::run(global, command).await,
            Command::Transform(command) => transform::run(global, command),
            Command::Group(command) => group::run(global, command).await,
            Command::Transaction(command) => transaction::run(global, command).await,
            Command::Cluster(command) => cluster::run(global, command).await,
            Command::Log(command) => log::run(global, command),
        }
    })
}

/// Logs to standard error, as `MILLSTREAM_LOG` says (`debug`, `millstream_broker=trace,info`); with colours where a
/// person reads it.
fn start_log(default: &str) {
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}

/// What a broker logs. Of the quorum's library only what ends it: a peer that is dead it tells of many times a second, and
/// the broker says itself who is out of service and who leads.
const BROKER_LOG: &str = "info,openraft=error,openraft::replication=off,openraft::core::raft_core=off";

const EXAMPLE: &str = "\
Example:
  millstream broker                    # data in ./millstream-data
  millstream topic create flights --partitions 6
  millstream produce flights < flights.jsonl
  millstream consume flights --from earliest --max 10 --format json";

const TOPIC_EXAMPLE: &str = "\
Example:
  millstream topic create flights --partitions 6
  millstream topic describe flights
  millstream topic delete flights";

const PLUGIN_EXAMPLE: &str = "\
Example:
  millstream plugin new united --lang rust --world filter
  millstream plugin build united
  millstream plugin push united/target/united.wasm";

const VIEW_EXAMPLE: &str = "\
Example:
  millstream view create flights.united --source flights --plugin united
  millstream view list
  millstream view delete flights.united";

const TRANSFORM_EXAMPLE: &str = "\
Example:
  millstream transform deploy late --plugin filter-json --from flights \\
      --to flights.late --config '{\"where\":\"/dep_delay > 30\"}' --create-sinks
  millstream transform describe late
  millstream transform delete late";

const GROUP_EXAMPLE: &str = "\
Example:
  millstream group list
  millstream group describe g1
  millstream group reset-offsets g1 --topic flights --to earliest";

const TRANSACTION_EXAMPLE: &str = "\
Example:
  millstream transaction list
  millstream transaction describe orders-1
  millstream transaction find-hanging";

const CLUSTER_EXAMPLE: &str = "\
Example:
  millstream cluster describe
  millstream cluster drain 3
  millstream cluster rebalance";

const LOG_EXAMPLE: &str = "\
Example:
  millstream log dump millstream-data/flights-0 --records";
