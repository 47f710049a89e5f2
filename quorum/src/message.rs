//! What nodes say to each other, as bytes.
//!
//! A request is: one byte of kind, the id of the node that it is meant for (u64), length of the JSON (u32), the JSON,
//! and the raw bytes of a snapshot's chunk; integers are little-endian. An answer is JSON alone.

use openraft::raft::{AppendEntriesRequest, InstallSnapshotRequest, VoteRequest};
use serde::{Deserialize, Serialize};

use crate::error::QuorumError;
use crate::types::{SnapshotMeta, Types, Vote};

/// What one node asks of another.
#[derive(Debug)]
pub enum Request {
    /// Takes entries, or hears that there is a leader.
    Append(AppendEntriesRequest<Types>),
    /// Votes.
    Vote(VoteRequest<u64>),
    /// Takes a part of a snapshot.
    Snapshot(InstallSnapshotRequest<Types>),
    /// Does without its leader from now on.
    Resign(Resign),
}

/// A leader goes, and wants to be replaced.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Resign {
    /// With what it was elected.
    pub vote: Vote,
    /// Who is to be the next one.
    pub successor: u64,
}

/// A part of a snapshot without its bytes.
#[derive(Debug, Serialize, Deserialize)]
struct Chunk {
    vote: Vote,
    meta: SnapshotMeta,
    offset: u64,
    done: bool,
}

impl Request {
    /// As bytes, for node `target`.
    pub fn encode(self, target: u64) -> Vec<u8> {
        let (kind, json, data) = match self {
            Self::Append(request) => (APPEND, to_json(&request), Vec::new()),
            Self::Vote(request) => (VOTE, to_json(&request), Vec::new()),
            Self::Resign(request) => (RESIGN, to_json(&request), Vec::new()),
            Self::Snapshot(request) => {
                let chunk = Chunk {
                    vote: request.vote,
                    meta: request.meta,
                    offset: request.offset,
                    done: request.done,
                };
                (SNAPSHOT, to_json(&chunk), request.data)
            }
        };
        let mut bytes = Vec::with_capacity(HEADER_BYTES + json.len() + data.len());
        bytes.push(kind);
        bytes.extend_from_slice(&target.to_le_bytes());
        bytes.extend_from_slice(&(json.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&json);
        bytes.extend_from_slice(&data);
        bytes
    }

    /// Reads what [`Request::encode`] wrote for node `me`.
    pub fn decode(bytes: &[u8], me: u64) -> Result<Self, QuorumError> {
        let bad = |what: &str| QuorumError::BadRequest(what.to_owned());
        if bytes.len() > REQUEST_BYTES_MAX {
            return Err(bad("it is too long"));
        }
        let (header, rest) = bytes
            .split_at_checked(HEADER_BYTES)
            .ok_or_else(|| bad("it is too short"))?;
        let meant = u64::from_le_bytes(header[1..9].try_into().expect("eight bytes"));
        if meant != me {
            return Err(QuorumError::WrongNode { meant, me });
        }
        let json_len = u32::from_le_bytes(header[9..13].try_into().expect("four bytes"));
        let (json, data) = rest
            .split_at_checked(json_len as usize)
            .ok_or_else(|| bad("it ends before its end"))?;
        match header[0] {
            APPEND => Ok(Self::Append(from_json(json)?)),
            VOTE => Ok(Self::Vote(from_json(json)?)),
            RESIGN => Ok(Self::Resign(from_json(json)?)),
            SNAPSHOT => {
                let chunk: Chunk = from_json(json)?;
                // Chunks are put where they say, so what lies before them is allocated.
                if chunk.offset.saturating_add(data.len() as u64) > SNAPSHOT_BYTES_MAX {
                    return Err(bad("it holds a part of a snapshot that is too large"));
                }
                Ok(Self::Snapshot(InstallSnapshotRequest {
                    vote: chunk.vote,
                    meta: chunk.meta,
                    offset: chunk.offset,
                    data: data.to_vec(),
                    done: chunk.done,
                }))
            }
            kind => Err(bad(&format!("there is no kind {kind}"))),
        }
    }
}

/// An answer, or anything else that is surely JSON.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("what nodes say holds nothing that JSON cannot say")
}

fn from_json<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, QuorumError> {
    serde_json::from_slice(json).map_err(|error| QuorumError::BadRequest(error.to_string()))
}

const APPEND: u8 = 1;
const VOTE: u8 = 2;
const SNAPSHOT: u8 = 3;
const RESIGN: u8 = 4;
const HEADER_BYTES: usize = 13;
/// No request of a node is longer: one command of the largest size and what is around it.
pub const REQUEST_BYTES_MAX: usize = 10 << 20;
/// No image is larger once encoded.
const SNAPSHOT_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use openraft::raft::VoteRequest;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_refused() {
        let good = Request::Vote(VoteRequest::new(Vote::new(3, 1), None)).encode(2);
        assert!(matches!(Request::decode(&good, 2), Ok(Request::Vote(_))));
        let wrong = Request::decode(&good, 3).unwrap_err();
        assert!(
            matches!(wrong, QuorumError::WrongNode { meant: 2, me: 3 }),
            "{wrong}"
        );
        for cut in 0..good.len() {
            Request::decode(&good[..cut], 2).unwrap_err();
        }
        let mut other_kind = good.clone();
        other_kind[0] = 9;
        Request::decode(&other_kind, 2).unwrap_err();
    }

    #[test]
    fn a_chunk_far_out_allocates_nothing() {
        let chunk = InstallSnapshotRequest {
            vote: Vote::new(1, 1),
            meta: SnapshotMeta::default(),
            offset: u64::MAX - 1,
            data: vec![1; 10],
            done: true,
        };
        let bytes = Request::Snapshot(chunk).encode(1);
        Request::decode(&bytes, 1).unwrap_err();
    }
}
