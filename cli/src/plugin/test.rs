//! `millstream plugin test`: what a component does with the records of a file.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use millstream_runtime::Limits;
use serde_json::{Value, json};

use super::bench::{self, Input, Outcome};
use crate::Global;
use crate::output::{Format, bytes, print_json, print_text};

/// What `plugin test` takes.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The component
    file: PathBuf,
    /// File with a record a line
    #[arg(long, short)]
    input: PathBuf,
    /// What a line is
    #[arg(long, default_value = "value", value_name = "FORMAT")]
    input_format: LineFormat,
    /// Configuration of the plugin
    #[arg(long, short, value_name = "JSON", default_value = "")]
    config: String,
    /// Partitions that a partitioner may choose from
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..))]
    partitions: u32,
    /// Runs a transform as if it were deployed to a sink that it knows by this name; may be repeated
    #[arg(long = "sink", value_name = "NAME")]
    sinks: Vec<String>,
    /// Memory that the instance may use, in bytes
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// Fuel that one call may use
    #[arg(long)]
    fuel: Option<u64>,
    /// Writes the values that come out to this file, one a line; where there are several sinks, behind the sink's name and
    /// a tab
    #[arg(long, short, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Fails if a record failed
    #[arg(long)]
    strict: bool,
}

/// What a line of the input is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LineFormat {
    /// The value of a record
    Value,
    /// A record as `millstream consume --format json` prints it
    Json,
}

/// Runs the component and tells what became of the records.
pub fn run(global: &Global, args: &TestArgs) -> anyhow::Result<()> {
    let component = super::read_component(&args.file)?;
    let records = read_records(&args.input, args.input_format)?;
    let mut limits = Limits::default();
    limits.memory_bytes = args.memory.unwrap_or(limits.memory_bytes);
    limits.fuel = args.fuel.unwrap_or(limits.fuel);
    let progress = super::spinner("running");
    let place = bench::Place {
        config: args.config.as_bytes(),
        limits: &limits,
        partitions: args.partitions,
        sinks: sinks(&args.sinks)?,
    };
    let outcome = bench::run(&component, &place, &records);
    progress.finish_and_clear();
    let outcome = outcome.with_context(|| args.file.display().to_string())?;
    if let Some(path) = &args.out {
        write_values(path, &outcome).with_context(|| format!("cannot write {}", path.display()))?;
    }
    show(global, &outcome)?;
    if args.strict && outcome.errors > 0 {
        bail!("{} of {} records failed", outcome.errors, outcome.records_in);
    }
    Ok(())
}

/// The names of the sinks, each given once.
fn sinks(names: &[String]) -> anyhow::Result<Arc<[String]>> {
    if names.len() > usize::from(u16::MAX) {
        bail!("there can be {} sinks at most", u16::MAX);
    }
    match names
        .iter()
        .enumerate()
        .find(|(place, name)| names[..*place].contains(name))
    {
        Some((_, name)) => bail!("--sink {name} was given twice"),
        None => Ok(names.into()),
    }
}

fn read_records(path: &Path, format: LineFormat) -> anyhow::Result<Vec<Input>> {
    let about = || format!("cannot read {}", path.display());
    let file = BufReader::new(std::fs::File::open(path).with_context(about)?);
    let mut records = Vec::new();
    for (line, number) in file.split(b'\n').zip(1_usize..) {
        let line = line.with_context(about)?;
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        if line.is_empty() {
            continue;
        }
        records.push(match format {
            LineFormat::Value => Input {
                value: Some(line.to_vec()),
                ..Input::default()
            },
            LineFormat::Json => read_json(line)
                .with_context(|| format!("line {number} of {} is no record", path.display()))?,
        });
    }
    if records.is_empty() {
        bail!("{} has no records", path.display());
    }
    Ok(records)
}

fn read_json(line: &[u8]) -> anyhow::Result<Input> {
    let record: Value = serde_json::from_slice(line)?;
    if record.get("value").or(record.get("value_hex")).is_none() {
        bail!("it has no value; a record is what 'millstream consume --format json' prints");
    }
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone().into_bytes()),
        other => Some(other.to_string().into_bytes()),
    };
    let header = |entry: &Value| Some((entry.get(0)?.as_str()?.to_owned(), entry.get(1).and_then(text)));
    // Bytes that are no text stand under another name, in hexadecimal.
    let bytes = |name: &str| match record[format!("{name}_hex")].as_str() {
        Some(digits) => {
            let bytes = from_hexadecimal(digits);
            bytes
                .map(Some)
                .with_context(|| format!("{name}_hex is not hexadecimal"))
        }
        None => Ok(text(&record[name])),
    };
    Ok(Input {
        timestamp_ms: record["timestamp"].as_i64().unwrap_or(0),
        key: bytes("key")?,
        value: bytes("value")?,
        headers: record["headers"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(header)
            .collect(),
    })
}

