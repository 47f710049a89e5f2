//! A metric and its samples, as the format has them.

use std::fmt::{self, Write};

/// Samples of one metric.
pub(super) struct Family {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: String,
}

impl Family {
    /// What goes up and down.
    pub fn gauge(name: &'static str, help: &'static str) -> Self {
        let (kind, samples) = ("gauge", String::new());
        Self {
            name,
            kind,
            help,
            samples,
        }
    }

    /// What only grows.
    pub fn counter(name: &'static str, help: &'static str) -> Self {
        Self {
            kind: "counter",
            ..Self::gauge(name, help)
        }
    }

    /// Adds a sample; `labels` is as the format has it, without braces.
    pub fn add(&mut self, labels: &str, value: impl fmt::Display) -> fmt::Result {
        let suffix = if self.kind == "counter" { "_total" } else { "" };
        match labels {
            "" => writeln!(self.samples, "millstream_{}{suffix} {value}", self.name),
            _ => writeln!(
                self.samples,
                "millstream_{}{suffix}{{{labels}}} {value}",
                self.name
            ),
        }
    }

    /// Writes its name, what it means, and its samples.
    pub fn write(&self, out: &mut String) -> fmt::Result {
        let Self {
            name,
            kind,
            help,
            samples,
        } = self;
        write!(
            out,
            "# HELP millstream_{name} {help}.\n# TYPE millstream_{name} {kind}\n{samples}"
        )
    }
}
