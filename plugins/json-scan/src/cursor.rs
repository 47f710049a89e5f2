//! A position in a JSON text that only moves over what it has checked.

use crate::block::{WIDTH, classify, no_digits};
use crate::{DEPTH_MAX, Kind, Span};
use std::fmt;

/// The text is not JSON, or not one that we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Offset of the byte at which it showed.
    pub position: u32,
    /// What was wrong there.
    pub what: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not JSON: {} at byte {}", self.what, self.position)
    }
}

impl std::error::Error for Malformed {}

/// The key of a member of an object.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Offset of the opening quote.
    pub start: usize,
    /// Offset behind the closing quote.
    pub end: usize,
    /// Whether there are escapes to decode.
    pub escaped: bool,
}

/// Walks over a document, value by value. Every method checks what it passes.
#[derive(Debug)]
pub struct Cursor<'d> {
    doc: &'d [u8],
    at: usize,
}

impl<'d> Cursor<'d> {
    /// A cursor in front of the document's only value. Documents of 4 GiB or more are refused at their first byte.
    pub fn new(doc: &'d [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor { doc, at: 0 };
        if u32::try_from(doc.len()).is_err() {
            return Err(cursor.bad("too long"));
        }
        cursor.space();
        Ok(cursor)
    }

    /// The offset of the next byte.
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next byte, 0 at the end: no JSON token begins with it.
    #[inline(always)]
    pub fn peek(&self) -> u8 {
        if self.at < self.doc.len() {
            self.doc[self.at]
        } else {
            0
        }
    }

    /// Nothing but white space may follow the document's value.
    pub fn finish(mut self) -> Result<(), Malformed> {
        self.space();
        if self.at == self.doc.len() {
            Ok(())
        } else {
            Err(self.bad("something behind the value"))
        }
    }

