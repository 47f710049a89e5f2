//! What goes on while a broker dies: producers that send slices of the flights, and a consumer of the view.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::demo::commands::Commands;
use crate::demo::flights::{FLIGHTS, GROUP, TOPIC, VIEW, place};
use crate::shell;

/// A call of `millstream produce`: flights with keys of their own, by which they are known when they come out.
pub struct Slice {
    producer: usize,
    first: usize,
    /// When the call ended.
    pub ended: Instant,
    /// Whether it ended well: then every flight in it was acknowledged.
    pub acknowledged: bool,
}

/// Producers at work. Each sends one slice after the other, as fast as they are acknowledged.
pub struct Producers {
    threads: Vec<JoinHandle<anyhow::Result<Vec<Slice>>>>,
    /// What each of them runs.
    running: Vec<Running>,
    stop: Arc<AtomicBool>,
    flights: Arc<Vec<String>>,
}

/// The command that a producer waits for.
type Running = Arc<Mutex<Option<Child>>>;

impl Producers {
    /// Starts them.
    pub fn start(commands: &Commands) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(FLIGHTS).with_context(|| format!("cannot read {FLIGHTS}"))?;
        let flights: Arc<Vec<String>> = Arc::new(text.lines().map(str::to_owned).collect());
        ensure!(!flights.is_empty(), "{FLIGHTS} is empty");
        let stop = Arc::new(AtomicBool::new(false));
        let (mut threads, mut running) = (Vec::new(), Vec::new());
        for producer in 0..PRODUCERS {
            let (commands, flights, stop) = (commands.clone(), Arc::clone(&flights), Arc::clone(&stop));
            let command = Running::default();
            running.push(Arc::clone(&command));
            threads.push(std::thread::spawn(move || {
                let mut slices = Vec::new();
                let mut first = 0;
                while !stop.load(Ordering::Relaxed) {
                    slices.push(send(&commands, &flights, producer, first, &command)?);
                    first += SLICE;
                }
                Ok(slices)
            }));
        }
        Ok(Self {
            threads,
            running,
            stop,
            flights,
        })
    }

    /// Lets each finish its slice; gives all that was sent.
    pub fn finish(mut self) -> anyhow::Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let mut producers = Vec::new();
        for thread in std::mem::take(&mut self.threads) {
            let Ok(slices) = thread.join() else {
                bail!("a producer panicked");
            };
            producers.push(slices?);
        }
        Ok(Sent {
            producers,
            flights: Arc::clone(&self.flights),
        })
    }
}

