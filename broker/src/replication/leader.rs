//! The leader's end of a stream: everything that one follower copies from this broker.
//!
//! Two tasks share the stream's slots. One reads what the follower says; the other goes through the partitions that have
//! news, reads what the follower lacks into one buffer behind the frames' heads, and hands that over to the connection.
//! What was sent and is not yet safe with the follower is bounded, so one that is slow slows down only itself.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bytes::Bytes;
use millstream_core::ids::{BrokerId, LeaderEpoch, Offset};
use millstream_core::replica::Handshake;
use millstream_kafka::records::BatchHeader;
use tokio::io::BufReader;
use tokio::sync::Notify;

use super::frame::{
    ANSWER_BYTES_MAX, Answer, FRAME_BYTES, REQUEST_BYTES_MAX, Reason, Request, VERSION, encode_batches_head,
    read_frame,
};
use super::stream::{Sink, Source};
use super::{Abort, Replication, now_ms};
use crate::partitions::{LeaderOffsets, Line, NotServed, Partition, Position, ReadyQueue, Shipment, Slot};

/// A stream to a follower.
pub(super) struct Feeding {
    replication: Arc<Replication>,
    follower: BrokerId,
    ready: Arc<ReadyQueue>,
    state: Mutex<State>,
    /// There is something to send again that does not come from a partition: answers, or room.
    stirred: Notify,
}

#[derive(Default)]
struct State {
    slots: HashMap<Slot, Served>,
    answers: Vec<Answer>,
    /// Bytes that were sent and are not yet safe with the follower.
    in_flight: usize,
}

/// A partition that the follower copies.
struct Served {
    partition: Arc<Partition>,
    epoch: LeaderEpoch,
    /// Whether the follower has been told that its log agrees.
    is_accepted: bool,
    /// What the follower lacks begins here.
    next: Offset,
    /// What it was told last.
    told: Option<LeaderOffsets>,
    /// The ends of what was sent and is not yet safe, with their bytes.
    sent: VecDeque<(Offset, usize)>,
}

/// Slots that wait for the limits. When others have their turn meanwhile, they do not wait longer for it.
#[derive(Default)]
struct Delayed {
    slots: BTreeSet<Slot>,
    /// When the first of them may ask again.
    until: Option<Instant>,
}

/// What became of a slot's turn.
enum Turn {
    Done,
    /// It has to wait for the limits.
    Later(Duration),
}

impl Feeding {
    pub fn new(replication: Arc<Replication>, follower: BrokerId) -> Arc<Self> {
        Arc::new(Self {
            replication,
            follower,
            ready: Arc::default(),
            state: Mutex::default(),
            stirred: Notify::new(),
        })
    }

    /// Serves the stream until it ends, or another one of the same follower stands in its place.
    pub async fn run(
        self: Arc<Self>,
        sink: Box<dyn Sink>,
        source: Source,
        replaced: &Notify,
    ) -> io::Result<()> {
        let mut sender = Abort(tokio::spawn(self.clone().send_all(sink)));
        let _tidy = Tidy(self.clone());
        tokio::select! {
            outcome = self.listen(source) => outcome,
            () = replaced.notified() => Ok(()),
            ended = &mut sender.0 => ended.unwrap_or_else(|error| Err(io::Error::other(error))),
        }
    }

    async fn listen(&self, source: Source) -> io::Result<()> {
        let mut source = BufReader::new(source);
        while let Some(frame) = read_frame(&mut source, REQUEST_BYTES_MAX).await? {
            match Request::decode(&frame)? {
                Request::Hello {
                    version,
                    broker_epoch,
                } => {
                    if version != VERSION {
                        let message = format!("the follower speaks version {version} of the protocol");
                        return Err(io::Error::new(io::ErrorKind::Unsupported, message));
                    }
                    self.replication.note_epoch(self.follower, broker_epoch);
                }
                Request::Follow {
                    slot,
                    topic,
                    partition,
                    epoch,
                    position,
                } => match self.replication.partitions.find(topic, partition) {
                    Some(partition) => self.admit(slot, &partition, epoch, position)?,
                    None => self.answer(Answer::Refuse {
                        slot,
                        reason: Reason::NotLeader,
                    }),
                },
                Request::Ack { slot, durable_end } => self.acknowledge(slot, durable_end)?,
                Request::Unfollow { slot } => self.forget(slot),
            }
        }
        Ok(())
    }

    /// Compares logs. The slot is there before the partition knows of it, so that no news of it are lost.
    fn admit(
        &self,
        slot: Slot,
        partition: &Arc<Partition>,
        epoch: LeaderEpoch,
        position: Position,
    ) -> io::Result<()> {
        self.forget(slot);
        let served = Served {
            partition: partition.clone(),
            epoch,
            is_accepted: false,
            next: position.log_end,
            told: None,
            sent: VecDeque::new(),
        };
        {
            let mut state = self.lock();
            if state.slots.len() >= SLOTS_MAX {
                return Err(io::Error::other("the follower follows too many partitions"));
            }
            state.slots.insert(slot, served);
        }
        let answer = match partition.admit(self.follower, self.line(slot, epoch), position, now_ms()) {
            Ok(Handshake::Continue) => return Ok(()),
            Ok(Handshake::Truncate { to }) => Answer::Truncate { slot, to },
            Ok(Handshake::StartOver { at }) => Answer::StartOver { slot, at },
            Err(error) => Answer::Refuse {
                slot,
                reason: self.reason(partition, &error),
            },
        };
        self.forget(slot);
        self.answer(answer);
        Ok(())
    }

