//! Finds values in JSON text without building a document.
//!
//! A plugin compiles its JSON pointers (RFC 6901) once into [`Pointers`]; [`scan`] then walks over the bytes of each
//! record once, checks that they are JSON (RFC 8259, UTF-8 included, nested at most [`DEPTH_MAX`] deep), and tells a [`Sink`] where
//! each value lies. Nothing is allocated and nothing is decoded until the plugin asks for it.
//!
//! Strictness: exactly what RFC 8259 allows is accepted, with two exceptions on the safe side: escaped surrogates
//! must come in pairs, and documents nested deeper than the cap are refused.
//!
//! Repeated keys: [`Spans`] keeps the last one, as `serde_json`, JavaScript and Python do. A sink of one's own is told of every
//! one of them, so that a plugin that hides values can hide them all.
//!
//! This crate must not know of records, plugins or configuration.

mod block;
mod cursor;
mod number;
mod pointer;
mod scan;
mod text;

pub use cursor::{Cursor, Key, Malformed};
pub use number::Number;
pub use pointer::{Node, PointerError, Pointers};
pub use scan::{Sink, Spans, elements, scan};
pub use text::{decode, decoded_eq};

/// Documents nested deeper than this are refused: the walk recurses, and a guest's stack is small.
pub const DEPTH_MAX: u32 = 64;

/// The type of a JSON value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `false`
    False,
    /// `true`
    True,
    /// A number, see [`Number::parse`].
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

impl Kind {
    /// The name that JSON Schema uses, `boolean` for both truth values.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::False | Kind::True => "boolean",
            Kind::Number => "number",
            Kind::String => "string",
            Kind::Array => "array",
            Kind::Object => "object",
        }
    }
}

/// Where a value lies in the scanned document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Offset of the first byte: a string's opening quote, an object's brace.
    pub start: u32,
    /// Offset behind the last byte.
    pub end: u32,
    /// What it is.
    pub kind: Kind,
    /// For a string: whether it contains a backslash, so that its content has to be decoded.
    pub escaped: bool,
}

impl Span {
    /// The value as written, quotes included.
    pub fn raw(self, doc: &[u8]) -> &[u8] {
        &doc[self.start as usize..self.end as usize]
    }

    /// The value as text: a string without its quotes and escapes, anything else as written.
    /// `scratch` is used when there are escapes to decode.
    pub fn text<'a>(self, doc: &'a [u8], scratch: &'a mut Vec<u8>) -> &'a [u8] {
        let raw = self.raw(doc);
        if self.kind != Kind::String {
            return raw;
        }
        let content = &raw[1..raw.len() - 1];
        if !self.escaped {
            return content;
        }
        scratch.clear();
        decode(content, |piece| scratch.extend_from_slice(piece));
        scratch
    }
}
