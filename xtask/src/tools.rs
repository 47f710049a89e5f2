//! What the tests need beyond Rust, installed into `.tools/`: nothing outside the repository is changed, but for
//! rustup's targets.

use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::bail;

use crate::shell;

/// Adds the target that plugins compile to.
///
/// # Errors
/// It is missing and rustup cannot add it.
pub fn wasm_target() -> anyhow::Result<()> {
    let libdir = Command::new("rustc")
        .args(["--print", "target-libdir", "--target", WASM_TARGET])
        .output();
    let present = libdir.is_ok_and(|output| {
        output.status.success() && PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).is_dir()
    });
    if present {
        return Ok(());
    }
    retry(|| {
        Command::new("rustup")
            .args(["target", "add", WASM_TARGET])
            .run_installed()
    })
}

/// A Python with the clients that the tests use; gives its path.
///
/// # Errors
/// There is no Python, or the registry does not answer.
pub fn python() -> anyhow::Result<PathBuf> {
    let folder = folder().join("venv");
    let python = folder.join("bin/python");
    let requirements = shell::root().join("tests/clients/requirements.txt");
    let wanted = std::fs::read_to_string(&requirements)?;
    let installed = folder.join("requirements.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(python);
    }
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
    retry(|| {
        let mut pip = Command::new(&python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--requirement",
        ])
        .arg(&requirements);
        pip.run_installed()
    })?;
    std::fs::write(installed, wanted)?;
    Ok(python)
}

/// Apache Kafka's jars: its broker to compare with, and its tools; gives the folder.
///
/// # Errors
/// There is no Maven, or its registry does not answer.
pub fn kafka() -> anyhow::Result<PathBuf> {
    let folder = folder().join("kafka");
    let pom = shell::root().join("xtask/kafka/pom.xml");
    let wanted = std::fs::read_to_string(&pom)?;
    let installed = folder.join("pom.xml");
    if !std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        retry(|| {
            let mut maven = Command::new("mvn");
            maven
                .args(["--quiet", "--batch-mode", "--file"])
                .arg(&pom)
                .arg("dependency:copy-dependencies");
            maven
                .arg(format!("-DoutputDirectory={}", folder.display()))
                .run_installed()
        })?;
        std::fs::write(installed, wanted)?;
    }
    Ok(folder)
}

fn folder() -> PathBuf {
    shell::root().join(".tools")
}

/// Registries fail now and then; what was downloaded before stays.
fn retry(mut once: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    for attempt in 1..ATTEMPTS {
        match once() {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("attempt {attempt} of {ATTEMPTS}: {error:#}"),
        }
        thread::sleep(Duration::from_secs(5));
    }
    once()
}

trait RunInstalled {
    fn run_installed(&mut self) -> anyhow::Result<()>;
}

impl RunInstalled for Command {
    fn run_installed(&mut self) -> anyhow::Result<()> {
        if !shell::has(&self.get_program().to_string_lossy())
            && !self.get_program().to_string_lossy().contains('/')
        {
            bail!("{} is not installed", self.get_program().display());
        }
        shell::run(self)
    }
}

const WASM_TARGET: &str = "wasm32-unknown-unknown";
const ATTEMPTS: usize = 3;
