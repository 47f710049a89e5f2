//! What leaders and followers say to each other, as bytes.
//!
//! A frame is a length of four bytes, a byte that says what it is, and fields of fixed size, all big-endian; only
//! batches have as many bytes as are left. What comes from another broker is not trusted: lengths are bounded before
//! anything is allocated, and a frame that is too short or too long ends the stream.

use std::io;

use bytes::{Buf, BufMut, Bytes};
use millstream_core::ids::{LeaderEpoch, Offset, PartitionIndex, TopicId};
use tokio::io::{AsyncRead, AsyncReadExt};
use uuid::Uuid;

use crate::partitions::{LeaderOffsets, Position, Slot};

/// What a follower says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Who it is: the first frame, and again when that changes.
    Hello {
        /// Version of the protocol.
        version: u16,
        /// The broker's epoch, of its registration.
        broker_epoch: u64,
    },
    /// Asks for a partition's records.
    Follow {
        /// How both call it from now on.
        slot: Slot,
        /// The topic.
        topic: TopicId,
        /// Which of its partitions.
        partition: PartitionIndex,
        /// The epoch that the follower follows in.
        epoch: LeaderEpoch,
        /// How far its log goes.
        position: Position,
    },
    /// Says that everything before an offset is safe with it.
    Ack {
        /// Which partition.
        slot: Slot,
        /// The offset.
        durable_end: Offset,
    },
    /// Asks for no more records.
    Unfollow {
        /// Of this partition.
        slot: Slot,
    },
}

/// What a leader says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The follower's log agrees: records follow from its end on.
    Accept {
        /// Which partition.
        slot: Slot,
    },
    /// The follower's log does not agree from `to` on. The slot is over: it cuts its log and asks again.
    Truncate {
        /// Which partition.
        slot: Slot,
        /// Where to cut.
        to: Offset,
    },
    /// The leader's log begins behind the follower's. The slot is over: it drops its log and asks again.
    StartOver {
        /// Which partition.
        slot: Slot,
        /// Where the log is to begin.
        at: Offset,
    },
    /// The leader does not serve it. The slot is over.
    Refuse {
        /// Which partition.
        slot: Slot,
        /// Why.
        reason: Reason,
    },
    /// Records.
    Batches {
        /// Of which partition.
        slot: Slot,
        /// Where the leader's log is.
        offsets: LeaderOffsets,
        /// Whole batches, as the leader has them.
        bytes: Bytes,
    },
    /// The high watermark or the start of the log has moved.
    Offsets {
        /// Of which partition.
        slot: Slot,
        /// Where the leader's log is.
        offsets: LeaderOffsets,
    },
}

/// Why a leader does not serve a follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It does not lead in that epoch, or has not heard of it yet.
    NotLeader,
    /// The follower is no replica, or the leader has not heard of it yet.
    NotReplica,
    /// The follower holds what cannot be.
    Impossible,
    /// The leader cannot read its log.
    Storage,
}

/// A frame that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// No frame begins so.
    #[error("no frame of replication begins with {0}")]
    Kind(u8),
    /// Too short or too long for what it is.
    #[error("a frame of replication has the wrong length")]
    Length,
    /// A field that has no such value.
    #[error("a field of a replication frame has no such value")]
    Value,
}

impl From<BadFrame> for io::Error {
    fn from(bad: BadFrame) -> Self {
        Self::new(io::ErrorKind::InvalidData, bad)
    }
}

