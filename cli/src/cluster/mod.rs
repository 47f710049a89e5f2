//! `millstream cluster`: brokers, the quorum that decides, and where partitions lie.

mod brokers;
mod certs;
mod describe;
mod elect;
mod quorum;
pub mod rebalance;

use clap::Subcommand;

use crate::Global;

/// The cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Shows the cluster: its quorum, its brokers, and whether partitions lack anything
    #[command(after_help = "Example:\n  millstream cluster describe")]
    Describe,
    /// Makes an authority for a cluster and certificates for its nodes
    #[command(after_help = certs::EXAMPLE)]
    Certs(certs::CertsArgs),
    /// Lists brokers, what they hold, and whether they serve
    #[command(after_help = "Example:\n  millstream cluster brokers")]
    Brokers,
    /// Shows who decides on the cluster's metadata, or changes who does
    #[command(after_help = quorum::EXAMPLE)]
    Quorum(quorum::QuorumArgs),
    /// Begins to empty a broker: it gets no more replicas
    #[command(after_help = brokers::DRAIN_EXAMPLE)]
    Drain(brokers::DrainArgs),
    /// Forgets a broker that is stopped and empty
    #[command(after_help = "Example:\n  millstream cluster remove 3")]
    Remove {
        /// Id of the broker
        broker: i32,
    },
    /// Plans, or makes, the moves that empty draining brokers and make the others even
    #[command(after_help = rebalance::EXAMPLE)]
    Rebalance(rebalance::RebalanceArgs),
    /// Makes preferred replicas lead, or replicas that may have lost records
    #[command(after_help = elect::EXAMPLE)]
    ElectLeaders(elect::ElectArgs),
    /// Lists partitions that are on their way to other brokers
    #[command(after_help = "Example:\n  millstream cluster reassignments")]
    Reassignments,
    /// Shows the feature level, or raises it once all brokers run a newer version
    #[command(after_help = describe::FEATURES_EXAMPLE)]
    Features {
        /// Level to raise the cluster to
        #[arg(long, value_name = "LEVEL")]
        raise: Option<i16>,
    },
}

/// Runs a command.
pub async fn run(global: &Global, command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Certs(args) => certs::run(&args),
        ClusterCommand::Describe => describe::describe(global).await,
        ClusterCommand::Brokers => brokers::list(global),
        ClusterCommand::Quorum(args) => quorum::run(global, args).await,
        ClusterCommand::Drain(args) => brokers::drain(global, &args),
        ClusterCommand::Remove { broker } => brokers::remove(global, broker).await,
        ClusterCommand::Rebalance(args) => rebalance::run(global, &args).await,
        ClusterCommand::ElectLeaders(args) => elect::run(global, args).await,
        ClusterCommand::Reassignments => rebalance::list(global).await,
        ClusterCommand::Features { raise } => describe::features(global, raise).await,
    }
}
