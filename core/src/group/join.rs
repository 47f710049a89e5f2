//! JoinGroup: how clients become members, and members ask to stay.

use std::sync::Arc;

use super::member::join_error;
use super::record::TEXT_BYTES_MAX;
use super::state::{Group, State};
use super::types::{Event, GroupError, JoinRequest, JoinResponse, JoinedMember, Response, Step, Token};
use super::{Env, Groups, Member, Timer};

impl Groups {
    /// A client wants to be in a group. The answer comes when the rebalance it takes part in is done.
    pub fn join(&mut self, now_ms: i64, request: JoinRequest, token: Token) -> Step {
        let mut step = Step::default();
        if let Err(error) = self.check_join(&request) {
            step.responses.push((token, join_error(&request.member, error)));
            return step;
        }
        let id: Arc<str> = request.group.as_str().into();
        if self.groups.get(&id).is_some_and(Group::has_consumer_members) {
            return self.join_consumer_group(now_ms, &request, token);
        }
        if !self.groups.contains_key(&id) {
            self.groups.insert(id.clone(), Group::new(id.clone()));
        }
        let group = self
            .groups
            .get_mut(&id)
            .expect("it was just made if it was missing");
        let mut env = Env {
            config: &self.config,
            timers: &mut self.timers,
            step: &mut step,
            now_ms,
        };
        let member = request.member.clone();
        if let Err(error) = group.join(request, token, &mut env) {
            step.responses.push((token, join_error(&member, error)));
        } else if let Some(consumer) = &group.consumer {
            // Nobody was left in it, so it is a classic group again.
            let mut records = Vec::new();
            consumer.bury(&id, &mut records);
            step.records.splice(0..0, records);
        }
        self.forget_if_unused(&id);
        step
    }

    fn check_join(&self, request: &JoinRequest) -> Result<(), GroupError> {
        if request.group.is_empty() || request.group.len() > TEXT_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        let config = &self.config;
        if !(config.session_timeout_ms_min..=config.session_timeout_ms_max)
            .contains(&request.session_timeout_ms)
        {
            return Err(GroupError::InvalidSessionTimeout);
        }
        let texts = [
            &request.client_id,
            &request.client_host,
            &request.protocol_type,
            &request.unique,
        ];
        let names = request
            .protocols
            .iter()
            .map(|(name, _)| name)
            .chain(request.instance.as_ref());
        if texts
            .into_iter()
            .chain(names)
            .any(|text| text.len() > TEXT_BYTES_MAX / 4)
        {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        match self.groups.contains_key(request.group.as_str()) || request.member.is_empty() {
            true => Ok(()),
            false => Err(GroupError::UnknownMemberId),
        }
    }
}

impl Group {
    fn join(&mut self, request: JoinRequest, token: Token, env: &mut Env<'_>) -> Result<(), GroupError> {
        self.check_room(&request, env)?;
        if !self.supports(&request) {
            return Err(GroupError::InconsistentGroupProtocol);
        }
        if request.member.is_empty() {
            self.join_new(request, token, env)
        } else {
            self.join_again(request, token, env)
        }
    }

    fn check_room(&mut self, request: &JoinRequest, env: &mut Env<'_>) -> Result<(), GroupError> {
        let known = self.members.get(request.member.as_str());
        let room = match self.state {
            State::Empty | State::Dead => true,
            State::PreparingRebalance => {
                let joining = self.members.values().filter(|m| m.joining.is_some()).count();
                known.is_some_and(|m| m.joining.is_some()) || joining < env.config.members_max
            }
            State::CompletingRebalance | State::Stable => {
                known.is_some() || self.members.len() < env.config.members_max
            }
        };
        let replaces = request
            .instance
            .as_ref()
            .is_some_and(|instance| self.instances.contains_key(instance));
        if room || replaces {
            return Ok(());
        }
        if let Some((member, _)) = self.members.get_key_value(request.member.as_str()) {
            let member = member.clone();
            self.remove(&member, GroupError::GroupMaxSizeReached, env);
        }
        Err(GroupError::GroupMaxSizeReached)
    }

    /// Whether all members would still have an assignor in common.
    fn supports(&self, request: &JoinRequest) -> bool {
        if request.protocol_type.is_empty() || request.protocols.is_empty() {
            return false;
        }
        if matches!(self.state, State::Empty | State::Dead) {
            return true;
        }
        let common = |name: &String| self.members.values().all(|member| member.knows(name));
        self.protocol_type.as_ref() == Some(&request.protocol_type)
            && request.protocols.iter().any(|(name, _)| common(name))
    }

    fn join_new(&mut self, request: JoinRequest, token: Token, env: &mut Env<'_>) -> Result<(), GroupError> {
        let prefix = request.instance.as_deref().unwrap_or(&request.client_id);
        let id: Arc<str> = format!("{prefix}-{}", request.unique).into();
        if let Some(old) = request
            .instance
            .as_ref()
            .and_then(|instance| self.instances.get(instance))
            .cloned()
        {
            self.replace_static(&old, id, request, token, env);
            return Ok(());
        }
        if request.instance.is_none() && request.knows_required_ids {
            if self.pending.len() >= PENDING_MEMBERS_MAX {
                return Err(GroupError::GroupMaxSizeReached);
            }
            self.pending.insert(id.clone());
            let end_ms = env.now_ms + i64::from(request.session_timeout_ms);
            env.timers.set(&self.id, Timer::Pending(id.clone()), end_ms);
            env.step
                .responses
                .push((token, join_error(&id, GroupError::MemberIdRequired)));
            return Ok(());
        }
        self.add_and_rebalance(id, request, token, env);
        Ok(())
    }

