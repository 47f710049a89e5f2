//! A slice of a batch on its way through a chain: which records are left, and where their parts lie.
//!
//! At first all parts lie in the batch's own bytes, of which nothing is copied. When a transform makes new parts, those
//! of the records that are left are gathered in a block of their own.

use std::borrow::Cow;
use std::ops::Range;

use millstream_kafka::records::{BatchHeader, Headers, RecordSpan};
use millstream_runtime::{Made, Part, Row, RowsBuilder, Transformed};

/// Records on their way.
#[derive(Debug)]
pub struct Slice<'a> {
    batch: &'a [u8],
    spans: &'a [RecordSpan],
    data: Cow<'a, [u8]>,
    items: Vec<Item>,
}

/// A record that is left.
#[derive(Debug, Clone)]
struct Item {
    /// Its place in the slice.
    span: u32,
    /// Whether it still is what it was.
    is_original: bool,
    timestamp_ms: i64,
    key: Option<Range<u32>>,
    value: Option<Range<u32>>,
    headers: Range<u32>,
    header_count: u32,
    target: Option<u32>,
}

/// A record at the end of the chain, or where it was sorted out.
#[derive(Debug, Clone, Copy)]
pub struct Outgoing<'a> {
    /// Its offset in the batch that it came in.
    pub delta: i32,
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value.
    pub value: Option<&'a [u8]>,
    /// The headers, still encoded.
    pub headers: Headers<'a>,
    /// The partition that a partitioner chose.
    pub target: Option<u32>,
    /// Where it lies in the batch that it came in, and that batch's bytes, if it is as it was.
    pub original: Option<(&'a RecordSpan, &'a [u8])>,
}

impl<'a> Slice<'a> {
    /// The records at `spans`, which follow one another in `batch`, the decompressed bytes of a batch.
    pub fn new(header: &BatchHeader, batch: &'a [u8], spans: &'a [RecordSpan]) -> Self {
        let start = spans.first().map_or(0, |span| span.record.start);
        let end = spans.last().map_or(0, |span| span.record.end);
        let within = |range: &Range<u32>| range.start - start..range.end - start;
        let items = (0..).zip(spans).map(|(n, span)| Item {
            span: n,
            is_original: true,
            timestamp_ms: header.timestamp_of(span.timestamp_delta),
            key: span.key.as_ref().map(within),
            value: span.value.as_ref().map(within),
            headers: within(&span.headers),
            header_count: span.header_count,
            target: None,
        });
        Self {
            batch,
            spans,
            items: items.collect(),
            data: Cow::Borrowed(&batch[start as usize..end as usize]),
        }
    }

    /// How many records are left.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether none is left.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// What the rows point into.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// Writes the rows of the records that are left.
    pub fn write_rows(&self, rows: &mut RowsBuilder) {
        rows.clear();
        for item in &self.items {
            rows.push(&Row {
                timestamp_ms: item.timestamp_ms,
                key: item.key.clone(),
                value: item.value.clone(),
                headers: item.headers.clone(),
            });
        }
    }

