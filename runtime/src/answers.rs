//! What guests answer, checked against the contract (`wit/plugin.wit`): nothing gets out of here that is not as documented.

use std::ops::Range;

use crate::bindings::host;
use crate::error::{CallError, shorten};
use crate::rows::ROW_BYTES;

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It goes.
    Drop,
    /// It stays.
    Keep,
    /// The plugin cannot judge it.
    Error,
}

/// What a filter answered, a verdict for each row.
#[derive(Debug, Clone, Default)]
pub struct Verdicts {
    bytes: Vec<u8>,
    /// Index of each row whose verdict is an error, ascending, and the reason.
    pub errors: Vec<(u32, String)>,
}

/// What a partitioner answered.
#[derive(Debug, Clone, Default)]
pub struct Targets {
    /// The partition of each row; [`Targets::ERROR`] if the row is an error.
    pub partitions: Vec<u32>,
    /// Index of each row that is an error, ascending, and the reason.
    pub errors: Vec<(u32, String)>,
}

/// What a transform answered.
#[derive(Debug, Clone, Default)]
pub struct Transformed {
    /// What was made, ascending by source; sources that are not named are dropped. An error is the only row of its source.
    pub rows: Vec<MadeRow>,
    /// Where new parts lie.
    pub data: Vec<u8>,
}

/// A record that a transform made, or the error that it made instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeRow {
    /// Index of the row that it was made of.
    pub source: u32,
    /// Place of the sink that it goes to; 0 where there is only one.
    pub sink: u16,
    /// What was made.
    pub made: Made,
}

/// What a transform made of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// A record with the timestamp of its source.
    Record {
        /// Its key.
        key: Part,
        /// Its value.
        value: Part,
        /// Its headers, as in a Kafka record without their number; never absent.
        headers: Part,
    },
    /// The plugin cannot judge the source, for this reason.
    Error(String),
}

/// A part of a record that a transform made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The source's.
    Same,
    /// Null.
    Absent,
    /// These bytes of [`Transformed::data`].
    New(Range<u32>),
}

impl Verdicts {
    pub(crate) fn check(answer: host::Filtered, rows: usize) -> Result<Self, CallError> {
        let bytes = answer.verdicts;
        if bytes.len() != rows {
            return Err(nonsense(format!("{} verdicts for {rows} records", bytes.len())));
        }
        // One pass that vectorises; the one that names the place comes after.
        if bytes.iter().fold(0, |most, byte| most.max(*byte)) > ERROR {
            let row = bytes.iter().position(|byte| *byte > ERROR).unwrap_or_default();
            return Err(nonsense(format!("verdict {} for record {row}", bytes[row])));
        }
        let failed = bytes.iter().filter(|byte| **byte == ERROR).count();
        let failures = (0..).zip(&bytes).filter(|(_, byte)| **byte == ERROR);
        let errors = reasons(answer.errors, failed, failures.map(|(row, _)| row))?;
        Ok(Self { bytes, errors })
    }

    /// The verdicts in the order of the rows.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Verdict> + '_ {
        self.bytes.iter().map(|byte| match byte {
            0 => Verdict::Drop,
            1 => Verdict::Keep,
            _ => Verdict::Error,
        })
    }

    /// How many rows are kept.
    pub fn kept(&self) -> usize {
        self.bytes.iter().filter(|byte| **byte == KEEP).count()
    }
}

impl Targets {
    /// In place of a partition: the row is an error.
    pub const ERROR: u32 = u32::MAX;

    pub(crate) fn check(answer: host::Partitioned, rows: usize, partitions: u32) -> Result<Self, CallError> {
        let (targets, rest) = answer.targets.as_chunks::<4>();
        if !rest.is_empty() || targets.len() != rows {
            return Err(nonsense(format!(
                "{} bytes of targets for {rows} records",
                answer.targets.len()
            )));
        }
        let targets: Vec<u32> = targets.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
        let wrong = |target: u32| target >= partitions && target != Self::ERROR;
        if let Some((row, target)) = (0..).zip(&targets).find(|(_, target)| wrong(**target)) {
            let row: u32 = row;
            return Err(nonsense(format!(
                "partition {target} of {partitions} for record {row}"
            )));
        }
        let failed = targets.iter().filter(|target| **target == Self::ERROR).count();
        let failures = (0..).zip(&targets).filter(|(_, target)| **target == Self::ERROR);
        let errors = reasons(answer.errors, failed, failures.map(|(row, _)| row))?;
        Ok(Self {
            partitions: targets,
            errors,
        })
    }
}

