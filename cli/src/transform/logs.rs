//! `millstream transform logs`.

use std::collections::HashMap;
use std::time::Duration;

use clap::Args;
use serde_json::Value;

use super::Transforms;
use crate::Global;
use crate::output::{Format, print_json, print_text};
use crate::plugin::log_line;

/// What `transform logs` takes.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Name of the transform
    name: String,
    /// Goes on with what comes next, until it is interrupted; JSON is one object a line then
    #[arg(long, short = 'F')]
    follow: bool,
}

/// Shows lines.
pub fn run(global: &Global, http: &Transforms, args: &LogsArgs) -> anyhow::Result<()> {
    let mut seen = Seen::default();
    loop {
        let told = http.logs(&args.name)?;
        match global.output {
            Format::Json if !args.follow => print_json(&told)?,
            format => {
                for line in seen.fresh(told.as_array().map_or(&[][..], Vec::as_slice)) {
                    match format {
                        Format::Json => print_text(&line.to_string())?,
                        Format::Table => print_text(&log_line(line))?,
                    }
                }
            }
        }
        if !args.follow {
            return Ok(());
        }
        std::thread::sleep(FOLLOW_INTERVAL);
    }
}

/// The lines of the last answer. Brokers keep the last lines only, and those of several come mixed by time.
#[derive(Debug, Default)]
struct Seen(HashMap<String, usize>);

impl Seen {
    /// Lines of an answer that were not in the one before it.
    fn fresh<'a>(&mut self, told: &'a [Value]) -> Vec<&'a Value> {
        let mut now: HashMap<String, usize> = HashMap::new();
        let fresh = told.iter().filter(|line| {
            let key = line.to_string();
            let times = now.entry(key.clone()).or_default();
            *times += 1;
            *times > self.0.get(&key).copied().unwrap_or(0)
        });
        let fresh = fresh.collect();
        self.0 = now;
        fresh
    }
}

/// How often brokers are asked for more.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_line_is_shown_once() {
        let mut seen = Seen::default();
        let mut show = |lines: &[i32]| {
            let lines: Vec<Value> = lines.iter().map(|line| json!(line)).collect();
            seen.fresh(&lines).into_iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(show(&[1, 1, 3]), [json!(1), json!(1), json!(3)]);
        assert_eq!(show(&[1, 1, 3]), [] as [Value; 0]);
        // One that another broker logged a little earlier, one that looks like one before, and what has left at the front.
        assert_eq!(show(&[1, 2, 3, 3]), [json!(2), json!(3)]);
        assert_eq!(show(&[3, 4]), [json!(4)]);
    }
}
