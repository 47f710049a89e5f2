//! Plugins for the tests: small enough to read, and told by each record's value what to do with it.

use millstream_runtime::build::componentize;

/// Looks at the first byte of a value: `k` keeps the record, `d` drops it, `e` is an error, `t` a trap.
pub fn filter() -> Vec<u8> {
    component(
        "filter",
        "",
        &loop_over_rows(FILTER),
        &answer("(local.get $count)"),
    )
}

/// As [`filter`], other bytes: keeps what that drops and drops what that keeps.
pub fn contrary_filter() -> Vec<u8> {
    let contrary = FILTER
        .replace("'k'", "'x'")
        .replace("'d'", "'k'")
        .replace("'x'", "'d'");
    component(
        "filter",
        "",
        &loop_over_rows(&contrary),
        &answer("(local.get $count)"),
    )
}

/// The first byte of a value is a digit that names the partition; `e` is an error, `t` a trap.
pub fn partitioner() -> Vec<u8> {
    let body = "(i32.store (i32.add (local.get $rows) (i32.mul (local.get $i) (i32.const 4)))
        (select (i32.const -1) (i32.sub (local.get $byte) (i32.const 48)) (i32.eq (local.get $byte) (i32.const 'e'))))";
    let answer = answer("(i32.mul (local.get $count) (i32.const 4))");
    component(
        "partition",
        "(param $partitions i32)",
        &loop_over_rows(body),
        &answer,
    )
}

/// As [`partitioner`], but all records go to partition 0.
pub fn gathering_partitioner() -> Vec<u8> {
    let body = "(i32.store (i32.add (local.get $rows) (i32.mul (local.get $i) (i32.const 4))) (i32.const 0))";
    let answer = answer("(i32.mul (local.get $count) (i32.const 4))");
    component(
        "partition",
        "(param $partitions i32)",
        &loop_over_rows(body),
        &answer,
    )
}

/// Replaces values that begin with `m` by `abcdefgh`; what begins with `t` is a trap.
pub fn transform() -> Vec<u8> {
    let body = "(i64.store (local.get $row) (i64.extend_i32_u (local.get $i)))
        (i64.store offset=8 (local.get $row) (i64.const 0))
        (i64.store offset=16 (local.get $row) (i64.const 0))
        (i64.store offset=24 (local.get $row) (i64.const 0))
        (if (i32.eq (local.get $byte) (i32.const 'm')) (then
          (i32.store16 offset=4 (local.get $row) (i32.const 2))
          (i32.store offset=20 (local.get $row) (i32.const 8))))";
    component(
        "transform",
        "",
        &loop_over_rows(body),
        "(call $answer (local.get $rows) (local.get $rows_len) (i32.const 48) (i32.const 8))",
    )
}

/// A transform whose records go to the sink that the first byte of their value is the digit of; `e` is an error, `t` a trap.
pub fn router() -> Vec<u8> {
    let body = "(i64.store (local.get $row) (i64.extend_i32_u (local.get $i)))
        (i64.store offset=8 (local.get $row) (i64.const 0))
        (i64.store offset=16 (local.get $row) (i64.const 0))
        (i64.store offset=24 (local.get $row) (i64.const 0))
        (if (i32.eq (local.get $byte) (i32.const 'e'))
          (then (i32.store16 offset=4 (local.get $row) (i32.const 8)))
          (else (i32.store16 offset=6 (local.get $row) (i32.sub (local.get $byte) (i32.const 48)))))";
    component(
        "transform",
        "",
        &loop_over_rows(body),
        "(call $answer (local.get $rows) (local.get $rows_len) (i32.const 0) (i32.const 0))",
    )
}

/// As [`router`], but for the trap and the error; the second byte of a value is a digit that says how long it takes.
pub fn toiler() -> Vec<u8> {
    let body = "(i64.store (local.get $row) (i64.extend_i32_u (local.get $i)))
        (i64.store offset=8 (local.get $row) (i64.const 0))
        (i64.store offset=16 (local.get $row) (i64.const 0))
        (i64.store offset=24 (local.get $row) (i64.const 0))
        (i32.store16 offset=6 (local.get $row) (i32.sub (local.get $byte) (i32.const 48)))
        (loop $toil
          (i32.store (i32.const 32) (i32.sub (i32.load (i32.const 32)) (i32.const 1)))
          (br_if $toil (i32.gt_s (i32.load (i32.const 32)) (i32.const 0))))";
    let begin = "(i32.store (i32.const 32) (i32.mul (i32.const 200000) (i32.sub
          (i32.load8_u offset=1 (i32.add (local.get $data) (i32.load offset=16 (local.get $row)))) (i32.const 48))))";
    component(
        "transform",
        "",
        // How long it takes is read before the row is written over.
        &loop_over_rows(&format!("{begin} {body}")),
        "(call $answer (local.get $rows) (local.get $rows_len) (i32.const 0) (i32.const 0))",
    )
}

