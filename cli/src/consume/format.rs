//! How one record is printed.

use std::io::Write;

use millstream_client::ConsumedRecord;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::time::show_time;

/// How records are printed.
#[derive(Debug, Clone, PartialEq)]
pub enum RecordFormat {
    /// One JSON object a line.
    Json,
    /// The value and a line break.
    Value,
    /// Text with places for parts of the record.
    Template(Vec<Piece>),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// Printed as it is.
    Text(String),
    /// Printed for each record.
    Field(Field),
}

/// A part of a record that a template names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    Topic,
    Partition,
    Offset,
    Timestamp,
    Time,
    Key,
    Value,
    Headers,
}

impl RecordFormat {
    /// Reads `json`, `value` or a template with `{topic}`, `{partition}`, `{offset}`, `{timestamp}`, `{time}`,
    /// `{key}`, `{value}`, `{headers}`, and `\n`, `\t`.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "json" => return Ok(Self::Json),
            "value" => return Ok(Self::Value),
            _ => {}
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}').ok_or("a '{' in the template has no '}'")?;
            if !before.is_empty() {
                pieces.push(Piece::Text(unescape(before)));
            }
            pieces.push(Piece::Field(field(name)?));
            rest = after;
        }
        if pieces.is_empty() {
            return Err("neither json, value, nor a template with a field such as {value}".to_owned());
        }
        pieces.push(Piece::Text(unescape(rest) + "\n"));
        Ok(Self::Template(pieces))
    }

    /// Appends the printed record with its line break.
    pub fn write(&self, record: &ConsumedRecord, out: &mut Vec<u8>) {
        match self {
            Self::Json => write_json(record, out),
            Self::Value => {
                out.extend_from_slice(record.value.as_deref().unwrap_or_default());
                out.push(b'\n');
            }
            Self::Template(pieces) => {
                for piece in pieces {
                    match piece {
                        Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                        Piece::Field(field) => write_field(*field, record, out),
                    }
                }
            }
        }
    }
}

fn field(name: &str) -> Result<Field, String> {
    Ok(match name {
        "topic" => Field::Topic,
        "partition" => Field::Partition,
        "offset" => Field::Offset,
        "timestamp" => Field::Timestamp,
        "time" => Field::Time,
        "key" => Field::Key,
        "value" => Field::Value,
        "headers" => Field::Headers,
        _ => {
            return Err(format!(
                "unknown field '{{{name}}}'; there are topic, partition, offset, timestamp, time, key, value, headers"
            ));
        }
    })
}

fn unescape(text: &str) -> String {
    text.replace("\\n", "\n").replace("\\t", "\t")
}

fn write_field(field: Field, record: &ConsumedRecord, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = match field {
        Field::Topic => write!(out, "{}", record.topic),
        Field::Partition => write!(out, "{}", record.partition),
        Field::Offset => write!(out, "{}", record.offset),
        Field::Timestamp => write!(out, "{}", record.timestamp),
        Field::Time => write!(out, "{}", show_time(record.timestamp)),
        Field::Key => out.write_all(record.key.as_deref().unwrap_or(b"null")),
        Field::Value => out.write_all(record.value.as_deref().unwrap_or(b"null")),
        Field::Headers => {
            let headers = record.headers.iter().map(|(name, value)| {
                format!(
                    "{name}={}",
                    value.as_deref().map_or("null".into(), String::from_utf8_lossy)
                )
            });
            write!(out, "{}", headers.collect::<Vec<_>>().join(","))
        }
    };
}

/// One object. A value or key that is JSON stands there as it was written; text is a string; other bytes are a string
/// in hexadecimal under a name that says so.
fn write_json(record: &ConsumedRecord, out: &mut Vec<u8>) {
    let _ = write!(
        out,
        r#"{{"topic":{},"partition":{},"offset":{},"timestamp":{}"#,
        json!(&*record.topic),
        record.partition,
        record.offset,
        record.timestamp
    );
    write_bytes("key", record.key.as_deref(), false, out);
    write_bytes("value", record.value.as_deref(), true, out);
    if !record.headers.is_empty() {
        let headers = record.headers.iter().map(|(name, value)| {
            json!([
                name,
                value
                    .as_deref()
                    .map(|value| String::from_utf8_lossy(value).into_owned())
            ])
        });
        let _ = write!(out, r#","headers":{}"#, Value::Array(headers.collect()));
    }
    out.extend_from_slice(b"}\n");
}

fn write_bytes(name: &str, bytes: Option<&[u8]>, may_be_json: bool, out: &mut Vec<u8>) {
    let _ = match bytes.map(|bytes| (bytes, std::str::from_utf8(bytes))) {
        None => write!(out, r#","{name}":null"#),
        Some((_, Ok(text))) if may_be_json && is_json(text) => write!(out, r#","{name}":{text}"#),
        Some((_, Ok(text))) => write!(out, r#","{name}":{}"#, json!(text)),
        Some((bytes, Err(_))) => {
            let hexadecimal: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            write!(out, r#","{name}_hex":"{hexadecimal}""#)
        }
    };
}

/// Whether the text can stand in a line of JSON as it is.
fn is_json(text: &str) -> bool {
    !text.contains(['\n', '\r']) && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: Option<&'static [u8]>) -> ConsumedRecord {
        ConsumedRecord {
            topic: "t".into(),
            partition: 1,
            offset: 2,
            timestamp: 0,
            key: Some("k".into()),
            value: value.map(Into::into),
            headers: vec![("h".to_owned(), Some("v".into())), ("h".to_owned(), None)],
        }
    }

    fn print(format: &str, value: Option<&'static [u8]>) -> String {
        let mut out = Vec::new();
        RecordFormat::parse(format)
            .unwrap()
            .write(&record(value), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn json_keeps_what_is_json() {
        let prefix = r#"{"topic":"t","partition":1,"offset":2,"timestamp":0,"key":"k","#;
        let headers = r#","headers":[["h","v"],["h",null]]}"#;
        for (value, printed) in [
            (Some(&br#"{"b":1.50, "a":2}"#[..]), r#""value":{"b":1.50, "a":2}"#),
            (Some(b"plain"), r#""value":"plain""#),
            (Some(b"{\n}"), r#""value":"{\n}""#),
            (Some(b"\xff\x00"), r#""value_hex":"ff00""#),
            (None, r#""value":null"#),
        ] {
            assert_eq!(print("json", value), format!("{prefix}{printed}{headers}\n"));
        }
    }

    #[test]
    fn templates_name_their_fields() {
        assert_eq!(
            print("{partition}/{offset}\\t{key}={value} {headers}", Some(b"v")),
            "1/2\tk=v h=v,h=null\n"
        );
        assert_eq!(print("{time}", None), "1970-01-01T00:00:00.000Z\n");
        assert!(
            RecordFormat::parse("{colour}")
                .unwrap_err()
                .contains("unknown field")
        );
        assert!(RecordFormat::parse("{value").is_err());
        assert!(RecordFormat::parse("csv").is_err());
    }
}
