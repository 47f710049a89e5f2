//! Runs a component over records without a broker, as a broker would: the same batches, the same limits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millstream_runtime::{
    self as runtime, Engine, EngineConfig, Instance, InstantiateError, Level, Limits, LogSink, Part, Plugin,
    Row, RowsBuilder, Transformed, Verdict, World,
};

/// A record to run on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Input {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Headers in order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

/// Where the component runs.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    /// Its configuration.
    pub config: &'a [u8],
    /// Its limits.
    pub limits: &'a Limits,
    /// Partitions that a partitioner chooses from.
    pub partitions: u32,
    /// Names of the sinks that a transform is deployed to; none on ingest and for views.
    pub sinks: Arc<[String]>,
}

/// A record that came out.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// Place of its sink; 0 where there is only one.
    pub sink: u16,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value.
    pub value: Option<Vec<u8>>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What the component is.
    pub world: &'static str,
    /// Records that went in.
    pub records_in: u64,
    /// Records that came out; of a partitioner those that got a partition.
    pub records_out: u64,
    /// Records that were dropped.
    pub dropped: u64,
    /// Records that failed.
    pub errors: u64,
    /// Number of the record and reason, for the first of them.
    pub first_errors: Vec<(usize, String)>,
    /// What came out, in order.
    pub out: Vec<Made>,
    /// Names of the sinks.
    pub sinks: Arc<[String]>,
    /// Records by partition, for a partitioner.
    pub by_partition: Vec<u64>,
    /// Time of all calls by records, in nanoseconds, of the fastest pass.
    pub ns_per_record: f64,
    /// Fuel per record.
    pub fuel_per_record: f64,
    /// The most memory that the instance had, in bytes.
    pub memory_bytes_peak: u64,
    /// Lines that it logged.
    pub log: Vec<String>,
    /// Lines that were dropped because there were too many.
    pub log_lines_dropped: u64,
    /// Time to compile the component.
    pub compile_time: Duration,
}

/// Runs a component over all records, then again for the time that a pass takes.
///
/// # Errors
/// The component is none, refuses its configuration, fails as a whole, or makes several records of one without being deployed.
pub fn run(component: &[u8], place: &Place<'_>, records: &[Input]) -> anyhow::Result<Outcome> {
    let engine = Engine::new(EngineConfig::default())?;
    let begun = Instant::now();
    let plugin = engine.compile(component)?;
    let mut outcome = Outcome {
        compile_time: begun.elapsed(),
        world: plugin.world().name(),
        sinks: place.sinks.clone(),
        ..Outcome::default()
    };
    if plugin.world() == World::Partitioner {
        outcome.by_partition = vec![0; place.partitions as usize];
    }
    if plugin.world() != World::Transform && !place.sinks.is_empty() {
        bail!("a {} has no sinks: only transforms are deployed", plugin.world());
    }
    let log = Arc::new(Log::default());
    let mut instance = place.start(&plugin, log.sink())?;
    let slices = slice(records);
    for slice in &slices {
        let called = call(&plugin, &mut instance, slice, place, &mut outcome);
        called.with_context(|| format!("at record {} or later", slice.first + 1))?;
    }
    outcome.records_in = records.len() as u64;
    let usage = instance.usage();
    outcome.fuel_per_record = usage.fuel as f64 / records.len().max(1) as f64;
    outcome.memory_bytes_peak = usage.memory_bytes_peak;
    outcome.log_lines_dropped = usage.log_lines_dropped + log.beyond.load(Ordering::Relaxed);
    outcome.log = std::mem::take(&mut *log.lines.lock().unwrap_or_else(PoisonError::into_inner));
    outcome.ns_per_record = time(&plugin, place, &slices)? / records.len().max(1) as f64;
    Ok(outcome)
}

impl Place<'_> {
    fn start(&self, plugin: &Plugin, log: LogSink) -> Result<Instance, InstantiateError> {
        plugin.instantiate_with_sinks(self.config, self.limits, log, self.sinks.clone())
    }
}

