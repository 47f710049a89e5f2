//! `millstream plugin`: from an empty folder to a plugin in the broker.

mod bench;
mod build;
pub mod chain;
mod new;
mod test;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::Global;
use crate::http::{AdminHttp, segment};
use crate::output::{Format, Rows, bytes, print_json, print_text};
use crate::time::show_time;
use crate::topic::done;

/// Plugins.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Makes a project for a new plugin
    #[command(
        after_help = "Examples:\n  millstream plugin new my-filter --lang rust --world filter\n  \
                            millstream plugin new split --world transform --deployed"
    )]
    New(new::NewArgs),
    /// Builds a plugin project into a component
    #[command(after_help = "Example:\n  millstream plugin build my-filter --out my_filter.wasm")]
    Build(build::BuildArgs),
    /// Runs a component on records of a file, without a broker
    #[command(after_help = test::EXAMPLE)]
    Test(test::TestArgs),
    /// Stores a component in the broker, under a name and a version
    #[command(
        after_help = "Examples:\n  millstream plugin push target/plugins/by_field.wasm --name by-field\n  \
                            millstream plugin push target/plugins/mask.wasm --limit memory-bytes=16777216"
    )]
    Push(PushArgs),
    /// Lists plugins and their newest versions
    #[command(after_help = "Example:\n  millstream plugin list")]
    List,
    /// Shows versions of a plugin, who uses it, what it cost and what it logged
    #[command(after_help = "Example:\n  millstream plugin describe by-field")]
    Describe {
        /// Name of the plugin
        name: String,
    },
    /// Deletes a version of a plugin that nobody uses
    #[command(after_help = "Example:\n  millstream plugin delete by-field@0.1.0")]
    Delete {
        /// Name and version; the version may be left out if there is only one
        #[arg(value_name = "NAME[@VERSION]")]
        plugin: String,
        /// Deletes every version
        #[arg(long)]
        all: bool,
    },
}

/// What `plugin push` takes.
#[derive(Debug, Args)]
pub struct PushArgs {
    /// The component
    file: PathBuf,
    /// Name to store it under; without it, the file's, with dashes
    #[arg(long)]
    name: Option<String>,
    /// Version; without it, the one after the newest
    #[arg(long)]
    version: Option<String>,
    /// Limit where the plugin is attached without one of its own, such as memory-bytes=16777216; may be repeated
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = chain::read_limit)]
    limits: Vec<(String, u64)>,
}

/// Runs a command.
pub fn run(global: &Global, command: PluginCommand) -> anyhow::Result<()> {
    let http = AdminHttp::new(&global.admin);
    match command {
        PluginCommand::New(args) => new::run(global, &args),
        PluginCommand::Build(args) => build::run(global, &args),
        PluginCommand::Test(args) => test::run(global, &args),
        PluginCommand::Push(args) => push(global, &http, args),
        PluginCommand::List => list(global, &http),
        PluginCommand::Describe { name } => describe(global, &http, &name),
        PluginCommand::Delete { plugin, all } => delete(global, &http, &plugin, all),
    }
}

fn push(global: &Global, http: &AdminHttp, args: PushArgs) -> anyhow::Result<()> {
    let component = read_component(&args.file)?;
    let name = match args.name {
        Some(name) => name,
        None => default_name(&args.file)?,
    };
    let mut query = vec![("name", name)];
    query.extend(args.version.map(|version| ("version", version)));
    query.extend(
        args.limits
            .iter()
            .map(|(limit, amount)| (limit.as_str(), amount.to_string())),
    );
    let progress = spinner("compiling");
    let pushed = http.post("/v1/plugins", &query, &component);
    progress.finish_and_clear();
    let pushed = pushed?;
    let mut rows = Rows::new(&["name", "version", "sha256", "world", "size"]);
    let field = |name: &str| pushed[name].clone();
    rows.push([
        field("name"),
        field("version"),
        field("sha256"),
        field("world"),
        size(global, &pushed["size"]),
    ]);
    Ok(rows.print_one(global.output)?)
}

fn list(global: &Global, http: &AdminHttp) -> anyhow::Result<()> {
    let plugins = http.get("/v1/plugins")?;
    let mut rows = Rows::new(&["name", "version", "world", "size", "sha256", "users"]);
    for plugin in plugins.as_array().into_iter().flatten() {
        let field = |name: &str| plugin[name].clone();
        let sha256 = plugin["sha256"].as_str().unwrap_or_default();
        // Enough of the hash to tell versions apart; JSON has all of it.
        let shown = if global.output == Format::Table {
            sha256.get(..12).unwrap_or(sha256)
        } else {
            sha256
        };
        let size = size(global, &plugin["size"]);
        rows.push([
            field("name"),
            field("version"),
            field("world"),
            size,
            json!(shown),
            field("users"),
        ]);
    }
    Ok(rows.print(global.output)?)
}

