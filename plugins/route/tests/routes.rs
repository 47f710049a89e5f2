//! Where records go, and what is refused.

use millstream_plugin::testing::{Deployed, Results};
use millstream_plugin::{Record, Transform};
use route::Routing;

const BY_DELAY: &str = r#"{"routes":[{"to":"late","where":"/delay > 30"},{"to":"early","where":"/delay < 0"},
    {"to":"late","where":"/cancelled"}],"otherwise":"on-time"}"#;

fn run(config: &str, records: &[Record<'_>]) -> Results {
    let deployed = Deployed::to(["late", "early", "on-time"]);
    let mut routing: Routing = deployed
        .configure(config)
        .unwrap_or_else(|error| panic!("{config}: {error}"));
    deployed.run(|record, out| routing.transform(record, out), records)
}

fn refused(config: &str, expected: &str) {
    let refused = Deployed::to(["late", "early"]).configure::<Routing>(config);
    assert_eq!(refused.expect_err(config), expected);
}

#[test]
fn the_first_route_that_holds_wins() {
    let values = [
        r#"{"delay":31}"#,
        r#"{"delay":-1,"cancelled":true}"#,
        r#"{"delay":5}"#,
        r#"{"delay":null,"cancelled":true}"#,
        "[]",
    ];
    let made = run(BY_DELAY, &values.map(|value| Record::new().with_value(value)));
    assert_eq!(made.values("late"), [values[0], values[3]]);
    assert_eq!(made.values("early"), [values[1]]);
    assert_eq!(made.values("on-time"), [values[2], values[4]]);
    assert!(made.errors.is_empty());
}

#[test]
fn records_go_as_they_are() {
    let record = Record::new()
        .with_key("k")
        .with_value(r#"{"delay":31}"#)
        .with_header("by", "me")
        .with_timestamp_ms(7);
    let made = run(BY_DELAY, &[record]);
    let [late] = made.at("late")[..] else {
        panic!("{made:?}")
    };
    assert_eq!((late.key_text(), late.header_text("by")), (Some("k"), Some("me")));
    assert_eq!(late.timestamp_ms, 7);
}

#[test]
fn the_rest_can_be_dropped() {
    let config = r#"{"routes":[{"to":"late","where":"/delay > 30"}],"otherwise":"drop"}"#;
    let records = [r#"{"delay":31}"#, "{}"].map(|value| Record::new().with_value(value));
    let made = run(config, &records);
    assert_eq!((made.records.len(), made.errors.len()), (1, 0));
}

#[test]
fn what_is_not_json_is_an_error() {
    let made = run(
        BY_DELAY,
        &[Record::new().with_value("a,b"), Record::new().with_value("{}")],
    );
    assert_eq!(
        made.errors,
        [(0, "not JSON: expected a value at byte 0".to_owned())]
    );
    assert_eq!(made.records.len(), 1);
}

#[test]
fn tombstones_go_with_the_rest_or_everywhere_or_nowhere() {
    let sinks = |tombstones: &str| {
        let config = BY_DELAY.replace("\"otherwise\":", &format!("{tombstones}\"otherwise\":"));
        let made = run(&config, &[Record::new().with_key("k")]);
        let names: Vec<_> = made.records.into_iter().map(|record| record.sink).collect();
        names.join(" ")
    };
    assert_eq!(sinks(""), "on-time");
    assert_eq!(sinks(r#""tombstones":"otherwise","#), "on-time");
    assert_eq!(sinks(r#""tombstones":"all","#), "late early on-time");
    assert_eq!(sinks(r#""tombstones":"drop","#), "");
}

#[test]
fn mistakes_are_told() {
    refused("", "the configuration lacks the key \"routes\"");
    refused(r#"{"routes":[]}"#, "routes: expected one route at least, not []");
    refused(
        r#"{"routes":{"to":"late"}}"#,
        r#"routes: expected a list, not {"to":"late"}"#,
    );
    refused(
        r#"{"routes":[{"to":"late"}]}"#,
        "routes[0] lacks the key \"where\"",
    );
    refused(
        r#"{"routes":[{"to":"late","when":"/a"}]}"#,
        r#"unknown key in routes[0]: "when"; did you mean "where"? (known: "to", "where")"#,
    );
    refused(
        r#"{"routes":[{"to":"late","where":"/a"},{"to":"lost","where":"/b"}]}"#,
        r#"routes[1].to: there is no sink "lost", only "late" and "early""#,
    );
    refused(
        r#"{"routes":[{"to":"late","where":"/a = 1"}]}"#,
        r#"routes[0].where: column 4, at `= 1`: "=" is written "==" here"#,
    );
    let rest = |otherwise: &str| format!(r#"{{"routes":[{{"to":"late","where":"/a"}}]{otherwise}}}"#);
    refused(&rest(""), "the configuration lacks the key \"otherwise\"");
    refused(
        &rest(r#","otherwise":"lost""#),
        r#"otherwise: there is no sink "lost", only "late" and "early""#,
    );
    refused(
        &rest(r#","otherwise":null"#),
        "otherwise: expected a string, not null",
    );
    refused(
        &rest(r#","otherwise":"early","tombstones":"keep""#),
        r#"unknown tombstones: "keep" (known: "otherwise", "all", "drop")"#,
    );
    let drop = Deployed::to(["late", "drop"]).configure::<Routing>(rest(r#","otherwise":"drop""#));
    assert!(
        drop.expect_err("ambiguous")
            .contains("give that sink another name")
    );
}

#[test]
fn without_sinks_it_is_of_no_use() {
    let refused = Routing::configure(BY_DELAY.as_bytes(), &millstream_plugin::Sinks::default());
    assert_eq!(
        refused.expect_err("no sinks").to_string(),
        "routes[0].to: there is no sink \"late\": sinks have names only where a transform is deployed to them"
    );
}
