//! A record, as plugins see it.

use std::borrow::Cow;

use crate::headers::{self, Headers};

/// A record. It borrows from the batch that it came in; in a test, make one with [`Record::new`] and the `with_` methods.
#[derive(Debug, Clone, Default)]
pub struct Record<'a> {
    timestamp_ms: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    /// Encoded. Owned only by records that a test made.
    headers: Cow<'a, [u8]>,
}

impl<'a> Record<'a> {
    /// A record of time 0 without key, value and headers.
    #[must_use]
    pub fn new() -> Self {
        Record::default()
    }

    #[inline]
    pub(crate) fn borrowed(
        timestamp_ms: i64,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        headers: Headers<'a>,
    ) -> Self {
        Record {
            timestamp_ms,
            key,
            value,
            headers: Cow::Borrowed(headers.encoded()),
        }
    }

    /// The same with a key: text or bytes.
    #[must_use]
    pub fn with_key<B: AsRef<[u8]> + ?Sized>(self, key: &'a B) -> Self {
        Record {
            key: Some(key.as_ref()),
            ..self
        }
    }

    /// The same with a value: text or bytes.
    #[must_use]
    pub fn with_value<B: AsRef<[u8]> + ?Sized>(self, value: &'a B) -> Self {
        Record {
            value: Some(value.as_ref()),
            ..self
        }
    }

    /// The same with one more header, whose value is text or bytes.
    #[must_use]
    pub fn with_header<B: AsRef<[u8]> + ?Sized>(mut self, name: &str, value: &B) -> Self {
        headers::encode(name.as_bytes(), Some(value.as_ref()), self.headers.to_mut());
        self
    }

    /// The same at another time, in milliseconds since 1970.
    #[must_use]
    pub fn with_timestamp_ms(self, timestamp_ms: i64) -> Self {
        Record { timestamp_ms, ..self }
    }

    /// Milliseconds since 1970.
    #[inline]
    #[must_use]
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_ms
    }

    /// The key; `None` is null.
    #[inline]
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is null.
    #[inline]
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers, in their order.
    #[inline]
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers::new(&self.headers)
    }

    /// The value of the header with this name, of the last one where it is repeated. `None` if there is none, or its
    /// value is null.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let named = self.headers().filter(|header| header.name == name.as_bytes());
        named.last().and_then(|header| header.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_a_test_has_what_it_was_given() {
        let record = Record::new()
            .with_key("k")
            .with_value(b"v")
            .with_header("tenant", "first")
            .with_header("tenant", b"last")
            .with_header("other", &vec![1])
            .with_timestamp_ms(7);
        assert_eq!(record.key(), Some(&b"k"[..]));
        assert_eq!(record.value(), Some(&b"v"[..]));
        assert_eq!(record.timestamp_ms(), 7);
        assert_eq!(record.headers().count(), 3);
        assert_eq!(record.header("tenant"), Some(&b"last"[..]));
        assert_eq!(record.header("none"), None);
    }

    #[test]
    fn a_new_record_is_empty() {
        let record = Record::new();
        assert_eq!(
            (record.key(), record.value(), record.timestamp_ms()),
            (None, None, 0)
        );
        assert_eq!(record.headers().next(), None);
    }
}
