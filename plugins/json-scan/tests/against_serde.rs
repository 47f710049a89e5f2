//! The scanner against `serde_json`: the same documents are accepted, and the same values are found in them.

use json_scan::{DEPTH_MAX, Kind, Number, Pointers, Sink, Span, Spans, scan};
use proptest::prelude::*;
use serde_json::Value;

/// Keys that collide often, so that duplicates and nested hits occur.
const KEYS: [&str; 9] = [
    "",
    "a",
    "b",
    "0",
    "1",
    "a/b",
    "m~n",
    "longer than eight",
    "ключ\"\\\n",
];

fn documents() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        any::<i64>().prop_map(|n| n.to_string()),
        any::<f64>()
            .prop_filter("finite", |n| n.is_finite())
            .prop_map(|n| format!("{n:e}")),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?",
        any::<String>().prop_map(|text| quoted(&text, false)),
        "[ -~]{0,40}".prop_map(|text| quoted(&text, false)),
        any::<String>().prop_map(|text| quoted(&text, true)),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        let member = (prop::sample::select(&KEYS[..]), any::<bool>(), inner.clone())
            .prop_map(|(key, escape, value)| format!(" {} :\t{value}", quoted(key, escape)));
        prop_oneof![
            prop::collection::vec(inner, 0..6).prop_map(|items| format!("[{}]", items.join(", \n"))),
            prop::collection::vec(member, 0..6).prop_map(|items| format!("{{{}\r}}", items.join(","))),
        ]
    })
}

/// A JSON string, if asked to with every character as an escape.
fn quoted(text: &str, escape_all: bool) -> String {
    if !escape_all {
        return Value::from(text).to_string();
    }
    let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
    format!("\"{}\"", units.concat())
}

fn pointers() -> impl Strategy<Value = Vec<String>> {
    let token = prop::sample::select(&KEYS[..]).prop_map(|key| key.replace('~', "~0").replace('/', "~1"));
    let pointer = prop::collection::vec(token, 0..4)
        .prop_map(|tokens| tokens.iter().map(|token| format!("/{token}")).collect::<String>());
    prop::collection::vec(pointer, 1..8)
}

