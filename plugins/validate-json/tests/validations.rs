//! What is valid, why something is not, and which configurations are refused.

use validate_json::Validation;

fn check(config: &str, doc: &str, expected: Result<(), &str>) {
    let mut validation = Validation::configure(config.as_bytes()).unwrap_or_else(|e| panic!("{config}: {e}"));
    let found = validation
        .check(Some(doc.as_bytes()))
        .map_err(|invalid| invalid.to_string());
    assert_eq!(found, expected.map_err(str::to_owned), "{config} on {doc}");
}

fn refused(config: &str, expected: &str) {
    assert_eq!(
        Validation::configure(config.as_bytes())
            .expect_err(config)
            .to_string(),
        expected
    );
}

#[test]
fn required_fields() {
    check(
        r#"{"required":["/a","/b/c"]}"#,
        r#"{"b":{"c":null},"a":[]}"#,
        Ok(()),
    );
    check(
        r#"{"required":["/a","/b/c"]}"#,
        r#"{"a":1,"b":{}}"#,
        Err("/b/c is missing"),
    );
    check(r#"{"required":["/a"]}"#, "[]", Err("/a is missing"));
    check(
        r#"{"required":["/a"]}"#,
        "",
        Err("not JSON: expected a value at byte 0"),
    );
    check("{}", "{\"a\":}", Err("not JSON: expected a value at byte 5"));
    check("{}", "17", Ok(()));
}

#[test]
fn types() {
    let config = r#"{"required":{"/s":"string","/i":"integer","/n":"number"},"optional":{"/o":["object","null"],"/x":"any"}}"#;
    check(config, r#"{"s":"","i":-3,"n":3,"o":null}"#, Ok(()));
    check(config, r#"{"s":"","i":-3,"n":3.5,"o":{},"x":[]}"#, Ok(()));
    check(
        config,
        r#"{"s":1,"i":-3,"n":3}"#,
        Err("/s must be string, but is integer"),
    );
    check(
        config,
        r#"{"s":"","i":3.0,"n":3}"#,
        Err("/i must be integer, but is number"),
    );
    check(
        config,
        r#"{"s":"","i":"3","n":3}"#,
        Err("/i must be integer, but is string"),
    );
    check(
        config,
        r#"{"s":"","i":3,"n":true}"#,
        Err("/n must be number, but is boolean"),
    );
    check(
        config,
        r#"{"s":"","i":3,"n":1e3,"o":[]}"#,
        Err("/o must be null or object, but is array"),
    );
}

#[test]
fn tombstones() {
    let value_of = |config: &str| {
        Validation::configure(config.as_bytes())
            .expect("valid")
            .check(None)
            .map_err(|invalid| invalid.to_string())
    };
    assert_eq!(value_of("{}"), Err("the record has no value".to_owned()));
    assert_eq!(value_of(r#"{"tombstones":"keep"}"#), Ok(()));
}

#[test]
fn mistakes_are_told() {
    refused(
        r#"{"require":[]}"#,
        r#"unknown key "require"; did you mean "required"? (known: "required", "optional", "invalid", "tombstones")"#,
    );
    refused(
        r#"{"required":{"/a":"int"}}"#,
        r#"unknown type "int"; did you mean "any"? (known: "string", "number", "integer", "boolean", "null", "object", "array", "any")"#,
    );
    refused(
        r#"{"required":{"/a":[]}}"#,
        "/a: expected one type at least, not []",
    );
    refused(
        r#"{"required":{"/a":"string"},"optional":["/a"]}"#,
        r#"optional: "/a" is given twice"#,
    );
    refused(
        r#"{"required":"/a"}"#,
        r#"required: expected a list of JSON pointers, or an object from pointers to types, not "/a""#,
    );
    refused(
        r#"{"required":["a"]}"#,
        r#"required: a JSON pointer begins with /, this one does not: "a""#,
    );
    refused(
        r#"{"invalid":"skip"}"#,
        r#"unknown invalid: "skip" (known: "reject", "drop")"#,
    );
}

const FLIGHTS: &str = r#"{"required":{"/year":"integer","/month":"integer","/day":"integer","/carrier":"string","/flight":"integer","/origin":"string","/dest":"string","/distance":"integer","/time_hour":"string","/dep_delay":["integer","null"]},"invalid":"drop"}"#;

/// The rows of `examples/flights`: all of the sample are valid, none of those made up to be malformed.
#[test]
fn the_flights_of_the_demo() {
    let mut validation = Validation::configure(FLIGHTS.as_bytes()).expect("valid");
    let read = |name: &str| {
        std::fs::read_to_string(format!(
            "{}/../../examples/flights/{name}",
            env!("CARGO_MANIFEST_DIR")
        ))
        .expect(name)
    };
    let good = read("flights.jsonl");
    assert_eq!(
        good.lines()
            .filter(|row| validation.check(Some(row.as_bytes())).is_ok())
            .count(),
        5027
    );
    let bad = read("malformed.jsonl");
    let reasons: Vec<String> = bad
        .lines()
        .filter_map(|row| Some(validation.check(Some(row.as_bytes())).err()?.to_string()))
        .collect();
    assert_eq!(reasons.len(), 24);
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| reason.starts_with("not JSON"))
            .count(),
        10
    );
    assert_eq!(
        reasons.iter().filter(|reason| reason.contains("must be")).count(),
        7
    );
    assert_eq!(
        reasons
            .iter()
            .filter(|reason| reason.ends_with("is missing"))
            .count(),
        7
    );
}