impl Transformed {
    /// Checks what was made of `rows`, which are those of the call. All that comes out may have as many bytes as the answer itself: rows
    /// can share a part, so that a short answer could otherwise ask for any number of long records.
    pub(crate) fn check(
        answer: host::Transformed,
        rows: &[u8],
        sinks: usize,
        output_limit: u64,
    ) -> Result<Self, CallError> {
        let (sources, _) = rows.as_chunks::<ROW_BYTES>();
        let (packed, rest) = answer.rows.as_chunks::<ROW_BYTES>();
        if !rest.is_empty() {
            return Err(nonsense(format!("{} bytes of rows", answer.rows.len())));
        }
        let data = answer.data;
        let mut made = Vec::with_capacity(packed.len());
        let mut before: Option<(u32, bool)> = None;
        let mut bytes_out = 0;
        for (row, bytes) in packed.iter().enumerate() {
            let about = |what: &str| nonsense(format!("{what} in row {row} of the answer"));
            let next = MadeRow::check(bytes, &data, about)?;
            let failed = matches!(next.made, Made::Error(_));
            let Some(source) = sources.get(next.source as usize) else {
                return Err(about(&format!("source {} of {}", next.source, sources.len())));
            };
            if usize::from(next.sink) >= sinks {
                let many = if sinks == 1 { "there is" } else { "there are" };
                return Err(about(&format!(
                    "sink {}, but {many} {sinks}, counted from 0,",
                    next.sink
                )));
            }
            let again = before.is_some_and(|(source, _)| source == next.source);
            bytes_out += ROW_BYTES as u64 + next.bytes(again.then_some(source));
            if bytes_out > output_limit {
                return Err(CallError::Output { limit: output_limit });
            }
            match before {
                Some((source, _)) if next.source < source => return Err(about("a source out of order")),
                Some((source, other)) if next.source == source && (failed || other) => {
                    return Err(about("a second row beside an error"));
                }
                _ => before = Some((next.source, failed)),
            }
            made.push(next);
        }
        Ok(Self { rows: made, data })
    }
}

impl MadeRow {
    /// Bytes of its new parts, and of those that it takes from a source.
    #[inline]
    fn bytes(&self, source: Option<&[u8; ROW_BYTES]>) -> u64 {
        let length = |part: &Part, at: usize| match (part, source) {
            (Part::New(range), _) => u64::from(range.end - range.start),
            (Part::Same, Some(row)) => {
                let length = i32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]]);
                u64::try_from(length).unwrap_or(0)
            }
            (Part::Same | Part::Absent, _) => 0,
        };
        match &self.made {
            Made::Record { key, value, headers } => {
                length(key, KEY_LENGTH) + length(value, VALUE_LENGTH) + length(headers, HEADERS_LENGTH)
            }
            Made::Error(reason) => reason.len() as u64,
        }
    }

    #[inline]
    fn check(
        bytes: &[u8; ROW_BYTES],
        data: &[u8],
        about: impl Fn(&str) -> CallError,
    ) -> Result<Self, CallError> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
        let (source, flags, sink) = (word(0), half(4), half(6));
        let part = |new: bool, at: usize, nullable: bool| {
            let (start, length) = (word(at), word(at + 4) as i32);
            match (new, length) {
                (false, 0) if start == 0 => Ok(Part::Same),
                (false, _) => Err(about("a part that is not new and has fields")),
                (true, -1) if nullable => Ok(Part::Absent),
                (true, 0) => Ok(Part::New(0..0)),
                (true, _) => match u32::try_from(length).ok().and_then(|n| start.checked_add(n)) {
                    Some(end) if end as usize <= data.len() => Ok(Part::New(start..end)),
                    _ => Err(about("a part outside of the data")),
                },
            }
        };
        if flags & !(FLAG_KEY | FLAG_VALUE | FLAG_HEADERS | FLAG_ERROR) != 0 {
            return Err(about("an unknown flag"));
        }
        if flags & FLAG_ERROR != 0 {
            let Part::New(reason) = part(true, 16, false)? else {
                return Err(about("a reason that is null"));
            };
            part(false, 8, false)?;
            part(false, 24, false)?;
            if flags != FLAG_ERROR || sink != 0 {
                return Err(about("an error with other flags or a sink"));
            }
            let text = String::from_utf8_lossy(&data[reason.start as usize..reason.end as usize]);
            return Ok(Self {
                source,
                sink,
                made: Made::Error(reason_of(text.into_owned())),
            });
        }
        Ok(Self {
            source,
            sink,
            made: Made::Record {
                key: part(flags & FLAG_KEY != 0, 8, true)?,
                value: part(flags & FLAG_VALUE != 0, 16, true)?,
                headers: part(flags & FLAG_HEADERS != 0, 24, false)?,
            },
        })
    }
}

/// Pairs the rows that failed with the reasons that the guest gave for some of them.
fn reasons(
    given: Vec<host::RowError>,
    failed: usize,
    failures: impl Iterator<Item = u32>,
) -> Result<Vec<(u32, String)>, CallError> {
    let mut given = given.into_iter().peekable();
    let mut errors = Vec::with_capacity(failed);
    for row in failures.take(failed) {
        let reason = given.next_if(|error| error.row == row);
        errors.push((
            row,
            reason_of(reason.map(|error| error.reason).unwrap_or_default()),
        ));
    }
    match given.next() {
        Some(error) => Err(nonsense(format!(
            "a reason for record {}, which is no error or not in order",
            error.row
        ))),
        None => Ok(errors),
    }
}

fn reason_of(reason: String) -> String {
    match reason.is_empty() {
        true => NO_REASON.to_owned(),
        false => shorten(reason, REASON_BYTES_MAX),
    }
}

fn nonsense(what: String) -> CallError {
    CallError::Answer(what)
}

/// Where the lengths of a record's parts stand in a row of the call.
const KEY_LENGTH: usize = 12;
const VALUE_LENGTH: usize = 20;
const HEADERS_LENGTH: usize = 28;
const KEEP: u8 = 1;
const ERROR: u8 = 2;
const FLAG_KEY: u16 = 1;
const FLAG_VALUE: u16 = 2;
const FLAG_HEADERS: u16 = 4;
const FLAG_ERROR: u16 = 8;
/// Longest reason of a record's error.
const REASON_BYTES_MAX: usize = 1024;
const NO_REASON: &str = "the plugin gave no reason";
