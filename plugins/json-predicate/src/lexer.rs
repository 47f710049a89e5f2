//! Cuts a predicate into tokens, each with its column.

use crate::parser::ParseError;
use json_scan::{Cursor, Kind, Number};

/// One word or sign of a predicate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// `/a/b`, or anything between backquotes.
    Pointer(String),
    /// A string literal, decoded.
    Text(String),
    /// A number literal.
    Number(Number),
    /// A word of letters: `and`, `true`, `exists`.
    Word(String),
    /// Punctuation or an operator.
    Sign(&'static str),
    /// Behind the last token.
    End,
}

/// A token and the offset of its first byte.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub token: Token,
    pub at: usize,
}

/// Longer signs first: `<=` is not `<` and `=`.
const SIGNS: [&str; 11] = ["==", "!=", "<=", ">=", "<", ">", "(", ")", "[", "]", ","];

/// Signs that people know from elsewhere, and what they mean here.
const FOREIGN: [(&str, &str); 5] = [
    ("&&", "and"),
    ("||", "or"),
    ("!", "not"),
    ("=", "=="),
    ("<>", "!="),
];

/// All tokens of a predicate, the last one being [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<Placed>, ParseError> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = source[at..].chars().next() {
        if first.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let (token, length) = token(source, at, first)?;
        tokens.push(Placed { token, at });
        at += length;
    }
    tokens.push(Placed {
        token: Token::End,
        at,
    });
    Ok(tokens)
}

/// The token at `at` and its length in bytes.
fn token(source: &str, at: usize, first: char) -> Result<(Token, usize), ParseError> {
    let rest = &source[at..];
    match first {
        '/' => {
            let length = rest
                .find(|c: char| c.is_whitespace() || "()[],=!<>\"'`".contains(c))
                .unwrap_or(rest.len());
            Ok((Token::Pointer(rest[..length].to_owned()), length))
        }
        '`' => match rest[1..].find('`') {
            Some(length) => Ok((Token::Pointer(rest[1..=length].to_owned()), length + 2)),
            None => Err(ParseError::new(source, at, "backquote without its pair")),
        },
        '"' | '\'' => text(source, at, first),
        '-' | '0'..='9' => number(source, at),
        _ if first.is_ascii_alphabetic() => {
            let length = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            Ok((Token::Word(rest[..length].to_owned()), length))
        }
        _ => match SIGNS
            .iter()
            .find(|sign| rest.starts_with(**sign) && !rest.starts_with("<>"))
        {
            Some(sign) => Ok((Token::Sign(sign), sign.len())),
            None => Err(foreign(source, at, first)),
        },
    }
}

fn text(source: &str, at: usize, quote: char) -> Result<(Token, usize), ParseError> {
    let bytes = &source.as_bytes()[at + 1..];
    let mut length = 0;
    while bytes.get(length).is_some_and(|&byte| byte != quote as u8) {
        if bytes[length] == b'\\' {
            let known = match bytes.get(length + 1) {
                Some(b'u') => bytes
                    .get(length + 2..length + 6)
                    .is_some_and(|d| d.iter().all(u8::is_ascii_hexdigit)),
                Some(byte) => b"\"'\\/bfnrt".contains(byte),
                None => false,
            };
            if !known {
                return Err(ParseError::new(
                    source,
                    at + 1 + length,
                    "unknown escape in a string",
                ));
            }
            length += 1;
        }
        length += 1;
    }
    if length >= bytes.len() {
        return Err(ParseError::new(source, at, "string without its closing quote"));
    }
    let mut decoded = Vec::new();
    json_scan::decode(&bytes[..length], |piece| decoded.extend_from_slice(piece));
    Ok((
        Token::Text(String::from_utf8_lossy(&decoded).into_owned()),
        length + 2,
    ))
}

fn number(source: &str, at: usize) -> Result<(Token, usize), ParseError> {
    let rest = &source[at..];
    let length = rest
        .find(|c: char| !c.is_ascii_alphanumeric() && !"+-.".contains(c))
        .unwrap_or(rest.len());
    let raw = &rest.as_bytes()[..length];
    let well_formed = Cursor::new(raw).and_then(|mut cursor| {
        let span = cursor.skip(0)?;
        cursor.finish().map(|()| span.kind == Kind::Number)
    });
    match (well_formed, Number::parse(raw)) {
        (Ok(true), Some(number)) => Ok((Token::Number(number), length)),
        _ => Err(ParseError::new(source, at, "not a number as JSON writes them")),
    }
}

fn foreign(source: &str, at: usize, first: char) -> ParseError {
    match FOREIGN.iter().find(|(sign, _)| source[at..].starts_with(sign)) {
        Some((sign, ours)) => ParseError::new(source, at, format!("{sign:?} is written {ours:?} here")),
        None => ParseError::new(source, at, format!("unexpected character {first:?}")),
    }
}