impl Request {
    /// Appends the frame, its length included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        framed(out, |out| match self {
            Self::Hello {
                version,
                broker_epoch,
            } => {
                out.put_u8(HELLO);
                out.put_u16(*version);
                out.put_u64(*broker_epoch);
            }
            Self::Follow {
                slot,
                topic,
                partition,
                epoch,
                position,
            } => {
                put_head(out, FOLLOW, *slot);
                out.put_slice(topic.0.as_bytes());
                out.put_i32(partition.0);
                out.put_i32(epoch.0);
                out.put_i32(position.last_epoch.0);
                out.put_i64(position.log_end.0);
                out.put_i64(position.durable_end.0);
            }
            Self::Ack { slot, durable_end } => {
                put_head(out, ACK, *slot);
                out.put_i64(durable_end.0);
            }
            Self::Unfollow { slot } => put_head(out, UNFOLLOW, *slot),
        });
    }

    /// Reads a frame, its length not included.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(frame: &[u8]) -> Result<Self, BadFrame> {
        let mut fields = Fields(frame);
        let request = match fields.u8()? {
            HELLO => Self::Hello {
                version: u16::from_be_bytes(fields.array()?),
                broker_epoch: u64::from_be_bytes(fields.array()?),
            },
            FOLLOW => Self::Follow {
                slot: fields.slot()?,
                topic: TopicId(Uuid::from_bytes(fields.array()?)),
                partition: PartitionIndex(fields.i32()?),
                epoch: LeaderEpoch(fields.i32()?),
                position: Position {
                    last_epoch: LeaderEpoch(fields.i32()?),
                    log_end: fields.offset()?,
                    durable_end: fields.offset()?,
                },
            },
            ACK => Self::Ack {
                slot: fields.slot()?,
                durable_end: fields.offset()?,
            },
            UNFOLLOW => Self::Unfollow { slot: fields.slot()? },
            kind => return Err(BadFrame::Kind(kind)),
        };
        fields.end()?;
        Ok(request)
    }
}

impl Answer {
    /// Appends the frame, its length included.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Batches { slot, offsets, bytes } => {
                encode_batches_head(out, *slot, *offsets, bytes.len());
                out.put_slice(bytes);
            }
            Self::Accept { slot } => framed(out, |out| put_head(out, ACCEPT, *slot)),
            Self::Truncate { slot, to } => framed(out, |out| {
                put_head(out, TRUNCATE, *slot);
                out.put_i64(to.0);
            }),
            Self::StartOver { slot, at } => framed(out, |out| {
                put_head(out, START_OVER, *slot);
                out.put_i64(at.0);
            }),
            Self::Refuse { slot, reason } => framed(out, |out| {
                put_head(out, REFUSE, *slot);
                out.put_u8(*reason as u8);
            }),
            Self::Offsets { slot, offsets } => framed(out, |out| {
                put_head(out, OFFSETS, *slot);
                put_offsets(out, *offsets);
            }),
        }
    }

    /// Reads a frame, its length not included. Batches are a part of it, not copied.
    ///
    /// # Errors
    /// It is none.
    pub fn decode(frame: &Bytes) -> Result<Self, BadFrame> {
        let mut fields = Fields(frame);
        let kind = fields.u8()?;
        let slot = fields.slot()?;
        let answer = match kind {
            ACCEPT => Self::Accept { slot },
            TRUNCATE => Self::Truncate {
                slot,
                to: fields.offset()?,
            },
            START_OVER => Self::StartOver {
                slot,
                at: fields.offset()?,
            },
            REFUSE => {
                let code = fields.u8()?;
                let reason = REASONS.iter().find(|reason| **reason as u8 == code);
                Self::Refuse {
                    slot,
                    reason: *reason.ok_or(BadFrame::Value)?,
                }
            }
            OFFSETS => Self::Offsets {
                slot,
                offsets: fields.offsets()?,
            },
            BATCHES => {
                let offsets = fields.offsets()?;
                let bytes = frame.slice(frame.len() - fields.0.len()..);
                return Ok(Self::Batches { slot, offsets, bytes });
            }
            kind => return Err(BadFrame::Kind(kind)),
        };
        fields.end()?;
        Ok(answer)
    }
}

/// Appends the beginning of a frame of batches, which are `len` bytes that follow.
pub fn encode_batches_head(out: &mut Vec<u8>, slot: Slot, offsets: LeaderOffsets, len: usize) {
    let total = u32::try_from(BATCHES_HEAD_BYTES + len).expect("a slice is bounded by a segment");
    out.put_u32(total);
    put_head(out, BATCHES, slot);
    put_offsets(out, offsets);
}

