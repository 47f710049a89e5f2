//! What is hidden, what stays, and which configurations are refused.

use mask::Masking;
use proptest::prelude::*;
use serde_json::Value;

fn mask(config: &str, doc: &str) -> String {
    let mut masking = Masking::configure(config.as_bytes()).unwrap_or_else(|e| panic!("{config}: {e}"));
    let mut out = Vec::new();
    if !masking
        .find(doc.as_bytes())
        .unwrap_or_else(|e| panic!("{doc}: {e}"))
    {
        return doc.to_owned();
    }
    masking.write(doc.as_bytes(), &mut out);
    String::from_utf8(out).expect("UTF-8")
}

fn refused(config: &str, expected: &str) {
    assert_eq!(
        Masking::configure(config.as_bytes())
            .expect_err(config)
            .to_string(),
        expected
    );
}

const DOC: &str = r#"{ "carrier" : "UA",  "tailnum":"N14228", "crew":[{"name":"Ann","pay":1e3},{"name":"Bob"}], "x":1.50 }"#;

#[test]
fn redaction_leaves_every_other_byte_alone() {
    assert_eq!(
        mask(r#"{"pointers":["/tailnum","/crew/0/name","/nothing"]}"#, DOC),
        r#"{ "carrier" : "UA",  "tailnum":"***", "crew":[{"name":"***","pay":1e3},{"name":"Bob"}], "x":1.50 }"#
    );
    assert_eq!(mask(r#"{"pointers":["/nothing"]}"#, DOC), DOC);
    assert_eq!(
        mask(r#"{"pointers":["/a"],"with":"<\"hidden\">"}"#, r#"{"a":[1,2]}"#),
        r#"{"a":"<\"hidden\">"}"#
    );
    assert_eq!(
        mask(r#"{"pointers":["/a"],"with":null}"#, r#"{"a":{"b":1}}"#),
        r#"{"a":null}"#
    );
    assert_eq!(mask(r#"{"pointers":[""]}"#, r#" {"a":1} "#), r#" "***" "#);
}

#[test]
fn keep_last_counts_characters() {
    let keep = |doc: &str| mask(r#"{"pointers":["/a"],"mode":"keep-last","keep":2}"#, doc);
    assert_eq!(keep(r#"{"a":"N14228"}"#), r#"{"a":"****28"}"#);
    assert_eq!(keep(r#"{"a":123456}"#), r#"{"a":"****56"}"#);
    assert_eq!(keep(r#"{"a":"28"}"#), r#"{"a":"**"}"#);
    assert_eq!(keep(r#"{"a":""}"#), r#"{"a":""}"#);
    assert_eq!(keep(r#"{"a":"añ€😀"}"#), r#"{"a":"**€😀"}"#);
    assert_eq!(keep(r#"{"a":"xx\n\ud83d\ude00"}"#), r#"{"a":"**\n\ud83d\ude00"}"#);
    assert_eq!(keep(r#"{"a":"\u00e4\\\"z"}"#), r#"{"a":"**\"z"}"#);
    assert_eq!(keep(r#"{"a":{"b":"secret"}}"#), r#"{"a":"***"}"#);
    assert_eq!(keep(r#"{"a":null}"#), r#"{"a":null}"#);
}

#[test]
fn equal_values_hash_alike_whatever_their_spelling() {
    let hash = |doc: &str| mask(r#"{"pointers":["/a"],"mode":"hash","salt":"0123456789"}"#, doc);
    let first = hash(r#"{"a":"N14228"}"#);
    assert_eq!(first, hash(r#"{"a":"\u004e14228"}"#));
    assert_ne!(first, hash(r#"{"a":"N14229"}"#));
    assert_ne!(
        first,
        mask(
            r#"{"pointers":["/a"],"mode":"hash","salt":"0123456780"}"#,
            r#"{"a":"N14228"}"#
        )
    );
    // Python: hmac.new(b"0123456789", b"N14228", "sha256").hexdigest()[:32]
    assert_eq!(first, r#"{"a":"8e85a104996beea6c62e8fd7d09bf69f"}"#);
    let short = mask(
        r#"{"pointers":["/a"],"mode":"hash","salt":"0123456789","digits":9}"#,
        r#"{"a":"N14228"}"#,
    );
    assert_eq!(short, format!("{}\"}}", &first[..15]));
}

#[test]
fn every_one_of_repeated_keys_is_hidden() {
    let config = r#"{"pointers":["/a/b"]}"#;
    assert_eq!(
        mask(config, r#"{"a":{"b":1},"\u0061":{"b":2,"\u0062":3}}"#),
        r#"{"a":{"b":"***"},"\u0061":{"b":"***","\u0062":"***"}}"#
    );
}

#[test]
fn what_is_not_json_never_passes() {
    let mut masking = Masking::configure(br#"{"pointers":["/tailnum"]}"#).expect("valid");
    for doc in [
        "{\"tailnum\":\"N1\"",
        "{tailnum:\"N1\"}",
        "",
        "{\"tailnum\":\"N1\"} x",
    ] {
        assert!(masking.find(doc.as_bytes()).is_err(), "{doc}");
    }
}

#[test]
fn mistakes_are_told() {
    refused("", r#"the configuration lacks the key "pointers""#);
    refused(r#"{"pointers":[]}"#, "pointers: name one value to mask at least");
    refused(r#"{"pointers":["/a","/a"]}"#, r#"pointers: "/a" is given twice"#);
    refused(
        r#"{"pointers":["/a/b","/a"]}"#,
        r#"pointers: "/a" hides "/a/b" already"#,
    );
    refused(
        r#"{"pointers":["a"]}"#,
        r#"a JSON pointer begins with /, this one does not: "a""#,
    );
    refused(r#"{"pointers":"/a"}"#, r#"pointers: expected a list, not "/a""#);
    refused(
        r#"{"pointers":["/a"],"mode":"hash"}"#,
        r#"the configuration lacks the key "salt""#,
    );
    refused(
        r#"{"pointers":["/a"],"mode":"hash","salt":"x"}"#,
        "salt: needs 8 bytes at least",
    );
    refused(
        r#"{"pointers":["/a"],"mode":"keep-first"}"#,
        r#"unknown mode: "keep-first"; did you mean "keep-last"? (known: "redact", "hash", "keep-last")"#,
    );
    refused(
        r#"{"pointers":["/a"],"keep":2}"#,
        r#"keep: belongs to the mode "keep-last", but the mode is "redact""#,
    );
    refused(
        r#"{"pointers":["/a"],"with":1}"#,
        "with: expected a string or null, not 1",
    );
}

proptest! {
    #[test]
    fn secrets_do_not_survive(secret in "[a-zA-Z0-9 é\"\\\\]{5,30}", other in any::<String>(), mode in 0usize..3) {
        let config = [
            r#"{"pointers":["/s","/list/1"]}"#,
            r#"{"pointers":["/s","/list/1"],"mode":"hash","salt":"salty and long"}"#,
            r#"{"pointers":["/s","/list/1"],"mode":"keep-last","keep":1}"#,
        ][mode];
        let doc = serde_json::json!({"o": other, "s": secret, "list": [0, secret, other]});
        let masked: Value = serde_json::from_str(&mask(config, &doc.to_string())).expect("still JSON");
        prop_assert_ne!(&masked["s"], &doc["s"]);
        prop_assert_eq!(&masked["s"], &masked["list"][1]);
        prop_assert_eq!(&masked["o"], &doc["o"]);
        prop_assert_eq!(&masked["list"][2], &doc["list"][2]);
    }

    #[test]
    fn arbitrary_bytes_never_panic(doc in any::<Vec<u8>>(), text in any::<String>()) {
        let mut masking = Masking::configure(br#"{"pointers":[""],"mode":"keep-last"}"#).expect("valid");
        if masking.find(&doc) == Ok(true) {
            masking.write(&doc, &mut Vec::new());
        }
        let doc = Value::from(text).to_string();
        let mut out = Vec::new();
        prop_assert_eq!(masking.find(doc.as_bytes()), Ok(true));
        masking.write(doc.as_bytes(), &mut out);
        prop_assert!(serde_json::from_slice::<String>(&out).is_ok());
    }
}
