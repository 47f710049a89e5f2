//! What can go wrong, one type per operation.

use std::io;
use std::path::{Path, PathBuf};

use millstream_storage::disk;

/// Why a quorum could not be opened, or does not answer another node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// Times that contradict each other.
    #[error("the quorum's settings cannot be: {0}")]
    Config(String),
    /// Its files cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It stopped, mostly because its disk failed. It does not vote, follow or lead until it is opened again.
    #[error("the quorum's node has stopped: {0}")]
    Stopped(String),
    /// Its disk is full: it answers again when there is room.
    #[error("the quorum's node waits for room on its disk")]
    DiskFull,
    /// The first voters do not include this node.
    #[error("this node ({me}) is not among the voters {voters:?} that the quorum was to begin with")]
    NotAmongVoters {
        /// This node.
        me: u64,
        /// The voters.
        voters: Vec<u64>,
    },
    /// Bytes that are no request of a node.
    #[error("a request to the quorum cannot be read: {0}")]
    BadRequest(String),
    /// A request for another node: an address leads to the wrong place.
    #[error("a request for node {meant} of the quorum came to node {me}: an address is wrong")]
    WrongNode {
        /// Whom it was for.
        meant: u64,
        /// Who got it.
        me: u64,
    },
}

/// Why a command was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Another node leads, where one is known. If this node led when the command was given and lost its leadership
    /// meanwhile, then the command may still come into force: who asks the new leader asks twice.
    #[error("this node does not lead the quorum; {}", leader(.0.as_ref()))]
    NotLeader(Option<(u64, String)>),
    /// No node may lack so much.
    #[error("a command of {bytes} bytes is larger than {max}")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The bound.
        max: usize,
    },
    /// This node's disk is full: nothing was written, and another one leads soon.
    #[error("the quorum's node waits for room on its disk")]
    DiskFull,
    /// Too few voters answer.
    #[error("too few voters answer: {0}")]
    NoQuorum(String),
    /// The node has stopped.
    #[error("the quorum's node has stopped: {0}")]
    Stopped(String),
}

/// Why the quorum's members are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemberError {
    /// The quorum did not take the change.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// One change at a time.
    #[error("another change of the quorum's members is under way; try again when it is done")]
    InProgress,
    /// Only a node that follows the log already can become a voter.
    #[error("node {0} does not follow the quorum's log; it has to join the cluster before it can vote")]
    Unknown(u64),
    /// A voter that lacks much of the log would hold commands up.
    #[error("node {id} lacks {lag} entries of the quorum's log; it can vote when it has caught up")]
    Lagging {
        /// The node.
        id: u64,
        /// What it lacks.
        lag: u64,
    },
    /// Somebody has to vote.
    #[error("node {0} is the last voter; make another node a voter first")]
    LastVoter(u64),
    /// Voters are not forgotten.
    #[error("node {0} is a voter; take its vote away first")]
    IsVoter(u64),
}

/// Why the files of a quorum's node cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Reading or writing failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What had been made durable is gone or changed. A node that went on without it could break its word.
    #[error(
        "{} is damaged at byte {position}: {reason}. Nothing was changed. A node must not go on without what it promised: \
         restore the file from a copy that is not older, or remove this node from the quorum and let it join with an \
         empty directory and another id", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What is wrong.
        reason: String,
    },
    /// The files are another node's.
    #[error("{} belongs to node {found} of a quorum, but this is node {me}", path.display())]
    OtherNode {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: u64,
        /// Who wants it.
        me: u64,
    },
    /// A sync failed: it is not known what is on the disk, whatever the reason was.
    #[error("{} may not be on the disk: {source}", path.display())]
    Unsure {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A write or a sync failed before: it is not known what is on the disk.
    #[error("{} failed before and takes nothing more until the broker restarts", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
    /// It was shut down.
    #[error("the quorum's files are closed")]
    Closed,
}

impl StoreError {
    /// Whether there was no room on the disk, and all else is well.
    pub(crate) fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if disk::is_full(source))
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn unsure(path: &Path, source: io::Error) -> Self {
        Self::Unsure {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn damaged(path: &Path, position: u64, reason: impl Into<String>) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            position,
            reason: reason.into(),
        }
    }
}

fn leader(leader: Option<&(u64, String)>) -> String {
    match leader {
        Some((id, address)) => format!("node {id} at {address} does"),
        None => "nobody is known to".to_owned(),
    }
}