/// Reads the next frame of at most `bytes_max`, without its length. None at the end of the stream.
///
/// # Errors
/// The stream broke, ended inside of a frame, or the frame is too long.
pub async fn read_frame(
    source: &mut (impl AsyncRead + Unpin + ?Sized),
    bytes_max: usize,
) -> io::Result<Option<Bytes>> {
    let mut len = [0; size_of::<u32>()];
    match source.read_exact(&mut len).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let len = u32::from_be_bytes(len) as usize;
    if len == 0 || len > bytes_max {
        return Err(BadFrame::Length.into());
    }
    // Memory follows what has come, not what is announced.
    let mut frame = Vec::with_capacity(len.min(FRAME_BYTES));
    while frame.len() < len {
        let missing = len - frame.len();
        if source.read_buf(&mut (&mut frame).limit(missing)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(frame.into()))
}

fn framed(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    out.put_u32(0);
    body(out);
    let len = (out.len() - at - size_of::<u32>()) as u32;
    out[at..at + size_of::<u32>()].copy_from_slice(&len.to_be_bytes());
}

fn put_head(out: &mut Vec<u8>, kind: u8, slot: Slot) {
    out.put_u8(kind);
    out.put_u32(slot.0);
}

fn put_offsets(out: &mut Vec<u8>, offsets: LeaderOffsets) {
    out.put_i64(offsets.high.0);
    out.put_i64(offsets.log_start.0);
}

struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadFrame> {
        let found = *self.0.first_chunk().ok_or(BadFrame::Length)?;
        self.0.advance(N);
        Ok(found)
    }

    fn u8(&mut self) -> Result<u8, BadFrame> {
        self.array().map(u8::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, BadFrame> {
        self.array().map(i32::from_be_bytes)
    }

    fn slot(&mut self) -> Result<Slot, BadFrame> {
        self.array().map(u32::from_be_bytes).map(Slot)
    }

    fn offset(&mut self) -> Result<Offset, BadFrame> {
        let offset = self.array().map(i64::from_be_bytes)?;
        if offset < 0 {
            return Err(BadFrame::Value);
        }
        Ok(Offset(offset))
    }

    fn offsets(&mut self) -> Result<LeaderOffsets, BadFrame> {
        let (high, log_start) = (self.offset()?, self.offset()?);
        Ok(LeaderOffsets { high, log_start })
    }

    fn end(&self) -> Result<(), BadFrame> {
        match self.0 {
            [] => Ok(()),
            _ => Err(BadFrame::Length),
        }
    }
}

/// The protocol as it is here.
pub const VERSION: u16 = 1;
/// Longest frame of a follower.
pub const REQUEST_BYTES_MAX: usize = 64;
/// Most bytes of batches in a frame, unless one batch is larger.
pub const FRAME_BYTES: usize = 1 << 20;
/// Longest frame of a leader: a batch is as large as a topic lets it be, and a request brought it.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Bytes of a frame of batches before the first batch, without the length.
const BATCHES_HEAD_BYTES: usize = 1 + 4 + 8 + 8;

const HELLO: u8 = 1;
const FOLLOW: u8 = 2;
const ACK: u8 = 3;
const UNFOLLOW: u8 = 4;
const ACCEPT: u8 = 16;
const TRUNCATE: u8 = 17;
const START_OVER: u8 = 18;
const REFUSE: u8 = 19;
const BATCHES: u8 = 20;
const OFFSETS: u8 = 21;
const REASONS: [Reason; 4] = [
    Reason::NotLeader,
    Reason::NotReplica,
    Reason::Impossible,
    Reason::Storage,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn slots() -> impl Strategy<Value = Slot> {
        any::<u32>().prop_map(Slot)
    }

    fn offsets() -> impl Strategy<Value = Offset> {
        (0..i64::MAX).prop_map(Offset)
    }

    fn leader_offsets() -> impl Strategy<Value = LeaderOffsets> {
        (offsets(), offsets()).prop_map(|(high, log_start)| LeaderOffsets { high, log_start })
    }

    fn requests() -> impl Strategy<Value = Request> {
        let position =
            (any::<i32>(), offsets(), offsets()).prop_map(|(epoch, log_end, durable_end)| Position {
                last_epoch: LeaderEpoch(epoch),
                log_end,
                durable_end,
            });
        prop_oneof![
            (any::<u16>(), any::<u64>()).prop_map(|(version, broker_epoch)| Request::Hello {
                version,
                broker_epoch
            }),
            (slots(), any::<u128>(), any::<i32>(), any::<i32>(), position).prop_map(
                |(slot, topic, partition, epoch, position)| Request::Follow {
                    slot,
                    topic: TopicId(Uuid::from_u128(topic)),
                    partition: PartitionIndex(partition),
                    epoch: LeaderEpoch(epoch),
                    position,
                }
            ),
            (slots(), offsets()).prop_map(|(slot, durable_end)| Request::Ack { slot, durable_end }),
            slots().prop_map(|slot| Request::Unfollow { slot }),
        ]
    }

    fn answers() -> impl Strategy<Value = Answer> {
        prop_oneof![
            slots().prop_map(|slot| Answer::Accept { slot }),
            (slots(), offsets()).prop_map(|(slot, to)| Answer::Truncate { slot, to }),
            (slots(), offsets()).prop_map(|(slot, at)| Answer::StartOver { slot, at }),
            (slots(), 0..REASONS.len()).prop_map(|(slot, n)| Answer::Refuse {
                slot,
                reason: REASONS[n]
            }),
            (slots(), leader_offsets()).prop_map(|(slot, offsets)| Answer::Offsets { slot, offsets }),
            (slots(), leader_offsets(), any::<Vec<u8>>()).prop_map(|(slot, offsets, bytes)| {
                let bytes = bytes.into();
                Answer::Batches { slot, offsets, bytes }
            }),
        ]
    }

    fn read(mut bytes: &[u8], bytes_max: usize) -> io::Result<Option<Bytes>> {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(read_frame(&mut bytes, bytes_max))
    }

    proptest! {
        #[test]
        fn what_is_said_is_understood(request in requests(), answer in answers()) {
            let mut bytes = Vec::new();
            request.encode(&mut bytes);
            let frame = read(&bytes, REQUEST_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(Request::decode(&frame), Ok(request));
            prop_assert!(Request::decode(&frame[..frame.len() - 1]).is_err());
            bytes.clear();
            answer.encode(&mut bytes);
            let frame = read(&bytes, ANSWER_BYTES_MAX).unwrap().unwrap();
            prop_assert_eq!(Answer::decode(&frame), Ok(answer));
            prop_assert!(read(&bytes[..bytes.len() - 1], ANSWER_BYTES_MAX).is_err());
        }

        #[test]
        fn noise_is_an_error_or_says_the_same_again(noise in any::<Vec<u8>>(), kind in 0_u8..24) {
            let frame = Bytes::from([&[kind], &noise[..]].concat());
            let mut again = Vec::new();
            if let Ok(request) = Request::decode(&frame) {
                request.encode(&mut again);
                prop_assert_eq!(&again[4..], &frame[..]);
            }
            again.clear();
            if let Ok(answer) = Answer::decode(&frame) {
                answer.encode(&mut again);
                prop_assert_eq!(&again[4..], &frame[..]);
            }
        }
    }

    #[test]
    fn a_length_that_is_out_of_bounds_is_refused_before_anything_is_read() {
        assert!(read(&[0, 0, 0, 0], REQUEST_BYTES_MAX).is_err());
        assert!(read(&65_u32.to_be_bytes(), REQUEST_BYTES_MAX).is_err());
        assert!(read(&[0, 0, 0, 9, 1], REQUEST_BYTES_MAX).is_err());
        assert!(matches!(read(&[], REQUEST_BYTES_MAX), Ok(None)));
    }
}
