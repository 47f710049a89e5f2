//! What hides a value, and the rewriting of documents with it.

use json_scan::{Kind, Malformed, Pointers, Sink, Span, scan};
use plugin_config::{Config, ConfigError};
use sha2::{Digest, Sha256};

/// How values are hidden.
#[derive(Clone, Debug)]
enum Mode {
    /// Replaced by a fixed text.
    Redact(String),
    /// Replaced by the first `digits` hexadecimal digits of the value's HMAC-SHA-256 (RFC 2104) under the salt: equal values stay equal.
    Hash {
        /// The keyed hash, ready to be continued with a value.
        mac: Box<Hmac>,
        /// 8 to 64.
        digits: usize,
    },
    /// All characters but the last few are replaced by `*`; a value that has no more than these is hidden altogether.
    KeepLast(usize),
}

/// A compiled configuration.
#[derive(Debug)]
pub struct Masking {
    pointers: Pointers,
    mode: Mode,
    found: Found,
    text: Vec<u8>,
}

#[derive(Debug, Default)]
struct Found(Vec<Span>);

impl Sink for Found {
    fn found(&mut self, _slot: usize, span: Span) {
        self.0.push(span);
    }
}

/// Bytes that a salt must have at least: a short one can be guessed, and with it the values.
const SALT_BYTES_MIN: usize = 8;

impl Masking {
    /// Reads the configuration.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["pointers", "mode", "with", "salt", "digits", "keep"])?;
        let mut pointers = Pointers::default();
        let mut texts = Vec::new();
        for pointer in config.required("pointers")?.list()? {
            let text = pointer.text()?;
            let known = pointers.len();
            let slot = pointers.add(&text).map_err(|e| ConfigError::new(e.to_string()))?;
            if slot < known {
                return Err(ConfigError::new(format!("pointers: {text:?} is given twice")));
            }
            texts.push(text);
        }
        if texts.is_empty() {
            return Err(ConfigError::new("pointers: name one value to mask at least"));
        }
        refuse_nested(&texts)?;
        Ok(Masking {
            pointers,
            mode: mode(&config)?,
            found: Found::default(),
            text: Vec::new(),
        })
    }

    /// Finds what is to be hidden in a document; false if there is nothing. Of repeated keys every value is hidden.
    /// `null` stays: it says nothing but that there is no value.
    ///
    /// # Errors
    /// The document is not JSON.
    pub fn find(&mut self, doc: &[u8]) -> Result<bool, Malformed> {
        self.found.0.clear();
        scan(doc, &self.pointers, &mut self.found)?;
        self.found.0.retain(|span| span.kind != Kind::Null);
        Ok(!self.found.0.is_empty())
    }

    /// Appends the document in which [`Masking::find`] has just looked to `out`, the values hidden, every other byte as it was.
    pub fn write(&mut self, doc: &[u8], out: &mut Vec<u8>) {
        let mut copied = 0;
        for span in &self.found.0 {
            out.extend_from_slice(&doc[copied..span.start as usize]);
            hide(&self.mode, doc, *span, &mut self.text, out);
            copied = span.end as usize;
        }
        out.extend_from_slice(&doc[copied..]);
    }
}

fn mode(config: &Config<'_>) -> Result<Mode, ConfigError> {
    let name = config.choice(
        "mode",
        &[("redact", "redact"), ("hash", "hash"), ("keep-last", "keep-last")],
    )?;
    for (key, of) in [
        ("with", "redact"),
        ("salt", "hash"),
        ("digits", "hash"),
        ("keep", "keep-last"),
    ] {
        if of != name && config.optional(key).is_some() {
            return Err(ConfigError::new(format!(
                "{key}: belongs to the mode {of:?}, but the mode is {name:?}"
            )));
        }
    }
    match name {
        "hash" => {
            let salt = config.required("salt")?.text()?;
            if salt.len() < SALT_BYTES_MIN {
                return Err(ConfigError::new(format!(
                    "salt: needs {SALT_BYTES_MIN} bytes at least"
                )));
            }
            let digits = config
                .optional("digits")
                .map_or(Ok(32), |digits| digits.integer(8..=64))?;
            Ok(Mode::Hash {
                mac: Box::new(Hmac::new(salt.as_bytes())),
                digits: digits as usize,
            })
        }
        "keep-last" => {
            let keep = config
                .optional("keep")
                .map_or(Ok(4), |keep| keep.integer(1..=1024))?;
            Ok(Mode::KeepLast(keep as usize))
        }
        _ => Ok(Mode::Redact(match config.optional("with") {
            Some(with) if with.kind() == Kind::String || with.kind() == Kind::Null => {
                String::from_utf8_lossy(with.raw()).into_owned()
            }
            Some(with) => return Err(with.expected("a string or null")),
            None => "\"***\"".to_owned(),
        })),
    }
}

