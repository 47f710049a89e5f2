//! What it costs to have a plugin do something instead of doing it natively, measured by an example of the runtime.

use anyhow::Context;
use serde_json::Value;

use super::BenchArgs;
use super::report::Report;
use crate::shell;

/// Runs `boundary_cost` and takes over its figures.
pub fn measure(args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    for _ in 0..args.rounds() {
        let example = shell::read(&mut shell::cargo(".", &EXAMPLE))?;
        for line in example.lines() {
            let cost: Value = serde_json::from_str(line).context("reading the figures of boundary_cost")?;
            let world = cost["world"].as_str().context("a figure has no world")?;
            let figure = |name: &str| cost[name].as_f64().with_context(|| format!("{name} is missing"));
            report.add_plain(
                &format!("wasm: {world}, plugin"),
                "ns/record",
                figure("plugin_ns")?,
            );
            report.add_plain(
                &format!("wasm: {world}, native"),
                "ns/record",
                figure("native_ns")?,
            );
            report.add_plain(
                &format!("wasm: {world}, plugin to native"),
                "times",
                figure("ratio")?,
            );
        }
    }
    Ok(())
}

const EXAMPLE: [&str; 9] = [
    "run",
    "--quiet",
    "--release",
    "-p",
    "millstream-runtime",
    "--example",
    "boundary_cost",
    "--",
    "--json",
];
