//! Which record a sink refuses: its plugins say only that they refuse a batch.
//!
//! What was refused is computed again, and half as much of it is written at a time, until it came of one record. That one
//! has failed then, as if the transform's own plugin had failed on it. Nothing of what was refused is committed meanwhile;
//! all that is taken is.

/// What is known of a refusal, from one life of a partition to the next.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubt {
    /// How many records what is written at a time may come of.
    records_max: Option<usize>,
    /// The record that is to blame, by its offset, and why.
    blamed: Option<(i64, String)>,
}

/// What a bundle came of; a record that is to blame counts, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Origin {
    /// How many records.
    pub records: usize,
    /// The offset of the last of them.
    pub last: i64,
}

impl Doubt {
    /// Of how many more records output may come, after so many, before it is written.
    pub fn room(&self, taken: usize) -> usize {
        self.records_max
            .map_or(usize::MAX, |max| max.saturating_sub(taken))
    }

    /// Why a record is to blame, if it is.
    pub fn blames(&self, offset: i64) -> Option<&str> {
        let blamed = self.blamed.as_ref().filter(|(blamed, _)| *blamed == offset);
        blamed.map(|(_, reason)| reason.as_str())
    }

    /// A sink refused what came of some records.
    ///
    /// # Errors
    /// It came of the one that is to blame already: its dead letter is refused, too. The record, and why.
    pub fn refused(&mut self, of: Origin, reason: &str) -> Result<(), (i64, String)> {
        self.records_max = Some((of.records / 2).max(1));
        if of.records > 1 {
            return Ok(());
        }
        if let Some(before) = self.blames(of.last) {
            return Err((
                of.last,
                format!("{before}; and it can be no dead letter: {reason}"),
            ));
        }
        self.blamed = Some((of.last, format!("a sink refuses what came of it: {reason}")));
        Ok(())
    }

    /// All that came of records before `next` is committed: more is dared, step by step.
    pub fn committed(&mut self, next: i64) {
        self.blamed.take_if(|(blamed, _)| *blamed < next);
        let more = self.records_max.map(|max| max * 2);
        self.records_max = more.filter(|max| *max < RECORDS_MAX);
    }
}

/// Where so many records were taken at a time, nothing is in doubt any more.
const RECORDS_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes records one to `count` as a partition does, with a sink that refuses some; gives those that were blamed, and
    /// how often something was refused.
    fn write(count: i64, refused: &[i64]) -> (Vec<i64>, usize) {
        let (mut doubt, mut next, mut blamed, mut refusals) = (Doubt::default(), 1, Vec::new(), 0);
        while next <= count {
            let mut of = Origin::default();
            let mut is_refused = false;
            let begun = next;
            while next <= count && doubt.room(of.records) > 0 {
                (of.records, of.last) = (of.records + 1, next);
                match doubt.blames(next) {
                    Some(_) => blamed.push(next),
                    None => is_refused |= refused.contains(&next),
                }
                next += 1;
            }
            if is_refused {
                doubt.refused(of, "no").unwrap();
                (next, refusals) = (begun, refusals + 1);
                blamed.retain(|offset| *offset < begun);
            } else {
                doubt.committed(next);
            }
        }
        (blamed, refusals)
    }

    #[test]
    fn the_records_to_blame_are_found_by_halving() {
        let (blamed, refusals) = write(1000, &[617]);
        assert_eq!(blamed, [617]);
        assert!(refusals <= 20, "{refusals}");
        let many = [1, 2, 3, 500, 999, 1000];
        assert_eq!(write(1000, &many).0, many);
        assert_eq!(write(1000, &[]), (vec![], 0));
    }

    #[test]
    fn a_dead_letter_that_is_refused_cannot_be_helped() {
        let mut doubt = Doubt::default();
        let of = Origin { records: 1, last: 7 };
        doubt.refused(of, "too blue").unwrap();
        assert_eq!(doubt.blames(7), Some("a sink refuses what came of it: too blue"));
        let (offset, reason) = doubt.refused(of, "too red").unwrap_err();
        assert_eq!(offset, 7);
        assert!(
            reason.ends_with("too blue; and it can be no dead letter: too red"),
            "{reason}"
        );
    }
}
