//! Values of single configurations: where they come from, and what they may be.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::{BrokerDefaults, ConfigError, DEFINITIONS, Definition, Kind};

/// How batches are compressed when they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CompressionType {
    /// As the client sent them.
    Producer,
    /// With this codec, whatever the client used.
    Codec(Codec),
}

/// A codec of record batches, numbered as in their attributes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// No compression.
    None = 0,
    /// RFC 1952.
    Gzip = 1,
    /// Snappy in Xerial's framing.
    Snappy = 2,
    /// LZ4 frames.
    Lz4 = 3,
    /// RFC 8878.
    Zstd = 4,
}

impl CompressionType {
    /// Reads one of the choices of `compression.type`.
    pub(super) fn parse(choice: &str) -> Self {
        match choice {
            "uncompressed" => Self::Codec(Codec::None),
            "gzip" => Self::Codec(Codec::Gzip),
            "snappy" => Self::Codec(Codec::Snappy),
            "lz4" => Self::Codec(Codec::Lz4),
            "zstd" => Self::Codec(Codec::Zstd),
            _ => Self::Producer,
        }
    }
}

/// What `acks=all` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Flush {
    /// The batch is on the disk of every in-sync replica: it survives a power cut.
    #[default]
    Always,
    /// Every in-sync replica has the batch, perhaps only in memory: Kafka's promise.
    Replicated,
}

impl Flush {
    pub(super) fn parse(choice: &str) -> Self {
        if choice == "replicated" {
            Self::Replicated
        } else {
            Self::Always
        }
    }
}

/// A topic's overrides over a broker's defaults.
pub(super) struct Values<'a> {
    overrides: &'a BTreeMap<String, String>,
    defaults: &'a BrokerDefaults,
}

impl<'a> Values<'a> {
    pub(super) fn new(overrides: &'a BTreeMap<String, String>, defaults: &'a BrokerDefaults) -> Self {
        Self { overrides, defaults }
    }

    /// The value in force, as text; empty for an optional one that is not set.
    pub(super) fn text(&self, name: &str) -> String {
        let definition = line(name);
        if let Some(value) = self.overrides.get(name) {
            return value.trim().to_owned();
        }
        inherited(definition, self.defaults).unwrap_or_default()
    }

    /// The value of an optional configuration, unless it is unset or empty.
    pub(super) fn optional(&self, name: &str) -> Option<String> {
        Some(self.text(name)).filter(|value| !value.is_empty())
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, name: &'static str) -> Result<T, ConfigError> {
        let text = self.text(name);
        let number = check_number(line(name), &text)?;
        T::try_from(number).map_err(|_| ConfigError::invalid(name, &text, "too large"))
    }

    pub(super) fn choice(&self, name: &'static str) -> Result<String, ConfigError> {
        let text = self.text(name);
        check(line(name), &text)?;
        Ok(text)
    }

    /// Checks every value that the topic sets, also those that nothing reads.
    pub(super) fn check_all(&self) -> Result<(), ConfigError> {
        let mut set = DEFINITIONS.iter().filter(|d| self.overrides.contains_key(d.name));
        set.try_for_each(|d| check(d, &self.text(d.name)))
    }
}

/// The value that a topic has which sets nothing.
pub(super) fn inherited(definition: &Definition, defaults: &BrokerDefaults) -> Option<String> {
    for synonym in definition.synonyms {
        if let Some(value) = defaults.value(synonym.name) {
            if synonym.factor == 1 {
                return Some(value.to_owned());
            }
            let number = i64::from_str(value).unwrap_or(-1);
            return Some(
                if number < 0 {
                    -1
                } else {
                    number.saturating_mul(synonym.factor)
                }
                .to_string(),
            );
        }
    }
    definition.default.map(str::to_owned)
}

fn check(definition: &Definition, text: &str) -> Result<(), ConfigError> {
    let parts: Vec<&str> = match definition.kind {
        Kind::List => text.split(',').map(str::trim).collect(),
        _ => vec![text],
    };
    if !definition.choices.is_empty() {
        let wrong = parts.iter().find(|part| !definition.choices.contains(part));
        return match wrong {
            Some(_) => {
                let reason = format!("must be one of {}", definition.choices.join(", "));
                Err(ConfigError::invalid(definition.name, text, reason))
            }
            None => Ok(()),
        };
    }
    match definition.kind {
        Kind::Int | Kind::Long => check_number(definition, text).map(|_| ()),
        Kind::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "false" => Ok(()),
            _ => Err(ConfigError::invalid(
                definition.name,
                text,
                "expected value to be either true or false",
            )),
        },
        Kind::Double => match f64::from_str(text) {
            Ok(number) if (0.0..=1.0).contains(&number) => Ok(()),
            _ => Err(ConfigError::invalid(
                definition.name,
                text,
                "must be a number from 0 to 1",
            )),
        },
        Kind::String | Kind::List => Ok(()),
    }
}

fn check_number(definition: &Definition, text: &str) -> Result<i64, ConfigError> {
    let bits = if definition.kind == Kind::Int { 32 } else { 64 };
    let invalid = |reason: String| ConfigError::invalid(definition.name, text, reason);
    let number = i64::from_str(text).map_err(|_| invalid(format!("not a number of {bits} bits")))?;
    let (min, max) = definition.range.unwrap_or((i64::MIN, i64::MAX));
    if number < min {
        return Err(invalid(format!("must be at least {min}")));
    }
    if number > max {
        return Err(invalid(format!("must be no more than {max}")));
    }
    Ok(number)
}

fn line(name: &str) -> &'static Definition {
    DEFINITIONS
        .iter()
        .find(|d| d.name == name)
        .expect("only names of the table are asked for")
}
