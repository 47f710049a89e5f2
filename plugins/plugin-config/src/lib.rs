//! Reads the JSON object that configures a plugin. Every error names the key, what was expected, and for an unknown key
//! the nearest known one: it is shown to the person who attaches the plugin.
//!
//! Built on the scanner that the plugins carry anyway, since a JSON library would double the size of a guest.

use json_scan::{Cursor, Kind, Malformed, Span};
use std::fmt;
use std::ops::RangeInclusive;

/// What is wrong with a configuration, as a sentence for its author.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl ConfigError {
    /// An error with this text.
    pub fn new(text: impl Into<String>) -> Self {
        ConfigError(text.into())
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl From<ConfigError> for String {
    fn from(error: ConfigError) -> String {
        error.0
    }
}

impl From<Malformed> for ConfigError {
    fn from(error: Malformed) -> Self {
        ConfigError(format!("the configuration is {error}"))
    }
}

/// A configuration, or an object within one: each key is known and given once.
#[derive(Debug)]
pub struct Config<'c> {
    /// What it is called in messages.
    name: String,
    members: Vec<(String, Setting<'c>)>,
}

impl<'c> Config<'c> {
    /// Reads a configuration; none at all is an empty object.
    ///
    /// # Errors
    /// Not an object, a key that is not in `known`, a key given twice.
    pub fn parse(bytes: &'c [u8], known: &[&str]) -> Result<Self, ConfigError> {
        let bytes = if bytes.trim_ascii().is_empty() {
            b"{}"
        } else {
            bytes
        };
        let name = "the configuration".to_owned();
        let members = members(bytes, &name)?;
        match members.iter().find(|(key, _)| !known.contains(&key.as_str())) {
            Some((key, _)) => Err(unknown("key", key, known)),
            None => Ok(Config { name, members }),
        }
    }

    /// The value of a key, if it was given.
    pub fn optional(&self, key: &str) -> Option<&Setting<'c>> {
        self.members
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, setting)| setting)
    }

    /// The value of a key that must be given.
    ///
    /// # Errors
    /// It was not.
    pub fn required(&self, key: &str) -> Result<&Setting<'c>, ConfigError> {
        self.optional(key)
            .ok_or_else(|| ConfigError(format!("{} lacks the key {key:?}", self.name)))
    }

    /// One of a few words, the first if the key was not given.
    ///
    /// # Errors
    /// Another word, or no string at all.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let Some(setting) = self.optional(key) else {
            return Ok(choices[0].1);
        };
        let word = setting.text()?;
        match choices.iter().find(|(name, _)| *name == word) {
            Some((_, choice)) => Ok(*choice),
            None => Err(unknown(
                &format!("{key}:"),
                &word,
                &choices.iter().map(|c| c.0).collect::<Vec<_>>(),
            )),
        }
    }
}

/// One value of a configuration, with the name of its key for messages.
#[derive(Clone, Debug)]
pub struct Setting<'c> {
    name: String,
    raw: &'c [u8],
    span: Span,
}

impl<'c> Setting<'c> {
    /// The JSON type.
    pub fn kind(&self) -> Kind {
        self.span.kind
    }

