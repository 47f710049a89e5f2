//! Plugins in the order they run, each with its own configuration, as the command line has them.
//!
//! `--plugin a --config A --plugin b --on-error skip` reads as two plugins: what comes after a plugin and before the
//! next one belongs to it. That order is known only by the places of the arguments.

use clap::error::{Error, ErrorKind};
use clap::{ArgMatches, parser::ValueSource};
use serde_json::{Map, Value, json};

/// Plugins in the order they run.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Chain(Vec<Link>);

/// One plugin of a chain.
#[derive(Debug, Clone, PartialEq)]
struct Link {
    plugin: String,
    config: Option<String>,
    on_error: Option<String>,
    limits: Map<String, Value>,
}

/// The names that the arguments of a chain have in one command.
#[derive(Debug, Clone, Copy)]
pub struct Names {
    /// Names a plugin.
    pub plugin: &'static str,
    /// Its configuration.
    pub config: &'static str,
    /// What happens to records it fails on.
    pub on_error: &'static str,
    /// One of its limits.
    pub limit: &'static str,
}

impl Chain {
    /// Whether no plugin was named.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The topic config that attaches the chain: a JSON list. A configuration that is JSON is put in as JSON, any
    /// other as text.
    pub fn to_json(&self) -> String {
        let links = self.0.iter().map(|link| {
            let mut entry = json!({ "plugin": link.plugin });
            if let Some(config) = &link.config {
                entry["config"] =
                    serde_json::from_str(config).unwrap_or_else(|_| Value::String(config.clone()));
            }
            if let Some(on_error) = &link.on_error {
                entry["on-error"] = json!(on_error);
            }
            if !link.limits.is_empty() {
                entry["limits"] = Value::Object(link.limits.clone());
            }
            entry
        });
        Value::Array(links.collect()).to_string()
    }

    /// Puts the arguments in order.
    pub fn from_matches(matches: &ArgMatches, names: Names) -> Result<Self, Error> {
        let mut arguments: Vec<(usize, &str, String)> = Vec::new();
        for name in [names.plugin, names.config, names.on_error, names.limit] {
            if matches.value_source(name) != Some(ValueSource::CommandLine) {
                continue;
            }
            let places = matches.indices_of(name).into_iter().flatten();
            let values = matches.get_many::<String>(name).into_iter().flatten();
            arguments.extend(
                places
                    .zip(values)
                    .map(|(place, value)| (place, name, value.clone())),
            );
        }
        arguments.sort_unstable();
        let mut links: Vec<Link> = Vec::new();
        for (_, name, value) in arguments {
            if name == names.plugin {
                links.push(Link {
                    plugin: value,
                    config: None,
                    on_error: None,
                    limits: Map::new(),
                });
                continue;
            }
            let Some(link) = links.last_mut() else {
                return Err(usage(format!(
                    "--{name} belongs to the --{} before it, and there is none",
                    names.plugin
                )));
            };
            if name == names.limit {
                let (limit, amount) = read_limit(&value).map_err(usage)?;
                link.limits.insert(limit, json!(amount));
                continue;
            }
            let place = if name == names.config {
                &mut link.config
            } else {
                &mut link.on_error
            };
            if place.replace(value).is_some() {
                return Err(usage(format!(
                    "--{name} was given twice for --{} {}",
                    names.plugin, link.plugin
                )));
            }
        }
        Ok(Self(links))
    }
}

/// Reads `memory-bytes=16777216`: which limits there are, the broker knows.
pub fn read_limit(text: &str) -> Result<(String, u64), String> {
    let (name, amount) = crate::topic::parse_pair(text)?;
    match amount.parse::<u64>() {
        Ok(amount) => Ok((name, amount)),
        Err(_) => Err(format!("limit {name} is a whole number, not '{amount}'")),
    }
}

fn usage(message: String) -> Error {
    Error::raw(ErrorKind::ArgumentConflict, format!("{message}\n"))
}

/// Makes a type of clap arguments out of a [`Chain`] under names of the command's choice.
macro_rules! chain_args {
    ($type:ident {
        plugin: $plugin:literal = $plugin_help:literal,
        config: $config:literal = $config_help:literal,
        on_error: $on_error:literal = $on_error_help:literal,
        limit: $limit:literal = $limit_help:literal,
    }) => {
        impl clap::Args for $type {
            fn augment_args(command: clap::Command) -> clap::Command {
                let argument = |name: &'static str, value: &'static str, help: &'static str| {
                    clap::Arg::new(name)
                        .long(name)
                        .value_name(value)
                        .help(help)
                        .action(clap::ArgAction::Append)
                };
                command
                    .arg(argument($plugin, "NAME[@VERSION]", $plugin_help))
                    .arg(argument($config, "JSON", $config_help))
                    .arg(argument($on_error, "POLICY", $on_error_help))
                    .arg(argument($limit, "NAME=NUMBER", $limit_help))
            }

            fn augment_args_for_update(command: clap::Command) -> clap::Command {
                Self::augment_args(command)
            }
        }

        impl clap::FromArgMatches for $type {
            fn from_arg_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
                let names = $crate::plugin::chain::Names {
                    plugin: $plugin,
                    config: $config,
                    on_error: $on_error,
                    limit: $limit,
                };
                Ok(Self($crate::plugin::chain::Chain::from_matches(
                    matches, names,
                )?))
            }

            fn update_from_arg_matches(&mut self, matches: &clap::ArgMatches) -> Result<(), clap::Error> {
                *self = <Self as clap::FromArgMatches>::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

pub(crate) use chain_args;

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug)]
    struct Plugins(Chain);

    chain_args!(Plugins {
        plugin: "plugin" = "p",
        config: "config" = "c",
        on_error: "on-error" = "e",
        limit: "limit" = "l",
    });

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        plugins: Plugins,
    }

    fn parse(arguments: &str) -> Result<String, String> {
        Command::try_parse_from(format!("x {arguments}").split(' '))
            .map(|command| command.plugins.0.to_json())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn what_follows_a_plugin_belongs_to_it() {
        assert_eq!(
            parse(r#"--plugin a@2 --config {"x":1} --plugin b --plugin c --on-error skip --config text"#)
                .unwrap(),
            r#"[{"config":{"x":1},"plugin":"a@2"},{"plugin":"b"},{"config":"text","on-error":"skip","plugin":"c"}]"#
        );
        assert_eq!(
            parse("--plugin a --limit fuel=5 --plugin b").unwrap(),
            r#"[{"limits":{"fuel":5},"plugin":"a"},{"plugin":"b"}]"#
        );
    }

    #[test]
    fn a_configuration_without_its_plugin_is_refused() {
        assert!(
            parse("--config {} --plugin a")
                .unwrap_err()
                .contains("there is none")
        );
        assert!(
            parse("--plugin a --config 1 --config 2")
                .unwrap_err()
                .contains("given twice")
        );
        assert!(
            parse("--plugin a --limit memory-bytes=much")
                .unwrap_err()
                .contains("whole number")
        );
    }
}