/// A transform that makes a value of 100,000 bytes of every record.
pub fn amplifier() -> Vec<u8> {
    let body = "(i64.store (local.get $row) (i64.extend_i32_u (local.get $i)))
        (i64.store offset=8 (local.get $row) (i64.const 0))
        (i64.store offset=16 (local.get $row) (i64.const 0))
        (i64.store offset=24 (local.get $row) (i64.const 0))
        (i32.store16 offset=4 (local.get $row) (i32.const 2))
        (i32.store offset=20 (local.get $row) (i32.const 100000))";
    component(
        "transform",
        "",
        &loop_over_rows(body),
        "(call $answer (local.get $rows) (local.get $rows_len) (i32.const 48) (i32.const 100000))",
    )
}

const FILTER: &str = "(i32.store8 (i32.add (local.get $rows) (local.get $i)) (i32.or
    (i32.shl (i32.eq (local.get $byte) (i32.const 'e')) (i32.const 1))
    (i32.and (i32.eq (local.get $byte) (i32.const 'k')) (i32.ne (local.get $byte) (i32.const 'd')))))";

/// The answer is written over the rows: what is written for a row lies before the next one.
fn answer(length: &str) -> String {
    format!("(call $answer (local.get $rows) {length} (i32.const 0) (i32.const 0))")
}

fn loop_over_rows(body: &str) -> String {
    format!(
        "(local.set $count (i32.div_u (local.get $rows_len) (i32.const 32)))
        (loop $each
          (local.set $row (i32.add (local.get $rows) (i32.mul (local.get $i) (i32.const 32))))
          (local.set $byte (i32.load8_u (i32.add (local.get $data) (i32.load offset=16 (local.get $row)))))
          (if (i32.eq (local.get $byte) (i32.const 't')) (then unreachable))
          {body}
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $each (i32.lt_u (local.get $i) (local.get $count))))"
    )
}

/// A component whose `configure` logs and refuses a configuration of three bytes.
fn component(function: &str, parameter: &str, body: &str, answer: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
          (import "millstream:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
          (memory (export "memory") 2)
          (data (i32.const 16) "no such thing")
          (data (i32.const 48) "abcdefgh")
          (global $next (mut i32) (i32.const 65536))
          (func (export "cabi_realloc") (param i32 i32 i32) (param $length i32) (result i32)
            (local $address i32)
            (global.set $next (i32.and (i32.add (global.get $next) (i32.const 15)) (i32.const -16)))
            (local.set $address (global.get $next))
            (global.set $next (i32.add (global.get $next) (local.get $length)))
            (loop $more
              (if (i32.gt_u (global.get $next) (i32.mul (memory.size) (i32.const 65536)))
                (then
                  (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                  (br $more))))
            (local.get $address))
          (func $answer (param i32 i32 i32 i32) (result i32)
            (i32.store (i32.const 0) (local.get 0))
            (i32.store (i32.const 4) (local.get 1))
            (i32.store (i32.const 8) (local.get 2))
            (i32.store (i32.const 12) (local.get 3))
            (global.set $next (i32.const 65536))
            (i32.const 0))
          (func (export "configure") (param $config i32) (param $config_len i32) (result i32)
            (call $log (i32.const 2) (i32.const 48) (i32.const 8))
            (i32.store (i32.const 0) (i32.eq (local.get $config_len) (i32.const 3)))
            (i32.store (i32.const 4) (i32.const 16))
            (i32.store (i32.const 8) (i32.const 13))
            (i32.const 0))
          (func (export "{function}") (param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32)
            {parameter} (result i32) (local $i i32) (local $row i32) (local $byte i32) (local $count i32)
            {body} {answer}))"#
    );
    let text = ["t", "k", "d", "e", "m"].iter().fold(text, |text, letter| {
        text.replace(&format!("'{letter}'"), &letter.as_bytes()[0].to_string())
    });
    componentize(&wat::parse_str(text).expect("a module")).expect("a component")
}
