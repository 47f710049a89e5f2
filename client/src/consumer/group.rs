//! Membership of a consumer group: join, deal out, sync, heartbeat, leave (the classic protocol).
//!
//! The consumer calls [`Membership::join`] when the heartbeat task says that the group rebalances; nothing here touches
//! positions or fetches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use millstream_kafka::ErrorCode;
use millstream_kafka::api::heartbeat::HeartbeatRequest;
use millstream_kafka::api::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use millstream_kafka::api::leave_group::{LeaveGroupRequest, MemberIdentity};
use millstream_kafka::api::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use millstream_kafka::wire::Text;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::ConsumerConfig;
use super::protocol::{self, CONSUMER_PROTOCOL, RANGE};
use crate::cluster::{Client, Purpose};
use crate::error::{Error, Result};
use crate::metadata::TopicPartition;

/// One member of one group.
#[derive(Debug)]
pub(super) struct Membership {
    client: Client,
    group: String,
    instance: Option<String>,
    topics: Vec<String>,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    member: String,
    generation: i32,
    heart: Option<Heart>,
}

/// The heartbeat task and what it last heard.
#[derive(Debug)]
struct Heart {
    pulse: watch::Receiver<Pulse>,
    task: AbortHandle,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pulse {
    Steady,
    /// The group rebalances: join again.
    Rebalance,
    /// The coordinator does not know this member any more: join as a new one.
    Lost,
    /// Another member has our instance id (KIP-345).
    Fenced,
}

impl Membership {
    /// A member that has not joined yet.
    pub fn new(client: &Client, group: &str, topics: Vec<String>, config: &ConsumerConfig) -> Self {
        Self {
            client: client.clone(),
            group: group.to_owned(),
            instance: config.group_instance_id.clone(),
            topics,
            session_timeout: config.session_timeout,
            rebalance_timeout: config.rebalance_timeout,
            member: String::new(),
            generation: -1,
            heart: None,
        }
    }

    /// Member id and generation, which offset commits carry.
    pub fn identity(&self) -> (&str, i32) {
        (&self.member, self.generation)
    }

    /// Whether `join` has to be called before anything else.
    pub fn must_join(&self) -> bool {
        self.heart
            .as_ref()
            .is_none_or(|heart| *heart.pulse.borrow() != Pulse::Steady)
    }

    /// Returns when the group begins to rebalance.
    pub async fn disturbed(&mut self) {
        if let Some(heart) = &mut self.heart {
            // An error means that the task has ended, which it does only after saying why.
            let _ = heart.pulse.wait_for(|pulse| *pulse != Pulse::Steady).await;
        }
    }

    /// Joins, deals out the partitions if this member is asked to, and returns what it got. Takes as long as the
    /// other members need to join.
    ///
    /// # Errors
    /// The coordinator refuses the member, or cannot be reached for the client's `retry_timeout`.
    pub async fn join(&mut self) -> Result<Vec<TopicPartition>> {
        match self.heart.take().map(|heart| *heart.pulse.borrow()) {
            Some(Pulse::Lost) => self.forget(),
            Some(Pulse::Fenced) => return Err(self.error("membership", ErrorCode::FencedInstanceId)),
            _ => {}
        }
        let client = self.client.clone();
        let mut retries = client.retries();
        let assigned = loop {
            match self.join_once().await {
                Err(error) if retries.again(&error).await => {}
                done => break done?,
            }
        };
        self.heart = Some(self.start_heart());
        Ok(assigned)
    }

    /// Leaves, so that the others need not wait for the session to end. A static member stays (KIP-345).
    pub async fn leave(&mut self) -> Result<()> {
        self.heart = None;
        if self.member.is_empty() || self.instance.is_some() {
            return Ok(());
        }
        let connection = self.client.coordinator(&self.group, Purpose::Requests).await?;
        let member = Text::from(self.member.as_str());
        let version = connection.version::<LeaveGroupRequest>(i16::MAX)?;
        let mut request = LeaveGroupRequest {
            group_id: Text::from(self.group.as_str()),
            ..Default::default()
        };
        if version >= LEAVE_MANY_VERSION {
            request.members = vec![MemberIdentity {
                member_id: member,
                ..Default::default()
            }];
        } else {
            request.member_id = member;
        }
        let answer = connection
            .call_at(version, &request, self.client.config().request_timeout)
            .await?;
        self.forget();
        Error::check(answer.error_code, None, || {
            format!("leaving group '{}'", self.group)
        })
    }

    fn forget(&mut self) {
        self.member.clear();
        self.generation = -1;
    }

    async fn join_once(&mut self) -> Result<Vec<TopicPartition>> {
        loop {
            let answer = self.ask_to_join().await?;
            match ErrorCode::from_i16(answer.error_code) {
                ErrorCode::None => {}
                // The coordinator gives the id first, so that a member that goes away here leaves nothing (KIP-394).
                ErrorCode::MemberIdRequired => {
                    self.member = answer.member_id.to_string();
                    continue;
                }
                ErrorCode::UnknownMemberId => {
                    self.forget();
                    continue;
                }
                code => return Err(self.error("joining", code)),
            }
            self.member = answer.member_id.to_string();
            self.generation = answer.generation_id;
            match self.sync(answer).await {
                Ok(assignment) => {
                    return protocol::read_assignment(&assignment).ok_or_else(|| {
                        Error::Invalid(format!(
                            "group '{}' gave out an unreadable assignment",
                            self.group
                        ))
                    });
                }
                Err(error) => match error.code() {
                    Some(ErrorCode::RebalanceInProgress | ErrorCode::IllegalGeneration) => {}
                    Some(ErrorCode::UnknownMemberId) => self.forget(),
                    _ => return Err(error),
                },
            }
        }
    }

