//! Runs the plugin of a transform over what was read of a source, and gathers what comes out by sink and partition.
//!
//! Nothing here waits or asks anybody: it is called on a thread that may block. Batches of aborted transactions are left
//! out, as a reader of committed records does it. When a call fails as a whole, the slice is halved until the record is
//! found that is to blame; what is done with it was chosen when the transform was deployed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use millstream_core::config::OnError;
use millstream_core::ids::TopicName;
use millstream_kafka::partition_of_key;
use millstream_kafka::records::{
    self, Aborted, BatchBuilder, BatchHeader, BatchView, Header, Headers, RecordSpan, Scratch,
};
use millstream_runtime::{Made, MadeRow, Part, RowsBuilder, Transformed, Verdict};

use super::doubt::{Doubt, Origin};
use super::tally::Tally;
use crate::context::now_ms;
use crate::plugins::CallFailure;
use crate::plugins::dead_letter as letter;
use crate::plugins::slice::{Outgoing, Slice, count_headers};
use crate::plugins::worker::{Answer, Worker};

/// What was read.
#[derive(Debug, Clone, Default)]
pub struct Input {
    /// Whole batches, one after the other.
    pub batches: Bytes,
    /// Producers and first offsets of the aborted transactions among them.
    pub aborted: Vec<(i64, i64)>,
}

/// Where a transform reads and writes, as far as computing needs it.
#[derive(Debug, Clone)]
pub struct Shape {
    /// The source.
    pub topic: TopicName,
    /// Which of its partitions.
    pub partition: i32,
    /// The sinks, by place; behind them the topic of dead letters, if there is one.
    pub sinks: Arc<[Sink]>,
    /// Names of the sinks that the plugin may write to.
    pub declared: Arc<[String]>,
    /// What happens to records that the plugin fails on.
    pub on_error: OnError,
    /// Bytes that a batch of the source may have once decompressed.
    pub decompressed_max: usize,
}

/// A topic that is written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sink {
    /// Its name.
    pub topic: TopicName,
    /// How many partitions it has.
    pub partitions: i32,
    /// Bytes of the largest batch that it takes.
    pub batch_bytes_max: usize,
    /// Whether it takes no record without a key.
    pub is_compacted: bool,
    /// How far timestamps may lie before the time of day, and behind it, in milliseconds; none if it stamps records itself.
    pub timestamps_ms_max: Option<(i64, i64)>,
}

impl Sink {
    /// Why it would not take a record, if it would not.
    fn refuses(&self, wanted: &Wanted<'_>) -> Option<String> {
        let (topic, bytes) = (&self.topic, wanted.bytes());
        if bytes > self.batch_bytes_max {
            let max = self.batch_bytes_max;
            return Some(format!(
                "{bytes} bytes for '{topic}', which takes {max} (max.message.bytes)"
            ));
        }
        if self.is_compacted && wanted.key.is_none() {
            return Some(format!("no key for '{topic}', which is compacted"));
        }
        let (before, after) = self.timestamps_ms_max?;
        let (timestamp, now) = (wanted.timestamp_ms, now_ms());
        let is_far = timestamp.saturating_sub(now) > after || now.saturating_sub(timestamp) > before;
        (timestamp != -1 && is_far)
            .then(|| format!("a timestamp that is further from now than '{topic}' allows"))
    }
}

/// What comes out, until it is written.
#[derive(Debug, Default)]
pub struct Output {
    /// Batches, the oldest first, by the place of the sink and partition.
    pub parts: BTreeMap<(usize, i32), VecDeque<BatchBuilder>>,
    /// Bytes of all of them.
    pub bytes: usize,
    /// What was read for it, in bytes.
    pub bytes_read: usize,
    /// What happened.
    pub tally: Tally,
    /// What of the source it came of.
    pub origin: Origin,
    doubt: Doubt,
    room: Room,
}

/// How many bytes of output all partitions of a broker have in memory.
#[derive(Debug, Clone, Default)]
pub struct Room(Arc<AtomicUsize>);

