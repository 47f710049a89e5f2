//! How a broker gets into its cluster: as one of the voters that begin it, by joining it, or because it was in it before.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_core::cluster::{Broker, Command, Outcome};
use millstream_core::ids::BrokerId;
use millstream_quorum::QuorumError;
use uuid::Uuid;

use super::cluster::{Life, Member, show};
use super::messages::{Answer, Request, decode, encode};
use crate::peer::CallKind;
use crate::settings::Settings;

/// What the settings say about the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Address to listen on for other brokers.
    pub listen: String,
    /// Directory of the certificates.
    pub certs: String,
    /// How to get in.
    pub way: Way,
}

/// How a broker gets into its cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// It is one of the voters that begin the cluster.
    Begin(BTreeMap<BrokerId, String>),
    /// It asks a broker at this address.
    Join(String),
    /// It was in it before.
    Resume,
}

/// Why a broker does not get into a cluster.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// Two settings exclude each other.
    #[error("--voters begins a cluster and --join enters one: give only one of them")]
    Both,
    /// A setting is missing.
    #[error("a broker of a cluster needs {0}")]
    Missing(&'static str),
    /// A setting is given without those that it belongs to.
    #[error(
        "{0} says that this broker is to be of a cluster, but neither which voters begin it (--voters) nor whom to join (--join)"
    )]
    NoWay(&'static str),
    /// The list of voters cannot be read.
    #[error("--voters: '{0}' is not ID@HOST:PORT")]
    Voter(String),
    /// A voter is named twice.
    #[error("--voters names broker {0} twice")]
    VoterTwice(BrokerId),
    /// This broker is not a voter.
    #[error("--voters does not name this broker, which is {0}: a broker that does not vote uses --join")]
    NotAmongVoters(BrokerId),
    /// The directory belongs to a broker that has data of its own.
    #[error(
        "the data directory holds topics of a broker that was alone, which would be lost in cluster '{cluster}': begin a cluster with it (--voters), or use an empty directory"
    )]
    HoldsTopics {
        /// The cluster.
        cluster: String,
    },
    /// Another cluster.
    #[error("this broker's certificate is of cluster '{certificate}', but the quorum is that of '{quorum}'")]
    OtherCluster {
        /// What the certificate says.
        certificate: String,
        /// What the image says.
        quorum: String,
    },
    /// It voted before, and what it promised is gone.
    #[error(
        "broker {0} has lost its disk, or at least its part in the quorum: it was a voter, and must not vote again without what it promised. Run 'millstream cluster quorum remove {0}' on a broker that runs, start this one with --join HOST:PORT in place of --voters, and then run 'millstream cluster quorum add {0}'"
    )]
    LostDisk(BrokerId),
    /// The cluster goes on without its vote.
    #[error(
        "broker {0} does not vote in the cluster, which has begun: start it with --join HOST:PORT in place of --voters; 'millstream cluster quorum add {0}' gives it a vote"
    )]
    NoVote(BrokerId),
    /// It was a member before.
    #[error(
        "broker {id} was removed from cluster '{cluster}': to come back it starts with an empty --data-dir and --join HOST:PORT"
    )]
    Removed {
        /// The broker.
        id: BrokerId,
        /// The cluster.
        cluster: String,
    },
    /// The quorum does not begin.
    #[error("the quorum does not begin: {0}")]
    Begin(#[from] QuorumError),
    /// The cluster does not take this broker.
    #[error("the cluster does not take this broker: {0}")]
    Refused(String),
}