fn compile(pointers: &[String]) -> (Pointers, Vec<usize>) {
    let mut set = Pointers::default();
    let slots = pointers
        .iter()
        .map(|p| set.add(p).expect("a valid pointer"))
        .collect();
    (set, slots)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_same_values_are_found(doc in documents(), pointers in pointers()) {
        let (set, slots) = compile(&pointers);
        let mut spans = Spans::new(&set);
        // serde_json refuses numbers beyond a double; RFC 8259 does not.
        let Ok(value) = serde_json::from_str::<Value>(&doc) else { return Ok(()) };
        prop_assert_eq!(spans.scan(doc.as_bytes(), &set), Ok(()));
        let mut scratch = Vec::new();
        for (pointer, slot) in pointers.iter().zip(slots) {
            let found = spans.get(slot);
            let expected = value.pointer(pointer);
            prop_assert_eq!(found.is_some(), expected.is_some(), "{} in {}", pointer, doc);
            if let (Some(span), Some(expected)) = (found, expected) {
                let raw: Value = serde_json::from_slice(span.raw(doc.as_bytes())).expect("a value");
                prop_assert_eq!(&raw, expected);
                prop_assert_eq!(span.kind.name(), name_of(expected));
                if let Value::String(text) = expected {
                    prop_assert_eq!(span.text(doc.as_bytes(), &mut scratch), text.as_bytes());
                }
                if let Some(float) = expected.as_f64() {
                    let ours = Number::parse(span.raw(doc.as_bytes())).expect("a number");
                    match ours {
                        Number::Integer(integer) => prop_assert_eq!(Some(integer), expected.as_i64().or(Some(0))),
                        Number::Float(ours) => prop_assert!((ours - float).abs() <= float.abs() * 1e-15),
                    }
                }
            }
        }
    }

    #[test]
    fn damaged_documents_are_judged_alike(
        doc in documents(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut bytes = doc.into_bytes();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        agree(&bytes)?;
        bytes.truncate(cut.index(bytes.len()) + 1);
        agree(&bytes)?;
    }

    #[test]
    fn arbitrary_bytes_are_judged_alike(
        bytes in prop::collection::vec(prop_oneof![
            prop::sample::select(&b"{}[]\",:\\u0123456789abcdef.eE+- tfnrul\n"[..]), any::<u8>()
        ], 0..80)
    ) {
        agree(&bytes)?;
    }
}

fn agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let (set, _) = compile(&["/a".into(), "/b/0".into(), "/0/a".into()]);
    let ours = Spans::new(&set).scan(bytes, &set);
    match serde_json::from_slice::<Value>(bytes) {
        Ok(_) => prop_assert_eq!(ours, Ok(())),
        Err(e) if e.to_string().contains("number out of range") => {}
        Err(e) => prop_assert!(ours.is_err(), "serde_json: {}, we: nothing, in {:?}", e, bytes),
    }
    Ok(())
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check(doc: &str, pointer: &str, expected: Option<&str>) {
    let (set, slots) = compile(&[pointer.into()]);
    let mut spans = Spans::new(&set);
    spans.scan(doc.as_bytes(), &set).expect("well formed");
    let found = spans
        .get(slots[0])
        .map(|span| std::str::from_utf8(span.raw(doc.as_bytes())).expect("UTF-8"));
    assert_eq!(found, expected, "{pointer} in {doc}");
}

#[test]
fn examples_of_rfc_6901() {
    let doc = r#"{"foo":["bar","baz"],"":0,"a/b":1,"c%d":2,"e^f":3,"g|h":4,"i\\j":5,"k\"l":6," ":7,"m~n":8}"#;
    check(doc, "", Some(doc));
    check(doc, "/foo", Some(r#"["bar","baz"]"#));
    check(doc, "/foo/0", Some(r#""bar""#));
    check(doc, "/foo/2", None);
    check(doc, "/foo/00", None);
    check(doc, "/foo/-", None);
    check(doc, "/", Some("0"));
    check(doc, "/a~1b", Some("1"));
    check(doc, "/i\\j", Some("5"));
    check(doc, "/k\"l", Some("6"));
    check(doc, "/ ", Some("7"));
    check(doc, "/m~0n", Some("8"));
}

#[test]
fn the_last_of_repeated_keys_counts() {
    check(r#"{"a":1,"a":2}"#, "/a", Some("2"));
    check(r#"{"a":{"b":1},"a":{"c":2}}"#, "/a/b", None);
    check(r#"{"a":{"b":1},"\u0061":3}"#, "/a/b", None);
    check(r#"{"a":{"b":1},"a":[{"b":2}]}"#, "/a/b", None);
}

#[test]
fn a_sink_sees_every_repetition() {
    struct All(Vec<u32>);
    impl Sink for All {
        fn found(&mut self, _slot: usize, span: Span) {
            self.0.push(span.start);
        }
    }
    let (set, _) = compile(&["/a".into()]);
    let mut all = All(Vec::new());
    scan(br#"{"a":1,"b":0,"\u0061":2,"a":3}"#, &set, &mut all).expect("well formed");
    assert_eq!(all.0, [5, 22, 28]);
}

#[test]
fn depth_is_capped() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let (set, slots) = compile(&["".into()]);
    let mut spans = Spans::new(&set);
    assert_eq!(spans.scan(nested(DEPTH_MAX as usize).as_bytes(), &set), Ok(()));
    assert_eq!(spans.get(slots[0]).map(|span| span.kind), Some(Kind::Array));
    let error = spans
        .scan(nested(DEPTH_MAX as usize + 1).as_bytes(), &set)
        .expect_err("too deep");
    assert_eq!(error.to_string(), "not JSON: nested too deeply at byte 64");
    assert!(spans.scan("{\"a\":".repeat(1_000_000).as_bytes(), &set).is_err());
    assert!(spans.scan("[".repeat(1_000_000).as_bytes(), &set).is_err());
}

#[test]
fn errors_name_the_place() {
    let (set, _) = compile(&["/a".into()]);
    for (doc, expected) in [
        ("", "expected a value at byte 0"),
        ("{\"a\":1", "expected , or } at byte 6"),
        ("[1 2]", "expected , or ] at byte 3"),
        ("[1,]", "expected a value at byte 3"),
        ("{\"a\":1,}", "expected a key at byte 7"),
        ("{\"a\" 1}", "expected : at byte 5"),
        ("{\"a\":01}", "leading zero at byte 6"),
        ("{\"a\":1.}", "expected a digit at byte 7"),
        ("{\"a\":\"x", "string without end at byte 7"),
        ("\"\n\"", "control character in a string at byte 1"),
        ("\"\\x\"", "unknown escape at byte 1"),
        ("\"\\ud800 \"", "surrogate without its pair at byte 1"),
        ("{} {}", "something behind the value at byte 3"),
        ("NaN", "expected a value at byte 0"),
    ] {
        let error = Spans::new(&set).scan(doc.as_bytes(), &set).expect_err(doc);
        assert_eq!(error.to_string(), format!("not JSON: {expected}"), "{doc}");
    }
    let error = Spans::new(&set)
        .scan(b"{\"b\":\"abc\xff\"}", &set)
        .expect_err("Latin-1");
    assert_eq!(error.to_string(), "not JSON: not UTF-8 at byte 9");
}

#[test]
fn pointers_are_checked() {
    let mut set = Pointers::default();
    for (pointer, part) in [
        ("a", "begins with /"),
        ("/a~2", "~ is followed by 0 or 1"),
        ("/~", "~ is followed by 0 or 1"),
    ] {
        let error = set.add(pointer).expect_err(pointer).to_string();
        assert!(error.contains(part) && error.contains(pointer), "{error}");
    }
    assert!(set.add(&"/a".repeat(65)).is_err());
    assert_eq!(
        (set.add("/a"), set.add("/b"), set.add("/a")),
        (Ok(0), Ok(1), Ok(0))
    );
}
