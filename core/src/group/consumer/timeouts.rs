//! Deadlines of members.

use std::sync::Arc;

use super::ConsumerMember;
use super::record::MemberState;
use crate::group::Groups;
use crate::group::timers::Timer;

impl Groups {
    /// A deadline of a group that follows KIP-848 has come: says which member has to go.
    pub(in crate::group) fn overdue(
        &mut self,
        id: &Arc<str>,
        timer: &Timer,
        now_ms: i64,
    ) -> Option<Arc<str>> {
        let group = self.groups.get(id)?.consumer.as_deref()?;
        let overdue = match timer {
            Timer::Session(member) | Timer::Rejoin(member) | Timer::Resync(member) => {
                group.members.get_key_value(member).map(|(member, _)| member)
            }
            Timer::Revocation(member, epoch) => {
                let found = group.members.get_key_value(member);
                found
                    .filter(|(_, m)| m.has.epoch == *epoch && m.has.state == MemberState::UnrevokedPartitions)
                    .map(|(member, _)| member)
            }
            Timer::Pending(_) | Timer::Initial { .. } | Timer::Join | Timer::Sync | Timer::Converted => None,
        };
        let member = overdue?.clone();
        // If that cannot be written, the member is here still, and has to be looked at again.
        self.timers
            .set(id, Timer::Session(member.clone()), now_ms + RETRY_MS);
        Some(member)
    }

    /// Gives every member a session from now on: the log does not say when it sent its last heartbeat.
    pub(in crate::group) fn begin_sessions(&mut self, id: &Arc<str>, now_ms: i64) {
        let usual_ms = self.times(id).session_timeout_ms;
        let group = self.groups.get(id).and_then(|group| group.consumer.as_deref());
        let members = group.into_iter().flat_map(|group| &group.members);
        for (member_id, member) in members {
            let session_ms = member.session_timeout_ms(usual_ms);
            self.timers
                .set(id, Timer::Session(member_id.clone()), now_ms + session_ms);
            if member.wants.classic.is_none() && member.has.state == MemberState::UnrevokedPartitions {
                let timeout_ms = i64::from(member.wants.rebalance_timeout_ms.max(0));
                let timer = Timer::Revocation(member_id.clone(), member.has.epoch);
                self.timers.set(id, timer, now_ms + timeout_ms);
            }
        }
    }
}

impl ConsumerMember {
    /// How long it may be silent: a member of the classic protocol as long as it said, the others as long as is usual in
    /// the group.
    pub(super) fn session_timeout_ms(&self, usual_ms: i32) -> i64 {
        let classic = self.wants.classic.as_ref();
        i64::from(classic.map_or(usual_ms, |classic| classic.session_timeout_ms))
    }
}

/// When a member that should be out is looked at again, in milliseconds.
const RETRY_MS: i64 = 1000;
