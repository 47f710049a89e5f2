//! Batches as a host packs them, through the reader and back out of the answers. There is no property-testing crate here, because
//! this crate has no dependencies: the cases come from a small generator with a fixed seed.

use millstream_plugin::batch::{Rewritten, Targets, Verdicts};
use millstream_plugin::{Filter, Output, Part, Partitioner, Record, Transform};

/// A record of a test: what a host would pack.
#[derive(Debug, Clone, Default, PartialEq)]
struct Plain {
    timestamp_ms: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Plain {
    fn of(record: &Record<'_>) -> Self {
        let own = |bytes: &[u8]| bytes.to_vec();
        Plain {
            timestamp_ms: record.timestamp_ms(),
            key: record.key().map(own),
            value: record.value().map(own),
            headers: record
                .headers()
                .map(|header| (own(header.name), header.value.map(own)))
                .collect(),
        }
    }
}

/// The packer of the contract, written a second time and without looking at the reader.
#[derive(Debug, Default)]
struct Packed {
    rows: Vec<u8>,
    data: Vec<u8>,
}

impl Packed {
    fn of(records: &[Plain], random: &mut Random) -> Self {
        let mut packed = Packed::default();
        for record in records {
            packed.rows.extend(record.timestamp_ms.to_le_bytes());
            packed.part(record.key.as_deref(), random);
            packed.part(record.value.as_deref(), random);
            let mut headers = Vec::new();
            for (name, value) in &record.headers {
                zigzag(name.len() as i64, &mut headers);
                headers.extend(name);
                zigzag(
                    value.as_ref().map_or(-1, |value| value.len() as i64),
                    &mut headers,
                );
                headers.extend(value.as_deref().unwrap_or_default());
            }
            packed.part(Some(&headers), random);
        }
        packed
    }

    fn part(&mut self, part: Option<&[u8]>, random: &mut Random) {
        // Between the parts lies what concerns nobody, and the offset of a part without bytes means nothing.
        let gap = random.bytes(4);
        self.data.extend(gap);
        let (offset, length) = match part {
            None => (random.next() as u32, -1),
            Some([]) => (random.next() as u32, 0),
            Some(bytes) => (self.data.len() as u32, bytes.len() as i32),
        };
        self.data.extend(part.unwrap_or_default());
        self.rows.extend(offset.to_le_bytes());
        self.rows.extend(length.to_le_bytes());
    }
}

fn zigzag(number: i64, out: &mut Vec<u8>) {
    let mut rest = ((number << 1) ^ (number >> 63)) as u64;
    loop {
        let byte = (rest & 0x7f) as u8;
        rest >>= 7;
        out.push(if rest == 0 { byte } else { byte | 0x80 });
        if rest == 0 {
            return;
        }
    }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn bytes(&mut self, bound: usize) -> Vec<u8> {
        (0..self.below(bound)).map(|_| self.next() as u8).collect()
    }

    fn nullable(&mut self, bound: usize) -> Option<Vec<u8>> {
        (self.below(4) > 0).then(|| self.bytes(bound))
    }

    fn record(&mut self) -> Plain {
        Plain {
            timestamp_ms: self.next().cast_signed(),
            key: self.nullable(20),
            value: self.nullable(300),
            headers: (0..self.below(4))
                .map(|_| (self.bytes(80), self.nullable(80)))
                .collect(),
        }
    }

    fn records(&mut self) -> Vec<Plain> {
        (0..self.below(20)).map(|_| self.record()).collect()
    }
}

/// Notes what it sees, and decides by the first byte of the value.
#[derive(Default)]
struct Witness {
    seen: Vec<Plain>,
}

impl Witness {
    fn see(&mut self, record: &Record<'_>) -> Result<u32, String> {
        self.seen.push(Plain::of(record));
        let first = record.value().and_then(|value| value.first());
        first
            .map(|byte| u32::from(*byte))
            .ok_or_else(|| format!("record {}", self.seen.len() - 1))
    }
}

impl Filter for Witness {
    fn configure(_: &[u8]) -> Result<Self, String> {
        Ok(Witness::default())
    }

    fn keep(&mut self, record: &Record<'_>) -> Result<bool, String> {
        self.see(record).map(|first| first % 2 == 1)
    }
}

impl Partitioner for Witness {
    fn configure(_: &[u8]) -> Result<Self, String> {
        Ok(Witness::default())
    }

