//! What a transform makes of records.

use crate::errors::{cut, index};
use crate::headers::{self, Headers};
use crate::rows::ROW_BYTES;
use crate::sinks::Sinks;

/// What becomes of a record. Each of the methods that take `&mut self` makes a record of it; none drops it. Where
/// the plugin is attached to ingest or to a view, at most one may be made. A transform that is deployed may make as many as it
/// likes, and say to which of its sinks each goes:
///
/// ```
/// # use millstream_plugin::{Output, Record};
/// fn enrich(record: &Record, out: &mut Output) {
///     out.to("all"); // as it is
///     if record.value().is_none() {
///         out.to("gone").with_value("{}").with_header("why", "tombstone");
///     }
/// }
/// ```
///
/// They give the new record, of which more can be changed:
///
/// ```
/// # let mut output = millstream_plugin::Output::new();
/// output.with_key("new key").with_value("new value").with_header("by", "me");
/// # assert_eq!(output.values(), [Some(&b"new value"[..])]);
/// ```
#[derive(Debug, Default)]
pub struct Output {
    /// Rows as `wit/plugin.wit` lays out those of `transformed`.
    rows: Vec<u8>,
    data: Vec<u8>,
    /// Where the closures write. They do not see `data`, of which parts belong to other records.
    scratch: Vec<u8>,
    source: u32,
    /// Asked for when the first sink is named.
    sinks: Option<Sinks>,
    /// Why the current source is an error, although the transform may not say so.
    mistake: Option<String>,
    /// Lengths of `rows` and `data` before the current source.
    before: (usize, usize),
}

impl Output {
    /// An output that nothing was told yet, for tests. Where sinks are named, [`testing::Deployed`](crate::testing::Deployed) runs the
    /// transform.
    #[must_use]
    pub const fn new() -> Self {
        Output {
            rows: Vec::new(),
            data: Vec::new(),
            scratch: Vec::new(),
            source: 0,
            sinks: None,
            mistake: None,
            before: (0, 0),
        }
    }

    /// The record stays as it is.
    #[inline]
    pub fn unchanged(&mut self) -> NewRecord<'_> {
        let mut row = [0; ROW_BYTES];
        row[..4].copy_from_slice(&self.source.to_le_bytes());
        self.rows.extend_from_slice(&row);
        NewRecord { output: self }
    }

    /// The record goes to the sink with this name, as it is unless more is said. A name that no sink has makes the
    /// record an error, whatever the transform returns.
    #[inline]
    pub fn to(&mut self, sink: &str) -> NewRecord<'_> {
        self.unchanged().to(sink)
    }

    /// The record gets another value: text or bytes.
    #[inline]
    pub fn with_value<B: AsRef<[u8]> + ?Sized>(&mut self, value: &B) -> NewRecord<'_> {
        self.unchanged().with_value(value)
    }

    /// The record gets the value that is written to the buffer, which is empty at first.
    #[inline]
    pub fn value_from(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> NewRecord<'_> {
        self.unchanged().value_from(write)
    }

    /// The record loses its value: it becomes a tombstone.
    #[inline]
    pub fn without_value(&mut self) -> NewRecord<'_> {
        self.unchanged().without_value()
    }

    /// The record gets another key: text or bytes.
    #[inline]
    pub fn with_key<B: AsRef<[u8]> + ?Sized>(&mut self, key: &B) -> NewRecord<'_> {
        self.unchanged().with_key(key)
    }

    /// The record gets the key that is written to the buffer, which is empty at first.
    #[inline]
    pub fn key_from(&mut self, write: impl FnOnce(&mut Vec<u8>)) -> NewRecord<'_> {
        self.unchanged().key_from(write)
    }

    /// The record loses its key.
    #[inline]
    pub fn without_key(&mut self) -> NewRecord<'_> {
        self.unchanged().without_key()
    }

    /// The record gets one header instead of those it has; more can follow.
    #[inline]
    pub fn with_header<B: AsRef<[u8]> + ?Sized>(&mut self, name: &str, value: &B) -> NewRecord<'_> {
        self.unchanged().with_header(name, value)
    }

    /// The record loses its headers.
    #[inline]
    pub fn without_headers(&mut self) -> NewRecord<'_> {
        self.unchanged().without_headers()
    }

    /// The records that were made.
    pub fn records(&self) -> impl Iterator<Item = Made<'_>> {
        let (rows, _) = self.rows.as_chunks::<ROW_BYTES>();
        rows.iter().filter(|row| flags(row) & ERROR == 0).map(|row| Made {
            row,
            data: &self.data,
        })
    }

    /// The values of the records that were made; `None` where it was taken away or is the source's (see [`Made::value`]).
    #[must_use]
    pub fn values(&self) -> Vec<Option<&[u8]>> {
        self.records().map(|record| record.value().bytes()).collect()
    }

    /// Forgets everything, and makes room for a slice.
    pub(crate) fn clear(&mut self, records: usize, bytes: usize) {
        self.rows.clear();
        self.rows.reserve(records * ROW_BYTES);
        self.data.clear();
        self.data.reserve(bytes);
    }

    /// Goes on to the next source.
    #[inline]
    pub(crate) fn begin(&mut self, row: usize) {
        self.source = index(row);
        self.before = (self.rows.len(), self.data.len());
    }

    /// Ends the current source with what the transform returned.
    #[inline]
    pub(crate) fn end(&mut self, result: Result<(), String>) {
        if result.is_err() || self.mistake.is_some() {
            let mistake = self.mistake.take();
            self.fail(&result.err().or(mistake).unwrap_or_default());
        }
    }

    /// The sources that are errors, with their reasons.
    pub(crate) fn errors(&self) -> impl Iterator<Item = (u32, &str)> {
        let (rows, _) = self.rows.as_chunks::<ROW_BYTES>();
        rows.iter().filter(|row| flags(row) & ERROR != 0).map(|row| {
            let reason = &self.data[VALUE.range(row)];
            (word(row, 0), std::str::from_utf8(reason).unwrap_or_default())
        })
    }

    /// Makes the current source an error, whatever was made of it.
    #[cold]
    fn fail(&mut self, reason: &str) {
        let (rows, data) = self.before;
        self.rows.truncate(rows);
        self.data.truncate(data);
        self.with_value(cut(reason)).set_flags(ERROR);
    }

    /// 32 bytes for each record that was made or is an error.
    #[doc(hidden)]
    #[must_use]
    pub fn packed_rows(&self) -> &[u8] {
        &self.rows
    }

    /// What the rows point to.
    #[doc(hidden)]
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }
}

