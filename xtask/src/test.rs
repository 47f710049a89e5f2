//! `cargo xtask test`: every test there is, step by step, with a summary of what ran and what did not.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;

use crate::{chaos, demo, licences, plugins, shell, sim, tools};

/// Which steps to run.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Runs only this step; may be repeated. Steps before it are not run, also where it builds on them
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Lists the steps
    #[arg(long)]
    list: bool,
    /// Goes on with the next step when one has failed
    #[arg(long)]
    keep_going: bool,
    /// Only client tests whose name matches, as pytest's -k
    filter: Option<String>,
}

/// One step: its name, what it needs of the machine, and what it does.
struct Step {
    name: &'static str,
    what: &'static str,
    needs: &'static [&'static str],
    run: fn(&TestArgs, &mut Count) -> anyhow::Result<()>,
}

/// Tests that the step's programs told of.
#[derive(Debug, Default, Clone, Copy)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

enum Outcome {
    Passed(Count),
    Failed(Count, anyhow::Error),
    Skipped(String),
}

/// Runs the steps.
///
/// # Errors
/// A step failed, or was skipped although `CI=true` allows no such thing.
pub fn run(args: &TestArgs) -> anyhow::Result<()> {
    if args.list {
        STEPS
            .iter()
            .for_each(|step| println!("{:10} {}", step.name, step.what));
        return Ok(());
    }
    if let Some(name) = args
        .only
        .iter()
        .find(|name| !STEPS.iter().any(|step| step.name == name.as_str()))
    {
        bail!("there is no step '{name}'; --list shows them");
    }
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let mut outcomes = Vec::new();
    for step in STEPS
        .iter()
        .filter(|step| args.only.is_empty() || args.only.iter().any(|name| name == step.name))
    {
        println!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
        let outcome = run_step(step, args, strict);
        if let Outcome::Failed(_, error) = &outcome {
            println!("step {} failed: {error:#}", step.name);
        }
        let failed = matches!(outcome, Outcome::Failed(..));
        outcomes.push((step.name, start.elapsed(), outcome));
        if failed && !args.keep_going && !strict {
            break;
        }
    }
    summarise(&outcomes)
}

fn run_step(step: &Step, args: &TestArgs, strict: bool) -> Outcome {
    let mut count = Count::default();
    if let Some(missing) = step.needs.iter().find(|program| !shell::has(program)) {
        return match strict {
            true => Outcome::Failed(
                count,
                anyhow::anyhow!("{missing} is not installed, and with CI=true nothing is skipped"),
            ),
            false => Outcome::Skipped(format!("{missing} is not installed")),
        };
    }
    match (step.run)(args, &mut count) {
        Ok(()) => Outcome::Passed(count),
        Err(error) => Outcome::Failed(count, error),
    }
}

fn summarise(outcomes: &[(&str, Duration, Outcome)]) -> anyhow::Result<()> {
    println!("\n=== summary");
    let (mut passed, mut failed) = (0, 0);
    for (name, time, outcome) in outcomes {
        let text = match outcome {
            Outcome::Passed(count) => {
                passed += count.passed.max(1);
                count.text("passed")
            }
            Outcome::Failed(count, error) => {
                passed += count.passed;
                failed += count.failed.max(1);
                let error = format!("{error:#}");
                format!(
                    "{}: {}",
                    count.text("FAILED"),
                    error.lines().next().unwrap_or_default()
                )
            }
            Outcome::Skipped(why) => format!("skipped: {why}"),
        };
        println!("{name:10} {:>6.1} s  {text}", time.as_secs_f64());
    }
    let count = STEPS.len() - outcomes.len();
    if count > 0 {
        println!("{count} of {} steps were not run", STEPS.len());
    }
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("tests failed");
    }
    Ok(())
}

impl Count {
    fn text(self, verdict: &str) -> String {
        match self {
            Self {
                passed: 0, failed: 0, ..
            } => verdict.to_owned(),
            Self {
                passed,
                failed: 0,
                skipped: 0,
            } => format!("{verdict} ({passed} tests)"),
            Self {
                passed,
                failed,
                skipped,
            } => format!("{verdict} ({passed} passed, {failed} failed, {skipped} skipped)"),
        }
    }

