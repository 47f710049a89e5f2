//! What it costs to make 1 KiB in each of many files durable: `fdatasync` each, or one `syncfs`. From it follows
//! `disk::SYNCFS_FROM_FILES`. Takes the directory to measure in; medians of several rounds.

use std::io::IoSlice;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use millstream_storage::disk::{Disk, DiskFile, Open, RealDisk, RealFile};

fn main() -> std::io::Result<()> {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(format!("sync-cost-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    println!("files   fdatasync each   syncfs once");
    for count in [1, 2, 4, 8, 16, 32, 64, 128, 512] {
        let open = |number: usize| RealDisk.open(&dir.join(format!("{number}.log")), Open::Create);
        let files = (0..count).map(open).collect::<std::io::Result<Vec<_>>>()?;
        let each = median(&files, || files.iter().try_for_each(DiskFile::sync))?;
        let once = median(&files, || Ok(rustix::fs::syncfs(files[0].as_fd())?))?;
        println!("{count:5} {each:16.1?} {once:13.1?}");
    }
    std::fs::remove_dir_all(&dir)
}

fn median(files: &[RealFile], mut sync: impl FnMut() -> std::io::Result<()>) -> std::io::Result<Duration> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        for file in files {
            file.write_at(&[IoSlice::new(&[7; 1024])], file.len()?)?;
        }
        let started = Instant::now();
        sync()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[ROUNDS / 2])
}

const ROUNDS: usize = 11;
