//! `millstream produce`: lines of standard input or of files become records.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use millstream_client::{Acks, Compression, Delivery, Producer, ProducerConfig, ProducerRecord};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::Global;
use crate::output::{Rows, bytes};

/// What `produce` takes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct ProduceArgs {
    /// Topic to send to
    topic: String,
    /// Files to read instead of standard input
    files: Vec<PathBuf>,
    /// Splits each line into key and value at the first such text
    #[arg(long, short, value_name = "TEXT", conflicts_with = "key_pointer")]
    key_separator: Option<String>,
    /// Takes the key from each line's JSON, such as /carrier
    #[arg(long, value_name = "POINTER")]
    key_pointer: Option<String>,
    /// Header of every record; may be repeated
    #[arg(long = "header", short = 'H', value_name = "NAME=VALUE", value_parser = crate::topic::parse_pair)]
    headers: Vec<(String, String)>,
    /// Sends to this partition, whatever the key
    #[arg(long, short)]
    partition: Option<i32>,
    /// Sends a value that is this text as null, which deletes the key in a compacted topic
    #[arg(long, value_name = "TEXT")]
    null: Option<String>,
    /// Compression of batches
    #[arg(long, short = 'z', default_value = "none")]
    compression: Codec,
    /// Copies that must exist before a record counts as sent
    #[arg(long, default_value = "all")]
    acks: AcksArg,
    /// How long a batch waits for more records, in milliseconds
    #[arg(long, default_value_t = 5, value_name = "MS")]
    linger: u64,
    /// Size at which a batch is sent at once, in bytes
    #[arg(long, default_value_t = 256 * 1024, value_name = "BYTES")]
    batch_size: usize,
    /// Fails if the topic does not exist, also where the broker would create it
    #[arg(long)]
    no_create: bool,
    /// Shows no progress
    #[arg(long, short)]
    quiet: bool,
}

/// Codecs by name.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Acknowledgements by Kafka's names.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum AcksArg {
    /// Every in-sync replica has it on disk
    All,
    /// The leader has it
    #[value(name = "1")]
    One,
    /// Nobody says anything
    #[value(name = "0")]
    Zero,
}

/// Sends what it is given, and says what became of it.
pub async fn run(global: &Global, args: ProduceArgs) -> anyhow::Result<()> {
    let client = global.connect().await?;
    let config = ProducerConfig {
        acks: match args.acks {
            AcksArg::All => Acks::All,
            AcksArg::One => Acks::Leader,
            AcksArg::Zero => Acks::None,
        },
        compression: match args.compression {
            Codec::None => Compression::None,
            Codec::Gzip => Compression::Gzip,
            Codec::Snappy => Compression::Snappy,
            Codec::Lz4 => Compression::Lz4,
            Codec::Zstd => Compression::Zstd,
        },
        linger: Duration::from_millis(args.linger),
        batch_bytes: args.batch_size.max(1),
        create_topics: !args.no_create,
        // How large a record may be is for its topic to say.
        record_bytes_max: LINE_BYTES_MAX as usize,
        ..ProducerConfig::default()
    };
    if args.files.is_empty() && io::stdin().is_terminal() {
        eprintln!("reading lines from the terminal; Ctrl-D ends");
    }
    let producer = Producer::new(&client, config);
    let mut sent = Sent::new(args.progress());
    let mut lines = read_lines(args.files.clone());
    while let Some(line) = lines.recv().await {
        let line = line?;
        let record = args.record(&line, sent.lines + 1)?;
        let bytes = line.len() as u64;
        sent.note(bytes, producer.send(record).await?).await?;
    }
    producer.flush().await?;
    sent.finish(global).await
}

impl ProduceArgs {
    /// What is shown meanwhile on the terminal, if there is one: how much of the files is sent, or how many records
    /// where there is no telling how many there will be.
    fn progress(&self) -> Progress {
        let typed = self.files.is_empty() && io::stdin().is_terminal();
        if self.quiet || typed || !io::stderr().is_terminal() {
            return Progress::of(ProgressBar::hidden(), "", false);
        }
        let sizes = self.files.iter().map(|path| {
            let about = std::fs::metadata(path).ok()?;
            about.is_file().then_some(about.len())
        });
        match sizes.sum::<Option<u64>>() {
            Some(size) if size > 0 => Progress::of(
                ProgressBar::new(size),
                "{bar:30} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
                true,
            ),
            _ => Progress::of(
                ProgressBar::no_length(),
                "{spinner} {human_pos} records in {elapsed}",
                false,
            ),
        }
    }

    fn record(&self, line: &Bytes, number: u64) -> anyhow::Result<ProducerRecord> {
        let mut record = ProducerRecord::to(&self.topic);
        let mut value = line.clone();
        if let Some(separator) = &self.key_separator {
            let at = find(line, separator.as_bytes())
                .with_context(|| format!("line {number} has no '{separator}' between key and value"))?;
            record = record.key(line.slice(..at));
            value = line.slice(at + separator.len()..);
        }
        if let Some(pointer) = &self.key_pointer {
            let parsed: Value =
                serde_json::from_slice(line).with_context(|| format!("line {number} is not JSON"))?;
            match parsed.pointer(pointer) {
                Some(Value::String(key)) => record = record.key(key.clone()),
                Some(key) if !key.is_null() => record = record.key(key.to_string()),
                _ => bail!("line {number} has nothing at {pointer}"),
            }
        }
        if self
            .null
            .as_ref()
            .is_none_or(|null| null.as_bytes() != &value[..])
        {
            record = record.value(value);
        }
        if let Some(partition) = self.partition {
            record = record.partition(partition);
        }
        for (name, value) in &self.headers {
            record = record.header(name, Some(Bytes::from(value.clone())));
        }
        Ok(record)
    }
}

