//! A broker as a process of ours.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::shell;

/// A broker that was started; it ends with this.
#[derive(Debug)]
pub struct Process {
    child: Child,
    begun: Instant,
}

impl Process {
    /// Starts `millstream broker` with these options.
    pub fn launch(command: &mut Command) -> anyhow::Result<Self> {
        let shown = command.get_program().display().to_string();
        let child = command
            .arg("--ready-json")
            .env("MILLSTREAM_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        Ok(Self {
            child,
            begun: Instant::now(),
        })
    }

    /// Waits until it serves; gives what it says then, its addresses, and how long it took from its start.
    pub fn wait_ready(&mut self) -> anyhow::Result<(Value, Duration)> {
        let output = self
            .child
            .stdout
            .take()
            .context("the broker was waited for already")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        let took = self.begun.elapsed();
        let ready = serde_json::from_str(&line)
            .with_context(|| format!("the broker is not ready: '{}'", line.trim()))?;
        Ok((ready, took))
    }

    /// Whether it still runs.
    pub fn is_up(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it as a crash would, with SIGKILL.
    pub fn kill(&mut self) {
        // After its end both calls have nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end, as an init system would.
    pub fn terminate(&mut self) -> anyhow::Result<()> {
        if self.is_up() {
            shell::read(Command::new("kill").args(["-TERM", &self.child.id().to_string()]))?;
        }
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.terminate()?;
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the broker ended with {status}");
        }
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits until someone asks for the end, or `is_up` says that there is nothing to stay for. From a terminal the brokers
/// are asked as well; we outlive them, to remove their data.
pub fn stay(mut is_up: impl FnMut() -> bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        while is_up() {
            tokio::select! {
                _ = interrupt.recv() => break,
                _ = terminate.recv() => break,
                () = tokio::time::sleep(STAY_POLL) => {}
            }
        }
        Ok(())
    })
}

/// Pause between two looks at whether a broker still runs.
const STAY_POLL: Duration = Duration::from_millis(200);
