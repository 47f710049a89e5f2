//! librdkafka as it comes, in a program of its own: `xtask/librdkafka-load`.

use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::report::Report;
use super::server::Server;
use super::{BenchArgs, setup};
use crate::shell;

/// Produces with default settings, records of 1 KiB and of 100 bytes.
pub fn produce(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    for (name, record_bytes) in [("librdkafka-produce-1k", 1024), ("librdkafka-produce-100b", 100)] {
        setup::topic(server, name, 4)?;
        run(server, report, name, "produce", record_bytes, args.seconds())?;
        server.client()?.delete_topic(name)?;
    }
    Ok(())
}

/// Consumes what was filled in before, from the front.
pub fn consume(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let name = "librdkafka-consume-1k";
    setup::fill(server, name, 4, if args.quick { 512 << 20 } else { 2 << 30 })?;
    run(server, report, name, "consume", 1024, args.seconds())?;
    server.client()?.delete_topic(name)
}

fn run(
    server: &Server,
    report: &mut Report,
    topic: &str,
    mode: &str,
    record_bytes: usize,
    seconds: u64,
) -> anyhow::Result<()> {
    let program = build()?;
    let before = server.cpu_ms()?;
    let output = Command::new(program)
        .args([
            mode,
            &server.address,
            topic,
            &record_bytes.to_string(),
            &seconds.to_string(),
        ])
        .output()?;
    let cpu = server.cpu_ms()? - before;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the load ended with {}: {said}",
        output.status
    );
    let result: Value = serde_json::from_slice(&output.stdout).context("the load prints JSON")?;
    let number = |name: &str| {
        result[name]
            .as_f64()
            .with_context(|| format!("the load tells no {name}"))
    };
    let megabytes = number("bytes")? / 1e6;
    report.add(
        &format!("{topic}: throughput"),
        server.kind,
        "MB/s",
        megabytes / number("seconds")?,
    );
    report.add(
        &format!("{topic}: server CPU"),
        server.kind,
        "ms/MB",
        cpu / megabytes,
    );
    Ok(())
}

/// A package of its own: librdkafka is C and takes a minute to build, which no other task should wait for.
pub fn build() -> anyhow::Result<std::path::PathBuf> {
    let mut cargo = shell::cargo("xtask/librdkafka-load", &["build", "--quiet", "--release"]);
    ensure!(
        cargo.status()?.success(),
        "the librdkafka load could not be built"
    );
    Ok(shell::target_dir().join("release/librdkafka-load"))
}
