//! What the predicate of a view costs on real flights, without Wasm:
//! `cargo run --release --example cost -p json-predicate`.

use json_predicate::Predicate;
use std::time::Instant;

const PREDICATES: [&str; 3] = [
    "/dep_delay > 30",
    r#"/dep_delay > 30 and (exists(/tailnum) or /carrier in ["UA","AA"]) and not contains(/dest, "X")"#,
    "exists(/nothing)",
];

fn main() {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../examples/flights/flights.jsonl"
    );
    let text = std::fs::read_to_string(path).expect("the sample is part of the repository");
    let rows: Vec<&[u8]> = text.lines().map(str::as_bytes).collect();
    for source in PREDICATES {
        let mut predicate = Predicate::parse(source).expect("valid");
        let mut best = f64::MAX;
        let mut kept = 0;
        for _ in 0..50 {
            let start = Instant::now();
            kept = rows
                .iter()
                .filter(|row| predicate.matches(row) == Ok(true))
                .count();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let ns = best * 1e9 / rows.len() as f64;
        println!(
            "{source}: {kept} of {} rows, {ns:.0} ns a row, {:.2} GB/s",
            rows.len(),
            text.len() as f64 / best / 1e9
        );
    }
}