fn describe(global: &Global, http: &AdminHttp, name: &str) -> anyhow::Result<()> {
    let plugin = http.get(&format!("/v1/plugins/{}", segment(name)))?;
    if global.output == Format::Json {
        return Ok(print_json(&plugin)?);
    }
    let mut versions = Rows::new(&["version", "world", "size", "sha256", "users"]);
    for version in plugin["versions"].as_array().into_iter().flatten() {
        let field = |name: &str| version[name].clone();
        versions.push([
            field("version"),
            field("world"),
            size(global, &version["size"]),
            field("sha256"),
            field("users"),
        ]);
    }
    print_text(&format!("plugin {name}\n\n{}", versions.table()))?;
    if let Some(stats) = plugin["stats"].as_array().filter(|stats| !stats.is_empty()) {
        let mut rows = Rows::new(&[
            "attached_to",
            "version",
            "calls",
            "records",
            "errors",
            "ns_per_record",
        ]);
        for stat in stats {
            let field = |name: &str| stat[name].clone();
            let columns = [
                "attached_to",
                "version",
                "calls",
                "records",
                "errors",
                "ns_per_record",
            ];
            rows.push(columns.map(field));
        }
        print_text(&format!("\n{}", rows.table()))?;
        for stat in stats {
            if let (Some(place), Some(reason)) = (stat["attached_to"].as_str(), stat["last_error"].as_str()) {
                print_text(&format!("last error on {place}: {reason}"))?;
            }
        }
    }
    let log: Vec<String> = plugin["log"]
        .as_array()
        .into_iter()
        .flatten()
        .map(log_line)
        .collect();
    if !log.is_empty() {
        print_text(&format!("\nlast log lines\n{}", log.join("\n")))?;
    }
    Ok(())
}

fn delete(global: &Global, http: &AdminHttp, plugin: &str, all: bool) -> anyhow::Result<()> {
    let (name, version) = match plugin.split_once('@') {
        Some((name, version)) => (name, Some(version.to_owned())),
        None => (plugin, None),
    };
    let versions = match version {
        Some(version) => vec![version],
        None => {
            let described = http.get(&format!("/v1/plugins/{}", segment(name)))?;
            let versions = described["versions"].as_array().into_iter().flatten();
            let versions: Vec<String> = versions
                .filter_map(|v| Some(v["version"].as_str()?.to_owned()))
                .collect();
            if versions.len() > 1 && !all {
                bail!(
                    "{name} has several versions ({}); name one, as in {name}@{}, or --all",
                    versions.join(", "),
                    versions[0]
                );
            }
            versions
        }
    };
    for version in &versions {
        http.delete(&format!("/v1/plugins/{}/{}", segment(name), segment(version)))?;
    }
    let deleted: Vec<String> = versions
        .iter()
        .map(|version| format!("{name}@{version}"))
        .collect();
    done(
        global,
        &format!("deleted {}", deleted.join(", ")),
        json!({ "deleted": deleted }),
    )
}

/// Reads a component, and says what it is where it is none.
fn read_component(file: &Path) -> anyhow::Result<Vec<u8>> {
    let component = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    match component.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(component),
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => {
            bail!(
                "{} is a core module, not a component; 'millstream plugin build' makes components",
                file.display()
            )
        }
        _ => bail!("{} is no WebAssembly component", file.display()),
    }
}

fn default_name(file: &Path) -> anyhow::Result<String> {
    let stem = file
        .file_stem()
        .and_then(|stem| stem.to_str())
        .context("the file has no name; --name gives it one")?;
    Ok(stem.replace('_', "-"))
}

fn size(global: &Global, size: &Value) -> Value {
    match (global.output, size.as_u64()) {
        (Format::Table, Some(count)) => json!(bytes(count)),
        _ => size.clone(),
    }
}

/// A line that a plugin logged, for people.
pub fn log_line(line: &Value) -> String {
    match line {
        Value::String(text) => text.clone(),
        entry => {
            let time = entry["time_ms"].as_i64().map(show_time).unwrap_or_default();
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!("{time} {:5} {}", text("level"), text("message"))
        }
    }
}

/// A spinner on standard error, where that is a terminal.
fn spinner(doing: &'static str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(doing);
    spinner.enable_steady_tick(Duration::from_millis(100));
    spinner
}