impl Membership {
    /// What the settings say; none for a broker that is alone.
    ///
    /// # Errors
    /// Settings that contradict each other, or are missing.
    pub fn of(settings: &Settings) -> Result<Option<Self>, EntryError> {
        let set = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let (voters, join) = (set(&settings.cluster_voters), set(&settings.cluster_join));
        let (listen, certs) = (set(&settings.cluster_listen), set(&settings.certs));
        let me = BrokerId(settings.node_id);
        let way = match (voters, join) {
            (Some(_), Some(_)) => return Err(EntryError::Both),
            (Some(voters), None) => Way::Begin(parse_voters(&voters, me)?),
            (None, Some(join)) => Way::Join(join),
            (None, None) if has_quorum(Path::new(&settings.data_dir)) => Way::Resume,
            (None, None) if listen.is_some() => return Err(EntryError::NoWay("--cluster")),
            (None, None) if certs.is_some() => return Err(EntryError::NoWay("--certs")),
            (None, None) => return Ok(None),
        };
        let listen = match (&way, listen) {
            (_, Some(listen)) => listen,
            // Where others reach it is where it listens, unless said otherwise.
            (Way::Begin(voters), None) => voters[&me].clone(),
            _ => {
                return Err(EntryError::Missing(
                    "--cluster HOST:PORT: where other brokers reach it",
                ));
            }
        };
        let certs = certs.ok_or(EntryError::Missing(
            "--certs DIR with ca.pem, node.pem and node.key ('millstream cluster certs' makes them)",
        ))?;
        Ok(Some(Self { listen, certs, way }))
    }

    /// Where others are told to reach this broker, if it is known before it listens.
    pub fn advertised(&self, settings: &Settings) -> Option<String> {
        let set = settings.cluster_advertised.clone();
        let set = set.filter(|text| !text.trim().is_empty());
        set.or_else(|| match &self.way {
            Way::Begin(voters) => voters.get(&BrokerId(settings.node_id)).cloned(),
            Way::Join(_) | Way::Resume => None,
        })
    }
}

fn parse_voters(text: &str, me: BrokerId) -> Result<BTreeMap<BrokerId, String>, EntryError> {
    let mut voters = BTreeMap::new();
    for voter in text.split(',').map(str::trim) {
        let wrong = || EntryError::Voter(voter.to_owned());
        let (id, address) = voter.split_once('@').ok_or_else(wrong)?;
        let id = id
            .parse()
            .ok()
            .filter(|id| *id >= 0)
            .map(BrokerId)
            .ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        if host.is_empty() || !port.parse::<u16>().is_ok_and(|port| port != 0) {
            return Err(wrong());
        }
        if voters.insert(id, address.to_owned()).is_some() {
            return Err(EntryError::VoterTwice(id));
        }
    }
    if !voters.contains_key(&me) {
        return Err(EntryError::NotAmongVoters(me));
    }
    Ok(voters)
}

/// Where the quorum's files lie in a data directory.
pub fn quorum_directory(data: &Path) -> std::path::PathBuf {
    data.join(QUORUM)
}

/// Whether a data directory is that of a broker of a cluster.
pub fn has_quorum(data: &Path) -> bool {
    std::fs::read_dir(quorum_directory(data)).is_ok_and(|mut files| files.next().is_some())
}

impl Member {
    /// The cluster's name, as the certificates say it.
    pub fn cluster_id(&self) -> &str {
        &self.cluster
    }

    /// Begins or joins the quorum, unless this broker is in it already. Joining takes as long as nobody answers.
    ///
    /// # Errors
    /// The cluster does not take this broker.
    pub async fn enter(&self, way: &Way, address: &str, storage: Uuid) -> Result<(), EntryError> {
        if let Way::Begin(voters) = way {
            for (id, address) in voters {
                self.link.learn(id.0 as u64, address);
            }
        }
        if self.quorum.is_initialised() {
            return Ok(());
        }
        match way {
            Way::Begin(voters) => {
                self.introduce(voters).await?;
                let voters = voters.iter().map(|(id, address)| (id.0 as u64, address.clone()));
                self.quorum.initialise(voters.collect()).await?;
            }
            Way::Join(whom) => self.join(whom, address, storage).await?,
            Way::Resume => {
                return Err(EntryError::Missing(
                    "--voters or --join: it began to be of a cluster before, and did not get into it",
                ));
            }
        }
        self.let_in();
        Ok(())
    }

