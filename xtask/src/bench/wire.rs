//! The few requests that a load needs, encoded by hand.
//!
//! Not by the project's own codec: what is measured should not be spoken to with the code it is made of, and a
//! produce frame that is encoded once can be sent a million times. Versions without tagged fields, which both servers have.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail, ensure};

/// A connection that sends one request and waits for its answer.
pub struct Client {
    stream: TcpStream,
}

impl Client {
    pub fn connect(address: &str) -> anyhow::Result<Self> {
        Ok(Self {
            stream: connect(address)?,
        })
    }

    fn ask(&mut self, frame: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(frame)?;
        let mut bytes = Vec::new();
        read_frame(&mut self.stream, &mut bytes)?;
        Ok(Answer {
            bytes,
            at: CORRELATION_BYTES,
        })
    }

    /// Brokers that the cluster knows: at least one when it is ready.
    pub fn broker_count(&mut self) -> anyhow::Result<usize> {
        let mut answer = self.ask(&Frame::new(3, 8).i32(0).u8(0).u8(0).u8(0).done())?;
        answer.i32()?;
        Ok(answer.i32()? as usize)
    }

    /// Partitions of `topic` that have a leader.
    pub fn led_partitions(&mut self, topic: &str) -> anyhow::Result<usize> {
        let all = self.partitions_of(topic)?;
        Ok(all.iter().filter(|partition| partition.leader >= 0).count())
    }

    /// Who leads the partitions of `topic`, by index.
    pub fn partitions_of(&mut self, topic: &str) -> anyhow::Result<Vec<Led>> {
        let mut answer = self.ask(&Frame::new(3, 8).i32(1).text(topic).u8(0).u8(0).u8(0).done())?;
        answer.i32()?;
        for _ in 0..answer.i32()? {
            answer.i32()?;
            answer.text()?;
            answer.i32()?;
            answer.text()?;
        }
        answer.text()?;
        answer.i32()?;
        ensure!(
            answer.i32()? == 1,
            "metadata has another number of topics than was asked for"
        );
        answer.i16()?;
        answer.text()?;
        answer.skip(1)?;
        let mut all = Vec::new();
        for _ in 0..answer.i32()? {
            let (error, index, leader, _) = (answer.i16()?, answer.i32()?, answer.i32()?, answer.i32()?);
            let mut in_sync = 0;
            for list in 0..3 {
                let replicas = answer.i32()? as usize;
                answer.skip(4 * replicas)?;
                if list == 1 {
                    in_sync = replicas;
                }
            }
            let leader = if error == 0 { leader } else { -1 };
            all.push((index, Led { leader, in_sync }));
        }
        all.sort_by_key(|(index, _)| *index);
        Ok(all.into_iter().map(|(_, led)| led).collect())
    }

