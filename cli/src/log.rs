//! `millstream log dump`: what is in segment and index files, ours or Kafka's.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use millstream_kafka::records::{BatchHeader, BatchView, EndTransaction, HEADER_BYTES, Scratch};
use serde_json::{Value, json};

use crate::Global;
use crate::output::Format;
use crate::time::show_time;

/// Log files.
#[derive(Debug, Subcommand)]
pub enum LogCommand {
    /// Shows and checks the batches and index entries of files, without a broker
    #[command(after_help = "Examples:\n  millstream log dump millstream-data/flights-0\n  \
                            millstream log dump --records --output json data/t-0/00000000000000000000.log")]
    Dump(DumpArgs),
}

/// What `log dump` takes.
#[derive(Debug, Args)]
pub struct DumpArgs {
    /// Segment files (.log), index files (.index, .timeindex, .txnindex), or directories with them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
    /// Also shows every record
    #[arg(long)]
    records: bool,
}

/// Runs a command.
pub fn run(global: &Global, command: LogCommand) -> anyhow::Result<()> {
    let LogCommand::Dump(args) = command;
    let mut dump = Dump {
        out: BufWriter::new(std::io::stdout()),
        json: global.output == Format::Json,
        records: args.records,
        damaged: Vec::new(),
    };
    for path in &args.paths {
        for file in files_of(path)? {
            dump.file(&file)
                .with_context(|| format!("cannot read {}", file.display()))?;
        }
    }
    dump.out.flush()?;
    match dump.damaged.first() {
        None => Ok(()),
        Some(first) => bail!("{} damaged places; the first: {first}", dump.damaged.len()),
    }
}

/// The files to show, in order: a file is itself, a directory is its segments and their indexes.
fn files_of(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let about = || format!("cannot read {}", path.display());
    if !std::fs::metadata(path).with_context(about)?.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(about)? {
        let file = entry.with_context(about)?.path();
        if kind(&file).is_some() && is_named_by_offset(&file) {
            files.push(file);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!(
            "{} holds no log files; a partition's directory is named TOPIC-PARTITION",
            path.display()
        );
    }
    Ok(files)
}

/// What a file holds, by its name.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Segment,
    OffsetIndex,
    TimeIndex,
    AbortedTransactions,
}

fn kind(path: &Path) -> Option<Kind> {
    match path.extension()?.to_str()? {
        "log" => Some(Kind::Segment),
        "index" => Some(Kind::OffsetIndex),
        "timeindex" => Some(Kind::TimeIndex),
        "txnindex" => Some(Kind::AbortedTransactions),
        _ => None,
    }
}

/// Whether the name is a base offset, as those of segments and their indexes are. A data directory holds other logs.
fn is_named_by_offset(path: &Path) -> bool {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .is_some_and(|stem| stem.len() == 20 && stem.bytes().all(|byte| byte.is_ascii_digit()))
}

struct Dump {
    out: BufWriter<std::io::Stdout>,
    json: bool,
    records: bool,
    damaged: Vec<String>,
}

impl Dump {
    fn file(&mut self, path: &Path) -> anyhow::Result<()> {
        let Some(kind) = kind(path) else {
            bail!("it is none of .log, .index, .timeindex, .txnindex")
        };
        let file = File::open(path)?;
        if !self.json {
            writeln!(self.out, "{}", path.display())?;
        }
        let input = BufReader::with_capacity(READ_BYTES, file);
        match kind {
            Kind::Segment => self.segment(path, input),
            Kind::OffsetIndex | Kind::TimeIndex => self.index(path, kind, input),
            Kind::AbortedTransactions => self.aborted_transactions(path, input),
        }
    }

    fn segment(&mut self, path: &Path, mut input: impl Read) -> anyhow::Result<()> {
        let mut position = 0_u64;
        let mut next_offset = i64::MIN;
        let mut batch = Vec::new();
        let mut scratch = Scratch::default();
        loop {
            batch.clear();
            input.by_ref().take(HEADER_BYTES as u64).read_to_end(&mut batch)?;
            // Space that was allocated ahead and never written reads as zeros.
            if batch.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let header = match BatchHeader::parse(&batch) {
                Ok(header) => header,
                Err(error) => return self.note_damage(path, position, &error.to_string()),
            };
            let length = header.total_bytes();
            if length > BATCH_BYTES_MAX {
                return self.note_damage(path, position, "a batch claims to be larger than 1 GiB");
            }
            input
                .by_ref()
                .take((length - batch.len()) as u64)
                .read_to_end(&mut batch)?;
            if batch.len() < length {
                return self.note_damage(path, position, "the file ends within a batch");
            }
            if header.base_offset < next_offset {
                self.note_damage(path, position, "offsets do not rise")?;
            }
            next_offset = header.next_offset();
            self.batch(path, position, &batch, &mut scratch)?;
            position += length as u64;
        }
    }

