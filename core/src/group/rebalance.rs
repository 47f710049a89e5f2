//! The rebalance: everybody joins again, one generation ends and the next begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::state::{Group, State};
use super::types::{Event, GroupError, Response};
use super::{Env, Timer};
use crate::mutation::{Mutation, is_on};

impl Group {
    /// Something changed: asks members to join again, or goes on if that was asked already.
    pub(super) fn rebalance_or_complete_join(&mut self, env: &mut Env<'_>) {
        match self.state {
            State::PreparingRebalance => self.complete_join_if_all_are_there(env),
            _ => self.prepare_rebalance(env),
        }
    }

    /// Asks all members to join again.
    pub(super) fn prepare_rebalance(&mut self, env: &mut Env<'_>) {
        if self.state == State::CompletingRebalance {
            self.cancel_syncs(env);
        }
        self.unsynced.clear();
        env.timers.cancel(&self.id, &Timer::Sync);
        let is_first = self.state == State::Empty;
        self.state = State::PreparingRebalance;
        let timeout_ms = self.rebalance_timeout_ms();
        if is_first {
            let delay_ms = i64::from(env.config.initial_delay_ms);
            let remaining_ms = (timeout_ms - delay_ms).max(0);
            self.came_ms = None;
            env.timers
                .set(&self.id, Timer::Initial { remaining_ms }, env.now_ms + delay_ms);
        } else {
            env.timers.set(&self.id, Timer::Join, env.now_ms + timeout_ms);
        }
        self.complete_join_if_all_are_there(env);
    }

