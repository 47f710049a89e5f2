//! A transform: writes values in capital letters, and drops records without one.

use millstream_plugin::{Output, Record, transform};

/// Called for each record: tells `out` what becomes of it; nothing drops it. It could return a `Result`, whose error is
/// one of this record.
#[transform]
fn capitals(record: &Record, out: &mut Output) {
    if let Some(value) = record.value() {
        out.with_value(&value.to_ascii_uppercase());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_capital_letters() {
        let mut out = Output::new();
        capitals(&Record::new().with_value("abc"), &mut out);
        assert_eq!(out.values(), [Some(&b"ABC"[..])]);
    }

    #[test]
    fn records_without_a_value_go() {
        let mut out = Output::new();
        capitals(&Record::new(), &mut out);
        assert_eq!(out.records().count(), 0);
    }
}
