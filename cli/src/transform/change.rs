//! What happens to a transform once it is deployed: upgrade, rollback, reset, delete.

use std::time::Duration;

use anyhow::bail;
use clap::Args;
use millstream_client::Start;
use serde_json::{Value, json};

use super::deploy::read_config;
use super::{Transforms, count};
use crate::Global;
use crate::amount::{parse_duration, parse_permille};
use crate::confirm::confirmed;
use crate::output::{Format, Rows, print_json, print_text};
use crate::time::parse_start;
use crate::topic::done;

/// What `transform upgrade` takes.
#[derive(Debug, Args)]
pub struct UpgradeArgs {
    /// Name of the transform
    name: String,
    /// What it is to run
    #[arg(long, value_name = "NAME[@VERSION]")]
    plugin: String,
    /// Configuration of the plugin, or @ and a file that has it; without it, that of now
    #[arg(long, value_name = "JSON|@FILE")]
    config: Option<String>,
    /// Runs it on this share of the partitions first: 10%
    #[arg(long, value_name = "SHARE", value_parser = parse_percent)]
    canary: Option<u8>,
    /// How long it has to do well on them until it runs everywhere [default: 60s]
    #[arg(long, value_name = "TIME", requires = "canary", value_parser = parse_duration)]
    canary_for: Option<Duration>,
    /// Share of records that it may fail on before it is taken back [default: 1%]
    #[arg(long, value_name = "SHARE", requires = "canary", value_parser = parse_permille)]
    max_errors: Option<u16>,
    /// Where it begins: earliest, latest, an offset, @MILLISECONDS or a time; without it, where the old one is
    #[arg(long, value_name = "PLACE", conflicts_with = "canary", value_parser = parse_place)]
    from_offset: Option<Place>,
    /// Checks everything, and changes nothing
    #[arg(long)]
    dry_run: bool,
}

/// What `transform rollback` takes.
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// Name of the transform
    name: String,
    /// Goes on where the release began that is taken back: it writes the output of those records again
    #[arg(long)]
    to_upgrade_point: bool,
}

/// What `transform reset` takes.
#[derive(Debug, Args)]
pub struct ResetArgs {
    /// Name of the transform
    name: String,
    /// earliest, latest, an offset, @MILLISECONDS, or a time such as 2026-11-24T15:30:00Z
    #[arg(long, value_name = "PLACE", value_parser = parse_place)]
    to: Place,
    /// Only shows where it would go on
    #[arg(long)]
    dry_run: bool,
    /// Does not ask first
    #[arg(long)]
    yes: bool,
}

/// What `transform delete` takes.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Name of the transform
    name: String,
    /// Keeps its offsets: a transform that is deployed under the name later goes on at them
    #[arg(long)]
    keep_offsets: bool,
    /// Does not ask first
    #[arg(long)]
    yes: bool,
}

/// A place in a log, as the interface reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(String);