impl Drop for Producers {
    fn drop(&mut self) {
        // After a failed step they still run, and would try again for long.
        self.stop.store(true, Ordering::Relaxed);
        for running in &self.running {
            if let Some(child) = running.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
                let _ = child.kill();
            }
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// All slices that were sent.
pub struct Sent {
    producers: Vec<Vec<Slice>>,
    flights: Arc<Vec<String>>,
}

impl Sent {
    /// Every flight by its key, with what was sent and whether it was acknowledged.
    pub fn by_key(&self) -> anyhow::Result<BTreeMap<String, (Value, bool)>> {
        let mut flights = BTreeMap::new();
        for slice in self.producers.iter().flatten() {
            for number in slice.first..slice.first + SLICE {
                let flight = serde_json::from_str(flight(&self.flights, slice.producer, number))?;
                flights.insert(key(slice.producer, number), (flight, slice.acknowledged));
            }
        }
        Ok(flights)
    }

    /// Slices that were sent.
    pub fn slices(&self) -> usize {
        self.producers.iter().map(Vec::len).sum()
    }

    /// The times between an acknowledged slice of a producer and its next one which touch a span of time. While a
    /// partition has no leader there is no such end: a slice has flights of all carriers, and so for all partitions.
    pub fn gaps(&self, from: Instant, to: Instant) -> Vec<Duration> {
        let mut gaps = Vec::new();
        for slices in &self.producers {
            let ends: Vec<Instant> = slices
                .iter()
                .filter(|slice| slice.acknowledged)
                .map(|slice| slice.ended)
                .collect();
            let touching = ends
                .windows(2)
                .filter(|pair| pair[1] > from && pair[0] < to)
                .map(|pair| pair[1] - pair[0]);
            gaps.extend(touching);
        }
        gaps.sort();
        gaps
    }
}

fn send(
    commands: &Commands,
    flights: &[String],
    producer: usize,
    first: usize,
    running: &Running,
) -> anyhow::Result<Slice> {
    let mut lines = String::new();
    for number in first..first + SLICE {
        lines += &key(producer, number);
        lines += SEPARATOR;
        lines += flight(flights, producer, number);
        lines += "\n";
    }
    let mut child = commands
        .command(&[
            "produce",
            TOPIC,
            "--key-separator",
            SEPARATOR,
            "--acks",
            "all",
            "--quiet",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start a producer")?;
    let (input, output) = (child.stdin.take(), child.stdout.take());
    *running.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    if let Some(mut input) = input {
        // Who ends before it has read everything fails, which is seen below.
        let _ = input.write_all(lines.as_bytes());
    }
    if let Some(mut output) = output {
        // Its output ends when it does.
        let _ = output.read_to_end(&mut Vec::new());
    }
    let child = running.lock().unwrap_or_else(PoisonError::into_inner).take();
    let status = child.context("a producer is gone")?.wait()?;
    Ok(Slice {
        producer,
        first,
        ended: Instant::now(),
        acknowledged: status.success(),
    })
}

fn key(producer: usize, number: usize) -> String {
    format!("{producer}-{number}")
}

/// The flights go round, and each producer begins elsewhere.
fn flight(flights: &[String], producer: usize, number: usize) -> &str {
    let begin = flights.len() * producer / PRODUCERS;
    &flights[(begin + number) % flights.len()]
}

/// The consumer of the view, in its group; what it prints goes into a file.
pub struct Reader {
    child: Child,
    file: PathBuf,
}

impl Reader {
    /// Starts it.
    pub fn start(commands: &Commands, folder: &Path) -> anyhow::Result<Self> {
        let file = folder.join("view.jsonl");
        let child = commands
            .command(&[
                "consume", VIEW, "--group", GROUP, "--from", "earliest", "--format", "json",
            ])
            .stdout(File::create(&file)?)
            .spawn()
            .context("cannot start a consumer")?;
        Ok(Self { child, file })
    }

    /// Waits until it has printed so many records, not counting those that it was given again.
    pub fn wait_for(&mut self, records: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + READ_WAIT;
        loop {
            let mut places = BTreeSet::new();
            for line in BufReader::new(File::open(&self.file)?).lines() {
                // The last line may be on its way to the file.
                if let Ok(record) = serde_json::from_str(&line?) {
                    places.insert(place(&record));
                }
            }
            let printed = places.len();
            if printed >= records {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("the consumer of {VIEW} ended with {status} after {printed} records");
            }
            ensure!(
                Instant::now() < deadline,
                "the consumer of {VIEW} has printed {printed} records of {records} after {} s",
                READ_WAIT.as_secs()
            );
            std::thread::sleep(READ_POLL);
        }
    }

    /// Asks it to commit and end; gives what it printed.
    pub fn finish(mut self) -> anyhow::Result<Vec<Value>> {
        shell::read(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the consumer of {VIEW} ended with {status}");
        let lines = BufReader::new(File::open(&self.file)?).lines();
        lines.map(|line| Ok(serde_json::from_str(&line?)?)).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // After `finish` both calls have nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Producers at a time.
pub const PRODUCERS: usize = 2;
/// Flights in a slice.
pub const SLICE: usize = 100;
/// Stands between key and value, and in no flight.
const SEPARATOR: &str = "|";
/// How long the consumer may take for what is left when the producers are done.
const READ_WAIT: Duration = Duration::from_secs(30);
const READ_POLL: Duration = Duration::from_millis(100);
