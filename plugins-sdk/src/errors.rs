//! Records that a plugin reports as errors, with their reasons.

/// Rows that are errors, and why, ascending by row.
#[derive(Debug, Default)]
pub struct Errors {
    listed: Vec<(u32, String)>,
}

impl Errors {
    /// No errors.
    #[must_use]
    pub const fn new() -> Self {
        Errors { listed: Vec::new() }
    }

    pub(crate) fn clear(&mut self) {
        self.listed.clear();
    }

    /// Adds a row. It is out of line because it is rare.
    #[cold]
    pub(crate) fn push(&mut self, row: usize, mut reason: String) {
        reason.truncate(cut(&reason).len());
        self.listed.push((index(row), reason));
    }

    /// All of them.
    #[must_use]
    pub fn listed(&self) -> &[(u32, String)] {
        &self.listed
    }
}

/// As much of a reason as the host keeps.
pub(crate) fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_BYTES_MAX)]
}

/// The index of a row as the contract has it.
pub(crate) fn index(row: usize) -> u32 {
    u32::try_from(row).expect("all rows lie within 4 GiB")
}

/// Bytes of a reason that the host keeps.
const REASON_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_reasons_are_cut_at_the_end_of_a_character() {
        let mut errors = Errors::new();
        errors.push(3, format!("x{}", "ä".repeat(600)));
        errors.push(4, "short".to_owned());
        let lengths: Vec<_> = errors
            .listed()
            .iter()
            .map(|(row, reason)| (*row, reason.len()))
            .collect();
        assert_eq!(lengths, [(3, 1023), (4, 5)]);
    }
}