    fn batch(
        &mut self,
        path: &Path,
        position: u64,
        batch: &[u8],
        scratch: &mut Scratch,
    ) -> anyhow::Result<()> {
        let view = BatchView::parse(batch)?;
        let crc = view.verify_crc();
        let header = view.header();
        let mut shown = json!({
            "position": position, "base_offset": header.base_offset, "last_offset": header.last_offset(),
            "records": header.records_count, "bytes": header.total_bytes(), "leader_epoch": header.partition_leader_epoch,
            "max_timestamp": header.max_timestamp, "compression": header.compression().name(),
            "producer_id": header.producer_id, "producer_epoch": header.producer_epoch,
            "base_sequence": header.base_sequence, "transactional": header.attributes.is_transactional(),
            "control": header.attributes.is_control(), "crc_valid": crc.is_ok(),
        });
        if let Some(end) = EndTransaction::of(header, view.payload()) {
            shown["marker"] = json!(if end.is_commit { "commit" } else { "abort" });
            shown["coordinator_epoch"] = json!(end.coordinator_epoch);
        }
        self.show(path, "batch", &shown, "  ")?;
        if let Err(error) = crc {
            return self.note_damage(path, position, &error.to_string());
        }
        match view.records(scratch, BATCH_BYTES_MAX) {
            Err(error) => return self.note_damage(path, position, &error.to_string()),
            Ok(records) => {
                for record in records {
                    let record = match record {
                        Ok(record) => record,
                        Err(error) => return self.note_damage(path, position, &error.to_string()),
                    };
                    if self.records {
                        let headers: Vec<Value> = record
                            .headers
                            .iter()
                            .map(|header| json!([text(Some(header.key)), text(header.value)]))
                            .collect();
                        let shown = json!({
                            "offset": record.offset, "time": show_time(record.timestamp),
                            "key": text(record.key), "value": text(record.value), "headers": headers,
                        });
                        self.show(path, "record", &shown, "    ")?;
                    }
                }
            }
        }
        Ok(())
    }

    fn index(&mut self, path: &Path, kind: Kind, mut input: impl Read) -> anyhow::Result<()> {
        let base: i64 = path
            .file_stem()
            .and_then(|stem| stem.to_str()?.parse().ok())
            .unwrap_or(0);
        let mut last = (i64::MIN, i64::MIN);
        let mut bytes = Vec::new();
        let width = match kind {
            Kind::TimeIndex => TIME_ENTRY_BYTES,
            _ => OFFSET_ENTRY_BYTES,
        };
        for number in 0_u64.. {
            bytes.clear();
            input.by_ref().take(width as u64).read_to_end(&mut bytes)?;
            // Index files are allocated ahead: zeros after the first entry are room, not entries.
            if bytes.is_empty() || number > 0 && bytes.iter().all(|byte| *byte == 0) {
                break;
            }
            if bytes.len() < width {
                return self.note_damage(path, number * width as u64, "the file ends within an entry");
            }
            let (rest, low) = bytes.split_at(width - 4);
            let low = i64::from(i32::from_be_bytes(low.try_into().expect("four bytes")));
            let entry = match kind {
                Kind::TimeIndex => (
                    i64::from_be_bytes(rest.try_into().expect("eight bytes")),
                    base + low,
                ),
                _ => (
                    base + i64::from(i32::from_be_bytes(rest.try_into().expect("four bytes"))),
                    low,
                ),
            };
            let shown = match kind {
                Kind::TimeIndex => json!({"timestamp": entry.0, "offset": entry.1}),
                _ => json!({"offset": entry.0, "position": entry.1}),
            };
            self.show(path, "entry", &shown, "  ")?;
            if entry.0 < last.0 || entry.1 < last.1 {
                self.note_damage(path, number * width as u64, "entries do not rise")?;
            }
            last = entry;
        }
        Ok(())
    }

    fn aborted_transactions(&mut self, path: &Path, mut input: impl Read) -> anyhow::Result<()> {
        let mut last = -1;
        let mut bytes = Vec::new();
        for position in (0_u64..).step_by(ABORTED_ENTRY_BYTES) {
            bytes.clear();
            input
                .by_ref()
                .take(ABORTED_ENTRY_BYTES as u64)
                .read_to_end(&mut bytes)?;
            if bytes.is_empty() {
                break;
            }
            let Some((version, fields)) = bytes
                .split_first_chunk()
                .filter(|_| bytes.len() == ABORTED_ENTRY_BYTES)
            else {
                return self.note_damage(path, position, "the file ends within an entry");
            };
            let field = |number: usize| {
                let field = fields[8 * number..]
                    .first_chunk()
                    .expect("four fields of eight bytes");
                i64::from_be_bytes(*field)
            };
            let shown = json!({
                "version": i16::from_be_bytes(*version), "producer_id": field(0), "first_offset": field(1),
                "last_offset": field(2), "last_stable_offset": field(3),
            });
            self.show(path, "aborted", &shown, "  ")?;
            if field(2) <= last {
                self.note_damage(path, position, "entries do not rise")?;
            }
            last = field(2);
        }
        Ok(())
    }

    fn show(&mut self, path: &Path, kind: &str, shown: &Value, indent: &str) -> anyhow::Result<()> {
        if self.json {
            let mut line = shown.clone();
            line["kind"] = json!(kind);
            line["file"] = json!(path.display().to_string());
            return Ok(writeln!(self.out, "{line}")?);
        }
        let fields = shown
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={value}"));
        Ok(writeln!(
            self.out,
            "{indent}{kind} {}",
            fields.collect::<Vec<_>>().join(" ")
        )?)
    }

    fn note_damage(&mut self, path: &Path, position: u64, reason: &str) -> anyhow::Result<()> {
        self.damaged
            .push(format!("{} at byte {position}: {reason}", path.display()));
        self.show(
            path,
            "damage",
            &json!({"position": position, "reason": reason}),
            "  ",
        )
    }
}

/// Bytes as text; where they are none, in hexadecimal.
fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Bytes read from a file at a time.
const READ_BYTES: usize = 1 << 20;
/// Largest batch that is shown, as stored and decompressed.
const BATCH_BYTES_MAX: usize = 1 << 30;
/// An entry of Kafka's offset index: relative offset, position.
const OFFSET_ENTRY_BYTES: usize = 8;
/// An entry of Kafka's time index: timestamp, relative offset.
const TIME_ENTRY_BYTES: usize = 12;
/// An entry of Kafka's index of aborted transactions: version, producer id, first, last and last stable offset.
const ABORTED_ENTRY_BYTES: usize = 34;
