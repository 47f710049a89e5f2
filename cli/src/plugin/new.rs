//! `millstream plugin new`: a project that builds and passes its test as it is.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::Global;
use crate::topic::done;

/// What `plugin new` takes.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// Name of the plugin and of its directory
    name: String,
    /// Language that it is written in
    #[arg(long, default_value = "rust")]
    lang: Language,
    /// What it is
    #[arg(long, default_value = "filter")]
    world: World,
    /// Makes a transform for 'millstream transform deploy', which writes to several sinks
    #[arg(long)]
    deployed: bool,
    /// Directory to make it in; without it, its name
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// Languages that there are templates for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
}

/// What a plugin can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum World {
    /// Keeps or drops records
    Filter,
    /// Chooses their partitions
    Partitioner,
    /// Rewrites them
    Transform,
}

/// Makes the project.
pub fn run(global: &Global, args: &NewArgs) -> anyhow::Result<()> {
    let Language::Rust = args.lang;
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if !args.name.starts_with(|c: char| c.is_ascii_lowercase()) || !args.name.chars().all(good) {
        bail!(
            "a plugin's name has lower-case letters, digits and dashes, and begins with a letter: '{}' does not",
            args.name
        );
    }
    if SDK.is_empty() {
        bail!("this build carries no plugin SDK");
    }
    let dir = args.dir.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    if dir.exists() {
        bail!("{} exists already; --dir names another directory", dir.display());
    }
    let source = match (args.world, args.deployed) {
        (World::Transform, true) => include_str!("../../templates/deployed.rs"),
        (_, true) => bail!("only transforms are deployed: --deployed goes with --world transform"),
        (World::Filter, false) => include_str!("../../templates/filter.rs"),
        (World::Partitioner, false) => include_str!("../../templates/partitioner.rs"),
        (World::Transform, false) => include_str!("../../templates/transform.rs"),
    };
    let mut files = vec![
        ("Cargo.toml".to_owned(), MANIFEST.replace("NAME", &args.name)),
        ("src/lib.rs".to_owned(), source.to_owned()),
        (".gitignore".to_owned(), "/target\n".to_owned()),
    ];
    // In the project the SDK belongs to the project's workspace, not to one of its own.
    files.extend(
        SDK.iter()
            .map(|(name, text)| (format!("sdk/{name}"), text.replace("[workspace]\n", ""))),
    );
    for (name, text) in files {
        let path = dir.join(name);
        let about = || format!("cannot write {}", path.display());
        fs::create_dir_all(path.parent().context("a file is in a directory")?).with_context(about)?;
        fs::write(&path, text).with_context(about)?;
    }
    let shown = dir.display();
    let module = args.name.replace('-', "_");
    let text = format!(
        "made {shown}; next:\n  cd {shown} && cargo test\n  millstream plugin build\n  millstream plugin push target/{module}.wasm --name {}",
        args.name
    );
    done(
        global,
        &text,
        json!({"name": args.name, "directory": shown.to_string()}),
    )
}

/// The SDK's files, by their names within it.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

const MANIFEST: &str = r#"[package]
name = "NAME"
version = "0.1.0"
edition = "2024"

[lib]
crate-type = ["cdylib", "rlib"]

[dependencies]
millstream-plugin = { path = "sdk" }

[profile.release]
opt-level = 3
lto = true
codegen-units = 1
panic = "abort"
strip = true

[workspace]
"#;
