//! What it costs to read a view: computed for the first time, stage by stage, and again from the cache.

use std::io::Write;
use std::path::Path;

use anyhow::ensure;
use millstream_kafka::records::{BatchBuilder, Compression};

use super::fetch::Fetches;
use super::report::Report;
use super::server::{Kind, Server};
use super::{BenchArgs, setup, wire};

/// A filter on a JSON field that keeps half of the records, beside its source; Kafka has no such thing.
pub fn read(server: &mut Server, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    if server.kind == Kind::Kafka {
        return Ok(());
    }
    fill_source(server)?;
    push_plugin(server)?;
    measure(
        server,
        report,
        "view: its source",
        SOURCE,
        setup::FETCH_PARTITIONS,
    )?;
    for limit in 0..args.rounds() {
        // Another configuration each time, so that nothing is in the cache yet.
        let create = |view: &str, limit: usize| {
            let plugins =
                format!(r#"[{{"plugin": "filter-json", "config": {{"where": "/delay > {limit}.5"}}}}]"#);
            let configs = [
                ("millstream.view.source", SOURCE),
                ("millstream.view.plugins", &plugins),
            ];
            server
                .client()?
                .create_topic(view, setup::FETCH_PARTITIONS, &configs)
        };
        let view = format!("view-{limit}");
        create(&view, 40 + limit)?;
        measure(server, report, "view: first read", &view, setup::FETCH_PARTITIONS)?;
        measure(server, report, "view: read again", &view, setup::FETCH_PARTITIONS)?;
        server.client()?.delete_topic(&view)?;
        create(&view, 50 + limit)?;
        split(server, report, &view)?;
        server.client()?.delete_topic(&view)?;
    }
    server.client()?.delete_topic(SOURCE)
}

/// Where the time of a first read goes: one reader, so that little else wants the processor, and the broker's own
/// account of it.
fn split(server: &Server, report: &mut Report, view: &str) -> anyhow::Result<()> {
    let account = || -> anyhow::Result<Vec<f64>> {
        let seconds = STAGES.iter().map(|stage| {
            server.metric(&format!(
                r#"millstream_computing_seconds_total{{way="View",stage="{stage}"}}"#
            ))
        });
        let records = server.metric(r#"millstream_computed_records_total{way="View"}"#);
        seconds.chain([records]).collect()
    };
    let before = account()?;
    measure(server, report, "view split: one reader", view, 1)?;
    let spent: Vec<f64> = account()?
        .iter()
        .zip(before)
        .map(|(after, before)| after - before)
        .collect();
    let records = spent[STAGES.len()];
    // The first batch was computed already, when the view was asked whether it is served.
    let expected = SOURCE_RECORDS / setup::FETCH_PARTITIONS - BATCH_RECORDS;
    ensure!(
        records == expected as f64,
        "the broker computed {records} records, not {expected}"
    );
    for (stage, seconds) in STAGES.iter().zip(&spent) {
        report.add(
            &format!("view split: {stage}"),
            server.kind,
            "ns/record",
            seconds * 1e9 / records,
        );
    }
    Ok(())
}

/// Reads partitions of the topic to their end; figures are for each record of the source, whether the view keeps it or
/// not.
fn measure(
    server: &Server,
    report: &mut Report,
    name: &str,
    topic: &str,
    partitions: usize,
) -> anyhow::Result<()> {
    let fetches = Fetches {
        address: server.address.clone(),
        topic: topic.to_owned(),
        partitions,
        partition_bytes_max: 1 << 20,
    };
    let before = server.cpu_ms()?;
    let outcome = fetches.run_once()?;
    let cpu = server.cpu_ms()? - before;
    ensure!(outcome.records > 0, "{topic} gave no record");
    let records = SOURCE_RECORDS / setup::FETCH_PARTITIONS * partitions;
    let each = |milliseconds: f64| milliseconds * 1e6 / records as f64;
    report.add(
        &format!("{name}, time"),
        server.kind,
        "ns/record",
        each(outcome.seconds * 1e3),
    );
    report.add(
        &format!("{name}, server CPU"),
        server.kind,
        "ns/record",
        each(cpu),
    );
    Ok(())
}

/// Fills the source with JSON records of some 100 bytes in lz4 batches of 64 KiB, the same batches in each partition.
fn fill_source(server: &Server) -> anyhow::Result<()> {
    setup::topic(server, SOURCE, setup::FETCH_PARTITIONS)?;
    let batches = batches()?;
    let partitions: Vec<usize> = (0..setup::FETCH_PARTITIONS).collect();
    let mut stream = wire::connect(&server.address)?;
    let mut answer = Vec::new();
    for batch in batches.iter().cycle().take(SOURCE_BATCHES) {
        stream.write_all(&wire::produce(SOURCE, &partitions, batch))?;
        wire::read_frame(&mut stream, &mut answer)?;
        wire::check_produced(&answer)?;
    }
    Ok(())
}

/// Batches whose records are all different, and so many that the processor's branch prediction cannot learn them.
fn batches() -> anyhow::Result<Vec<Vec<u8>>> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut pick = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 33) % below
    };
    let mut batch = || -> anyhow::Result<Vec<u8>> {
        let mut builder = BatchBuilder::new().compression(Compression::Lz4);
        for number in 0..BATCH_RECORDS {
            let (flight, delay, tail) = (pick(9973), pick(100), pick(100_000));
            let carrier = CARRIERS[pick(CARRIERS.len() as u64) as usize];
            let destination = DESTINATIONS[pick(DESTINATIONS.len() as u64) as usize];
            let value = format!(
                r#"{{"flight":{flight},"carrier":"{carrier}","origin":"EWR","destination":"{destination}","delay":{delay},"tail":"N{tail:05}"}}"#
            );
            let timestamp_ms = 1_700_000_000_000 + number as i64;
            builder.append(timestamp_ms, None, Some(value.as_bytes()), &[])?;
        }
        Ok(builder.finish()?.to_vec())
    };
    (0..DISTINCT_BATCHES).map(|_| batch()).collect()
}

fn push_plugin(server: &Server) -> anyhow::Result<()> {
    let component = Path::new("target/plugins/filter_json.wasm");
    ensure!(
        component.exists(),
        "{} is not there: run `cargo xtask plugins` first",
        component.display()
    );
    let component = component.display().to_string();
    server.admin(&["plugin", "push", "--name", "filter-json", &component])?;
    Ok(())
}

const SOURCE: &str = "view-source";
/// Records of a batch: about 64 KiB before compression.
const BATCH_RECORDS: usize = 640;
/// 16,000 records and more.
const DISTINCT_BATCHES: usize = 26;
/// Batches of each partition.
const SOURCE_BATCHES: usize = 800;
const SOURCE_RECORDS: usize = BATCH_RECORDS * SOURCE_BATCHES * setup::FETCH_PARTITIONS;
/// The stages as the broker's metrics name them.
const STAGES: [&str; 5] = ["read", "decompress", "index", "plugin", "encode"];
const CARRIERS: [&str; 8] = ["UA", "AA", "B6", "DL", "EV", "MQ", "US", "WN"];
const DESTINATIONS: [&str; 12] = [
    "IAH", "MIA", "BQN", "ATL", "ORD", "FLL", "IAD", "MCO", "PBI", "TPA", "LAX", "SFO",
];
