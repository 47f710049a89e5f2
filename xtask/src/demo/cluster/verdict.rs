//! Compares what was acknowledged with what came out.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::demo::flights::{self, is_late, place};

/// What was found.
pub struct Verdict {
    /// Flights that were acknowledged.
    pub acknowledged: usize,
    /// Flights that were sent and not acknowledged: they may be there, or not.
    pub unsure: usize,
    /// Records in the topic.
    pub stored: usize,
    /// Acknowledged flights that belong into the view.
    pub late: usize,
    /// Records that the group was given a second time, as a member may be that moves to another coordinator.
    pub again: usize,
    /// Carriers, none of which is in two partitions.
    pub carriers: usize,
    /// Tail numbers that were masked.
    pub masked: usize,
}

/// Judges the flights that were sent, by key and with whether they were acknowledged, by all records of the topic, all
/// of its view, and what a group read of the view meanwhile.
///
/// # Errors
/// An acknowledged flight is missing, a flight is there twice, or one is there that nobody sent.
pub fn judge(
    sent: &BTreeMap<String, (Value, bool)>,
    stored: &[Value],
    view: &[Value],
    read: &[Value],
) -> anyhow::Result<Verdict> {
    once("the topic", sent, stored, |_| true)?;
    once("the view", sent, view, is_late)?;
    let mut places = BTreeSet::new();
    let first: Vec<Value> = read
        .iter()
        .filter(|record| places.insert(place(record)))
        .cloned()
        .collect();
    once("what the group read", sent, &first, is_late)?;
    let acknowledged = sent.values().filter(|(_, acknowledged)| *acknowledged).count();
    Ok(Verdict {
        acknowledged,
        unsure: sent.len() - acknowledged,
        stored: stored.len(),
        late: sent
            .values()
            .filter(|(flight, acknowledged)| *acknowledged && is_late(flight))
            .count(),
        again: read.len() - first.len(),
        carriers: flights::partitions_by_carrier(stored)?.len(),
        masked: flights::check_view(stored, view)?,
    })
}

/// What was found of a transform.
pub struct Split {
    /// Flights that were acknowledged.
    pub acknowledged: usize,
    /// Flights that were sent and not acknowledged: they may be there, or not.
    pub unsure: usize,
}

/// Judges the flights that were sent by all committed records of the topic and of the sinks of the transform that splits
/// them: each that is stored is in one sink, once, where it belongs, and with its delay in a header.
///
/// # Errors
/// An acknowledged flight is missing, a flight is there twice or in the wrong place, or one is there that nobody sent.
pub fn judge_sinks(
    sent: &BTreeMap<String, (Value, bool)>,
    stored: &[Value],
    late: &[Value],
    early: &[Value],
) -> anyhow::Result<Split> {
    once("the topic", sent, stored, |_| true)?;
    once("the sink of late flights", sent, late, left_late)?;
    once("the sink of early flights", sent, early, |flight| {
        !left_late(flight)
    })?;
    let keys = |records: &[Value]| -> BTreeSet<String> {
        let keys = records.iter().filter_map(|record| record["key"].as_str());
        keys.map(str::to_owned).collect()
    };
    let (stored, mut came_out) = (keys(stored), keys(late));
    came_out.extend(keys(early));
    let odd = stored.symmetric_difference(&came_out).next();
    ensure!(
        odd.is_none(),
        "flight {} is in the topic and in no sink, or in a sink and not in the topic",
        odd.map_or("", String::as_str)
    );
    for record in late.iter().chain(early) {
        let key = record["key"].as_str().unwrap_or_default();
        let flight = sent.get(key).map(|(flight, _)| flight);
        let told = json!([["delay", delay(flight.unwrap_or(&Value::Null))]]);
        ensure!(
            record["headers"] == told,
            "flight {key} has the headers {}, not {told}",
            record["headers"]
        );
    }
    let acknowledged = sent.values().filter(|(_, acknowledged)| *acknowledged).count();
    ensure!(
        !late.is_empty() && !early.is_empty(),
        "a sink is empty: {} flights were late, {} were not",
        late.len(),
        early.len()
    );
    Ok(Split {
        acknowledged,
        unsure: sent.len() - acknowledged,
    })
}

/// Where the transform of `examples/split-flights` sends a flight: one that never left is late.
fn left_late(flight: &Value) -> bool {
    flight["dep_delay"].is_null() || is_late(flight)
}