    /// Passes the `{` or `[` that [`Cursor::peek`] showed. Returns whether a member or element follows; if not, the closing
    /// bracket has been passed as well.
    #[inline(always)]
    pub fn open(&mut self, depth: u32, close: u8) -> Result<bool, Malformed> {
        if depth >= DEPTH_MAX {
            return Err(self.bad("nested too deeply"));
        }
        self.at += 1;
        self.space();
        if self.peek() == close {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// Behind a value: passes a comma (true: another one follows) or the closing bracket (false).
    #[inline(always)]
    pub fn more(&mut self, close: u8) -> Result<bool, Malformed> {
        self.space();
        let byte = self.peek();
        if byte == b',' {
            self.at += 1;
            self.space();
            return Ok(true);
        }
        if byte == close {
            self.at += 1;
            return Ok(false);
        }
        Err(self.bad(if close == b'}' {
            "expected , or }"
        } else {
            "expected , or ]"
        }))
    }

    /// Passes a key and its colon, up to the value.
    #[inline(always)]
    pub fn key(&mut self) -> Result<Key, Malformed> {
        if self.peek() != b'"' {
            return Err(self.bad("expected a key"));
        }
        let start = self.at;
        let escaped = self.string()?;
        let end = self.at;
        self.space();
        if self.peek() != b':' {
            return Err(self.bad("expected :"));
        }
        self.at += 1;
        self.space();
        Ok(Key { start, end, escaped })
    }

    /// Passes a value of any kind; `depth` is the number of containers around it.
    pub fn skip(&mut self, depth: u32) -> Result<Span, Malformed> {
        let start = self.at as u32;
        let mut escaped = false;
        let kind = match self.peek() {
            b'{' => {
                if self.open(depth, b'}')? {
                    loop {
                        self.key()?;
                        self.skip_inner(depth + 1)?;
                        if !self.more(b'}')? {
                            break;
                        }
                    }
                }
                Kind::Object
            }
            b'[' => {
                if self.open(depth, b']')? {
                    loop {
                        self.skip_inner(depth + 1)?;
                        if !self.more(b']')? {
                            break;
                        }
                    }
                }
                Kind::Array
            }
            _ => {
                let (kind, has_escapes) = self.scalar()?;
                escaped = has_escapes;
                kind
            }
        };
        Ok(Span {
            start,
            end: self.at as u32,
            kind,
            escaped,
        })
    }

    #[inline(always)]
    pub(crate) fn skip_inner(&mut self, depth: u32) -> Result<(), Malformed> {
        match self.peek() {
            b'{' | b'[' => self.skip(depth).map(|_| ()),
            _ => self.scalar().map(|_| ()),
        }
    }

    /// Passes a string, number or literal; tells whether a string has escapes.
    #[inline(always)]
    pub(crate) fn scalar(&mut self) -> Result<(Kind, bool), Malformed> {
        match self.peek() {
            b'"' => Ok((Kind::String, self.string()?)),
            b'-' | b'0'..=b'9' => self.number().map(|()| (Kind::Number, false)),
            b't' => self.literal(b"true").map(|()| (Kind::True, false)),
            b'f' => self.literal(b"false").map(|()| (Kind::False, false)),
            b'n' => self.literal(b"null").map(|()| (Kind::Null, false)),
            _ => Err(self.bad("expected a value")),
        }
    }

    /// Passes a string from its opening to its closing quote; true if it has escapes.
    #[inline(always)]
    fn string(&mut self) -> Result<bool, Malformed> {
        let start = self.at + 1;
        let mut at = start;
        let mut high = 0;
        let mut escaped = false;
        loop {
            let found = self.look(at, classify);
            if found.special == 0 {
                high |= found.high;
                at += WIDTH;
                continue;
            }
            let step = found.special.trailing_zeros();
            high |= found.high & ((1 << step) - 1);
            at += step as usize;
            self.at = at;
            match self.peek() {
                b'"' if at < self.doc.len() => break,
                b'\\' => {
                    escaped = true;
                    at = self.escape()?;
                }
                _ if at >= self.doc.len() => return Err(self.bad("string without end")),
                _ => return Err(self.bad("control character in a string")),
            }
        }
        if high != 0 {
            self.check_utf8(start, at)?;
        }
        self.at = at + 1;
        Ok(escaped)
    }

    /// Looks at the 16 bytes from `at`: zeros behind the end, which end every string and number.
    #[inline(always)]
    fn look<T>(&self, at: usize, look: impl Fn(&[u8; WIDTH]) -> T) -> T {
        match self.doc.get(at..).and_then(|rest| rest.first_chunk::<WIDTH>()) {
            Some(bytes) => look(bytes),
            None => look(&self.last_block(at)),
        }
    }

    #[inline(never)]
    fn last_block(&self, at: usize) -> [u8; WIDTH] {
        let mut bytes = [0; WIDTH];
        let rest = self.doc.get(at..).unwrap_or_default();
        for (to, from) in bytes.iter_mut().zip(rest) {
            *to = *from;
        }
        bytes
    }

    /// Checks the escape at the current backslash; returns the offset behind it.
    fn escape(&mut self) -> Result<usize, Malformed> {
        let byte = self.doc.get(self.at + 1).copied().unwrap_or(0);
        match byte {
            b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Ok(self.at + 2),
            b'u' => match self.code_unit(self.at + 2) {
                Some(0xd800..=0xdbff) => {
                    let paired = self.doc.get(self.at + 6..self.at + 8) == Some(b"\\u");
                    match self.code_unit(self.at + 8) {
                        Some(0xdc00..=0xdfff) if paired => Ok(self.at + 12),
                        _ => Err(self.bad("surrogate without its pair")),
                    }
                }
                Some(0xdc00..=0xdfff) => Err(self.bad("surrogate without its pair")),
                Some(_) => Ok(self.at + 6),
                None => Err(self.bad("expected four hexadecimal digits")),
            },
            _ => Err(self.bad("unknown escape")),
        }
    }

    fn code_unit(&self, at: usize) -> Option<u32> {
        crate::text::hex4(self.doc.get(at..at + 4)?)
    }

    #[inline(never)]
    fn check_utf8(&self, start: usize, end: usize) -> Result<(), Malformed> {
        match std::str::from_utf8(&self.doc[start..end]) {
            Ok(_) => Ok(()),
            Err(e) => Err(Malformed {
                position: (start + e.valid_up_to()) as u32,
                what: "not UTF-8",
            }),
        }
    }

    #[inline(always)]
    fn number(&mut self) -> Result<(), Malformed> {
        if self.peek() == b'-' {
            self.at += 1;
        }
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.bad("expected a digit")),
        }
        if matches!(self.peek(), b'.' | b'e' | b'E' | b'0'..=b'9') {
            self.fraction()
        } else {
            Ok(())
        }
    }

    #[inline(never)]
    fn fraction(&mut self) -> Result<(), Malformed> {
        if self.peek() == b'.' {
            self.at += 1;
            self.some_digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.some_digits()?;
        }
        if self.peek().is_ascii_digit() {
            Err(self.bad("leading zero"))
        } else {
            Ok(())
        }
    }

    fn some_digits(&mut self) -> Result<(), Malformed> {
        if !self.peek().is_ascii_digit() {
            return Err(self.bad("expected a digit"));
        }
        self.digits();
        Ok(())
    }

    #[inline(always)]
    fn digits(&mut self) {
        loop {
            let others = self.look(self.at, no_digits);
            if others != 0 {
                self.at += others.trailing_zeros() as usize;
                return;
            }
            self.at += WIDTH;
        }
    }

    #[inline(always)]
    fn literal(&mut self, word: &[u8]) -> Result<(), Malformed> {
        let rest = &self.doc[self.at..];
        if rest.len() >= word.len() && rest.iter().zip(word).all(|(a, b)| a == b) {
            self.at += word.len();
            return Ok(());
        }
        Err(self.bad("expected a value"))
    }

    #[inline(always)]
    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    #[cold]
    fn bad(&self, what: &'static str) -> Malformed {
        Malformed {
            position: self.at.try_into().unwrap_or(u32::MAX),
            what,
        }
    }
}
