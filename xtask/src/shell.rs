//! Running other programs, in this repository's folders.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

/// The repository's root folder.
pub fn root() -> PathBuf {
    // Cargo names the manifest when it runs us; a binary that is started by hand falls back to where it was built.
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest
        .parent()
        .map_or_else(|| PathBuf::from("."), Path::to_path_buf)
}

/// Where cargo puts what it builds: one folder for all workspaces of this repository.
pub fn target_dir() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    root().join(target)
}

/// A command of cargo in a folder of the repository.
pub fn cargo(folder: &str, args: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command
        .args(args)
        .current_dir(root().join(folder))
        .env("CARGO_TARGET_DIR", target_dir());
    clear_cargo(&mut command);
    command
}

/// What cargo tells the program it runs must not reach the next cargo, which may belong to another workspace.
pub fn clear_cargo(command: &mut Command) {
    for name in [
        "CARGO_MANIFEST_DIR",
        "CARGO_MANIFEST_PATH",
        "CARGO_PKG_NAME",
        "CARGO_PKG_VERSION",
        "RUST_RECURSION_COUNT",
    ] {
        command.env_remove(name);
    }
}

/// Runs a command to its end; what it prints is shown.
///
/// # Errors
/// The program is missing or ends with a failure.
pub fn run(command: &mut Command) -> anyhow::Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let status = command.status().with_context(|| format!("cannot run {shown}"))?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command to its end and gives each line of its standard output to `each`, which may also print it.
///
/// # Errors
/// The program is missing or ends with a failure.
pub fn run_lines(command: &mut Command, mut each: impl FnMut(&str)) -> anyhow::Result<()> {
    let shown = show(command);
    println!("$ {shown}");
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {shown}"))?;
    let output = child
        .stdout
        .take()
        .expect("standard output is a pipe: it was asked for above");
    for line in BufReader::new(output).lines() {
        each(&line?);
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command and gives what it printed.
///
/// # Errors
/// The program is missing or ends with a failure; its standard error is in the message.
pub fn read(command: &mut Command) -> anyhow::Result<String> {
    let shown = show(command);
    let output = command.output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!(
            "{shown}: {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Whether a program can be found on the path.
pub fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

fn show(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
