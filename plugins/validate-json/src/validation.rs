//! What a document must have, and the first thing that one lacks.

use json_scan::{Kind, Malformed, Pointers, Span, Spans};
use plugin_config::{Config, ConfigError, Setting, unknown};
use std::fmt;

/// A set of JSON types, `integer` being a number written without fraction and exponent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Types(u8);

const NAMES: [(&str, u8); 7] = [
    ("string", 1),
    ("number", 2 | 4),
    ("integer", 4),
    ("boolean", 8),
    ("null", 16),
    ("object", 32),
    ("array", 64),
];

#[derive(Debug)]
struct Rule {
    pointer: String,
    types: Types,
    required: bool,
}

/// A compiled configuration. The rules stand in the order of the pointers' slots.
#[derive(Debug)]
pub struct Validation {
    pointers: Pointers,
    rules: Vec<Rule>,
    spans: Spans,
    /// A record that is not valid is dropped silently rather than reported as an error.
    pub drop_invalid: bool,
    /// A record without a value passes.
    pub keep_tombstones: bool,
}

/// Why a document is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid<'r> {
    /// It is not JSON.
    Malformed(Malformed),
    /// A required pointer points to nothing.
    Missing(&'r str),
    /// A value has another type than it must have.
    WrongType {
        /// Where.
        pointer: &'r str,
        /// The types that it may have, as in the configuration.
        expected: Expected,
        /// The type that it has.
        found: &'static str,
    },
    /// The record has no value at all.
    NoValue,
}

/// Type names for a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected(Types);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.0;
        let mut first = true;
        for (name, bits) in NAMES {
            if rest & bits == bits {
                rest &= !bits;
                write!(f, "{}{name}", if first { "" } else { " or " })?;
                first = false;
            }
        }
        Ok(())
    }
}

impl fmt::Display for Invalid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Invalid::Malformed(malformed) => malformed.fmt(f),
            Invalid::Missing(pointer) => write!(f, "{pointer} is missing"),
            Invalid::WrongType {
                pointer,
                expected,
                found,
            } => {
                write!(f, "{pointer} must be {expected}, but is {found}")
            }
            Invalid::NoValue => f.write_str("the record has no value"),
        }
    }
}

impl Validation {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["required", "optional", "invalid", "tombstones"])?;
        let mut pointers = Pointers::default();
        let mut rules = Vec::new();
        for key in ["required", "optional"] {
            let Some(setting) = config.optional(key) else {
                continue;
            };
            for (pointer, types) in rules_of(setting)? {
                let slot = pointers
                    .add(&pointer)
                    .map_err(|e| ConfigError::new(format!("{key}: {e}")))?;
                if slot < rules.len() {
                    return Err(ConfigError::new(format!("{key}: {pointer:?} is given twice")));
                }
                rules.push(Rule {
                    pointer,
                    types,
                    required: key == "required",
                });
            }
        }
        let spans = Spans::new(&pointers);
        let drop_invalid = config.choice("invalid", &[("reject", false), ("drop", true)])?;
        let keep_tombstones = config.choice("tombstones", &[("reject", false), ("keep", true)])?;
        Ok(Validation {
            pointers,
            rules,
            spans,
            drop_invalid,
            keep_tombstones,
        })
    }

    /// Checks a record's value. With no rules it still has to be JSON.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn check(&mut self, value: Option<&[u8]>) -> Result<(), Invalid<'_>> {
        let Some(doc) = value else {
            return if self.keep_tombstones {
                Ok(())
            } else {
                Err(Invalid::NoValue)
            };
        };
        self.spans.scan(doc, &self.pointers).map_err(Invalid::Malformed)?;
        for (slot, rule) in self.rules.iter().enumerate() {
            match self.spans.get(slot) {
                None if rule.required => return Err(Invalid::Missing(&rule.pointer)),
                None => {}
                Some(span) => {
                    let (bits, found) = type_of(span, doc);
                    if rule.types.0 & bits == 0 {
                        let expected = Expected(rule.types);
                        return Err(Invalid::WrongType {
                            pointer: &rule.pointer,
                            expected,
                            found,
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

/// Either a list of pointers, of any type, or an object from pointers to types.
fn rules_of(setting: &Setting<'_>) -> Result<Vec<(String, Types)>, ConfigError> {
    match setting.kind() {
        Kind::Array => setting
            .list()?
            .iter()
            .map(|pointer| Ok((pointer.text()?, Types(u8::MAX))))
            .collect(),
        Kind::Object => setting
            .members()?
            .into_iter()
            .map(|(pointer, types)| Ok((pointer, types_of(&types)?)))
            .collect(),
        _ => Err(setting.expected("a list of JSON pointers, or an object from pointers to types")),
    }
}

fn types_of(setting: &Setting<'_>) -> Result<Types, ConfigError> {
    let list = if setting.kind() == Kind::Array {
        setting.list()?
    } else {
        vec![setting.clone()]
    };
    let mut types = 0;
    for name in &list {
        let name = name.text()?;
        types |= match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, bits)) => *bits,
            None if name == "any" => u8::MAX,
            None => {
                let known: Vec<&str> = NAMES.iter().map(|(name, _)| *name).chain(["any"]).collect();
                return Err(unknown("type", &name, &known));
            }
        };
    }
    if types == 0 {
        Err(setting.expected("one type at least"))
    } else {
        Ok(Types(types))
    }
}

/// The bit of a value's type, and its name for messages.
fn type_of(span: Span, doc: &[u8]) -> (u8, &'static str) {
    let bits = match span.kind {
        Kind::String => 1,
        Kind::Number
            if span
                .raw(doc)
                .iter()
                .any(|byte| matches!(byte, b'.' | b'e' | b'E')) =>
        {
            2
        }
        Kind::Number => return (4, "integer"),
        Kind::True | Kind::False => 8,
        Kind::Null => 16,
        Kind::Object => 32,
        Kind::Array => 64,
    };
    (bits, span.kind.name())
}