/// Lines that a plugin logged, up to a number.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    beyond: AtomicU64,
}

impl Log {
    fn sink(self: &Arc<Self>) -> LogSink {
        let log = self.clone();
        Arc::new(move |level: Level, line: &str| {
            let mut lines = log.lines.lock().unwrap_or_else(PoisonError::into_inner);
            if lines.len() < LOG_LINES_MAX {
                lines.push(format!("{level:?}: {line}"));
            } else {
                log.beyond.fetch_add(1, Ordering::Relaxed);
            }
        })
    }
}

/// Records packed for one call.
struct Slice<'a> {
    /// Number of its first record.
    first: usize,
    records: &'a [Input],
    rows: RowsBuilder,
    data: Vec<u8>,
}

/// Cuts records into slices of the size that a broker uses.
fn slice(records: &[Input]) -> Vec<Slice<'_>> {
    let mut slices = Vec::new();
    let mut first = 0;
    while first < records.len() {
        let mut packed = Slice {
            first,
            records: &[],
            rows: RowsBuilder::new(),
            data: Vec::new(),
        };
        let mut end = first;
        while end < records.len() && (end == first || packed.data.len() < SLICE_BYTES) {
            packed.push(&records[end]);
            end += 1;
        }
        packed.records = &records[first..end];
        slices.push(packed);
        first = end;
    }
    slices
}

impl Slice<'_> {
    fn push(&mut self, record: &Input) {
        let mut add = |bytes: &[u8]| {
            let start = self.data.len() as u32;
            self.data.extend_from_slice(bytes);
            start..self.data.len() as u32
        };
        let key = record.key.as_deref().map(&mut add);
        let value = record.value.as_deref().map(&mut add);
        let headers = add(&encode_headers(&record.headers));
        self.rows.push(&Row {
            timestamp_ms: record.timestamp_ms,
            key,
            value,
            headers,
        });
    }
}

/// Headers as a record has them, without their number.
fn encode_headers(headers: &[(String, Option<Vec<u8>>)]) -> Vec<u8> {
    let mut out = Vec::new();
    let length = |length: i64, out: &mut Vec<u8>| {
        let mut rest = ((length << 1) ^ (length >> 63)) as u64;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    };
    for (name, value) in headers {
        length(name.len() as i64, &mut out);
        out.extend_from_slice(name.as_bytes());
        length(value.as_ref().map_or(-1, |value| value.len() as i64), &mut out);
        out.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    out
}

fn call(
    plugin: &Plugin,
    instance: &mut Instance,
    slice: &Slice<'_>,
    place: &Place<'_>,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let errors = match plugin.world() {
        World::Filter => {
            let verdicts = instance.filter(slice.rows.bytes(), &slice.data)?;
            for (record, verdict) in slice.records.iter().zip(verdicts.iter()) {
                match verdict {
                    Verdict::Keep => outcome.keep(0, record.key.clone(), record.value.clone()),
                    Verdict::Drop => outcome.dropped += 1,
                    Verdict::Error => {}
                }
            }
            verdicts.errors
        }
        World::Partitioner => {
            let targets = instance.partition(slice.rows.bytes(), &slice.data, place.partitions)?;
            for target in &targets.partitions {
                if let Some(count) = outcome.by_partition.get_mut(*target as usize) {
                    *count += 1;
                    outcome.records_out += 1;
                }
            }
            targets.errors
        }
        World::Transform => {
            let made = instance.transform(slice.rows.bytes(), &slice.data)?;
            outcome.take(made, slice)?
        }
    };
    outcome.errors += errors.len() as u64;
    let room = ERRORS_SHOWN_MAX.saturating_sub(outcome.first_errors.len());
    let shown = errors
        .into_iter()
        .take(room)
        .map(|(row, reason)| (slice.first + row as usize + 1, reason));
    outcome.first_errors.extend(shown);
    Ok(())
}

