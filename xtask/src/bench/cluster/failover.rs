//! Leaders that go away, as a producer of librdkafka with its default settings sees it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, ensure};
use millstream_client::{Client, Producer, ProducerConfig, ProducerRecord};
use rustix::process::Signal;

use super::super::BenchArgs;
use super::super::librdkafka;
use super::super::report::Report;
use super::servers::Servers;
use super::{kills as times, throughput};

/// Kills leaders with SIGKILL.
pub fn kills(servers: &mut Servers, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let count = times(servers.kind, args);
    leaders_go(servers, report, "kill-leader", Signal::KILL, count)
}

/// Asks leaders to end.
pub fn stops(servers: &mut Servers, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let count = times(servers.kind, args).min(10);
    leaders_go(servers, report, "stop-leader", Signal::TERM, count)
}

fn leaders_go(
    servers: &mut Servers,
    report: &mut Report,
    name: &str,
    signal: Signal,
    count: usize,
) -> anyhow::Result<()> {
    servers.topic(name, WRITTEN)?;
    // One that writes to all partitions knows all brokers. One that writes to a single one is connected to its leader
    // alone, and librdkafka then looks for another one only with its next look around, which it does once a second.
    let (one, all) = (
        Writer::start(servers, name, 1)?,
        Writer::start(servers, name, WRITTEN)?,
    );
    let own = OwnWriter::start(servers, name)?;
    let mut pauses = [
        ("librdkafka to all partitions", Vec::new()),
        ("librdkafka to one", Vec::new()),
        ("our client", Vec::new()),
    ];
    for _ in 0..count {
        let victim = servers.leader(name, 0)?;
        // Settled, so that every kill meets a cluster that is well.
        thread::sleep(Duration::from_millis(1500));
        let begin = Instant::now();
        let at = now_us();
        servers.nodes[victim].end(signal)?;
        let seen = [&all.acknowledged_us, &one.acknowledged_us, &own.acknowledged_us];
        for (acknowledged_us, (_, pauses)) in seen.into_iter().zip(&mut pauses) {
            pauses.push(pause_after(acknowledged_us, at)?);
        }
        servers.nodes[victim].start_again()?;
        servers.wait_in_sync(name, WRITTEN, Duration::from_secs(120))?;
        // librdkafka stays away from a broker that refused it for up to ten seconds. Were that one the next leader, this
        // would be what is measured.
        thread::sleep(BETWEEN.saturating_sub(begin.elapsed()));
    }
    for (client, pauses) in &mut pauses {
        pauses.sort_by(f64::total_cmp);
        let of = |share: f64| pauses[((pauses.len() - 1) as f64 * share).round() as usize];
        for (figure, share) in [
            ("median pause", 0.5),
            ("95th percentile", 0.95),
            ("longest pause", 1.0),
        ] {
            report.add(
                &format!("{name}, {client}: {figure}"),
                servers.kind,
                "ms",
                of(share),
            );
        }
    }
    report.add(&format!("{name}: times"), servers.kind, "", count as f64);
    one.end()?;
    all.end()?;
    own.end()?;
    servers.client()?.delete_topic(name)
}

/// A broker is away while much is written, and comes back.
pub fn catch_up(servers: &mut Servers, args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let (kind, name) = (servers.kind, "catch-up");
    servers.topic(name, PARTITIONS)?;
    let away = servers.leader(name, 0)?;
    let bytes = miss(servers, args, name, away)?;
    servers.nodes[away].start_again()?;
    let start = Instant::now();
    servers.wait_in_sync(name, PARTITIONS, Duration::from_secs(300))?;
    let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    report.add(&format!("{name}: until in sync"), kind, "MB/s", rate);
    servers.client()?.delete_topic(name)
}

/// The same, where each leader gives only so much to it: what producers to other brokers notice.
pub fn catch_up_throttled(
    servers: &mut Servers,
    args: &BenchArgs,
    report: &mut Report,
) -> anyhow::Result<()> {
    let (kind, name, beside) = (servers.kind, "catch-up-throttled", "catch-up-beside");
    servers.topic(name, PARTITIONS)?;
    servers.topic(beside, PARTITIONS)?;
    let away = servers.leader(name, 0)?;
    // What the others lead stays with them.
    let mut loads = throughput::loads(servers, beside, 1024, 16 << 10)?;
    loads.retain(|load| load.address != servers.nodes[away].address);
    let (share, duration) = (
        BESIDE_RATE / loads.len() as f64,
        Duration::from_secs(args.seconds()),
    );
    let paced = || throughput::together(&loads, |load| load.run_paced(share, duration));
    paced()?;
    let before = paced()?.percentile_ms(0.99);
    let bytes = miss(servers, args, name, away)?;
    servers.throttle(name, Some(LEADER_RATE))?;
    servers.nodes[away].start_again()?;
    let start = Instant::now();
    let meanwhile = paced()?.percentile_ms(0.99);
    let in_sync = servers.client()?.partitions_of(name)?;
    ensure!(
        in_sync
            .iter()
            .any(|partition| partition.in_sync < servers.nodes.len()),
        "it was in sync before the load beside it had ended"
    );
    servers.wait_in_sync(name, PARTITIONS, Duration::from_secs(300))?;
    let rate = bytes as f64 / 1e6 / start.elapsed().as_secs_f64();
    servers.throttle(name, None)?;
    report.add(&format!("{name}: until in sync"), kind, "MB/s", rate);
    report.add(&format!("{name}: p99 before"), kind, "ms", before);
    report.add(&format!("{name}: p99 meanwhile"), kind, "ms", meanwhile);
    servers.client()?.delete_topic(name)?;
    servers.client()?.delete_topic(beside)
}

