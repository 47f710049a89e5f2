//! Guests that take more than they may. Each loses its instance and nothing else.

use std::time::{Duration, Instant};

use millstream_runtime::{CallError, InstantiateError, Level, Limits};

use crate::guests::{self, KEEP_ALL, compile, listener, silence, slice, start};

const LOOP: &str = "(loop $forever (br $forever)) unreachable";

fn small() -> Limits {
    Limits {
        memory_bytes: 1 << 20,
        fuel: 1_000_000,
        output_bytes: 10_000,
        ..Limits::default()
    }
}

/// What one call over one record ends with; afterwards the instance is of no use, and another one is.
fn failure(body: &str) -> CallError {
    let component = guests::filter(body);
    let mut instance = start(&component, &small());
    let (rows, data) = slice(&["x"]);
    let error = instance.filter(rows.bytes(), &data).unwrap_err();
    assert!(instance.is_poisoned());
    assert_eq!(
        instance.filter(rows.bytes(), &data).unwrap_err(),
        CallError::Poisoned
    );
    drop(instance);
    let mut other = start(&guests::filter(KEEP_ALL), &small());
    assert_eq!(other.filter(rows.bytes(), &data).unwrap().kept(), 1);
    error
}

#[test]
fn a_loop_ends_with_its_fuel() {
    let begun = Instant::now();
    assert_eq!(failure(LOOP), CallError::Fuel { limit: 1_000_000 });
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_loop_in_configure_ends_with_its_fuel() {
    let plugin = compile(&guests::filter_configured_by(LOOP));
    let error = plugin.instantiate(b"", &small(), silence()).unwrap_err();
    assert_eq!(
        error,
        InstantiateError::Call(CallError::Fuel { limit: 1_000_000 })
    );
}

#[test]
fn a_copy_costs_fuel_by_its_length() {
    let body = "
        (loop $forever
          (memory.copy (i32.const 65536) (i32.const 0) (i32.const 65536))
          (global.set $next (i32.add (global.get $next) (i32.const 1)))
          (br $forever))
        unreachable";
    assert_eq!(failure(body), CallError::Fuel { limit: 1_000_000 });
}

#[test]
fn fuel_cuts_at_the_same_place_every_time() {
    // Counts in memory how far it gets, and logs at a place that depends on it.
    let body = "
        (loop $forever
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (if (i32.eqz (i32.rem_u (local.get $i) (i32.const 1000)))
            (then (call $log (i32.const 2) (i32.const 48) (i32.const 8))))
          (br $forever))
        unreachable";
    let plugin = compile(&guests::filter(body));
    let (rows, data) = slice(&["x"]);
    let runs: Vec<_> = (0..3)
        .map(|_| {
            let (log, lines) = listener();
            let mut instance = plugin.instantiate(b"", &small(), log).unwrap();
            instance.filter(rows.bytes(), &data).unwrap_err();
            let heard = lines.lock().unwrap().len();
            (heard, instance.usage().fuel)
        })
        .collect();
    assert!(runs[0].0 > 10, "{runs:?}");
    assert!(runs.iter().all(|run| *run == runs[0]), "{runs:?}");
}

#[test]
fn the_same_slice_costs_the_same_fuel() {
    let plugin = compile(&guests::filter(KEEP_ALL));
    let (rows, data) = slice(&["one", "two", "three"]);
    let fuel = || {
        let mut instance = plugin.instantiate(b"", &small(), silence()).unwrap();
        instance.filter(rows.bytes(), &data).unwrap();
        instance.usage().fuel
    };
    let once = fuel();
    assert!(once > 0);
    assert_eq!(fuel(), once);
}

#[test]
fn a_memory_bomb_meets_its_limit() {
    let body = "
        (loop $more
          (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
          (br $more))
        unreachable";
    assert_eq!(failure(body), CallError::Memory { limit: 1 << 20 });
}

#[test]
fn memory_that_is_refused_need_not_be_fatal() {
    let body = format!("(drop (memory.grow (i32.const 1000))) {KEEP_ALL}");
    let mut instance = start(&guests::filter(&body), &small());
    let (rows, data) = slice(&["x"]);
    assert_eq!(instance.filter(rows.bytes(), &data).unwrap().kept(), 1);
    assert_eq!(instance.usage().memory_bytes_peak, 2 * 65536);
}

#[test]
fn an_instance_that_begins_too_large_does_not_start() {
    let plugin = compile(&guests::filter(KEEP_ALL));
    let limits = Limits {
        memory_bytes: 1 << 16,
        ..Limits::default()
    };
    let error = plugin.instantiate(b"", &limits, silence()).unwrap_err();
    assert_eq!(
        error,
        InstantiateError::Call(CallError::Memory { limit: 1 << 16 })
    );
}

#[test]
fn limits_that_cannot_be_had_are_refused() {
    let plugin = compile(&guests::filter(KEEP_ALL));
    let limits = Limits {
        memory_bytes: 1 << 50,
        ..Limits::default()
    };
    let error = plugin.instantiate(b"", &limits, silence()).unwrap_err();
    assert!(error.to_string().starts_with("memory-bytes must be"), "{error}");
}

#[test]
fn a_trap_is_told() {
    let CallError::Trap(text) = failure("unreachable") else {
        panic!("no trap")
    };
    assert!(text.contains("unreachable"), "{text}");
    let CallError::Trap(text) = failure("(i32.load (i32.const -4)) drop unreachable") else {
        panic!("no trap")
    };
    assert!(text.contains("out of bounds"), "{text}");
}

#[test]
fn a_recursion_without_end_meets_the_stack_s_end() {
    let body = "(call 3 (i32.const 0) (i32.const 0)) drop unreachable";
    let recursion = guests::component(
        "filter",
        "(param i32 i32 i32 i32)",
        "(call 3 (local.get $config) (local.get $config_len))",
        body,
    );
    let mut limits = small();
    limits.fuel = 1_000_000_000;
    let error = compile(&recursion)
        .instantiate(b"", &limits, silence())
        .unwrap_err();
    let InstantiateError::Call(CallError::Trap(text)) = error else {
        panic!("{error}")
    };
    assert!(text.contains("stack"), "{text}");
}

#[test]
fn an_answer_that_is_too_long_is_not_taken() {
    let body = "(call $answer (i32.const 0) (i32.const 100000) (i32.const 0) (i32.const 0))";
    assert_eq!(failure(body), CallError::Output { limit: 10_000 });
}

#[test]
fn an_answer_beyond_the_memory_traps() {
    let body = "(call $answer (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 0))";
    assert!(matches!(
        failure(body),
        CallError::Trap(_) | CallError::Output { .. }
    ));
}

#[test]
fn a_flood_of_lines_is_cut_and_counted() {
    let body = format!(
        "(loop $more
          (call $log (i32.const 3) (i32.const 48) (i32.const 8))
          (local.set $i (i32.add (local.get $i) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $i) (i32.const 500))))
        {KEEP_ALL}"
    );
    let limits = Limits {
        log_bytes_per_s: 400,
        ..small()
    };
    let (log, lines) = listener();
    let plugin = compile(&guests::filter(&body));
    let mut instance = plugin.instantiate(b"", &limits, log).unwrap();
    let (rows, data) = slice(&["x"]);
    instance.filter(rows.bytes(), &data).unwrap();
    let lines = lines.lock().unwrap();
    assert!((10..30).contains(&lines.len()), "{}", lines.len());
    assert!(
        lines
            .iter()
            .all(|line| *line == (Level::Warn, "abcdefgh".to_owned()))
    );
    assert_eq!(instance.usage().log_lines_dropped, 500 - lines.len() as u64);
}

#[test]
fn a_line_costs_fuel_by_its_length() {
    let body = "
        (loop $forever
          (call $log (i32.const 3) (i32.const 100) (i32.const 9000))
          (br $forever))
        unreachable";
    let (log, lines) = listener();
    let limits = Limits {
        log_bytes_per_s: 16 << 20,
        ..small()
    };
    let plugin = compile(&guests::filter(body));
    let mut instance = plugin.instantiate(b"", &limits, log).unwrap();
    let (rows, data) = slice(&["x"]);
    let error = instance.filter(rows.bytes(), &data).unwrap_err();
    assert_eq!(error, CallError::Fuel { limit: 1_000_000 });
    assert!(lines.lock().unwrap().len() <= 100);
}
