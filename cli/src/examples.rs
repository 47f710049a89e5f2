//! The examples that `--help` shows, held against the arguments that there are.

use clap::{Command, CommandFactory, Parser};

use crate::Cli;

fn all(command: &Command, found: &mut Vec<Command>) {
    found.push(command.clone());
    let inner = command.get_subcommands();
    inner
        .filter(|inner| inner.get_name() != "help")
        .for_each(|inner| all(inner, found));
}

fn commands() -> Vec<(String, String)> {
    Cli::command().debug_assert();
    let mut commands = Vec::new();
    all(&Cli::command(), &mut commands);
    assert!(commands.len() > 25);
    let help = |command: &Command| command.get_after_help().map(ToString::to_string);
    commands
        .iter()
        .map(|command| (command.get_name().to_owned(), help(command).unwrap_or_default()))
        .collect()
}

/// What a shell makes of a line, as far as the examples go: words, parts between single quotes, pipes, redirections,
/// comments, variables ahead of a command.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), None::<String>, false);
    for character in line.chars() {
        match character {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(character),
        }
    }
    assert!(!quoted, "a quote is open in {line}");
    words.extend(word);
    words
}

/// The calls of `millstream` in a help text.
fn calls(help: &str) -> Vec<Vec<String>> {
    let joined = help.replace("\\\n", " ");
    let lines = joined.lines().filter(|line| line.starts_with("  "));
    let call = |line: &str| {
        let words = words(line);
        let begin = words.iter().position(|word| word == "millstream")?;
        let end = |word: &String| matches!(word.as_str(), "|" | "<" | ">" | "#");
        Some(
            words[begin..]
                .iter()
                .take_while(|word| !end(word))
                .cloned()
                .collect(),
        )
    };
    lines.filter_map(call).collect()
}

#[test]
fn every_command_has_an_example_that_its_arguments_allow() {
    for (name, help) in commands() {
        let calls = calls(&help);
        assert!(
            help.starts_with("Example") && !calls.is_empty(),
            "{name} has no example"
        );
        for call in calls {
            let parsed = Cli::try_parse_from(&call);
            assert!(
                parsed.is_ok(),
                "an example of {name}: {call:?}: {}",
                parsed.unwrap_err()
            );
        }
    }
}

#[test]
fn examples_fit_a_terminal() {
    for (name, help) in commands() {
        // clap breaks lines at the terminal's width, and a broken example is none.
        let wide: Vec<&str> = help.lines().filter(|line| line.len() > 80).collect();
        assert!(wide.is_empty(), "too wide in {name}: {wide:?}");
    }
}