impl Room {
    /// Of which so many bytes are taken.
    #[cfg(test)]
    pub fn with(taken: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(taken)))
    }

    /// How many bytes are taken.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Output {
    /// Nothing yet. What comes takes room until it is dropped.
    pub fn of(room: &Room) -> Self {
        Self {
            parts: BTreeMap::new(),
            bytes: 0,
            bytes_read: 0,
            tally: Tally::default(),
            origin: Origin::default(),
            doubt: Doubt::default(),
            room: room.clone(),
        }
    }

    /// The same, where sinks have refused something.
    pub fn doubting(mut self, doubt: &Doubt) -> Self {
        self.doubt = doubt.clone();
        self
    }

    /// Whether it is to be written before there is more. Where all partitions together have much, each may have less.
    pub fn is_full(&self) -> bool {
        self.bytes >= OUTPUT_BYTES_MAX
            || (self.bytes >= SHARE_BYTES_MIN && self.room.taken() > ROOM_BYTES)
            || self.room_for_records() == 0
    }

    /// Of how many more records it may come.
    fn room_for_records(&self) -> usize {
        self.doubt.room(self.origin.records)
    }

    /// Notes a record that something comes of, or that is to blame.
    fn comes_of(&mut self, offset: i64) {
        let origin = &mut self.origin;
        if origin.records == 0 || origin.last != offset {
            (origin.records, origin.last) = (origin.records + 1, offset);
        }
    }

    fn grow(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.room.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.room.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Why computing ended before the end of what was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Halt {
    /// Enough came out for now.
    Full,
    /// Its time is over: what came out is to be written, and others have their turn.
    Over,
    /// The plugin failed on this record, and that is to stop the partition.
    Record {
        /// The record.
        offset: i64,
        /// Why.
        reason: String,
    },
    /// There is no place for an instance now.
    Busy(String),
    /// What was read is damaged.
    Corrupt(String),
}

/// Runs everything from the offset `from` on that is in `input`, or a part of it if that is so much that `is_over` becomes
/// true meanwhile. Gives the offset behind the last record whose output is in `output` now, and why it is not the last one
/// of the input.
pub fn run(
    worker: &Worker,
    shape: &Shape,
    input: &Input,
    from: i64,
    output: &mut Output,
    is_over: &dyn Fn() -> bool,
) -> (i64, Option<Halt>) {
    let mut scratch = Scratch::default();
    let mut run = Run {
        worker,
        shape,
        output,
        begun: from,
        next: from,
        rows: RowsBuilder::new(),
        is_over,
    };
    let mut skipped = Aborted::new(input.aborted.iter().copied());
    for batch in records::batches(&input.batches) {
        let batch = match batch {
            Ok(batch) => batch,
            Err(error) => return (run.next, Some(Halt::Corrupt(error.to_string()))),
        };
        let header = *batch.header();
        let end = header.base_offset + i64::from(header.last_offset_delta) + 1;
        let is_wanted = counts(&mut skipped, &batch) && end > run.next;
        if is_wanted && let Err(halt) = run.batch(&batch, &mut scratch) {
            return (run.next, Some(halt));
        }
        run.next = run.next.max(end);
    }
    (run.next, None)
}

/// Batches of an input with records that count.
#[cfg(test)]
pub fn wanted(input: &Input) -> impl Iterator<Item = Result<BatchView<'_>, records::BatchError>> {
    let mut skipped = Aborted::new(input.aborted.iter().copied());
    records::batches(&input.batches)
        .filter(move |batch| batch.as_ref().map_or(true, |b| counts(&mut skipped, b)))
}

/// Whether the next batch has records that count.
fn counts(aborted: &mut Aborted, batch: &BatchView<'_>) -> bool {
    let header = batch.header();
    let is_aborted = aborted.has(header, batch.payload());
    !is_aborted && !header.attributes.is_control() && header.records_count > 0
}

