//! Licences and sources of all dependencies, held against `deny.toml`.
//!
//! The file is `cargo-deny`'s, and `cargo deny check` gives the same answer. It takes longer to build than all of our
//! own tests to run, and what we ask is a small part of what it can do, so we ask it here.

use std::collections::BTreeSet;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::shell;

/// Checks every workspace of the repository.
///
/// # Errors
/// A dependency has a licence that is not allowed, or comes from elsewhere than the registry; all of them are named.
pub fn check() -> anyhow::Result<()> {
    let rules: toml::Table = std::fs::read_to_string("deny.toml")?.parse()?;
    let allowed = rules
        .get("licenses")
        .and_then(|table| table.get("allow"))
        .and_then(|list| list.as_array());
    let allowed: BTreeSet<&str> = allowed
        .context("deny.toml has no licenses.allow")?
        .iter()
        .filter_map(|v| v.as_str())
        .collect();
    let mut refused = BTreeSet::new();
    let mut seen = 0;
    for workspace in WORKSPACES {
        let text = shell::read(&mut shell::cargo(
            workspace,
            &["metadata", "--locked", "--format-version", "1"],
        ))?;
        let metadata: Value = serde_json::from_str(&text)?;
        let packages = metadata["packages"]
            .as_array()
            .context("cargo metadata lists no packages")?;
        seen += packages.len();
        refused.extend(packages.iter().filter_map(|package| complaint(package, &allowed)));
    }
    println!("{seen} packages");
    if !refused.is_empty() {
        bail!("{}", refused.into_iter().collect::<Vec<_>>().join("; "));
    }
    Ok(())
}

fn complaint(package: &Value, allowed: &BTreeSet<&str>) -> Option<String> {
    let name = format!("{} {}", package["name"].as_str()?, package["version"].as_str()?);
    let source = package["source"].as_str();
    if source.is_some_and(|source| source != CRATES_IO) {
        return Some(format!("{name} comes from {}", source.unwrap_or_default()));
    }
    // A plugin of the examples may have none: it has no dependency to take one from, and is ours.
    let licence = package["license"].as_str();
    match licence.map(|licence| accepts(licence, allowed)) {
        Some(Ok(true)) => None,
        None if source.is_none() => None,
        Some(Err(error)) => Some(format!("{name}: {error:#}")),
        _ => Some(format!("{name} is under {}", licence.unwrap_or("no licence"))),
    }
}

/// Whether an SPDX expression can be satisfied with the allowed licences. `AND` binds closer than `OR`; the slash is
/// an old way to write `OR`.
fn accepts(expression: &str, allowed: &BTreeSet<&str>) -> anyhow::Result<bool> {
    let spaced = expression
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace('/', " OR ")
        .replace(" WITH ", "+WITH+");
    let words: Vec<String> = spaced
        .split_whitespace()
        .map(|word| word.replace("+WITH+", " WITH "))
        .collect();
    let mut words = words.iter().map(String::as_str).peekable();
    let accepted = any_of(&mut words, allowed)?;
    ensure!(words.next().is_none(), "unreadable licence '{expression}'");
    Ok(accepted)
}

type Words<'a, I> = std::iter::Peekable<I>;

fn any_of<'a>(
    words: &mut Words<'a, impl Iterator<Item = &'a str>>,
    allowed: &BTreeSet<&str>,
) -> anyhow::Result<bool> {
    let mut accepted = all_of(words, allowed)?;
    while words.next_if_eq(&"OR").is_some() {
        accepted |= all_of(words, allowed)?;
    }
    Ok(accepted)
}

fn all_of<'a>(
    words: &mut Words<'a, impl Iterator<Item = &'a str>>,
    allowed: &BTreeSet<&str>,
) -> anyhow::Result<bool> {
    let mut accepted = one(words, allowed)?;
    while words.next_if_eq(&"AND").is_some() {
        accepted &= one(words, allowed)?;
    }
    Ok(accepted)
}

fn one<'a>(
    words: &mut Words<'a, impl Iterator<Item = &'a str>>,
    allowed: &BTreeSet<&str>,
) -> anyhow::Result<bool> {
    match words.next().context("a licence expression ends too early")? {
        "(" => {
            // Recursion needs a type of its own: the inside is read as one list of words.
            let mut depth = 1;
            let mut inside = Vec::new();
            for word in words.by_ref() {
                depth += i32::from(word == "(") - i32::from(word == ")");
                if depth == 0 {
                    break;
                }
                inside.push(word);
            }
            accepts(&inside.join(" "), allowed)
        }
        name => Ok(allowed.contains(name)),
    }
}

/// Folders with a lock file of their own, that has others' crates in it.
const WORKSPACES: [&str; 4] = [".", "plugins", "fuzz", "xtask/librdkafka-load"];
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_holds_if_one_side_of_each_choice_is_allowed() {
        let allowed = BTreeSet::from(["MIT", "Apache-2.0 WITH LLVM-exception"]);
        for (expression, expected) in [
            ("MIT", true),
            ("GPL-3.0-only", false),
            ("GPL-3.0-only OR MIT", true),
            ("MIT AND GPL-3.0-only", false),
            ("(GPL-3.0-only OR MIT) AND MIT", true),
            ("Apache-2.0 WITH LLVM-exception OR Apache-2.0", true),
            ("Apache-2.0/MIT", true),
        ] {
            assert_eq!(accepts(expression, &allowed).unwrap(), expected, "{expression}");
        }
        assert!(accepts("(MIT", &allowed).is_ok());
        assert!(accepts("MIT OR", &allowed).is_err());
    }
}
