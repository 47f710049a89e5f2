//! Components that misbehave when they run: a frame with memory, an allocator and the contract's answers, around what a
//! test wants them to do.

use std::path::{Path, PathBuf};

use millstream_runtime::build::componentize;

/// What a guest does with every slice it gets.
pub const LOOPS: &str = "(loop $forever (br $forever)) unreachable";
pub const TRAPS: &str = "unreachable";
pub const ALLOCATES: &str = "(loop $more
    (if (i32.eq (memory.grow (i32.const 16)) (i32.const -1)) (then unreachable))
    (br $more))
    unreachable";
/// An answer with fewer rows than were asked about.
pub const ANSWERS_TOO_LITTLE: &str = "(call $answer (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 0))";
/// An answer of the right length whose every byte is 0x7f.
pub const ANSWERS_NONSENSE: &str = "
    (memory.fill (local.get $rows) (i32.const 0x7f) (local.get $rows_len))
    (call $answer (local.get $rows) (i32.div_u (local.get $rows_len) (i32.const $ROW)) (i32.const 0) (i32.const 0))";
/// An answer that lies outside of the memory.
pub const ANSWERS_FROM_NOWHERE: &str =
    "(call $answer (i32.const -16) (i32.const 4096) (i32.const 0) (i32.const 0))";
/// The first record, unchanged, two times: two rows of zeros.
pub const ANSWERS_ITS_FIRST_TWICE: &str =
    "(call $answer (i32.const 1024) (i32.const 64) (i32.const 0) (i32.const 0))";
/// More bytes than an answer may have.
pub const ANSWERS_TOO_MUCH: &str = "
    (drop (memory.grow (i32.const 512)))
    (call $answer (i32.const 65536) (i32.const 33554432) (i32.const 0) (i32.const 0))";

/// The function that a world exports, the parameters it has beside rows and data, and 32 divided by the bytes of its
/// answer for a row.
pub struct Kind(pub &'static str, &'static str, &'static str);

pub const FILTER: Kind = Kind("filter", "", "32");
pub const PARTITIONER: Kind = Kind("partition", "(param $partitions i32)", "8");
pub const TRANSFORM: Kind = Kind("transform", "", "1");

/// Writes a component of a world that does `body`; its `configure` takes everything but `refuse`.
pub fn write(directory: &Path, name: &str, kind: &Kind, body: &str) -> PathBuf {
    write_bytes(
        directory,
        name,
        &componentize(&module(kind, CONFIGURES, body)).unwrap(),
    )
}

/// Writes a component whose `configure` does `body`.
pub fn write_configured_by(directory: &Path, name: &str, body: &str) -> PathBuf {
    let module = module(&FILTER, body, TRAPS);
    write_bytes(directory, name, &componentize(&module).unwrap())
}

pub fn write_bytes(directory: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = directory.join(format!("{name}.wasm"));
    std::fs::write(&path, bytes).unwrap();
    path
}

fn module(Kind(function, parameters, row): &Kind, configure: &str, body: &str) -> Vec<u8> {
    let body = body.replace("$ROW", row);
    let text = format!(
        r#"(module
          (import "millstream:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
          (memory (export "memory") 2)
          (data (i32.const 16) "'refuse' is no colour")
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
          (func (export "configure") (param $config i32) (param $config_len i32) (result i32) {configure})
          (func (export "{function}")
            (param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32) {parameters}
            (result i32) {body}))"#
    );
    wat::parse_str(text).unwrap()
}

/// Refuses a configuration of six bytes, and says why.
const CONFIGURES: &str = "
    (i32.store (i32.const 0) (i32.eq (local.get $config_len) (i32.const 6)))
    (i32.store (i32.const 4) (i32.const 16))
    (i32.store (i32.const 8) (i32.const 21))
    (i32.const 0)";
