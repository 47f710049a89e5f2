//! What it costs to decode produce requests, by our codec and by the crate `kafka-protocol`, and how much memory a few bytes
//! that lie about a count make each ask for: `cargo run --release -p millstream-kafka --example decode_cost`.
//!
//! The two take turns; what is told is the median of each, with its 10th and 90th percentile, and the allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::error::Error;
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::Decodable;
use millstream_kafka::api::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use millstream_kafka::wire::{Chunk, Message, Payload, Reader, Writer};

fn main() -> Result<(), Box<dyn Error>> {
    println!(
        "{:>10} {:>32} {:>32}",
        "partitions", "ours: ns, allocations", "kafka-protocol"
    );
    for partitions in [1, 16, 1000] {
        let bytes = request(partitions)?;
        let (mut of_ours, mut of_theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            of_ours.push(time(&bytes, partitions, |bytes| decode_ours(bytes).is_ok()));
            of_theirs.push(time(&bytes, partitions, |bytes| decode_theirs(bytes).is_ok()));
        }
        println!("{partitions:>10} {:>32} {:>32}", told(of_ours), told(of_theirs));
    }
    let lie = lie();
    println!("\n{} bytes that say that {LIE} topics follow:", lie.len());
    for (name, decode) in [
        ("ours", decode_ours as fn(Bytes) -> _),
        ("kafka-protocol", decode_theirs),
    ] {
        LARGEST.store(0, Relaxed);
        let verdict = if decode(lie.clone()).is_err() {
            "refused"
        } else {
            "accepted"
        };
        println!(
            "{name:>16}: {verdict}, {} bytes asked for at once",
            LARGEST.load(Relaxed)
        );
    }
    Ok(())
}

fn decode_ours(bytes: Bytes) -> Result<(), Box<dyn Error>> {
    black_box(ProduceRequest::decode(&mut Reader::new(bytes), VERSION)?);
    Ok(())
}

fn decode_theirs(mut bytes: Bytes) -> Result<(), Box<dyn Error>> {
    black_box(theirs::ProduceRequest::decode(&mut bytes, VERSION)?);
    Ok(())
}

/// A request with one batch of 1 KiB for each partition of one topic.
fn request(partitions: usize) -> Result<Bytes, Box<dyn Error>> {
    let batch = |index| PartitionProduceData {
        index: index as i32,
        records: Some(Payload::Bytes(Bytes::from(vec![7; 1024]))),
    };
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: "flights".into(),
            partition_data: (0..partitions).map(batch).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    let mut writer = Writer::new();
    request.encode(&mut writer, VERSION)?;
    let chunks = writer.finish();
    let parts = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Bytes(bytes) => Some(&bytes[..]),
        Chunk::External { .. } => None,
    });
    Ok(parts.collect::<Vec<_>>().concat().into())
}

/// No transaction, acks, a timeout, and a count of topics that are not there.
fn lie() -> Bytes {
    let mut bytes = vec![0, 0xff, 0xff];
    bytes.extend_from_slice(&30_000_i32.to_be_bytes());
    let mut count = LIE + 1;
    while count > 0x7f {
        bytes.push(count as u8 | 0x80);
        count >>= 7;
    }
    bytes.push(count as u8);
    bytes.into()
}

/// Nanoseconds of one decoding, and its allocations.
fn time(bytes: &Bytes, partitions: usize, decode: impl Fn(Bytes) -> bool) -> (f64, usize) {
    let turns = 20_000 / partitions.max(10);
    let before = COUNT.load(Relaxed);
    let begun = Instant::now();
    for _ in 0..turns {
        assert!(decode(black_box(bytes.clone())), "the request is valid");
    }
    let took = begun.elapsed().as_nanos() as f64 / turns as f64;
    (took, (COUNT.load(Relaxed) - before) / turns)
}

fn told(mut readings: Vec<(f64, usize)>) -> String {
    readings.sort_by(|one, other| one.0.total_cmp(&other.0));
    let at = |share: usize| readings[readings.len() * share / 10];
    let (median, allocations) = at(5);
    format!("{median:.0} ({:.0} to {:.0}), {allocations}", at(1).0, at(9).0)
}

/// The system's allocator, which counts what it is asked for. One thread runs here, so nothing has to be added atomically.
struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);
static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is passed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.store(COUNT.load(Relaxed) + 1, Relaxed);
        LARGEST.store(LARGEST.load(Relaxed).max(layout.size()), Relaxed);
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract, which is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The version that librdkafka sends: the newer, flexible encoding.
const VERSION: i16 = 10;
/// Small enough to be had on most machines; a client may say two thousand times as much.
const LIE: u32 = 1_000_000;
const ROUNDS: usize = 101;
