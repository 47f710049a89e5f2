//! Guests for the tests: a frame with memory, an allocator and the imports, around what a test wants them to do.

use std::sync::{Arc, LazyLock, Mutex};

use millstream_runtime::build::componentize;
use millstream_runtime::{Engine, EngineConfig, Instance, Level, Limits, LogSink, Plugin, Row, RowsBuilder};

/// One engine for all tests: it reserves addresses for many instances.
pub static ENGINE: LazyLock<Engine> = LazyLock::new(|| Engine::new(EngineConfig::default()).unwrap());

/// A filter. `body` sees `$rows`, `$rows_len`, `$data` and `$data_len`, may use the local `$i` and the functions `$answer` and `$log`,
/// and gives the address of its answer.
pub fn filter(body: &str) -> Vec<u8> {
    let parameters = "(param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32)";
    component("filter", parameters, ACCEPT, body)
}

/// A filter with another `configure`, which sees `$config` and `$config_len`.
pub fn filter_configured_by(configure: &str) -> Vec<u8> {
    let parameters = "(param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32)";
    component("filter", parameters, configure, KEEP_ALL)
}

/// A partitioner; `body` also sees `$partitions`.
pub fn partitioner(body: &str) -> Vec<u8> {
    let parameters = "(param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32) (param $partitions i32)";
    component("partition", parameters, ACCEPT, body)
}

/// A transform that answers with the data it got as its rows, and with 8 bytes `abcdefgh` as its data.
pub fn transform_answering_its_data() -> Vec<u8> {
    let parameters = "(param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32)";
    let body = "(call $answer (local.get $data) (local.get $data_len) (i32.const 48) (i32.const 8))";
    component("transform", parameters, ACCEPT, body)
}

/// A transform that sends a record to the last of its sinks, with that sink's name as its value.
pub fn transform_to_its_last_sink() -> Vec<u8> {
    let parameters = "(param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32)";
    let body = "
        (call $sinks (i32.const 600))
        (local.set $i (i32.sub (i32.load (i32.const 604)) (i32.const 1)))
        (memory.fill (i32.const 700) (i32.const 0) (i32.const 32))
        (i32.store16 (i32.const 704) (i32.const 2))
        (i32.store16 (i32.const 706) (local.get $i))
        (local.set $i (i32.add (i32.load (i32.const 600)) (i32.mul (local.get $i) (i32.const 8))))
        (i32.store (i32.const 720) (i32.load offset=4 (local.get $i)))
        (i32.store (i32.const 716) (i32.const 0))
        (call $answer (i32.const 700) (i32.const 32) (i32.load (local.get $i)) (i32.load offset=4 (local.get $i)))";
    let sinks = r#"(import "millstream:plugin/host@0.1.0" "sinks" (func $sinks (param i32)))"#;
    let text =
        text("transform", parameters, ACCEPT, body).replacen("(module", &format!("(module {sinks}"), 1);
    componentize(&wat::parse_str(text).unwrap()).unwrap()
}

/// A transform that answers rows of zeros, so many: unchanged copies of the first record.
pub fn transform_copying_its_first(copies: u32) -> Vec<u8> {
    let parameters = "(param $rows i32) (param $rows_len i32) (param $data i32) (param $data_len i32)";
    let bytes = copies * 32;
    let body = format!(
        "(local.set $i (call $allocate (i32.const 0) (i32.const 0) (i32.const 4) (i32.const {bytes})))
        (memory.fill (local.get $i) (i32.const 0) (i32.const {bytes}))
        (call $answer (local.get $i) (i32.const {bytes}) (i32.const 48) (i32.const 0))"
    );
    component("transform", parameters, ACCEPT, &body)
}

pub fn component(function: &str, parameters: &str, configure: &str, body: &str) -> Vec<u8> {
    componentize(&module(function, parameters, configure, body)).unwrap()
}

pub fn module(function: &str, parameters: &str, configure: &str, body: &str) -> Vec<u8> {
    wat::parse_str(text(function, parameters, configure, body)).unwrap()
}

fn text(function: &str, parameters: &str, configure: &str, body: &str) -> String {
    format!(
        r#"(module
          (import "millstream:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))
          (memory (export "memory") 2)
          (data (i32.const 16) "no such thing")
          (data (i32.const 48) "abcdefgh")
          (global $next (mut i32) (i32.const 65536))
          ;; Memory is taken upwards and given back all at once.
          (func $allocate (export "cabi_realloc") (param i32 i32 i32) (param $length i32) (result i32)
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
          ;; An answer of two lists.
          (func $answer (param i32 i32 i32 i32) (result i32)
            (i32.store (i32.const 0) (local.get 0))
            (i32.store (i32.const 4) (local.get 1))
            (i32.store (i32.const 8) (local.get 2))
            (i32.store (i32.const 12) (local.get 3))
            (global.set $next (i32.const 65536))
            (i32.const 0))
          (func (export "configure") (param $config i32) (param $config_len i32) (result i32) {configure})
          (func (export "{function}") {parameters} (result i32) (local $i i32) {body}))"#
    )
}

/// A `configure` that takes anything.
pub const ACCEPT: &str = "(i32.store (i32.const 0) (i32.const 0)) (i32.const 0)";

/// Keeps every record: the verdicts are written over the rows.
pub const KEEP_ALL: &str = "
    (memory.fill (local.get $rows) (i32.const 1) (i32.div_u (local.get $rows_len) (i32.const 32)))
    (call $answer (local.get $rows) (i32.div_u (local.get $rows_len) (i32.const 32)) (i32.const 0) (i32.const 0))";

/// Rows and data of records with a value each.
pub fn slice(values: &[&str]) -> (RowsBuilder, Vec<u8>) {
    let (mut rows, mut data) = (RowsBuilder::new(), Vec::new());
    for value in values {
        let start = data.len() as u32;
        data.extend_from_slice(value.as_bytes());
        rows.push(&Row {
            timestamp_ms: 0,
            key: None,
            value: Some(start..data.len() as u32),
            headers: 0..0,
        });
    }
    (rows, data)
}

pub fn compile(component: &[u8]) -> Plugin {
    ENGINE.compile(component).unwrap()
}

pub fn start(component: &[u8], limits: &Limits) -> Instance {
    compile(component).instantiate(b"", limits, silence()).unwrap()
}

/// The same for a deployed transform with sinks of these names.
pub fn deploy(component: &[u8], limits: &Limits, sinks: &[&str]) -> Instance {
    let sinks = sinks.iter().map(|name| (*name).to_owned()).collect();
    let plugin = compile(component);
    plugin
        .instantiate_with_sinks(b"", limits, silence(), sinks)
        .unwrap()
}

pub fn silence() -> LogSink {
    Arc::new(|_, _| {})
}

/// What a sink got.
pub type Lines = Arc<Mutex<Vec<(Level, String)>>>;

/// A sink and the lines that it gets.
pub fn listener() -> (LogSink, Lines) {
    let lines = Lines::default();
    let heard = lines.clone();
    let sink = move |level, line: &str| heard.lock().unwrap().push((level, line.to_owned()));
    (Arc::new(sink), lines)
}
