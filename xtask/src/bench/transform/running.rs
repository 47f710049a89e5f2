//! The two that are compared, while they run: a transform in our broker, and a program of Kafka Streams beside Kafka's.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::super::server::{Kind, Server, cpu_ms_of};
use super::super::{BenchArgs, java};
use crate::{shell, tools};

/// One of them.
pub enum Running {
    /// Its process is the broker's.
    Transform {
        group: String,
    },
    Streams {
        process: Child,
        log: PathBuf,
    },
}

impl Running {
    /// Starts it; it is not ready when this returns.
    pub fn start(server: &Server, args: &BenchArgs, source: &str, sink: &str) -> anyhow::Result<Self> {
        if server.kind == Kind::Millstream {
            deploy(server, NAME, source, sink)?;
            return Ok(Self::Transform { group: group(NAME) });
        }
        let folder = std::path::absolute(args.data.join("streams"))?;
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let (state, log) = (folder.join("state"), folder.join("streams.log"));
        let state = state.display().to_string();
        let output = File::create(&log)?;
        let process = java::program("FilterMap", &[&server.address, NAME, source, sink, &state])?
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start Kafka Streams")?;
        Ok(Self::Streams { process, log })
    }

    /// The group in which it commits offsets.
    pub fn group(&self) -> &str {
        match self {
            Self::Transform { group } => group,
            Self::Streams { .. } => NAME,
        }
    }

    /// Processor time used so far by it and the broker, milliseconds.
    pub fn cpu_ms(&self, server: &Server) -> anyhow::Result<f64> {
        let own = match self {
            Self::Transform { .. } => 0.0,
            Self::Streams { process, .. } => cpu_ms_of(process.id())?,
        };
        Ok(server.cpu_ms()? + own)
    }

    /// Fails if it has ended by itself.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Streams { process, log } => match process.try_wait()? {
                Some(status) => bail!("Kafka Streams ended with {status}, see {}", log.display()),
                None => Ok(()),
            },
            Self::Transform { .. } => Ok(()),
        }
    }

    /// Ends it.
    pub fn stop(mut self, server: &Server) -> anyhow::Result<()> {
        match &mut self {
            Self::Transform { .. } => server.admin(&["transform", "delete", NAME, "--yes"]).map(|_| ()),
            Self::Streams { process, .. } => {
                kill_process(Pid::from_child(process), Signal::TERM)?;
                process.wait().map(|_| ()).context("ending Kafka Streams")
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Streams { process, .. } = self {
            // Nothing to do about an error here: most often it has ended before.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Deploys the plugin of the bench from one topic to another.
pub fn deploy(server: &Server, name: &str, source: &str, sink: &str) -> anyhow::Result<()> {
    let words = [
        "transform",
        "deploy",
        name,
        "--plugin",
        PLUGIN,
        "--from",
        source,
        "--to",
        sink,
    ];
    server.admin(&words).map(|_| ())
}

/// The group in which a transform commits offsets.
pub fn group(transform: &str) -> String {
    format!("__transform.{transform}")
}

/// Gives the plugin to the broker; it is built the first time.
pub fn push_plugin(server: &Server) -> anyhow::Result<()> {
    static BUILT: OnceLock<String> = OnceLock::new();
    let component = match BUILT.get() {
        Some(component) => component,
        None => {
            let component = build_plugin(server)?;
            BUILT.get_or_init(|| component)
        }
    };
    server
        .admin(&["plugin", "push", "--name", PLUGIN, component])
        .map(|_| ())
}

fn build_plugin(server: &Server) -> anyhow::Result<String> {
    tools::wasm_target()?;
    let component = shell::target_dir().join("bench/filter_map.wasm");
    let mut build = Command::new(server.binary());
    build.args(["plugin", "build", "xtask/filter-map", "--out"]);
    build.arg(&component).env("CARGO_TARGET_DIR", shell::target_dir());
    shell::clear_cargo(&mut build);
    shell::read(&mut build)?;
    Ok(component.display().to_string())
}

const NAME: &str = "bench";
const PLUGIN: &str = "filter-map";
