//! Answers, right and wrong. Nothing that breaks the contract gets through.

use millstream_runtime::{CallError, Limits, Made, MadeRow, Part, Targets, Transformed, Verdict};

use crate::guests::{self, KEEP_ALL, deploy, slice, start};

type Filtered = (Vec<Verdict>, Vec<(u32, String)>);

/// What a filter answers to three records, with verdicts and errors written as lists of bytes.
fn filtered(verdicts: &[u8], errors: &[(u32, u32, u32)]) -> Result<Filtered, CallError> {
    let mut body = String::new();
    for (place, verdict) in verdicts.iter().enumerate() {
        body += &format!("(i32.store8 (i32.const {}) (i32.const {verdict}))", 256 + place);
    }
    for (place, (row, address, length)) in errors.iter().enumerate() {
        for (field, word) in [row, address, length].into_iter().enumerate() {
            let address = 512 + place * 12 + field * 4;
            body += &format!("(i32.store (i32.const {address}) (i32.const {word}))");
        }
    }
    body += &format!(
        "(call $answer (i32.const 256) (i32.const {}) (i32.const 512) (i32.const {}))",
        verdicts.len(),
        errors.len()
    );
    let mut instance = start(&guests::filter(&body), &Limits::default());
    let (rows, data) = slice(&["a", "b", "c"]);
    let answer = instance.filter(rows.bytes(), &data);
    assert_eq!(instance.is_poisoned(), answer.is_err());
    answer.map(|verdicts| (verdicts.iter().collect(), verdicts.errors))
}

fn is_nonsense<T: std::fmt::Debug>(answer: Result<T, CallError>) {
    let error = answer.unwrap_err();
    assert!(matches!(error, CallError::Answer(_)), "{error:?}");
}

#[test]
fn verdicts_and_reasons_get_through() {
    let (verdicts, errors) = filtered(&[1, 0, 2], &[(2, 16, 13)]).unwrap();
    assert_eq!(verdicts, [Verdict::Keep, Verdict::Drop, Verdict::Error]);
    assert_eq!(errors, [(2, "no such thing".to_owned())]);
    let (_, errors) = filtered(&[2, 0, 2], &[(2, 16, 13)]).unwrap();
    assert_eq!(errors[0], (0, "the plugin gave no reason".to_owned()));
    assert_eq!(errors[1].0, 2);
}

#[test]
fn wrong_verdicts_are_nonsense() {
    is_nonsense(filtered(&[1, 1], &[]));
    is_nonsense(filtered(&[1, 1, 1, 1], &[]));
    is_nonsense(filtered(&[], &[]));
    is_nonsense(filtered(&[1, 3, 1], &[]));
    is_nonsense(filtered(&[1, 255, 1], &[]));
    // Reasons for what is no error, beyond the rows, twice, or out of order.
    is_nonsense(filtered(&[1, 1, 1], &[(0, 16, 13)]));
    is_nonsense(filtered(&[1, 1, 2], &[(3, 16, 13)]));
    is_nonsense(filtered(&[1, 1, 2], &[(2, 16, 13), (2, 16, 13)]));
    is_nonsense(filtered(&[2, 1, 2], &[(2, 16, 13), (0, 16, 13)]));
}

#[test]
fn a_long_reason_is_cut() {
    let (_, errors) = filtered(&[1, 1, 2], &[(2, 0x4000, 5000)]).unwrap();
    assert!(errors[0].1.len() <= 1024 + '…'.len_utf8());
}

#[test]
fn a_reason_that_is_no_text_is_a_trap() {
    let body = "
        (i32.store8 (i32.const 256) (i32.const 255))
        (i32.store (i32.const 512) (i32.const 0))
        (i32.store (i32.const 516) (i32.const 256))
        (i32.store (i32.const 520) (i32.const 1))
        (call $answer (i32.const 16) (i32.const 1) (i32.const 512) (i32.const 1))";
    let mut instance = start(&guests::filter(body), &Limits::default());
    let (rows, data) = slice(&["a"]);
    let error = instance.filter(rows.bytes(), &data).unwrap_err();
    assert!(matches!(error, CallError::Trap(_)), "{error:?}");
}

#[test]
fn no_records_are_no_call() {
    let mut instance = start(&guests::filter("unreachable"), &Limits::default());
    assert_eq!(instance.filter(&[], &[]).unwrap().iter().len(), 0);
    assert_eq!(instance.usage().calls, 0);
}

