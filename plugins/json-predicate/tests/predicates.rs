//! The predicate language: what holds, what does not, and how mistakes are told.

use json_predicate::{NESTING_MAX, Predicate, Predicates};
use proptest::prelude::*;

const FLIGHT: &str = r#"{"dep_delay":31,"arr_delay":-4.5,"carrier":"UA","tailnum":"N14\u0032","dest":"IAH","ok":true,
    "diverted":false,"gate":null,"stops":["ORD","DEN",3],"crew":{"pilot":"Ann"},"a key":1,"big":9007199254740993}"#;

fn holds(predicate: &str) -> bool {
    let mut compiled = Predicate::parse(predicate).unwrap_or_else(|e| panic!("{predicate}: {e}"));
    compiled.matches(FLIGHT.as_bytes()).expect("JSON")
}

fn check(predicate: &str, expected: bool) {
    assert_eq!(holds(predicate), expected, "{predicate}");
}

fn refused(predicate: &str, expected: &str) {
    assert_eq!(
        Predicate::parse(predicate).expect_err(predicate).to_string(),
        expected,
        "{predicate}"
    );
}

#[test]
fn comparisons() {
    check("/dep_delay > 30", true);
    check("/dep_delay>31", false);
    check("/dep_delay >= 31.0", true);
    check("30 < /dep_delay", true);
    check("/dep_delay == 3.1e1", true);
    check("/arr_delay < -4", true);
    check("/carrier == \"UA\"", true);
    check("/carrier == 'UA'", true);
    check("/carrier < \"UB\"", true);
    check("/tailnum == \"N142\"", true);
    check("/crew/pilot != \"Bob\"", true);
    check("/ok == true", true);
    check("/diverted != true", true);
    check("/gate == null", true);
    check("/stops/1 == \"DEN\"", true);
    check("/dep_delay > /arr_delay", true);
    check("`/a key` == 1", true);
    check("/big == 9007199254740992", false);
}

#[test]
fn types_do_not_mix() {
    check("/carrier == 31", false);
    check("/carrier > 31", false);
    check("/dep_delay == \"31\"", false);
    check("/dep_delay < \"4\"", false);
    check("/gate < 1", false);
    check("/stops == /stops", false);
    check("/crew != /crew", true);
}

#[test]
fn missing_values() {
    check("/nothing == null", false);
    check("/nothing != 1", true);
    check("/nothing < 1 or /nothing >= 1", false);
    check("/nothing == /nothing", false);
    check("exists(/nothing)", false);
    check("exists(/gate)", true);
    check("exists(/crew/pilot) and not exists(/crew/pilot/0)", true);
    check("/nothing in [null]", false);
    check("/nothing", false);
}

#[test]
fn logic() {
    check("/ok", true);
    check("/diverted", false);
    check("/dep_delay", false);
    check("not /diverted", true);
    check("not not /ok", true);
    check("/diverted and /diverted or /ok", true);
    check("/diverted and (/diverted or /ok)", false);
    check("not (/ok and /diverted)", true);
    check("not /ok or /ok", true);
    check(
        r#"/dep_delay > 30 and (exists(/tailnum) or /carrier in ["AA","DL"]) and not contains(/dest, "X")"#,
        true,
    );
}

