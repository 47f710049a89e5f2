//! What the filter makes of its configuration; the language itself is tested where it is read.

use filter_json::FilterJson;

fn filter(config: &str) -> FilterJson {
    FilterJson::configure(config.as_bytes()).unwrap_or_else(|error| panic!("{config}: {error}"))
}

fn refused(config: &str, expected: &str) {
    let error = FilterJson::configure(config.as_bytes()).expect_err(config);
    assert_eq!(error.to_string(), expected);
}

#[test]
fn records_are_kept_by_the_predicate() {
    let mut late = filter(r#"{"where":"/delay > 30"}"#);
    assert_eq!(late.keeps(Some(br#"{"delay":31}"#)), Ok(true));
    assert_eq!(late.keeps(Some(br#"{"delay":30}"#)), Ok(false));
    assert!(late.keeps(Some(b"{")).is_err());
}

#[test]
fn tombstones_go_unless_they_are_to_stay() {
    assert_eq!(filter(r#"{"where":"/a"}"#).keeps(None), Ok(false));
    assert_eq!(
        filter(r#"{"where":"/a","tombstones":"keep"}"#).keeps(None),
        Ok(true)
    );
}

#[test]
fn mistakes_are_told() {
    refused("", r#"the configuration lacks the key "where""#);
    refused(r#"{"where":1}"#, "where: expected a string, not 1");
    refused(
        r#"{"where":"/a = 1"}"#,
        r#"where: column 4, at `= 1`: "=" is written "==" here"#,
    );
}
