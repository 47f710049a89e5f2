//! Development tasks: `cargo xtask demo`, `test`, `bench`, `sim`, `chaos` and `plugins`.
//!
//! Each task is a module. They run programs (`cargo`, the broker, pytest) and know nothing of the broker's insides;
//! what they download goes into `.tools/`, what they build into `target/` or wherever `CARGO_TARGET_DIR` points.

mod bench;
mod chaos;
mod demo;
mod licences;
#[cfg(test)]
mod map;
mod plugins;
mod shell;
mod sim;
mod test;
mod tools;

use std::process::ExitCode;

use clap::Parser;

/// Tasks for people who work on this repository.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Builds everything and runs the flights example from end to end
    Demo(demo::DemoArgs),
    /// Runs every test, installing what it needs into `.tools/`
    Test(test::TestArgs),
    /// Measures the broker beside Apache Kafka
    Bench(bench::BenchArgs),
    /// Simulates a whole cluster under faults, and says which rule is broken first
    Sim(sim::SimArgs),
    /// Puts three real brokers under faults, and judges what their clients saw
    Chaos(chaos::ChaosArgs),
    /// Builds the shipped plugins into `target/plugins/`
    Plugins,
}

fn main() -> ExitCode {
    let task = Task::parse();
    match run(task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    std::env::set_current_dir(shell::root())?;
    match task {
        Task::Demo(args) => demo::run(&args),
        Task::Test(args) => test::run(&args),
        Task::Bench(args) => bench::run(args),
        Task::Sim(args) => sim::run(&args),
        Task::Chaos(args) => chaos::run(&args),
        Task::Plugins => plugins::build().map(|files| {
            for file in files {
                println!("{}", file.display());
            }
        }),
    }
}
