//! What it costs to read a view: computed for the first time, and again from the cache.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use millstream_kafka::records::{BatchBuilder, Compression};

use super::fetch::Fetches;
use super::load::Load;
use super::report::Report;
use super::server::{Kind, Server};
use super::{BenchArgs, setup};

/// A filter on a JSON field that keeps half of the records, beside its source; Kafka has no such thing.
pub fn read(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    if server.kind == Kind::Kafka {
        return Ok(());
    }
    let records = fill_source(server)?;
    push_plugin(server)?;
    measure(server, report, "view: its source", SOURCE, records)?;
    for limit in 0..args.rounds() {
        // Another configuration each time, so that nothing is in the cache yet.
        let view = format!("view-{limit}");
        let plugins = format!(
            r#"[{{"plugin": "filter-json", "config": {{"where": "/delay > {}"}}}}]"#,
            50 + limit
        );
        let configs = [
            ("millstream.view.source", SOURCE),
            ("millstream.view.plugins", &plugins),
        ];
        server
            .client()?
            .create_topic(&view, setup::FETCH_PARTITIONS, &configs)?;
        measure(server, report, "view: first read", &view, records)?;
        measure(server, report, "view: read again", &view, records)?;
        server.client()?.delete_topic(&view)?;
    }
    server.client()?.delete_topic(SOURCE)
}

/// Reads the topic to its end; figures are for each record of the source, whether the view keeps it or not.
fn measure(
    server: &Server,
    report: &mut Report,
    name: &str,
    topic: &str,
    records: u64,
) -> anyhow::Result<()> {
    let fetches = Fetches {
        address: server.address.clone(),
        topic: topic.to_owned(),
        partitions: setup::FETCH_PARTITIONS,
        partition_bytes_max: 1 << 20,
    };
    let before = server.cpu_ms()?;
    let outcome = fetches.run_once()?;
    let cpu = server.cpu_ms()? - before;
    ensure!(outcome.records > 0, "{topic} gave no record");
    let each = |milliseconds: f64| milliseconds * 1e6 / records as f64;
    // A read ends with a fetch that waits in vain for more.
    let seconds = (outcome.seconds - super::fetch::WAIT.as_secs_f64()).max(0.0);
    report.add(
        &format!("{name}, time"),
        server.kind,
        "ns/record",
        each(seconds * 1e3),
    );
    report.add(
        &format!("{name}, server CPU"),
        server.kind,
        "ns/record",
        each(cpu),
    );
    Ok(())
}

/// JSON records of some 100 bytes in lz4 batches of 64 KiB; gives how many.
fn fill_source(server: &Server) -> anyhow::Result<u64> {
    setup::topic(server, SOURCE, setup::FETCH_PARTITIONS)?;
    let mut builder = BatchBuilder::new().compression(Compression::Lz4);
    let mut count = 0u64;
    while builder.bytes() < 64 << 10 {
        let delay = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let (delay, flight) = (delay % 100, delay % 9973);
        let value = format!(
            r#"{{"flight":{flight},"carrier":"UA","origin":"EWR","destination":"IAH","delay":{delay},"tail":"N{count:05}"}}"#
        );
        builder.append(
            1_700_000_000_000 + count as i64,
            None,
            Some(value.as_bytes()),
            &[],
        )?;
        count += 1;
    }
    let batch = builder.finish()?.to_vec();
    let load = Load {
        batch,
        records_per_batch: count as usize,
        batches_per_request: setup::FETCH_PARTITIONS,
        ..setup::load(server, SOURCE, setup::FETCH_PARTITIONS, 100, Compression::None)?
    };
    let mut records = 0;
    while records < SOURCE_RECORDS {
        records += load.run_flat_out(Duration::from_millis(20))?.records;
    }
    Ok(records)
}

fn push_plugin(server: &Server) -> anyhow::Result<()> {
    let component = Path::new("target/plugins/filter_json.wasm");
    ensure!(
        component.exists(),
        "{} is not there: run `cargo xtask plugins` first",
        component.display()
    );
    let output = Command::new(server.binary())
        .args([
            "--admin",
            &format!("http://{}", server.http_address),
            "plugin",
            "push",
            "--name",
            "filter-json",
        ])
        .arg(component)
        .output()
        .context("cannot run our own command line")?;
    ensure!(
        output.status.success(),
        "the plugin was refused: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

const SOURCE: &str = "view-source";
const SOURCE_RECORDS: u64 = 1_000_000;
