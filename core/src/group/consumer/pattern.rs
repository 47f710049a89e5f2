//! Regular expressions for names of topics. Kafka takes what RE2/J takes; this is close to it: no look-around, no
//! back references, and the time of a match grows with the length of the name only.

use regex_automata::meta::{Config, Regex};
use regex_automata::util::syntax;
use regex_syntax::hir::{Hir, Look};

use crate::group::GroupError;

/// A regular expression that means the names that it matches as a whole.
pub struct Pattern {
    regex: Regex,
}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pattern")
    }
}

impl Pattern {
    /// Compiles it.
    ///
    /// # Errors
    /// It is too long, no regular expression, or one that would take too much memory.
    pub fn new(text: &str) -> Result<Self, GroupError> {
        if text.len() > PATTERN_BYTES_MAX {
            return Err(GroupError::InvalidRegularExpression);
        }
        let limits = Config::new()
            .nfa_size_limit(Some(COMPILED_BYTES_MAX))
            .hybrid_cache_capacity(COMPILED_BYTES_MAX);
        // Names of topics are ASCII.
        let syntax = syntax::Config::new()
            .unicode(false)
            .utf8(false)
            .nest_limit(NESTING_MAX);
        let parsed = syntax::parse_with(text, &syntax).map_err(|_| GroupError::InvalidRegularExpression)?;
        let whole = Hir::concat(vec![Hir::look(Look::Start), parsed, Hir::look(Look::End)]);
        let regex = Regex::builder()
            .configure(limits)
            .build_from_hir(&whole)
            .map_err(|_| GroupError::InvalidRegularExpression)?;
        Ok(Self { regex })
    }

    /// Whether it matches the whole name.
    pub fn means(&self, name: &str) -> bool {
        self.regex.is_match(name)
    }
}

/// Longest regular expression, in bytes.
const PATTERN_BYTES_MAX: usize = 4096;
/// Most memory of a compiled regular expression, in bytes.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// Deepest nesting of groups in a regular expression.
const NESTING_MAX: u32 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_means_whole_names() {
        let cases = [
            ("a.*", "abc", true),
            ("a.*", "xabc", false),
            ("b", "abc", false),
            ("foo|bar", "foobar", false),
            ("foo|foobar", "foobar", true),
            (r"t-\d+", "t-42", true),
            (r"[\w.]+", "a.b_c", true),
            ("(?i)ABC", "abc", true),
            ("a$|b", "b", true),
            ("(?x) a b # c", "ab", true),
            ("", "", true),
        ];
        for (pattern, name, means) in cases {
            assert_eq!(
                Pattern::new(pattern).unwrap().means(name),
                means,
                "{pattern} {name}"
            );
        }
    }

    #[test]
    fn what_is_no_pattern_or_too_large_is_refused() {
        let long = "a".repeat(PATTERN_BYTES_MAX + 1);
        let deep = format!("{}a{}", "(".repeat(100), ")".repeat(100));
        for bad in [
            "(",
            "a)(b",
            "*",
            r"(a)\1",
            "(?=a)",
            "((a{1000}){1000}){1000}",
            &long,
            &deep,
        ] {
            assert_eq!(
                Pattern::new(bad).err(),
                Some(GroupError::InvalidRegularExpression),
                "{bad}"
            );
        }
    }
}
