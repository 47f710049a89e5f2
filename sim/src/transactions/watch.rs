//! What the world sees of transactions: faults of workers, and whether all is well in the end.

use std::collections::{BTreeMap, BTreeSet};

use millstream_core::cluster::{Command, TransformChange};

use super::deployed::{How, told, wish};
use super::reading::{committed_records, marked_records};
use super::worker::Worker;
use super::{Job, Ledger, MOVERS, Member, READERS, Stage};
use crate::bus::{Event, Recovery};
use crate::client::Client;
use crate::layout::{LANES, Population};
use crate::node::Process;
use crate::replica::{Fatal, Replica};
use crate::world::World;

/// A transform that every node knows to be paused.
pub struct Quiet {
    /// How often each node has started.
    lives: Vec<u64>,
    since: u64,
    /// How often its workers were about to commit until then.
    tries: u64,
}

impl World {
    /// Something happens to a worker alone.
    pub fn worker_fault(&mut self, now_ms: u64) -> String {
        let jobs: Vec<_> = Job::all().collect();
        let job = jobs[self.random.below(jobs.len() as u64) as usize];
        let span_ms = 200 + self.random.below(4000);
        match self.random.below(16) {
            0..5 => return self.member_fault(now_ms + span_ms),
            5..9 => return self.change_transform(job.stage, span_ms),
            9..11 => {
                let told = self.part_coordinator(job, now_ms);
                return told.unwrap_or_else(|| "nothing".to_owned());
            }
            11..13 => return self.intrude(job, now_ms + span_ms),
            _ => {}
        }
        let crashes = self.random.below(3) == 0;
        let running = self.nodes.values_mut().filter_map(|node| node.process.as_mut());
        let mut hit = 0;
        for process in running {
            if crashes {
                hit += usize::from(process.parts.workers.remove(&job).is_some());
            } else if let Some(worker) = process.parts.workers.get_mut(&job) {
                worker.stalled_until_ms = now_ms + span_ms;
                hit += 1;
            }
        }
        match crashes {
            true => format!("{hit} workers of {} crash", job.id()),
            false => format!("{hit} workers of {} are stalled for {span_ms} ms", job.id()),
        }
    }

    /// An operator changes a transform. One that is paused goes on after a while.
    fn change_transform(&mut self, stage: Stage, span_ms: u64) -> String {
        let change = wish(self.judge.latest(), stage, &mut self.random);
        if change == TransformChange::Pause {
            self.bus.after(span_ms, Event::Recover(Recovery::Resume(stage)));
        }
        let told = format!("{}: {change:?}", stage.name());
        self.change(stage, change);
        told
    }

    /// A transform is to go on.
    pub fn resume(&mut self, stage: Stage) {
        self.change(stage, TransformChange::Resume);
    }

    fn change(&mut self, stage: Stage, change: TransformChange) {
        let at_ms = self.bus.now_ms() as i64;
        self.operate(Command::ChangeTransform {
            name: stage.name().to_owned(),
            change,
            at_ms,
        });
    }

    /// Who coordinates the group does not learn that it is replaced, and a worker is beside it.
    fn part_coordinator(&mut self, job: Job, now_ms: u64) -> Option<String> {
        let span_ms = 1500 + self.random.below(2500);
        let coordinator = self.coordinator_of_groups()?;
        if coordinator.is_controller() {
            return None;
        }
        let node = coordinator.life.node;
        let process = self.nodes.get_mut(&node)?.process.as_mut()?;
        let workers = &mut process.parts.workers;
        let worker = workers.entry(job).or_insert_with(|| Worker::new(None));
        worker.intrudes_until_ms = now_ms + span_ms;
        self.quiet.clear();
        Some(self.part_from_controller(node, span_ms))
    }

    /// A member of the group is silent for a while, or gone for good and another one there.
    fn member_fault(&mut self, until_ms: u64) -> String {
        let what = self.random.below(4);
        let moves = self.members_move && self.random.below(2) == 0;
        let clients = self.clients.values_mut();
        let mut members: Vec<_> = clients.filter(|client| client.member().is_some()).collect();
        let at = self.random.below(members.len() as u64) as usize;
        let client = &mut members[at];
        let Some(member) = client.member_mut() else {
            return "nothing".to_owned();
        };
        let name = member.name();
        match what {
            0..2 => {
                member.is_silent_until(until_ms);
                format!("{name} is silent until {until_ms}")
            }
            2 => {
                member.leave(moves);
                self.judge.ledger.grants(member.group).leaves(name.clone());
                format!("{name} leaves")
            }
            _ => {
                member.is_silent_until(until_ms);
                client.begin_anew(moves);
                let next = client.member().map(Member::name).unwrap_or_default();
                format!("{name} is gone, and {next} comes at {until_ms}")
            }
        }
    }

