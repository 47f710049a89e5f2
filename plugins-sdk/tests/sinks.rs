//! Transforms that write to several sinks, and the attributes that make plugins of functions.

use millstream_plugin::batch::Rewritten;
use millstream_plugin::testing::Deployed;
use millstream_plugin::{Output, Record, Sinks, Transform};

/// In a module each, because a component has one plugin.
mod split {
    use millstream_plugin::{Output, Record, transform};

    /// Documentation, and another attribute, may stand between.
    #[transform]
    #[inline]
    pub(crate) fn split(record: &Record, out: &mut Output) {
        match record.value() {
            None => {}
            Some(b"both") => {
                out.to("late").with_header("copy", "1");
                out.to("early").with_key("k").with_header("copy", "2");
            }
            Some(b"lost") => drop(out.to("lost")),
            Some(b"as it is") => drop(out.unchanged()),
            Some(value) => drop(out.with_value(&value.to_ascii_uppercase()).to("early")),
        }
    }
}

mod fallible {
    use millstream_plugin::{Output, Record, transform};

    #[transform]
    pub fn parse(record: &Record<'_>, out: &mut Output) -> Result<(), Box<dyn std::error::Error>> {
        let number: u32 = std::str::from_utf8(record.value().unwrap_or_default())?.parse()?;
        out.to("numbers").with_value(&(number + 1).to_string());
        Ok(())
    }
}

mod others {
    use millstream_plugin::Record;

    #[millstream_plugin::filter]
    pub fn keep(record: &Record) -> bool {
        record.value().is_some()
    }

    #[millstream_plugin::partitioner]
    pub fn partition(record: &Record, partitions: u32) -> Result<u32, String> {
        let first = record.value().and_then(|value| value.first()).ok_or("empty")?;
        Ok(u32::from(*first) % partitions)
    }
}

/// Reads its sink from the configuration.
struct Route {
    place: u16,
}

#[millstream_plugin::transform]
impl Transform for Route {
    fn configure(config: &[u8]) -> Result<Self, String> {
        let place = Sinks::declared().place(&String::from_utf8_lossy(config))?;
        Ok(Route { place })
    }

    fn transform(&mut self, _: &Record<'_>, output: &mut Output) -> Result<(), String> {
        output.unchanged().to_sink(self.place);
        Ok(())
    }
}

fn records<'a, const N: usize>(values: [&'a str; N]) -> [Record<'a>; N] {
    values.map(|value| Record::new().with_value(value))
}

#[test]
fn records_go_to_the_sinks_that_are_named() {
    let all = records(["early bird", "as it is", "both"]);
    let made = Deployed::to(["late", "early"]).run(split::split, &all);
    assert_eq!(made.values("early"), ["EARLY BIRD", "both"]);
    assert_eq!(made.values("late"), ["as it is", "both"]);
    assert!(made.errors.is_empty());
    let late = &made.at("late")[1];
    assert_eq!((late.source, late.key_text()), (2, None));
    assert_eq!(late.header_text("copy"), Some("1"));
    let early = &made.at("early")[1];
    assert_eq!(
        (early.key_text(), early.header_text("copy")),
        (Some("k"), Some("2"))
    );
    // In the order in which they were made.
    let sources: Vec<_> = made.records.iter().map(|record| record.source).collect();
    assert_eq!(sources, [0, 1, 2, 2]);
}

#[test]
fn what_is_left_alone_stays() {
    let record = Record::new()
        .with_key("k")
        .with_value("as it is")
        .with_header("by", "me")
        .with_timestamp_ms(7);
    let made = Deployed::to(["late"]).run(split::split, &[record, Record::new()]);
    assert_eq!(made.records.len(), 1);
    let written = &made.records[0];
    assert_eq!(
        (written.key_text(), written.value_text()),
        (Some("k"), Some("as it is"))
    );
    assert_eq!((written.header_text("by"), written.timestamp_ms), (Some("me"), 7));
}

#[test]
fn a_sink_that_is_not_there_makes_the_record_an_error() {
    let made = Deployed::to(["late", "early"]).run(split::split, &records(["a", "lost", "b"]));
    assert_eq!(made.values("early"), ["A", "B"]);
    let reason = "there is no sink \"lost\", only \"late\" and \"early\"".to_owned();
    assert_eq!(made.errors, [(1, reason)]);
    // On ingest no sink has a name.
    let made = Deployed::default().run(split::split, &records(["a", "as it is"]));
    assert_eq!((made.errors[0].0, made.records.len()), (0, 1));
    assert_eq!(made.records[0].sink, "");
}

#[test]
fn an_error_of_any_type_is_one_of_the_record() {
    let made = Deployed::to(["numbers"]).run(fallible::parse, &records(["41", "x", "1"]));
    assert_eq!(made.values("numbers"), ["42", "2"]);
    assert_eq!(made.errors, [(1, "invalid digit found in string".to_owned())]);
}

#[test]
fn functions_of_the_other_worlds_stay_functions() {
    let [record] = records(["b"]);
    assert!(others::keep(&record));
    assert_eq!(others::partition(&record, 7), Ok(0));
    assert!(others::partition(&Record::new(), 7).is_err());
}

#[test]
fn a_configuration_can_be_checked_against_the_sinks() {
    let deployed = Deployed::to(["late", "early"]);
    let mut route: Route = deployed.configure("early").expect("a sink that is there");
    let made = deployed.run(|record, out| route.transform(record, out), &records(["a"]));
    assert_eq!(made.values("early"), ["a"]);
    let refused = deployed.configure::<Route>("lost").err();
    assert_eq!(
        refused.as_deref(),
        Some("there is no sink \"lost\", only \"late\" and \"early\"")
    );
    assert!(Route::configure(b"early").is_err(), "here no sinks are declared");
}

#[test]
#[should_panic(expected = "no sink has place 7")]
fn a_place_that_no_sink_has_is_found_in_a_test() {
    let far = |_: &Record<'_>, out: &mut Output| {
        out.unchanged().to_sink(7);
    };
    Deployed::to(["late"]).run(far, &records(["a"]));
}

/// Names a sink that is not there, and goes on as if nothing were wrong.
struct Careless;

impl Transform for Careless {
    fn configure(_: &[u8]) -> Result<Self, String> {
        Ok(Careless)
    }

    fn transform(&mut self, record: &Record<'_>, output: &mut Output) -> Result<(), String> {
        output.unchanged();
        if record.key().is_some() {
            output.to("nowhere").with_value("x");
            output.unchanged();
        }
        Ok(())
    }
}

#[test]
fn in_an_answer_the_mistake_is_the_only_row_of_its_source() {
    let mut data = b"kv".to_vec();
    let mut rows = Vec::new();
    for key_length in [-1i32, 1, -1] {
        rows.extend(0i64.to_le_bytes());
        for (offset, length) in [(0u32, key_length), (1, 1), (0, 0)] {
            rows.extend(offset.to_le_bytes());
            rows.extend(length.to_le_bytes());
        }
    }
    data.push(0);
    let mut rewritten = Rewritten::new();
    for _ in 0..2 {
        rewritten.rewrite(&mut Careless, &rows, &data);
        let (rows, _) = rewritten.output().packed_rows().as_chunks::<32>();
        let shape: Vec<_> = rows.iter().map(|row| (row[0], row[4])).collect();
        assert_eq!(shape, [(0, 0), (1, 8), (2, 0)]);
        assert!(
            rewritten
                .output()
                .data()
                .starts_with(b"there is no sink \"nowhere\"")
        );
    }
}