/// What was sent so far, and the receipts that are still due.
struct Sent {
    begun: Instant,
    lines: u64,
    bytes: u64,
    by_partition: BTreeMap<i32, u64>,
    due: VecDeque<Delivery>,
    progress: Progress,
}

/// A line on the terminal that moves with what was sent.
struct Progress {
    bar: ProgressBar,
    in_bytes: bool,
}

impl Progress {
    fn of(bar: ProgressBar, template: &str, in_bytes: bool) -> Self {
        if !bar.is_hidden() {
            let style = ProgressStyle::with_template(template);
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(PROGRESS_TICK);
        }
        Self { bar, in_bytes }
    }
}

impl Sent {
    fn new(progress: Progress) -> Self {
        Self {
            begun: Instant::now(),
            lines: 0,
            bytes: 0,
            by_partition: BTreeMap::new(),
            due: VecDeque::new(),
            progress,
        }
    }

    async fn note(&mut self, bytes: u64, delivery: Delivery) -> anyhow::Result<()> {
        self.lines += 1;
        self.bytes += bytes;
        self.due.push_back(delivery);
        if self.lines.is_multiple_of(PROGRESS_STEP) {
            // In a file a line break follows each line.
            let in_file = self.bytes + self.lines;
            self.progress.bar.set_position(if self.progress.in_bytes {
                in_file
            } else {
                self.lines
            });
        }
        while self.due.len() > RECEIPTS_DUE_MAX {
            self.settle_oldest().await?;
        }
        Ok(())
    }

    async fn settle_oldest(&mut self) -> anyhow::Result<()> {
        if let Some(delivery) = self.due.pop_front() {
            let receipt = delivery.await?;
            *self.by_partition.entry(receipt.partition).or_default() += 1;
        }
        Ok(())
    }

    async fn finish(mut self, global: &Global) -> anyhow::Result<()> {
        while !self.due.is_empty() {
            self.settle_oldest().await?;
        }
        self.progress.bar.finish_and_clear();
        let seconds = self.begun.elapsed().as_secs_f64();
        let rate = (self.lines as f64 / seconds.max(1e-3)) as u64;
        let mut rows = Rows::new(&["records", "bytes", "partitions", "seconds", "records_per_second"]);
        let size = match global.output {
            crate::output::Format::Table => json!(bytes(self.bytes)),
            crate::output::Format::Json => json!(self.bytes),
        };
        let seconds = (seconds * 1000.0).round() / 1000.0;
        rows.push([
            json!(self.lines),
            size,
            json!(self.by_partition.len()),
            json!(seconds),
            json!(rate),
        ]);
        Ok(rows.print_one(global.output)?)
    }
}

/// Reads lines on a thread of their own: standard input has no better way. Empty lines are left out.
fn read_lines(files: Vec<PathBuf>) -> mpsc::Receiver<anyhow::Result<Bytes>> {
    let (lines, queue) = mpsc::channel(LINES_WAITING_MAX);
    std::thread::spawn(move || {
        let outcome = if files.is_empty() {
            send_lines(io::stdin().lock(), "standard input", &lines)
        } else {
            files.iter().try_for_each(|path| {
                let name = path.display().to_string();
                let file = std::fs::File::open(path).with_context(|| format!("cannot read {name}"))?;
                send_lines(io::BufReader::new(file), &name, &lines)
            })
        };
        if let Err(error) = outcome {
            // The other end is gone only when the command has failed already.
            let _ = lines.blocking_send(Err(error));
        }
    });
    queue
}

fn send_lines(
    mut input: impl BufRead,
    name: &str,
    lines: &mpsc::Sender<anyhow::Result<Bytes>>,
) -> anyhow::Result<()> {
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = &mut io::Read::take(&mut input, LINE_BYTES_MAX + 1);
        limited
            .read_until(b'\n', &mut line)
            .with_context(|| format!("cannot read {name}"))?;
        if line.is_empty() {
            return Ok(());
        }
        if line.len() as u64 > LINE_BYTES_MAX {
            bail!("{name} has a line of more than {}", bytes(LINE_BYTES_MAX));
        }
        let end = line_end(&line);
        if end > 0
            && lines
                .blocking_send(Ok(Bytes::copy_from_slice(&line[..end])))
                .is_err()
        {
            return Ok(());
        }
    }
}

/// Where a line ends, without its line break.
fn line_end(line: &[u8]) -> usize {
    let end = line.strip_suffix(b"\n").map_or(line.len(), <[u8]>::len);
    line[..end].strip_suffix(b"\r").map_or(end, <[u8]>::len)
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    if needle.is_empty() {
        None
    } else {
        haystack.windows(needle.len()).position(|window| window == needle)
    }
}

/// Lines read ahead of being sent.
const LINES_WAITING_MAX: usize = 4096;
/// Longest line that is read.
const LINE_BYTES_MAX: u64 = 64 << 20;
/// Receipts that may be due before the next line is sent.
const RECEIPTS_DUE_MAX: usize = 100_000;
/// Records between two updates of the progress line.
const PROGRESS_STEP: u64 = 512;
/// Pause between two drawings of it.
const PROGRESS_TICK: Duration = Duration::from_millis(100);

const EXAMPLE: &str = "\
Examples:
  millstream produce flights < flights.jsonl
  millstream produce flights flights.jsonl --key-pointer /carrier -z lz4
  echo 'UA:{\"dep_delay\":12}' | millstream produce flights -k :";