    async fn join(&self, whom: &str, address: &str, storage: Uuid) -> Result<(), EntryError> {
        if self.lone_image().is_some() {
            let cluster = self.cluster.clone();
            return Err(EntryError::HoldsTopics { cluster });
        }
        let request = encode(&Request::Join {
            address: address.to_owned(),
            storage,
        });
        let mut leader: Option<String> = None;
        let mut patience = Patience::new();
        loop {
            let asked = leader.take().unwrap_or_else(|| whom.to_owned());
            let called = self
                .link
                .peers()
                .call_address(&asked, CallKind::Submit, request.clone(), JOIN_WAIT);
            let answer = called.await.map_err(|error| error.to_string());
            let reason = match answer.and_then(|(_, bytes)| decode(&bytes)) {
                Ok(Answer::Done) => return Ok(()),
                Ok(Answer::Failed(reason)) => return Err(EntryError::Refused(reason)),
                Ok(Answer::NotLeader(node)) => {
                    let reason = match &node {
                        Some(node) => format!("{} leads the quorum", show(node)),
                        None => "nobody leads the quorum".to_owned(),
                    };
                    leader = node
                        .map(|(_, address)| address)
                        .filter(|address| *address != asked);
                    reason
                }
                Ok(answer) => format!("{answer:?}"),
                Err(reason) => reason,
            };
            patience.tell(|| tracing::warn!(whom = asked, reason, "cannot join the cluster yet"));
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    /// Registers this life of the broker, and waits until this broker knows of it. Takes as long as there is no quorum.
    ///
    /// # Errors
    /// The cluster does not take this broker, or has removed it.
    pub async fn register(&self, way: &Way, broker: Broker) -> Result<u64, EntryError> {
        tokio::select! {
            registered = self.register_as_member(broker) => registered,
            () = self.removed(way) => Err(EntryError::Removed {
                id: self.me,
                cluster: self.cluster.clone(),
            }),
        }
    }

    async fn register_as_member(&self, broker: Broker) -> Result<u64, EntryError> {
        let mut patience = Patience::new();
        while self.decided().cluster_id().is_none() {
            patience.tell(|| {
                let status = self.status();
                let voters: Vec<_> = status.voters.iter().map(|voter| voter.id).collect();
                tracing::warn!(
                    ?voters,
                    leader = status.leader,
                    term = status.term,
                    "waits for the quorum"
                );
            });
            self.wait_for_decision().await;
        }
        let image = self.decided();
        if let Some(quorum) = image.cluster_id().filter(|quorum| *quorum != self.cluster) {
            return Err(EntryError::OtherCluster {
                certificate: self.cluster.clone(),
                quorum: quorum.to_owned(),
            });
        }
        let command = Command::RegisterBroker {
            broker: broker.clone(),
        };
        let (version, epoch) = loop {
            match self.submit(&command, Instant::now() + REGISTER_WAIT).await {
                Ok((version, Ok(Outcome::Broker { epoch }))) => break (version, epoch),
                Ok((_, Ok(other))) => return Err(EntryError::Refused(format!("{other:?}"))),
                Ok((_, Err(refusal))) => return Err(EntryError::Refused(refusal.to_string())),
                Err(refused) => tracing::warn!(reason = refused.message, "cannot be registered yet"),
            }
            tokio::time::sleep(REGISTER_AGAIN).await;
        };
        while self.decided().version() < version {
            self.wait_for_decision().await;
        }
        self.check_lone_image()?;
        let life = Life {
            incarnation: broker.incarnation,
            epoch,
        };
        // A broker registers once in its life.
        let _ = self.life.set(life);
        Ok(version)
    }

    /// What this broker held when it was alone is in the image, or would be lost.
    fn check_lone_image(&self) -> Result<(), EntryError> {
        let Some(lone) = self.lone_image() else {
            return Ok(());
        };
        let image = self.decided();
        let is_known = millstream_core::cluster::Image::decode(lone.as_bytes()).is_ok_and(|lone| {
            let mut topics = lone.topics();
            topics.any(|topic| image.topic_by_id(topic.id).is_some()) || lone.topics().len() == 0
        });
        match is_known {
            true => Ok(()),
            false => Err(EntryError::HoldsTopics {
                cluster: self.cluster.clone(),
            }),
        }
    }

    async fn wait_for_decision(&self) {
        let mut decided = self.decided.clone();
        decided.mark_unchanged();
        let _ = tokio::time::timeout(TRY_AGAIN, decided.changed()).await;
    }

    /// Waits until this broker serves, as the cluster sees it; false if that takes long.
    pub async fn serves(self: &Arc<Self>) -> bool {
        let mut decided = self.decided.clone();
        let me = self.me;
        let serves = decided.wait_for(|image| image.brokers().get(&me).is_some_and(|me| !me.fenced));
        let served = tokio::time::timeout(SERVE_WAIT, serves).await;
        let Ok(Ok(version)) = served.map(|served| served.map(|image| image.version())) else {
            return false;
        };
        self.in_force.reaches(version, SERVE_WAIT).await
    }
}

/// Tells from time to time what is waited for.
pub(super) struct Patience(Instant);

impl Patience {
    pub(super) fn new() -> Self {
        Self(Instant::now())
    }

    pub(super) fn tell(&mut self, tell: impl FnOnce()) {
        if self.0.elapsed() >= TELL_EVERY {
            tell();
            self.0 = Instant::now();
        }
    }
}

const QUORUM: &str = "quorum";
/// Longest time until a broker answers that is asked for entry.
const JOIN_WAIT: Duration = Duration::from_secs(10);
/// Pause before it is tried again.
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Longest time of one attempt to register.
const REGISTER_WAIT: Duration = Duration::from_secs(5);
/// Pause before another attempt.
const REGISTER_AGAIN: Duration = Duration::from_millis(200);
/// How often it is told what is waited for.
const TELL_EVERY: Duration = Duration::from_secs(3);
/// Longest time that a start waits until the cluster counts on the broker.
const SERVE_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(changes: &[(&str, &str)]) -> Settings {
        let mut settings = Settings {
            data_dir: "/nowhere".to_owned(),
            node_id: 2,
            ..Settings::default()
        };
        for (name, value) in changes {
            settings.set(name, value).unwrap();
        }
        settings
    }

    const VOTERS: (&str, &str) = ("millstream.cluster.voters", "1@a:1, 2@b:2,3@c:3");
    const JOIN: (&str, &str) = ("millstream.cluster.join", "a:1");
    const LISTEN: (&str, &str) = ("millstream.cluster.listen", "0.0.0.0:7");
    const CERTS: (&str, &str) = ("millstream.certs", "/certs");

    #[test]
    fn a_broker_is_alone_begins_a_cluster_or_joins_one() {
        assert_eq!(Membership::of(&settings(&[])).unwrap(), None);
        let settings = settings(&[VOTERS, CERTS]);
        let begins = Membership::of(&settings).unwrap().unwrap();
        assert_eq!((&*begins.listen, &*begins.certs), ("b:2", "/certs"));
        assert_eq!(begins.advertised(&settings).as_deref(), Some("b:2"));
        let joins = self::settings(&[JOIN, LISTEN, CERTS]);
        let joins = Membership::of(&joins).unwrap().unwrap();
        assert_eq!(
            (joins.listen, joins.way),
            ("0.0.0.0:7".to_owned(), Way::Join("a:1".to_owned()))
        );
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let error = |changes: &[(&str, &str)]| Membership::of(&settings(changes)).unwrap_err().to_string();
        assert!(error(&[VOTERS, JOIN]).contains("only one of them"));
        assert!(error(&[VOTERS, LISTEN]).contains("--certs DIR"));
        assert!(error(&[JOIN, CERTS]).contains("--cluster HOST:PORT"));
        assert!(error(&[LISTEN]).contains("--cluster says"));
        assert!(error(&[CERTS]).contains("--certs says"));
        let voters = |text| error(&[("millstream.cluster.voters", text), CERTS]);
        assert!(voters("1@a:1").contains("does not name this broker, which is 2"));
        assert!(voters("2@a:1,2@b:1").contains("broker 2 twice"));
        for wrong in ["2", "x@a:1", "2@a", "2@:1", "2@a:0", "2@a:1,"] {
            assert!(voters(wrong).contains("is not ID@HOST:PORT"), "{wrong}");
        }
    }

    #[test]
    fn a_directory_with_a_quorum_is_a_members() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(quorum_directory(dir.path())).unwrap();
        assert!(!has_quorum(dir.path()));
        std::fs::write(quorum_directory(dir.path()).join("log"), b"").unwrap();
        let mut settings = settings(&[LISTEN, CERTS]);
        settings.data_dir = dir.path().to_str().unwrap().to_owned();
        assert_eq!(Membership::of(&settings).unwrap().unwrap().way, Way::Resume);
        settings.certs = None;
        let error = Membership::of(&settings).unwrap_err().to_string();
        assert!(error.contains("--certs DIR"), "{error}");
    }
}
