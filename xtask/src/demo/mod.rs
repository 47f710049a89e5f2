//! `cargo xtask demo`: the flights example, with the release binary and the shipped plugins; or with a deployed transform.
//!
//! Everything is done with the commands that a user would type, and every number that is printed is read from the
//! brokers or from records that came out of them.

mod cluster;
mod commands;
mod flights;
mod lone;
mod process;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;

use crate::{plugins, shell};

/// How to show it.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Brokers: with three or more, a cluster of which one is killed on the way
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=9))]
    brokers: u16,
    /// Deploys a transform, on a cluster of three brokers at least, of which one is killed on the way
    #[arg(long)]
    transforms: bool,
    /// Leaves the brokers up until Ctrl-C, with everything in them
    #[arg(long)]
    stay: bool,
    /// Shows this binary, and builds neither it nor plugins that are in `target/plugins/` already
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
}

impl DemoArgs {
    /// With so many brokers, to the end.
    pub fn of(brokers: u16) -> Self {
        Self {
            brokers,
            transforms: false,
            stay: false,
            binary: None,
        }
    }

    /// The one with transforms, to the end.
    pub fn transforms() -> Self {
        Self {
            transforms: true,
            ..Self::of(TRANSFORM_BROKERS)
        }
    }
}

/// Runs the example.
///
/// # Errors
/// A build or a command fails, or what comes out is not what went in.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    if args.transforms {
        let binary = match &args.binary {
            Some(binary) => found(binary)?,
            None => plugins::millstream()?,
        };
        return cluster::transforms::run(&binary, args.brokers.max(TRANSFORM_BROKERS), args.stay);
    }
    if args.brokers == 2 {
        bail!("two brokers cannot go on without one of them: name three or more, or one");
    }
    let (binary, components) = match &args.binary {
        Some(binary) => (found(binary)?, plugins::built()?),
        None => {
            println!("building the release binary and the plugins (a few minutes the first time)");
            let components = plugins::build()?;
            (plugins::millstream()?, components)
        }
    };
    match args.brokers {
        1 => lone::run(&binary, &components, args.stay),
        brokers => cluster::run(&binary, &components, brokers, args.stay),
    }
}

/// Where brokers of this demo keep their data.
fn data_dir() -> PathBuf {
    shell::target_dir().join(format!("demo-data-{}", std::process::id()))
}

/// Prints what to try next at what the options started.
fn try_next(commands: &[String], options: &str, stay: bool) {
    let hint = match stay {
        true => String::new(),
        false => format!(" (`cargo xtask demo {options}` leaves what runs up)"),
    };
    println!("\nTwo commands to try next{hint}:");
    for command in commands {
        println!("  {command}");
    }
}

fn found(binary: &Path) -> anyhow::Result<PathBuf> {
    let found = binary.canonicalize();
    found.with_context(|| format!("cannot find {}", binary.display()))
}

/// The binary as one would type it in the repository's root folder.
fn shown(binary: &Path) -> String {
    let binary = binary.strip_prefix(shell::root()).unwrap_or(binary);
    binary.display().to_string()
}

/// Brokers of the demo of transforms at least: it goes on without one of them.
const TRANSFORM_BROKERS: u16 = 3;
