//! What is kept and what is dropped.

use project::Projection;
use proptest::prelude::*;
use serde_json::{Value, json};

fn check(config: &str, doc: &str, expected: &str) {
    let projection = Projection::configure(config.as_bytes()).unwrap_or_else(|e| panic!("{config}: {e}"));
    let mut out = Vec::new();
    projection
        .project(doc.as_bytes(), &mut out)
        .unwrap_or_else(|e| panic!("{doc}: {e}"));
    assert_eq!(
        String::from_utf8(out).expect("UTF-8"),
        expected,
        "{config} on {doc}"
    );
}

fn refused(config: &str, expected: &str) {
    assert_eq!(
        Projection::configure(config.as_bytes())
            .expect_err(config)
            .to_string(),
        expected
    );
}

const DOC: &str = r#"{ "a" : 1.50, "b":{"c":"x" , "d": [10, 20,{"e":null}]}, "f":"\u00e4" }"#;

#[test]
fn kept_parts_are_copied_as_they_were() {
    check(r#"{"keep":["/f","/a"]}"#, DOC, r#"{"a":1.50,"f":"\u00e4"}"#);
    check(
        r#"{"keep":["/b"]}"#,
        DOC,
        r#"{"b":{"c":"x" , "d": [10, 20,{"e":null}]}}"#,
    );
    check(r#"{"keep":["/b/c"]}"#, DOC, r#"{"b":{"c":"x"}}"#);
    check(
        r#"{"keep":["/b/d/1","/b/d/2/e"]}"#,
        DOC,
        r#"{"b":{"d":[20,{"e":null}]}}"#,
    );
    check(
        r#"{"keep":["/b","/b/c"]}"#,
        r#"{"b":{"c":1,"d":2}}"#,
        r#"{"b":{"c":1,"d":2}}"#,
    );
}

#[test]
fn parents_without_kept_parts_go() {
    check(r#"{"keep":["/b/x","/a/x"]}"#, DOC, "{}");
    check(r#"{"keep":["/b/x/y","/f"]}"#, DOC, r#"{"f":"\u00e4"}"#);
    check(r#"{"keep":["/0/a"]}"#, r#"[{"b":1}]"#, "[]");
}

#[test]
fn dropped_parts_leave_no_trace() {
    check(
        r#"{"drop":["/a","/nothing"]}"#,
        DOC,
        r#"{"b":{"c":"x" , "d": [10, 20,{"e":null}]},"f":"\u00e4"}"#,
    );
    check(
        r#"{"drop":["/b/d/0","/b/c","/f"]}"#,
        DOC,
        r#"{"a":1.50,"b":{"d":[20,{"e":null}]}}"#,
    );
    check(r#"{"drop":["/a","/b","/f"]}"#, DOC, "{}");
    check(
        r#"{"drop":["/b/d/2/e"]}"#,
        DOC,
        r#"{"a":1.50,"b":{"c":"x","d":[10,20,{}]},"f":"\u00e4"}"#,
    );
    check(
        r#"{"drop":["/a"]}"#,
        r#"{"a":1,"\u0061":2,"b":{},"c":[]}"#,
        r#"{"b":{},"c":[]}"#,
    );
    check(r#"{"drop":["/a"]}"#, " 17 ", "17");
    check(r#"{"drop":["/a/b"]}"#, r#"{"a":17}"#, r#"{"a":17}"#);
}

#[test]
fn what_is_no_document_is_an_error() {
    let keep = Projection::configure(br#"{"keep":["/a"]}"#).expect("valid");
    for doc in ["17", "\"a\"", "{\"a\":1", "{\"b\":nul,\"a\":1}", "", "{} {}"] {
        assert!(keep.project(doc.as_bytes(), &mut Vec::new()).is_err(), "{doc}");
    }
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    assert!(keep.project(deep.as_bytes(), &mut Vec::new()).is_err());
}

#[test]
fn mistakes_are_told() {
    refused("{}", "give either \"keep\" or \"drop\", a list of JSON pointers");
    refused(
        r#"{"keep":["/a"],"drop":["/b"]}"#,
        "give either \"keep\" or \"drop\", a list of JSON pointers",
    );
    refused(r#"{"keep":[]}"#, "keep: expected one pointer at least, not []");
    refused(
        r#"{"drop":[""]}"#,
        "drop[0]: expected a pointer to a part of the document, not \"\"",
    );
    refused(
        r#"{"keeps":["/a"]}"#,
        r#"unknown key "keeps"; did you mean "keep"? (known: "keep", "drop")"#,
    );
}

/// The same with a parsed document.
fn model(value: &Value, keep: bool, at: &str, pointers: &[&str]) -> Option<Value> {
    if !at.is_empty() && pointers.contains(&at) {
        return keep.then(|| value.clone());
    }
    if !pointers
        .iter()
        .any(|p| p.strip_prefix(at).is_some_and(|rest| rest.starts_with('/')))
    {
        return (!keep).then(|| value.clone());
    }
    let (result, empty) = match value {
        Value::Object(members) => {
            let kept = members
                .iter()
                .filter_map(|(k, v)| Some((k.clone(), model(v, keep, &format!("{at}/{k}"), pointers)?)));
            let kept: serde_json::Map<_, _> = kept.collect();
            (Value::Object(kept.clone()), kept.is_empty())
        }
        Value::Array(items) => {
            let kept = items
                .iter()
                .enumerate()
                .filter_map(|(i, v)| model(v, keep, &format!("{at}/{i}"), pointers));
            let kept: Vec<_> = kept.collect();
            (json!(kept), kept.is_empty())
        }
        _ => return (!keep).then(|| value.clone()),
    };
    (!keep || !empty || at.is_empty()).then_some(result)
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        "[a\"é]{0,3}".prop_map(Value::from)
    ];
    let tree = leaf.prop_recursive(4, 40, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[ab0]", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    });
    prop::collection::btree_map("[ab0]", tree, 0..4).prop_map(|m| Value::Object(m.into_iter().collect()))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn projection_agrees_with_a_parsed_document(
        doc in values(), pointers in prop::collection::vec("(/[ab01]){1,3}", 1..5), keep in any::<bool>()
    ) {
        let config = json!({ if keep { "keep" } else { "drop" }: pointers });
        let projection = Projection::configure(config.to_string().as_bytes()).expect("valid");
        let mut out = Vec::new();
        projection.project(doc.to_string().as_bytes(), &mut out).expect("JSON");
        let found: Value = serde_json::from_slice(&out).expect("JSON");
        let pointers: Vec<&str> = pointers.iter().map(String::as_str).collect();
        prop_assert_eq!(Some(found), model(&doc, keep, "", &pointers), "{} {}", config, doc);
    }

    #[test]
    fn arbitrary_bytes_never_panic(doc in "[{}\\[\\]\",:a0 ]{0,40}") {
        for config in [r#"{"keep":["/a/0","/0"]}"#, r#"{"drop":["/a/0","/0"]}"#] {
            let projection = Projection::configure(config.as_bytes()).expect("valid");
            let mut out = Vec::new();
            let accepted = projection.project(doc.as_bytes(), &mut out).is_ok();
            prop_assert!(!accepted || serde_json::from_slice::<Value>(&out).is_ok(), "{}", doc);
        }
    }
}
