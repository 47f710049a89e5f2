//! Runs seeds of the simulator, or looks which bugs it finds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use millstream_core::mutation::Mutation;
use millstream_sim::{Population, Report, run, watch_panics};

/// Simulates a whole cluster under faults, and says which rule is broken first.
#[derive(Debug, Parser)]
#[command(name = "millstream-sim")]
struct Args {
    /// How many seeds to run
    #[arg(long, default_value_t = 20)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Stop after so many minutes, whatever is left
    #[arg(long)]
    minutes: Option<u64>,
    /// Who lives in the cluster: `log` or `transactions`; both, one after the other, if it is not said
    #[arg(long, value_parser = population)]
    population: Option<Population>,
    /// Print all that happens
    #[arg(long)]
    trace: bool,
    /// Switch bugs on, one after the other, and look whether each is found
    #[arg(long)]
    mutations: bool,
    /// Only this bug
    #[arg(long, requires = "mutations")]
    only: Vec<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    watch_panics();
    let good = match args.mutations {
        true => mutations(&args),
        false => seeds(&args),
    };
    match good {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Every so many seeds one is run twice, to see that it tells the same story.
const TWICE_EVERY: u64 = 4;

fn seeds(args: &Args) -> bool {
    let begin = Instant::now();
    let limit = args.minutes.map(|minutes| Duration::from_secs(minutes * 60));
    let (mut ran, mut acked, mut commits, mut simulated_ms) = (0, 0, 0, 0);
    let seeds = args.seed..args.seed.saturating_add(args.seeds);
    let wanted = |population: &Population| args.population.is_none_or(|wanted| wanted == *population);
    let each = |seed| Population::ALL.into_iter().filter(wanted).map(move |p| (seed, p));
    for (seed, population) in seeds.flat_map(each) {
        if limit.is_some_and(|limit| begin.elapsed() > limit) {
            break;
        }
        let report = run(seed, population, None, args.trace);
        if report.broken.is_some() {
            show(&report);
            return false;
        }
        if ran % TWICE_EVERY == 0 && !args.trace {
            let again = run(seed, population, None, false);
            if again.fingerprint != report.fingerprint {
                let (first, second) = (report.fingerprint, again.fingerprint);
                println!("seed {seed} tells two stories: {first:?} and {second:?}");
                return false;
            }
        }
        ran += 1;
        acked += report.acked;
        commits += report.commits;
        simulated_ms += report.simulated_ms;
    }
    let (minutes, seconds) = (simulated_ms / 60_000, begin.elapsed().as_secs());
    println!(
        "{ran} clusters, {minutes} simulated minutes in {seconds} s, {acked} records acknowledged, {commits} transactions \
         committed: no rule broken"
    );
    true
}

fn population(name: &str) -> Result<Population, String> {
    Population::from_name(name).ok_or_else(|| "there are log and transactions".to_owned())
}

fn show(report: &Report) {
    let population = report.population.name();
    println!("seed {} of {population}", report.seed);
    for fault in &report.faults {
        println!("  {fault}");
    }
    println!("after {} simulated ms:", report.simulated_ms);
    println!("  {}", report.broken.as_deref().unwrap_or("no rule is broken"));
    println!(
        "again, with all that happens: cargo xtask sim --seed {} --seeds 1 --population {population} --trace",
        report.seed
    );
}

/// Each bug has to be found within so many seeds.
const SEEDS_MAX: u64 = 400;

fn mutations(args: &Args) -> bool {
    let mut all_found = true;
    let named =
        |mutation: &&Mutation| args.only.is_empty() || args.only.iter().any(|name| name == mutation.name());
    let wanted: Vec<_> = Mutation::ALL.iter().filter(named).collect();
    if wanted.is_empty() {
        println!("there is no such bug; there are: {}", Mutation::ALL.map_names());
        return false;
    }
    for mutation in wanted {
        let begin = Instant::now();
        let seeds = args.seed..args.seed + SEEDS_MAX;
        let found = seeds
            .map(|seed| {
                run(
                    seed,
                    Population::that_finds(*mutation),
                    Some(*mutation),
                    args.trace,
                )
            })
            .find(|report| report.broken.is_some());
        let (name, seconds) = (mutation.name(), begin.elapsed().as_secs());
        match found {
            Some(report) => {
                let seeds = report.seed - args.seed + 1;
                println!(
                    "{name}: found by seed {} ({seeds} tried, {seconds} s): {}",
                    report.seed,
                    report.broken.unwrap_or_default()
                );
            }
            None => {
                println!("{name}: NOT found in {SEEDS_MAX} seeds ({seconds} s)");
                all_found = false;
            }
        }
    }
    all_found
}

trait Names {
    fn map_names(&self) -> String;
}

impl Names for [Mutation] {
    fn map_names(&self) -> String {
        let names: Vec<_> = self.iter().map(|mutation| mutation.name()).collect();
        names.join(", ")
    }
}
