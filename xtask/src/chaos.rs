//! `cargo xtask chaos`: three real brokers under faults, judged by what their clients saw (`tests/chaos/`).

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::{plugins, shell, tools};

/// What `cargo xtask chaos` takes.
#[derive(Debug, Args)]
pub struct ChaosArgs {
    /// How long faults go on
    #[arg(long, default_value_t = 3.0)]
    minutes: f64,
    /// Which faults, when and to whom; without it a seed is drawn, and told
    #[arg(long)]
    seed: Option<u32>,
    /// Our binary; built first, with the plugins, if this is not given
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

/// Runs the brokers, the clients and the faults.
///
/// # Errors
/// Something that was acknowledged is lost, changed or out of order, or the cluster does not go on.
pub fn run(args: &ChaosArgs) -> anyhow::Result<()> {
    let binary = match &args.binary {
        Some(binary) => {
            plugins::built()?;
            std::path::absolute(binary)?
        }
        None => {
            plugins::build()?;
            plugins::millstream()?
        }
    };
    shell::run(&mut command(&binary, args.minutes, args.seed)?)
}

/// The test as a command.
///
/// # Errors
/// The Python that it needs cannot be had.
pub fn command(binary: &Path, minutes: f64, seed: Option<u32>) -> anyhow::Result<Command> {
    let mut command = Command::new(tools::python()?);
    command
        .args(["-m", "pytest", "-ra", "-s", "tests/chaos"])
        .env("MILLSTREAM_BINARY", binary)
        .env("CHAOS_MINUTES", minutes.to_string())
        .env("PYTHONUNBUFFERED", "1");
    if let Some(seed) = seed {
        command.env("CHAOS_SEED", seed.to_string());
    }
    Ok(command)
}
