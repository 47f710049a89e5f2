//! The admin interface against its own description, and metrics against the format that they are in.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::guests;
use crate::support::Broker;

/// A broker of which every part of the interface has something to show.
fn broker_with_everything() -> Broker {
    let broker = Broker::start();
    let component = guests::write(
        broker.directory.path(),
        "nonsense",
        &guests::FILTER,
        guests::ANSWERS_NONSENSE,
    );
    broker.run(&["plugin", "push", component.to_str().unwrap()]);
    broker.run(&["topic", "create", "t"]);
    broker.run_with(&["produce", "t"], "1\n2\n3\n");
    broker.run(&[
        "consume",
        "t",
        "--group",
        "g \"quoted\"",
        "--from",
        "earliest",
        "--max",
        "1",
    ]);
    broker.run(&[
        "view",
        "create",
        "v",
        "--source",
        "t",
        "--plugin",
        "nonsense",
        "--on-error",
        "skip",
    ]);
    broker.run(&["consume", "v", "-e"]);
    let deploy = [
        "transform",
        "deploy",
        "x",
        "--plugin",
        "nonsense",
        "--from",
        "t",
        "--to",
        "u",
    ];
    broker.run(&[&deploy[..], &["--create-sinks"]].concat());
    broker
}

#[test]
fn every_path_answers_as_described() {
    let broker = broker_with_everything();
    let get = |path: &str| broker.http("GET", path, "localhost");
    let description: Value = serde_json::from_str(get("/v1/openapi.json").1.trim()).unwrap();
    assert_eq!(description["openapi"], "3.1.0");
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses {
                // OpenAPI 3.1, section 4.8.17: a response has a description.
                let told = response["description"].as_str().unwrap_or_default();
                assert!(!told.is_empty(), "{method} {path} {status}");
            }
            assert!(operation["summary"].is_string(), "{method} {path}");
        }
        if operations["get"].is_null() {
            continue;
        }
        let schema = |status: u16| {
            let content = &operations["get"]["responses"][status.to_string()]["content"];
            content["application/json"]["schema"].clone()
        };
        let known = path
            .replace("{group}", "g%20%22quoted%22")
            .replace("/plugins/{name}", "/plugins/nonsense")
            .replace("/transforms/{name}", "/transforms/x")
            .replace("/topics/{name}", "/topics/v");
        let mut asked = vec![(known.clone(), 200)];
        if known != *path {
            asked.push((path.replace(['{', '}'], "-"), 404));
        }
        for (asked, expected) in asked {
            let (status, body) = get(&asked);
            assert_eq!(status, expected, "{asked}: {body}");
            let schema = schema(status);
            if !schema.is_null() {
                let body: Value = serde_json::from_str(body.trim()).unwrap();
                check(&description, &schema, &body, &asked);
            }
        }
    }
}

/// Holds a value against a schema, as far as ours go: references, types, required and known properties, items.
fn check(description: &Value, schema: &Value, value: &Value, place: &str) {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = description.pointer(reference.trim_start_matches('#')).unwrap();
        return check(description, schema, value, place);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts
            .iter()
            .for_each(|part| check(description, part, value, place));
    }
    let is = |kind: &str| match kind {
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => false,
    };
    let fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    assert!(fits, "{place}: {value} is not of {}", schema["type"]);
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(
            value.get(name.as_str().unwrap()).is_some(),
            "{place} has no {name}"
        );
    }
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = value.get(name) {
            check(description, inner, value, &format!("{place}/{name}"));
        }
    }
    for item in value.as_array().into_iter().flatten() {
        check(description, &schema["items"], item, place);
    }
}

/// OpenMetrics 1.0: families that are declared once and together, samples that belong to one, an end.
#[test]
fn metrics_are_in_their_format() {
    let broker = broker_with_everything();
    let (_, text) = broker.http("GET", "/metrics", "localhost");
    let (body, end) = text.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(end, "# EOF");
    let (mut families, mut samples) = (BTreeSet::new(), BTreeSet::new());
    let mut family = String::new();
    for line in body.lines() {
        if let Some(told) = line.strip_prefix("# ") {
            let parts: Vec<&str> = told.splitn(3, ' ').collect();
            let &[word, name, rest] = parts.as_slice() else {
                panic!("{line}")
            };
            assert!(
                matches!(word, "HELP" | "TYPE" | "UNIT") && !rest.is_empty(),
                "{line}"
            );
            if name != family {
                assert!(families.insert(name.to_owned()), "{name} is declared twice");
                name.clone_into(&mut family);
            }
            continue;
        }
        let (sample, value) = line.rsplit_once(' ').unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let name = sample.split('{').next().unwrap();
        let suffix = name
            .strip_prefix(family.as_str())
            .unwrap_or_else(|| panic!("{line} is not of {family}"));
        assert!(
            matches!(suffix, "" | "_total" | "_sum" | "_count" | "_bucket"),
            "{line} is not of {family}"
        );
        assert!(samples.insert(sample.to_owned()), "{sample} comes twice");
    }
    for told in [
        "millstream_records_in_total 3",
        "millstream_group_lag_records{group=\"g \\\"quoted\\\"\",topic=\"t\",partition=\"0\"} 2",
        "millstream_plugin_errors_total{plugin=\"nonsense\",version=\"0.1.0\",topic=\"v\"}",
    ] {
        assert!(body.contains(told), "{told} is not in {body}");
    }
}