#[test]
fn a_filter_does_not_partition() {
    let mut instance = start(&guests::filter(KEEP_ALL), &Limits::default());
    let (rows, data) = slice(&["a"]);
    let error = instance.partition(rows.bytes(), &data, 3).unwrap_err();
    assert_eq!(error, CallError::World("filter"));
    assert!(instance.filter(rows.bytes(), &data).is_ok());
}

/// A partitioner that answers the first bytes of its data: what the test put there as values.
fn partitioned(targets: &[u8], partitions: u32) -> Result<Targets, CallError> {
    let body = "(call $answer (local.get $data) (local.get $data_len) (i32.const 0) (i32.const 0))";
    let mut instance = start(&guests::partitioner(body), &Limits::default());
    let (rows, _) = slice(&["a", "b"]);
    instance.partition(rows.bytes(), targets, partitions)
}

#[test]
fn partitions_get_through_if_there_are_so_many() {
    let bytes = |targets: [u32; 2]| targets.map(u32::to_le_bytes).concat();
    let targets = partitioned(&bytes([0, 5]), 6).unwrap();
    assert_eq!(targets.partitions, [0, 5]);
    let targets = partitioned(&bytes([Targets::ERROR, 1]), 6).unwrap();
    assert_eq!(targets.partitions, [Targets::ERROR, 1]);
    assert_eq!(targets.errors.len(), 1);
    is_nonsense(partitioned(&bytes([0, 6]), 6));
    is_nonsense(partitioned(&bytes([0, 5])[..7], 6));
    is_nonsense(partitioned(&[0; 12], 6));
}

/// A row of a transform's answer.
fn row(source: u32, flags: u16, sink: u16, parts: [(u32, i32); 3]) -> Vec<u8> {
    let mut bytes = source.to_le_bytes().to_vec();
    bytes.extend(flags.to_le_bytes());
    bytes.extend(sink.to_le_bytes());
    for (offset, length) in parts {
        bytes.extend(offset.to_le_bytes());
        bytes.extend(length.to_le_bytes());
    }
    bytes
}

/// What comes out of three records if a transform answers these rows, and `abcdefgh` beside them.
fn transformed(rows: &[Vec<u8>]) -> Result<Transformed, CallError> {
    within(rows, &Limits::default(), &["x", "y", "z", "late"])
}

/// The same within limits and with sinks.
fn within(rows: &[Vec<u8>], limits: &Limits, sinks: &[&str]) -> Result<Transformed, CallError> {
    let mut instance = deploy(&guests::transform_answering_its_data(), limits, sinks);
    let (input, _) = slice(&["a", "b", "c"]);
    let answer = instance.transform(input.bytes(), &rows.concat());
    assert_eq!(instance.is_poisoned(), answer.is_err());
    answer
}

const NONE: (u32, i32) = (0, 0);

#[test]
fn new_and_old_parts_are_told_apart() {
    let answer = transformed(&[
        row(0, 0, 0, [NONE; 3]),
        row(2, 1 | 2 | 4, 3, [(9, -1), (2, 3), (8, 0)]),
    ])
    .unwrap();
    assert_eq!(answer.data, b"abcdefgh");
    let expected = [
        MadeRow {
            source: 0,
            sink: 0,
            made: Made::Record {
                key: Part::Same,
                value: Part::Same,
                headers: Part::Same,
            },
        },
        MadeRow {
            source: 2,
            sink: 3,
            made: Made::Record {
                key: Part::Absent,
                value: Part::New(2..5),
                headers: Part::New(0..0),
            },
        },
    ];
    assert_eq!(answer.rows, expected);
}

#[test]
fn one_source_may_make_several_records() {
    let answer = transformed(&[row(1, 0, 0, [NONE; 3]), row(1, 0, 1, [NONE; 3])]).unwrap();
    assert_eq!(answer.rows.len(), 2);
}

