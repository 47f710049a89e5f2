//! Whether a voter whose disk holds nothing of the quorum is a new one.
//!
//! What a voter promised is on its disk. One that lost it would vote again, and count for entries that it does not have.
//! Its own directory cannot tell a lost disk from a new one, so it asks the other voters before it votes. They say so
//! whether they vote themselves or not: voters that begin a cluster together all wait for all.
//!
//! A voter that loses its disk between its first vote and its registration, which is the first second of its life, is
//! taken for a new one.

use std::collections::BTreeMap;
use std::time::Duration;

use millstream_core::ids::BrokerId;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::cluster::Member;
use super::entry::{EntryError, Patience};
use super::link::Link;
use super::messages::{Answer, Request, Standing, decode, encode};
use crate::peer::CallKind;

impl Member {
    /// From now on this broker answers the quorum.
    pub(super) fn let_in(&self) {
        self.is_in.send_replace(true);
    }

    /// Waits, though not for long, until this broker may answer the quorum.
    ///
    /// # Errors
    /// It may not yet.
    pub(super) async fn is_in(&self) -> Result<(), String> {
        let mut is_in = self.is_in.subscribe();
        let is_in = tokio::time::timeout(ENTRY_WAIT, is_in.wait_for(|is_in| *is_in)).await;
        match is_in {
            Ok(Ok(_)) => Ok(()),
            _ => Err("the broker does not know yet whether it may vote".to_owned()),
        }
    }

    /// What this broker knows of another one that comes with an empty disk.
    pub(super) fn standing(&self, from: BrokerId) -> Standing {
        let image = self.decided();
        if image.cluster_id().is_none() {
            return Standing::NotBegun;
        }
        // A broker that was alone before has no disk by name: the image has it from there, not from the quorum.
        let known = image.brokers().get(&from);
        if known.is_some_and(|broker| !broker.storage.is_nil()) {
            return Standing::Known;
        }
        match self.has_vote(from) {
            true => Standing::Awaited,
            false => Standing::NoVote,
        }
    }

    /// Whether a broker votes in the quorum, as far as this one knows.
    pub(super) fn has_vote(&self, id: BrokerId) -> bool {
        let voters = self.status().voters;
        voters.iter().any(|voter| voter.id == id.0 as u64)
    }

    /// Asks the other voters whether this broker, whose disk holds nothing of the quorum, is a new one. Takes as long as
    /// too few answer, which is before all are there that begin the cluster.
    ///
    /// # Errors
    /// It is not: it must not vote.
    pub(super) async fn introduce(&self, voters: &BTreeMap<BrokerId, String>) -> Result<(), EntryError> {
        let (sender, mut answers) = mpsc::channel(voters.len());
        let mut asking = JoinSet::new();
        for (id, address) in voters.iter().filter(|(id, _)| **id != self.me) {
            asking.spawn(ask(self.link.clone(), *id, address.clone(), sender.clone()));
        }
        let mut patience = Patience::new();
        let mut heard = BTreeMap::new();
        loop {
            match verdict(&heard, voters.len()) {
                Verdict::New => return Ok(()),
                Verdict::Lost => return Err(EntryError::LostDisk(self.me)),
                Verdict::NoVote => return Err(EntryError::NoVote(self.me)),
                Verdict::Unsure => {}
            }
            patience.tell(|| {
                let missing: Vec<_> = voters.iter().filter(|(id, _)| **id != self.me && !heard.contains_key(id)).collect();
                tracing::warn!(
                    ?missing,
                    ?heard,
                    "waits for other voters to say whether this one is new: a cluster begins when all of them are there"
                );
            });
            if let Ok(Some((id, standing))) = tokio::time::timeout(ASK_AGAIN, answers.recv()).await {
                heard.insert(id, standing);
            }
        }
    }
}

/// Asks one voter, again and again: what it knows may change.
async fn ask(link: Link, id: BrokerId, address: String, answers: mpsc::Sender<(BrokerId, Standing)>) {
    loop {
        let request = encode(&Request::Hello);
        let called = link.ask(id.0 as u64, &address, CallKind::Submit, request, HELLO_WAIT);
        match called.await.and_then(|bytes| decode(&bytes)) {
            Ok(Answer::Standing(standing)) => {
                if answers.send((id, standing)).await.is_err() {
                    return;
                }
            }
            other => tracing::debug!(voter = id.0, ?other, "does not say whether this broker is new"),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// What the answers of other voters mean for a voter with an empty disk.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    New,
    Lost,
    NoVote,
    Unsure,
}

/// Before the cluster has begun, all have to say so: those who are silent may be all that is left of a cluster whose other
/// voters lost their disks, and would otherwise begin another one in its place. Once it has begun, whoever answers may have
/// missed this voter's registration, which a majority knows: so many must answer that one of them is of that majority.
/// They are there if this voter is new, since others decided without it.
fn verdict(heard: &BTreeMap<BrokerId, Standing>, voters: usize) -> Verdict {
    let count = |standing: Standing| heard.values().filter(|other| **other == standing).count();
    let others = voters.saturating_sub(1);
    if count(Standing::Known) > 0 {
        return Verdict::Lost;
    }
    if count(Standing::NoVote) > 0 {
        return Verdict::NoVote;
    }
    let is_sure = match count(Standing::Awaited) {
        0 => heard.len() == others,
        awaited => awaited >= voters - voters / 2,
    };
    if is_sure { Verdict::New } else { Verdict::Unsure }
}

/// Longest time that a question of the quorum waits until this broker may answer.
const ENTRY_WAIT: Duration = Duration::from_millis(200);
/// Longest time until a voter answers: longer than a connection takes to come about.
const HELLO_WAIT: Duration = Duration::from_secs(2);
/// Pause before a voter is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::Standing::{Awaited, Known, NoVote, NotBegun};
    use super::*;

    fn check(voters: usize, answers: &[Standing], expected: Verdict) {
        let heard: BTreeMap<_, _> = (2..).map(BrokerId).zip(answers.iter().copied()).collect();
        assert_eq!(verdict(&heard, voters), expected, "{answers:?} of {voters}");
    }

    #[test]
    fn a_voter_is_new_if_enough_others_say_so() {
        use Verdict::{Lost, New, Unsure};
        check(1, &[], New);
        check(2, &[], Unsure);
        check(2, &[NotBegun], New);
        check(3, &[NotBegun, NotBegun], New);
        check(3, &[NotBegun], Unsure);
        check(3, &[Awaited], Unsure);
        check(3, &[Awaited, NotBegun], Unsure);
        check(3, &[Awaited, Awaited], New);
        check(5, &[Awaited, Awaited, NotBegun, NotBegun], Unsure);
        check(5, &[Awaited, Awaited, Awaited], New);
        check(5, &[NotBegun, NotBegun, NotBegun], Unsure);
        check(3, &[Known], Lost);
        check(3, &[NotBegun, Known], Lost);
        check(3, &[Awaited, NoVote], Verdict::NoVote);
    }
}
