//! How long a record takes through a transform at a steady rate: from when it was due at the producer to when a reader of
//! committed records has it.

use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::super::report::Report;
use super::super::server::Server;
use super::super::wire::{self, Isolation};
use super::flights::Flights;
use super::reader;
use super::running::Running;
use super::{PARTITIONS, SINK, SOURCE};

/// What the readers have seen, and when they are to end.
#[derive(Default)]
struct Seen {
    /// Timestamp of a record, and milliseconds until it was here.
    delays_ms: Mutex<Vec<(i64, i64)>>,
    is_done: AtomicBool,
}

/// Produces for so long, and adds the delay and the processor time to the report.
pub fn measure(
    server: &Server,
    running: &Running,
    duration: Duration,
    report: &mut Report,
) -> anyhow::Result<()> {
    let from = server.client()?.ends(SINK, PARTITIONS, Isolation::Committed)?;
    let (seen, counted_from) = (Seen::default(), wire::now_ms() + WARM_UP.as_millis() as i64);
    let cpu = thread::scope(|scope| {
        let readers: Vec<_> = from
            .iter()
            .enumerate()
            .map(|(partition, offset)| {
                let seen = &seen;
                scope.spawn(move || read(&server.address, partition, *offset, seen))
            })
            .collect();
        let before = running.cpu_ms(server)?;
        let produced = produce(&server.address, WARM_UP + duration);
        let cpu = running.cpu_ms(server)? - before;
        let all_seen = produced.and_then(|late| wait_for(&seen, late));
        seen.is_done.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader panicked")?;
        }
        all_seen.map(|()| cpu)
    })?;
    let all = seen.delays_ms.into_inner().expect("no panic while held");
    let counted = all
        .iter()
        .filter(|(timestamp_ms, _)| *timestamp_ms >= counted_from);
    let mut delays_ms: Vec<i64> = counted.map(|(_, delay_ms)| *delay_ms).collect();
    delays_ms.sort_unstable();
    ensure!(!delays_ms.is_empty(), "nothing came at a steady rate");
    let percentile = |share: f64| delays_ms[((delays_ms.len() - 1) as f64 * share).round() as usize] as f64;
    let share = cpu / 10.0 / (WARM_UP + duration).as_secs_f64();
    for (figure, unit, value) in [
        ("p50 of the delay", "ms", percentile(0.5)),
        ("p99 of the delay", "ms", percentile(0.99)),
        ("CPU", "% of a core", share),
    ] {
        let name = format!("transform at 5,000 records/s: {figure}");
        report.add(&name, server.kind, unit, value);
    }
    Ok(())
}

/// Sends a little to each partition, again and again; gives how many flights were late.
fn produce(address: &str, duration: Duration) -> anyhow::Result<u64> {
    let mut flights = Flights::new(97);
    let mut writing = wire::connect(address)?;
    let mut reading = writing.try_clone()?;
    let turns = (duration.as_micros() / INTERVAL.as_micros()) as u32;
    thread::scope(|scope| {
        let answers = scope.spawn(move || {
            let mut answer = Vec::new();
            for _ in 0..turns {
                wire::read_frame(&mut reading, &mut answer)?;
                wire::check_produced(&answer)?;
            }
            anyhow::Ok(())
        });
        let (start, start_ms, mut late) = (Instant::now(), wire::now_ms(), 0);
        for turn in 0..turns {
            let due = INTERVAL * turn;
            thread::sleep(due.saturating_sub(start.elapsed()));
            // The time is counted from when a record was due: a server that stalls does not hide the wait.
            let due_ms = start_ms + due.as_millis() as i64;
            let batches = (0..PARTITIONS).map(|partition| flights.batch(partition, RECORDS_EACH, due_ms));
            let batches = batches.collect::<anyhow::Result<Vec<_>>>()?;
            late += batches.iter().map(|batch| batch.late).sum::<u64>();
            let parts: Vec<(usize, &[u8])> = batches
                .iter()
                .enumerate()
                .map(|(partition, batch)| (partition, &*batch.bytes))
                .collect();
            writing.write_all(&wire::produce_each(SOURCE, &parts))?;
        }
        answers.join().expect("the reader of answers panicked")?;
        Ok(late)
    })
}

fn read(address: &str, partition: usize, offset: i64, seen: &Seen) -> anyhow::Result<()> {
    let end = |_: i64| seen.is_done.load(Ordering::Relaxed);
    reader::read(address, SINK, partition, offset, WAIT_MS, end, |timestamps_ms| {
        let now_ms = wire::now_ms();
        let delays = timestamps_ms
            .iter()
            .map(|timestamp_ms| (*timestamp_ms, now_ms - timestamp_ms));
        seen.delays_ms.lock().expect("no panic while held").extend(delays);
    })
}

/// Waits until so many records have come, and sees that no more do.
fn wait_for(seen: &Seen, late: u64) -> anyhow::Result<()> {
    let count = || seen.delays_ms.lock().expect("no panic while held").len() as u64;
    let deadline = Instant::now() + Duration::from_secs(60);
    while count() < late {
        ensure!(
            Instant::now() < deadline,
            "{} of {late} records came at a steady rate",
            count()
        );
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(300));
    ensure!(count() == late, "{} records came, not {late}", count());
    Ok(())
}

/// Produced before anything is counted.
const WARM_UP: Duration = Duration::from_secs(2);
/// A request with [`RECORDS_EACH`] records for each partition, so often: 5,000 records in a second.
const INTERVAL: Duration = Duration::from_millis(6);
const RECORDS_EACH: usize = 5;
/// The server holds a fetch for so long while nothing comes.
const WAIT_MS: i32 = 500;
