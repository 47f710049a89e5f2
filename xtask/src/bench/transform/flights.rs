//! The records that go into a transform: flights in JSON of [`VALUE_BYTES`], by aircraft.

use std::fmt::Write as _;
use std::io::Write as _;
use std::thread;

use millstream_kafka::partition_of_key;
use millstream_kafka::records::BatchBuilder;

use super::super::wire;
use super::PARTITIONS;

/// A batch for a partition.
pub struct Batch {
    pub bytes: Vec<u8>,
    /// Flights that are late, which stay.
    pub late: u64,
}

/// What a topic was filled with.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filled {
    pub records: u64,
    pub late: u64,
}

/// Makes flights that are all different.
pub struct Flights {
    random: u64,
}

impl Flights {
    pub fn new(seed: u64) -> Self {
        Self {
            random: 0x9e37_79b9_7f4a_7c15 ^ (seed << 7),
        }
    }

    /// So many, with keys that belong to the partition: Kafka's clients would write them there.
    pub fn batch(&mut self, partition: usize, records: usize, timestamp_ms: i64) -> anyhow::Result<Batch> {
        let mut builder = BatchBuilder::new();
        let mut late = 0;
        for _ in 0..records {
            let delay = self.pick(100);
            late += u64::from(delay > LATE_MINUTES);
            let key = self.key(partition);
            let value = self.value(&key, delay)?;
            builder.append(timestamp_ms, Some(key.as_bytes()), Some(value.as_bytes()), &[])?;
        }
        let bytes = builder.finish()?.to_vec();
        Ok(Batch { bytes, late })
    }

    fn key(&mut self, partition: usize) -> String {
        loop {
            let key = format!("N{:05}", self.pick(100_000));
            if partition_of_key(key.as_bytes(), PARTITIONS as i32) == partition as i32 {
                return key;
            }
        }
    }

    fn value(&mut self, tail: &str, delay: u64) -> anyhow::Result<String> {
        let (flight, gate) = (self.pick(9973), self.pick(60));
        let carrier = CARRIERS[self.pick(CARRIERS.len() as u64) as usize];
        let destination = DESTINATIONS[self.pick(DESTINATIONS.len() as u64) as usize];
        let mut value = format!(
            r#"{{"flight":{flight},"carrier":"{carrier}","origin":"EWR","destination":"{destination}","delay":{delay},"tail":"{tail}","gate":"C{gate}","remarks":""#
        );
        while value.len() < VALUE_BYTES {
            write!(value, "{} ", REMARKS[self.pick(REMARKS.len() as u64) as usize])?;
        }
        value.truncate(VALUE_BYTES - 2);
        value.push_str(r#""}"#);
        Ok(value)
    }

    fn pick(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 33) % below
    }
}

/// Fills all partitions of a topic with about so many records, in batches as Kafka's producer makes them.
pub fn fill(address: &str, topic: &str, records: u64) -> anyhow::Result<Filled> {
    let batches = (records as usize / PARTITIONS / BATCH_RECORDS).max(1);
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..PARTITIONS)
            .map(|partition| scope.spawn(move || fill_partition(address, topic, partition, batches)))
            .collect();
        let joined = threads
            .into_iter()
            .map(|thread| thread.join().expect("a writer panicked"));
        joined.collect::<anyhow::Result<Vec<_>>>()
    })?;
    Ok(parts.iter().fold(Filled::default(), |all, part| Filled {
        records: all.records + part.records,
        late: all.late + part.late,
    }))
}

fn fill_partition(address: &str, topic: &str, partition: usize, batches: usize) -> anyhow::Result<Filled> {
    let mut flights = Flights::new(partition as u64 + 1);
    let frames = (0..batches.min(DISTINCT_BATCHES)).map(|_| {
        let batch = flights.batch(partition, BATCH_RECORDS, wire::now_ms())?;
        Ok((wire::produce(topic, &[partition], &batch.bytes), batch.late))
    });
    let frames = frames.collect::<anyhow::Result<Vec<_>>>()?;
    let mut stream = wire::connect(address)?;
    let (mut filled, mut answer, mut in_flight) = (Filled::default(), Vec::new(), 0);
    for (frame, late) in frames.iter().cycle().take(batches) {
        stream.write_all(frame)?;
        in_flight += 1;
        filled.records += BATCH_RECORDS as u64;
        filled.late += late;
        if in_flight == IN_FLIGHT {
            wire::read_frame(&mut stream, &mut answer)?;
            wire::check_produced(&answer)?;
            in_flight -= 1;
        }
    }
    for _ in 0..in_flight {
        wire::read_frame(&mut stream, &mut answer)?;
        wire::check_produced(&answer)?;
    }
    Ok(filled)
}

/// Bytes of a value.
const VALUE_BYTES: usize = 200;
/// Later than this is late, for the transforms as well.
const LATE_MINUTES: u64 = 49;
/// 16 KiB: what Kafka's producer sends where nobody says otherwise.
const BATCH_RECORDS: usize = 75;
/// Batches of a partition that are made, and written again and again.
const DISTINCT_BATCHES: usize = 40;
/// Requests that are on their way on a connection.
const IN_FLIGHT: usize = 5;
const CARRIERS: [&str; 8] = ["UA", "AA", "B6", "DL", "EV", "MQ", "US", "WN"];
const DESTINATIONS: [&str; 12] = [
    "IAH", "MIA", "BQN", "ATL", "ORD", "FLL", "IAD", "MCO", "PBI", "TPA", "LAX", "SFO",
];
const REMARKS: [&str; 8] = [
    "boarding", "delayed", "catering", "weather", "crew", "fuelling", "cleared", "deicing",
];