/// Runs something else.
pub fn upgrade(global: &Global, http: &Transforms, args: &UpgradeArgs) -> anyhow::Result<()> {
    let mut body = json!({ "plugin": args.plugin });
    if let Some(config) = &args.config {
        body["config"] = json!(read_config(config)?);
    }
    if let Some(percent) = args.canary {
        let mut canary = json!({ "percent": percent });
        if let Some(time) = args.canary_for {
            canary["promote-after-ms"] = json!(u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        }
        if let Some(errors) = args.max_errors {
            canary["errors-permille-max"] = json!(errors);
        }
        body["canary"] = canary;
    }
    if let Some(place) = &args.from_offset {
        body["from"] = json!(place.0);
    }
    let upgraded = http.change(&args.name, &format!("upgrade?dry-run={}", args.dry_run), &body)?;
    let transform = &upgraded["transform"];
    let (name, plugin) = (&args.name, transform["plugin"].as_str().unwrap_or_default());
    let text = match (&transform["canary"], &upgraded["changed"]) {
        (_, Value::Bool(false)) => format!("{name} runs that already"),
        (Value::String(canary), _) => {
            format!("{name} tries {canary}; 'millstream transform describe' shows how it does")
        }
        _ if args.dry_run => format!("{name} can be upgraded to {plugin}"),
        _ => format!("upgraded {name} to {plugin}"),
    };
    show_changed(global, &text, upgraded)
}

/// Takes an upgrade back.
pub fn rollback(global: &Global, http: &Transforms, args: &RollbackArgs) -> anyhow::Result<()> {
    let body = json!({ "to-upgrade-point": args.to_upgrade_point });
    let changed = http.change(&args.name, "rollback", &body)?;
    let plugin = changed["transform"]["plugin"].as_str().unwrap_or_default();
    let text = format!("rolled {} back to {plugin}", args.name);
    show_changed(global, &text, changed)
}

/// Tells of a change, and of the partitions that go on somewhere else.
fn show_changed(global: &Global, text: &str, changed: Value) -> anyhow::Result<()> {
    let moved = changed["moved"].as_array().is_some_and(|moved| !moved.is_empty());
    if moved && global.output == Format::Table {
        print_text(&rows(&changed["moved"]).table())?;
        print_text("")?;
    }
    done(global, text, changed)
}

/// Shows where partitions would go on, and has them go on there.
pub fn reset(global: &Global, http: &Transforms, args: &ResetArgs) -> anyhow::Result<()> {
    let body = json!({ "to": args.to.0 });
    let name = &args.name;
    let plan = http.change(name, "reset?dry-run=true", &body)?;
    if args.dry_run {
        return Ok(rows(&plan).print(global.output)?);
    }
    if global.output == Format::Table {
        print_text(&rows(&plan).table())?;
    }
    if !args.yes
        && !confirmed(&format!(
            "Transform {name} will go on there. Type 'yes' to reset it"
        ))?
    {
        bail!("nothing was done; --yes resets without asking");
    }
    let moved = http.change(name, "reset", &body)?;
    let partitions = count(moved.as_array().map_or(0, Vec::len) as u64, "partition");
    match global.output {
        Format::Json => print_json(&moved)?,
        Format::Table => print_text(&format!(
            "\nreset {partitions} of {name}; 'millstream transform resume' has it go on"
        ))?,
    }
    Ok(())
}

/// Deletes it.
pub fn delete(global: &Global, http: &Transforms, args: &DeleteArgs) -> anyhow::Result<()> {
    let name = &args.name;
    // One that there is not is found before anybody is asked.
    http.describe(name)?;
    let offsets = match args.keep_offsets {
        true => "Its offsets are kept",
        false => "Its offsets are forgotten",
    };
    if !args.yes
        && !confirmed(&format!(
            "Transform {name} will be deleted. {offsets}. Type 'yes' to delete it"
        ))?
    {
        bail!("nothing was done; --yes deletes without asking");
    }
    http.delete(name, args.keep_offsets)?;
    let text = match args.keep_offsets {
        true => format!("deleted {name}; its offsets are kept"),
        false => format!("deleted {name}"),
    };
    done(
        global,
        &text,
        json!({"deleted": name, "offsets-kept": args.keep_offsets}),
    )
}

fn rows(moved: &Value) -> Rows {
    let mut rows = Rows::new(&["topic", "partition", "before", "after"]);
    for row in moved.as_array().into_iter().flatten() {
        rows.push(["topic", "partition", "before", "after"].map(|name| row[name].clone()));
    }
    rows
}

fn parse_place(text: &str) -> Result<Place, String> {
    let place = match parse_start(text).map_err(|error| format!("{error:#}"))? {
        Start::Earliest => "earliest".to_owned(),
        Start::Latest => "latest".to_owned(),
        Start::Offset(offset) => offset.to_string(),
        Start::Timestamp(ms) => format!("@{ms}"),
    };
    Ok(Place(place))
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let permille = parse_permille(text)?;
    match u8::try_from(permille / 10) {
        Ok(percent @ 1..=99) if permille % 10 == 0 => Ok(percent),
        _ => Err(format!(
            "'{text}' is no share of the partitions: 1% to 99%, without a fraction"
        )),
    }
}

pub const UPGRADE_EXAMPLE: &str = r#"Examples:
  millstream transform upgrade enrich --plugin enrich@1.3.0
  millstream transform upgrade enrich --plugin enrich@1.3.0 \
      --canary 10% --canary-for 5m --max-errors 0.5%"#;

pub const ROLLBACK_EXAMPLE: &str = "\
Examples:
  millstream transform rollback enrich
  millstream transform rollback enrich --to-upgrade-point";

pub const RESET_EXAMPLE: &str = "\
Example:
  millstream transform pause enrich
  millstream transform reset enrich --to earliest --dry-run
  millstream transform reset enrich --to 2026-11-24T15:30:00Z --yes
  millstream transform resume enrich";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_as_the_interface_reads_them() {
        for (text, place) in [
            ("earliest", "earliest"),
            ("end", "latest"),
            ("42", "42"),
            ("@1000", "@1000"),
            ("1970-01-01T00:00:01Z", "@1000"),
        ] {
            assert_eq!(parse_place(text), Ok(Place(place.to_owned())), "{text}");
        }
        assert!(parse_place("soon").is_err());
    }

    #[test]
    fn a_canary_is_a_share_between_all_and_nothing() {
        assert_eq!(["1%", "10%", "99%"].map(parse_percent), [Ok(1), Ok(10), Ok(99)]);
        for wrong in ["0%", "0.5%", "100%", "10.5%", "10"] {
            assert!(parse_percent(wrong).is_err(), "{wrong}");
        }
    }
}