struct Run<'a> {
    worker: &'a Worker,
    shape: &'a Shape,
    output: &'a mut Output,
    /// Where it began.
    begun: i64,
    next: i64,
    rows: RowsBuilder,
    is_over: &'a dyn Fn() -> bool,
}

impl Run<'_> {
    fn batch(&mut self, batch: &BatchView<'_>, scratch: &mut Scratch) -> Result<(), Halt> {
        let corrupt = |error: records::BatchError| Halt::Corrupt(error.to_string());
        let data = batch
            .data(scratch, self.shape.decompressed_max)
            .map_err(corrupt)?;
        let header = *batch.header();
        let from = self.next - header.base_offset;
        let mut all = batch.spans(data);
        let mut spans: Vec<RecordSpan> = Vec::new();
        loop {
            let mut bytes = 0;
            for span in all.by_ref() {
                let span = span.map_err(corrupt)?;
                if i64::from(span.offset_delta) < from {
                    continue;
                }
                bytes += span.record.len();
                spans.push(span);
                if bytes >= SLICE_BYTES || spans.len() >= self.output.room_for_records() {
                    break;
                }
            }
            let Some(last) = spans.last().map(|span| span.offset_delta) else {
                return Ok(());
            };
            self.may_go_on()?;
            self.output.tally.records_in += spans.len() as u64;
            let passed = self.pass(&header, data, &spans);
            if let Err(halt) = passed {
                // Those from the one that stopped it on come again.
                let left = spans
                    .iter()
                    .filter(|s| header.base_offset + i64::from(s.offset_delta) >= self.next);
                self.output.tally.records_in -= left.count() as u64;
                return Err(halt);
            }
            self.output.bytes_read += bytes;
            self.next = header.base_offset + i64::from(last) + 1;
            spans.clear();
        }
    }

    /// Between two calls of the plugin: whether there is to be another one. There is, until a record is done.
    fn may_go_on(&self) -> Result<(), Halt> {
        if self.output.is_full() {
            return Err(Halt::Full);
        }
        match self.next > self.begun && (self.is_over)() {
            true => Err(Halt::Over),
            false => Ok(()),
        }
    }

    /// Has the plugin see records, and takes what it makes of them.
    fn pass(&mut self, header: &BatchHeader, data: &[u8], spans: &[RecordSpan]) -> Result<(), Halt> {
        let slice = Slice::new(header, data, spans);
        slice.write_rows(&mut self.rows);
        let (answer, took) = self.worker.call(self.rows.bytes(), slice.data());
        self.output.tally.nanoseconds += took.as_nanos() as u64;
        match answer {
            Ok(Answer::Verdicts(verdicts)) => {
                let mut errors = verdicts.errors.iter();
                for (row, verdict) in verdicts.iter().enumerate() {
                    match verdict {
                        Verdict::Keep => self.take(header, &slice, row as u32, &[kept(row as u32)], &[])?,
                        Verdict::Drop => self.output.tally.dropped += 1,
                        Verdict::Error => {
                            let reason = errors.next().map_or("", |(_, reason)| reason.as_str());
                            self.fail(header, &slice.record(row), reason)?;
                        }
                    }
                    self.passed(header, &spans[row]);
                }
                Ok(())
            }
            Ok(Answer::Transformed(made)) => self.take_all(header, &slice, spans, &made),
            Err(CallFailure::Busy(reason)) => Err(Halt::Busy(reason)),
            Err(CallFailure::Plugin(reason)) if spans.len() == 1 => {
                self.fail(header, &slice.record(0), &reason)?;
                self.passed(header, &spans[0]);
                Ok(())
            }
            Err(CallFailure::Plugin(_)) => {
                let (first, second) = spans.split_at(spans.len() / 2);
                self.pass(header, data, first)?;
                self.may_go_on()?;
                self.pass(header, data, second)
            }
        }
    }

    /// Notes that a record is done with.
    fn passed(&mut self, header: &BatchHeader, span: &RecordSpan) {
        self.next = header.base_offset + i64::from(span.offset_delta) + 1;
    }

    fn take_all(
        &mut self,
        header: &BatchHeader,
        slice: &Slice<'_>,
        spans: &[RecordSpan],
        made: &Transformed,
    ) -> Result<(), Halt> {
        let mut rows = &made.rows[..];
        for (source, span) in (0..).zip(spans) {
            let count = rows.iter().take_while(|row| row.source == source).count();
            let (own, rest) = rows.split_at(count);
            rows = rest;
            self.take(header, slice, source, own, &made.data)?;
            self.passed(header, span);
        }
        Ok(())
    }

    /// Takes all that came of one record, or nothing of it.
    fn take(
        &mut self,
        header: &BatchHeader,
        slice: &Slice<'_>,
        source: u32,
        rows: &[MadeRow],
        data: &[u8],
    ) -> Result<(), Halt> {
        let record = slice.record(source as usize);
        if rows.is_empty() {
            self.output.tally.dropped += 1;
            return Ok(());
        }
        if let [
            MadeRow {
                made: Made::Error(reason),
                ..
            },
        ] = rows
        {
            return self.fail(header, &record, reason);
        }
        let offset = header.base_offset + i64::from(record.delta);
        if let Some(reason) = self.output.doubt.blames(offset).map(str::to_owned) {
            // What comes behind it may be to blame as well, and is not to be mixed up with it.
            self.output.comes_of(offset);
            return self.fail(header, &record, &reason);
        }
        let mut wanted = Vec::with_capacity(rows.len());
        for row in rows {
            match self.wanted(&record, row, data) {
                Ok(one) => wanted.push(one),
                Err(reason) => return self.fail(header, &record, &reason),
            }
        }
        for one in &wanted {
            self.put(offset, one);
        }
        self.output.tally.records_out += wanted.len() as u64;
        Ok(())
    }

    /// A record that is to come out, if it can.
    fn wanted<'r>(&self, from: &Outgoing<'r>, row: &MadeRow, data: &'r [u8]) -> Result<Wanted<'r>, String> {
        let place = usize::from(row.sink);
        let declared = self.shape.declared.len();
        let Some(sink) = self.shape.sinks[..declared].get(place) else {
            return Err(format!(
                "the plugin wrote to sink {place}, and there are {declared}: {}",
                self.shape.declared.join(", ")
            ));
        };
        let Made::Record { key, value, headers } = &row.made else {
            return Err("the plugin made a record beside an error".to_owned());
        };
        let part = |part: &Part, same: Option<&'r [u8]>| match part {
            Part::Same => same,
            Part::Absent => None,
            Part::New(range) => Some(&data[range.start as usize..range.end as usize]),
        };
        let headers = match headers {
            Part::Same => from.headers,
            Part::Absent => Headers::default(),
            Part::New(range) => {
                let raw = &data[range.start as usize..range.end as usize];
                let count = count_headers(raw).ok_or("the plugin made malformed headers")?;
                Headers::parse(raw, count).map_err(|error| error.to_string())?
            }
        };
        let (key, value) = (part(key, from.key), part(value, from.value));
        let wanted = Wanted {
            sink: place,
            timestamp_ms: from.timestamp_ms,
            key,
            value,
            headers,
        };
        match sink.refuses(&wanted) {
            None => Ok(wanted),
            Some(reason) => Err(format!(
                "the plugin made a record that its sink would not take: {reason}"
            )),
        }
    }

    fn put(&mut self, offset: i64, wanted: &Wanted<'_>) {
        self.output.comes_of(offset);
        let sink = &self.shape.sinks[wanted.sink];
        let partition = match wanted.key {
            Some(key) => partition_of_key(key, sink.partitions),
            // The order of a source partition stays.
            None => self.shape.partition % sink.partitions.max(1),
        };
        let batches = self.output.parts.entry((wanted.sink, partition)).or_default();
        let bytes = wanted.bytes();
        let batch_max = sink.batch_bytes_max.min(BATCH_BYTES);
        if batches
            .back()
            .is_none_or(|batch| batch.bytes() + bytes > batch_max)
        {
            batches.push_back(BatchBuilder::new());
        }
        let batch = batches.back_mut().expect("one was put there just now");
        let delta = batch.len() as i32;
        let appended = batch.append_raw(
            delta,
            wanted.timestamp_ms,
            wanted.key,
            wanted.value,
            wanted.headers,
        );
        appended.expect("a batch is far from two gigabytes, and its offsets rise");
        self.output.grow(bytes);
    }

    /// Does with a record that failed what was chosen.
    fn fail(&mut self, header: &BatchHeader, record: &Outgoing<'_>, reason: &str) -> Result<(), Halt> {
        let reason = match reason.is_empty() {
            true => "the plugin gave no reason",
            false => &reason[..reason.floor_char_boundary(letter::REASON_BYTES_MAX)],
        };
        let offset = header.base_offset + i64::from(record.delta);
        self.output.tally.error(offset, reason);
        match self.shape.on_error {
            OnError::Fail => Err(Halt::Record {
                offset,
                reason: reason.to_owned(),
            }),
            OnError::Skip => Ok(()),
            OnError::DeadLetter(_) => self.dead_letter(record, offset, reason),
        }
    }

    /// # Errors
    /// The topic would not take it: then nobody is to believe that it is kept.
    fn dead_letter(&mut self, record: &Outgoing<'_>, offset: i64, reason: &str) -> Result<(), Halt> {
        let (plugin, version) = self.worker.plugin();
        let (version, partition) = (version.to_string(), self.shape.partition.to_string());
        let place = offset.to_string();
        let own = [
            (letter::PLUGIN, plugin),
            (letter::VERSION, &version),
            (letter::TOPIC, self.shape.topic.as_str()),
            (letter::PARTITION, &partition),
            (letter::OFFSET, &place),
            (letter::REASON, reason),
        ];
        let mut raw = record.headers.raw().to_vec();
        for (name, value) in own {
            let header = Header {
                key: name.as_bytes(),
                value: Some(value.as_bytes()),
            };
            header.write(&mut raw);
        }
        let count = record.headers.len() + own.len();
        let headers = Headers::parse(&raw, count as u32).expect("headers that were written just now");
        let letter = Wanted {
            sink: self.shape.declared.len(),
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers,
        };
        if let Some(refusal) = self.shape.sinks[letter.sink].refuses(&letter) {
            return Err(Halt::Record {
                offset,
                reason: format!("{reason}; and it can be no dead letter: {refusal}"),
            });
        }
        self.put(offset, &letter);
        self.output.tally.dead_lettered += 1;
        Ok(())
    }
}

