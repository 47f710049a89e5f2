//! How fast one stream is, and what it costs. Run by hand, in a build that is optimised:
//!
//! ```text
//! cargo test --release -p millstream-broker --lib peer::tests::speed -- --ignored --nocapture --test-threads 1
//! ```

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::ids::BrokerId;
use tokio::net::UdpSocket;

use super::two_brokers;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; needs the machine for itself"]
async fn one_stream_on_loopback() {
    let (one, two) = two_brokers();
    let (mut send, mut recv) = one
        .peers
        .open_replication(two.peers.identity().node)
        .await
        .unwrap();
    measure("loopback", &mut send, &mut recv, 1 << 30).await;
    println!("{:?}", one.peers.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures; needs the machine for itself"]
async fn one_stream_over_a_bad_link() {
    for (loss_percent, delay_ms) in [(0, 0), (1, 0), (0, 20), (1, 20)] {
        let (one, two) = two_brokers();
        let delay = Duration::from_millis(delay_ms);
        let relay = relay(two.peers.local_addr(), loss_percent, delay).await;
        let id = BrokerId(2);
        one.peers.set_address(id, Some(relay.to_string()), None);
        let (mut send, mut recv) = one.peers.open_replication(id).await.unwrap();
        let link = format!("{loss_percent} % lost, {delay_ms} ms each way");
        measure(&link, &mut send, &mut recv, 24 << 20).await;
        println!("{:?}", one.peers.stats());
        one.peers.close();
        two.peers.close();
    }
}

/// Sends so many bytes, and waits until the other side says that it has them.
async fn measure(what: &str, send: &mut quinn::SendStream, recv: &mut quinn::RecvStream, bytes: usize) {
    let frame = Bytes::from(vec![0; 1 << 20]);
    let (begin, cpu) = (Instant::now(), cpu());
    let sending = async {
        for _ in 0..bytes >> 20 {
            send.write_chunk(frame.clone()).await.unwrap();
        }
    };
    let hearing = async {
        let mut length = [0; 8];
        while u64::from_be_bytes(length) <= bytes as u64 {
            recv.read_exact(&mut length).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), async { tokio::join!(sending, hearing) })
        .await
        .expect("two minutes are enough");
    let (took, mb) = (begin.elapsed().as_secs_f64(), bytes as f64 / 1e6);
    let cost = (self::cpu() - cpu).as_secs_f64() * 1e3;
    println!(
        "{what}: {:.1} MB/s, {:.2} ms of CPU per MB for both sides",
        mb / took,
        cost / mb
    );
}

/// Passes packets on, later and not all of them.
async fn relay(to: SocketAddr, loss_percent: u64, delay: Duration) -> SocketAddr {
    let front = std::sync::Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = std::sync::Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    for socket in [&front, &back] {
        let _ = socket2::SockRef::from(&**socket).set_recv_buffer_size(8 << 20);
    }
    back.connect(to).await.unwrap();
    let address = front.local_addr().unwrap();
    let (caller_tx, caller) = tokio::sync::watch::channel(None);
    for forth in [true, false] {
        let (front, back) = (front.clone(), back.clone());
        let (caller_tx, caller) = (caller_tx.clone(), caller.clone());
        let (queue, mut due) = tokio::sync::mpsc::channel::<(Instant, Vec<u8>)>(1 << 14);
        let (source, target) = match forth {
            true => (front.clone(), back.clone()),
            false => (back.clone(), front.clone()),
        };
        tokio::spawn(async move {
            let mut packet = vec![0; 65_536];
            let mut seed = 1_u64;
            while let Ok((length, from)) = source.recv_from(&mut packet).await {
                if forth {
                    caller_tx.send_replace(Some(from));
                }
                // Numerical Recipes' generator: which packets are lost is the same in every run.
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                if (seed >> 33) % 100 >= loss_percent {
                    let _ = queue.try_send((Instant::now() + delay, packet[..length].to_vec()));
                }
            }
        });
        tokio::spawn(async move {
            while let Some((when, packet)) = due.recv().await {
                tokio::time::sleep_until(when.into()).await;
                let caller = *caller.borrow();
                let sent = match (forth, caller) {
                    (false, Some(caller)) => target.send_to(&packet, caller).await,
                    _ => target.send(&packet).await,
                };
                if sent.is_err() {
                    return;
                }
            }
        });
    }
    address
}

/// The time that this process has worked.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
