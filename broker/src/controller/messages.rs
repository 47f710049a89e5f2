//! What brokers say to the quorum's leader, and what it answers: JSON, since it is rare and small.

use std::collections::BTreeMap;

use bytes::Bytes;
use millstream_core::cluster::{Command, Outcome, Refusal};
use millstream_core::ids::{BrokerId, TopicId};
use millstream_quorum::QuorumStatus;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A node of the quorum, and its cluster address.
pub type Node = (u64, String);

/// Something that only the quorum's leader can do.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// Changes the image.
    Submit(Box<Command>),
    /// Lets the broker that asks follow the quorum.
    Join {
        /// Where it is reached.
        address: String,
        /// Names its disk.
        storage: Uuid,
    },
    /// Lets a broker vote that follows already.
    AddVoter(BrokerId),
    /// Takes the vote from a broker; it follows on.
    RemoveVoter(BrokerId),
    /// A broker does not follow any more.
    Forget(BrokerId),
    /// Asks a voter what it held when it was alone. Everybody answers, not only the leader.
    LoneImage,
    /// Asks what is known of the broker that asks, which has an empty disk. Everybody answers, not only the leader.
    Hello,
    /// Asks whether the broker that asks follows the quorum still.
    Membership,
    /// Asks how the quorum is: only its leader knows how far the others are.
    Quorum,
    /// Asks how far the followers of a topic's partitions are. Everybody answers for those that it leads.
    Followers(TopicId),
}

/// What came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// The command was decided on.
    Applied {
        /// Version of the image after it.
        version: u64,
        /// What it did.
        outcome: Result<Outcome, Refusal>,
    },
    /// Nothing was done: another one leads, or nobody.
    NotLeader(Option<Node>),
    /// It may be done, or not.
    Unknown(String),
    /// It is not done, and will not be if asked again.
    Failed(String),
    /// It is done.
    Done,
    /// The image of a broker that was alone, if it held anything.
    LoneImage(Option<String>),
    /// What is known of the broker that asks.
    Standing(Standing),
    /// How the quorum is.
    Quorum(Box<QuorumStatus>),
    /// How far followers are, partition by partition.
    Followers(Followers),
}

/// How far followers are, partition by partition.
pub type Followers = BTreeMap<i32, Vec<FollowerLag>>;

/// How far a follower is, as its leader knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowerLag {
    /// The follower.
    pub broker: BrokerId,
    /// Records that it lacks.
    pub lag_records: i64,
    /// How long ago it held all that the leader had, in milliseconds.
    pub lag_ms: i64,
}

/// What a broker knows of another one that has an empty disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Nothing: it knows of no cluster that has begun.
    NotBegun,
    /// The cluster has begun, and the broker is to vote in it, which was not there yet.
    Awaited,
    /// The broker was there before: it has lost its disk.
    Known,
    /// The cluster has begun, and the broker does not vote in it.
    NoVote,
    /// The broker follows the quorum, with a vote or without.
    Member,
    /// The broker does not follow the quorum.
    Stranger,
}

/// A sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Which start of the broker this is.
    pub incarnation: u64,
    /// What its registration gave it.
    pub epoch: u64,
    /// Version of the image that is in force there.
    pub version: u64,
    /// Whether it is about to stop, and wants others to lead.
    pub wants_to_stop: bool,
}

/// How the leader of the quorum sees a broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pulse {
    /// Another one leads, or nobody.
    NotLeader(Option<Node>),
    /// The image has no broker of this epoch.
    Unknown,
    /// It was heard.
    Heard {
        /// Whether it is out of service.
        fenced: bool,
    },
}

/// A message as bytes.
pub fn encode<T: Serialize>(message: &T) -> Bytes {
    let bytes = serde_json::to_vec(message);
    bytes.expect("messages hold nothing that JSON cannot say").into()
}

/// Reads what [`encode`] wrote.
///
/// # Errors
/// The bytes are no such message.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("a message that cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use millstream_core::cluster::Image;
    use millstream_core::ids::TopicName;

    use super::*;

    #[test]
    fn commands_and_what_came_of_them_travel() {
        let mut image = Image::default();
        let create = Command::CreateTopic {
            name: TopicName::new("a").unwrap(),
            id: TopicId(Uuid::from_u128(7)),
            partitions: vec![vec![BrokerId(1)]],
            configs: BTreeMap::new(),
        };
        let outcome = millstream_core::cluster::apply(&mut image, &create).unwrap();
        let commands = [
            create,
            Command::Bootstrap {
                cluster_id: "orders".to_owned(),
                image: Some(Box::new(image)),
            },
        ];
        for command in commands {
            let sent = encode(&Request::Submit(Box::new(command.clone())));
            let read: Request = decode(&sent).unwrap();
            assert!(matches!(read, Request::Submit(read) if *read == command));
        }
        let sent = encode(&Answer::Applied {
            version: u64::MAX,
            outcome: Ok(outcome.clone()),
        });
        let read: Answer = decode(&sent).unwrap();
        assert!(matches!(read, Answer::Applied { version: u64::MAX, outcome: Ok(read) } if read == outcome));
        assert!(decode::<Answer>(b"{").is_err());
    }
}
