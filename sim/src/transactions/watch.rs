//! What the world sees of transactions: faults of workers, and whether all is well in the end.

use std::collections::{BTreeMap, BTreeSet};

use super::reading::{committed_records, marked_records};
use super::worker::Worker;
use super::{Job, Ledger};
use crate::client::Client;
use crate::layout::{LANES, Population};
use crate::node::Process;
use crate::replica::{Fatal, Replica};
use crate::world::World;

impl World {
    /// Something happens to a worker alone.
    pub fn worker_fault(&mut self, now_ms: u64) -> String {
        let jobs: Vec<_> = Job::all().collect();
        let job = jobs[self.random.below(jobs.len() as u64) as usize];
        let span_ms = 200 + self.random.below(4000);
        if self.random.below(4) == 0 {
            return self.member_fault(now_ms + span_ms);
        }
        if self.random.below(4) == 0 {
            let told = self.part_coordinator(job, now_ms);
            return told.unwrap_or_else(|| "nothing".to_owned());
        }
        if self.random.below(2) == 0 {
            return self.intrude(job, now_ms + span_ms);
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

    /// Who coordinates the group does not learn that it is replaced, and a worker is beside it.
    fn part_coordinator(&mut self, job: Job, now_ms: u64) -> Option<String> {
        let span_ms = 1500 + self.random.below(2500);
        let coordinator = self.coordinator_of_groups()?;
        if coordinator.is_controller() {
            return None;
        }
        let node = coordinator.life.node;
        let process = self.nodes.get_mut(&node)?.process.as_mut()?;
        let worker = process.parts.workers.entry(job).or_insert_with(Worker::new);
        worker.intrudes_until_ms = now_ms + span_ms;
        Some(self.part_from_controller(node, span_ms))
    }

    /// A member of the group is silent for a while, or gone for good and another one there.
    fn member_fault(&mut self, until_ms: u64) -> String {
        let crashes = self.random.below(2) == 0;
        let members = self.clients.values_mut().filter_map(Client::member_mut);
        let mut members: Vec<_> = members.collect();
        let at = self.random.below(members.len() as u64) as usize;
        let name = members[at].name();
        members[at].is_silent_until(until_ms);
        if crashes {
            members[at].begin_anew();
            return format!("{name} is gone, and another one comes at {until_ms}");
        }
        format!("{name} is silent until {until_ms}")
    }

    /// A member that lacks something, or has it although it is gone.
    fn lacking_members(&self) -> Option<String> {
        let living = self.clients.values().filter_map(Client::member);
        let living: BTreeMap<_, _> = living.map(|member| (member.name(), &member.owned)).collect();
        let known = self
            .coordinator_of_groups()
            .and_then(|process| process.parts.members());
        let known: BTreeMap<String, usize> = known
            .iter()
            .flat_map(|group| &group.members)
            .map(|member| {
                let assigned = member.assigned.iter();
                let count = assigned.map(|topic| topic.partitions.len()).sum();
                (member.member.to_string(), count)
            })
            .collect();
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
        (!is_good).then(|| format!("the group has {known:?}, and its members believe {counts:?}"))
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
        let mut worker = Worker::new();
        worker.intrudes_until_ms = until_ms;
        process.parts.workers.insert(job, worker);
        let node = process.life.node;
        format!("node {node} runs {}, too, until {until_ms}", job.id())
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
            let workers = running
                .filter(|process| process.parts.workers.contains_key(&job))
                .count();
            if workers != 1 {
                return Some(format!("{} has {workers} workers", job.id()));
            }
        }
        self.lacking_members().or_else(|| self.judge.ledger.lacking())
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
