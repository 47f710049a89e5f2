//! Where records go.

use by_field::{Parts, Routing};

#[derive(Default)]
struct Record {
    key: Option<&'static str>,
    value: Option<&'static str>,
    headers: Vec<(&'static str, &'static str)>,
}

impl Parts for Record {
    fn key(&self) -> Option<&[u8]> {
        self.key.map(str::as_bytes)
    }
    fn value(&self) -> Option<&[u8]> {
        self.value.map(str::as_bytes)
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers
            .iter()
            .rev()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| value.as_bytes())
    }
}

fn value(value: &'static str) -> Record {
    Record {
        value: Some(value),
        ..Record::default()
    }
}

fn check(config: &str, record: &Record, partitions: u32, expected: u32) {
    let mut routing = Routing::configure(config.as_bytes()).unwrap_or_else(|e| panic!("{config}: {e}"));
    assert_eq!(
        routing.partition(record, partitions),
        Ok(expected),
        "{config} on {:?}",
        record.value
    );
}

fn refused(config: &str, expected: &str) {
    assert_eq!(
        Routing::configure(config.as_bytes())
            .expect_err(config)
            .to_string(),
        expected
    );
}

/// Kafka's `toPositive(murmur2(..)) % partitions` for "foobar", whose hash is -790332482.
const FOOBAR: u32 = ((-790_332_482_i32) as u32 & 0x7fff_ffff) % 7;

#[test]
fn the_same_text_goes_to_the_same_partition_wherever_it_stands() {
    check(
        r#"{"pointer":"/a/b"}"#,
        &value(r#"{"a":{"b":"foobar"}}"#),
        7,
        FOOBAR,
    );
    check(r#"{"pointer":"/a"}"#, &value(r#"{"a":"f\u006fobar"}"#), 7, FOOBAR);
    check(
        r#"{"key":true}"#,
        &Record {
            key: Some("foobar"),
            ..Record::default()
        },
        7,
        FOOBAR,
    );
    let headers = vec![("h", "x"), ("h", "foobar"), ("g", "y")];
    check(
        r#"{"header":"h"}"#,
        &Record {
            headers,
            ..Record::default()
        },
        7,
        FOOBAR,
    );
    check(r#"{"pointer":"/a"}"#, &value(r#"{"a":"foobar"}"#), 1, 0);
}

#[test]
fn ranges_of_numbers() {
    let config = r#"{"pointer":"/month","strategy":"range","boundaries":[4,7,10.5]}"#;
    check(config, &value(r#"{"month":-1}"#), 4, 0);
    check(config, &value(r#"{"month":3.99}"#), 4, 0);
    check(config, &value(r#"{"month":4}"#), 4, 1);
    check(config, &value(r#"{"month":10}"#), 4, 2);
    check(config, &value(r#"{"month":1e9}"#), 4, 3);
    check(config, &value(r#"{"month":1e9}"#), 2, 1);
    let keyed = Record {
        key: Some("5"),
        ..Record::default()
    };
    check(
        r#"{"key":true,"strategy":"range","boundaries":[4,7]}"#,
        &keyed,
        3,
        1,
    );
}

#[test]
fn ranges_of_texts() {
    let config = r#"{"pointer":"/carrier","strategy":"range","boundaries":["DL","UA"]}"#;
    check(config, &value(r#"{"carrier":"AA"}"#), 3, 0);
    check(config, &value(r#"{"carrier":"DL"}"#), 3, 1);
    check(config, &value(r#"{"carrier":"ZZ"}"#), 3, 2);
}

#[test]
fn records_without_the_field() {
    let record = |value| Record {
        key: Some("foobar"),
        value,
        ..Record::default()
    };
    for value in [
        None,
        Some("{}"),
        Some("{\"a\":null}"),
        Some("not JSON"),
        Some("[]"),
    ] {
        check(r#"{"pointer":"/a"}"#, &record(value), 7, FOOBAR);
        check(r#"{"pointer":"/a","missing":"first"}"#, &record(value), 7, 0);
        let mut strict = Routing::configure(br#"{"pointer":"/a","missing":"error"}"#).expect("valid");
        assert!(strict.partition(&record(value), 7).is_err(), "{value:?}");
    }
    let typed = r#"{"pointer":"/a","strategy":"range","boundaries":[1],"missing":"error"}"#;
    let error = Routing::configure(typed.as_bytes())
        .expect("valid")
        .partition(&value(r#"{"a":"2"}"#), 2);
    assert_eq!(
        error.expect_err("a string").to_string(),
        "the field has another type than the boundaries"
    );
    check(
        r#"{"key":true}"#,
        &Record::default(),
        7,
        by_field::murmur2::partition(b"", 7),
    );
}

#[test]
fn mistakes_are_told() {
    let one = "give one of \"pointer\": \"/field\", \"header\": \"name\", \"key\": true";
    refused("", one);
    refused(r#"{"key":false}"#, one);
    refused(r#"{"key":true,"header":"x"}"#, one);
    refused(
        r#"{"pointer":"carrier"}"#,
        r#"pointer: a JSON pointer begins with /, this one does not: "carrier""#,
    );
    refused(
        r#"{"pointr":"/a"}"#,
        r#"unknown key "pointr"; did you mean "pointer"? (known: "pointer", "header", "key", "strategy", "boundaries", "missing")"#,
    );
    refused(
        r#"{"key":true,"strategy":"range"}"#,
        r#"strategy "range" needs "boundaries""#,
    );
    refused(
        r#"{"key":true,"boundaries":[1]}"#,
        r#""boundaries" need "strategy": "range""#,
    );
    refused(
        r#"{"key":true,"strategy":"range","boundaries":[2,1]}"#,
        "boundaries: expected boundaries in ascending order, each once, not [2,1]",
    );
    refused(
        r#"{"key":true,"strategy":"range","boundaries":[1,"b"]}"#,
        "boundaries[1]: expected a number, as the first boundary is one, not \"b\"",
    );
    refused(
        r#"{"key":true,"strategy":"range","boundaries":[]}"#,
        "boundaries: expected a list of numbers or strings, not []",
    );
}
