//! `millstream view`: topics that plugins compute as they are read.

use anyhow::bail;
use clap::{Args, Subcommand};
use millstream_client::{Admin, ConfigResource, NewTopic};
use serde_json::{Value, json};

use crate::Global;
use crate::http::AdminHttp;
use crate::output::Rows;
use crate::plugin::chain::{Chain, chain_args};
use crate::topic::{done, parse_pair};

/// Views.
#[derive(Debug, Subcommand)]
pub enum ViewCommand {
    /// Creates a view of a topic
    #[command(after_help = CREATE_EXAMPLE)]
    Create(CreateArgs),
    /// Lists views, their sources and plugins
    #[command(after_help = "Example:\n  millstream view list")]
    List,
    /// Deletes views; their sources stay as they are
    #[command(after_help = "Example:\n  millstream view delete flights.delayed")]
    Delete {
        /// Names of the views
        #[arg(required = true)]
        views: Vec<String>,
    },
}

/// What `view create` takes.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// Name of the view
    view: String,
    /// Topic or view that it is computed from
    #[arg(long)]
    source: String,
    #[command(flatten)]
    plugins: Plugins,
    /// Further topic config; may be repeated
    #[arg(long = "topic-config", value_name = "KEY=VALUE", value_parser = parse_pair)]
    configs: Vec<(String, String)>,
}

/// Plugins of a view, in the order they run.
#[derive(Debug)]
struct Plugins(Chain);

chain_args!(Plugins {
    plugin: "plugin" =
        "Filter or transform that records go through; may be repeated, and they run in this order",
    config: "config" = "Configuration of the --plugin before it",
    on_error: "on-error" = "What happens to a record that the --plugin before it fails on: fail or skip",
    limit: "limit" = "Limit of the --plugin before it, such as memory-bytes=16777216; may be repeated",
});

/// Runs a command.
pub async fn run(global: &Global, command: ViewCommand) -> anyhow::Result<()> {
    match command {
        ViewCommand::Create(args) => create(global, args).await,
        ViewCommand::List => list(global),
        ViewCommand::Delete { views } => delete(global, views).await,
    }
}

async fn create(global: &Global, args: CreateArgs) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let mut topic = NewTopic::new(&args.view);
    topic.configs.extend(args.configs);
    topic.configs.insert(VIEW_SOURCE.to_owned(), args.source.clone());
    if !args.plugins.0.is_empty() {
        topic
            .configs
            .insert(VIEW_PLUGINS.to_owned(), args.plugins.0.to_json());
    }
    Admin::new(&client).create_topic(&topic, false).await?;
    let text = format!("created view {} of {}", args.view, args.source);
    done(
        global,
        &text,
        json!({"view": args.view, "source": args.source, "created": true}),
    )
}

fn list(global: &Global) -> anyhow::Result<()> {
    let views = AdminHttp::new(&global.admin).get("/v1/views")?;
    let mut rows = Rows::new(&["view", "source", "partitions", "plugins"]);
    for view in views.as_array().into_iter().flatten() {
        let plugins = view["plugins"].as_array().into_iter().flatten();
        let plugins = plugins
            .map(|link| link.get("plugin").unwrap_or(link).clone())
            .collect();
        rows.push([
            view["name"].clone(),
            view["source"].clone(),
            view["partitions"].clone(),
            Value::Array(plugins),
        ]);
    }
    Ok(rows.print(global.output)?)
}

async fn delete(global: &Global, views: Vec<String>) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let admin = Admin::new(&client);
    // All or none: what is wrong with one of them is found before another is deleted.
    for view in &views {
        let configs = admin
            .describe_configs(&ConfigResource::Topic(view.clone()))
            .await?;
        let is_view = configs
            .iter()
            .any(|entry| entry.name == VIEW_SOURCE && entry.value.as_deref().is_some_and(|v| !v.is_empty()));
        if !is_view {
            bail!("'{view}' is a topic, not a view; 'millstream topic delete' deletes topics");
        }
    }
    for view in &views {
        admin.delete_topic(view).await?;
    }
    done(
        global,
        &format!("deleted {}", views.join(", ")),
        json!({ "deleted": views }),
    )
}

const VIEW_SOURCE: &str = "millstream.view.source";
const VIEW_PLUGINS: &str = "millstream.view.plugins";

const CREATE_EXAMPLE: &str = r#"Example:
  millstream view create flights.delayed --source flights \
      --plugin filter-json@latest --config '{"where":"/dep_delay > 30"}' \
      --plugin mask --config '{"pointers":["/tailnum"]}'"#;
