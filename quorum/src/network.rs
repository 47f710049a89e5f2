//! openraft's requests over a [`Transport`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::BasicNode;
use openraft::error::{InstallSnapshotError, RPCError, RaftError, RemoteError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, InstallSnapshotRequest, InstallSnapshotResponse,
    VoteRequest, VoteResponse,
};
use serde::de::DeserializeOwned;

use crate::message::Request;
use crate::patience::Patience;
use crate::transport::Transport;
use crate::types::Types;

/// Makes links to other nodes.
pub struct Network<T> {
    pub transport: T,
    /// Hears of those who hold more of the log.
    pub patience: Arc<Patience>,
    /// How long a node that could not be reached is left alone.
    pub backoff: Duration,
}

/// The way to one node.
pub struct Link<T> {
    transport: T,
    patience: Arc<Patience>,
    target: u64,
    address: String,
    backoff: Duration,
}

type Answer<R, E> = Result<R, RPCError<u64, BasicNode, E>>;

impl<T: Transport> RaftNetworkFactory<Types> for Network<T> {
    type Network = Link<T>;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Link<T> {
        Link {
            transport: self.transport.clone(),
            patience: self.patience.clone(),
            target,
            address: node.addr.clone(),
            backoff: self.backoff,
        }
    }
}

impl<T: Transport> Link<T> {
    async fn call<R, E>(&self, request: Request) -> Answer<R, E>
    where
        R: DeserializeOwned,
        E: std::error::Error + DeserializeOwned,
    {
        let request = request.encode(self.target);
        let answer = self.transport.call(self.target, &self.address, request).await;
        // Every failure counts as unreachable: openraft would repeat other ones at once, without end.
        let answer = answer.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))?;
        let answer: Result<R, E> = serde_json::from_slice(&answer).map_err(|error| {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            RPCError::Unreachable(Unreachable::new(&error))
        })?;
        answer.map_err(|error| RPCError::RemoteError(RemoteError::new(self.target, error)))
    }
}

impl<T: Transport> RaftNetwork<Types> for Link<T> {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        _: RPCOption,
    ) -> Answer<AppendEntriesResponse<u64>, RaftError<u64>> {
        if has_hole(&request) {
            let error = io::Error::other("entries that were to be sent are covered by a snapshot meanwhile");
            return Err(RPCError::Unreachable(Unreachable::new(&error)));
        }
        self.call(Request::Append(request)).await
    }

    async fn install_snapshot(
        &mut self,
        request: InstallSnapshotRequest<Types>,
        _: RPCOption,
    ) -> Answer<InstallSnapshotResponse<u64>, RaftError<u64, InstallSnapshotError>> {
        self.call(Request::Snapshot(request)).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<u64>,
        _: RPCOption,
    ) -> Answer<VoteResponse<u64>, RaftError<u64>> {
        let last = request.last_log_id;
        let answer: VoteResponse<u64> = self.call(Request::Vote(request)).await?;
        if !answer.vote_granted && answer.last_log_id > last {
            self.patience.is_behind();
        }
        Ok(answer)
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.backoff))
    }
}

/// Whether entries are missing between the one that the other node is to have and the first that is sent. openraft decides
/// what to send, then reads it: a purge may come between. Who appended that would have a hole in its log. As a failure it
/// lets openraft decide anew, and send the snapshot.
fn has_hole(request: &AppendEntriesRequest<Types>) -> bool {
    let next = request.prev_log_id.map_or(0, |before| before.index + 1);
    let first = request.entries.first();
    first.is_some_and(|entry| entry.log_id.index != next)
}

#[cfg(test)]
mod tests {
    use openraft::{CommittedLeaderId, Entry, EntryPayload, LogId, Vote};

    use super::*;

    fn at(index: u64) -> LogId<u64> {
        LogId::new(CommittedLeaderId::new(1, 1), index)
    }

    fn request(before: Option<u64>, entries: &[u64]) -> AppendEntriesRequest<Types> {
        let entry = |index: &u64| Entry {
            log_id: at(*index),
            payload: EntryPayload::Blank,
        };
        AppendEntriesRequest {
            vote: Vote::new_committed(1, 1),
            prev_log_id: before.map(at),
            entries: entries.iter().map(entry).collect(),
            leader_commit: None,
        }
    }

    #[test]
    fn entries_that_do_not_follow_the_one_before_them_leave_a_hole() {
        assert!(has_hole(&request(Some(23), &[30, 31])));
        assert!(has_hole(&request(None, &[1])));
        assert!(!has_hole(&request(Some(23), &[24, 25])));
        assert!(!has_hole(&request(None, &[0])));
        assert!(!has_hole(&request(Some(23), &[])));
    }
}
