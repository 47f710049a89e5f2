//! `cargo xtask plugins`: the shipped plugins as components in `target/plugins/`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Context;
use serde_json::Value;

use crate::shell;
use crate::tools;

/// The release binary of the broker and its command line.
///
/// # Errors
/// The build fails.
pub fn millstream() -> anyhow::Result<PathBuf> {
    let mut command = shell::cargo(".", &["build", "--release", "--package", "millstream-cli"]);
    if std::env::var("CI").is_ok_and(|value| value == "true") {
        // Tests need an optimised broker, not the last percent of its speed: so it is built in half the time.
        command.env("CARGO_PROFILE_RELEASE_LTO", "off");
        command.env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16");
        command.env("CARGO_PROFILE_RELEASE_DEBUG", "0");
    }
    shell::run(&mut command)?;
    Ok(shell::target_dir().join("release/millstream"))
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
        let mut command = Command::new(&millstream);
        command
            .args(["plugin", "build"])
            .arg(format!("plugins/{}", name.replace('_', "-")));
        command
            .arg("--out")
            .arg(&file)
            .env("CARGO_TARGET_DIR", shell::target_dir());
        shell::clear_cargo(&mut command);
        shell::run(&mut command)?;
        files.push(file);
    }
    Ok(files)
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