    /// Adds what a line of cargo's or pytest's summary says: `test result: ok. 3 passed; 0 failed; 1 ignored; …`,
    /// `== 3 passed, 1 skipped in 2.00s ==`.
    fn add(&mut self, line: &str) {
        let is_summary = line.starts_with("test result:") || (line.starts_with('=') && line.contains(" in "));
        if !is_summary {
            return;
        }
        let words: Vec<&str> = line
            .split([' ', ';', ',', '='])
            .filter(|word| !word.is_empty())
            .collect();
        let numbers: BTreeMap<&str, u64> = words
            .windows(2)
            .filter_map(|pair| Some((pair[1], pair[0].parse().ok()?)))
            .collect();
        let of = |names: &[&str]| names.iter().filter_map(|name| numbers.get(name)).sum::<u64>();
        self.passed += of(&["passed"]);
        self.failed += of(&["failed", "error", "errors"]);
        self.skipped += of(&["skipped", "ignored"]);
    }

    fn run(&mut self, command: &mut Command) -> anyhow::Result<()> {
        shell::run_lines(command, |line| {
            println!("{line}");
            self.add(line);
        })
    }
}

fn format(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    in_each(&WORKSPACES, |folder| {
        shell::run(&mut shell::cargo(folder, &["fmt", "--all", "--check"]))
    })
}

fn lint(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    let args = [
        "clippy",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ];
    in_each(&WORKSPACES, |folder| shell::run(&mut shell::cargo(folder, &args)))
}

fn unit(_: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let mut command = shell::cargo(".", &["test", "--workspace", "--no-fail-fast"]);
    // One test has Kafka's own tool judge our files, and says so where it cannot.
    if shell::has("java") && shell::has("mvn") {
        command.env("KAFKA_CLASSPATH", format!("{}/*", tools::kafka()?.display()));
    }
    count.run(&mut command)
}

fn guests(_: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let folders = [
        "plugins-sdk",
        "plugins",
        "examples/first-plugin",
        "examples/split-flights",
    ];
    in_each(&folders, |folder| {
        count.run(&mut shell::cargo(
            folder,
            &["test", "--workspace", "--no-fail-fast"],
        ))
    })
}

/// Does the same in several workspaces. All of them are tried: one report says everything that is wrong.
fn in_each(folders: &[&str], mut once: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for folder in folders {
        if let Err(error) = once(folder) {
            println!("in {folder}: {error:#}");
            failed.push(*folder);
        }
    }
    if !failed.is_empty() {
        bail!("failed in {}", failed.join(", "));
    }
    Ok(())
}

fn pure(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    tools::wasm_target()?;
    for (package, more) in [
        ("millstream-kafka", &["--no-default-features"][..]),
        ("millstream-core", &[]),
    ] {
        let args = [
            "check",
            "--target",
            "wasm32-unknown-unknown",
            "--package",
            package,
        ];
        shell::run(&mut shell::cargo(".", &[&args[..], more].concat()))?;
    }
    Ok(())
}

fn licences(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    licences::check()
}

fn fuzz(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    // Whatever toolchain runs us is pinned for our children; the fuzz targets need another one.
    let build = [
        "run",
        "nightly",
        "cargo",
        "build",
        "--release",
        "--target",
        FUZZ_HOST,
    ];
    let mut command = Command::new("rustup");
    command
        .args(build)
        .current_dir("fuzz")
        .env("RUSTFLAGS", FUZZ_FLAGS)
        .env("CARGO_TARGET_DIR", shell::target_dir().join("fuzz"));
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    shell::clear_cargo(&mut command);
    shell::run(&mut command)?;
    let folder = shell::target_dir().join("fuzz").join(FUZZ_HOST).join("release");
    let targets = fuzz_targets()?;
    let seconds = FUZZ_SECONDS / targets.len().max(1);
    for target in targets {
        let corpus = shell::target_dir().join("fuzz/corpus").join(&target);
        std::fs::create_dir_all(&corpus)?;
        let mut command = Command::new(folder.join(&target));
        command.arg(format!("-max_total_time={seconds}")).args([
            "-rss_limit_mb=2048",
            "-timeout=10",
            "-verbosity=0",
        ]);
        command
            .arg(format!("-artifact_prefix={}/", corpus.display()))
            .arg(&corpus);
        shell::run(&mut command)
            .with_context(|| format!("fuzz target {target}; the input is in {}", corpus.display()))?;
    }
    Ok(())
}

fn fuzz_targets() -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("fuzz/fuzz_targets")? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    Ok(names)
}

fn clients(args: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let broker = plugins::millstream()?;
    plugins::build()?;
    // In the profile that clippy has built librdkafka in.
    shell::run(&mut shell::cargo("xtask/librdkafka-load", &["build", "--quiet"]))?;
    pytest(args, count, &broker, "tests/clients")
}

fn differential(args: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let broker = plugins::millstream()?;
    pytest(args, count, &broker, "tests/differential")
}

fn crashes(args: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let broker = plugins::millstream()?;
    plugins::build()?;
    pytest(args, count, &broker, "tests/crashes")
}

