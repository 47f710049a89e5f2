//! Starts and stops the two servers, and reads what they use.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};

use super::BenchArgs;
use super::cluster::Member;
use super::wire::Client;
use crate::{shell, tools};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Apache Kafka.
    Kafka,
    /// Ours.
    Millstream,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Kafka => "kafka",
            Self::Millstream => "millstream",
        })
    }
}

/// What the servers are started from.
#[derive(Debug)]
pub struct Binaries {
    kafka_classpath: String,
    pub millstream: PathBuf,
}

impl Binaries {
    /// Builds ours and fetches Kafka's jars from Maven, where they are not there yet.
    pub fn prepare(args: &BenchArgs) -> anyhow::Result<Self> {
        let servers = args.servers();
        let kafka_classpath = match servers.contains(&Kind::Kafka) {
            true => format!("{}/*", tools::kafka()?.display()),
            false => String::new(),
        };
        let millstream = match &args.binary {
            Some(binary) => binary.clone(),
            None if servers.contains(&Kind::Millstream) => build_release()?,
            None => PathBuf::new(),
        };
        Ok(Self {
            kafka_classpath,
            millstream,
        })
    }
}

fn build_release() -> anyhow::Result<PathBuf> {
    shell::run(&mut shell::cargo(
        ".",
        &["build", "--release", "--package", "millstream-cli"],
    ))?;
    Ok(shell::target_dir().join("release/millstream"))
}

/// A server that runs, with a data directory of its own.
pub struct Server {
    pub kind: Kind,
    pub address: String,
    pub http_address: String,
    folder: PathBuf,
    child: Child,
    command: Vec<String>,
    environment: Vec<(&'static str, String)>,
    ready: Duration,
}

impl Server {
    /// Starts one on an empty directory, and waits until it serves.
    pub fn start(kind: Kind, binaries: &Binaries, data: &Path) -> anyhow::Result<Self> {
        let folder = std::path::absolute(data.join(kind.to_string()))?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let (address, other) = (free_address()?, free_address()?);
        let mut environment = Vec::new();
        let command = match kind {
            Kind::Kafka => kafka_command(&binaries.kafka_classpath, &folder, &address, &other)?,
            Kind::Millstream => {
                environment.push(("MILLSTREAM_DATA_DIR", folder.join("data").display().to_string()));
                environment.push(("MILLSTREAM_KAFKA_LISTEN", address.clone()));
                environment.push(("MILLSTREAM_HTTP_LISTEN", other.clone()));
                vec![binaries.millstream.display().to_string(), "broker".to_owned()]
            }
        };
        let (child, ready) = launch(&command, &environment, &folder, &address)?;
        Ok(Self {
            kind,
            address,
            http_address: other,
            folder,
            child,
            command,
            environment,
            ready,
        })
    }

    /// Starts a broker of a cluster, and does not wait for the others.
    pub fn launch_member(kind: Kind, binaries: &Binaries, member: &Member<'_>) -> anyhow::Result<Self> {
        let (address, other) = (free_address()?, free_address()?);
        let command = match kind {
            Kind::Kafka => kafka_member(&binaries.kafka_classpath, member, &address)?,
            Kind::Millstream => millstream_member(&binaries.millstream, member, &address, &other),
        };
        let start = Instant::now();
        let child = spawn(&command, &[], member.folder)?;
        Ok(Self {
            kind,
            address,
            http_address: other,
            folder: member.folder.to_owned(),
            child,
            command,
            environment: Vec::new(),
            ready: start.elapsed(),
        })
    }

    pub fn client(&self) -> anyhow::Result<Client> {
        Client::connect(&self.address)
    }

    /// The program that runs.
    pub fn binary(&self) -> &str {
        &self.command[0]
    }

    /// Milliseconds from the start of the process to its first answer that names a broker.
    pub fn ready_ms(&self) -> f64 {
        self.ready.as_secs_f64() * 1e3
    }

    /// Processor time used so far, milliseconds: user and system, all threads.
    pub fn cpu_ms(&self) -> anyhow::Result<f64> {
        cpu_ms_of(self.child.id())
    }

    /// Runs our own command line against it, and gives what that printed.
    pub fn admin(&self, words: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new(self.binary());
        command.args(["--admin", &format!("http://{}", self.http_address)]);
        shell::read(command.args(words))
    }

    /// Memory that is resident, MiB.
    pub fn resident_mib(&self) -> anyhow::Result<f64> {
        self.proc_number("status", "VmRSS:").map(|kib| kib / 1024.0)
    }

    /// Bytes that the process has read so far, from files or the page cache.
    pub fn read_bytes(&self) -> anyhow::Result<f64> {
        self.proc_number("io", "rchar:")
    }