    /// The record in a row.
    pub fn record(&self, row: usize) -> Outgoing<'_> {
        let item = &self.items[row];
        let span = &self.spans[item.span as usize];
        let part = |range: &Range<u32>| &self.data[range.start as usize..range.end as usize];
        Outgoing {
            delta: span.offset_delta,
            timestamp_ms: item.timestamp_ms,
            key: item.key.as_ref().map(part),
            value: item.value.as_ref().map(part),
            headers: match item.is_original {
                true => span.headers_in(self.batch),
                false => Headers::parse(part(&item.headers), item.header_count)
                    .expect("headers were checked when the batch was, or when the plugin answered"),
            },
            target: item.target,
            original: item.is_original.then_some((span, self.batch)),
        }
    }

    /// The records that are left.
    pub fn records(&self) -> impl Iterator<Item = Outgoing<'_>> {
        (0..self.items.len()).map(|row| self.record(row))
    }

    /// Keeps the rows for which `keep` says so.
    pub fn retain(&mut self, mut keep: impl FnMut(usize) -> bool) {
        let mut row = 0;
        self.items.retain(|_| {
            row += 1;
            keep(row - 1)
        });
    }

    /// Gives each row its partition.
    pub fn set_targets(&mut self, target: impl Fn(usize) -> u32) {
        for (row, item) in self.items.iter_mut().enumerate() {
            item.target = Some(target(row));
        }
    }

    /// Makes of the rows what a transform answered; rows that failed are gone, and given with their reasons.
    ///
    /// # Errors
    /// The answer cannot be used here.
    pub fn apply(&mut self, made: Transformed) -> Result<(), String> {
        let mut items = Vec::with_capacity(made.rows.len());
        let mut has_new_parts = false;
        let mut last = None;
        for row in &made.rows {
            if last.is_some_and(|last| last >= row.source) {
                return Err(format!(
                    "it made several records of record {}; here it may make one",
                    row.source
                ));
            }
            last = Some(row.source);
            let Made::Record { key, value, headers } = &row.made else {
                continue;
            };
            if row.sink != 0 {
                return Err(format!("it named sink {}; here there is only 0", row.sink));
            }
            let is_new = [key, value, headers].into_iter().any(|part| *part != Part::Same);
            has_new_parts |= is_new;
            items.push((row.source as usize, is_new, key, value, headers));
        }
        if !has_new_parts {
            let kept: Vec<Item> = items
                .iter()
                .map(|(source, ..)| self.items[*source].clone())
                .collect();
            self.items = kept;
            return Ok(());
        }
        let mut data = Vec::with_capacity(self.data.len());
        let (old, new) = (&self.data[..], &made.data[..]);
        let mut add = |bytes: &[u8]| -> Result<Range<u32>, String> {
            let start = data.len();
            data.extend_from_slice(bytes);
            let end =
                i32::try_from(data.len()).map_err(|_| "it made records of more than 2 GiB".to_owned())?;
            Ok(start as u32..end as u32)
        };
        let within =
            |data: &'_ [u8], range: &Range<u32>| range.start as usize..(range.end as usize).min(data.len());
        let mut next = Vec::with_capacity(items.len());
        for (source, is_new, key, value, headers) in items {
            let item = &self.items[source];
            let mut part = |part: &Part, same: &Option<Range<u32>>| match part {
                Part::Same => same
                    .as_ref()
                    .map(|range| add(&old[within(old, range)]))
                    .transpose(),
                Part::Absent => Ok(None),
                Part::New(range) => add(&new[within(new, range)]).map(Some),
            };
            let header_count = match headers {
                Part::Same => item.header_count,
                Part::Absent => 0,
                Part::New(range) => count_headers(&new[within(new, range)])
                    .ok_or_else(|| format!("its new headers of record {source} are malformed"))?,
            };
            next.push(Item {
                key: part(key, &item.key)?,
                value: part(value, &item.value)?,
                headers: part(headers, &Some(item.headers.clone()))?.unwrap_or(0..0),
                header_count,
                is_original: item.is_original && !is_new,
                ..item.clone()
            });
        }
        self.items = next;
        self.data = Cow::Owned(data);
        Ok(())
    }
}

/// How many headers `raw` holds; none if it is no run of whole headers.
pub fn count_headers(raw: &[u8]) -> Option<u32> {
    let mut at = 0;
    let mut count = 0;
    while at < raw.len() {
        let name = length(raw, &mut at)?;
        at = at.checked_add(usize::try_from(name).ok()?)?;
        let value = length(raw, &mut at)?;
        if value < -1 {
            return None;
        }
        at = at.checked_add(usize::try_from(value.max(0)).ok()?)?;
        count += 1;
    }
    (at == raw.len()).then_some(count)
}