    fn partition(&mut self, record: &Record<'_>, _: u32) -> Result<u32, String> {
        self.see(record)
    }
}

fn first(record: &Plain) -> Option<u8> {
    record.value.as_ref().and_then(|value| value.first()).copied()
}

#[test]
fn a_filter_sees_what_was_packed_and_its_verdicts_stand_in_order() {
    let mut random = Random(1);
    let mut verdicts = Verdicts::new();
    for _ in 0..500 {
        let records = random.records();
        let packed = Packed::of(&records, &mut random);
        let mut witness = Witness::default();
        verdicts.judge(&mut witness, &packed.rows, &packed.data);
        assert_eq!(witness.seen, records);
        let expected: Vec<_> = records
            .iter()
            .map(|record| first(record).map_or(2, |first| first % 2))
            .collect();
        assert_eq!(verdicts.verdicts(), expected);
        assert_eq!(
            verdicts.errors().listed(),
            reasons(&records, |record| first(record).is_none())
        );
    }
}

#[test]
fn a_partitioner_sees_what_was_packed_and_stays_among_the_partitions() {
    let mut random = Random(2);
    let mut targets = Targets::new();
    for _ in 0..500 {
        let records = random.records();
        let packed = Packed::of(&records, &mut random);
        let mut witness = Witness::default();
        targets.choose(&mut witness, &packed.rows, &packed.data, 200);
        assert_eq!(witness.seen, records);
        let expected: Vec<_> = records
            .iter()
            .map(|record| {
                first(record)
                    .filter(|first| *first < 200)
                    .map_or(u32::MAX, u32::from)
            })
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(targets.targets(), expected);
        let rows: Vec<_> = targets.errors().listed().iter().map(|(row, _)| *row).collect();
        let failed = |record: &Plain| first(record).is_none_or(|first| first >= 200);
        let expected: Vec<_> = reasons(&records, failed)
            .into_iter()
            .map(|(row, _)| row)
            .collect();
        assert_eq!(rows, expected);
    }
}

fn reasons(records: &[Plain], failed: impl Fn(&Plain) -> bool) -> Vec<(u32, String)> {
    let failed = records.iter().enumerate().filter(|(_, record)| failed(record));
    failed
        .map(|(index, _)| (index as u32, format!("record {index}")))
        .collect()
}

/// Makes of each record what a script says.
struct Scripted {
    script: Vec<Step>,
    next: usize,
}

/// What becomes of a record.
#[derive(Debug, Clone)]
enum Step {
    Drop,
    Keep,
    /// A new record, or several.
    Make(Vec<Plain>),
    /// A record, and then an error after all.
    Fail(Plain, String),
}

fn make(record: &Plain, output: &mut Output) {
    let mut made = output.value_from(|out| out.extend(record.value.as_deref().unwrap_or_default()));
    made = match &record.key {
        Some(key) => made.with_key(key),
        None => made.without_key(),
    };
    if record.value.is_none() {
        made = made.without_value();
    }
    let headers = record.headers.iter();
    made.with_headers(headers.map(|(name, value)| millstream_plugin::Header {
        name,
        value: value.as_deref(),
    }));
}

impl Transform for Scripted {
    fn configure(_: &[u8]) -> Result<Self, String> {
        Err("needs a script".to_owned())
    }