    /// Makes a topic and waits until all of its partitions have a leader.
    pub fn create_topic(
        &mut self,
        name: &str,
        partitions: usize,
        configs: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        self.create_replicated(name, partitions, 1, configs)?;
        // Metadata may be ahead of the broker that it names: ask that one too.
        let deadline = Instant::now() + Duration::from_secs(60);
        for partition in 0..partitions {
            while !self.is_served(name, partition)? {
                ensure!(
                    Instant::now() < deadline,
                    "partition {partition} of {name} is not served"
                );
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// Makes a topic with so many replicas and waits until all of its partitions have a leader.
    pub fn create_replicated(
        &mut self,
        name: &str,
        partitions: usize,
        replicas: usize,
        configs: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let mut frame = Frame::new(19, 4)
            .i32(1)
            .text(name)
            .i32(partitions as i32)
            .i16(replicas as i16)
            .i32(0)
            .i32(configs.len() as i32);
        for (key, value) in configs {
            frame = frame.text(key).text(value);
        }
        let mut answer = self.ask(&frame.i32(30_000).u8(0).done())?;
        answer.i32()?;
        ensure!(answer.i32()? == 1, "one topic was to be created");
        answer.text()?;
        let error = answer.i16()?;
        if error != 0 {
            bail!(
                "topic {name} was not created: error {error}, {}",
                answer.text()?.unwrap_or_default()
            );
        }
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.led_partitions(name)? < partitions {
            ensure!(
                Instant::now() < deadline,
                "the partitions of {name} get no leader"
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn is_served(&mut self, topic: &str, partition: usize) -> anyhow::Result<bool> {
        let answer = self.ask(&fetch(topic, partition, 0, 0))?;
        Ok(fetched(&answer.bytes).is_ok())
    }

    /// The offsets that a group has committed for the partitions of a topic; -1 where there is none, or nobody can tell yet.
    pub fn committed(&mut self, group: &str, topic: &str, partitions: usize) -> anyhow::Result<Vec<i64>> {
        let mut frame = Frame::new(9, 5)
            .text(group)
            .i32(1)
            .text(topic)
            .i32(partitions as i32);
        for partition in 0..partitions {
            frame = frame.i32(partition as i32);
        }
        let mut answer = self.ask(&frame.done())?;
        let mut offsets = vec![-1; partitions];
        answer.i32()?;
        for _ in 0..answer.i32()? {
            answer.text()?;
            for _ in 0..answer.i32()? {
                let (partition, offset, _) = (answer.i32()?, answer.i64()?, answer.i32()?);
                answer.text()?;
                let error = answer.i16()?;
                let place = offsets.get_mut(partition as usize);
                *place.context("a partition that was asked for")? = if error == 0 { offset } else { -1 };
            }
        }
        Ok(offsets)
    }

    /// Where each partition ends: for readers of what is committed, or for those of everything.
    pub fn ends(&mut self, topic: &str, partitions: usize, isolation: Isolation) -> anyhow::Result<Vec<i64>> {
        let mut frame = Frame::new(2, 5)
            .i32(-1)
            .u8(isolation as u8)
            .i32(1)
            .text(topic)
            .i32(partitions as i32);
        for partition in 0..partitions {
            frame = frame.i32(partition as i32).i32(-1).i64(LATEST);
        }
        let mut answer = self.ask(&frame.done())?;
        let mut ends = vec![0; partitions];
        answer.i32()?;
        for _ in 0..answer.i32()? {
            answer.text()?;
            for _ in 0..answer.i32()? {
                let (partition, error) = (answer.i32()?, answer.i16()?);
                ensure!(
                    error == 0,
                    "the end of partition {partition} of {topic}: error {error}"
                );
                answer.i64()?;
                let end = answer.i64()?;
                answer.i32()?;
                *ends
                    .get_mut(partition as usize)
                    .context("a partition that was asked for")? = end;
            }
        }
        Ok(ends)
    }

    /// Deletes a topic.
    pub fn delete_topic(&mut self, name: &str) -> anyhow::Result<()> {
        self.ask(&Frame::new(20, 3).i32(1).text(name).i32(30_000).done())
            .map(|_| ())
    }
}

/// A partition as Metadata tells of it.
#[derive(Debug, Clone, Copy)]
pub struct Led {
    /// Id of the broker; negative where there is none.
    pub leader: i32,
    /// Replicas in sync.
    pub in_sync: usize,
}

pub fn connect(address: &str) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("no connection to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    Ok(stream)
}

/// Reads one frame, without its length, into `bytes`.
pub fn read_frame(stream: &mut impl Read, bytes: &mut Vec<u8>) -> anyhow::Result<()> {
    let mut length = [0; 4];
    stream
        .read_exact(&mut length)
        .context("the server gave no answer")?;
    let length = u32::from_be_bytes(length) as usize;
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
    bytes.truncate(length);
    stream.read_exact(bytes).context("an answer was cut short")
}

/// A produce request, acks=all: `batch` for each of `partitions`.
pub fn produce(topic: &str, partitions: &[usize], batch: &[u8]) -> Vec<u8> {
    let parts: Vec<_> = partitions.iter().map(|partition| (*partition, batch)).collect();
    produce_each(topic, &parts)
}

/// A produce request, acks=all: partitions with a batch for each.
pub fn produce_each(topic: &str, parts: &[(usize, &[u8])]) -> Vec<u8> {
    let mut frame = Frame::new(0, 7)
        .i16(-1)
        .i16(-1)
        .i32(30_000)
        .i32(1)
        .text(topic)
        .i32(parts.len() as i32);
    for (partition, batch) in parts {
        frame = frame.i32(*partition as i32).bytes(batch);
    }
    frame.done()
}

/// Milliseconds since 1970, as records have them.
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}

/// Checks the answer to [`produce`].
pub fn check_produced(bytes: &[u8]) -> anyhow::Result<()> {
    let mut answer = Answer {
        bytes: bytes.to_vec(),
        at: CORRELATION_BYTES,
    };
    for _ in 0..answer.i32()? {
        answer.text()?;
        for _ in 0..answer.i32()? {
            let (partition, error) = (answer.i32()?, answer.i16()?);
            ensure!(
                error == 0,
                "produce to partition {partition} answers error {error}"
            );
            answer.skip(3 * 8)?;
        }
    }
    Ok(())
}

/// A fetch request without a session for one partition. The server answers at once at the end of a partition, too: a
/// wait there would count as time of the fetch.
pub fn fetch(topic: &str, partition: usize, offset: i64, max_bytes: i32) -> Vec<u8> {
    fetch_as(Isolation::Uncommitted, 0, topic, partition, offset, max_bytes)
}

/// The same, of what is committed; the server waits so long for something to come.
pub fn fetch_committed(topic: &str, partition: usize, offset: i64, wait_ms: i32, max_bytes: i32) -> Vec<u8> {
    fetch_as(Isolation::Committed, wait_ms, topic, partition, offset, max_bytes)
}

fn fetch_as(
    isolation: Isolation,
    wait_ms: i32,
    topic: &str,
    partition: usize,
    offset: i64,
    max_bytes: i32,
) -> Vec<u8> {
    let frame = Frame::new(1, 11)
        .i32(-1)
        .i32(wait_ms)
        .i32(1)
        .i32(50 << 20)
        .u8(isolation as u8)
        .i32(0)
        .i32(-1);
    let frame = frame
        .i32(1)
        .text(topic)
        .i32(1)
        .i32(partition as i32)
        .i32(-1)
        .i64(offset)
        .i64(-1)
        .i32(max_bytes);
    frame.i32(0).text("").done()
}

/// What a reader is to see.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub enum Isolation {
    Uncommitted = 0,
    Committed = 1,
}

/// Asks for the end rather than for a time.
const LATEST: i64 = -1;

/// The records in the answer to [`fetch`].
pub fn fetched(bytes: &[u8]) -> anyhow::Result<&[u8]> {
    let mut answer = Answer {
        bytes,
        at: CORRELATION_BYTES,
    };
    answer.i32()?;
    let error = answer.i16()?;
    ensure!(error == 0, "fetch answers error {error}");
    answer.i32()?;
    ensure!(answer.i32()? == 1, "one topic was fetched");
    answer.text()?;
    ensure!(answer.i32()? == 1, "one partition was fetched");
    let (partition, error) = (answer.i32()?, answer.i16()?);
    ensure!(error == 0, "fetch of partition {partition} answers error {error}");
    answer.skip(3 * 8)?;
    let aborted = answer.i32()?.max(0) as usize;
    answer.skip(16 * aborted)?;
    answer.i32()?;
    let length = answer.i32()?.max(0) as usize;
    bytes
        .get(answer.at..answer.at + length)
        .context("the records are cut short")
}

struct Frame {
    bytes: Vec<u8>,
}

impl Frame {
    fn new(key: i16, version: i16) -> Self {
        Self { bytes: vec![0; 4] }
            .i16(key)
            .i16(version)
            .i32(7)
            .text("bench")
    }

    fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    fn i16(self, value: i16) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn i32(self, value: i32) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn i64(self, value: i64) -> Self {
        self.raw(&value.to_be_bytes())
    }

    fn text(self, text: &str) -> Self {
        self.i16(text.len() as i16).raw(text.as_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.i32(bytes.len() as i32).raw(bytes)
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.bytes.extend_from_slice(bytes);
        self
    }

    fn done(mut self) -> Vec<u8> {
        let length = (self.bytes.len() - 4) as u32;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.bytes
    }
}

struct Answer<B = Vec<u8>> {
    bytes: B,
    at: usize,
}

impl<B: AsRef<[u8]>> Answer<B> {
    fn take<const N: usize>(&mut self) -> anyhow::Result<[u8; N]> {
        let taken = self
            .bytes
            .as_ref()
            .get(self.at..)
            .and_then(|rest| rest.first_chunk().copied());
        self.at += N;
        taken.context("an answer is shorter than its fields")
    }

    fn skip(&mut self, bytes: usize) -> anyhow::Result<()> {
        self.at += bytes;
        ensure!(
            self.at <= self.bytes.as_ref().len(),
            "an answer is shorter than its fields"
        );
        Ok(())
    }

    fn i16(&mut self) -> anyhow::Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> anyhow::Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> anyhow::Result<i64> {
        self.take().map(i64::from_be_bytes)
    }

    fn text(&mut self) -> anyhow::Result<Option<String>> {
        let Ok(length) = usize::try_from(self.i16()?) else {
            return Ok(None);
        };
        let start = self.at;
        self.skip(length)?;
        Ok(Some(
            String::from_utf8_lossy(&self.bytes.as_ref()[start..self.at]).into_owned(),
        ))
    }
}

const CORRELATION_BYTES: usize = 4;