impl Outcome {
    /// Records by the names of their sinks, in the sinks' order.
    pub fn by_sink(&self) -> impl Iterator<Item = (&str, usize)> {
        let mut counts = vec![0; self.sinks.len()];
        for record in &self.out {
            if let Some(count) = counts.get_mut(usize::from(record.sink)) {
                *count += 1;
            }
        }
        self.sinks.iter().map(String::as_str).zip(counts)
    }

    fn keep(&mut self, sink: u16, key: Option<Vec<u8>>, value: Option<Vec<u8>>) {
        self.records_out += 1;
        self.out.push(Made { sink, key, value });
    }

    /// Keeps what a transform made of a slice, and gives the errors.
    fn take(&mut self, made: Transformed, slice: &Slice<'_>) -> anyhow::Result<Vec<(u32, String)>> {
        let mut errors = Vec::new();
        let mut named = vec![false; slice.records.len()];
        for row in made.rows {
            let number = row.source as usize;
            let source = &slice.records[number];
            if std::mem::replace(&mut named[number], true) && self.sinks.is_empty() {
                bail!(
                    "it made several records of record {}, which only a deployed transform may; --sink NAME runs it as one",
                    slice.first + number + 1
                );
            }
            match row.made {
                runtime::Made::Record { key, value, .. } => {
                    let part = |part: Part, same: &Option<Vec<u8>>| match part {
                        Part::Same => same.clone(),
                        Part::Absent => None,
                        Part::New(range) => {
                            Some(made.data[range.start as usize..range.end as usize].to_vec())
                        }
                    };
                    self.keep(row.sink, part(key, &source.key), part(value, &source.value));
                }
                runtime::Made::Error(reason) => errors.push((row.source, reason)),
            }
        }
        self.dropped += named.iter().filter(|named| !**named).count() as u64;
        Ok(errors)
    }
}

/// Nanoseconds of the fastest of several passes over all slices.
fn time(plugin: &Plugin, place: &Place<'_>, slices: &[Slice<'_>]) -> anyhow::Result<f64> {
    let mut instance = place.start(plugin, Arc::new(|_, _| {}))?;
    let mut fastest = Duration::MAX;
    let begun = Instant::now();
    for pass in 0..PASSES_MAX {
        let pass_begun = Instant::now();
        for slice in slices {
            match plugin.world() {
                World::Filter => drop(instance.filter(slice.rows.bytes(), &slice.data)?),
                World::Partitioner => {
                    drop(instance.partition(slice.rows.bytes(), &slice.data, place.partitions)?)
                }
                World::Transform => drop(instance.transform(slice.rows.bytes(), &slice.data)?),
            }
        }
        fastest = fastest.min(pass_begun.elapsed());
        if pass > 0 && begun.elapsed() > TIMING_MAX {
            break;
        }
    }
    Ok(fastest.as_nanos() as f64)
}

/// Bytes of records that one call gets, about.
const SLICE_BYTES: usize = 64 * 1024;
/// Passes that are timed at most, and how long they may take together.
const PASSES_MAX: u32 = 50;
const TIMING_MAX: Duration = Duration::from_millis(500);
/// Failed records that are told with their reason.
const ERRORS_SHOWN_MAX: usize = 10;
/// Log lines that are kept.
const LOG_LINES_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_encoded_as_in_a_record() {
        let headers = [("ab".to_owned(), Some(b"xyz".to_vec())), ("c".to_owned(), None)];
        assert_eq!(encode_headers(&headers), b"\x04ab\x06xyz\x02c\x01");
    }

    #[test]
    fn slices_hold_every_record_once_and_in_order() {
        let record = Input {
            value: Some(vec![0; 40_000]),
            ..Input::default()
        };
        let records = vec![record; 5];
        let slices = slice(&records);
        let shape: Vec<_> = slices
            .iter()
            .map(|slice| (slice.first, slice.records.len()))
            .collect();
        assert_eq!(shape, [(0, 2), (2, 2), (4, 1)]);
        assert_eq!(slices[2].data.len(), 40_000);
    }
}
