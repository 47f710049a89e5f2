//! The records that a document becomes.

use std::fmt;

use json_scan::{Cursor, Kind, Malformed, Pointers, Span, Spans, elements};
use plugin_config::{Config, ConfigError};

/// A compiled configuration.
#[derive(Debug)]
pub struct Flattening {
    array: Option<Array>,
    /// What stands between joined names, as it is written in JSON.
    delimiter: Option<Vec<u8>>,
    /// A document in the making.
    document: Vec<u8>,
    /// The same with its names joined.
    joined: Vec<u8>,
}

/// The array whose elements become records.
#[derive(Debug)]
struct Array {
    pointer: String,
    pointers: Pointers,
    spans: Spans,
    /// An element stands in the place of the array, rather than alone.
    in_place: bool,
    /// A document without elements stays, rather than goes.
    keep_empty: bool,
}

/// A record that cannot be flattened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unflattenable {
    /// It is not JSON.
    Malformed(Malformed),
    /// What should be an array is something else.
    NoArray {
        /// Where.
        pointer: String,
        /// What it is.
        kind: Kind,
    },
    /// More than [`BYTES_MAX`] would come of it.
    TooMuch,
}

impl fmt::Display for Unflattenable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unflattenable::Malformed(malformed) => malformed.fmt(f),
            Unflattenable::NoArray { pointer, kind } => {
                write!(f, "{pointer:?} must be an array, but is {}", kind.name())
            }
            Unflattenable::TooMuch => write!(f, "more than {BYTES_MAX} bytes would come of the record"),
        }
    }
}

impl std::error::Error for Unflattenable {}

impl From<Malformed> for Unflattenable {
    fn from(malformed: Malformed) -> Self {
        Unflattenable::Malformed(malformed)
    }
}

impl Flattening {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["array", "into", "empty", "delimiter"])?;
        let in_place = config.choice("into", &[("record", true), ("element", false)])?;
        let keep_empty = config.choice("empty", &[("drop", false), ("keep", true)])?;
        let array = match config.optional("array") {
            Some(setting) => {
                let pointer = setting.text()?;
                let mut pointers = Pointers::default();
                let added = pointers.add(&pointer);
                added.map_err(|error| ConfigError::new(format!("array: {error}")))?;
                Some(Array {
                    spans: Spans::new(&pointers),
                    pointer,
                    pointers,
                    in_place,
                    keep_empty,
                })
            }
            None => None,
        };
        let delimiter = match config.optional("delimiter") {
            Some(setting) if setting.text()?.is_empty() => {
                return Err(setting.expected("one character at least"));
            }
            Some(setting) => Some(setting.raw()[1..setting.raw().len() - 1].to_vec()),
            None => None,
        };
        if array.is_none() && delimiter.is_none() {
            return Err(ConfigError::new(
                "give \"array\", a JSON pointer, or \"delimiter\", such as \".\", or both",
            ));
        }
        if let (None, Some(key)) = (
            &array,
            ["into", "empty"]
                .into_iter()
                .find(|key| config.optional(key).is_some()),
        ) {
            return Err(ConfigError::new(format!("{key:?} needs \"array\"")));
        }
        Ok(Flattening {
            array,
            delimiter,
            document: Vec::new(),
            joined: Vec::new(),
        })
    }

    /// Calls `emit` with the value of each record that the document becomes. If it ends with an error, what was told until then is worth
    /// nothing.
    ///
    /// # Errors
    /// It is not JSON, has no array where one is expected, or would become too much.
    pub fn flatten(&mut self, doc: &[u8], mut emit: impl FnMut(&[u8])) -> Result<(), Unflattenable> {
        let mut room = BYTES_MAX;
        let (delimiter, joined) = (self.delimiter.as_deref(), &mut self.joined);
        let mut finish = |document: &[u8], room: &mut usize| {
            let whole = match delimiter {
                None => document,
                Some(delimiter) => {
                    joined.clear();
                    join(document, delimiter, *room, joined)?;
                    joined.as_slice()
                }
            };
            *room = room.checked_sub(whole.len()).ok_or(Unflattenable::TooMuch)?;
            emit(whole);
            Ok(())
        };
        let Some(array) = &mut self.array else {
            return finish(doc, &mut room);
        };
        let Some(span) = array.find(doc)? else {
            return match array.keep_empty {
                true => finish(doc, &mut room),
                false => Ok(()),
            };
        };
        let (before, raw, after) = (
            &doc[..span.start as usize],
            span.raw(doc),
            &doc[span.end as usize..],
        );
        let mut result = Ok(());
        elements(raw, |element| {
            let element = element.raw(raw);
            result = if array.in_place {
                self.document.clear();
                self.document.extend_from_slice(before);
                self.document.extend_from_slice(element);
                self.document.extend_from_slice(after);
                finish(&self.document, &mut room)
            } else {
                finish(element, &mut room)
            };
            result.is_ok()
        })?;
        result
    }
}

