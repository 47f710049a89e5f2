//! `cargo xtask sim`: runs seeds of the simulator, or looks which bugs it finds.
//!
//! For the mutation gate, and only for that, it is built with the bugs that can be switched on.

use clap::Args;

use crate::shell;

/// What `cargo xtask sim` takes.
#[derive(Debug, Args)]
pub struct SimArgs {
    /// How many seeds to run
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many minutes, whatever is left
    #[arg(long)]
    minutes: Option<u64>,
    /// Who lives in the clusters: `log` or `transactions`; both if it is not said
    #[arg(long)]
    population: Option<String>,
    /// Print all that happens
    #[arg(long)]
    trace: bool,
    /// Switch bugs on, one after the other, and look whether each is found
    #[arg(long)]
    mutations: bool,
    /// Only these bugs
    #[arg(long, requires = "mutations")]
    only: Vec<String>,
    /// Optimise: worth the time to build for many seeds
    #[arg(long)]
    release: bool,
}

impl SimArgs {
    /// As many seeds as fit into the time that a test run has for them.
    pub fn short() -> Self {
        Self {
            seeds: u64::MAX - 1,
            minutes: Some(SHORT_MINUTES),
            ..Self::gate(&[])
        }
    }

    /// Whether some bugs are found.
    pub fn gate(bugs: &[&str]) -> Self {
        Self {
            seeds: 20,
            seed: 1,
            minutes: None,
            population: None,
            trace: false,
            mutations: !bugs.is_empty(),
            only: bugs.iter().map(|bug| (*bug).to_owned()).collect(),
            release: false,
        }
    }
}

/// Minutes that a test run simulates for.
const SHORT_MINUTES: u64 = 2;

/// Builds and runs the simulator.
///
/// # Errors
/// It cannot be built, a rule was broken, or a bug was not found.
pub fn run(args: &SimArgs) -> anyhow::Result<()> {
    let mut command = shell::cargo(".", &["run", "--quiet", "--package", "millstream-sim"]);
    if args.mutations {
        command.args(["--features", "mutations"]);
    }
    if args.release {
        command.arg("--release");
    }
    command.args(["--", "--seed", &args.seed.to_string()]);
    command.args(["--seeds", &args.seeds.to_string()]);
    if let Some(minutes) = args.minutes {
        command.args(["--minutes", &minutes.to_string()]);
    }
    if let Some(population) = &args.population {
        command.args(["--population", population]);
    }
    for (is_on, flag) in [(args.trace, "--trace"), (args.mutations, "--mutations")] {
        if is_on {
            command.arg(flag);
        }
    }
    for name in &args.only {
        command.args(["--only", name]);
    }
    shell::run(&mut command)
}