fn pytest(args: &TestArgs, count: &mut Count, broker: &Path, folder: &str) -> anyhow::Result<()> {
    let mut command = Command::new(tools::python()?);
    command.args(["-m", "pytest", "-ra", "--durations=5", folder]);
    if let Some(filter) = &args.filter {
        command.args(["-k", filter]);
    }
    command
        .env("MILLSTREAM_BINARY", broker)
        .env("KAFKA_JARS", tools::kafka()?)
        .env(
            "RDKAFKA_CLIENT",
            shell::target_dir().join("debug/librdkafka-load"),
        )
        .env("PYTHONUNBUFFERED", "1");
    count.run(&mut command)
}

fn clusters(args: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let broker = plugins::millstream()?;
    plugins::build()?;
    pytest(args, count, &broker, "tests/cluster")
}

fn chaotic(_: &TestArgs, count: &mut Count) -> anyhow::Result<()> {
    let broker = plugins::millstream()?;
    plugins::build()?;
    count.run(&mut chaos::command(&broker, CHAOS_MINUTES, None)?)
}

fn simulated(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    sim::run(&sim::SimArgs::short())?;
    sim::run(&sim::SimArgs::gate(&MUTATIONS))
}

fn demo(_: &TestArgs, _: &mut Count) -> anyhow::Result<()> {
    demo::run(&demo::DemoArgs::of(1))?;
    demo::run(&demo::DemoArgs::of(3))?;
    demo::run(&demo::DemoArgs::transforms())
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        what: "code is formatted",
        needs: &[],
        run: format,
    },
    Step {
        name: "licences",
        what: "dependencies have licences we accept",
        needs: &[],
        run: licences,
    },
    Step {
        name: "lint",
        what: "clippy has nothing to say",
        needs: &["cmake"],
        run: lint,
    },
    Step {
        name: "pure",
        what: "protocol and decisions build where there is no I/O",
        needs: &[],
        run: pure,
    },
    Step {
        name: "unit",
        what: "unit, property and simulation tests",
        needs: &["cmake"],
        run: unit,
    },
    Step {
        name: "guests",
        what: "plugins and their SDK",
        needs: &[],
        run: guests,
    },
    Step {
        name: "fuzz",
        what: "decoders withstand random bytes, a short run",
        needs: &["rustup"],
        run: fuzz,
    },
    Step {
        name: "sim",
        what: "a simulated cluster under faults, and whether it finds bugs that are switched on",
        needs: &[],
        run: simulated,
    },
    Step {
        name: "demo",
        what: "the flights example, on one broker and on three, and with a transform",
        needs: &["rustup"],
        run: demo,
    },
    Step {
        name: "clients",
        what: "real clients against a real broker",
        needs: &["python3", "java", "mvn", "kcat"],
        run: clients,
    },
    Step {
        name: "compare",
        what: "answers compared with Apache Kafka's",
        needs: &["python3", "java", "mvn"],
        run: differential,
    },
    Step {
        name: "crashes",
        what: "kill -9, bad input, full disk",
        needs: &["python3", "java", "mvn"],
        run: crashes,
    },
    Step {
        name: "cluster",
        what: "several brokers: their life, failures and bad input",
        needs: &["python3", "javac", "java", "mvn"],
        run: clusters,
    },
    Step {
        name: "chaos",
        what: "three brokers under faults, judged by their clients, a short run",
        needs: &["python3"],
        run: chaotic,
    },
];

/// Minutes of faults in a test run; `cargo xtask chaos` takes longer ones.
const CHAOS_MINUTES: f64 = 2.0;
/// Bugs that the simulator must find in every test run; `cargo xtask sim --mutations` tries all.
const MUTATIONS: [&str; 8] = [
    "cut-at-high",
    "ack-unsynced",
    "elect-anybody",
    "early-offsets",
    "same-producer-epoch",
    "skip-verification",
    "keep-fenced-workers",
    "old-generation",
];

const WORKSPACES: [&str; 6] = [
    ".",
    "plugins-sdk",
    "plugins",
    "examples/first-plugin",
    "examples/split-flights",
    "xtask/librdkafka-load",
];

/// Seconds for all fuzz targets together.
const FUZZ_SECONDS: usize = 60;
const FUZZ_HOST: &str = "x86_64-unknown-linux-gnu";
const FUZZ_FLAGS: &str = "--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_of_cargo_and_pytest_are_counted() {
        let mut count = Count::default();
        count.add(
            "test result: ok. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.02s",
        );
        count.add("=================== 5 passed, 1 skipped, 2 errors in 3.21s ===================");
        count.add("5 passed by the way");
        assert_eq!((count.passed, count.failed, count.skipped), (8, 3, 3));
    }
}