    /// The value as written.
    pub fn raw(&self) -> &'c [u8] {
        self.raw
    }

    /// A string.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<String, ConfigError> {
        if self.kind() != Kind::String {
            return Err(self.expected("a string"));
        }
        let mut text = Vec::new();
        json_scan::decode(&self.raw[1..self.raw.len() - 1], |piece| {
            text.extend_from_slice(piece)
        });
        String::from_utf8(text).map_err(|_| self.expected("UTF-8"))
    }

    /// `true` or `false`.
    ///
    /// # Errors
    /// It is neither.
    pub fn flag(&self) -> Result<bool, ConfigError> {
        match self.kind() {
            Kind::True => Ok(true),
            Kind::False => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// No number, a fraction, or out of bounds.
    pub fn integer(&self, bounds: RangeInclusive<i64>) -> Result<i64, ConfigError> {
        match (self.kind(), json_scan::Number::parse(self.raw)) {
            (Kind::Number, Some(json_scan::Number::Integer(integer))) if bounds.contains(&integer) => {
                Ok(integer)
            }
            _ => Err(self.expected(&format!(
                "a whole number from {} to {}",
                bounds.start(),
                bounds.end()
            ))),
        }
    }

    /// The elements of an array.
    ///
    /// # Errors
    /// It is none.
    pub fn list(&self) -> Result<Vec<Setting<'c>>, ConfigError> {
        if self.kind() != Kind::Array {
            return Err(self.expected("a list"));
        }
        let mut list = Vec::new();
        json_scan::elements(self.raw, |span| {
            list.push(Setting {
                name: format!("{}[{}]", self.name, list.len()),
                raw: span.raw(self.raw),
                span,
            });
            true
        })?;
        Ok(list)
    }

    /// The members of an object, keys given once.
    ///
    /// # Errors
    /// It is none, or repeats a key.
    pub fn members(&self) -> Result<Vec<(String, Setting<'c>)>, ConfigError> {
        if self.kind() != Kind::Object {
            return Err(self.expected("an object"));
        }
        members(self.raw, &self.name)
    }

    /// An object of which each key is known and given once.
    ///
    /// # Errors
    /// It is none, a key that is not in `known`, a key given twice.
    pub fn object(&self, known: &[&str]) -> Result<Config<'c>, ConfigError> {
        let mut members = self.members()?;
        for (key, setting) in &mut members {
            if !known.contains(&key.as_str()) {
                return Err(unknown(&format!("key in {}:", self.name), key, known));
            }
            setting.name = format!("{}.{key}", self.name);
        }
        Ok(Config {
            name: self.name.clone(),
            members,
        })
    }

    /// What it is called in messages: its key, and where it lies within.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// An error about this value.
    pub fn expected(&self, what: &str) -> ConfigError {
        ConfigError(format!(
            "{}: expected {what}, not {}",
            self.name,
            shortened(self.raw)
        ))
    }
}

