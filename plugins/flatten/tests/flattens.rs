//! What becomes of arrays and nested objects.

use flatten::{BYTES_MAX, Flattening, Unflattenable};
use millstream_plugin::testing::Deployed;
use millstream_plugin::{Record, Transform};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn flattened(config: &str, doc: &str) -> Result<Vec<String>, Unflattenable> {
    let mut flattening =
        Flattening::configure(config.as_bytes()).unwrap_or_else(|error| panic!("{config}: {error}"));
    let mut values = Vec::new();
    flattening.flatten(doc.as_bytes(), |value| {
        values.push(String::from_utf8(value.to_vec()).expect("UTF-8"));
    })?;
    Ok(values)
}

fn check(config: &str, doc: &str, expected: &[&str]) {
    let values = flattened(config, doc).unwrap_or_else(|error| panic!("{config} on {doc}: {error}"));
    assert_eq!(values, expected, "{config} on {doc}");
}

fn refused(config: &str, expected: &str) {
    let error = Flattening::configure(config.as_bytes()).expect_err(config);
    assert_eq!(error.to_string(), expected);
}

const ORDER: &str = r#"{"order":7, "items":[{"sku":"a"}, 3 ,null], "paid":true}"#;

#[test]
fn an_element_takes_the_place_of_its_array() {
    check(
        r#"{"array":"/items"}"#,
        ORDER,
        &[
            r#"{"order":7, "items":{"sku":"a"}, "paid":true}"#,
            r#"{"order":7, "items":3, "paid":true}"#,
            r#"{"order":7, "items":null, "paid":true}"#,
        ],
    );
    check(
        r#"{"array":"/a/1/b"}"#,
        r#"{"a":[0,{"b":[1]}]}"#,
        &[r#"{"a":[0,{"b":1}]}"#],
    );
}

#[test]
fn or_stands_alone() {
    check(
        r#"{"array":"/items","into":"element"}"#,
        ORDER,
        &[r#"{"sku":"a"}"#, "3", "null"],
    );
    check(r#"{"array":""}"#, "[1, [2]]", &["1", "[2]"]);
}

#[test]
fn without_elements_there_are_no_records() {
    for doc in [r#"{"items":[ ]}"#, r#"{"items":null}"#, "{}", "3"] {
        check(r#"{"array":"/items"}"#, doc, &[]);
        check(r#"{"array":"/items","empty":"keep"}"#, doc, &[doc]);
    }
}

#[test]
fn names_on_the_way_are_joined() {
    check(
        r#"{"delimiter":"."}"#,
        r#"{ "a":{"b":{"c":1 , "d":[{"e":2}]}, "":{ }}, "f":"x", "g\"":{"h":null} }"#,
        &[r#"{"a.b.c":1,"a.b.d":[{"e":2}],"a.":{},"f":"x","g\".h":null}"#],
    );
    check(r#"{"delimiter":"\""}"#, r#"{"a":{"b":1}}"#, &[r#"{"a\"b":1}"#]);
    for doc in ["{}", "3", r#"[{"a":{"b":1}}]"#] {
        check(r#"{"delimiter":"_"}"#, doc, &[doc]);
    }
}

#[test]
fn both_at_once() {
    check(
        r#"{"array":"/items","delimiter":"_"}"#,
        r#"{"order":{"id":7},"items":[{"sku":"a"},{"sku":"b"}]}"#,
        &[
            r#"{"order_id":7,"items_sku":"a"}"#,
            r#"{"order_id":7,"items_sku":"b"}"#,
        ],
    );
}

#[test]
fn what_is_no_array_is_an_error() {
    let error = flattened(r#"{"array":"/items"}"#, r#"{"items":{}}"#).expect_err("an object");
    assert_eq!(error.to_string(), "\"/items\" must be an array, but is object");
    for config in [r#"{"array":"/items"}"#, r#"{"delimiter":"."}"#] {
        let error = flattened(config, r#"{"items":[1]"#).expect_err("cut");
        assert_eq!(error.to_string(), "not JSON: expected , or } at byte 12");
    }
}

#[test]
fn a_small_record_does_not_become_gigabytes() {
    let numbers = vec!["1"; 10_000].join(",");
    let long = "x".repeat(10_000);
    let by_elements = format!(r#"{{"long":"{long}","items":[{numbers}]}}"#);
    assert_eq!(
        flattened(r#"{"array":"/items"}"#, &by_elements),
        Err(Unflattenable::TooMuch)
    );
    let members: Vec<_> = (0..10_000).map(|n| format!("\"{n}\":1")).collect();
    let by_names = format!(r#"{{"{long}":{{{}}}}}"#, members.join(","));
    assert_eq!(
        flattened(r#"{"delimiter":"."}"#, &by_names),
        Err(Unflattenable::TooMuch)
    );
    let fits = vec!["1"; BYTES_MAX / 2 - 1].join(",");
    let records = flattened(r#"{"array":"","into":"element"}"#, &format!("[{fits}]"));
    assert_eq!(records.map(|records| records.len()), Ok(BYTES_MAX / 2 - 1));
}

#[test]
fn keys_stay_and_tombstones_pass() {
    let deployed = Deployed::to(["items"]);
    let mut flattening: Flattening = deployed.configure(r#"{"array":""}"#).expect("valid");
    let records = [
        Record::new().with_key("k").with_value("[1,2]"),
        Record::new().with_key("gone"),
        Record::new().with_value("{}"),
    ];
    let made = deployed.run(|record, out| flattening.transform(record, out), &records);
    let keys: Vec<_> = made
        .records
        .iter()
        .map(|record| (record.key_text(), record.value_text()))
        .collect();
    assert_eq!(
        keys,
        [
            (Some("k"), Some("1")),
            (Some("k"), Some("2")),
            (Some("gone"), None)
        ]
    );
    assert_eq!(
        made.errors,
        [(2, "\"\" must be an array, but is object".to_owned())]
    );
}

#[test]
fn mistakes_are_told() {
    let nothing = "give \"array\", a JSON pointer, or \"delimiter\", such as \".\", or both";
    refused("", nothing);
    refused(r#"{"into":"element"}"#, nothing);
    refused(r#"{"delimiter":".","empty":"keep"}"#, "\"empty\" needs \"array\"");
    refused(
        r#"{"delimiter":""}"#,
        "delimiter: expected one character at least, not \"\"",
    );
    refused(
        r#"{"array":"items"}"#,
        "array: a JSON pointer begins with /, this one does not: \"items\"",
    );
    refused(
        r#"{"array":"/a","into":"elements"}"#,
        r#"unknown into: "elements"; did you mean "element"? (known: "record", "element")"#,
    );
    refused(
        r#"{"arry":"/a"}"#,
        r#"unknown key "arry"; did you mean "array"? (known: "array", "into", "empty", "delimiter")"#,
    );
}

/// The same over a parsed document.
fn join(path: &str, value: &Value, out: &mut Map<String, Value>) {
    let Value::Object(members) = value else { return };
    for (name, value) in members {
        let path = format!("{path}{name}");
        match value {
            Value::Object(inner) if !inner.is_empty() => join(&format!("{path}|"), value, out),
            _ => {
                out.insert(path, value.clone());
            }
        }
    }
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<i32>().prop_map(|n| json!(n)),
        ".{0,6}".prop_map(|s| json!(s))
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-d\"\\\\é]{1,2}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn elements_are_those_of_the_parsed_array(items in prop::collection::vec(document(), 1..5), other in document()) {
        let doc = json!({"before": other, "items": items, "after": 1});
        let values = flattened(r#"{"array":"/items"}"#, &doc.to_string()).expect("an array");
        let expected: Vec<Value> = items
            .iter()
            .map(|item| json!({"before": other, "items": item, "after": 1}))
            .collect();
        let values: Vec<Value> = values.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
        prop_assert_eq!(values, expected);
    }

    #[test]
    fn names_are_joined_as_in_a_parsed_document(members in prop::collection::vec(("[a-d\"\\\\é]{1,2}", document()), 0..5)) {
        let doc = Value::Object(members.into_iter().collect());
        let mut expected = Map::new();
        join("", &doc, &mut expected);
        let values = flattened(r#"{"delimiter":"|"}"#, &doc.to_string()).expect("an object");
        let value: Value = serde_json::from_str(&values[0]).expect("JSON");
        prop_assert_eq!(value, Value::Object(expected));
    }

    #[test]
    fn any_bytes_are_flattened_or_refused(doc in any::<Vec<u8>>()) {
        for config in [r#"{"array":"/a","delimiter":"."}"#, r#"{"array":""}"#] {
            let mut flattening = Flattening::configure(config.as_bytes()).expect("valid");
            let _ = flattening.flatten(&doc, |_| {});
        }
    }
}