/// A record that a transform is making.
#[derive(Debug)]
pub struct NewRecord<'o> {
    /// Its row is the last one.
    output: &'o mut Output,
}

impl NewRecord<'_> {
    /// Gives it another value: text or bytes.
    #[inline]
    pub fn with_value<B: AsRef<[u8]> + ?Sized>(self, value: &B) -> Self {
        self.set(&VALUE, value.as_ref())
    }

    /// Gives it the value that is written to the buffer, which is empty at first.
    #[inline]
    pub fn value_from(self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.set_from(&VALUE, write)
    }

    /// Takes its value away: it becomes a tombstone.
    #[inline]
    pub fn without_value(self) -> Self {
        self.place(&VALUE, 0, -1)
    }

    /// Gives it another key: text or bytes.
    #[inline]
    pub fn with_key<B: AsRef<[u8]> + ?Sized>(self, key: &B) -> Self {
        self.set(&KEY, key.as_ref())
    }

    /// Gives it the key that is written to the buffer, which is empty at first.
    #[inline]
    pub fn key_from(self, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.set_from(&KEY, write)
    }

    /// Takes its key away.
    #[inline]
    pub fn without_key(self) -> Self {
        self.place(&KEY, 0, -1)
    }

    /// Gives it one header more: text or bytes. The first one replaces those of the source.
    pub fn with_header<B: AsRef<[u8]> + ?Sized>(self, name: &str, value: &B) -> Self {
        self.header(name.as_bytes(), Some(value.as_ref()))
    }

    /// Gives it these headers, such as some of [`Record::headers`](crate::Record::headers), instead of those it has.
    pub fn with_headers<'h>(self, headers: impl IntoIterator<Item = crate::Header<'h>>) -> Self {
        headers
            .into_iter()
            .fold(self.without_headers(), |record, header| {
                record.header(header.name, header.value)
            })
    }

    /// Takes away its headers, those that it was given as well.
    pub fn without_headers(self) -> Self {
        self.place(&HEADERS, 0, 0)
    }

    /// Sends it to the sink with this name. Without, it goes to the first one. A name that no sink has makes the source
    /// an error, whatever the transform returns.
    #[inline]
    pub fn to(self, sink: &str) -> Self {
        let sinks = self.output.sinks.get_or_insert_with(Sinks::declared);
        match sinks.place(sink) {
            Ok(place) => self.to_sink(place),
            Err(reason) => {
                self.output.mistake.get_or_insert(reason);
                self
            }
        }
    }

    /// Sends it to the sink at a place, such as [`Sinks::place`](crate::Sinks::place) gives it; the first one is at 0. Ingest and
    /// views have no other.
    pub fn to_sink(mut self, sink: u16) -> Self {
        self.row()[SINK..SINK + 2].copy_from_slice(&sink.to_le_bytes());
        self
    }

    fn header(mut self, name: &[u8], value: Option<&[u8]>) -> Self {
        let row: &[u8; ROW_BYTES] = self.row();
        let before = if flags(row) & HEADERS.flag == 0 {
            0..0
        } else {
            HEADERS.range(row)
        };
        // Headers that lie at the end of the data grow in place; others are copied behind it.
        let data = &mut self.output.data;
        let start = if before.end == data.len() {
            before.start
        } else {
            let start = data.len();
            data.extend_from_within(before);
            start
        };
        headers::encode(name, value, data);
        let length = data.len() - start;
        self.place_at(&HEADERS, start, length)
    }

    #[inline]
    fn set(self, field: &Field, bytes: &[u8]) -> Self {
        let start = self.output.data.len();
        self.output.data.extend_from_slice(bytes);
        self.place_at(field, start, bytes.len())
    }

    #[inline]
    fn set_from(self, field: &Field, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.output.scratch.clear();
        write(&mut self.output.scratch);
        let start = self.output.data.len();
        self.output.data.extend_from_slice(&self.output.scratch);
        let length = self.output.scratch.len();
        self.place_at(field, start, length)
    }

    #[inline]
    fn place_at(self, field: &Field, start: usize, length: usize) -> Self {
        let start = u32::try_from(start).expect("an answer has less than 4 GiB");
        self.place(
            field,
            start,
            i32::try_from(length).expect("a record has less than 2 GiB"),
        )
    }

    #[inline]
    fn place(mut self, field: &Field, start: u32, length: i32) -> Self {
        let at = field.at;
        let row = self.row();
        row[at..at + 4].copy_from_slice(&start.to_le_bytes());
        row[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        let flags = flags(row) | field.flag;
        self.set_flags(flags);
        self
    }

    #[inline]
    fn set_flags(&mut self, flags: u16) {
        self.row()[FLAGS..FLAGS + 2].copy_from_slice(&flags.to_le_bytes());
    }

    #[inline]
    fn row(&mut self) -> &mut [u8; ROW_BYTES] {
        let row = self.output.rows.last_chunk_mut();
        row.expect("the row was added when the record was begun")
    }
}

