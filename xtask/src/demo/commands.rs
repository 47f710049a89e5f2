//! The commands that a user would type, and what they print.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::shell;

/// Runs commands of a binary against brokers.
#[derive(Debug, Clone)]
pub struct Commands {
    /// The binary.
    pub binary: PathBuf,
    /// Kafka addresses to begin with.
    pub bootstrap: String,
    /// Admin HTTP address, HOST:PORT.
    pub http: String,
}

impl Commands {
    /// A command that prints JSON.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(args).args([
            "--bootstrap",
            &self.bootstrap,
            "--admin",
            &format!("http://{}", self.http),
            "--output",
            "json",
        ]);
        command
    }

    /// What a command prints; a list of one is how a table of one row comes out, and is its row here.
    pub fn json(&self, args: &[&str]) -> anyhow::Result<Value> {
        Ok(match self.value(args)? {
            Value::Array(mut rows) if rows.len() == 1 => rows.remove(0),
            other => other,
        })
    }

    /// The rows of the table that a command prints.
    pub fn rows(&self, args: &[&str]) -> anyhow::Result<Vec<Value>> {
        match self.value(args)? {
            Value::Array(rows) => Ok(rows),
            other => Ok(vec![other]),
        }
    }

    fn value(&self, args: &[&str]) -> anyhow::Result<Value> {
        let text = shell::read(&mut self.command(args))?;
        serde_json::from_str(&text).with_context(|| format!("{} printed no JSON", args[0]))
    }

    /// Records in a topic, from its offsets.
    pub fn stored(&self, topic: &str) -> anyhow::Result<u64> {
        let rows = self.rows(&["topic", "offsets", topic])?;
        let count = |row: &Value| Some(row["end_offset"].as_u64()? - row["start_offset"].as_u64()?);
        rows.iter()
            .map(count)
            .sum::<Option<u64>>()
            .context("a partition without offsets")
    }

    /// All records of a topic or a view.
    pub fn consume(&self, topic: &str, more: &[&str]) -> anyhow::Result<Vec<Value>> {
        let args = [
            &[
                "consume",
                topic,
                "--from",
                "earliest",
                "--exit-at-end",
                "--format",
                "json",
            ],
            more,
        ]
        .concat();
        let text = shell::read(&mut self.command(&args))?;
        Ok(text.lines().map(serde_json::from_str).collect::<Result<_, _>>()?)
    }
}