fn from_hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    pairs.map(|pair| byte(pair).filter(|_| pair.len() == 2)).collect()
}

fn write_values(path: &Path, outcome: &Outcome) -> std::io::Result<()> {
    let mut file = std::io::BufWriter::new(std::fs::File::create(path)?);
    for record in &outcome.out {
        if let (Some(sink), true) = (
            outcome.sinks.get(usize::from(record.sink)),
            outcome.sinks.len() > 1,
        ) {
            write!(file, "{sink}\t")?;
        }
        file.write_all(record.value.as_deref().unwrap_or_default())?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

fn show(global: &Global, outcome: &Outcome) -> anyhow::Result<()> {
    let rounded = |number: f64| (number * 10.0).round() / 10.0;
    let report = json!({
        "world": outcome.world,
        "records_in": outcome.records_in,
        "records_out": outcome.records_out,
        "dropped": outcome.dropped,
        "errors": outcome.errors,
        "ns_per_record": rounded(outcome.ns_per_record),
        "fuel_per_record": rounded(outcome.fuel_per_record),
        "memory_bytes_peak": outcome.memory_bytes_peak,
        "compile_ms": outcome.compile_time.as_millis() as u64,
    });
    if global.output == Format::Json {
        let mut report = report;
        let errors = outcome
            .first_errors
            .iter()
            .map(|(record, reason)| json!({"record": record, "reason": reason}));
        report["first_errors"] = errors.collect();
        report["log"] = json!(outcome.log);
        if !outcome.by_partition.is_empty() {
            report["by_partition"] = json!(outcome.by_partition);
        }
        if !outcome.sinks.is_empty() {
            let counts = outcome
                .by_sink()
                .map(|(name, count)| (name.to_owned(), json!(count)));
            report["by_sink"] = Value::Object(counts.collect());
        }
        return Ok(print_json(&report)?);
    }
    let mut lines = vec![
        format!("world            {}", outcome.world),
        format!("records in       {}", outcome.records_in),
        format!("records out      {}", outcome.records_out),
        format!("dropped          {}", outcome.dropped),
        format!("errors           {}", outcome.errors),
        format!("ns per record    {}", report["ns_per_record"]),
        format!("fuel per record  {}", report["fuel_per_record"]),
        format!("peak memory      {}", bytes(outcome.memory_bytes_peak)),
        format!("compiled in      {} ms", report["compile_ms"]),
    ];
    if !outcome.by_partition.is_empty() {
        let counts: Vec<String> = outcome.by_partition.iter().map(u64::to_string).collect();
        lines.push(format!("by partition     {}", counts.join(", ")));
    }
    if !outcome.sinks.is_empty() {
        let counts: Vec<String> = outcome
            .by_sink()
            .map(|(name, count)| format!("{name} {count}"))
            .collect();
        lines.push(format!("by sink          {}", counts.join(", ")));
    }
    lines.extend(
        outcome
            .first_errors
            .iter()
            .map(|(record, reason)| format!("record {record}: {reason}")),
    );
    lines.extend(outcome.log.iter().map(|line| format!("log: {line}")));
    if outcome.log_lines_dropped > 0 {
        lines.push(format!(
            "{} further log lines were dropped",
            outcome.log_lines_dropped
        ));
    }
    Ok(print_text(&lines.join("\n"))?)
}

/// Shown with `--help`.
pub const EXAMPLE: &str = r#"Examples:
  millstream plugin test filter_json.wasm --input flights.jsonl \
      --config '{"where":"/dep_delay > 30"}'
  millstream consume flights -e --format json > sample.jsonl
  millstream plugin test by_field.wasm --input sample.jsonl \
      --input-format json --config '{"pointer":"/carrier"}'
  millstream plugin test split.wasm --input flights.jsonl \
      --sink late --sink early --out split.tsv"#;
