//! What checking a produced batch costs by itself, in this process: the floor under the cost of a produce request.

use std::hint::black_box;
use std::time::{Duration, Instant};

use anyhow::ensure;
use millstream_kafka::records::{Compression, Limits, validate};

use super::BenchArgs;
use super::load;
use super::report::Report;

/// Validates batches of 64 KiB with every codec: checksum, decompression, walk over the records.
///
/// The code under test is part of this program: a build without optimisation would tell nothing of it, and measures nothing.
pub fn measure(args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("codec: left out, this is no release build; run it with");
        eprintln!("  cargo run --release --package millstream-xtask -- bench --only codec");
        return Ok(());
    }
    for record_bytes in [100, 1024] {
        for codec in Compression::ALL {
            let records = (64 << 10) / record_bytes;
            let batch = load::batch(records, record_bytes, codec)?;
            for _ in 0..args.rounds() {
                let nanoseconds = time_of(&batch)?;
                let name = format!("codec: validate {record_bytes} B records, {}", codec.name());
                report.add_plain(&name, "ns/record", nanoseconds / records as f64);
            }
        }
    }
    Ok(())
}

fn time_of(batch: &[u8]) -> anyhow::Result<f64> {
    let limits = Limits::default();
    ensure!(validate(batch, &limits).is_ok(), "the batch is valid");
    let (start, mut turns) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(200) {
        for _ in 0..16 {
            let _ = black_box(validate(black_box(batch), &limits));
        }
        turns += 16;
    }
    Ok(start.elapsed().as_nanos() as f64 / f64::from(turns))
}
