//! What it costs to be able to stop a plugin that runs too long: nothing, fuel, epochs, or both, per record of 100 bytes:
//! `cargo run --release -p millstream-runtime --example limit_cost`.
//!
//! The same guests run the same calls in engines that differ in nothing else. They take turns; what is told is the median of
//! each, with its 10th and 90th percentile, and the median of its ratio to an engine that cannot stop a guest.

#[allow(dead_code, reason = "the library's own, of which each program uses a part")]
#[path = "../src/bindings.rs"]
mod bindings;
mod load;

use std::time::Instant;

use load::{RECORDS, build, slices};
use millstream_runtime::{Row, RowsBuilder};
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, Store};

fn main() -> anyhow::Result<()> {
    let calls: Vec<(Vec<u8>, Vec<u8>)> = slices()
        .into_iter()
        .map(|slice| {
            let mut rows = RowsBuilder::new();
            for (start, end, headers_end) in &slice.records {
                rows.push(&Row {
                    timestamp_ms: 1_700_000_000_000,
                    key: None,
                    value: Some(*start..*end),
                    headers: *end..*headers_end,
                });
            }
            (rows.bytes().to_vec(), slice.data)
        })
        .collect();
    println!(
        "{:12} {:>8} {:>24} {:>6}",
        "world", "stopped", "ns a record", "times"
    );
    for world in ["filter", "partitioner", "transform"] {
        let component = build(world)?;
        let mut guests = WAYS
            .into_iter()
            .map(|way| Guest::start(way, world, &component).map_err(told))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut readings = vec![Vec::with_capacity(ROUNDS); guests.len()];
        for round in 0..=ROUNDS {
            for (guest, readings) in guests.iter_mut().zip(&mut readings) {
                let begun = Instant::now();
                for (rows, data) in &calls {
                    guest.call(rows, data).map_err(told)?;
                }
                let took = begun.elapsed().as_nanos() as f64 / RECORDS as f64;
                // The first round is for caches to fill.
                if round > 0 {
                    readings.push(took);
                }
            }
        }
        for (way, of_way) in WAYS.iter().zip(&readings) {
            let ratios = of_way
                .iter()
                .zip(&readings[0])
                .map(|(with, without)| with / without);
            let (low, median, high) = spread(of_way.iter().copied());
            let (_, ratio, _) = spread(ratios);
            let name = way.name;
            println!("{world:12} {name:>8} {median:8.1} ({low:.1} to {high:.1}) {ratio:6.2}");
        }
    }
    Ok(())
}

/// What can stop a guest.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    fuel: bool,
    epochs: bool,
}

/// A guest in an engine of its own.
struct Guest {
    way: Way,
    store: Store<State>,
    exports: Exports,
}

enum Exports {
    Filter(bindings::filter::Filter),
    Partitioner(bindings::partitioner::Partitioner),
    Transform(bindings::transform::Transform),
}

impl Guest {
    fn start(way: Way, world: &str, component: &[u8]) -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .consume_fuel(way.fuel)
            .epoch_interruption(way.epochs)
            .concurrency_support(false)
            .cranelift_nan_canonicalization(true)
            .cranelift_opt_level(OptLevel::Speed);
        let engine = Engine::new(&config)?;
        let component = Component::from_binary(&engine, component)?;
        let mut linker = Linker::<State>::new(&engine);
        bindings::host::add_to_linker::<_, State>(&mut linker, |state| state)?;
        let mut guest_store = Store::new(&engine, State);
        refill(way, &mut guest_store)?;
        let store = &mut guest_store;
        let (exports, configured) = match world {
            "filter" => {
                let guest = bindings::filter::Filter::instantiate(&mut *store, &component, &linker)?;
                let configured = guest.call_configure(store, b"")?;
                (Exports::Filter(guest), configured)
            }
            "partitioner" => {
                let guest =
                    bindings::partitioner::Partitioner::instantiate(&mut *store, &component, &linker)?;
                let configured = guest.call_configure(store, b"")?;
                (Exports::Partitioner(guest), configured)
            }
            _ => {
                let guest = bindings::transform::Transform::instantiate(&mut *store, &component, &linker)?;
                let configured = guest.call_configure(store, b"")?;
                (Exports::Transform(guest), configured)
            }
        };
        configured.map_err(wasmtime::Error::msg)?;
        Ok(Self {
            way,
            store: guest_store,
            exports,
        })
    }

    fn call(&mut self, rows: &[u8], data: &[u8]) -> wasmtime::Result<()> {
        refill(self.way, &mut self.store)?;
        match &self.exports {
            Exports::Filter(guest) => drop(guest.call_filter(&mut self.store, rows, data)?),
            Exports::Partitioner(guest) => {
                drop(guest.call_partition(&mut self.store, rows, data, PARTITIONS)?);
            }
            Exports::Transform(guest) => drop(guest.call_transform(&mut self.store, rows, data)?),
        }
        Ok(())
    }
}

/// Gives a guest what it may use in its next call: far more than it needs.
fn refill(way: Way, store: &mut Store<State>) -> wasmtime::Result<()> {
    if way.fuel {
        store.set_fuel(1_000_000_000)?;
    }
    if way.epochs {
        store.set_epoch_deadline(1);
    }
    Ok(())
}

/// What the guests may call does nothing here.
struct State;

impl wasmtime::component::HasData for State {
    type Data<'a> = &'a mut Self;
}

impl bindings::host::Host for State {
    fn log(&mut self, _: bindings::host::Level, _: String) {}

    fn sinks(&mut self) -> Vec<String> {
        Vec::new()
    }
}

fn told(error: wasmtime::Error) -> anyhow::Error {
    anyhow::anyhow!("{error:#}")
}

/// The 10th percentile, the median, the 90th percentile.
fn spread(readings: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = readings.collect();
    sorted.sort_by(f64::total_cmp);
    let at = |share: usize| sorted[sorted.len() * share / 10];
    (at(1), at(5), at(9))
}

const WAYS: [Way; 4] = [
    Way {
        name: "never",
        fuel: false,
        epochs: false,
    },
    Way {
        name: "fuel",
        fuel: true,
        epochs: false,
    },
    Way {
        name: "epochs",
        fuel: false,
        epochs: true,
    },
    Way {
        name: "both",
        fuel: true,
        epochs: true,
    },
];
const PARTITIONS: u32 = 12;
const ROUNDS: usize = 101;
