//! Instances that are shared: as many as are allowed, used again, replaced after they failed.

use std::sync::Arc;
use std::thread;

use millstream_runtime::{Engine, EngineConfig, InstantiateError, Limits, Pool};

use crate::guests::{self, ACCEPT, KEEP_ALL, compile, listener, silence, slice};

fn pool(body: &str, instances: u32) -> Arc<Pool> {
    let limits = Limits {
        instances,
        ..Limits::default()
    };
    Pool::new(compile(&guests::filter(body)), Vec::new(), limits, silence()).unwrap()
}

#[test]
fn there_are_as_many_as_are_allowed() {
    let pool = pool(KEEP_ALL, 2);
    let first = pool.try_take().unwrap().unwrap();
    let second = pool.try_take().unwrap().unwrap();
    assert!(pool.try_take().unwrap().is_none());
    drop(first);
    assert!(pool.try_take().unwrap().is_some());
    drop(second);
}

#[test]
fn all_instances_know_the_sinks() {
    let plugin = compile(&guests::transform_to_its_last_sink());
    let sinks = ["early".to_owned(), "late".to_owned()].into();
    let pool = Pool::with_sinks(plugin, Vec::new(), Limits::default(), silence(), sinks).unwrap();
    let (rows, data) = slice(&["a"]);
    let mut first = pool.try_take().unwrap().unwrap();
    let mut second = pool.try_take().unwrap().unwrap();
    for instance in [&mut first, &mut second] {
        assert_eq!(instance.transform(rows.bytes(), &data).unwrap().data, b"late");
    }
}

#[test]
fn an_instance_is_used_again() {
    let pool = pool(KEEP_ALL, 2);
    let (rows, data) = slice(&["a"]);
    for calls in 1..4 {
        let mut instance = pool.try_take().unwrap().unwrap();
        instance.filter(rows.bytes(), &data).unwrap();
        assert_eq!(instance.usage().calls, calls);
    }
    pool.shrink();
    assert_eq!(pool.try_take().unwrap().unwrap().usage().calls, 0);
}

#[test]
fn one_that_failed_is_replaced() {
    // Traps on the data "!", and only then.
    let body =
        format!("(if (i32.eq (i32.load8_u (local.get $data)) (i32.const 33)) (then unreachable)) {KEEP_ALL}");
    let pool = pool(&body, 1);
    let (rows, good) = slice(&["a"]);
    for _ in 0..50 {
        let mut instance = pool.try_take().unwrap().unwrap();
        assert!(instance.filter(rows.bytes(), b"!").is_err());
        drop(instance);
        let mut instance = pool.try_take().unwrap().unwrap();
        assert_eq!(instance.filter(rows.bytes(), &good).unwrap().kept(), 1);
    }
}

#[test]
fn waiting_threads_all_get_their_turn() {
    let pool = pool(KEEP_ALL, 2);
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let pool = pool.clone();
            thread::spawn(move || {
                let (rows, data) = slice(&["a", "b"]);
                for _ in 0..50 {
                    let mut instance = pool.take().unwrap();
                    assert_eq!(instance.filter(rows.bytes(), &data).unwrap().kept(), 2);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_wrong_configuration_is_found_at_once() {
    let refuse = "
        (if (local.get $config_len) (then
          (i32.store (i32.const 0) (i32.const 1))
          (i32.store (i32.const 4) (i32.const 16))
          (i32.store (i32.const 8) (i32.const 13))
          (return (i32.const 0))))";
    let plugin = compile(&guests::filter_configured_by(&format!("{refuse} {ACCEPT}")));
    let error = Pool::new(plugin.clone(), b"x".to_vec(), Limits::default(), silence()).unwrap_err();
    assert_eq!(error, InstantiateError::Refused("no such thing".to_owned()));
    assert!(Pool::new(plugin, Vec::new(), Limits::default(), silence()).is_ok());
}

#[test]
fn instances_share_one_volume_of_log() {
    let body = format!("(call $log (i32.const 2) (i32.const 48) (i32.const 8)) {KEEP_ALL}");
    let limits = Limits {
        instances: 100,
        log_bytes_per_s: 100,
        ..Limits::default()
    };
    let (log, lines) = listener();
    let pool = Pool::new(compile(&guests::filter(&body)), Vec::new(), limits, log).unwrap();
    let (rows, data) = slice(&["a"]);
    let mut all = Vec::new();
    for _ in 0..50 {
        let mut instance = pool.try_take().unwrap().unwrap();
        instance.filter(rows.bytes(), &data).unwrap();
        all.push(instance);
    }
    assert!(lines.lock().unwrap().len() < 10);
}

#[test]
fn more_instances_than_the_engine_has_are_busy_until_one_goes() {
    let engine = Engine::new(EngineConfig {
        instances_max: 2,
        ..EngineConfig::default()
    })
    .unwrap();
    let plugin = engine.compile(&guests::filter(KEEP_ALL)).unwrap();
    let start = || plugin.instantiate(b"", &Limits::default(), silence());
    let first = start().unwrap();
    let second = start().unwrap();
    assert_eq!(start().unwrap_err(), InstantiateError::Busy);
    drop(first);
    start().unwrap();
    drop(second);
}
