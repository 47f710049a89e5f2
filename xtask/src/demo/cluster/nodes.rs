//! Brokers of a cluster on loopback: their certificates, ports and processes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::demo::commands::Commands;
use crate::demo::process::Process;
use crate::shell;

/// A cluster of our own, in an empty directory that goes with it.
pub struct Cluster {
    binary: PathBuf,
    /// Where its brokers keep their data, certificates and logs.
    pub place: PathBuf,
    nodes: Vec<Node>,
    voters: String,
    keep: bool,
}

/// One of its brokers, which keeps its addresses when it starts again.
struct Node {
    id: u16,
    kafka: SocketAddr,
    http: SocketAddr,
    peer: SocketAddr,
    process: Option<Process>,
}

impl Cluster {
    /// Makes certificates and starts brokers 1 to `brokers`, all of them voters; gives also how long it took until all
    /// were ready.
    pub fn start(binary: &Path, place: PathBuf, brokers: u16) -> anyhow::Result<(Self, Duration)> {
        fs::create_dir_all(&place)?;
        let mut cluster = Self {
            binary: binary.to_owned(),
            place,
            nodes: nodes(brokers)?,
            voters: String::new(),
            keep: false,
        };
        let voters = cluster
            .nodes
            .iter()
            .map(|node| format!("{}@{}", node.id, node.peer));
        cluster.voters = voters.collect::<Vec<_>>().join(",");
        let ids: Vec<String> = cluster.nodes.iter().map(|node| node.id.to_string()).collect();
        shell::read(
            Command::new(binary)
                .args([
                    "cluster",
                    "certs",
                    "--cluster",
                    "demo",
                    "--nodes",
                    &ids.join(","),
                    "--out",
                ])
                .arg(cluster.place.join("certs")),
        )?;
        let begun = Instant::now();
        // A quorum forms once most of them run: none is ready before.
        for at in 0..cluster.nodes.len() {
            let process = cluster.launch(at)?;
            cluster.nodes[at].process = Some(process);
        }
        for node in &mut cluster.nodes {
            node.wait_ready()?;
        }
        Ok((cluster, begun.elapsed()))
    }

