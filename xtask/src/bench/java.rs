//! Programs in Java that the bench runs, `xtask/kafka/*.java`, with the jars of Apache Kafka.

use std::process::Command;

use anyhow::{Context, ensure};

use super::server::JAVA_OPTIONS;
use crate::{shell, tools};

/// The command that runs `xtask/kafka/NAME.java`, which is compiled now.
pub fn program(name: &str, arguments: &[&str]) -> anyhow::Result<Command> {
    let jars = format!("{}/*", tools::kafka()?.display());
    let classes = shell::target_dir().join("bench/classes");
    std::fs::create_dir_all(&classes)?;
    let compiled = Command::new("javac")
        .args(["-cp", &jars, "-d"])
        .arg(&classes)
        .arg(shell::root().join(format!("xtask/kafka/{name}.java")))
        .output()
        .context("cannot run javac")?;
    ensure!(
        compiled.status.success(),
        "{name}.java: {}",
        String::from_utf8_lossy(&compiled.stderr)
    );
    let mut command = Command::new("java");
    command.args(JAVA_OPTIONS);
    command.args(["-cp", &format!("{jars}:{}", classes.display()), name]);
    command.args(arguments);
    Ok(command)
}
