//! Runs a batch's records through the plugins of a topic, one after the other, slice by slice.
//!
//! A slice is small enough to stay within the processor's cache while all plugins of the chain see it. What becomes of
//! records that fail is decided here, by the policy they were attached with; where records go, by a [`Sink`].

use std::sync::Arc;

use millstream_core::config::OnError;
use millstream_core::ids::TopicName;
use millstream_kafka::records::{BatchError, BatchView, BuildError, RecordSpan};
use millstream_runtime::{RowsBuilder, Targets, Verdict, World};
use sha2::{Digest, Sha256};

use super::ledger::cut;
use super::seat::{CallFailure, Seat};
use super::slice::{Outgoing, Slice};
use super::stages::{Stage, Stopwatch};
use super::{Plugins, seat::Running};
use crate::topics::Attached;

/// Takes what comes out of a chain.
pub trait Sink {
    /// Takes a record that has passed.
    ///
    /// # Errors
    /// It cannot be taken; the batch fails.
    fn record(&mut self, record: &Outgoing<'_>) -> Result<(), BuildError>;

    /// Takes a record that failed at a plugin whose policy sends it to another topic.
    ///
    /// # Errors
    /// It cannot be taken; the batch fails.
    fn dead_letter(
        &mut self,
        to: &TopicName,
        by: &Running,
        record: &Outgoing<'_>,
        reason: &str,
    ) -> Result<(), BuildError>;

    /// Bytes taken so far.
    fn bytes(&self) -> usize;
}

/// How a batch is run.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// The most bytes that may come out.
    pub bytes_max: usize,
    /// Partitions that a partitioner may choose from.
    pub partitions: u32,
    /// The partition of records that a partitioner has no answer for.
    pub entrance: u32,
}

/// Why a batch did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Records failed at a plugin whose policy is to fail.
    Records {
        /// Name and version of the plugin.
        plugin: String,
        /// The first of them, by their offset in the batch, with the reason.
        records: Vec<(i32, String)>,
        /// How many there are.
        count: usize,
        /// Whether the plugin failed at all of them at once: they are not to blame.
        is_call: bool,
    },
    /// The broker has no place for an instance now.
    Busy(String),
    /// The batch cannot be read.
    Batch(BatchError),
    /// What came out cannot be one batch.
    Build(BuildError),
    /// More came out than is allowed.
    TooLarge {
        /// The bound.
        bytes_max: usize,
    },
}

impl Failure {
    /// A sentence for people.
    pub fn message(&self) -> String {
        match self {
            Self::Records {
                plugin,
                records,
                count,
                is_call,
            } => {
                let first = records.first().map_or("no reason given", |(_, reason)| reason);
                match (is_call, count) {
                    (true, _) => format!("plugin {plugin} failed: {first}"),
                    (false, 1) => format!("plugin {plugin} failed on a record: {first}"),
                    (false, count) => {
                        format!("plugin {plugin} failed on {count} records, the first: {first}")
                    }
                }
            }
            Self::Busy(reason) => reason.clone(),
            Self::Batch(error) => error.to_string(),
            Self::Build(error) => error.to_string(),
            Self::TooLarge { bytes_max } => format!("plugins made more than {bytes_max} bytes of a batch"),
        }
    }
}

