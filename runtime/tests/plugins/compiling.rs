//! What is refused before anything runs, and how it is told.

use std::time::{Duration, Instant};

use millstream_runtime::build::{BuildError, componentize};
use millstream_runtime::{CompileError, Engine, EngineConfig, InstantiateError, Limits, World};

use crate::guests::{self, ENGINE, KEEP_ALL, compile, silence};

#[test]
fn the_world_is_what_a_component_exports() {
    assert_eq!(compile(&guests::filter(KEEP_ALL)).world(), World::Filter);
    assert_eq!(
        compile(&guests::partitioner("unreachable")).world(),
        World::Partitioner
    );
    assert_eq!(
        compile(&guests::transform_answering_its_data()).world(),
        World::Transform
    );
}

#[test]
fn an_import_that_is_not_offered_is_named() {
    let component = wat::parse_str(
        r#"(component
          (import "millstream:plugin/host@0.1.0" (instance))
          (import "wasi:filesystem/types@0.2.3" (instance)))"#,
    )
    .unwrap();
    let error = ENGINE.compile(&component).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component imports 'wasi:filesystem/types@0.2.3'; plugins may import nothing but 'millstream:plugin/host@0.1.0'"
    );
}

#[test]
fn a_function_of_the_host_that_does_not_exist_is_named() {
    let component = wat::parse_str(
        r#"(component
          (import "millstream:plugin/host@0.1.0" (instance $host (export "clock" (func (result u64)))))
          (core module $m (func (export "f") (param i32 i32 i32 i32) (result i32) unreachable)
            (memory (export "memory") 1)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) unreachable))
          (core instance $i (instantiate $m))
          (func (export "filter") (param "rows" (list u8)) (param "data" (list u8)) (result (list u8))
            (canon lift (core func $i "f") (memory $i "memory") (realloc (func $i "realloc")))))"#,
    )
    .unwrap();
    let error = ENGINE.compile(&component).unwrap_err();
    assert!(error.to_string().contains("clock"), "{error}");
}

#[test]
fn a_world_with_other_types_is_refused() {
    let component = wat::parse_str(
        r#"(component
          (core module $m (func (export "f") (param i32) (result i32) unreachable))
          (core instance $i (instantiate $m))
          (func (export "filter") (param "x" u32) (result u32) (canon lift (core func $i "f"))))"#,
    )
    .unwrap();
    let error = ENGINE.compile(&component).unwrap_err();
    assert!(matches!(error, CompileError::World(_)), "{error:?}");
    assert!(
        error.to_string().contains("does not fit the world filter"),
        "{error}"
    );
}

#[test]
fn a_component_of_no_world_is_refused() {
    let error = ENGINE
        .compile(&wat::parse_str("(component)").unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "the component exports none of the worlds filter, partitioner and transform"
    );
}

#[test]
fn what_is_no_component_is_refused() {
    let module = guests::module("filter", "", guests::ACCEPT, "unreachable");
    let error = ENGINE.compile(&module).unwrap_err();
    assert!(error.to_string().starts_with("this is a core module"), "{error}");
    for bytes in [&b""[..], b"\0asm", b"#!/bin/sh", b"\x7fELF\x02\x01\x01\xc8"] {
        let error = ENGINE.compile(bytes).unwrap_err();
        assert_eq!(error, CompileError::NotComponent("this is not WebAssembly"));
    }
}

#[test]
fn damaged_components_are_refused_and_harm_nothing() {
    let good = guests::filter(KEEP_ALL);
    for length in (8..good.len()).step_by(7) {
        assert!(ENGINE.compile(&good[..length]).is_err(), "cut to {length} bytes");
    }
    // A linear congruential generator; the same damage every time.
    let mut random = 1u64;
    for _ in 0..300 {
        let mut bad = good.clone();
        for _ in 0..3 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let place = 8 + (random >> 33) as usize % (bad.len() - 8);
            bad[place] = (random >> 24) as u8;
        }
        // Some damage is to names only. Whatever runs stays within its limits.
        if let Ok(plugin) = ENGINE.compile(&bad) {
            let limits = Limits {
                fuel: 100_000,
                ..Limits::default()
            };
            let _ = plugin.instantiate(b"", &limits, silence());
        }
    }
    assert_eq!(compile(&good).world(), World::Filter);
}

