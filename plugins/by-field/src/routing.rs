//! Which part of a record decides, and which partition follows from it.

use crate::murmur2;
use json_scan::{Kind, Malformed, Number, Pointers, Span, Spans};
use plugin_config::{Config, ConfigError, Setting};
use std::cmp::Ordering;

/// A compiled configuration.
#[derive(Debug)]
pub struct Routing {
    source: Source,
    strategy: Strategy,
    missing: Missing,
}

/// The part of a record that decides.
#[derive(Debug)]
enum Source {
    /// The value at a JSON pointer in the record's value.
    Pointer(Box<(Pointers, Spans)>),
    /// A header; of repeated ones the last.
    Header(String),
    /// The record's key.
    Key,
}

#[derive(Debug)]
enum Strategy {
    Hash,
    /// Ascending; a record goes to the partition whose number is that of the boundaries at or below its field.
    Numbers(Vec<Number>),
    Texts(Vec<Vec<u8>>),
}

/// What happens with a record that lacks the part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Missing {
    Key,
    Error,
    First,
}

/// A record's partition cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unroutable {
    /// Its value is not JSON.
    Malformed(Malformed),
    /// It lacks the field.
    NoField,
    /// The field has not the type of the boundaries.
    NoOrder,
}

impl std::fmt::Display for Unroutable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unroutable::Malformed(malformed) => malformed.fmt(f),
            Unroutable::NoField => f.write_str("the record lacks the field that decides its partition"),
            Unroutable::NoOrder => f.write_str("the field has another type than the boundaries"),
        }
    }
}

/// The parts of a record that may decide.
pub trait Parts {
    /// The key.
    fn key(&self) -> Option<&[u8]>;
    /// The value.
    fn value(&self) -> Option<&[u8]>;
    /// The value of the last header of this name, if it has one.
    fn header(&self, name: &str) -> Option<&[u8]>;
}

impl Routing {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(
            config,
            &["pointer", "header", "key", "strategy", "boundaries", "missing"],
        )?;
        let source = source(&config)?;
        let by_range = config.choice("strategy", &[("hash", false), ("range", true)])?;
        let strategy = match (by_range, config.optional("boundaries")) {
            (true, Some(setting)) => boundaries(setting)?,
            (true, None) => return Err(ConfigError::new("strategy \"range\" needs \"boundaries\"")),
            (false, Some(_)) => return Err(ConfigError::new("\"boundaries\" need \"strategy\": \"range\"")),
            (false, None) => Strategy::Hash,
        };
        let choices = [
            ("key", Missing::Key),
            ("error", Missing::Error),
            ("first", Missing::First),
        ];
        let missing = config.choice("missing", &choices)?;
        Ok(Routing {
            source,
            strategy,
            missing,
        })
    }

    /// The partition of a record among `partitions`.
    ///
    /// # Errors
    /// The record lacks the field, and the configuration says `"missing": "error"`.
    pub fn partition(&mut self, record: &impl Parts, partitions: u32) -> Result<u32, Unroutable> {
        let routed = match &mut self.source {
            Source::Key => route(&self.strategy, record.key(), partitions),
            Source::Header(name) => route(&self.strategy, record.header(name), partitions),
            Source::Pointer(compiled) => {
                let (pointers, spans) = &mut **compiled;
                let doc = record.value().unwrap_or(b"null");
                match spans.scan(doc, pointers) {
                    Err(malformed) => Err(Unroutable::Malformed(malformed)),
                    Ok(()) => match spans.get(0) {
                        Some(span) if span.kind != Kind::Null => {
                            route_span(&self.strategy, doc, span, partitions)
                        }
                        _ => Err(Unroutable::NoField),
                    },
                }
            }
        };
        match (routed, self.missing) {
            (Ok(partition), _) => Ok(partition),
            (Err(_), Missing::Key) => Ok(murmur2::partition(record.key().unwrap_or_default(), partitions)),
            (Err(_), Missing::First) => Ok(0),
            (Err(error), Missing::Error) => Err(error),
        }
    }
}

fn source(config: &Config<'_>) -> Result<Source, ConfigError> {
    match (
        config.optional("pointer"),
        config.optional("header"),
        config.optional("key"),
    ) {
        (Some(pointer), None, None) => {
            let mut pointers = Pointers::default();
            pointers
                .add(&pointer.text()?)
                .map_err(|e| ConfigError::new(format!("pointer: {e}")))?;
            let spans = Spans::new(&pointers);
            Ok(Source::Pointer(Box::new((pointers, spans))))
        }
        (None, Some(header), None) => Ok(Source::Header(header.text()?)),
        (None, None, Some(key)) if key.flag()? => Ok(Source::Key),
        _ => Err(ConfigError::new(
            "give one of \"pointer\": \"/field\", \"header\": \"name\", \"key\": true",
        )),
    }
}

fn boundaries(setting: &Setting<'_>) -> Result<Strategy, ConfigError> {
    let list = setting.list()?;
    let ascending = || setting.expected("boundaries in ascending order, each once");
    match list.first().map(Setting::kind) {
        Some(Kind::Number) => {
            let numbers = list.iter().map(|item| match item.kind() {
                Kind::Number => Number::parse(item.raw()).ok_or_else(|| item.expected("a number")),
                _ => Err(item.expected("a number, as the first boundary is one")),
            });
            let numbers: Vec<Number> = numbers.collect::<Result<_, _>>()?;
            if !numbers.is_sorted_by(|a, b| a.compare(*b) == Ordering::Less) {
                return Err(ascending());
            }
            Ok(Strategy::Numbers(numbers))
        }
        Some(Kind::String) => {
            let texts: Vec<Vec<u8>> = list
                .iter()
                .map(|item| item.text().map(String::into_bytes))
                .collect::<Result<_, _>>()?;
            if !texts.is_sorted_by(|a, b| a < b) {
                return Err(ascending());
            }
            Ok(Strategy::Texts(texts))
        }
        _ => Err(setting.expected("a list of numbers or strings")),
    }
}

fn route_span(strategy: &Strategy, doc: &[u8], span: Span, partitions: u32) -> Result<u32, Unroutable> {
    match (strategy, span.kind) {
        (Strategy::Hash, _) | (Strategy::Numbers(_), Kind::Number) | (Strategy::Texts(_), Kind::String) => {
            route(strategy, Some(span.text(doc, &mut Vec::new())), partitions)
        }
        _ => Err(Unroutable::NoOrder),
    }
}

/// Keys and headers are bytes: numeric boundaries take those that spell a number.
fn route(strategy: &Strategy, part: Option<&[u8]>, partitions: u32) -> Result<u32, Unroutable> {
    let part = part.ok_or(Unroutable::NoField)?;
    let range = match strategy {
        Strategy::Hash => return Ok(murmur2::partition(part, partitions)),
        Strategy::Texts(texts) => texts.partition_point(|boundary| boundary.as_slice() <= part),
        Strategy::Numbers(numbers) => {
            let number = Number::parse(part).ok_or(Unroutable::NoOrder)?;
            numbers.partition_point(|boundary| boundary.compare(number) != Ordering::Greater)
        }
    };
    Ok((range as u32).min(partitions.saturating_sub(1)))
}
