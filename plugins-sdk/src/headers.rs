//! Headers of a record, encoded as in a Kafka record batch of version 2 (KIP-82), without their number.

/// A header of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name: UTF-8 by Kafka's rules, but nobody has checked it.
    pub name: &'a [u8],
    /// Its value; `None` is null.
    pub value: Option<&'a [u8]>,
}

/// The headers of a record, in their order. They are decoded as they are asked for; bytes that are no header end them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    encoded: &'a [u8],
}

impl<'a> Headers<'a> {
    #[inline]
    pub(crate) fn new(encoded: &'a [u8]) -> Self {
        Headers { encoded }
    }

    pub(crate) fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    fn bytes(&mut self, length: i64) -> Option<&'a [u8]> {
        let (bytes, rest) = self.encoded.split_at_checked(usize::try_from(length).ok()?)?;
        self.encoded = rest;
        Some(bytes)
    }

    /// A zigzag number of at most 32 bits, as Kafka's `varint` is.
    fn number(&mut self) -> Option<i64> {
        let mut raw = 0;
        for shift in (0..35).step_by(7) {
            let (&byte, rest) = self.encoded.split_first()?;
            self.encoded = rest;
            raw |= i64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((raw >> 1) ^ -(raw & 1));
            }
        }
        None
    }

    fn decode(&mut self) -> Option<Header<'a>> {
        let length = self.number()?;
        let name = self.bytes(length)?;
        let value = match self.number()? {
            -1 => None,
            length => Some(self.bytes(length)?),
        };
        Some(Header { name, value })
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        let header = self.decode();
        if header.is_none() {
            self.encoded = &[];
        }
        header
    }
}

impl std::iter::FusedIterator for Headers<'_> {}

/// Appends a header.
///
/// # Panics
/// Name or value has 2 GiB or more.
pub(crate) fn encode(name: &[u8], value: Option<&[u8]>, out: &mut Vec<u8>) {
    let number = |bytes: &[u8]| i32::try_from(bytes.len()).expect("a record has less than 2 GiB");
    put_number(number(name), out);
    out.extend_from_slice(name);
    put_number(value.map_or(-1, number), out);
    out.extend_from_slice(value.unwrap_or_default());
}

fn put_number(number: i32, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 31)).cast_unsigned();
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_encoded_as_kafka_does() {
        let mut encoded = Vec::new();
        encode(b"ab", Some(b"xyz"), &mut encoded);
        encode(b"c", None, &mut encoded);
        assert_eq!(encoded, b"\x04ab\x06xyz\x02c\x01");
        let decoded: Vec<_> = Headers::new(&encoded).collect();
        assert_eq!(
            decoded,
            [
                Header {
                    name: b"ab",
                    value: Some(b"xyz")
                },
                Header {
                    name: b"c",
                    value: None
                }
            ]
        );
    }

    #[test]
    fn lengths_of_every_size_return() {
        for length in [0, 1, 63, 64, 127, 128, 8191, 8192, 1 << 20] {
            let value = vec![7; length];
            let mut encoded = Vec::new();
            encode(b"", Some(&value), &mut encoded);
            assert_eq!(
                Headers::new(&encoded).next().unwrap().value,
                Some(&value[..]),
                "{length}"
            );
        }
    }

    #[test]
    fn what_is_no_header_ends_them() {
        let cases: [&[u8]; 7] = [
            b"\x02",
            b"\x02a",
            b"\x02a\x04x",
            b"\x01",
            b"\x02a\x03",
            b"\xff\xff\xff\xff\xff\xff\xff",
            b"\xfe\xff\xff\xff\x0fa\x00",
        ];
        for encoded in cases {
            let mut headers = Headers::new(encoded);
            assert_eq!(headers.next(), None, "{encoded:?}");
            assert_eq!(headers.next(), None, "{encoded:?}");
        }
    }
}
