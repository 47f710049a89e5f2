//! `cargo xtask demo`: the flights example, with the release binary and the shipped plugins.
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
            stay: false,
            binary: None,
        }
    }
}

/// Runs the example.
///
/// # Errors
/// A build or a command fails, or what comes out is not what went in.
pub fn run(args: &DemoArgs) -> anyhow::Result<()> {
    if args.brokers == 2 {
        bail!("two brokers cannot go on without one of them: name three or more, or one");
    }
    let (binary, components) = match &args.binary {
        Some(binary) => {
            let binary = binary
                .canonicalize()
                .with_context(|| format!("cannot find {}", binary.display()))?;
            (binary, components()?)
        }
        None => {
            println!("building the release binary and the plugins (a few minutes the first time)");
            let components = plugins::build()?;
            (shell::target_dir().join("release/millstream"), components)
        }
    };
    match args.brokers {
        1 => lone::run(&binary, &components, args.stay),
        brokers => cluster::run(&binary, &components, brokers, args.stay),
    }
}

/// The plugins that were built, which are built where there are none.
fn components() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let Ok(folder) = std::fs::read_dir(shell::target_dir().join("plugins")) {
        for entry in folder {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return plugins::build();
    }
    Ok(found)
}

/// Where brokers of this demo keep their data.
fn data_dir() -> PathBuf {
    shell::target_dir().join(format!("demo-data-{}", std::process::id()))
}

/// Prints what to try next at these brokers.
fn try_next(commands: &[String], brokers: u16, stay: bool) {
    let hint = match (stay, brokers) {
        (true, _) => String::new(),
        (false, 1) => " (start with `cargo xtask demo --stay` to keep the broker)".to_owned(),
        (false, _) => {
            format!(" (start with `cargo xtask demo --brokers {brokers} --stay` to keep the brokers)")
        }
    };
    println!("\nTwo commands to try next{hint}:");
    for command in commands {
        println!("  {command}");
    }
}

/// The binary as one would type it in the repository's root folder.
fn shown(binary: &Path) -> String {
    let binary = binary.strip_prefix(shell::root()).unwrap_or(binary);
    binary.display().to_string()
}
