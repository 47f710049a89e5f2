//! What lies between brokers: nothing, a network that loses packets, or one that takes its time.
//!
//! Clients reach brokers directly in any case. Loss is a rule of nftables on what the loopback hands over to the ports by
//! which brokers talk to each other, in a network of this process's own whose loopback has packets as an Ethernet has:
//! else a packet is a train of segments, a longer one for QUIC than for TCP, and the same loss would hit one of them less.
//! Delay is a relay in this process: the kernel's own needs a module that is often not there.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use rustix::thread::UnshareFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::super::server::Kind;

/// The link between brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    Direct,
    /// One packet in a hundred is lost.
    Lossy,
    /// A round trip takes twenty milliseconds more.
    Slow,
}

impl Link {
    /// All of them. The one that loses packets is last: this thread's network is another one from then on.
    pub const ALL: [Self; 3] = [Self::Direct, Self::Slow, Self::Lossy];

    /// Prepares it, for what this thread starts from now on.
    ///
    /// # Errors
    /// What is missing.
    pub fn prepare(self) -> anyhow::Result<()> {
        if self != Self::Lossy {
            return Ok(());
        }
        ensure!(rustix::process::geteuid().is_root(), "losing packets takes root");
        Command::new("nft")
            .arg("--version")
            .output()
            .context("losing packets takes nftables")?;
        // SAFETY: file descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }
            .context("losing packets takes a network of its own")?;
        let set = ["link", "set", "lo", "up", "mtu", "1500", "gso_max_segs", "1"];
        let done = Command::new("ip").args(set).output().context("cannot run ip")?;
        ensure!(
            done.status.success(),
            "ip {}: {}",
            set.join(" "),
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(())
    }
}

/// Rules that lose packets; they go with this value.
pub struct Loss(());

impl Loss {
    /// Loses some of what goes to and comes from these addresses.
    ///
    /// # Errors
    /// The rules cannot be made.
    pub fn of(kind: Kind, addresses: &[String]) -> anyhow::Result<Self> {
        let ports: Vec<&str> = addresses
            .iter()
            .filter_map(|address| address.rsplit(':').next())
            .collect();
        let ports = format!("{{ {} }}", ports.join(", "));
        // Brokers of ours send from the port that they listen on, so every packet has one of them as its destination.
        let sides: &[(&str, &str)] = match kind {
            Kind::Millstream => &[("udp", "dport")],
            Kind::Kafka => &[("tcp", "dport"), ("tcp", "sport")],
        };
        nft(&format!("add table inet {TABLE}"))?;
        let loss = Self(());
        nft(&format!(
            "add chain inet {TABLE} lost {{ type filter hook input priority 0; }}"
        ))?;
        for (protocol, side) in sides {
            nft(&format!(
                "add rule inet {TABLE} lost {protocol} {side} {ports} numgen random mod 100 < 1 drop"
            ))?;
        }
        Ok(loss)
    }
}

impl Drop for Loss {
    fn drop(&mut self) {
        if let Err(error) = nft(&format!("delete table inet {TABLE}")) {
            eprintln!("{error:#}");
        }
    }
}

fn nft(rule: &str) -> anyhow::Result<()> {
    let done = Command::new("nft").arg(rule).output().context("cannot run nft")?;
    if !done.status.success() {
        bail!("nft {rule}: {}", String::from_utf8_lossy(&done.stderr));
    }
    Ok(())
}

/// Lets what comes to `from` arrive at `to` later, and the answers too; to the end of this process.
///
/// # Errors
/// Nobody can listen at `from`.
pub fn delay(kind: Kind, from: &str, to: &str) -> anyhow::Result<()> {
    let (from, to): (SocketAddr, SocketAddr) = (from.parse()?, to.parse()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match kind {
        Kind::Millstream => {
            let socket = runtime.block_on(UdpSocket::bind(from))?;
            thread::spawn(move || runtime.block_on(datagrams(socket, to)));
        }
        Kind::Kafka => {
            let listener = runtime.block_on(TcpListener::bind(from))?;
            thread::spawn(move || runtime.block_on(streams(listener, to)));
        }
    }
    Ok(())
}

/// Datagrams, each sender's through a socket of its own, so that answers find back.
async fn datagrams(socket: UdpSocket, to: SocketAddr) -> io::Result<()> {
    let socket = Arc::new(socket);
    let mut ways: HashMap<SocketAddr, mpsc::Sender<Late>> = HashMap::new();
    let mut bytes = vec![0; 65_536];
    loop {
        let (length, sender) = socket.recv_from(&mut bytes).await?;
        if let Entry::Vacant(way) = ways.entry(sender) {
            let onward = Arc::new(UdpSocket::bind("127.0.0.1:0").await?);
            onward.connect(to).await?;
            let (late, queue) = mpsc::channel(DATAGRAMS_MAX);
            tokio::spawn(send_on(queue, onward.clone(), None));
            let (back, answers) = mpsc::channel(DATAGRAMS_MAX);
            tokio::spawn(send_on(answers, socket.clone(), Some(sender)));
            tokio::spawn(async move {
                let mut bytes = vec![0; 65_536];
                // Nobody listens yet, or any more: the next datagram may find somebody.
                loop {
                    match onward.recv(&mut bytes).await {
                        Ok(length) => drop(back.try_send(Late::new(&bytes[..length]))),
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
            });
            way.insert(late);
        }
        // A queue that is full loses datagrams, as a router does.
        let _ = ways[&sender].try_send(Late::new(&bytes[..length]));
    }
}

async fn send_on(mut queue: mpsc::Receiver<Late>, socket: Arc<UdpSocket>, to: Option<SocketAddr>) {
    while let Some(late) = queue.recv().await {
        sleep_until(late.due).await;
        let _ = match to {
            Some(to) => socket.send_to(&late.bytes, to).await,
            None => socket.send(&late.bytes).await,
        };
    }
}

async fn streams(listener: TcpListener, to: SocketAddr) -> io::Result<()> {
    loop {
        let (near, _) = listener.accept().await?;
        tokio::spawn(async move {
            let far = TcpStream::connect(to).await?;
            near.set_nodelay(true)?;
            far.set_nodelay(true)?;
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(pass(near_in, far_out));
            tokio::spawn(pass(far_in, near_out));
            io::Result::Ok(())
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let (late, mut queue) = mpsc::channel::<Late>(CHUNKS_MAX);
    tokio::spawn(async move {
        while let Some(late) = queue.recv().await {
            sleep_until(late.due).await;
            to.write_all(&late.bytes).await?;
        }
        to.shutdown().await
    });
    let mut bytes = vec![0; 65_536];
    loop {
        let length = from.read(&mut bytes).await?;
        if length == 0 || late.send(Late::new(&bytes[..length])).await.is_err() {
            return Ok(());
        }
    }
}

/// Bytes, and when they go on.
struct Late {
    due: Instant,
    bytes: Vec<u8>,
}

impl Late {
    fn new(bytes: &[u8]) -> Self {
        Self {
            due: Instant::now() + ONE_WAY,
            bytes: bytes.to_vec(),
        }
    }
}

/// Half of what a round trip takes more.
const ONE_WAY: Duration = Duration::from_millis(10);
/// About 64 MiB of the largest datagrams that brokers send.
const DATAGRAMS_MAX: usize = 10_000;
/// 64 MiB.
const CHUNKS_MAX: usize = 1024;
const TABLE: &str = "millstream_bench";
