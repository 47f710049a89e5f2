//! What coordinators of groups answer: members of both protocols, and the workers of transforms, whose offsets they keep.

use std::sync::Arc;

use millstream_core::group::consumer::{ConsumerHeartbeat, Partitions};
use millstream_core::group::{
    CommitRequest, GroupError, Groups, Identity, LeaveMember, OffsetCommit, Response, Step, Token,
    TxnCommitRequest,
};
use millstream_core::ids::PartitionIndex;
use millstream_core::mutation::{Mutation, is_on};
use millstream_core::transaction::Producer;

use super::classic::{Classic, Waiting, partitions_of};
use super::member::{Beat, Kept, group_of};
use super::shard::Release;
use super::{Ask, Here, Job};
use crate::client::Answer;
use crate::layout::Layout;
use crate::replica::Fatal;

impl Here<'_, '_> {
    /// How far a job has come.
    pub(super) fn offset(&mut self, ask: Ask, job: Job) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        let (topic, partition) = job.source();
        let look = |groups: &mut Groups, _| {
            let group = job.group();
            let offset = groups.fetch_offset(&group, topic, partition, true)?;
            let offset = offset.map_or(-1, |known| known.offset);
            Ok((offset, groups.confirmation(&group, topic, partition)))
        };
        let (answer, confirmation) = match self.with(ask, place, look) {
            Some(Ok((offset, confirmation))) => (Answer::Offset(offset), Some(confirmation)),
            Some(Err(GroupError::UnstableOffsetCommit)) => (Answer::Later, None),
            Some(Err(error)) => panic!("nobody is refused an offset: {error}"),
            None => return Ok(()),
        };
        if is_on(Mutation::OldOffsets) {
            self.answer(ask, answer);
            return Ok(());
        }
        let records: Vec<_> = confirmation.into_iter().collect();
        self.keep::<Groups>(place, &records, None, Release::of(ask, answer))
    }

    /// Keeps the offset of a job in its transaction.
    pub(super) fn commit(
        &mut self,
        ask: Ask,
        job: Job,
        producer: Producer,
        offset: i64,
    ) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        let (topic, partition) = job.source();
        let request = TxnCommitRequest {
            who: Identity {
                group: job.group(),
                generation: -1,
                ..Identity::default()
            },
            producer: (producer.id, producer.epoch),
            offsets: vec![OffsetCommit {
                topic: topic.to_owned(),
                partition,
                offset,
                leader_epoch: -1,
                metadata: String::new(),
            }],
        };
        let commit = |groups: &mut Groups, now_ms| groups.txn_commit(now_ms, &request);
        match self.with(ask, place, commit) {
            Some((_, step)) => self.keep_step(place, step, Release::of(ask, Answer::Done)),
            None => Ok(()),
        }
    }

    /// A member of KIP-848 lives, joins or gives something back.
    pub(super) fn heartbeat(&mut self, ask: Ask, request: &ConsumerHeartbeat) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        let beat = |groups: &mut Groups, now_ms| groups.consumer_heartbeat(now_ms, request);
        let Some((result, step)) = self.with(ask, place, beat) else {
            return Ok(());
        };
        let beats = result.as_ref().ok().map(|answer| Beat {
            group: group_of(&request.group),
            member: request.member.clone(),
            assignment: answer.assignment.clone(),
            heard_ms: self.scene.now_ms,
            generation: None,
        });
        let release = Release {
            beats: beats.into_iter().collect(),
            ..Release::of(ask, Answer::Member(result))
        };
        self.keep_step(place, step, release)
    }

    /// A member of the classic protocol joins, lives, asks what it consumes, or keeps an offset.
    pub(super) fn classic(&mut self, ask: Ask, request: Classic) -> Result<(), Fatal> {
        let place = self.scene.judge.layout.offsets_place();
        match request {
            Classic::Join(request) => {
                let waiting = Waiting {
                    ask,
                    group: group_of(&request.group),
                    member: request.member.clone(),
                    generation: -1,
                };
                self.waits(place, waiting, |groups, now_ms, token| {
                    groups.join(now_ms, request, token)
                })
            }
            Classic::Sync(request) => {
                let waiting = Waiting {
                    ask,
                    group: group_of(&request.who.group),
                    member: request.who.member.clone(),
                    generation: request.who.generation,
                };
                self.waits(place, waiting, |groups, now_ms, token| {
                    groups.sync(now_ms, &request, token)
                })
            }
            Classic::Heartbeat(who) => {
                let beat = |groups: &mut Groups, now_ms| groups.heartbeat(now_ms, &who);
                let Some(result) = self.with(ask, place, beat) else {
                    return Ok(());
                };
                let lives = result.is_ok().then(|| Beat {
                    group: group_of(&who.group),
                    member: who.member,
                    assignment: None,
                    heard_ms: self.scene.now_ms,
                    generation: None,
                });
                let release = Release {
                    beats: lives.into_iter().collect(),
                    ..Release::of(ask, Answer::Stays(result))
                };
                self.keep::<Groups>(place, &[], None, release)
            }
            Classic::Commit(request) => self.commit_of_member(ask, place, &request),
            Classic::Leave(who) => {
                let leaving = [LeaveMember {
                    member: who.member.clone(),
                    ..LeaveMember::default()
                }];
                let leave = |groups: &mut Groups, now_ms| groups.leave(now_ms, &who.group, &leaving);
                let Some((results, step)) = self.with(ask, place, leave) else {
                    return Ok(());
                };
                let result = results.into_iter().collect::<Result<(), _>>();
                self.keep_step(place, step, Release::of(ask, Answer::Stays(result)))
            }
        }
    }

    /// A member of either protocol keeps an offset.
    fn commit_of_member(&mut self, ask: Ask, place: i32, request: &CommitRequest) -> Result<(), Fatal> {
        let who = &request.who;
        let commit = |groups: &mut Groups, now_ms| {
            let is_classic = !groups.is_consumer_member(&who.group, &who.member);
            (is_classic, groups.commit(now_ms, request))
        };
        let Some((is_classic, (result, step))) = self.with(ask, place, commit) else {
            return Ok(());
        };
        let result = result.and_then(|results| results.into_iter().collect::<Result<(), _>>());
        let offset = request.offsets.first().filter(|_| result.is_ok());
        let kept = offset.and_then(|offset| {
            Some(Kept {
                group: group_of(&who.group),
                member: who.member.clone(),
                is_classic,
                generation: who.generation,
                topic: self.scene.judge.layout.topic_id(&offset.topic)?,
                partition: PartitionIndex(offset.partition),
            })
        });
        let release = Release {
            kept,
            ..Release::of(ask, Answer::Stays(result))
        };
        self.keep_step(place, step, release)
    }

    /// Somebody asks what is answered when others have asked, too.
    fn waits(
        &mut self,
        place: i32,
        waiting: Waiting,
        work: impl FnOnce(&mut Groups, i64, Token) -> Step,
    ) -> Result<(), Fatal> {
        self.parts.next_token += 1;
        let token = Token(self.parts.next_token);
        let step = self.with(waiting.ask, place, |groups, now_ms| work(groups, now_ms, token));
        let Some(step) = step else {
            return Ok(());
        };
        if let Some(shard) = self.parts.offsets.get_mut(&place) {
            shard.waits(token, waiting);
        }
        self.keep_step(place, step, Release::default())
    }

    /// Writes what groups have decided. Who waited for it hears of it with the release.
    pub(super) fn keep_step(&mut self, place: i32, step: Step, release: Release) -> Result<(), Fatal> {
        let mut release = release;
        if step.records.is_empty() && step.responses.is_empty() && release.answers.is_empty() {
            return Ok(());
        }
        for (token, response) in step.responses {
            let shard = self.parts.offsets.get_mut(&place);
            let Some(waiting) = shard.and_then(|shard| shard.waited(token)) else {
                continue;
            };
            let beat = beat_of(&waiting, &response, self.scene.judge.layout, self.scene.now_ms);
            release.beats.extend(beat);
            release
                .answers
                .push((waiting.ask, Answer::Waited(Arc::new(response))));
        }
        self.keep::<Groups>(place, &step.records, step.producer, release)
    }
}

/// What an answer that waited says of a member: it has nothing when it has joined, and what it is told when it has synced.
fn beat_of(waiting: &Waiting, response: &Response, layout: &Layout, heard_ms: u64) -> Option<Beat> {
    let (member, assignment, generation) = match response {
        Response::Join(join) if join.error.is_none() => (&join.member_id, Partitions::new(), None),
        Response::Sync(sync) if sync.error.is_none() => {
            let assignment = partitions_of(&sync.assignment, layout);
            (&waiting.member, assignment, Some(waiting.generation))
        }
        _ => return None,
    };
    Some(Beat {
        group: waiting.group,
        member: member.clone(),
        assignment: Some(assignment),
        heard_ms,
        generation,
    })
}
