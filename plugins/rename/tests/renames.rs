//! Which fields get other names, and that nothing else changes.

use proptest::prelude::*;
use rename::{Renaming, Unrenamable};
use serde_json::{Map, Value, json};

fn renaming(config: &str) -> Renaming {
    Renaming::configure(config.as_bytes()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn renamed(config: &str, doc: &str) -> Result<String, Unrenamable> {
    let mut renaming = renaming(config);
    if !renaming.find(doc.as_bytes())? {
        return Ok("unchanged".to_owned());
    }
    let mut out = Vec::new();
    renaming.write(doc.as_bytes(), &mut out);
    Ok(String::from_utf8(out).expect("UTF-8"))
}

fn check(config: &str, doc: &str, expected: &str) {
    assert_eq!(renamed(config, doc).as_deref(), Ok(expected), "{config} on {doc}");
}

fn refused(config: &str, expected: &str) {
    let error = Renaming::configure(config.as_bytes()).expect_err(config);
    assert_eq!(error.to_string(), expected);
}

const DOC: &str = r#"{ "a" : 1.50, "b":{"c":"x" , "d": [10, {"e":null}]}, "\u0066":"ä" }"#;

#[test]
fn nothing_changes_but_the_names() {
    check(
        r#"{"fields":{"/a":"A","/b/d/1/e":"E","/f":"é\n"}}"#,
        DOC,
        r#"{ "A" : 1.50, "b":{"c":"x" , "d": [10, {"E":null}]}, "é\n":"ä" }"#,
    );
    check(
        r#"{"fields":{"/b":"B","/b/c":"C"}}"#,
        DOC,
        r#"{ "a" : 1.50, "B":{"C":"x" , "d": [10, {"e":null}]}, "\u0066":"ä" }"#,
    );
    check(r#"{"fields":{"/x~1y":"z/w"}}"#, r#"{"x/y":1}"#, r#"{"z/w":1}"#);
    check(r#"{"fields":{"/a":"b"}}"#, r#"{"a":1,"a":2}"#, r#"{"b":1,"b":2}"#);
}

#[test]
fn what_is_not_there_is_left_alone() {
    for doc in [DOC, "[]", "3", r#"{"x":[]}"#] {
        check(
            r#"{"fields":{"/x/y":"z","/b/d/7":"first","/a/b":"c"}}"#,
            doc,
            "unchanged",
        );
    }
}

#[test]
fn elements_have_no_names() {
    check(r#"{"fields":{"/b/d/0":"first"}}"#, DOC, DOC);
}

#[test]
fn names_can_be_exchanged() {
    check(
        r#"{"fields":{"/a":"b","/b":"a"}}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"b":1,"a":2}"#,
    );
    check(
        r#"{"fields":{"/a":"b","/b":"c"}}"#,
        r#"{"a":1,"b":2}"#,
        r#"{"b":1,"c":2}"#,
    );
    check(r#"{"fields":{"/a":"a"}}"#, r#"{"a":1}"#, r#"{"a":1}"#);
}

#[test]
fn a_name_that_is_taken_is_an_error_of_the_record() {
    let error = renamed(r#"{"fields":{"/a":"b"}}"#, r#"{"b":1,"a":2}"#).expect_err("taken");
    assert_eq!(error.to_string(), "the record has a field \"b\" already");
    assert!(renamed(r#"{"fields":{"/x/a":"b/c"}}"#, r#"{"x":{"a":1,"b\/c":2}}"#).is_err());
    // In another object it is another field, and without the old one there is nothing to rename.
    check(
        r#"{"fields":{"/x/a":"b"}}"#,
        r#"{"x":{"a":1},"b":2}"#,
        r#"{"x":{"b":1},"b":2}"#,
    );
    check(r#"{"fields":{"/a":"b"}}"#, r#"{"b":1}"#, "unchanged");
}

#[test]
fn what_is_not_json_is_an_error() {
    let error = renamed(r#"{"fields":{"/a":"b"}}"#, r#"{"a":1"#).expect_err("cut");
    assert_eq!(error.to_string(), "not JSON: expected , or } at byte 6");
}

#[test]
fn mistakes_are_told() {
    refused("", "the configuration lacks the key \"fields\"");
    refused(r#"{"fields":{}}"#, "fields: expected one field at least, not {}");
    refused(
        r#"{"fields":["/a"]}"#,
        r#"fields: expected an object, not ["/a"]"#,
    );
    refused(r#"{"fields":{"/a":1}}"#, "/a: expected a string, not 1");
    refused(
        r#"{"fields":{"a":"b"}}"#,
        r#"fields: "a": a field is named by a JSON pointer, which begins with /"#,
    );
    refused(
        r#"{"fields":{"/a":"/b"}}"#,
        r#"fields: "/a": a field stays where it is and only gets another name: write "b", not "/b""#,
    );
    refused(
        r#"{"fields":{"/a":"c","/b":"c"}}"#,
        r#"fields: "/b": another field gets the name "c" as well"#,
    );
    refused(
        r#"{"fields":{"/a":"b","/a":"c"}}"#,
        r#"fields: "/a" is given twice"#,
    );
    refused(
        r#"{"field":{"/a":"b"}}"#,
        r#"unknown key "field"; did you mean "fields"? (known: "fields")"#,
    );
}

/// The same over a parsed document: what has no such field stays, and so does everything else.
fn model(doc: &Value, from: &str, to: &str) -> Value {
    let Value::Object(members) = doc else {
        return doc.clone();
    };
    let name = |name: &String| if name == from { to.to_owned() } else { name.clone() };
    let renamed: Map<String, Value> = members
        .iter()
        .map(|(key, value)| (name(key), value.clone()))
        .collect();
    Value::Object(renamed)
}

fn document() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<i32>().prop_map(|n| json!(n)),
        ".{0,6}".prop_map(|s| json!(s))
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::vec(("[a-d\"\\\\é]{1,2}", inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_field_at_the_top_is_renamed_as_in_a_parsed_document(doc in document(), from in "[a-d\"\\\\é]{1,2}") {
        let config = json!({"fields": {format!("/{from}"): "new"}}).to_string();
        let text = doc.to_string();
        let written = renamed(&config, &text).expect("a name that no document has");
        let has = doc.get(&from).is_some();
        prop_assert_eq!(written == "unchanged", !has);
        if has {
            let written: Value = serde_json::from_str(&written).expect("JSON");
            prop_assert_eq!(written, model(&doc, &from, "new"));
        }
    }

    #[test]
    fn any_bytes_are_renamed_or_refused(doc in any::<Vec<u8>>()) {
        let mut renaming = renaming(r#"{"fields":{"/a":"b"}}"#);
        let _ = renaming.find(&doc);
        renaming.write(&doc, &mut Vec::new());
    }
}