/// A length as headers have it: zigzag, then 7 bits a byte.
fn length(raw: &[u8], at: &mut usize) -> Option<i32> {
    let mut bits = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = *raw.get(*at)?;
        *at += 1;
        bits |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let number = u32::try_from(bits).ok()?;
            return Some((number >> 1) as i32 ^ -((number & 1) as i32));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use millstream_kafka::records::{BatchBuilder, BatchView, Header, Scratch};
    use millstream_runtime::MadeRow;

    use super::*;

    fn with_slice(check: impl FnOnce(&mut Slice<'_>)) {
        let mut builder = BatchBuilder::new();
        let header = |key| Header {
            key,
            value: Some(&b"v"[..]),
        };
        builder
            .append(10, Some(b"k0"), Some(b"v0"), &[header(b"h0")])
            .unwrap();
        builder.append(11, None, Some(b"v1"), &[]).unwrap();
        builder
            .append(12, Some(b"k2"), None, &[header(b"h2"), header(b"h3")])
            .unwrap();
        let batch = builder.finish().unwrap();
        let view = BatchView::parse(&batch).unwrap();
        let mut scratch = Scratch::new();
        let data = view.data(&mut scratch, 1 << 20).unwrap();
        let spans: Vec<_> = view.spans(data).map(Result::unwrap).collect();
        check(&mut Slice::new(view.header(), data, &spans));
    }

    fn made(source: u32, key: Part, value: Part, headers: Part) -> MadeRow {
        MadeRow {
            source,
            sink: 0,
            made: Made::Record { key, value, headers },
        }
    }

    #[test]
    fn rows_that_stay_are_the_originals() {
        with_slice(|slice| {
            let rows = vec![
                made(0, Part::Same, Part::Same, Part::Same),
                made(2, Part::Same, Part::Same, Part::Same),
            ];
            slice
                .apply(Transformed {
                    rows,
                    data: Vec::new(),
                })
                .unwrap();
            let deltas: Vec<_> = slice.records().map(|r| (r.delta, r.original.is_some())).collect();
            assert_eq!(deltas, [(0, true), (2, true)]);
            assert_eq!(slice.record(1).headers.len(), 2);
        });
    }

    #[test]
    fn new_parts_and_old_ones_come_together() {
        with_slice(|slice| {
            let rows = vec![made(1, Part::New(1..3), Part::Same, Part::New(3..6))];
            let error = slice
                .apply(Transformed {
                    rows,
                    data: b"abc\x02n\x02v".to_vec(),
                })
                .unwrap_err();
            assert!(error.contains("headers"), "{error}");
        });
        with_slice(|slice| {
            let rows = vec![
                made(0, Part::Absent, Part::New(0..3), Part::Same),
                made(1, Part::New(1..3), Part::Same, Part::New(3..7)),
                made(2, Part::Same, Part::Same, Part::Same),
            ];
            slice
                .apply(Transformed {
                    rows,
                    data: b"abc\x02n\x02v".to_vec(),
                })
                .unwrap();
            let first = slice.record(0);
            assert_eq!(
                (first.key, first.value, first.headers.len()),
                (None, Some(&b"abc"[..]), 1)
            );
            assert!(first.original.is_none());
            let second = slice.record(1);
            assert_eq!(
                (second.key, second.value, second.delta),
                (Some(&b"bc"[..]), Some(&b"v1"[..]), 1)
            );
            let header = second.headers.iter().next().unwrap();
            assert_eq!((header.key, header.value), (&b"n"[..], Some(&b"v"[..])));
            let third = slice.record(2);
            assert_eq!(
                (third.key, third.value, third.original.is_some()),
                (Some(&b"k2"[..]), None, true)
            );
            assert_eq!(third.headers.iter().count(), 2);
        });
    }

    #[test]
    fn two_records_of_one_are_refused() {
        with_slice(|slice| {
            let rows = vec![
                made(0, Part::Same, Part::Same, Part::Same),
                made(0, Part::Same, Part::Same, Part::Same),
            ];
            assert!(
                slice
                    .apply(Transformed {
                        rows,
                        data: Vec::new()
                    })
                    .unwrap_err()
                    .contains("several")
            );
        });
    }

    #[test]
    fn headers_are_counted_or_refused() {
        assert_eq!(count_headers(b""), Some(0));
        assert_eq!(count_headers(b"\x04ab\x06xyz\x02c\x01"), Some(2));
        assert_eq!(count_headers(b"\x04ab"), None);
        assert_eq!(count_headers(b"\x04ab\x06xy"), None);
        assert_eq!(count_headers(b"\x01\x00"), None, "a name cannot be null");
        assert_eq!(count_headers(b"\x00\x03"), None);
        assert_eq!(count_headers(b"\xff\xff\xff\xff\xff\xff"), None);
    }
}