#[test]
fn a_hundred_megabytes_are_refused_at_once() {
    let component = vec![0; 100 << 20];
    let begun = Instant::now();
    let error = ENGINE.compile(&component).unwrap_err();
    assert!(begun.elapsed() < Duration::from_millis(100));
    assert_eq!(
        error.to_string(),
        "the component has 104857600 bytes; 67108864 are allowed"
    );
    let engine = Engine::new(EngineConfig {
        component_bytes_max: 100,
        instances_max: 2,
        ..EngineConfig::default()
    });
    let error = engine.unwrap().compile(&guests::filter(KEEP_ALL)).unwrap_err();
    assert!(matches!(error, CompileError::TooLarge { bytes_max: 100, .. }));
}

#[test]
fn threads_and_relaxed_simd_are_off() {
    let bodies = [
        "(drop (i8x16.relaxed_swizzle (v128.const i64x2 0 0) (v128.const i64x2 0 0))) unreachable",
        "(drop (i32.atomic.load (i32.const 0))) unreachable",
    ];
    for body in bodies {
        let parameters = "(param $rows i32) (param i32 i32 i32)";
        let module = guests::module("filter", parameters, guests::ACCEPT, body);
        let refused = match componentize(&module) {
            Ok(component) => ENGINE.compile(&component).is_err(),
            Err(_) => true,
        };
        assert!(refused, "{body}");
    }
}

#[test]
fn more_memories_than_are_given_are_refused() {
    let component = wat::parse_str(
        r#"(component
          (core module $m (memory 1) (memory 1) (memory 1) (memory 1) (memory 1))
          (core instance (instantiate $m)))"#,
    )
    .unwrap();
    let error = ENGINE.compile(&component).unwrap_err();
    assert!(error.to_string().contains("memories"), "{error}");
}

#[test]
fn a_configuration_that_is_refused_says_why() {
    let refuse = "
        (i32.store (i32.const 0) (i32.const 1))
        (i32.store (i32.const 4) (i32.const 16))
        (i32.store (i32.const 8) (i32.const 13))
        (i32.const 0)";
    let plugin = compile(&guests::filter_configured_by(refuse));
    let error = plugin
        .instantiate(b"x", &Limits::default(), silence())
        .unwrap_err();
    assert_eq!(error, InstantiateError::Refused("no such thing".to_owned()));
    assert_eq!(error.to_string(), "no such thing");
}

#[test]
fn a_configuration_that_is_too_long_is_not_handed_over() {
    let plugin = compile(&guests::filter(KEEP_ALL));
    let config = vec![b' '; (1 << 20) + 1];
    let error = plugin
        .instantiate(&config, &Limits::default(), silence())
        .unwrap_err();
    assert!(matches!(error, InstantiateError::ConfigTooLarge { .. }));
}

#[test]
fn modules_of_no_world_do_not_become_components() {
    let empty = wat::parse_str("(module)").unwrap();
    assert_eq!(componentize(&empty), Err(BuildError::World("none".to_owned())));
    assert!(matches!(componentize(b"x"), Err(BuildError::NotModule(_))));
    let component = guests::filter(KEEP_ALL);
    assert!(matches!(componentize(&component), Err(BuildError::NotModule(_))));
    let wasi = wat::parse_str(
        r#"(module (import "wasi_snapshot_preview1" "random_get" (func (param i32 i32) (result i32)))
          (func (export "filter") (param i32 i32 i32 i32) (result i32) unreachable))"#,
    )
    .unwrap();
    let error = componentize(&wasi).unwrap_err();
    assert!(error.to_string().contains("wasi_snapshot_preview1"), "{error}");
}
