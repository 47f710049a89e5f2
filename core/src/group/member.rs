//! A member of a group.

use std::sync::Arc;

use super::record::MemberValue;
use super::types::{GroupError, JoinResponse, Response, Step, SyncResponse, Token};

/// A member of a group.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) instance: Option<String>,
    pub(super) client_id: String,
    pub(super) client_host: String,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Vec<(String, Arc<[u8]>)>,
    pub(super) assignment: Arc<[u8]>,
    /// Its JoinGroup, while that waits.
    pub(super) joining: Option<Token>,
    /// Its SyncGroup, while that waits.
    pub(super) syncing: Option<Token>,
    /// Whether it never got an answer to a JoinGroup: it cannot send heartbeats then.
    pub(super) is_new: bool,
}

impl Member {
    /// The member that a record tells of.
    pub(super) fn replayed(value: &MemberValue, protocol: &str) -> Self {
        Self {
            instance: value.instance.clone(),
            client_id: value.client_id.clone(),
            client_host: value.client_host.clone(),
            session_timeout_ms: value.session_timeout_ms,
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            protocols: vec![(protocol.to_owned(), value.subscription.clone())],
            assignment: value.assignment.clone(),
            joining: None,
            syncing: None,
            is_new: false,
        }
    }

    /// Its subscription for an assignor; empty if it does not know that.
    pub(super) fn metadata(&self, protocol: &str) -> Arc<[u8]> {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map(|(_, m)| m.clone())
            .unwrap_or_default()
    }

    pub(super) fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Lets a new JoinGroup wait. One that waited already has been given up by its client.
    pub(super) fn wait_for_join(&mut self, id: &str, token: Token, step: &mut Step) {
        if let Some(older) = self.joining.replace(token) {
            step.responses
                .push((older, join_error(id, GroupError::RebalanceInProgress)));
        }
    }

    /// Lets a new SyncGroup wait. One that waited already has been given up by its client.
    pub(super) fn wait_for_sync(&mut self, token: Token, step: &mut Step) {
        if let Some(older) = self.syncing.replace(token) {
            step.responses
                .push((older, sync_error(GroupError::RebalanceInProgress)));
        }
    }

    /// Answers whatever waits with an error.
    pub(super) fn answer_waiting(&mut self, error: GroupError, step: &mut Step) {
        if let Some(token) = self.joining.take() {
            step.responses.push((token, join_error("", error)));
        }
        if let Some(token) = self.syncing.take() {
            step.responses.push((token, sync_error(error)));
        }
    }
}

pub(super) fn join_error(member: &str, error: GroupError) -> Response {
    Response::Join(JoinResponse {
        error: Some(error),
        ..JoinResponse::to(member)
    })
}

pub(super) fn sync_error(error: GroupError) -> Response {
    Response::Sync(SyncResponse {
        error: Some(error),
        ..SyncResponse::default()
    })
}
