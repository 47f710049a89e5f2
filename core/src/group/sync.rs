//! SyncGroup and Heartbeat: members get what they consume, and stay.

use super::member::sync_error;
use super::state::{Group, State};
use super::types::{Event, GroupError, Identity, Response, Step, SyncRequest, SyncResponse, Token};
use super::{Env, Groups, Timer};

impl Groups {
    /// A member asks what it consumes; the leader says what everybody does.
    pub fn sync(&mut self, now_ms: i64, request: &SyncRequest, token: Token) -> Step {
        let group = self.groups.get(request.who.group.as_str());
        if group.is_some_and(Group::has_consumer_members) {
            let answer = self.sync_consumer_group(now_ms, request);
            let mut step = Step::default();
            let answer = answer.map_or_else(sync_error, Response::Sync);
            step.responses.push((token, answer));
            return step;
        }
        let (done, mut step) = self.with_group(&request.who.group, now_ms, |group, env| {
            group.sync(request, token, env)
        });
        if let Err(error) = done.unwrap_or(Err(GroupError::UnknownMemberId)) {
            step.responses.push((token, sync_error(error)));
        }
        step
    }

    /// A sign of life.
    ///
    /// # Errors
    /// The member is not in the group, or has to join again.
    pub fn heartbeat(&mut self, now_ms: i64, who: &Identity) -> Result<(), GroupError> {
        let group = self.groups.get(who.group.as_str());
        if group.is_some_and(Group::has_consumer_members) {
            return self.heartbeat_in_consumer_group(now_ms, who);
        }
        let (done, step) = self.with_group(&who.group, now_ms, |group, env| group.heartbeat(who, env));
        debug_assert_eq!(
            step,
            Step::default(),
            "a heartbeat changes nothing but a deadline"
        );
        done.unwrap_or(Err(GroupError::UnknownMemberId))
    }
}

impl Group {
    fn sync(&mut self, request: &SyncRequest, token: Token, env: &mut Env<'_>) -> Result<(), GroupError> {
        let id = self.check_identity(&request.who)?;
        let differs = |asked: &Option<String>, is: &Option<String>| asked.is_some() && asked != is;
        if differs(&request.protocol_type, &self.protocol_type) || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.state {
            State::Empty | State::Dead => return Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => return Err(GroupError::RebalanceInProgress),
            State::CompletingRebalance => {
                self.note_sync(&id, env);
                if let Some(member) = self.members.get_mut(&id) {
                    member.wait_for_sync(token, env.step);
                }
                if self.leader.as_ref() == Some(&id) {
                    self.distribute(request, env);
                }
            }
            State::Stable => {
                self.note_sync(&id, env);
                let assignment = self.members[&id].assignment.clone();
                let response = self.synced(assignment);
                env.step.responses.push((token, Response::Sync(response)));
            }
        }
        self.extend_session(&id, env);
        Ok(())
    }

    fn note_sync(&mut self, id: &std::sync::Arc<str>, env: &mut Env<'_>) {
        self.unsynced.remove(id);
        if self.unsynced.is_empty() {
            env.timers.cancel(&self.id, &Timer::Sync);
        }
    }

    /// Writes the leader's assignment and answers everybody who waits for it. Replaying the record makes it so.
    fn distribute(&mut self, request: &SyncRequest, env: &mut Env<'_>) {
        env.step
            .records
            .push(self.record(&request.assignments, env.now_ms));
        for (id, member) in &mut self.members {
            let Some(token) = member.syncing.take() else {
                continue;
            };
            let response = SyncResponse {
                error: None,
                protocol_type: self.protocol_type.clone(),
                protocol: self.protocol.clone(),
                assignment: request.assignments.get(&**id).cloned().unwrap_or_default(),
            };
            let end_ms = env.now_ms + i64::from(member.session_timeout_ms);
            env.timers.set(&self.id, Timer::Session(id.clone()), end_ms);
            env.step.responses.push((token, Response::Sync(response)));
        }
    }

    fn synced(&self, assignment: std::sync::Arc<[u8]>) -> SyncResponse {
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        SyncResponse {
            error: None,
            protocol_type,
            protocol,
            assignment,
        }
    }

    /// Members that joined and never asked for their assignment are out.
    pub(super) fn sync_overdue(&mut self, env: &mut Env<'_>) {
        if !matches!(self.state, State::CompletingRebalance | State::Stable) {
            return;
        }
        let overdue = std::mem::take(&mut self.unsynced);
        for id in &overdue {
            env.step.events.push(Event::Expired);
            self.remove(id, GroupError::UnknownMemberId, env);
        }
    }

    fn heartbeat(&mut self, who: &Identity, env: &mut Env<'_>) -> Result<(), GroupError> {
        let id = self.check_identity(who)?;
        match self.state {
            State::Empty | State::Dead => Err(GroupError::UnknownMemberId),
            State::PreparingRebalance => {
                self.extend_session(&id, env);
                Err(GroupError::RebalanceInProgress)
            }
            State::CompletingRebalance | State::Stable => {
                self.extend_session(&id, env);
                Ok(())
            }
        }
    }
}