impl From<BatchError> for Failure {
    fn from(error: BatchError) -> Self {
        Self::Batch(error)
    }
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

/// Tells chains apart that could give different answers.
pub fn fingerprint(running: &[Arc<Running>]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for running in running {
        hash.update(running.fingerprint);
    }
    hash.finalize().into()
}

/// Takes a place at every plugin of a chain, in its order: since all batches of all chains take them so, none waits
/// for another in a circle.
pub async fn take_seats(chain: &[Arc<Attached>], running: &[Arc<Running>]) -> Vec<Seat> {
    let mut seats = Vec::with_capacity(chain.len());
    for (attached, running) in chain.iter().zip(running) {
        seats.push(Seat::take(attached, running.clone()).await);
    }
    seats
}

/// Runs all records of a batch, whose decompressed bytes are `data`. Blocks as long as the plugins compute.
///
/// What it takes is counted on `watch`.
///
/// # Errors
/// Why the batch does not pass. The sink may have taken some of it.
pub fn run(
    seats: &mut [Seat],
    batch: &BatchView<'_>,
    data: &[u8],
    how: Run,
    sink: &mut impl Sink,
    watch: &mut Stopwatch,
) -> Result<(), Failure> {
    // What the header says is the client's word: it reserves only so much.
    let expected = (batch.header().records_count.max(0) as usize).min(RESERVED_RECORDS_MAX);
    let mut rows = RowsBuilder::with_capacity(expected);
    let mut spans: Vec<RecordSpan> = Vec::with_capacity(expected);
    let mut all = batch.spans(data);
    loop {
        let mut bytes = 0;
        for span in all.by_ref() {
            let span = span?;
            bytes += span.record.len();
            spans.push(span);
            if bytes >= SLICE_BYTES {
                break;
            }
        }
        if spans.is_empty() {
            return Ok(());
        }
        let mut slice = Slice::new(batch.header(), data, &spans);
        for seat in seats.iter_mut() {
            if slice.is_empty() {
                break;
            }
            pass(seat, &mut slice, &mut rows, how, sink, watch)?;
        }
        watch.lap(Stage::Index);
        for record in slice.records() {
            sink.record(&record)?;
        }
        watch.lap(Stage::Encode);
        if sink.bytes() > how.bytes_max {
            return Err(Failure::TooLarge {
                bytes_max: how.bytes_max,
            });
        }
        watch.records += spans.len() as u64;
        drop(slice);
        spans.clear();
    }
}

/// Has one plugin see a slice.
fn pass(
    seat: &mut Seat,
    slice: &mut Slice<'_>,
    rows: &mut RowsBuilder,
    how: Run,
    sink: &mut impl Sink,
    watch: &mut Stopwatch,
) -> Result<(), Failure> {
    slice.write_rows(rows);
    let count = slice.len();
    watch.lap(Stage::Index);
    let answered = match Plugins::world(&seat.attached.plugin) {
        World::Filter => seat
            .call(count, |plugin| plugin.filter(rows.bytes(), slice.data()))
            .map(Answer::Verdicts),
        World::Partitioner => seat
            .call(count, |plugin| {
                plugin.partition(rows.bytes(), slice.data(), how.partitions)
            })
            .map(Answer::Targets),
        World::Transform => seat
            .call(count, |plugin| plugin.transform(rows.bytes(), slice.data()))
            .map(Answer::Transformed),
    };
    watch.lap(Stage::Plugin);
    let answer = match answered {
        Ok(answer) => answer,
        Err(CallFailure::Plugin(reason)) => return fail_all(seat, slice, how, sink, &reason),
        Err(CallFailure::Busy(reason)) => return Err(Failure::Busy(reason)),
    };
    match answer {
        Answer::Verdicts(verdicts) => {
            sort_out(seat, slice, &verdicts.errors, sink)?;
            let keep: Vec<bool> = verdicts.iter().map(|verdict| verdict == Verdict::Keep).collect();
            slice.retain(|row| keep[row]);
        }
        Answer::Targets(targets) => {
            if targets.errors.is_empty() || seat.attached.attachment.on_error != OnError::Skip {
                sort_out(seat, slice, &targets.errors, sink)?;
            } else {
                complain(seat, targets.errors.len(), &targets.errors[0].1);
            }
            slice.set_targets(|row| match targets.partitions[row] {
                Targets::ERROR => how.entrance,
                target => target,
            });
        }
        Answer::Transformed(made) => {
            let errors: Vec<(u32, String)> = made
                .rows
                .iter()
                .filter_map(|row| match &row.made {
                    millstream_runtime::Made::Error(reason) => Some((row.source, reason.clone())),
                    millstream_runtime::Made::Record { .. } => None,
                })
                .collect();
            sort_out(seat, slice, &errors, sink)?;
            if let Err(reason) = slice.apply(made) {
                seat.renounce();
                let reason = format!("the plugin answered nonsense: {reason}");
                return fail_all(seat, slice, how, sink, &reason);
            }
        }
    }
    Ok(())
}

enum Answer {
    Verdicts(millstream_runtime::Verdicts),
    Targets(Targets),
    Transformed(millstream_runtime::Transformed),
}

/// Does with rows that failed what the policy says. They are still in the slice afterwards.
fn sort_out(
    seat: &Seat,
    slice: &Slice<'_>,
    errors: &[(u32, String)],
    sink: &mut impl Sink,
) -> Result<(), Failure> {
    let Some((_, first)) = errors.first() else {
        return Ok(());
    };
    complain(seat, errors.len(), first);
    match &seat.attached.attachment.on_error {
        OnError::Skip => Ok(()),
        OnError::Fail => {
            let shown = errors.iter().take(ERRORS_SHOWN_MAX);
            let records = shown.map(|(row, reason)| (slice.record(*row as usize).delta, reason.clone()));
            Err(Failure::Records {
                plugin: seat.name(),
                records: records.collect(),
                count: errors.len(),
                is_call: false,
            })
        }
        OnError::DeadLetter(topic) => {
            for (row, reason) in errors {
                sink.dead_letter(topic, seat.running(), &slice.record(*row as usize), reason)?;
            }
            Ok(())
        }
    }
}

/// Does with all records of a call that failed what the policy says.
fn fail_all(
    seat: &Seat,
    slice: &mut Slice<'_>,
    how: Run,
    sink: &mut impl Sink,
    reason: &str,
) -> Result<(), Failure> {
    complain(seat, slice.len(), reason);
    match &seat.attached.attachment.on_error {
        OnError::Fail => Err(Failure::Records {
            plugin: seat.name(),
            records: vec![(slice.record(0).delta, reason.to_owned())],
            count: slice.len(),
            is_call: true,
        }),
        OnError::Skip if Plugins::world(&seat.attached.plugin) == World::Partitioner => {
            slice.set_targets(|_| how.entrance);
            Ok(())
        }
        OnError::Skip => {
            slice.retain(|_| false);
            Ok(())
        }
        OnError::DeadLetter(topic) => {
            for record in slice.records() {
                sink.dead_letter(topic, seat.running(), &record, reason)?;
            }
            slice.retain(|_| false);
            Ok(())
        }
    }
}

fn complain(seat: &Seat, count: usize, reason: &str) {
    let counters = &seat.running().counters;
    counters.errors(count, reason);
    if counters.may_complain() {
        let reason = cut(reason, REASON_BYTES_MAX);
        tracing::warn!(plugin = %seat.name(), topic = %seat.attached.topic, count, reason, "a plugin failed");
    }
}

/// Bytes of records that one call gets, about: more would not stay in the processor's cache beside what the plugin needs.
const SLICE_BYTES: usize = 96 * 1024;
/// Records of a slice that memory is reserved for because a header counts so many.
const RESERVED_RECORDS_MAX: usize = 1024;
/// Records that a failure names.
const ERRORS_SHOWN_MAX: usize = 100;
/// Longest reason in the broker's log.
const REASON_BYTES_MAX: usize = 1024;
