//! Three brokers of a kind, each with a data directory of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use millstream_client::{Admin, ClientConfig, ConfigChange, ConfigResource};
use rustix::process::Signal;

use super::super::BenchArgs;
use super::super::server::{Binaries, Kind, Server, free_address};
use super::super::wire::Client;
use super::link::{self, Link, Loss};
use crate::shell;

/// A cluster that runs.
pub struct Servers {
    pub kind: Kind,
    pub nodes: Vec<Server>,
    folder: PathBuf,
    _loss: Option<Loss>,
}

impl Servers {
    /// Starts `count` brokers on empty directories, and waits until each knows all.
    pub fn start(
        kind: Kind,
        binaries: &Binaries,
        args: &BenchArgs,
        count: usize,
        link: Link,
    ) -> anyhow::Result<Self> {
        let folder = std::path::absolute(args.data.join(format!("{kind}-cluster")))?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let addresses = || {
            (0..count)
                .map(|_| free_address())
                .collect::<anyhow::Result<Vec<String>>>()
        };
        let (quorum, internal) = (addresses()?, addresses()?);
        // Where brokers copy records from each other: ours do everything by one port.
        let between = match kind {
            Kind::Millstream => &quorum,
            Kind::Kafka => &internal,
        };
        let told = match link {
            Link::Slow => addresses()?,
            Link::Direct | Link::Lossy => between.clone(),
        };
        for (from, to) in told.iter().zip(between).filter(|(from, to)| from != to) {
            link::delay(kind, from, to)?;
        }
        let _loss = match link {
            Link::Lossy => Some(Loss::of(kind, between)?),
            Link::Direct | Link::Slow => None,
        };
        let votes_at = match kind {
            Kind::Millstream => &told,
            Kind::Kafka => &quorum,
        };
        let voters: Vec<String> = votes_at
            .iter()
            .enumerate()
            .map(|(at, address)| format!("{}@{address}", at + 1))
            .collect();
        let voters = voters.join(",");
        if kind == Kind::Millstream {
            make_certificates(&binaries.millstream, &folder, count)?;
        }
        let mut nodes = Vec::new();
        for (at, address) in quorum.iter().enumerate() {
            let of = folder.join(format!("{}", at + 1));
            fs::create_dir_all(&of)?;
            let member = Member {
                id: at + 1,
                folder: &of,
                quorum: address,
                internal: &internal[at],
                told: &told[at],
                voters: &voters,
                certs: &folder.join("certs"),
            };
            nodes.push(Server::launch_member(kind, binaries, &member)?);
        }
        let mut servers = Self {
            kind,
            nodes,
            folder,
            _loss,
        };
        servers.wait_complete(count)?;
        Ok(servers)
    }

