//! How a broker stays a member: it says that it lives, and the quorum's leader listens.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use millstream_core::cluster::{Command, Election, Image};
use millstream_core::ids::BrokerId;

use super::cluster::{Life, Member};
use super::messages::{Answer, Heartbeat, Node, Pulse, Request, decode, encode};
use crate::peer::CallKind;

impl Member {
    /// Gives signs of life until the broker ends.
    pub async fn live(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        let every = self.lease_length / BEATS_PER_LEASE;
        let mut is_counted_on = false;
        loop {
            let pause = match self.pulse().await {
                true => every,
                // Whoever leads is not known, or not reached: somebody may lead any moment.
                false => every.min(LOOK_AROUND),
            };
            self.tell_of_lease(&mut is_counted_on);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.beat.notified() => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Tells when the lease is over, and when there is one again: the quorum's own library is not asked to.
    fn tell_of_lease(&self, is_counted_on: &mut bool) {
        let is_valid = self.lease.is_valid();
        if std::mem::replace(is_counted_on, is_valid) == is_valid {
            return;
        }
        match is_valid {
            true => tracing::info!("the quorum hears this broker, and counts on it"),
            false if self.wants_to_stop.load(Ordering::Relaxed) => {}
            false if self.is_out_of_room() => {
                tracing::warn!("the disk is full: the broker is out of service until there is room")
            }
            false => tracing::warn!(
                leader = self.leader().map(|id| id.0),
                "the quorum is not heard, or does not count on this broker: writes with acks=all are refused meanwhile"
            ),
        }
    }

    /// Gives one sign of life; true if the quorum's leader heard it.
    async fn pulse(&self) -> bool {
        if self.quorum.is_out_of_room() {
            // It learns nothing of the cluster, so nothing is to depend on it.
            self.lease.end();
            return false;
        }
        let (Some(life), Some((leader, address))) = (self.life(), self.quorum.leader()) else {
            return false;
        };
        let heartbeat = Heartbeat {
            incarnation: life.incarnation,
            epoch: life.epoch,
            version: self.in_force.image().version(),
            wants_to_stop: self.wants_to_stop.load(Ordering::Relaxed) || self.leaves_for_want_of_room(),
        };
        let sent = Instant::now();
        let pulse = if leader == self.me.0 as u64 {
            self.hear(self.me, heartbeat)
        } else {
            let wait = self.lease_length / 2;
            let called = self
                .link
                .ask(leader, &address, CallKind::Heartbeat, encode(&heartbeat), wait);
            match called.await.and_then(|bytes| decode(&bytes)) {
                Ok(pulse) => pulse,
                Err(error) => {
                    tracing::debug!(leader, error, "a heartbeat was not answered");
                    return false;
                }
            }
        };
        match pulse {
            Pulse::NotLeader(_) => return false,
            Pulse::Unknown => self.check_life(life),
            Pulse::Heard { fenced: false } if !heartbeat.wants_to_stop => {
                self.lease.renew(sent, self.lease_length);
            }
            Pulse::Heard { .. } => self.lease.end(),
        }
        true
    }

    /// The quorum's leader does not know this life of the broker.
    fn check_life(&self, life: Life) {
        let image = self.decided();
        if image.version() < life.epoch {
            return;
        }
        match image.brokers().get(&self.me) {
            None => self.fail(format!("broker {} was removed from the cluster", self.me)),
            Some(known) if known.incarnation != life.incarnation => self.fail(format!(
                "two brokers have the id {}: another one registered, which serves clients at {}:{}",
                self.me, known.host, known.port
            )),
            Some(_) => {}
        }
    }

    /// A broker gave a sign of life.
    pub(super) fn hear(&self, from: BrokerId, heartbeat: Heartbeat) -> Pulse {
        if !self.is_confirmed() {
            return Pulse::NotLeader(self.quorum.leader());
        }
        let image = self.decided();
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let pulse = guard.hear(from, heartbeat, &image, Instant::now());
        drop(guard);
        if pulse == (Pulse::Heard { fenced: true }) || heartbeat.wants_to_stop {
            self.alarm.notify_one();
        }
        pulse
    }

    /// Whether most voters agreed not long ago that this broker leads.
    fn is_confirmed(&self) -> bool {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_leader() && confirmed.is_some_and(|at| at.elapsed() < self.lease_length)
    }

    /// Asks the voters, again and again, whether this broker still leads them.
    pub async fn confirm(self: Arc<Self>) {
        let mut stopped = self.stopped.subscribe();
        loop {
            let mut pause = LOOK_AROUND;
            if let Some(reason) = self.quorum.failure()
                && !*stopped.borrow()
            {
                return self.fail(format!("its part in the metadata quorum has ended: {reason}"));
            }
            if self.is_leader() {
                let asked = Instant::now();
                let agreed = tokio::time::timeout(self.lease_length, self.quorum.ensure_linearizable()).await;
                if matches!(agreed, Ok(Ok(_))) {
                    let mut confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
                    if confirmed.replace(asked).is_none() {
                        self.alarm.notify_one();
                    }
                    pause = self.lease_length / BEATS_PER_LEASE;
                }
            } else {
                *self.confirmed.lock().unwrap_or_else(PoisonError::into_inner) = None;
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Stands guard whenever this broker leads the quorum.
    pub async fn guard(self: Arc<Self>, balance: Option<Duration>) {
        let mut stopped = self.stopped.subscribe();
        let mut leader = None;
        let mut former = None;
        let mut balanced = Instant::now();
        loop {
            let leads = self.leader();
            if leads != leader && leads.is_some() {
                former = leader.filter(|id| Some(*id) != leads).or(former);
                leader = leads;
            }
            if self.take_over(leads == Some(self.me), former) {
                former = None;
                balanced = Instant::now();
            }
            if self.is_confirmed() {
                self.look_around().await;
                if balance.is_some_and(|every| balanced.elapsed() >= every) {
                    self.balance().await;
                    balanced = Instant::now();
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_AROUND) => {}
                () = self.alarm.notified() => {}
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
        }
    }

    /// Begins or ends to stand guard; true if it begins.
    fn take_over(&self, leads: bool, former: Option<BrokerId>) -> bool {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        match (leads, guard.is_on_duty()) {
            (true, false) => {
                tracing::info!(former = former.map(|id| id.0), "leads the quorum");
                guard.begin(former.filter(|id| *id != self.me), Instant::now());
                true
            }
            (false, true) => {
                tracing::info!(leader = self.leader().map(|id| id.0), "leads the quorum no more");
                guard.end();
                false
            }
            _ => false,
        }
    }

    async fn look_around(&self) {
        let image = self.decided();
        if image.cluster_id().is_none() {
            self.bootstrap().await;
            return;
        }
        let commands = {
            let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
            guard.decide(&image, Instant::now())
        };
        for command in commands {
            match &command {
                Command::FenceBroker { id, .. } => tracing::warn!(broker = id.0, "fenced"),
                Command::UnfenceBroker { id, .. } => tracing::info!(broker = id.0, "serves"),
                _ => {}
            }
            let fenced = match &command {
                Command::FenceBroker { id, .. } => Some(*id),
                _ => None,
            };
            match (self.propose(command).await, fenced) {
                (Answer::Applied { version, .. }, Some(id)) => {
                    let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
                    guard.fenced(id, version);
                }
                (Answer::Applied { .. }, None) => {}
                (answer, _) => tracing::debug!(?answer, "the guard's command is not decided yet"),
            }
        }
    }

    /// Gives some partitions back to their preferred leaders; the others have their turn later, so that clients do not
    /// have to look for all their leaders at once.
    async fn balance(&self) {
        let image = self.decided();
        let partitions: Vec<_> = image.not_led_by_preferred().take(ELECTIONS_MAX).collect();
        if partitions.is_empty() {
            return;
        }
        tracing::info!(
            partitions = partitions.len(),
            "go back to their preferred leaders"
        );
        let kind = Election::Preferred;
        self.propose(Command::ElectLeaders {
            kind,
            partitions: Some(partitions),
        })
        .await;
    }

    /// Begins the cluster: with what one of its voters held when it was alone, if one did.
    async fn bootstrap(&self) {
        let cluster_id = self.cluster_id().to_owned();
        let image = match self.lone_images().await.as_slice() {
            [] => None,
            [(_, image)] => match Image::decode(image.as_bytes()) {
                Ok(image) => Some(Box::new(image)),
                Err(error) => {
                    tracing::error!(%error, "what a voter held when it was alone cannot be read");
                    return;
                }
            },
            several => {
                let holders: Vec<_> = several.iter().map(|(id, _)| id).collect();
                tracing::error!(
                    ?holders,
                    "several voters held topics when they were alone: a cluster can begin with those of one only"
                );
                tokio::time::sleep(BOOTSTRAP_AGAIN).await;
                return;
            }
        };
        tracing::info!(cluster_id, with_topics = image.is_some(), "the cluster begins");
        let answer = self.propose(Command::Bootstrap { cluster_id, image }).await;
        tracing::debug!(?answer, "bootstrap");
    }

    /// What the voters held that were alone. Those that do not answer are waited for, but not for ever.
    async fn lone_images(&self) -> Vec<(u64, String)> {
        let deadline = Instant::now() + VOTERS_WAIT;
        let mut images = Vec::new();
        let me = self.me.0 as u64;
        images.extend(self.lone_image().map(|image| (me, image)));
        for (id, address) in self.voters().into_iter().filter(|(id, _)| *id != me) {
            loop {
                let request = encode(&Request::LoneImage);
                let called = self
                    .link
                    .ask(id, &address, CallKind::Submit, request, BOOTSTRAP_AGAIN);
                match called.await.and_then(|bytes| decode(&bytes)) {
                    Ok(Answer::LoneImage(image)) => {
                        images.extend(image.map(|image| (id, image)));
                        break;
                    }
                    _ if Instant::now() >= deadline || *self.stopped.borrow() => {
                        tracing::warn!(voter = id, "does not answer: the cluster begins without it");
                        break;
                    }
                    _ => tokio::time::sleep(LOOK_AROUND).await,
                }
            }
        }
        images
    }

    pub(super) fn voters(&self) -> Vec<Node> {
        let voters = self.quorum.metrics().voters;
        voters
            .into_iter()
            .map(|voter| (voter.id, voter.address))
            .collect()
    }
}

/// Signs of life in the time after which a silent broker is fenced.
const BEATS_PER_LEASE: u32 = 6;
/// How often it is looked who leads, and who is silent.
const LOOK_AROUND: Duration = Duration::from_millis(25);
/// Partitions that go back to their preferred leaders at a time.
const ELECTIONS_MAX: usize = 500;
/// Longest time that voters are waited for before a cluster begins without what they may hold.
const VOTERS_WAIT: Duration = Duration::from_secs(10);
/// Pause before a cluster is begun again.
const BOOTSTRAP_AGAIN: Duration = Duration::from_secs(1);