    fn proc_number(&self, file: &str, name: &str) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.child.id()))?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("the kernel tells it")?;
        Ok(line.split_whitespace().next().context("with a number")?.parse()?)
    }

    /// One number of our `/metrics`, by its name and labels; 0 while nothing was counted.
    pub fn metric(&self, name: &str) -> anyhow::Result<f64> {
        let mut stream = super::wire::connect(&self.http_address)?;
        let host = &self.http_address;
        write!(
            stream,
            "GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
        )?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        ensure!(text.starts_with("HTTP/1.1 200"), "no metrics: {text:.80}");
        let found = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        found.map_or(Ok(0.0), |value| Ok(value.parse()?))
    }

    /// Stops it in good order and starts it again on the same data.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM)?;
        self.start_again()
    }

    /// Kills it and starts it again on the same data.
    pub fn crash(&mut self) -> anyhow::Result<()> {
        self.end(Signal::KILL)?;
        self.start_again()
    }

    /// Starts it again on the same data.
    pub fn start_again(&mut self) -> anyhow::Result<()> {
        (self.child, self.ready) = launch(&self.command, &self.environment, &self.folder, &self.address)?;
        Ok(())
    }

    /// Stops it and removes its data.
    pub fn stop(mut self) -> anyhow::Result<()> {
        self.end(Signal::TERM)?;
        fs::remove_dir_all(&self.folder).context("removing its data")
    }

    /// Fails if the process has ended by itself.
    pub fn check_runs(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}, see {}", self.kind, self.folder.display()),
        }
    }

    /// Sends it a signal that ends it, and waits until it has ended.
    pub fn end(&mut self, signal: Signal) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.child), signal)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.child.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "{} does not end", self.kind);
            thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing to do about an error here: most often it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processor time that a process has used so far, milliseconds: user and system, all threads.
pub fn cpu_ms_of(process: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in brackets may hold spaces: count the fields behind it.
    let behind = stat.rsplit_once(')').context("a process has a name")?.1;
    let ticks = |field: usize| {
        behind
            .split_whitespace()
            .nth(field)
            .and_then(|ticks| ticks.parse::<f64>().ok())
    };
    let (user, system) = ticks(11).zip(ticks(12)).context("a process has used time")?;
    Ok((user + system) * 1000.0 / rustix::param::clock_ticks_per_second() as f64)
}

fn spawn(command: &[String], environment: &[(&'static str, String)], folder: &Path) -> anyhow::Result<Child> {
    let log = File::options()
        .create(true)
        .append(true)
        .open(folder.join("server.log"))?;
    Command::new(&command[0])
        .args(&command[1..])
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("cannot start {}", command[0]))
}

fn launch(
    command: &[String],
    environment: &[(&'static str, String)],
    folder: &Path,
    address: &str,
) -> anyhow::Result<(Child, Duration)> {
    let start = Instant::now();
    let mut child = spawn(command, environment, folder)?;
    loop {
        let brokers = Client::connect(address).and_then(|mut client| client.broker_count());
        if brokers.is_ok_and(|brokers| brokers > 0) {
            return Ok((child, start.elapsed()));
        }
        if let Some(status) = child.try_wait()? {
            bail!(
                "{} ended with {status}, see {}",
                command[0],
                folder.join("server.log").display()
            );
        }
        if start.elapsed() > Duration::from_secs(120) {
            child.kill()?;
            bail!("{} does not serve after 120 s", command[0]);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// A lone broker of Kafka's, that is its own controller.
fn kafka_command(
    classpath: &str,
    folder: &Path,
    address: &str,
    controller: &str,
) -> anyhow::Result<Vec<String>> {
    let internal = free_address()?;
    let member = Member {
        id: 1,
        folder,
        quorum: controller,
        internal: &internal,
        told: &internal,
        voters: &format!("1@{controller}"),
        certs: folder,
    };
    kafka_member(classpath, &member, address)
}

/// Formats the directory and gives the command that Kafka's own script would run: its heap, its collector.
fn kafka_member(classpath: &str, member: &Member<'_>, address: &str) -> anyhow::Result<Vec<String>> {
    let properties = member.folder.join("server.properties");
    let Member {
        id,
        quorum,
        voters,
        internal,
        told,
        ..
    } = member;
    fs::write(
        &properties,
        format!(
            "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={voters}\n\
             listeners=PLAINTEXT://{address},INTERNAL://{internal},CONTROLLER://{quorum}\n\
             advertised.listeners=PLAINTEXT://{address},INTERNAL://{told}\n\
             controller.listener.names=CONTROLLER\ninter.broker.listener.name=INTERNAL\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
             log.dirs={}\noffsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n",
            member.folder.join("data").display()
        ),
    )?;
    let properties = properties.display().to_string();
    let format = Command::new("java")
        .args([
            "-cp",
            classpath,
            "kafka.tools.StorageTool",
            "format",
            "-t",
            "bWlsbHN0cmVhbS1iZW5jaA",
            "-c",
            &properties,
        ])
        .output()
        .context("cannot run java")?;
    ensure!(
        format.status.success(),
        "formatting Kafka's storage: {}",
        String::from_utf8_lossy(&format.stderr)
    );
    let mut command = vec!["java".to_owned()];
    command.extend(JAVA_OPTIONS.map(str::to_owned));
    command.extend(["-cp", classpath, "kafka.Kafka", &properties].map(str::to_owned));
    Ok(command)
}

fn millstream_member(binary: &Path, member: &Member<'_>, address: &str, http: &str) -> Vec<String> {
    let shown = |path: &Path| path.display().to_string();
    let id = member.id.to_string();
    let (data, certs) = (member.folder.join("data"), member.certs.join(&id));
    let words = [
        &shown(binary),
        "broker",
        "--node-id",
        &id,
        "--data-dir",
        &shown(&data),
        "--certs",
        &shown(&certs),
        "--kafka",
        address,
        "--http",
        http,
        "--cluster",
        member.quorum,
        "--voters",
        member.voters,
        "--set",
        &format!("millstream.cluster.advertised={}", member.told),
    ];
    words.map(str::to_owned).into()
}

pub fn free_address() -> anyhow::Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// What Kafka's own scripts start Java with: its heap, its collector.
pub const JAVA_OPTIONS: [&str; 7] = [
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
];