#[test]
fn lists_and_parts() {
    check(r#"/carrier in ["AA", "UA"]"#, true);
    check(r#"/carrier not in ["AA", "UA"]"#, false);
    check("/dep_delay in [1, 31.0]", true);
    check("/gate in [1, null]", true);
    check(r#"contains(/dest, "AH")"#, true);
    check(r#"contains(/dest, "HA")"#, false);
    check(r#"contains(/dest, "")"#, true);
    check(r#"contains("IAHX", /dest)"#, true);
    check(r#"contains(/tailnum, "42")"#, true);
    check(r#"contains(/stops, "DEN")"#, true);
    check("contains(/stops, 3)", true);
    check(r#"contains(/stops, "DE")"#, false);
    check("contains(/dep_delay, 3)", false);
}

#[test]
fn mistakes_are_told_with_their_place() {
    refused(
        "",
        "column 1, the end: expected a pointer such as /a, a string, a number, true, false or null",
    );
    refused("/a = 1", "column 4, at `= 1`: \"=\" is written \"==\" here");
    refused("/a && /b", "column 4, at `&& /b`: \"&&\" is written \"and\" here");
    refused("/a <> 1", "column 4, at `<> 1`: \"<>\" is written \"!=\" here");
    refused("!/a", "column 1, at `!/a`: \"!\" is written \"not\" here");
    refused(
        "carrier == 1",
        "column 1, at `carrier == 1`: \"carrier\" is no value: a field is written /carrier, a string \"carrier\"",
    );
    refused(
        "/a ==",
        "column 6, the end: expected a pointer such as /a, a string, a number, true, false or null",
    );
    refused("(/a", "column 4, the end: expected )");
    refused("/a) ", "column 3, at `) `: expected and, or, or the end");
    refused("/a /b", "column 4, at `/b`: expected and, or, or the end");
    refused(
        "\"x\"",
        "column 4, the end: expected a comparison (== != < <= > >=) or in",
    );
    refused(
        "/a not 1",
        "column 8, at `1`: expected a comparison (== != < <= > >=) or in",
    );
    refused(
        "/a in []",
        "column 8, at `]`: expected a pointer such as /a, a string, a number, true, false or null",
    );
    refused(
        "/a in [/b]",
        "column 8, at `/b]`: in takes a list of strings, numbers, true, false and null",
    );
    refused(
        "exists(\"a\")",
        "column 8, at `\"a\")`: exists() takes a pointer, such as /a",
    );
    refused(
        "/ä == \"x",
        "column 7, at `\"x`: string without its closing quote",
    );
    refused(
        "/a == \"\\q\"",
        "column 8, at `\\q\"`: unknown escape in a string",
    );
    refused("/a == 01", "column 7, at `01`: not a number as JSON writes them");
    refused("/a == 1x", "column 7, at `1x`: not a number as JSON writes them");
    refused(
        "/a~2 == 1",
        "column 1, at `/a~2 == 1`: in a JSON pointer ~ is followed by 0 or 1: \"/a~2\"",
    );
    refused(
        "`a b` == 1",
        "column 1, at ``a b` == 1`: a JSON pointer begins with /, this one does not: \"a b\"",
    );
    refused("/a == €", "column 7, at `€`: unexpected character '€'");
}

#[test]
fn depth_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}/ok{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Predicate::parse(&nested(NESTING_MAX as usize - 1)).is_ok());
    assert!(Predicate::parse(&nested(NESTING_MAX as usize)).is_err());
    assert!(Predicate::parse(&"(".repeat(10_000)).is_err());
    assert!(holds(&format!("{} /ok", "not not ".repeat(1000))));
    assert!(Predicate::parse(&"/ok or ".repeat(10_000)).is_err());
}

#[test]
fn the_first_of_several_that_holds_is_found() {
    let mut predicates = Predicates::default();
    let first = |predicates: &mut Predicates| predicates.first(FLIGHT.as_bytes());
    assert_eq!(first(&mut predicates), Ok(None));
    for source in ["/dep_delay > 60", "/dep_delay > 30", "/carrier == 'UA'"] {
        predicates.add(source).expect("valid");
    }
    assert_eq!(first(&mut predicates), Ok(Some(1)));
    assert_eq!(predicates.first(br#"{"carrier":"UA"}"#), Ok(Some(2)));
    assert_eq!(predicates.first(b"{}"), Ok(None));
    assert!(predicates.add("/dep_delay >").is_err());
    assert_eq!(first(&mut predicates), Ok(Some(1)));
    assert!(predicates.first(b"{").is_err());
}

#[test]
fn malformed_documents_are_errors() {
    let mut predicate = Predicate::parse("/a == 1 or not /a == 1").expect("valid");
    assert!(predicate.matches(b"{\"a\":1").is_err());
    assert!(predicate.matches(b"a,b,c").is_err());
    assert_eq!(predicate.matches(b"{\"a\":2}"), Ok(true));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn nonsense_never_panics(words in prop::collection::vec(prop::sample::select(&[
        "/a", "/b/0", "`/x y`", "and", "or", "not", "in", "exists", "contains", "(", ")", "[", "]", ",", "==", "!=", "<",
        "<=", "1", "-2.5e3", "\"s\"", "'\\u00e4'", "null", "true", " ", "=", "~", "\"", "é",
    ][..]), 0..20), doc in any::<Vec<u8>>()) {
        if let Ok(mut predicate) = Predicate::parse(&words.concat()) {
            let _ = predicate.matches(&doc);
            let judged = predicate.matches(br#"{"a":[1,"s"],"b":[null]}"#);
            prop_assert!(judged.is_ok());
        }
        let _ = Predicate::parse(&words.join(" "));
    }

    #[test]
    fn any_text_is_parsed_or_refused(text in any::<String>()) {
        let _ = Predicate::parse(&text);
    }

    #[test]
    fn comparisons_agree_with_the_numbers_themselves(a in -1000i32..1000, b in -1000i32..1000, scale in 0..3u32) {
        let spelt = |n: i32| format!("{}e-{scale}", n * 10i32.pow(scale));
        let check = |operator: &str, expected: bool| {
            let text = format!("/a {operator} {}", spelt(b));
            let doc = format!("{{\"a\":{}}}", spelt(a));
            let found = Predicate::parse(&text).expect("valid").matches(doc.as_bytes());
            assert_eq!(found, Ok(expected), "{text} for {doc}");
        };
        check("==", a == b);
        check("!=", a != b);
        check("<", a < b);
        check("<=", a <= b);
        check(">", a > b);
        check(">=", a >= b);
    }
}
