//! Notices at once that another broker may have ended: by a connection to its port for clients over which nothing is
//! said, and which the other's kernel closes with the process.
//!
//! That proves nothing, for connections also break in other ways. So it has the [`probe`](super::probe) look at once, and
//! answers to clients wait a moment that would name that broker as a leader. A client's connection to a leader that was
//! killed closes at the same time, and it asks at once who leads: were it told what was so a moment ago, it would not ask
//! again for long, librdkafka for up to a second.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use millstream_core::cluster::Image;
use millstream_core::ids::BrokerId;
use rustix::net::{RecvFlags, recv};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::cluster::Member;

/// The connections to other brokers.
#[derive(Debug, Default)]
pub struct Tripwires(Mutex<BTreeMap<BrokerId, Wire>>);

#[derive(Debug)]
struct Wire {
    address: (String, u16),
    state: State,
    watcher: AbortHandle,
}

#[derive(Debug)]
enum State {
    /// There was none yet, or it is long ago that it broke.
    None,
    Up(Arc<TcpStream>),
    Cut(Instant),
}

impl Tripwires {
    /// Brokers whose connection broke not long ago.
    fn cut(&self, now: Instant) -> Vec<BrokerId> {
        let mut wires = self.lock();
        let mut cut = Vec::new();
        for (id, wire) in wires.iter_mut() {
            // It may have broken without anybody having been woken yet.
            if matches!(&wire.state, State::Up(stream) if is_closed(stream)) {
                wire.state = State::Cut(now);
            }
            if matches!(wire.state, State::Cut(at) if now.saturating_duration_since(at) < HOLD) {
                cut.push(*id);
            }
        }
        cut
    }

    fn set(&self, id: BrokerId, state: State) {
        if let Some(wire) = self.lock().get_mut(&id) {
            wire.state = state;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<BrokerId, Wire>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member {
    /// Keeps a connection to each other broker as long as this one runs.
    pub async fn lay_tripwires(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let mut decided = self.decided.clone();
        loop {
            let wanted = others(&decided.borrow_and_update(), self.me);
            self.lay(&wanted);
            tokio::select! {
                changed = decided.changed() => if changed.is_err() { break },
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
        }
        self.lay(&BTreeMap::new());
    }

    fn lay(self: &Arc<Self>, wanted: &BTreeMap<BrokerId, (String, u16)>) {
        let mut wires = self.tripwires.lock();
        wires.retain(|id, wire| {
            let stays = wanted.get(id) == Some(&wire.address);
            if !stays {
                wire.watcher.abort();
            }
            stays
        });
        for (id, address) in wanted {
            wires.entry(*id).or_insert_with(|| Wire {
                address: address.clone(),
                state: State::None,
                watcher: tokio::spawn(watch(Arc::downgrade(self), *id, address.clone())).abort_handle(),
            });
        }
    }

    /// Waits until it is decided what becomes of brokers that may have ended a moment ago, though not for long.
    pub async fn leaders_are_settled(&self) {
        let begun = Instant::now();
        loop {
            let cut = self.tripwires.cut(Instant::now());
            let image = self.in_force.image();
            let serves = |id: &BrokerId| image.brokers().get(id).is_some_and(|broker| !broker.fenced);
            if !cut.iter().any(serves) || begun.elapsed() > HOLD {
                return;
            }
            self.look_now.notify_one();
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Where clients reach the other brokers. Also those that do not serve: that one broke counts until this broker acts on
/// what was decided about it.
fn others(image: &Image, me: BrokerId) -> BTreeMap<BrokerId, (String, u16)> {
    let brokers = image.brokers().values();
    let others = brokers.filter(|broker| broker.id != me && broker.peer.is_some());
    others
        .map(|broker| (broker.id, (broker.host.clone(), broker.port)))
        .collect()
}

async fn watch(member: Weak<Member>, id: BrokerId, address: (String, u16)) {
    loop {
        let connected = tokio::time::timeout(CONNECT_WAIT, TcpStream::connect(&address)).await;
        let Ok(Ok(stream)) = connected else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // A process that dies closes its connections before what they come in by: it may still let this one in.
        if tokio::time::timeout(PROBATION, until_closed(&stream))
            .await
            .is_err()
        {
            let stream = Arc::new(stream);
            let Some(owner) = member.upgrade() else { return };
            owner.tripwires.set(id, State::Up(stream.clone()));
            drop(owner);
            until_closed(&stream).await;
            let Some(owner) = member.upgrade() else { return };
            owner.tripwires.set(id, State::Cut(Instant::now()));
            owner.look_now.notify_one();
        }
        tokio::time::sleep(FIRST_PAUSE).await;
    }
}

async fn until_closed(stream: &TcpStream) {
    let mut bytes = [0; 64];
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        match stream.try_read(&mut bytes) {
            Ok(0) => return,
            // Nobody speaks here without being asked.
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

/// Whether the other side has closed it, as the system knows at this moment.
fn is_closed(stream: &TcpStream) -> bool {
    let mut byte = [0; 1];
    match recv(stream, &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, received)) => received == 0,
        Err(error) => error != rustix::io::Errno::WOULDBLOCK && error != rustix::io::Errno::INTR,
    }
}

/// Longest time that answers wait for what becomes of a broker: an election of the quorum's leader and a decision.
const HOLD: Duration = Duration::from_millis(400);
/// Pause between two looks meanwhile.
const LOOK: Duration = Duration::from_millis(2);
/// Longest time until there is a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long a connection has to last before it counts.
const PROBATION: Duration = Duration::from_millis(50);
/// Pause after a connection broke.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// Pause after none came about.
const PAUSE: Duration = Duration::from_millis(250);
