//! What it costs to have a plugin do something instead of doing it natively, per record of 100 bytes:
//! `cargo run --release -p millstream-runtime --example boundary_cost`, with `-- --json` for programs.
//!
//! The records are all different, and so many that the processor's branch prediction cannot learn them. The plugin's time is all that
//! a broker spends at the boundary: packing the rows, the call, checking and reading the answer. Native and plugin take turns, and what
//! is told is the median of each. The guests are those of `examples/guest`, built here; paths of three components (filter, partitioner,
//! transform) may be given instead.

mod load;
#[path = "guest/src/work.rs"]
mod work;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, ensure};
use load::{RECORD_BYTES, RECORDS, Slice, build, slices};
use millstream_runtime::{
    Engine, EngineConfig, Instance, Limits, Made, Part, Row, RowsBuilder, Verdict, World,
};

fn main() -> anyhow::Result<()> {
    let (flags, paths): (Vec<_>, Vec<_>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with("--"));
    let json = flags.iter().any(|flag| flag == "--json");
    let components = match &paths[..] {
        [] => ["filter", "partitioner", "transform"]
            .into_iter()
            .map(build)
            .collect::<Result<Vec<_>, _>>()?,
        _ => paths
            .iter()
            .map(|path| std::fs::read(path).with_context(|| path.clone()))
            .collect::<Result<_, _>>()?,
    };
    let engine = Engine::new(EngineConfig::default())?;
    let slices = slices();
    for component in components {
        let plugin = engine.compile(&component)?;
        let mut instance = plugin.instantiate(b"", &Limits::default(), Arc::new(|_, _| {}))?;
        let world = plugin.world();
        let cost = measure(world, &mut instance, &slices)?;
        let fuel = instance.usage().fuel as f64 / (RECORDS * (ROUNDS + 1)) as f64;
        let ratio = cost.plugin_ns / cost.native_ns;
        if json {
            println!(
                r#"{{"world":"{world}","native_ns":{:.1},"plugin_ns":{:.1},"ratio":{ratio:.2},"fuel":{fuel:.0}}}"#,
                cost.native_ns, cost.plugin_ns
            );
        } else {
            println!(
                "{:12} native {:6.1} ns, plugin {:6.1} ns a record: {ratio:.1} times; fuel {fuel:.0}",
                world.name(),
                cost.native_ns,
                cost.plugin_ns
            );
        }
    }
    Ok(())
}

/// Nanoseconds of one record.
struct Cost {
    native_ns: f64,
    plugin_ns: f64,
}

fn measure(world: World, instance: &mut Instance, slices: &[Slice]) -> anyhow::Result<Cost> {
    let (mut native_ns, mut plugin_ns) = (Vec::new(), Vec::new());
    let mut rows = RowsBuilder::new();
    let mut out = Vec::new();
    for round in 0..=ROUNDS {
        let begun = Instant::now();
        let natively: u64 = slices.iter().map(|slice| native(world, slice, &mut out)).sum();
        let native = begun.elapsed();
        let begun = Instant::now();
        let mut by_plugin = 0;
        for slice in slices {
            by_plugin += plugin(instance, world, slice, &mut rows)?;
        }
        let took = begun.elapsed();
        ensure!(
            natively == by_plugin,
            "{world}: {natively} natively, {by_plugin} by the plugin"
        );
        // The first round is for caches to fill.
        if round > 0 {
            native_ns.push(native.as_nanos() as f64 / RECORDS as f64);
            plugin_ns.push(took.as_nanos() as f64 / RECORDS as f64);
        }
    }
    let median = |mut all: Vec<f64>| {
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    Ok(Cost {
        native_ns: median(native_ns),
        plugin_ns: median(plugin_ns),
    })
}

/// A number that depends on each record's outcome, so that nothing is left out and both ways can be compared.
fn native(world: World, slice: &Slice, out: &mut Vec<u8>) -> u64 {
    out.clear();
    let values = slice
        .records
        .iter()
        .map(|(start, end, _)| black_box(&slice.data[*start as usize..*end as usize]));
    match world {
        World::Filter => values.filter(|value| work::keep(value)).count() as u64,
        World::Partitioner => values
            .map(|value| u64::from(work::route(value, PARTITIONS)))
            .sum(),
        World::Transform => values
            .map(|value| {
                let start = out.len();
                work::rewrite(value, out);
                u64::from(black_box(&out[start..])[RECORD_BYTES / 2])
            })
            .sum(),
    }
}

fn plugin(
    instance: &mut Instance,
    world: World,
    slice: &Slice,
    rows: &mut RowsBuilder,
) -> anyhow::Result<u64> {
    rows.clear();
    for (start, end, headers_end) in &slice.records {
        rows.push(&Row {
            timestamp_ms: 1_700_000_000_000,
            key: None,
            value: Some(*start..*end),
            headers: *end..*headers_end,
        });
    }
    Ok(match world {
        World::Filter => {
            let verdicts = instance.filter(rows.bytes(), &slice.data)?;
            verdicts
                .iter()
                .filter(|verdict| *verdict == Verdict::Keep)
                .count() as u64
        }
        World::Partitioner => {
            let targets = instance.partition(rows.bytes(), &slice.data, PARTITIONS)?;
            targets.partitions.iter().map(|target| u64::from(*target)).sum()
        }
        World::Transform => {
            let made = instance.transform(rows.bytes(), &slice.data)?;
            let value = |made_row: &Made| match made_row {
                Made::Record {
                    value: Part::New(value),
                    ..
                } => u64::from(made.data[value.start as usize + RECORD_BYTES / 2]),
                _ => 0,
            };
            made.rows.iter().map(|row| value(&row.made)).sum()
        }
    })
}

const PARTITIONS: u32 = 12;
const ROUNDS: usize = 101;
