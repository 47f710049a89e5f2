//! Compiled predicates, and what they say of one document.

use crate::parser::{Comparison, Literal, Operand, ParseError, Test, parse};
use json_scan::{Kind, Malformed, Number, Pointers, Span, Spans};
use std::borrow::Cow;
use std::cmp::Ordering;

/// A predicate over JSON documents.
#[derive(Debug)]
pub struct Predicate(Predicates);

impl Predicate {
    /// Compiles the text of a predicate.
    ///
    /// # Errors
    /// Where and why it cannot be understood.
    pub fn parse(source: &str) -> Result<Self, ParseError> {
        let mut predicates = Predicates::default();
        predicates.add(source)?;
        Ok(Predicate(predicates))
    }

    /// Whether the predicate holds for this document.
    ///
    /// # Errors
    /// The document is not JSON.
    pub fn matches(&mut self, doc: &[u8]) -> Result<bool, Malformed> {
        Ok(self.0.first(doc)?.is_some())
    }
}

/// Predicates over the same documents, numbered in the order of [`Predicates::add`]: one walk over a document finds what all of
/// them need.
#[derive(Debug, Default)]
pub struct Predicates {
    tests: Vec<Test>,
    pointers: Pointers,
    spans: Spans,
}

impl Predicates {
    /// Compiles the text of another predicate.
    ///
    /// # Errors
    /// Where and why it cannot be understood.
    pub fn add(&mut self, source: &str) -> Result<(), ParseError> {
        self.tests.push(parse(source, &mut self.pointers)?);
        self.spans = Spans::new(&self.pointers);
        Ok(())
    }

    /// The number of the first predicate that holds for this document.
    ///
    /// # Errors
    /// The document is not JSON.
    pub fn first(&mut self, doc: &[u8]) -> Result<Option<usize>, Malformed> {
        self.spans.scan(doc, &self.pointers)?;
        let document = Document {
            doc,
            spans: &self.spans,
        };
        Ok(self.tests.iter().position(|test| document.holds(test)))
    }
}

/// A scanned document.
struct Document<'a> {
    doc: &'a [u8],
    spans: &'a Spans,
}

/// A value as far as predicates can tell.
enum Value<'a> {
    Missing,
    Null,
    Bool(bool),
    Number(Number),
    Text(Cow<'a, [u8]>),
    Array(&'a [u8]),
    Object,
}

impl<'a> Document<'a> {
    fn holds(&self, test: &Test) -> bool {
        match test {
            Test::All(tests) => tests.iter().all(|test| self.holds(test)),
            Test::Any(tests) => tests.iter().any(|test| self.holds(test)),
            Test::Not(test) => !self.holds(test),
            Test::Compare(left, comparison, right) => {
                compare(&self.value(left), *comparison, &self.value(right))
            }
            Test::In(needle, literals) => {
                let needle = self.value(needle);
                literals
                    .iter()
                    .any(|literal| equal(&needle, &Value::of_literal(literal)))
            }
            Test::Contains(haystack, needle) => contains(&self.value(haystack), &self.value(needle)),
            Test::Exists(slot) => self.spans.get(*slot).is_some(),
            Test::True(slot) => self.spans.get(*slot).is_some_and(|span| span.kind == Kind::True),
        }
    }

    fn value<'b>(&self, operand: &'b Operand) -> Value<'b>
    where
        'a: 'b,
    {
        match operand {
            Operand::Literal(literal) => Value::of_literal(literal),
            Operand::Pointer(slot) => match self.spans.get(*slot) {
                Some(span) => Value::at(self.doc, span),
                None => Value::Missing,
            },
        }
    }
}

impl<'a> Value<'a> {
    fn of_literal(literal: &'a Literal) -> Self {
        match literal {
            Literal::Null => Value::Null,
            Literal::Bool(value) => Value::Bool(*value),
            Literal::Number(number) => Value::Number(*number),
            Literal::Text(text) => Value::Text(Cow::Borrowed(text)),
        }
    }

    fn at(doc: &'a [u8], span: Span) -> Self {
        let raw = span.raw(doc);
        match span.kind {
            Kind::Null => Value::Null,
            Kind::True => Value::Bool(true),
            Kind::False => Value::Bool(false),
            Kind::Number => Number::parse(raw).map_or(Value::Missing, Value::Number),
            Kind::String if span.escaped => {
                let mut text = Vec::with_capacity(raw.len());
                json_scan::decode(&raw[1..raw.len() - 1], |piece| text.extend_from_slice(piece));
                Value::Text(Cow::Owned(text))
            }
            Kind::String => Value::Text(Cow::Borrowed(&raw[1..raw.len() - 1])),
            Kind::Array => Value::Array(raw),
            Kind::Object => Value::Object,
        }
    }
}

fn compare(left: &Value<'_>, comparison: Comparison, right: &Value<'_>) -> bool {
    let order = match comparison {
        Comparison::Equal => return equal(left, right),
        Comparison::Unequal => return !equal(left, right),
        _ => match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.compare(*b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            _ => return false,
        },
    };
    match comparison {
        Comparison::Equal => order == Ordering::Equal,
        Comparison::Unequal => order != Ordering::Equal,
        Comparison::Less => order == Ordering::Less,
        Comparison::AtMost => order != Ordering::Greater,
        Comparison::Greater => order == Ordering::Greater,
        Comparison::AtLeast => order != Ordering::Less,
    }
}

/// Values of different types are unequal; so are a missing value, an array or an object and anything else.
fn equal(left: &Value<'_>, right: &Value<'_>) -> bool {
    match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Number(a), Value::Number(b)) => a.compare(*b) == Ordering::Equal,
        (Value::Text(a), Value::Text(b)) => a == b,
        _ => false,
    }
}

/// A string that occurs in a string, or an array with an equal element.
fn contains(haystack: &Value<'_>, needle: &Value<'_>) -> bool {
    match (haystack, needle) {
        (Value::Text(haystack), Value::Text(needle)) => occurs(haystack, needle),
        (Value::Array(array), needle) => {
            let mut found = false;
            let walked = json_scan::elements(array, |span| {
                found = equal(&Value::at(array, span), needle);
                !found
            });
            found && walked.is_ok()
        }
        _ => false,
    }
}

fn occurs(haystack: &[u8], needle: &[u8]) -> bool {
    let Some((&first, rest)) = needle.split_first() else {
        return true;
    };
    let mut from = 0;
    while let Some(step) = haystack[from..].iter().position(|&byte| byte == first) {
        from += step + 1;
        if haystack[from..].starts_with(rest) {
            return true;
        }
    }
    false
}