/// Kills a broker, and fills a topic while it is away. Gives the bytes that it misses.
fn miss(servers: &mut Servers, args: &BenchArgs, topic: &str, away: usize) -> anyhow::Result<u64> {
    servers.nodes[away].end(Signal::KILL)?;
    let gone = away as i32 + 1;
    let deadline = Instant::now() + Duration::from_secs(60);
    while servers
        .client()?
        .partitions_of(topic)?
        .iter()
        .any(|p| p.leader == gone)
    {
        ensure!(
            Instant::now() < deadline,
            "partitions stay with the broker that is gone"
        );
        thread::sleep(Duration::from_millis(50));
    }
    // Other brokers may hear of it a little later than the one that was asked.
    thread::sleep(Duration::from_secs(1));
    let bytes: u64 = if args.quick { 256 << 20 } else { 1 << 30 };
    throughput::fill(servers, topic, bytes)
}

/// A producer that sends without end, and tells when each record of partition 0 was acknowledged.
struct Writer {
    child: Child,
    acknowledged_us: Arc<Mutex<Vec<u64>>>,
    reader: JoinHandle<()>,
}

impl Writer {
    fn start(servers: &Servers, topic: &str, partitions: usize) -> anyhow::Result<Self> {
        let mut child = Command::new(librdkafka::build()?)
            .args(["trickle", &servers.bootstrap(), topic, &partitions.to_string()])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot start the librdkafka load")?;
        let lines = BufReader::new(child.stdout.take().expect("standard output is a pipe")).lines();
        let acknowledged_us: Arc<Mutex<Vec<u64>>> = Arc::default();
        let written = acknowledged_us.clone();
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Ok(time) = line.parse() {
                    written.lock().expect("no panic while held").push(time);
                }
            }
        });
        Ok(Self {
            child,
            acknowledged_us,
            reader,
        })
    }

    fn end(mut self) -> anyhow::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        self.reader.join().ok().context("the reading thread panicked")
    }
}

/// The same with our own client, one record after the other.
struct OwnWriter {
    acknowledged_us: Arc<Mutex<Vec<u64>>>,
    is_done: Arc<AtomicBool>,
    thread: JoinHandle<anyhow::Result<()>>,
}

impl OwnWriter {
    fn start(servers: &Servers, topic: &str) -> anyhow::Result<Self> {
        let acknowledged_us: Arc<Mutex<Vec<u64>>> = Arc::default();
        let is_done: Arc<AtomicBool> = Arc::default();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let config = servers.own_client();
        let (topic, written, ends) = (topic.to_owned(), acknowledged_us.clone(), is_done.clone());
        let thread = thread::spawn(move || {
            runtime.block_on(async {
                let client = Client::connect(config).await?;
                let producer = Producer::new(&client, ProducerConfig::default());
                while !ends.load(Ordering::Relaxed) {
                    let record = ProducerRecord::to(&*topic).partition(0).value("a drop");
                    // What fails is followed by another one: the pause tells of it.
                    if let Ok(delivery) = producer.send(record).await
                        && delivery.await.is_ok()
                    {
                        written.lock().expect("no panic while held").push(now_us());
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                anyhow::Ok(())
            })
        });
        Ok(Self {
            acknowledged_us,
            is_done,
            thread,
        })
    }

    fn end(self) -> anyhow::Result<()> {
        self.is_done.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the writing thread panicked")?
    }
}

fn now_us() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as u64)
}

/// Milliseconds of the longest pause between two acknowledgements since shortly before `at`, once they go on.
fn pause_after(acknowledged_us: &Mutex<Vec<u64>>, at: u64) -> anyhow::Result<f64> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        thread::sleep(Duration::from_millis(1000));
        let times = acknowledged_us.lock().expect("no panic while held").clone();
        let from = times.partition_point(|time| *time < at.saturating_sub(1_000_000));
        // Some were sent before, and acknowledged after it.
        let goes_on = times
            .last()
            .is_some_and(|last| *last > at + 200_000 && now_us() - last < 300_000);
        if goes_on {
            let pauses = times[from..].windows(2).map(|pair| pair[1] - pair[0]);
            let longest = pauses.max().context("there are acknowledgements")?;
            return Ok(longest as f64 / 1e3);
        }
        ensure!(
            Instant::now() < deadline,
            "no acknowledgement for a minute after a leader went"
        );
    }
}

/// From one broker that goes to the next.
const BETWEEN: Duration = Duration::from_secs(12);
/// Partitions of the topic whose leaders go.
const WRITTEN: usize = 6;
/// Partitions of a topic that a broker has to catch up with.
const PARTITIONS: usize = 12;
/// Bytes a second that a leader gives to a broker that catches up, where that is throttled.
const LEADER_RATE: u64 = 50_000_000;
/// Megabytes a second that are produced meanwhile.
const BESIDE_RATE: f64 = 15.0;