    fn join_again(
        &mut self,
        request: JoinRequest,
        token: Token,
        env: &mut Env<'_>,
    ) -> Result<(), GroupError> {
        if let Some(id) = self.pending.take(request.member.as_str()) {
            env.timers.cancel(&self.id, &Timer::Pending(id.clone()));
            self.add_and_rebalance(id, request, token, env);
            return Ok(());
        }
        let id = self.check_member(&request.member, request.instance.as_deref())?;
        let member = &self.members[&id];
        let same = member.protocols == request.protocols;
        let leads = self.leader.as_ref() == Some(&id);
        match self.state {
            State::CompletingRebalance if same => {
                // It may have missed the answer to its JoinGroup.
                let response = self.joined(&id, leads, false);
                env.step.responses.push((token, Response::Join(response)));
            }
            State::Stable if same && !leads => {
                let response = self.joined(&id, false, false);
                env.step.responses.push((token, Response::Join(response)));
            }
            State::Empty | State::Dead => return Err(GroupError::UnknownMemberId),
            _ => {
                self.update(&id, request, token, env);
                self.rebalance_or_complete_join(env);
            }
        }
        Ok(())
    }

    fn add_and_rebalance(&mut self, id: Arc<str>, request: JoinRequest, token: Token, env: &mut Env<'_>) {
        if self.members.is_empty() {
            self.protocol_type = Some(request.protocol_type.clone());
        }
        if let Some(instance) = &request.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        self.came_ms = Some(env.now_ms);
        self.members.insert(id.clone(), Member::joining(request, token));
        env.step.events.push(Event::Joined);
        // It cannot send heartbeats before it knows its id, so an ordinary session timeout would throw it out of a
        // long rebalance; without any, clients that give up and come again would pile up.
        env.timers
            .set(&self.id, Timer::Session(id), env.now_ms + NEW_MEMBER_TIMEOUT_MS);
        self.rebalance_or_complete_join(env);
    }

    fn update(&mut self, id: &Arc<str>, request: JoinRequest, token: Token, env: &mut Env<'_>) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.session_timeout_ms = request.session_timeout_ms;
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
        member.protocols = request.protocols;
        member.wait_for_join(id, token, env.step);
    }

    /// A static member came back under a new member id; the old one is fenced.
    fn replace_static(
        &mut self,
        old: &Arc<str>,
        id: Arc<str>,
        request: JoinRequest,
        token: Token,
        env: &mut Env<'_>,
    ) {
        let Some(mut member) = self.members.remove(old) else {
            return;
        };
        let led = self.leader.as_ref() == Some(old);
        let can_skip = request.can_skip_assignment;
        member.answer_waiting(GroupError::FencedInstanceId, env.step);
        env.step.events.push(Event::Fenced);
        env.timers.cancel(&self.id, &Timer::Session(old.clone()));
        if self.unsynced.remove(old) {
            self.unsynced.insert(id.clone());
        }
        if let Some(instance) = &request.instance {
            self.instances.insert(instance.clone(), id.clone());
        }
        if led {
            self.leader = Some(id.clone());
        }
        self.members.insert(id.clone(), member);
        self.update(&id, request, token, env);
        self.extend_session(&id, env);
        match self.state {
            State::Stable if self.select_protocol() == self.protocol => {
                let mut response = self.joined(&id, led && can_skip, led && can_skip);
                if led && !can_skip {
                    // An old client that reads its own id here would assign anew; the old id keeps it from that.
                    response.leader = old.to_string();
                }
                if let Some(member) = self.members.get_mut(&id) {
                    member.joining = None;
                }
                env.step
                    .records
                    .push(self.record(&self.assignments(), env.now_ms));
                env.step.responses.push((token, Response::Join(response)));
            }
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(env),
            _ => self.rebalance_or_complete_join(env),
        }
    }

    /// The answer to a member that is in.
    pub(super) fn joined(&self, id: &Arc<str>, with_members: bool, skip_assignment: bool) -> JoinResponse {
        let protocol = self.protocol.clone().unwrap_or_default();
        let member = |(id, member): (&Arc<str>, &Member)| JoinedMember {
            member_id: id.to_string(),
            instance: member.instance.clone(),
            metadata: member.metadata(&protocol),
        };
        JoinResponse {
            error: None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.as_deref().unwrap_or_default().to_owned(),
            skip_assignment,
            member_id: id.to_string(),
            members: if with_members {
                self.members.iter().map(member).collect()
            } else {
                Vec::new()
            },
        }
    }
}

impl Member {
    fn joining(request: JoinRequest, token: Token) -> Self {
        Self {
            instance: request.instance,
            client_id: request.client_id,
            client_host: request.client_host,
            session_timeout_ms: request.session_timeout_ms,
            rebalance_timeout_ms: request.rebalance_timeout_ms,
            protocols: request.protocols,
            assignment: Arc::default(),
            joining: Some(token),
            syncing: None,
            is_new: true,
        }
    }
}

/// How long a new member's JoinGroup waits at most, in milliseconds.
pub(super) const NEW_MEMBER_TIMEOUT_MS: i64 = 5 * 60 * 1000;
/// Most member ids of one group that were given out and not used yet.
pub(super) const PENDING_MEMBERS_MAX: usize = 10_000;
