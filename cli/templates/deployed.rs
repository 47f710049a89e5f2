//! A transform to deploy: sends each word of a value to the sink `words`, and records without a word to the sink `rest`.
//!
//! The names are those of this plugin; which topics they are is said when it is deployed (`--to words=TOPIC,rest=TOPIC`).

use millstream_plugin::{Output, Record, transform};

/// Called for each record: tells `out` where it goes and what becomes of it; `out.to(..)` may be called any number of times, and
/// nothing drops the record. What is not changed stays: here the key, and so the order of the words.
#[transform]
fn words(record: &Record, out: &mut Output) -> Result<(), std::str::Utf8Error> {
    // An error is one of this record; what happens then is said when the transform is deployed (`--on-error`).
    let text = std::str::from_utf8(record.value().unwrap_or_default())?;
    for (number, word) in text.split_whitespace().enumerate() {
        out.to("words")
            .with_value(word)
            .with_header("number", &number.to_string());
    }
    if text.trim().is_empty() {
        out.to("rest");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_plugin::testing::Deployed;

    #[test]
    fn each_word_is_a_record() {
        let records = [
            Record::new().with_key("k").with_value("to be"),
            Record::new().with_value(" "),
            Record::new().with_value(b"\xff"),
        ];
        let made = Deployed::to(["words", "rest"]).run(words, &records);
        assert_eq!(made.values("words"), ["to", "be"]);
        assert_eq!(made.values("rest"), [" "]);
        let second = made.at("words")[1];
        assert_eq!(second.key_text(), Some("k"));
        assert_eq!(second.header_text("number"), Some("1"));
        assert_eq!(made.errors.len(), 1);
    }
}
