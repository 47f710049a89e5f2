//! Records within the (decompressed) data of a batch: where they lie, and what they hold.

use std::ops::Range;

use super::{BatchError, varint};

/// Where the parts of one record lie, as offsets into the data of its batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSpan {
    /// The whole record, its length in front included.
    pub record: Range<u32>,
    /// Milliseconds from the batch's `base_timestamp`.
    pub timestamp_delta: i64,
    /// Offset from the batch's `base_offset`.
    pub offset_delta: i32,
    /// The key, unless it is null.
    pub key: Option<Range<u32>>,
    /// The value, unless it is null.
    pub value: Option<Range<u32>>,
    /// All headers as they are encoded, without their count.
    pub headers: Range<u32>,
    /// How many headers.
    pub header_count: u32,
}

/// Walks the records of a batch and yields where they lie; checks every length, copies nothing.
///
/// It ends after the first error. Bytes after the last record are an error too.
#[derive(Debug, Clone)]
pub struct Spans<'a> {
    data: &'a [u8],
    at: usize,
    index: u32,
    count: u32,
}

impl<'a> Spans<'a> {
    /// Over `data`, the decompressed records of a batch whose header counts `count` of them.
    pub fn new(data: &'a [u8], count: u32) -> Self {
        Self {
            data,
            at: 0,
            index: 0,
            count,
        }
    }

    /// The data that the spans point into.
    pub fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Hands every span to `take`, which may end the walk: faster than the iterator by a third, since nothing is passed
    /// through memory.
    ///
    /// # Errors
    /// What the iterator would yield, or what `take` answers.
    #[inline]
    pub fn each(
        mut self,
        mut take: impl FnMut(RecordSpan) -> Result<(), BatchError>,
    ) -> Result<(), BatchError> {
        while self.index < self.count {
            match span_at(self.data, self.at) {
                Ok((span, end)) => {
                    take(span)?;
                    self.at = end;
                    self.index += 1;
                }
                Err(reason) => return Err(self.fail(reason)),
            }
        }
        match self.data.len() - self.at {
            0 => Ok(()),
            bytes => Err(BatchError::TrailingBytes { bytes }),
        }
    }

    #[cold]
    fn fail(&mut self, reason: &'static str) -> BatchError {
        let index = self.index;
        self.stop();
        BatchError::Record { index, reason }
    }

    fn stop(&mut self) {
        self.index = self.count;
        self.at = self.data.len();
    }
}

impl Iterator for Spans<'_> {
    type Item = Result<RecordSpan, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.index >= self.count {
            if self.at == self.data.len() {
                return None;
            }
            let bytes = self.data.len() - self.at;
            self.stop();
            return Some(Err(BatchError::TrailingBytes { bytes }));
        }
        match span_at(self.data, self.at) {
            Ok((span, end)) => {
                self.at = end;
                self.index += 1;
                Some(Ok(span))
            }
            Err(reason) => Some(Err(self.fail(reason))),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is the sender's word: it bounds nothing but the upper end.
        (
            0,
            usize::try_from(self.count - self.index)
                .ok()
                .and_then(|left| left.checked_add(1)),
        )
    }
}

#[inline(always)]
fn span_at(data: &[u8], at: usize) -> Result<(RecordSpan, usize), &'static str> {
    let start = at;
    let (length, at) = varint::read_i32(data, at).ok_or("its length is cut short or too long")?;
    let length = usize::try_from(length).map_err(|_| "its length is negative")?;
    if length > data.len() - at || data.len() > u32::MAX as usize {
        return Err("its length is more than the bytes that are left");
    }
    let end = at + length;
    let body = &data[..end];
    // The attributes byte has no meaning yet; Kafka ignores it.
    let at = at + 1;
    let (timestamp_delta, at) = varint::read_i64(body, at).ok_or("its timestamp delta is malformed")?;
    let (offset_delta, at) = varint::read_i32(body, at).ok_or("its offset delta is malformed")?;
    let (key, at) = nullable(body, at).ok_or("its key does not fit the record")?;
    let (value, at) = nullable(body, at).ok_or("its value does not fit the record")?;
    let (header_count, at) = varint::read_i32(body, at).ok_or("its header count is malformed")?;
    if header_count != 0 {
        skip_headers(body, at, header_count)?;
    } else if at != end {
        return Err(LENGTH_IS_WRONG);
    }
    let span = RecordSpan {
        record: start as u32..end as u32,
        timestamp_delta,
        offset_delta,
        key,
        value,
        headers: at as u32..end as u32,
        header_count: header_count as u32,
    };
    Ok((span, end))
}

