//! LeaveGroup: members go before their session ends, several at a time (KIP-345).

use super::state::Group;
use super::types::{Event, GroupError, LeaveMember, Step};
use super::{Env, Groups, Timer};

impl Groups {
    /// Takes members out; says for each whether it was in.
    pub fn leave(
        &mut self,
        now_ms: i64,
        group: &str,
        members: &[LeaveMember],
    ) -> (Vec<Result<(), GroupError>>, Step) {
        if self.groups.get(group).is_some_and(Group::has_consumer_members) {
            return self.leave_consumer_group(now_ms, group, members);
        }
        let work = |group: &mut Group, env: &mut Env<'_>| {
            members.iter().map(|member| group.leave(member, env)).collect()
        };
        let (answers, step) = self.with_group(group, now_ms, work);
        (
            answers.unwrap_or_else(|| vec![Err(GroupError::UnknownMemberId); members.len()]),
            step,
        )
    }
}

impl Group {
    fn leave(&mut self, leaving: &LeaveMember, env: &mut Env<'_>) -> Result<(), GroupError> {
        if leaving.instance.is_none()
            && let Some(id) = self.pending.take(leaving.member.as_str())
        {
            env.timers.cancel(&self.id, &Timer::Pending(id));
            self.complete_join_if_all_are_there(env);
            return Ok(());
        }
        let id = match &leaving.instance {
            Some(instance) if leaving.member.is_empty() => self
                .instances
                .get(instance)
                .cloned()
                .ok_or(GroupError::UnknownMemberId)?,
            instance => self.check_member(&leaving.member, instance.as_deref())?,
        };
        env.step.events.push(Event::Left);
        self.remove(&id, GroupError::UnknownMemberId, env);
        Ok(())
    }
}
