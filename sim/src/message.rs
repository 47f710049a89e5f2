//! What brokers say to each other: the frames of the broker's replication streams and its small calls.

use bytes::Bytes;
use millstream_core::cluster::Command;
use millstream_core::ids::{LeaderEpoch, Offset};
use millstream_quorum::Applied;

use crate::client::{Answer, Request};
use crate::network::SessionId;

/// A message.
#[derive(Debug, Clone)]
pub enum Message {
    /// To the quorum's leader: a command.
    Submit { token: u64, command: Box<Command> },
    /// What became of it.
    Submitted {
        token: u64,
        result: Result<Applied, String>,
    },
    /// To the quorum's leader: the sender lives, and holds this version of the image.
    Heartbeat { epoch: u64, version: u64 },
    /// The leader heard it.
    Heard,
    /// To the quorum's leader: let the sender follow the quorum's log.
    Join,
    /// To a leader or a coordinator: what a client may ask, too.
    Request { id: u64, request: Request },
    /// Its answer.
    Answer { id: u64, answer: Answer },
    /// A frame on a partition's stream.
    Stream {
        session: SessionId,
        partition: i32,
        frame: Frame,
    },
}

/// A frame on the stream of a partition.
#[derive(Debug, Clone)]
pub enum Frame {
    /// Follower: how its log ends.
    Follow {
        epoch: LeaderEpoch,
        log_end: Offset,
        last_epoch: LeaderEpoch,
        durable_end: Offset,
    },
    /// Follower: what is on its disk.
    Ack { epoch: LeaderEpoch, durable_end: Offset },
    /// Leader: the follower's log is a beginning of its own.
    Accept,
    /// Leader: the follower's log is not, from here on.
    Truncate { to: Offset },
    /// Leader: its log begins behind the follower's.
    StartOver { at: Offset },
    /// Leader: it does not lead in that epoch, or the other is no replica.
    Refuse,
    /// Leader: what comes next. No bytes: it is there, and its offsets are these.
    Batches {
        epoch: LeaderEpoch,
        bytes: Bytes,
        high: Offset,
        log_start: Offset,
    },
}