    fn launch(&self, at: usize) -> anyhow::Result<Process> {
        let node = &self.nodes[at];
        let id = node.id.to_string();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.place.join(format!("broker-{id}.log")))?;
        Process::launch(
            Command::new(&self.binary)
                .args(["broker", "--node-id", &id, "--rack", RACKS[at % RACKS.len()]])
                .args([
                    "--kafka",
                    &node.kafka.to_string(),
                    "--http",
                    &node.http.to_string(),
                ])
                .args(["--cluster", &node.peer.to_string(), "--voters", &self.voters])
                .arg("--certs")
                .arg(self.place.join("certs").join(&id))
                .arg("--data-dir")
                .arg(self.place.join(format!("data-{id}")))
                .stderr(log),
        )
    }

    /// Commands for the cluster: they know all brokers, and ask one that is up where only one is asked.
    pub fn commands(&self) -> anyhow::Result<Commands> {
        let up = self.nodes.iter().find(|node| node.process.is_some());
        let up = up.context("no broker of the cluster is up")?;
        let addresses: Vec<String> = self.nodes.iter().map(|node| node.kafka.to_string()).collect();
        Ok(Commands {
            binary: self.binary.clone(),
            bootstrap: addresses.join(","),
            http: up.http.to_string(),
        })
    }

    /// Kills a broker with SIGKILL.
    pub fn kill(&mut self, id: u16) -> anyhow::Result<()> {
        let node = self.node(id)?;
        node.process.take().context("the broker is down already")?.kill();
        Ok(())
    }

    /// Starts a broker again with what it has on its disk; gives how long it took until it was ready.
    pub fn start_again(&mut self, id: u16) -> anyhow::Result<Duration> {
        let at = self.nodes.iter().position(|node| node.id == id);
        let at = at.with_context(|| format!("the cluster has no broker {id}"))?;
        self.nodes[at].process = Some(self.launch(at)?);
        self.nodes[at].wait_ready()
    }

    /// Records that followers lack, by partition of a topic and follower, as the leaders count them.
    pub fn follower_lag(&self, topic: &str) -> anyhow::Result<BTreeMap<(i64, i64), u64>> {
        let mut lags = BTreeMap::new();
        for node in self.nodes.iter().filter(|node| node.process.is_some()) {
            let text = metrics(node.http)?;
            lags.extend(text.lines().filter_map(|line| parse_lag(line, topic)));
        }
        Ok(lags)
    }

    /// Whether a broker that should run does.
    pub fn is_up(&mut self) -> bool {
        let mut processes = self.nodes.iter_mut().filter_map(|node| node.process.as_mut());
        processes.any(Process::is_up)
    }

    /// Leaves the directory behind, for whoever looks for what went wrong.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    /// Asks the brokers to end, all at once, and waits until they have.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut processes: Vec<Process> = self
            .nodes
            .iter_mut()
            .filter_map(|node| node.process.take())
            .collect();
        for process in &mut processes {
            process.terminate()?;
        }
        processes.iter_mut().try_for_each(Process::stop)
    }

    fn node(&mut self, id: u16) -> anyhow::Result<&mut Node> {
        let node = self.nodes.iter_mut().find(|node| node.id == id);
        node.with_context(|| format!("the cluster has no broker {id}"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.nodes.clear();
        if !self.keep {
            let _ = fs::remove_dir_all(&self.place);
        }
    }
}

impl Node {
    fn wait_ready(&mut self) -> anyhow::Result<Duration> {
        let process = self.process.as_mut().context("the broker was not started")?;
        let (_, took) = process
            .wait_ready()
            .with_context(|| format!("broker {}", self.id))?;
        Ok(took)
    }
}

/// Brokers with free ports. They are held until all are found, so that none is found twice.
fn nodes(brokers: u16) -> anyhow::Result<Vec<Node>> {
    let (mut streams, mut datagrams, mut nodes) = (Vec::new(), Vec::new(), Vec::new());
    for id in 1..=brokers {
        let (kafka, http) = (TcpListener::bind(LOOPBACK)?, TcpListener::bind(LOOPBACK)?);
        let peer = UdpSocket::bind(LOOPBACK)?;
        nodes.push(Node {
            id,
            kafka: kafka.local_addr()?,
            http: http.local_addr()?,
            peer: peer.local_addr()?,
            process: None,
        });
        streams.extend([kafka, http]);
        datagrams.push(peer);
    }
    Ok(nodes)
}

/// What a broker counts.
fn metrics(http: SocketAddr) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(http)?;
    stream.set_read_timeout(Some(HTTP_WAIT))?;
    write!(
        stream,
        "GET /metrics HTTP/1.1\r\nHost: {http}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    match answer.lines().next() {
        Some(status) if status.contains(" 200 ") => Ok(answer),
        status => bail!("{http} answers {} to GET /metrics", status.unwrap_or("nothing")),
    }
}

/// Reads a line such as `millstream_follower_lag_records{topic="t",partition="0",broker="2"} 5`.
fn parse_lag(line: &str, topic: &str) -> Option<((i64, i64), u64)> {
    let (labels, lag) = line
        .strip_prefix("millstream_follower_lag_records{")?
        .rsplit_once("} ")?;
    let label = |name: &str| {
        labels
            .split(',')
            .find_map(|label| label.strip_prefix(name)?.strip_prefix("=\"")?.strip_suffix('"'))
    };
    if label("topic") != Some(topic) {
        return None;
    }
    let place = (label("partition")?.parse().ok()?, label("broker")?.parse().ok()?);
    Some((place, lag.trim().parse().ok()?))
}

/// Names of racks, dealt out in turn.
pub const RACKS: [&str; 3] = ["a", "b", "c"];
const LOOPBACK: &str = "127.0.0.1:0";
/// How long a broker may take to say what it counts.
const HTTP_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lag_is_read_from_the_lines_of_its_topic() {
        let line = r#"millstream_follower_lag_records{topic="flights",partition="4",broker="2"} 17"#;
        assert_eq!(parse_lag(line, "flights"), Some(((4, 2), 17)));
        assert_eq!(parse_lag(line, "flight"), None);
        assert_eq!(
            parse_lag("# TYPE millstream_follower_lag_records gauge", "flights"),
            None
        );
    }
}
