//! What the machine can do at best: a loop that hands a file to a socket with `sendfile` and does nothing else.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::sendfile;

use super::BenchArgs;
use super::report::Report;
use super::setup::FETCH_PARTITIONS;

/// Measures the loop over as many connections as the fetch scenario has, in pieces of the size that it fetches.
pub fn measure(args: &BenchArgs, report: &mut Report) -> anyhow::Result<()> {
    let path = args.data.join("sendfile");
    std::fs::create_dir_all(&args.data)?;
    std::fs::write(&path, vec![b'x'; FILE_BYTES])?;
    for _ in 0..args.rounds() {
        let rate = rounds_of(&path, Duration::from_secs(args.seconds()))?;
        report.add_plain("fetch: bare sendfile loop", "MB/s", rate);
    }
    std::fs::remove_file(&path).context("removing the file of the sendfile loop")
}

fn rounds_of(path: &std::path::Path, duration: Duration) -> anyhow::Result<f64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..FETCH_PARTITIONS {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                let Ok(file) = File::open(path) else { return };
                scope.spawn(move || serve(stream, &file));
            }
        });
        let start = Instant::now();
        let readers: Vec<_> = (0..FETCH_PARTITIONS)
            .map(|_| scope.spawn(move || read(TcpStream::connect(address)?, duration)))
            .collect();
        let mut bytes = 0;
        for reader in readers {
            bytes += reader.join().expect("a reader panicked")?;
        }
        Ok(bytes as f64 / 1e6 / start.elapsed().as_secs_f64())
    })
}

/// Answers each byte that is sent with the next piece of the file, until the other side is gone.
fn serve(mut stream: TcpStream, file: &File) {
    let mut at = 0u64;
    let mut request = [0; REQUEST_BYTES];
    while stream.read_exact(&mut request).is_ok() {
        let end = at + PIECE_BYTES;
        while at < end {
            let left = (end - at) as usize;
            match sendfile(&stream, file, Some(&mut at), left) {
                Ok(1..) => {}
                _ => return,
            }
        }
        if at + PIECE_BYTES > FILE_BYTES as u64 {
            at = 0;
        }
    }
}

fn read(mut stream: TcpStream, duration: Duration) -> anyhow::Result<u64> {
    stream.set_nodelay(true)?;
    let mut piece = vec![0; PIECE_BYTES as usize];
    let (start, mut bytes) = (Instant::now(), 0);
    while start.elapsed() < duration {
        stream.write_all(&[0; REQUEST_BYTES])?;
        stream.read_exact(&mut piece)?;
        bytes += PIECE_BYTES;
    }
    Ok(bytes)
}

const FILE_BYTES: usize = 512 << 20;
const PIECE_BYTES: u64 = 1 << 20;
/// About as long as a fetch request.
const REQUEST_BYTES: usize = 100;