/// A record that a transform has made.
#[derive(Debug, Clone, Copy)]
pub struct Made<'o> {
    row: &'o [u8; ROW_BYTES],
    data: &'o [u8],
}

impl<'o> Made<'o> {
    /// The index of the record that it was made from; in a test with [`Output::new`] always 0.
    #[must_use]
    pub fn source(&self) -> u32 {
        word(self.row, 0)
    }

    /// What its key is.
    #[must_use]
    pub fn key(&self) -> Part<'o> {
        self.part(&KEY)
    }

    /// What its value is.
    #[must_use]
    pub fn value(&self) -> Part<'o> {
        self.part(&VALUE)
    }

    /// Its headers; `None` if they are the source's.
    #[must_use]
    pub fn headers(&self) -> Option<Headers<'o>> {
        match self.part(&HEADERS) {
            Part::New(encoded) => Some(Headers::new(encoded)),
            Part::Same | Part::Absent => None,
        }
    }

    /// The place of the sink that it goes to.
    #[must_use]
    pub fn sink(&self) -> u16 {
        u16::from_le_bytes([self.row[SINK], self.row[SINK + 1]])
    }

    fn part(&self, field: &Field) -> Part<'o> {
        if flags(self.row) & field.flag == 0 {
            return Part::Same;
        }
        if word(self.row, field.at + 4).cast_signed() < 0 {
            return Part::Absent;
        }
        Part::New(&self.data[field.range(self.row)])
    }
}

/// A part of a record that a transform has made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part<'o> {
    /// The source's.
    Same,
    /// None.
    Absent,
    /// This.
    New(&'o [u8]),
}

impl<'o> Part<'o> {
    /// The bytes, if they are new.
    #[must_use]
    pub fn bytes(self) -> Option<&'o [u8]> {
        match self {
            Part::New(bytes) => Some(bytes),
            Part::Same | Part::Absent => None,
        }
    }
}

/// A part's place in a row.
struct Field {
    flag: u16,
    at: usize,
}

impl Field {
    /// Where its bytes lie; it is new and there.
    fn range(&self, row: &[u8; ROW_BYTES]) -> std::ops::Range<usize> {
        let start = word(row, self.at) as usize;
        start..start + word(row, self.at + 4) as usize
    }
}

fn flags(row: &[u8; ROW_BYTES]) -> u16 {
    u16::from_le_bytes([row[FLAGS], row[FLAGS + 1]])
}

fn word(row: &[u8; ROW_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([row[at], row[at + 1], row[at + 2], row[at + 3]])
}

const FLAGS: usize = 4;
const SINK: usize = 6;
const KEY: Field = Field { flag: 1, at: 8 };
const VALUE: Field = Field { flag: 2, at: 16 };
const HEADERS: Field = Field { flag: 4, at: 24 };
/// The source is an error. The value's fields then say where the reason is, and its flag is not set.
const ERROR: u16 = 8;