impl Array {
    /// Where the array is; `None` if it has no elements, is `null` or is not there at all.
    fn find(&mut self, doc: &[u8]) -> Result<Option<Span>, Unflattenable> {
        self.spans.scan(doc, &self.pointers)?;
        match self.spans.get(0) {
            None => Ok(None),
            Some(span) if span.kind == Kind::Null => Ok(None),
            Some(span) if span.kind == Kind::Array => {
                let inner = &span.raw(doc)[1..];
                let is_empty = inner.trim_ascii_start() == b"]";
                Ok((!is_empty).then_some(span))
            }
            Some(span) => Err(Unflattenable::NoArray {
                pointer: self.pointer.clone(),
                kind: span.kind,
            }),
        }
    }
}

/// Writes a document as one level: the names on the way to a value, joined. Arrays and empty objects are values. What is
/// no object stays as it is.
fn join(doc: &[u8], delimiter: &[u8], room: usize, out: &mut Vec<u8>) -> Result<(), Unflattenable> {
    let mut cursor = Cursor::new(doc)?;
    if cursor.peek() == b'{' {
        let mut joiner = Joiner {
            doc,
            delimiter,
            room,
            path: Vec::new(),
            out,
        };
        joiner.out.push(b'{');
        if cursor.open(0, b'}')? {
            joiner.members(&mut cursor, 0)?;
        }
        joiner.out.push(b'}');
    } else {
        let span = cursor.skip(0)?;
        out.extend_from_slice(span.raw(doc));
    }
    Ok(cursor.finish()?)
}

struct Joiner<'d, 'o> {
    doc: &'d [u8],
    delimiter: &'d [u8],
    room: usize,
    /// The names of the objects around, each with a delimiter behind it.
    path: Vec<u8>,
    out: &'o mut Vec<u8>,
}

impl Joiner<'_, '_> {
    /// Writes the members of an object, from the first one on.
    fn members(&mut self, cursor: &mut Cursor<'_>, depth: u32) -> Result<(), Unflattenable> {
        loop {
            let key = cursor.key()?;
            let name = &self.doc[key.start + 1..key.end - 1];
            if cursor.peek() != b'{' {
                let span = cursor.skip(depth + 1)?;
                self.member(name, span.raw(self.doc))?;
            } else if cursor.open(depth + 1, b'}')? {
                let before = self.path.len();
                self.path.extend_from_slice(name);
                self.path.extend_from_slice(self.delimiter);
                self.members(cursor, depth + 1)?;
                self.path.truncate(before);
            } else {
                self.member(name, b"{}")?;
            }
            if !cursor.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Long names around many values would become far more than the document was.
    fn member(&mut self, name: &[u8], value: &[u8]) -> Result<(), Unflattenable> {
        if self.out.len() + self.path.len() + name.len() + value.len() > self.room {
            return Err(Unflattenable::TooMuch);
        }
        if self.out.len() > 1 {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(&self.path);
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b"\":");
        self.out.extend_from_slice(value);
        Ok(())
    }
}

/// What one record may become, all records that come of it together: half of what a plugin may answer unless it is given more.
pub const BYTES_MAX: usize = 8 << 20;