#[test]
fn a_sink_that_was_not_declared_is_nonsense() {
    let to = |sink| [row(0, 0, sink, [NONE; 3])];
    let check = |sink, sinks: &[&str]| within(&to(sink), &Limits::default(), sinks);
    assert!(check(1, &["late", "early"]).is_ok());
    let error = check(2, &["late", "early"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the plugin answered nonsense: sink 2, but there are 2, counted from 0, in row 0 of the answer"
    );
    // Ingest and views have one sink, which has no name.
    assert!(check(0, &[]).is_ok());
    is_nonsense(check(1, &[]));
    is_nonsense(check(u16::MAX, &["late"]));
}

#[test]
fn names_of_the_sinks_get_to_the_guest() {
    let component = guests::transform_to_its_last_sink();
    let mut instance = deploy(&component, &Limits::default(), &["early", "zu spät"]);
    let (rows, data) = slice(&["a"]);
    for _ in 0..3 {
        let answer = instance.transform(rows.bytes(), &data).unwrap();
        assert_eq!(answer.rows[0].sink, 1);
        assert_eq!(answer.data, "zu spät".as_bytes());
    }
}

#[test]
fn parts_that_records_share_count_for_each_of_them() {
    let limits = Limits {
        output_bytes: 500,
        ..Limits::default()
    };
    let sharing = |copies| vec![row(0, 1 | 2 | 4, 0, [(0, 8), (0, 8), (0, 8)]); copies];
    assert!(within(&sharing(8), &limits, &[]).is_ok());
    let error = within(&sharing(9), &limits, &[]).unwrap_err();
    assert_eq!(error, CallError::Output { limit: 500 });
    // What the source has is free once: the host has it already.
    let long = "v".repeat(200);
    let copy = |copies| {
        let mut instance = start(&guests::transform_copying_its_first(copies), &limits);
        let (rows, data) = slice(&[&long]);
        instance
            .transform(rows.bytes(), &data)
            .map(|made| made.rows.len())
    };
    assert_eq!((copy(1), copy(2), copy(3)), (Ok(1), Ok(2), Ok(3)));
    assert_eq!(copy(4), Err(CallError::Output { limit: 500 }));
}

#[test]
fn a_million_records_of_one_are_not_taken() {
    let mut instance = start(
        &guests::transform_copying_its_first(1_000_000),
        &Limits::default(),
    );
    let (rows, data) = slice(&["a"]);
    let error = instance.transform(rows.bytes(), &data).unwrap_err();
    assert_eq!(error, CallError::Output { limit: 16 << 20 });
    assert!(instance.is_poisoned());
}

#[test]
fn errors_come_with_their_reason() {
    let answer = transformed(&[
        row(0, 8, 0, [NONE, (0, 3), NONE]),
        row(1, 8, 0, [NONE, NONE, NONE]),
    ])
    .unwrap();
    assert_eq!(answer.rows[0].made, Made::Error("abc".to_owned()));
    assert_eq!(
        answer.rows[1].made,
        Made::Error("the plugin gave no reason".to_owned())
    );
}

#[test]
fn rows_that_break_the_contract_are_nonsense() {
    let wrong: &[&[Vec<u8>]] = &[
        &[vec![0; 31]],
        // A source that does not exist, and one out of order.
        &[row(3, 0, 0, [NONE; 3])],
        &[row(1, 0, 0, [NONE; 3]), row(0, 0, 0, [NONE; 3])],
        // An unknown flag.
        &[row(0, 16, 0, [NONE; 3])],
        // Fields of a part that is not new.
        &[row(0, 0, 0, [NONE, (0, 1), NONE])],
        &[row(0, 0, 0, [NONE, (1, 0), NONE])],
        // Beyond the data, by its end or by an overflow, and a negative length.
        &[row(0, 2, 0, [NONE, (0, 9), NONE])],
        &[row(0, 2, 0, [NONE, (u32::MAX, 2), NONE])],
        &[row(0, 2, 0, [NONE, (0, -2), NONE])],
        &[row(0, 2, 0, [NONE, (0, i32::MIN), NONE])],
        // Headers are never null.
        &[row(0, 4, 0, [NONE, NONE, (0, -1)])],
        // An error with another flag, a sink, another part, beyond the data, without a reason's place, not alone.
        &[row(0, 8 | 2, 0, [NONE, (0, 1), NONE])],
        &[row(0, 8, 1, [NONE, (0, 1), NONE])],
        &[row(0, 8, 0, [(0, 1), (0, 1), NONE])],
        &[row(0, 8, 0, [NONE, (0, 9), NONE])],
        &[row(0, 8, 0, [NONE, (0, -1), NONE])],
        &[row(0, 8, 0, [NONE; 3]), row(0, 0, 0, [NONE; 3])],
        &[row(0, 0, 0, [NONE; 3]), row(0, 8, 0, [NONE; 3])],
    ];
    for rows in wrong {
        is_nonsense(transformed(rows));
    }
}
