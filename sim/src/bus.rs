//! What is going to happen, in order: messages under way, timers, answers of the quorum.
//!
//! One task of the simulation takes the events one by one; everything else only adds to them. Two events of one
//! millisecond happen in the order in which they were added, so a seed leads to the same story every time.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_core::cluster::Image;
use millstream_quorum::{Applied, Quorum};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::client::{Answer, Asker, Request};
use crate::message::Message;
use crate::network::{Network, SessionId};
use crate::transactions::{PartRequest, Stage};

/// Something that happens.
pub enum Event {
    /// A quorum's request arrives.
    Raft {
        from: u64,
        to: u64,
        bytes: Vec<u8>,
        answer: Option<RaftAnswer>,
    },
    /// The answer to one arrives.
    RaftAnswer { bytes: Vec<u8>, answer: RaftAnswer },
    /// A broker's message arrives at another one.
    Peer { from: u64, to: u64, message: Message },
    /// A broker learns that a session of its ended.
    Closed { node: u64, session: SessionId },
    /// A client's request arrives.
    Request {
        client: u64,
        id: u64,
        to: u64,
        request: Request,
    },
    /// The answer to one arrives.
    Answer { client: u64, id: u64, answer: Answer },
    /// A node's quorum has another image.
    Image { life: Life, image: Arc<Image> },
    /// A node's quorum is open, or cannot be opened.
    Opened {
        life: Life,
        result: Result<Quorum, String>,
    },
    /// A quorum's leader knows what became of a command.
    Submitted {
        life: Life,
        origin: u64,
        token: u64,
        result: Result<Applied, String>,
    },
    /// A node looks at its clock.
    Tick(Life),
    /// A node's sync of a partition ends.
    Sync { life: Life, partition: i32 },
    /// A client looks at its clock.
    ClientTick(u64),
    /// Time for another fault.
    Fault,
    /// Something that a fault did ends.
    Recover(Recovery),
    /// Time to look at everything.
    Check,
}

/// What a fault leaves to be undone.
#[derive(Debug, Clone)]
pub enum Recovery {
    /// A node starts.
    Start(u64),
    /// Messages pass again from one node to another.
    Pass(u64, u64),
    /// A disk has room again.
    Room(u64),
    /// The network is as usual.
    Network,
    /// A node stops, after it was taken out of service.
    Stop(u64),
    /// A transform that was paused goes on.
    Resume(Stage),
}

/// One life of a node's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Life {
    pub node: u64,
    pub number: u64,
}

/// Where the answer to a quorum's request goes.
pub type RaftAnswer = oneshot::Sender<io::Result<Vec<u8>>>;

/// The events to come. Clones are the same.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    added: Notify,
    begin: Instant,
}

struct State {
    events: BTreeMap<(u64, u64), Event>,
    sequence: u64,
    network: Network,
}

impl Bus {
    pub fn new(network: Network) -> Self {
        Self(Arc::new(Inner {
            state: Mutex::new(State {
                events: BTreeMap::new(),
                sequence: 0,
                network,
            }),
            added: Notify::new(),
            begin: Instant::now(),
        }))
    }

    /// Simulated milliseconds since the beginning.
    pub fn now_ms(&self) -> u64 {
        self.0.begin.elapsed().as_millis() as u64
    }

    /// Lets something happen later.
    pub fn after(&self, delay_ms: u64, event: Event) {
        self.lock().add(self.now_ms() + delay_ms, event);
        self.0.added.notify_one();
    }

    /// The next event, when it is time for it.
    pub async fn next(&self) -> (u64, Event) {
        loop {
            let first = self.lock().events.keys().next().copied();
            let now_ms = self.now_ms();
            match first {
                Some(key) if key.0 <= now_ms => {
                    let event = self.lock().events.remove(&key);
                    return (now_ms, event.expect("it was there"));
                }
                Some((at_ms, _)) => {
                    let time = self.0.begin + std::time::Duration::from_millis(at_ms);
                    tokio::select! {
                        biased;
                        () = self.0.added.notified() => {}
                        () = tokio::time::sleep_until(time) => {}
                    }
                }
                None => self.0.added.notified().await,
            }
        }
    }