/// A length of -1 for null, or a length and that many bytes.
#[inline(always)]
fn nullable(body: &[u8], at: usize) -> Option<(Option<Range<u32>>, usize)> {
    let (length, at) = varint::read_i32(body, at)?;
    if length < 0 {
        return (length == -1).then_some((None, at));
    }
    let end = at + length as usize;
    (end <= body.len()).then_some((Some(at as u32..end as u32), end))
}

fn skip_headers(body: &[u8], mut at: usize, count: i32) -> Result<(), &'static str> {
    // A header takes two bytes or more, so a count beyond that needs no walk to be refused.
    if count < 0 || count as usize > (body.len() - at) / 2 {
        return Err("its header count is out of range");
    }
    for _ in 0..count {
        (_, at) = header_at(body, at).ok_or("one of its headers is malformed")?;
    }
    if at == body.len() {
        Ok(())
    } else {
        Err(LENGTH_IS_WRONG)
    }
}

fn header_at(body: &[u8], at: usize) -> Option<(Header<'_>, usize)> {
    let (key, at) = nullable(body, at)?;
    let (value, at) = nullable(body, at)?;
    Some((
        Header {
            key: slice(body, &key?),
            value: value.map(|value| slice(body, &value)),
        },
        at,
    ))
}

#[inline]
fn slice<'a>(data: &'a [u8], range: &Range<u32>) -> &'a [u8] {
    &data[range.start as usize..range.end as usize]
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970: create time, or the batch's append time.
    pub timestamp: i64,
    /// The key, unless it is null.
    pub key: Option<&'a [u8]>,
    /// The value; null means that the key is deleted.
    pub value: Option<&'a [u8]>,
    /// The headers, in order, repeated keys kept.
    pub headers: Headers<'a>,
}

impl RecordSpan {
    /// The whole record within `data`, as it is encoded.
    #[inline]
    pub fn record_in<'a>(&self, data: &'a [u8]) -> &'a [u8] {
        slice(data, &self.record)
    }

    /// The key within `data`, the bytes that the span was found in.
    #[inline]
    pub fn key_in<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        self.key.as_ref().map(|range| slice(data, range))
    }

    /// The value within `data`.
    #[inline]
    pub fn value_in<'a>(&self, data: &'a [u8]) -> Option<&'a [u8]> {
        self.value.as_ref().map(|range| slice(data, range))
    }

    /// The headers within `data`.
    #[inline]
    pub fn headers_in<'a>(&self, data: &'a [u8]) -> Headers<'a> {
        Headers {
            raw: slice(data, &self.headers),
            count: self.header_count,
        }
    }
}

/// The headers of a record, still encoded; iterating decodes them one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Headers<'a> {
    raw: &'a [u8],
    count: u32,
}

/// One header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key, UTF-8 by agreement; not checked.
    pub key: &'a [u8],
    /// The value, unless it is null.
    pub value: Option<&'a [u8]>,
}

impl<'a> Headers<'a> {
    /// `count` headers as a plugin or a client encoded them.
    ///
    /// # Errors
    /// `raw` does not hold exactly that many.
    pub fn parse(raw: &'a [u8], count: u32) -> Result<Self, BatchError> {
        let fault = |reason| BatchError::Record { index: 0, reason };
        let signed = i32::try_from(count).map_err(|_| fault("its header count is out of range"))?;
        skip_headers(raw, 0, signed).map_err(fault)?;
        Ok(Self { raw, count })
    }

    /// The encoded headers without their count.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The headers in order.
    pub fn iter(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let (raw, mut at) = (self.raw, 0);
        (0..self.count).map_while(move |_| {
            let (header, end) = header_at(raw, at)?;
            at = end;
            Some(header)
        })
    }
}

const LENGTH_IS_WRONG: &str = "its parts do not fill its length";
