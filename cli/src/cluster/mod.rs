//! `millstream cluster`: brokers, the quorum that decides, and where partitions lie.

mod describe;

use clap::Subcommand;

use crate::Global;

/// The cluster.
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Shows the cluster and its brokers
    #[command(after_help = "Example:\n  millstream cluster describe")]
    Describe,
}

/// Runs a command.
pub async fn run(global: &Global, command: ClusterCommand) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Describe => describe::describe(global).await,
    }
}