fn members<'c>(raw: &'c [u8], name: &str) -> Result<Vec<(String, Setting<'c>)>, ConfigError> {
    let mut cursor = Cursor::new(raw)?;
    if cursor.peek() != b'{' {
        return Err(ConfigError(format!(
            "{name}: expected an object, not {}",
            shortened(raw)
        )));
    }
    let mut members: Vec<(String, Setting<'c>)> = Vec::new();
    let mut more = cursor.open(0, b'}')?;
    while more {
        let key = cursor.key()?;
        let mut text = Vec::new();
        json_scan::decode(&raw[key.start + 1..key.end - 1], |piece| {
            text.extend_from_slice(piece)
        });
        let text = String::from_utf8_lossy(&text).into_owned();
        let span = cursor.skip(1)?;
        if members.iter().any(|(name, _)| *name == text) {
            return Err(ConfigError(format!("{name}: {text:?} is given twice")));
        }
        members.push((
            text.clone(),
            Setting {
                name: text,
                raw: span.raw(raw),
                span,
            },
        ));
        more = cursor.more(b'}')?;
    }
    cursor.finish()?;
    Ok(members)
}

/// The error for a word that is not among the known ones.
pub fn unknown(what: &str, word: &str, known: &[&str]) -> ConfigError {
    let nearest = known
        .iter()
        .map(|candidate| (distance(word, candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len() / 2).max(2))
        .min();
    let hint = nearest
        .map(|(_, name)| format!("; did you mean {name:?}?"))
        .unwrap_or_default();
    let known = known
        .iter()
        .map(|name| format!("{name:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    ConfigError(format!(
        "unknown {what} {}{hint} (known: {known})",
        shortened(format!("{word:?}").as_bytes())
    ))
}

/// Levenshtein's edit distance over bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().take(64).enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let cost = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = cost.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}

fn shortened(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.into_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(config: &str, expected: &str) {
        let error = Config::parse(config.as_bytes(), &["pointers", "mode", "salt"]).expect_err(config);
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn errors_tell_what_to_do() {
        let known = r#"(known: "pointers", "mode", "salt")"#;
        check(
            r#"{"pointer":1}"#,
            &format!(r#"unknown key "pointer"; did you mean "pointers"? {known}"#),
        );
        check(r#"{"xyzzy":1}"#, &format!(r#"unknown key "xyzzy" {known}"#));
        check(
            r#"{"mode":1,"mode":2}"#,
            r#"the configuration: "mode" is given twice"#,
        );
        check("[1]", "the configuration: expected an object, not [1]");
        check(
            "{\"mode\":}",
            "the configuration is not JSON: expected a value at byte 8",
        );
        check(
            "{} x",
            "the configuration is not JSON: something behind the value at byte 3",
        );
    }

    #[test]
    fn values_are_read_by_type() {
        let config = Config::parse(
            br#"{"a":"x\n","b":[1,"y"],"c":{"/d":true},"e":-3}"#,
            &["a", "b", "c", "e", "f"],
        );
        let config = config.expect("valid");
        assert_eq!(config.required("a").and_then(Setting::text).as_deref(), Ok("x\n"));
        let list = config.required("b").and_then(Setting::list).expect("a list");
        assert_eq!(list[0].integer(0..=9), Ok(1));
        assert_eq!(
            list[0].text().expect_err("number").to_string(),
            "b[0]: expected a string, not 1"
        );
        let members = config
            .required("c")
            .and_then(Setting::members)
            .expect("an object");
        assert_eq!((members[0].0.as_str(), members[0].1.flag()), ("/d", Ok(true)));
        let error = config
            .required("e")
            .and_then(|e| e.integer(0..=9))
            .expect_err("negative");
        assert_eq!(
            error.to_string(),
            "e: expected a whole number from 0 to 9, not -3"
        );
        assert_eq!(
            config.required("f").expect_err("absent").to_string(),
            r#"the configuration lacks the key "f""#
        );
        assert_eq!(config.choice("f", &[("p", 1), ("q", 2)]), Ok(1));
        let error = config
            .choice("a", &[("xx", 1), ("other", 2)])
            .expect_err("no choice")
            .to_string();
        assert_eq!(
            error,
            r#"unknown a: "x\n"; did you mean "xx"? (known: "xx", "other")"#
        );
    }

    #[test]
    fn objects_within_are_read_as_strictly() {
        let check = |list: &str, expected: Result<&str, &str>| {
            let text = format!(r#"{{"list":{list}}}"#);
            let config = Config::parse(text.as_bytes(), &["list"]).expect("valid");
            let list = config.required("list").and_then(Setting::list).expect("a list");
            let read = list[0]
                .object(&["to", "where"])
                .and_then(|object| object.required("to")?.text());
            assert_eq!(
                read.map_err(|error| error.to_string()),
                expected.map(str::to_owned).map_err(str::to_owned)
            );
        };
        check(r#"[{"to":"x"}]"#, Ok("x"));
        check(r#"[{"where":"x"}]"#, Err(r#"list[0] lacks the key "to""#));
        check(r#"[{"to":1}]"#, Err("list[0].to: expected a string, not 1"));
        check("[1]", Err("list[0]: expected an object, not 1"));
        check(
            r#"[{"too":1}]"#,
            Err(r#"unknown key in list[0]: "too"; did you mean "to"? (known: "to", "where")"#),
        );
    }

    #[test]
    fn no_configuration_is_an_empty_one() {
        assert!(Config::parse(b"", &["a"]).is_ok());
        assert!(Config::parse(b" \n", &["a"]).is_ok());
    }
}