    fn transform(&mut self, _: &Record<'_>, output: &mut Output) -> Result<(), String> {
        let step = self.script[self.next].clone();
        self.next += 1;
        match step {
            Step::Drop => {}
            Step::Keep => drop(output.unchanged()),
            Step::Make(records) => records.iter().for_each(|record| make(record, output)),
            Step::Fail(record, reason) => {
                make(&record, output);
                return Err(reason);
            }
        }
        Ok(())
    }
}

#[test]
fn what_a_transform_makes_stands_in_its_answer() {
    let mut random = Random(3);
    let mut rewritten = Rewritten::new();
    for _ in 0..500 {
        let records = random.records();
        let packed = Packed::of(&records, &mut random);
        let script: Vec<_> = records
            .iter()
            .map(|_| match random.below(4) {
                0 => Step::Drop,
                1 => Step::Keep,
                2 => Step::Make((0..=random.below(2)).map(|_| random.record()).collect()),
                _ => Step::Fail(random.record(), format!("reason {}", random.below(1000))),
            })
            .collect();
        let mut transform = Scripted {
            script: script.clone(),
            next: 0,
        };
        rewritten.rewrite(&mut transform, &packed.rows, &packed.data);
        let (rows, rest) = rewritten.output().packed_rows().as_chunks::<32>();
        assert!(rest.is_empty());
        let mut rows = rows.iter();
        for (source, step) in script.iter().enumerate() {
            match step {
                Step::Drop => {}
                Step::Keep => expect_row(rows.next(), rewritten.output(), source, 0, [None, None, None]),
                Step::Make(made) => {
                    for record in made {
                        let mut headers = Vec::new();
                        for (name, value) in &record.headers {
                            zigzag(name.len() as i64, &mut headers);
                            headers.extend(name);
                            zigzag(
                                value.as_ref().map_or(-1, |value| value.len() as i64),
                                &mut headers,
                            );
                            headers.extend(value.as_deref().unwrap_or_default());
                        }
                        let parts = [
                            Some(record.key.clone()),
                            Some(record.value.clone()),
                            Some(Some(headers)),
                        ];
                        expect_row(rows.next(), rewritten.output(), source, 7, parts);
                    }
                }
                Step::Fail(_, reason) => {
                    let parts = [None, Some(Some(reason.clone().into_bytes())), None];
                    expect_row(rows.next(), rewritten.output(), source, 8, parts);
                }
            }
        }
        assert_eq!(rows.next(), None);
    }
}

/// Reads a row as `wit/plugin.wit` says, and compares. A part is not set, null or these bytes.
fn expect_row(
    row: Option<&[u8; 32]>,
    output: &Output,
    source: usize,
    flags: u16,
    parts: [Option<Option<Vec<u8>>>; 3],
) {
    let row = row.expect("a row for each record that was made");
    let word = |at: usize| u32::from_le_bytes(row[at..at + 4].try_into().expect("4 bytes"));
    assert_eq!(word(0) as usize, source);
    assert_eq!(u16::from_le_bytes([row[4], row[5]]), flags);
    assert_eq!([row[6], row[7]], [0, 0], "the sink");
    for (at, part) in [8, 16, 24].into_iter().zip(parts) {
        let (offset, length) = (word(at), word(at + 4).cast_signed());
        match part {
            None => assert_eq!((offset, length), (0, 0)),
            Some(None) => assert_eq!(length, -1),
            Some(Some(bytes)) => {
                let start = offset as usize;
                assert_eq!(
                    output.data()[start..start + usize::try_from(length).expect("a length")],
                    bytes
                );
            }
        }
    }
}

#[test]
fn an_output_tells_a_test_what_was_made() {
    let mut output = Output::new();
    output.unchanged();
    output
        .with_value("new")
        .with_key("k")
        .with_header("by", "me")
        .with_header("for", "you");
    output
        .with_key("k")
        .with_header("a", "1")
        .with_value("x")
        .with_header("b", "2")
        .to_sink(3);
    output.without_value().without_headers();
    assert_eq!(output.values(), [None, Some(&b"new"[..]), Some(b"x"), None]);
    let made: Vec<_> = output.records().collect();
    assert_eq!((made[0].key(), made[0].value()), (Part::Same, Part::Same));
    assert!(made[0].headers().is_none());
    assert_eq!(made[1].key(), Part::New(b"k"));
    let names: Vec<_> = made[2].headers().unwrap().map(|header| header.name).collect();
    assert_eq!(names, [b"a", b"b"]);
    assert_eq!((made[1].sink(), made[2].sink()), (0, 3));
    assert_eq!((made[3].key(), made[3].value()), (Part::Same, Part::Absent));
    assert_eq!(made[3].headers().map(Iterator::count), Some(0));
}

/// Rows that point anywhere: the reader gives what lies within the data, or panics, which ends the call. The slices
/// that it gives are Rust's, so that reading them all shows that none lies outside.
#[test]
fn hostile_rows_are_refused() {
    let mut random = Random(4);
    let mut refused = 0;
    for _ in 0..2_000 {
        let data = random.bytes(64);
        let mut rows = random.bytes(32 * 4);
        if random.below(4) > 0 {
            rows.truncate(rows.len() / 32 * 32);
        }
        for row in rows.chunks_exact_mut(4) {
            // Small numbers, so that some of them are good, and edges.
            let number = match random.below(6) {
                0 => u32::MAX,
                1 => i32::MAX.cast_unsigned(),
                2 => data.len() as u32,
                _ => random.below(16) as u32,
            };
            row.copy_from_slice(&number.to_le_bytes());
        }
        let judged = std::panic::catch_unwind(|| {
            let (mut witness, mut verdicts) = (Witness::default(), Verdicts::new());
            verdicts.judge(&mut witness, &rows, &data);
            witness.seen
        });
        match judged {
            Ok(seen) => assert_eq!(seen.len() * 32, rows.len()),
            Err(_) => refused += 1,
        }
    }
    assert!((200..1_900).contains(&refused), "{refused} of 2000 were refused");
}
