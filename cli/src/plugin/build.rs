//! `millstream plugin build`: cargo makes a core module, and this makes it a component. No other tool is needed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use clap::Args;
use millstream_runtime::build::componentize;
use serde_json::{Value, json};

use crate::Global;
use crate::output::{Format, Rows, bytes};

/// What `plugin build` takes.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Directory of the project
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Where to put the component; without it, target/NAME.wasm in the project
    #[arg(long, short)]
    out: Option<PathBuf>,
}

/// Builds the project.
pub fn run(global: &Global, args: &BuildArgs) -> anyhow::Result<()> {
    if !args.project.join("Cargo.toml").exists() {
        bail!(
            "{} has no Cargo.toml; 'millstream plugin new' makes a project",
            args.project.display()
        );
    }
    let module = compile(&args.project)?;
    let core = std::fs::read(&module).with_context(|| format!("cannot read {}", module.display()))?;
    let component = componentize(&core).context("the module cannot become a component")?;
    let out = match &args.out {
        Some(out) => out.clone(),
        None => {
            let name = module
                .file_name()
                .context("cargo named a module without a name")?;
            let out = args.project.join("target").join(name);
            out.strip_prefix(".").map_or(out.clone(), Path::to_owned)
        }
    };
    // Where cargo builds elsewhere (CARGO_TARGET_DIR) the project has no target directory yet.
    if let Some(directory) = out.parent() {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    std::fs::write(&out, &component).with_context(|| format!("cannot write {}", out.display()))?;
    let mut rows = Rows::new(&["component", "size"]);
    let size = match global.output {
        Format::Table => json!(bytes(component.len() as u64)),
        Format::Json => json!(component.len()),
    };
    rows.push([json!(out.display().to_string()), size]);
    Ok(rows.print_one(global.output)?)
}

/// Runs cargo and gives the path of the module it made.
fn compile(project: &Path) -> anyhow::Result<PathBuf> {
    let output = Command::new("cargo")
        .args([
            "build",
            "--release",
            "--target",
            TARGET,
            "--message-format",
            "json-render-diagnostics",
        ])
        // Where vectors of bytes are worked on, scanning is about twice as fast.
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+simd128")
        .current_dir(project)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo; is Rust installed?")?;
    if !output.status.success() {
        bail!("cargo failed; if it misses the target, 'rustup target add {TARGET}' adds it");
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let files = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let mut modules = files.filter_map(|file| {
        file.as_str()
            .filter(|name| name.ends_with(".wasm"))
            .map(PathBuf::from)
    });
    modules.next_back().with_context(|| {
        format!(
            "{} makes no module; its Cargo.toml needs crate-type = [\"cdylib\"]",
            project.display()
        )
    })
}

/// What plugins compile to: it has no system interface, so that a plugin imports none.
const TARGET: &str = "wasm32-unknown-unknown";