/// A pointer below another one would hide a part of what is hidden anyway.
fn refuse_nested(pointers: &[String]) -> Result<(), ConfigError> {
    for outer in pointers {
        for inner in pointers {
            if inner
                .strip_prefix(outer.as_str())
                .is_some_and(|rest| rest.starts_with('/'))
            {
                return Err(ConfigError::new(format!(
                    "pointers: {outer:?} hides {inner:?} already"
                )));
            }
        }
    }
    Ok(())
}

fn hide(mode: &Mode, doc: &[u8], span: Span, text: &mut Vec<u8>, out: &mut Vec<u8>) {
    match mode {
        Mode::Redact(with) => out.extend_from_slice(with.as_bytes()),
        Mode::Hash { mac, digits } => {
            let hash = mac.of(span.text(doc, text));
            out.push(b'"');
            for digit in 0..*digits {
                let nibble = hash[digit / 2] >> (4 * (1 - digit % 2)) & 15;
                out.push(b"0123456789abcdef"[usize::from(nibble)]);
            }
            out.push(b'"');
        }
        Mode::KeepLast(_) if matches!(span.kind, Kind::Array | Kind::Object) => {
            out.extend_from_slice(b"\"***\"");
        }
        Mode::KeepLast(keep) => {
            let raw = span.raw(doc);
            let content = if span.kind == Kind::String {
                &raw[1..raw.len() - 1]
            } else {
                raw
            };
            out.push(b'"');
            keep_last(content, *keep, out);
            out.push(b'"');
        }
    }
}

/// Characters are counted as the reader sees them (an escape is one); those that stay are copied as they were written.
fn keep_last(content: &[u8], keep: usize, out: &mut Vec<u8>) {
    let total = starts(content).count();
    let hidden = if total > keep { total - keep } else { total };
    out.extend(std::iter::repeat_n(b'*', hidden));
    if let Some(start) = starts(content).nth(hidden) {
        out.extend_from_slice(&content[start..]);
    }
}

/// Where each character of a checked string's content begins.
fn starts(content: &[u8]) -> impl Iterator<Item = usize> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at;
        let first = *content.get(at)?;
        at += match (first, content.get(at + 1)) {
            (b'\\', Some(b'u')) if surrogate(content, at) => 12,
            (b'\\', Some(b'u')) => 6,
            (b'\\', _) => 2,
            (0xf0.., _) => 4,
            (0xe0.., _) => 3,
            (0xc0.., _) => 2,
            _ => 1,
        };
        Some(start)
    })
}

/// Whether the `\uXXXX` at `at` is the first half of a surrogate pair, which is one character.
fn surrogate(content: &[u8], at: usize) -> bool {
    matches!(
        content.get(at + 2..at + 4),
        Some([b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B'])
    )
}

/// HMAC-SHA-256 with its key taken in, so that a value costs two compressions less.
#[derive(Clone, Debug)]
struct Hmac {
    inner: Sha256,
    outer: Sha256,
}

impl Hmac {
    fn new(key: &[u8]) -> Self {
        let mut block = [0u8; 64];
        if key.len() > block.len() {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let padded = |pad: u8| Sha256::new().chain_update(block.map(|byte| byte ^ pad));
        Hmac {
            inner: padded(0x36),
            outer: padded(0x5c),
        }
    }

    fn of(&self, message: &[u8]) -> [u8; 32] {
        let inner = self.inner.clone().chain_update(message).finalize();
        self.outer.clone().chain_update(inner).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hmac_agrees_with_rfc_4231() {
        let hex = |bytes: [u8; 32]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        assert_eq!(
            hex(Hmac::new(b"Jefe").of(b"what do ya want for nothing?")),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
        assert_eq!(
            hex(Hmac::new(&[0xaa; 131]).of(b"Test Using Larger Than Block-Size Key - Hash Key First")),
            "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"
        );
    }
}