/// A record that is to come out.
struct Wanted<'a> {
    sink: usize,
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl Wanted<'_> {
    /// What it takes in a batch of its own, at most.
    fn bytes(&self) -> usize {
        let parts = self.key.map_or(0, <[u8]>::len) + self.value.map_or(0, <[u8]>::len);
        parts + self.headers.raw().len() + RECORD_BYTES
    }
}

/// A record as it was.
fn kept(source: u32) -> MadeRow {
    MadeRow {
        source,
        sink: 0,
        made: Made::Record {
            key: Part::Same,
            value: Part::Same,
            headers: Part::Same,
        },
    }
}

/// Bytes of records that one call gets, about: more would not stay in the processor's cache beside what the plugin needs.
const SLICE_BYTES: usize = 96 * 1024;
/// Bytes of output from which on no more is computed before it is written.
const OUTPUT_BYTES_MAX: usize = 8 << 20;
/// Bytes of the output of all partitions from which on each may have less.
const ROOM_BYTES: usize = 256 << 20;
/// What a partition may have in any case.
const SHARE_BYTES_MIN: usize = 512 << 10;
/// Bytes of one batch, about, even where larger ones may be written.
const BATCH_BYTES: usize = 512 << 10;
/// What a record takes in a batch beside its parts, and the batch's own header, at most.
const RECORD_BYTES: usize = 61 + 64;