    async fn ask_to_join(&self) -> Result<JoinGroupResponse> {
        let connection = self.client.coordinator(&self.group, Purpose::Group).await?;
        let version = connection.version::<JoinGroupRequest>(i16::MAX)?;
        let protocol = JoinGroupRequestProtocol {
            name: Text::from(RANGE),
            metadata: protocol::write_subscription(&self.topics),
            ..Default::default()
        };
        let request = JoinGroupRequest {
            group_id: Text::from(self.group.as_str()),
            session_timeout_ms: self.session_timeout.as_millis() as i32,
            rebalance_timeout_ms: self.rebalance_timeout.as_millis() as i32,
            member_id: Text::from(self.member.as_str()),
            group_instance_id: self.instance.as_deref().map(Text::from),
            protocol_type: Text::from(CONSUMER_PROTOCOL),
            protocols: vec![protocol],
            ..Default::default()
        };
        connection
            .call_at(version, &request, self.rebalance_timeout + JOIN_GRACE)
            .await
    }

    async fn sync(&self, joined: JoinGroupResponse) -> Result<Bytes> {
        let assignments = if joined.leader == joined.member_id && !joined.skip_assignment {
            self.deal_out(&joined).await?
        } else {
            Vec::new()
        };
        let connection = self.client.coordinator(&self.group, Purpose::Group).await?;
        let version = connection.version::<SyncGroupRequest>(i16::MAX)?;
        let request = SyncGroupRequest {
            group_id: Text::from(self.group.as_str()),
            generation_id: self.generation,
            member_id: joined.member_id,
            group_instance_id: self.instance.as_deref().map(Text::from),
            protocol_type: joined
                .protocol_type
                .or_else(|| Some(Text::from(CONSUMER_PROTOCOL))),
            protocol_name: joined.protocol_name,
            assignments,
            ..Default::default()
        };
        let answer = connection
            .call_at(version, &request, self.rebalance_timeout + JOIN_GRACE)
            .await?;
        Error::check(answer.error_code, None, || {
            format!("syncing with group '{}'", self.group)
        })?;
        Ok(answer.assignment)
    }

    /// The leader's part: who gets which partitions.
    async fn deal_out(&self, joined: &JoinGroupResponse) -> Result<Vec<SyncGroupRequestAssignment>> {
        let mut members = Vec::with_capacity(joined.members.len());
        let mut wanted = BTreeSet::new();
        for member in &joined.members {
            // A member whose wish cannot be read gets nothing, and the others are served.
            let topics = protocol::read_subscription(&member.metadata).unwrap_or_default();
            wanted.extend(topics.iter().cloned());
            members.push((member.member_id.to_string(), topics));
        }
        let mut partitions = BTreeMap::new();
        for topic in wanted {
            match self.client.topic(&topic, false).await {
                Ok(found) => drop(partitions.insert(topic, found.partitions.len() as i32)),
                Err(error) if error.is_retriable() => return Err(error),
                Err(error) => tracing::warn!(topic, %error, "topic is left out of the group's assignment"),
            }
        }
        let dealt = protocol::assign_ranges(&members, &partitions);
        let written = dealt
            .into_iter()
            .map(|(member, partitions)| SyncGroupRequestAssignment {
                member_id: Text::from(member),
                assignment: protocol::write_assignment(&partitions),
                ..Default::default()
            });
        Ok(written.collect())
    }

    fn start_heart(&self) -> Heart {
        let (tell, pulse) = watch::channel(Pulse::Steady);
        let request = HeartbeatRequest {
            group_id: Text::from(self.group.as_str()),
            generation_id: self.generation,
            member_id: Text::from(self.member.as_str()),
            group_instance_id: self.instance.as_deref().map(Text::from),
            ..Default::default()
        };
        let task = tokio::spawn(beat(
            self.client.clone(),
            self.group.clone(),
            request,
            self.session_timeout,
            tell,
        ));
        Heart {
            pulse,
            task: task.abort_handle(),
        }
    }

    fn error(&self, doing: &str, code: ErrorCode) -> Error {
        Error::Broker {
            what: format!("{doing} group '{}'", self.group),
            code,
            message: None,
        }
    }
}

impl Drop for Heart {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Beats until the group is disturbed. A coordinator that cannot be reached is looked for again at the next beat.
async fn beat(
    client: Client,
    group: String,
    request: HeartbeatRequest,
    session: Duration,
    tell: watch::Sender<Pulse>,
) {
    let mut ticks = tokio::time::interval((session / BEATS_PER_SESSION).min(BEAT_INTERVAL_MAX));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let answer = async {
            client
                .coordinator(&group, Purpose::Requests)
                .await?
                .call(&request)
                .await
        };
        let code = match answer.await {
            Ok(answer) => ErrorCode::from_i16(answer.error_code),
            Err(error) => {
                tracing::debug!(group, %error, "heartbeat failed");
                continue;
            }
        };
        let pulse = match code {
            ErrorCode::RebalanceInProgress => Pulse::Rebalance,
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => Pulse::Lost,
            ErrorCode::FencedInstanceId => Pulse::Fenced,
            _ => continue,
        };
        tell.send_replace(pulse);
        return;
    }
}

/// Heartbeats per session timeout, so that one may get lost.
const BEATS_PER_SESSION: u32 = 4;
/// Longest pause between two heartbeats: a member learns of a rebalance from the answer.
const BEAT_INTERVAL_MAX: Duration = Duration::from_secs(3);
/// How much longer than a rebalance may take the client waits for its end.
const JOIN_GRACE: Duration = Duration::from_secs(10);
/// LeaveGroup names several members from this version on.
const LEAVE_MANY_VERSION: i16 = 3;