    /// Members that wait for an assignment have to join again instead.
    fn cancel_syncs(&mut self, env: &mut Env<'_>) {
        let waiting: Vec<_> = self
            .members
            .iter()
            .filter(|(_, m)| m.syncing.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        for id in waiting {
            self.extend_session(&id, env);
            let token = self.members.get_mut(&id).and_then(|m| m.syncing.take());
            if let Some(token) = token {
                env.step
                    .responses
                    .push((token, super::member::sync_error(GroupError::RebalanceInProgress)));
            }
        }
    }

    /// The initial delay is over: waits on if somebody came meanwhile (KIP-134), until nobody has come for as long as it is.
    /// Kafka waits as long again, counted from now.
    pub(super) fn initial_delay_over(&mut self, remaining_ms: i64, env: &mut Env<'_>) {
        let last_ms = self
            .came_ms
            .take()
            .map(|ms| ms + i64::from(env.config.initial_delay_ms));
        let delay_ms = last_ms.map_or(0, |last_ms| (last_ms - env.now_ms).min(remaining_ms));
        if delay_ms > 0 {
            let remaining_ms = remaining_ms - delay_ms;
            env.timers
                .set(&self.id, Timer::Initial { remaining_ms }, env.now_ms + delay_ms);
        } else {
            self.complete_join(env);
        }
    }

    /// Begins the next generation if nobody is missing. The very first one waits for the initial delay instead.
    pub(super) fn complete_join_if_all_are_there(&mut self, env: &mut Env<'_>) {
        let is_there = |m: &super::Member| m.joining.is_some() || is_on(Mutation::LeaveBehind);
        let all = self.pending.is_empty() && self.members.values().all(is_there);
        let delayed = self.generation == 0 && env.timers.is_initial(&self.id);
        if self.state == State::PreparingRebalance && all && !delayed {
            self.complete_join(env);
        }
    }

    /// Begins the next generation with those that are there.
    pub(super) fn complete_join(&mut self, env: &mut Env<'_>) {
        if self.state != State::PreparingRebalance {
            return;
        }
        env.timers.cancel(&self.id, &Timer::Join);
        let late = |(_, m): &(&Arc<str>, &super::Member)| m.joining.is_none() && m.instance.is_none();
        let late: Vec<Arc<str>> = self
            .members
            .iter()
            .filter(late)
            .map(|(id, _)| id.clone())
            .collect();
        for id in late {
            env.step.events.push(Event::Expired);
            self.drop_member(&id, GroupError::UnknownMemberId, env);
        }
        if !self.members.is_empty() && !self.elect_leader() {
            // Only static members are left and none of them is back yet: their session timeouts decide.
            let timeout_ms = self.rebalance_timeout_ms();
            env.timers.set(&self.id, Timer::Join, env.now_ms + timeout_ms);
            return;
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        if self.members.is_empty() {
            self.become_empty(env);
            return;
        }
        env.step.events.push(Event::ClassicRebalance);
        self.protocol = self.select_protocol();
        self.state = State::CompletingRebalance;
        self.unsynced = self.members.keys().cloned().collect();
        for id in self.members.keys().cloned().collect::<Vec<_>>() {
            let leads = self.leader.as_ref() == Some(&id);
            let response = self.joined(&id, leads, false);
            self.extend_session(&id, env);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.is_new = false;
            if let Some(token) = member.joining.take() {
                env.step.responses.push((token, Response::Join(response)));
            }
        }
        env.timers
            .set(&self.id, Timer::Sync, env.now_ms + self.rebalance_timeout_ms());
    }

    fn become_empty(&mut self, env: &mut Env<'_>) {
        self.state = State::Empty;
        self.protocol = None;
        self.leader = None;
        self.empty_since_ms = Some(env.now_ms);
        env.timers.cancel(&self.id, &Timer::Sync);
        env.step.records.push(self.record(&BTreeMap::new(), env.now_ms));
    }

    /// Makes sure that the leader has joined. False if nobody has.
    fn elect_leader(&mut self) -> bool {
        let has_joined = |id: &Arc<str>| self.members.get(id).is_some_and(|m| m.joining.is_some());
        if !self.leader.as_ref().is_some_and(has_joined) {
            self.leader = self
                .members
                .iter()
                .find(|(_, m)| m.joining.is_some())
                .map(|(id, _)| id.clone());
        }
        self.leader.is_some()
    }

    /// The assignor that most members prefer among those that all know; on a tie the leader's choice.
    pub(super) fn select_protocol(&self) -> Option<String> {
        let common = |name: &str| self.members.values().all(|member| member.knows(name));
        let favourite = |member: &super::Member| {
            member
                .protocols
                .iter()
                .map(|(name, _)| name.clone())
                .find(|name| common(name))
        };
        let mut votes: BTreeMap<String, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(favourite) {
            *votes.entry(name).or_default() += 1;
        }
        let most = votes.values().copied().max()?;
        let leader = self
            .leader
            .as_ref()
            .and_then(|id| self.members.get(id))
            .and_then(favourite);
        let winners = || {
            votes
                .iter()
                .filter(|(_, count)| **count == most)
                .map(|(name, _)| name)
        };
        winners()
            .find(|name| Some(*name) == leader.as_ref())
            .or_else(|| winners().next())
            .cloned()
    }

    /// A member gave no sign of life for its session timeout.
    pub(super) fn session_ended(&mut self, id: &Arc<str>, env: &mut Env<'_>) {
        let Some(member) = self.members.get(id) else {
            return;
        };
        // Who waits for an answer cannot send heartbeats; the end of the rebalance sets the timer again.
        let waits = !member.is_new && (member.joining.is_some() || member.syncing.is_some());
        if !waits {
            env.step.events.push(Event::Expired);
            self.remove(id, GroupError::UnknownMemberId, env);
        }
    }

    /// A client never came with the member id that it was given.
    pub(super) fn pending_member_gone(&mut self, id: &Arc<str>, env: &mut Env<'_>) {
        self.pending.remove(id);
        self.complete_join_if_all_are_there(env);
    }

    /// Takes a member out, and lets the others rebalance. What it waits for is answered with `error`.
    pub(super) fn remove(&mut self, id: &Arc<str>, error: GroupError, env: &mut Env<'_>) {
        self.drop_member(id, error, env);
        match self.state {
            State::Stable | State::CompletingRebalance => self.prepare_rebalance(env),
            State::PreparingRebalance => self.complete_join_if_all_are_there(env),
            State::Empty | State::Dead => {}
        }
    }

    fn drop_member(&mut self, id: &Arc<str>, error: GroupError, env: &mut Env<'_>) {
        let Some(mut member) = self.members.remove(id) else {
            return;
        };
        member.answer_waiting(error, env.step);
        env.timers.cancel(&self.id, &Timer::Session(id.clone()));
        self.unsynced.remove(id);
        if let Some(instance) = &member.instance
            && self.instances.get(instance) == Some(id)
        {
            self.instances.remove(instance);
        }
        if self.leader.as_ref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }

    /// What every member consumes now.
    pub(super) fn assignments(&self) -> BTreeMap<String, Arc<[u8]>> {
        self.members
            .iter()
            .map(|(id, member)| (id.to_string(), member.assignment.clone()))
            .collect()
    }
}
