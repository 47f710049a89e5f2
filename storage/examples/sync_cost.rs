//! What it costs to make 1.1 KB in each of many files durable, in five ways: time, and CPU time of this process. From
//! it follow `disk::SYNCFS_FROM_FILES` and `docs/decisions/0001-group-commit-by-syncfs.md`.
//!
//! Takes the directory to measure in. The ways take turns, so that what else the machine does meets all of them.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use io_uring::{IoUring, opcode, types};
use millstream_storage::disk::{Disk, DiskFile, Open, RealDisk, RealFile};

fn main() -> io::Result<()> {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(format!("sync-cost-{}", std::process::id()));
    std::fs::create_dir(&dir)?;
    println!("median (smallest to largest) of {ROUNDS} rounds in ms; CPU time, median");
    println!("files  way              time                       CPU");
    let measured = COUNTS.iter().try_for_each(|count| measure(&dir, *count));
    std::fs::remove_dir_all(&dir)?;
    measured
}

fn measure(dir: &Path, count: usize) -> io::Result<()> {
    let open = |name: String| RealDisk.open(&dir.join(name), Open::Create);
    let files = (0..count)
        .map(|number| open(format!("{number}.log")))
        .collect::<io::Result<Vec<_>>>()?;
    let journal = open("journal".to_owned())?;
    let mut ring = IoUring::new(RING_ENTRIES)?;
    let mut times: Vec<(&str, Vec<(Duration, Duration)>)> = [
        "fdatasync each",
        "16 threads",
        "io_uring",
        "syncfs once",
        "shared journal",
    ]
    .map(|way| (way, Vec::new()))
    .into();
    for _ in 0..ROUNDS {
        for (way, times) in &mut times {
            for file in &files {
                append(file)?;
            }
            let (started, cpu) = (Instant::now(), cpu_time());
            match *way {
                "fdatasync each" => files.iter().try_for_each(DiskFile::sync)?,
                "16 threads" => on_threads(&files)?,
                "io_uring" => through_ring(&mut ring, &files)?,
                "syncfs once" => rustix::fs::syncfs(files[0].as_fd())?,
                // The files themselves are synced later, when the journal is to be cut.
                _ => (0..count)
                    .try_for_each(|_| append(&journal))
                    .and_then(|()| journal.sync())?,
            }
            times.push((started.elapsed(), cpu_time().saturating_sub(cpu)));
            // What the journal left dirty is not the next one's.
            rustix::fs::syncfs(files[0].as_fd())?;
        }
    }
    for (way, mut times) in times {
        let mut cpu: Vec<_> = times.iter().map(|(_, cpu)| *cpu).collect();
        cpu.sort_unstable();
        times.sort_unstable();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (median, least, most) = (times[ROUNDS / 2].0, times[0].0, times[ROUNDS - 1].0);
        println!(
            "{count:5}  {way:15} {:8.2} ({:.2} to {:.2}) {:9.2}",
            ms(median),
            ms(least),
            ms(most),
            ms(cpu[ROUNDS / 2])
        );
    }
    Ok(())
}

fn append(file: &RealFile) -> io::Result<()> {
    file.write_at(&[IoSlice::new(&[7; 1100])], file.len()?).map(drop)
}

fn on_threads(files: &[RealFile]) -> io::Result<()> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                file.sync()?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("a sync does not panic"))
    })
}

fn through_ring(ring: &mut IoUring, files: &[RealFile]) -> io::Result<()> {
    for files in files.chunks(RING_ENTRIES as usize) {
        for file in files {
            let fsync = opcode::Fsync::new(types::Fd(file.as_fd().as_raw_fd()));
            let entry = fsync.flags(types::FsyncFlags::DATASYNC).build();
            // SAFETY: a sync has no buffer, and the file is open until the answer is here.
            unsafe { ring.submission().push(&entry) }.expect("the ring has room for a chunk");
        }
        ring.submit_and_wait(files.len())?;
        for done in ring.completion() {
            if done.result() < 0 {
                return Err(io::Error::from_raw_os_error(-done.result()));
            }
        }
    }
    Ok(())
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

const COUNTS: [usize; 8] = [1, 2, 4, 8, 16, 64, 256, 1000];
const ROUNDS: usize = 15;
const RING_ENTRIES: u32 = 1024;