    fn wait_complete(&mut self, count: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        for node in &mut self.nodes {
            loop {
                let brokers = node.client().and_then(|mut client| client.broker_count());
                if brokers.is_ok_and(|brokers| brokers == count) {
                    break;
                }
                node.check_runs()?;
                ensure!(
                    Instant::now() < deadline,
                    "the cluster is not complete after 120 s"
                );
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    /// A connection to some broker that runs.
    pub fn client(&self) -> anyhow::Result<Client> {
        let mut clients = self.nodes.iter().filter_map(|node| node.client().ok());
        clients.next().context("no broker can be reached")
    }

    /// Makes a topic with three replicas of each partition, all in sync.
    pub fn topic(&self, name: &str, partitions: usize) -> anyhow::Result<()> {
        let configs: &[_] = match self.kind {
            Kind::Kafka => &[("file.delete.delay.ms", "0")],
            Kind::Millstream => &[],
        };
        self.client()?
            .create_replicated(name, partitions, self.nodes.len(), configs)?;
        self.wait_in_sync(name, partitions, Duration::from_secs(60))?;
        // Others may hear of it a little later than the one that was asked.
        thread::sleep(Duration::from_secs(1));
        Ok(())
    }

    /// Waits until every partition has all replicas in sync.
    pub fn wait_in_sync(&self, topic: &str, partitions: usize, wait: Duration) -> anyhow::Result<()> {
        let deadline = Instant::now() + wait;
        loop {
            let led = self.client().and_then(|mut client| client.partitions_of(topic));
            if let Ok(led) = led
                && led.len() == partitions
                && led.iter().all(|p| p.leader >= 0 && p.in_sync == self.nodes.len())
            {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the replicas of {topic} are not in sync after {wait:?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Bounds the bytes a second that each leader gives to replicas of `topic` that are not in sync (KIP-73), or bounds
    /// them no more.
    pub fn throttle(&self, topic: &str, rate: Option<u64>) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let config = self.own_client();
        let change = |name: &str, value: Option<String>| match value {
            Some(value) => ConfigChange::set(name, value),
            None => ConfigChange::delete(name),
        };
        runtime.block_on(async {
            let client = millstream_client::Client::connect(config).await?;
            let admin = Admin::new(&client);
            let whose = rate.map(|_| "*".to_owned());
            let (topic, rate) = (
                ConfigResource::Topic(topic.to_owned()),
                rate.map(|rate| rate.to_string()),
            );
            let changes = [
                (topic, change("leader.replication.throttled.replicas", whose)),
                (
                    ConfigResource::AllBrokers,
                    change("leader.replication.throttled.rate", rate),
                ),
            ];
            for (resource, change) in changes {
                admin.alter_configs(&resource, &[change]).await?;
            }
            Ok(())
        })
    }

    /// Where in `nodes` the leader of a partition is.
    pub fn leader(&self, topic: &str, partition: usize) -> anyhow::Result<usize> {
        let led = self.client()?.partitions_of(topic)?;
        let leader = led
            .get(partition)
            .map(|p| p.leader)
            .context("there is such a partition")?;
        ensure!(leader > 0, "{topic}-{partition} has no leader");
        Ok(leader as usize - 1)
    }

    /// How our own client gets to know the brokers.
    pub fn own_client(&self) -> ClientConfig {
        let mut config = ClientConfig::new("");
        config.bootstrap = self.nodes.iter().map(|node| node.address.clone()).collect();
        config
    }

    /// Addresses of all brokers, as clients are told.
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<&str> = self.nodes.iter().map(|node| node.address.as_str()).collect();
        addresses.join(",")
    }

    /// Processor time used so far by all brokers, milliseconds.
    pub fn cpu_ms(&self) -> anyhow::Result<f64> {
        self.nodes.iter().map(Server::cpu_ms).sum()
    }

    /// Ends all of them and removes their data.
    pub fn stop(mut self) -> anyhow::Result<()> {
        for node in &mut self.nodes {
            // One that a scenario has ended is not there any more.
            let _ = node.end(Signal::KILL);
        }
        fs::remove_dir_all(&self.folder).context("removing the cluster's data")
    }
}

/// One broker of a cluster, as it is to be started.
pub struct Member<'a> {
    pub id: usize,
    pub folder: &'a Path,
    /// Its address in the quorum.
    pub quorum: &'a str,
    /// Where it listens for records to be copied, if that is elsewhere.
    pub internal: &'a str,
    /// Where others are told that it listens for that.
    pub told: &'a str,
    /// All of these, as both kinds write them: `ID@HOST:PORT,...`.
    pub voters: &'a str,
    pub certs: &'a Path,
}

fn make_certificates(binary: &Path, folder: &Path, count: usize) -> anyhow::Result<()> {
    let nodes: Vec<String> = (1..=count).map(|id| id.to_string()).collect();
    let mut command = std::process::Command::new(binary);
    command.args([
        "cluster",
        "certs",
        "--cluster",
        "bench",
        "--nodes",
        &nodes.join(","),
    ]);
    shell::read(command.arg("--out").arg(folder.join("certs"))).map(|_| ())
}