    /// A member that lacks something, or has it although it is gone.
    fn lacking_members(&self, group: &str) -> Option<String> {
        let living = self.clients.values().filter_map(Client::member);
        let living = living.filter(|member| member.group == group);
        let living: BTreeMap<_, _> = living.map(|member| (member.name(), &member.owned)).collect();
        let known = self
            .coordinator_of_groups()
            .and_then(|process| process.parts.members(group, self.judge.layout))
            .unwrap_or_default();
        let counts = living
            .iter()
            .map(|(name, owned)| (name.clone(), owned.values().map(BTreeSet::len).sum()));
        let counts: BTreeMap<String, usize> = counts.collect();
        let all: BTreeSet<_> = living
            .values()
            .flat_map(|owned| owned.iter())
            .flat_map(|(topic, partitions)| partitions.iter().map(move |p| (topic, p)))
            .collect();
        let is_good =
            known == counts && all.len() == 2 * LANES && counts.values().sum::<usize>() == all.len();
        (!is_good).then(|| format!("{group} has {known:?}, and its members believe {counts:?}"))
    }

    fn coordinator_of_groups(&self) -> Option<&Process> {
        let mut running = self.nodes.values().filter_map(|node| node.process.as_ref());
        let leader = self.judge.entry(self.judge.layout.offsets_place())?.leader?;
        running.find(|process| process.life.node == leader.0 as u64)
    }

    /// A broker runs what it is not to run, as one does that has an image of before.
    fn intrude(&mut self, job: Job, until_ms: u64) -> String {
        let running = self.nodes.values_mut().filter_map(|node| node.process.as_mut());
        let mut idle: Vec<_> = running
            .filter(|process| process.is_registered() && !process.parts.workers.contains_key(&job))
            .collect();
        if idle.is_empty() {
            return "nothing".to_owned();
        }
        let at = self.random.below(idle.len() as u64) as usize;
        let process = &mut idle[at];
        let mut worker = Worker::new(None);
        worker.intrudes_until_ms = until_ms;
        self.quiet.clear();
        process.parts.workers.insert(job, worker);
        let node = process.life.node;
        format!("node {node} runs {}, too, until {until_ms}", job.id())
    }

    /// Looks whether a transform that is paused commits something, and lets it go on when faults are over.
    pub fn watch_paused(&mut self) {
        for stage in Stage::ALL {
            let known = self.quiet.remove(&stage);
            let Some(now) = self.is_quiet(stage) else {
                continue;
            };
            let is_same = |known: &Quiet| (&known.lives, known.since) == (&now.lives, now.since);
            if known.is_some_and(|known| is_same(&known) && known.tries < now.tries) {
                let name = stage.name();
                self.judge
                    .breaks(|| format!("{name} goes on, and every node knows that it is paused"));
            }
            self.quiet.insert(stage, now);
            if !self.trouble {
                self.resume(stage);
            }
        }
    }

    /// A transform that every node knows to be paused, without a worker that does not heed it.
    fn is_quiet(&self, stage: Stage) -> Option<Quiet> {
        let transform = self.judge.latest().transform(stage.name())?;
        let running = self.nodes.values().filter_map(|node| node.process.as_ref());
        for process in running {
            let known = process.image.transform(stage.name())?;
            let mut workers = stage.jobs().filter_map(|job| process.parts.workers.get(&job));
            let heed = workers.all(Worker::heeds);
            if !known.paused || known.since != transform.since || !heed {
                return None;
            }
        }
        Some(Quiet {
            lives: self.nodes.values().map(|node| node.lives).collect(),
            since: transform.since,
            tries: self.judge.ledger.tries(stage),
        })
    }

    /// Remembers how far all was when faults ended.
    pub fn remember_healing(&mut self) {
        let places = 0..self.judge.layout.places();
        let ends = places.filter_map(|place| Some((place, self.leader(place)?.log.log_end_offset().0)));
        let ends = ends.collect();
        self.judge.ledger.heals(ends);
        for process in self.nodes.values_mut().filter_map(|node| node.process.as_mut()) {
            for worker in process.parts.workers.values_mut() {
                worker.stalled_until_ms = worker.stalled_until_ms.min(1);
                worker.intrudes_until_ms = 0;
            }
        }
    }