/// What it says of the flight's delay.
fn delay(flight: &Value) -> String {
    match &flight["dep_delay"] {
        Value::Null => "never left".to_owned(),
        minutes => format!("{minutes} min"),
    }
}

/// Checks that records are flights that were sent, each at most once, and that no acknowledged one is missing.
fn once(
    what: &str,
    sent: &BTreeMap<String, (Value, bool)>,
    records: &[Value],
    belongs: impl Fn(&Value) -> bool,
) -> anyhow::Result<()> {
    let mut seen = BTreeMap::new();
    for record in records {
        let key = record["key"].as_str().context("a record without key")?;
        let (flight, _) = sent
            .get(key)
            .with_context(|| format!("{what} has flight {key}, which nobody sent"))?;
        ensure!(
            belongs(flight),
            "{what} has flight {key}, which does not belong there"
        );
        let (at, before) = (place(record), seen.insert(key, place(record)));
        ensure!(
            before.is_none(),
            "{what} has flight {key} twice: at {before:?} and {at:?}"
        );
    }
    let missing: Vec<&String> = sent
        .iter()
        .filter(|(key, (flight, acknowledged))| {
            *acknowledged && belongs(flight) && !seen.contains_key(key.as_str())
        })
        .map(|(key, _)| key)
        .collect();
    ensure!(
        missing.is_empty(),
        "{what} lacks {} acknowledged flights, such as {}",
        missing.len(),
        missing[0]
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent() -> BTreeMap<String, (Value, bool)> {
        let flight = |delay: i64| json!({"carrier": "UA", "dep_delay": delay, "tailnum": "N1"});
        [
            ("0-0".to_owned(), (flight(31), true)),
            ("0-1".to_owned(), (flight(2), true)),
            ("0-2".to_owned(), (flight(40), false)),
        ]
        .into()
    }

    fn record(key: &str, offset: i64, tail: &str) -> Value {
        let delay = sent()[key].0["dep_delay"].clone();
        json!({"key": key, "partition": 0, "offset": offset,
            "value": {"carrier": "UA", "dep_delay": delay, "tailnum": tail}})
    }

    #[test]
    fn what_is_there_once_passes_also_when_it_was_read_again() {
        let stored = [record("0-0", 0, "N1"), record("0-1", 1, "N1")];
        let view = [record("0-0", 0, "*")];
        let read = [view[0].clone(), view[0].clone()];
        let verdict = judge(&sent(), &stored, &view, &read).unwrap();
        assert_eq!((verdict.acknowledged, verdict.unsure, verdict.late), (2, 1, 1));
        assert_eq!((verdict.again, verdict.masked), (1, 1));
    }

    fn came_out(key: &str, delay: &str) -> Value {
        let mut record = record(key, 0, "N1");
        record["headers"] = json!([["delay", delay]]);
        record
    }

    #[test]
    fn each_flight_is_in_the_sink_where_it_belongs() {
        let stored = [
            record("0-0", 0, "N1"),
            record("0-1", 1, "N1"),
            record("0-2", 2, "N1"),
        ];
        let (first, second, third) = (
            came_out("0-0", "31 min"),
            came_out("0-1", "2 min"),
            came_out("0-2", "40 min"),
        );
        let late = [first.clone(), third.clone()];
        let verdict = judge_sinks(&sent(), &stored, &late, std::slice::from_ref(&second)).unwrap();
        assert_eq!((verdict.acknowledged, verdict.unsure), (2, 1));
        let fails = |stored: &[Value], late: &[Value], early: &[Value]| {
            assert!(judge_sinks(&sent(), stored, late, early).is_err());
        };
        fails(&stored, &late[..1], std::slice::from_ref(&second));
        fails(&stored[..2], &late, std::slice::from_ref(&second));
        fails(&stored, &late, &[second.clone(), second.clone()]);
        fails(&stored, std::slice::from_ref(&first), &[second.clone(), third]);
        fails(&stored, &late, &[came_out("0-1", "3 min")]);
    }

    #[test]
    fn losses_and_doubles_are_found() {
        let stored = [record("0-0", 0, "N1"), record("0-1", 1, "N1")];
        let view = [record("0-0", 0, "*")];
        assert!(judge(&sent(), &stored[..1], &view, &view).is_err());
        assert!(judge(&sent(), &stored, &view, &[]).is_err());
        let double = [
            record("0-0", 0, "N1"),
            record("0-1", 1, "N1"),
            record("0-1", 2, "N1"),
        ];
        assert!(judge(&sent(), &double, &view, &view).is_err());
    }
}
