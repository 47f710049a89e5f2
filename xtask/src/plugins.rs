//! `cargo xtask plugins`: the shipped plugins as components in `target/plugins/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::shell;
use crate::tools;

/// The broker and its command line: the release binary; where everything is built from nothing, the one that the unit tests
/// were linked with, since what the tests need is no speed.
///
/// # Errors
/// The build fails.
pub fn millstream() -> anyhow::Result<PathBuf> {
    // A build of the one package would choose other features of what it depends on, and so compile all of that again.
    let (build, folder): (&[&str], _) = match std::env::var("CI").is_ok_and(|value| value == "true") {
        true => (&["test", "--workspace", "--no-run", "--quiet"], "debug"),
        false => (&["build", "--release", "--package", "millstream-cli"], "release"),
    };
    shell::run(&mut shell::cargo(".", build))?;
    Ok(shell::target_dir().join(folder).join("millstream"))
}

/// Builds the components that `plugins/Cargo.toml` lists, with the command that plugin authors use.
///
/// # Errors
/// A build fails, or the wasm target cannot be installed.
pub fn build() -> anyhow::Result<Vec<PathBuf>> {
    tools::wasm_target()?;
    let millstream = millstream()?;
    let folder = shell::target_dir().join("plugins");
    std::fs::create_dir_all(&folder)?;
    let mut files = Vec::new();
    for name in names()? {
        let file = folder.join(format!("{name}.wasm"));
        let project = format!("plugins/{}", name.replace('_', "-"));
        component(&millstream, &project, &file)?;
        files.push(file);
    }
    Ok(files)
}

/// Those that were built, which are built where there are none.
///
/// # Errors
/// A build fails.
pub fn built() -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if let Ok(folder) = std::fs::read_dir(shell::target_dir().join("plugins")) {
        for entry in folder {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "wasm") {
                found.push(path);
            }
        }
    }
    found.sort();
    if found.is_empty() {
        return build();
    }
    Ok(found)
}

/// Builds one project, with the command that plugin authors use.
///
/// # Errors
/// The build fails.
pub fn component(millstream: &Path, project: &str, out: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(millstream);
    command
        .args(["plugin", "build", project, "--out"])
        .arg(out)
        .env("CARGO_TARGET_DIR", shell::target_dir());
    shell::clear_cargo(&mut command);
    shell::run(&mut command)
}

fn names() -> anyhow::Result<Vec<String>> {
    let text = shell::read(&mut shell::cargo(
        "plugins",
        &["metadata", "--no-deps", "--format-version", "1"],
    ))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let names = metadata["metadata"]["millstream"]["plugins"].as_array();
    let names = names.context("plugins/Cargo.toml names no plugins in workspace.metadata.millstream")?;
    Ok(names
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect())
}