    /// What transactions lack, some time after the last fault.
    pub fn lacking_parts(&self) -> Option<String> {
        if self.population != Population::Transactions {
            return None;
        }
        for client in self.clients.values() {
            let end = self.judge.ledger.end_at_healing(client.partition);
            if let Some(next) = client.next().filter(|next| *next < end) {
                let (id, place) = (client.id, client.partition);
                return Some(format!(
                    "reader {id} of place {place} has come to {next}, which ended at {end}"
                ));
            }
        }
        for job in Job::all() {
            let running = self.nodes.values().filter_map(|node| node.process.as_ref());
            let is_good = |(node, worker): &(u64, &Worker)| {
                worker.how.is_some() && worker.how == How::of(self.judge.latest(), job, *node)
            };
            let workers: Vec<_> = running
                .filter_map(|process| Some((process.life.node, process.parts.workers.get(&job)?)))
                .collect();
            if workers.len() != 1 || !workers.iter().all(is_good) {
                let nodes: Vec<_> = workers.iter().map(|(node, worker)| (node, worker.how)).collect();
                let image = self.judge.latest();
                let Some(transform) = image.transform(job.stage.name()) else {
                    return Some(format!("{} is not deployed", job.stage.name()));
                };
                let what = format!("{} is run by {nodes:?}", job.id());
                return Some(told(image, transform, &what));
            }
        }
        let groups = [READERS, MOVERS].into_iter();
        let lacking = groups.filter_map(|group| self.lacking_members(group)).next();
        lacking.or_else(|| self.judge.ledger.lacking())
    }

    /// Looks at everything once more, at the end.
    pub fn judge_transactions(&mut self) {
        if self.population != Population::Transactions {
            return;
        }
        let checked = self.committed().and_then(|committed| {
            let ledger: &mut Ledger = &mut self.judge.ledger;
            ledger.ends_with(&committed)
        });
        self.judge.must(checked);
        let known: Vec<_> = Job::all().map(|job| (job, self.committed_offset(job))).collect();
        for (job, offset) in known {
            if let Some(offset) = offset {
                let kept = self.judge.ledger.offset_ends(job, offset);
                self.judge.must(kept);
            }
        }
    }

    fn committed_offset(&self, job: Job) -> Option<i64> {
        self.coordinator_of_groups()?.parts.committed(job)
    }

    /// What was committed in each partition, as the markers in the log have it. What readers get has to be the same.
    fn committed(&mut self) -> Result<BTreeMap<(&'static str, i32), Records>, String> {
        let layout = self.judge.layout;
        let mut committed = BTreeMap::new();
        for place in (0..layout.places()).filter(|place| layout.holds_values(*place)) {
            let (topic, partition) = layout.at(place);
            let Some(leader) = self.judge.entry(place).and_then(|entry| entry.leader) else {
                continue;
            };
            for node in self.nodes.values_mut() {
                let replica = node.process.as_mut().and_then(|p| p.replicas.get_mut(&place));
                let Some(replica) = replica else { continue };
                let (marked, seen, stable) = views(replica).map_err(|Fatal(error)| error)?;
                let before = marked.partition_point(|(offset, _)| *offset < stable);
                if marked[..before] != seen {
                    let other = marked[..before]
                        .iter()
                        .zip(&seen)
                        .find(|(marked, seen)| marked != seen);
                    return Err(format!(
                        "readers of {topic}-{partition} on node {} see {} records before {stable}, {before} were committed; \
                         the first to differ: {other:?}",
                        node.id,
                        seen.len()
                    ));
                }
                if node.id == leader.0 as u64 {
                    committed.insert((topic, partition), marked);
                }
            }
        }
        Ok(committed)
    }
}

type Records = Vec<(i64, String)>;

/// What was committed below the high watermark by the markers; what readers get; and how far they get.
fn views(replica: &mut Replica) -> Result<(Records, Records, i64), Fatal> {
    let marked = marked_records(&replica.safe_bytes()?);
    let (bytes, aborted) = replica.committed_bytes()?;
    let start = replica.log.log_start_offset().0;
    let seen = committed_records(&bytes, start, &aborted);
    Ok((marked, seen.records, seen.next))
}
