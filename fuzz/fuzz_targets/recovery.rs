//! A log whose files were damaged: opening it tells so or mends it, never panics; what opens can be read,
//! written to, and opened again.

#![no_main]

use std::fs;
use std::path::{Path, PathBuf};

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_kafka::records::BatchBuilder;
use millstream_storage::disk::RealDisk;
use millstream_storage::{Log, LogConfig};

#[derive(Debug, Arbitrary)]
enum Damage {
    Flip { file: u8, at: u16, bits: u8 },
    Cut { file: u8, at: u16 },
    Extend { file: u8, bytes: Vec<u8> },
    Remove { file: u8 },
}

fuzz_target!(|input: (u8, bool, Vec<Damage>)| {
    let (batches, in_order, damages) = input;
    let folder = Folder::new();
    let mut log = open(&folder.0).expect("an empty folder can be opened");
    append(&mut log, batches % 16 + 1);
    if in_order {
        log.close().expect("a sound log can be closed");
    }
    drop(log);
    damages.iter().take(8).for_each(|damage| inflict(&folder.0, damage));
    let Some(mut log) = open(&folder.0) else { return };
    let _ = log.verify();
    let _ = log.read(log.log_start_offset(), 1 << 20, log.log_end_offset(), true);
    append(&mut log, 2);
    let end = log.log_end_offset();
    log.sync().expect("a log that opened can be flushed");
    drop(log);
    let log = open(&folder.0).expect("what was mended once stays sound");
    assert_eq!(log.log_end_offset(), end);
});

fn open(folder: &Path) -> Option<Log<RealDisk>> {
    let config = LogConfig { segment_bytes: 600, index_interval_bytes: 64, ..LogConfig::default() };
    Log::open(RealDisk, folder, config, NOW_MS).ok().map(|(log, _)| log)
}

fn append(log: &mut Log<RealDisk>, batches: u8) {
    for number in 0..batches {
        let mut batch = BatchBuilder::new();
        batch.append(NOW_MS, Some(&[number]), Some(b"value"), &[]).expect("a small record fits");
        let batch = batch.finish().expect("a small batch can be built");
        log.append_as_leader(&batch, LeaderEpoch(1), NOW_MS).expect("a sound log takes a batch");
    }
    let _: Offset = log.log_end_offset();
}

fn inflict(folder: &Path, damage: &Damage) {
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path()).collect();
    files.sort();
    let pick = |file: &u8| files.get(usize::from(*file) % files.len().max(1)).filter(|path| path.is_file());
    let (Damage::Flip { file, .. } | Damage::Cut { file, .. } | Damage::Extend { file, .. } | Damage::Remove { file }) =
        damage;
    let Some(path) = pick(file) else { return };
    let mut bytes = fs::read(path).expect("a file can be read");
    let length = bytes.len().max(1);
    match damage {
        Damage::Flip { at, bits, .. } => {
            if let Some(byte) = bytes.get_mut(usize::from(*at) % length) {
                *byte ^= bits;
            }
        }
        Damage::Cut { at, .. } => bytes.truncate(usize::from(*at) % length),
        Damage::Extend { bytes: more, .. } => bytes.extend_from_slice(more),
        Damage::Remove { .. } => {
            fs::remove_file(path).expect("a file can be removed");
            return;
        }
    }
    fs::write(path, bytes).expect("a file can be written");
}

/// A folder of this process, in memory where there is such a place: a disk would be what is waited for.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = place.join(format!("millstream-fuzz-{}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a folder can be made");
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const NOW_MS: i64 = 1_700_000_000_000;