    /// Changes how the network is.
    pub fn network<T>(&self, change: impl FnOnce(&mut Network) -> T) -> T {
        change(&mut self.lock().network)
    }

    /// Sends a quorum's request; it may arrive twice, late, or not.
    pub fn send_raft(&self, from: u64, to: u64, bytes: Vec<u8>, answer: RaftAnswer) {
        let (first, second) = self.network(|n| (n.delay(from, to), n.duplicate(from, to)));
        if let Some(delay_ms) = second {
            let bytes = bytes.clone();
            let answer = None;
            self.after(
                delay_ms,
                Event::Raft {
                    from,
                    to,
                    bytes,
                    answer,
                },
            );
        }
        match first {
            Some(delay_ms) => {
                let answer = Some(answer);
                self.after(
                    delay_ms,
                    Event::Raft {
                        from,
                        to,
                        bytes,
                        answer,
                    },
                );
            }
            // Whoever waits for it notices after a while that it is gone.
            None => {
                let gone = Event::RaftAnswer {
                    bytes: Vec::new(),
                    answer,
                };
                self.after(LOST_AFTER_MS, gone);
            }
        }
    }

    /// Sends the answer to a quorum's request.
    pub fn answer_raft(&self, from: u64, to: u64, bytes: Vec<u8>, answer: RaftAnswer) {
        match self.network(|n| n.delay(from, to)) {
            Some(delay_ms) => self.after(delay_ms, Event::RaftAnswer { bytes, answer }),
            None => {
                let gone = Event::RaftAnswer {
                    bytes: Vec::new(),
                    answer,
                };
                self.after(LOST_AFTER_MS, gone);
            }
        }
    }

    /// Sends a broker's message: those of a session arrive in order or the session ends, others as they may.
    pub fn send(&self, from: u64, to: u64, message: Message) {
        let now_ms = self.now_ms();
        let session = match &message {
            Message::Stream { session, .. } => Some(*session),
            _ => None,
        };
        let Some(session) = session else {
            let (first, second) = self.network(|n| (n.delay(from, to), n.duplicate(from, to)));
            for delay_ms in [first, second].into_iter().flatten() {
                let message = message.clone();
                self.after(delay_ms, Event::Peer { from, to, message });
            }
            return;
        };
        match self.network(|n| n.in_order(session, from, to, now_ms)) {
            Ok(delay_ms) => self.after(delay_ms, Event::Peer { from, to, message }),
            Err(is_new) if is_new => self.close(session, [from, to]),
            Err(_) => {}
        }
    }

    /// Ends a session; both sides learn that some time.
    pub fn close(&self, session: SessionId, ends: [u64; 2]) {
        for node in ends {
            let delay_ms = self.network(|n| n.end(session));
            self.after(delay_ms, Event::Closed { node, session });
        }
    }

    /// Sends a client's request.
    pub fn request(&self, client: u64, id: u64, to: u64, request: Request) {
        let (first, second) = self.network(|n| (n.delay(client, to), n.duplicate(client, to)));
        // What members of groups say they own is so when they say it: they rely on their connection.
        let is_members = |request: &Request| {
            matches!(
                request,
                Request::Part(PartRequest::Classic(_) | PartRequest::Heartbeat(_))
            )
        };
        let second = second.filter(|_| !is_members(&request));
        for delay_ms in [first, second].into_iter().flatten() {
            let request = request.clone();
            self.after(
                delay_ms,
                Event::Request {
                    client,
                    id,
                    to,
                    request,
                },
            );
        }
    }

    /// Answers whoever asked.
    pub fn answer(&self, from: u64, asker: Asker, id: u64, answer: Answer) {
        let client = match asker {
            Asker::Client(client) => client,
            Asker::Broker(to) => return self.send(from, to, Message::Answer { id, answer }),
        };
        if let Some(delay_ms) = self.network(|n| n.delay(from, client)) {
            self.after(delay_ms, Event::Answer { client, id, answer });
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().expect("no panic while held")
    }
}

impl State {
    fn add(&mut self, at_ms: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at_ms, self.sequence), event);
    }
}

const LOST_AFTER_MS: u64 = 1000;