    fn acknowledge(&self, slot: Slot, durable_end: Offset) -> io::Result<()> {
        let (partition, epoch) = {
            let mut guard = self.lock();
            let state = &mut *guard;
            // Of a slot that is over, an acknowledgement may still be under way.
            let Some(served) = state.slots.get_mut(&slot) else {
                return Ok(());
            };
            if durable_end > served.next {
                return Err(io::Error::other("the follower acknowledges what it was not sent"));
            }
            while served.sent.front().is_some_and(|(end, _)| *end <= durable_end) {
                state.in_flight -= served.sent.pop_front().map_or(0, |(_, bytes)| bytes);
            }
            (served.partition.clone(), served.epoch)
        };
        self.stirred.notify_one();
        match partition.acknowledged(self.follower, epoch, durable_end, now_ms()) {
            // The sender notices and says so.
            Ok(()) | Err(NotServed::NotLeader) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn forget(&self, slot: Slot) {
        let gone = self.lock().remove(slot);
        if let Some(served) = gone {
            served.partition.forget_line(slot, &self.ready);
            self.stirred.notify_one();
        }
    }

    fn answer(&self, answer: Answer) {
        self.lock().answers.push(answer);
        self.stirred.notify_one();
    }

    async fn send_all(self: Arc<Self>, mut sink: Box<dyn Sink>) -> io::Result<()> {
        let mut delayed = Delayed::default();
        loop {
            let mut out = Vec::new();
            let due = delayed.due(Instant::now());
            due.into_iter().for_each(|slot| self.ready.push(slot));
            let is_full = {
                let mut state = self.lock();
                state.answers.drain(..).for_each(|answer| answer.encode(&mut out));
                state.in_flight >= IN_FLIGHT_BYTES_MAX
            };
            if !is_full {
                let full_at = out.len() + FRAME_BYTES;
                while out.len() < full_at
                    && let Some(slot) = self.ready.pop()
                {
                    if let Turn::Later(time) = self.serve(slot, &mut out).await {
                        delayed.add(slot, Instant::now() + time);
                    }
                    if self.lock().in_flight >= IN_FLIGHT_BYTES_MAX {
                        break;
                    }
                }
            }
            if !out.is_empty() {
                self.replication.count_out(out.len());
                sink.send(Bytes::from(out)).await?;
                continue;
            }
            tokio::select! {
                () = self.stirred.notified() => {}
                () = self.ready.filled(), if !is_full => {}
                () = delayed.wait() => {}
            }
        }
    }

    /// Gives a partition its turn: what the follower lacks of it, up to the size of a frame.
    async fn serve(&self, slot: Slot, out: &mut Vec<u8>) -> Turn {
        let (partition, epoch, next, is_accepted) = match self.lock().slots.get_mut(&slot) {
            None => return Turn::Done,
            Some(served) => {
                let was_accepted = std::mem::replace(&mut served.is_accepted, true);
                (served.partition.clone(), served.epoch, served.next, was_accepted)
            }
        };
        if !is_accepted {
            Answer::Accept { slot }.encode(out);
        }
        let line = self.line(slot, epoch);
        let shipment = match partition.ship(self.follower, line, next, FRAME_BYTES) {
            Ok(shipment) => shipment,
            Err(error) => {
                self.end(slot, &partition, &error, out);
                return Turn::Done;
            }
        };
        if let Some(slice) = &shipment.slice
            && !shipment.is_in_sync
            && let key = (partition.topic_id, partition.index)
            && let Err(time) = self
                .replication
                .limits
                .take(self.follower, key, slice.len, Instant::now())
        {
            return Turn::Later(time);
        }
        if let Err(error) = self.put(line, &partition, next, shipment, out).await {
            self.end(slot, &partition, &error, out);
        }
        Turn::Done
    }

    /// Appends the frame, and notes what it holds.
    async fn put(
        &self,
        line: Line<'_>,
        partition: &Partition,
        next: Offset,
        shipment: Shipment,
        out: &mut Vec<u8>,
    ) -> Result<(), NotServed> {
        let slot = line.slot;
        let offsets = LeaderOffsets {
            high: shipment.watermarks.high,
            log_start: shipment.watermarks.log_start,
        };
        let Some(slice) = shipment.slice else {
            let mut state = self.lock();
            if let Some(served) = state.slots.get_mut(&slot)
                && served.told.replace(offsets) != Some(offsets)
            {
                Answer::Offsets { slot, offsets }.encode(out);
            }
            return Ok(());
        };
        let before = out.len();
        encode_batches_head(out, slot, offsets, slice.len);
        let from = out.len();
        match slice.read_behind(std::mem::take(out)).await {
            Ok(bytes) => *out = bytes,
            Err(error) => return Err(NotServed::Read(error.into())),
        }
        let end = end_of(&out[from..]).filter(|end| *end > next);
        // The log may have been cut while it was read, if this broker does not lead any more.
        if let Err(error) = partition.shipped(line, end.unwrap_or(next)) {
            out.truncate(before);
            return Err(error);
        }
        let Some(end) = end else {
            out.truncate(before);
            return Err(NotServed::Read(
                io::Error::from(io::ErrorKind::InvalidData).into(),
            ));
        };
        let mut guard = self.lock();
        let state = &mut *guard;
        if let Some(served) = state.slots.get_mut(&slot) {
            (served.next, served.told) = (end, Some(offsets));
            served.sent.push_back((end, slice.len));
            state.in_flight += slice.len;
        }
        Ok(())
    }

    /// Ends a slot that cannot be served any more, and says why.
    fn end(&self, slot: Slot, partition: &Arc<Partition>, error: &NotServed, out: &mut Vec<u8>) {
        self.forget(slot);
        let answer = match error {
            NotServed::Behind { start } => Answer::StartOver { slot, at: *start },
            error => Answer::Refuse {
                slot,
                reason: self.reason(partition, error),
            },
        };
        answer.encode(out);
    }

    fn reason(&self, partition: &Partition, error: &NotServed) -> Reason {
        let (topic, index, follower) = (&partition.topic, partition.index.0, self.follower);
        match error {
            NotServed::NotLeader | NotServed::Behind { .. } => Reason::NotLeader,
            NotServed::NotReplica => Reason::NotReplica,
            NotServed::Impossible => {
                tracing::error!(%topic, partition = index, %follower, "a follower says what cannot be");
                Reason::Impossible
            }
            NotServed::Read(error) => {
                tracing::error!(%topic, partition = index, %follower, %error, "records cannot be copied: the log cannot be read");
                Reason::Storage
            }
        }
    }

    fn line(&self, slot: Slot, epoch: LeaderEpoch) -> Line<'_> {
        Line {
            slot,
            queue: &self.ready,
            epoch,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the slots are held")
    }
}

impl Delayed {
    fn add(&mut self, slot: Slot, until: Instant) {
        self.slots.insert(slot);
        self.until = Some(self.until.map_or(until, |first| first.min(until)));
    }

    /// Those that waited, once the first of them may ask again.
    fn due(&mut self, now: Instant) -> BTreeSet<Slot> {
        match self.until {
            Some(until) if until <= now => {
                self.until = None;
                std::mem::take(&mut self.slots)
            }
            _ => BTreeSet::new(),
        }
    }

    /// Waits until some are due; for ever if none waits.
    async fn wait(&self) {
        match self.until {
            Some(until) => tokio::time::sleep_until(until.into()).await,
            None => std::future::pending().await,
        }
    }
}

impl State {
    fn remove(&mut self, slot: Slot) -> Option<Served> {
        let served = self.slots.remove(&slot)?;
        self.in_flight -= served.sent.iter().map(|(_, bytes)| bytes).sum::<usize>();
        Some(served)
    }
}

/// Takes a stream's lines off its partitions when it is over.
struct Tidy(Arc<Feeding>);

impl Drop for Tidy {
    fn drop(&mut self) {
        let slots = std::mem::take(&mut self.0.lock().slots);
        for (slot, served) in slots {
            served.partition.forget_line(slot, &self.0.ready);
        }
    }
}

/// The offset behind the last of these batches; none if they are no batches.
pub(super) fn end_of(batches: &[u8]) -> Option<Offset> {
    let (mut rest, mut end) = (batches, None);
    while !rest.is_empty() {
        let header = BatchHeader::parse(rest).ok()?;
        end = Some(Offset(header.next_offset()));
        rest = rest.get(header.total_bytes()..)?;
    }
    end
}

/// Most partitions of a stream.
const SLOTS_MAX: usize = 1 << 20;
/// Most bytes that are sent to a follower before it says that they are safe, but for the last frame. About what a disk
/// takes in the time of a few syncs.
const IN_FLIGHT_BYTES_MAX: usize = 16 << 20;
const _: () = assert!(IN_FLIGHT_BYTES_MAX < ANSWER_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_the_limits_is_due_then_whatever_happens_meanwhile() {
        let (mut delayed, start) = (Delayed::default(), Instant::now());
        let at = |ms: u64| start + Duration::from_millis(ms);
        assert!(delayed.due(start).is_empty());
        delayed.add(Slot(1), at(500));
        for ms in 0..500 {
            delayed.add(Slot(2), at(ms + 500));
            assert!(delayed.due(at(ms)).is_empty());
        }
        assert_eq!(delayed.due(at(500)), [Slot(1), Slot(2)].into());
        assert!(delayed.due(at(5_000)).is_empty(), "only once");
    }
}
