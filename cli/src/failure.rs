//! How a failure is told: in one line, with what to do about it where that is known.

use std::io;

use millstream_client::{Error, ErrorCode};

use crate::Global;

/// The line for standard error.
pub fn line(error: &anyhow::Error, global: &Global) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = without_repetition(cause.to_string());
        // Some errors repeat their source in their own words.
        if !line.contains(&cause) {
            if !line.is_empty() {
                line.push_str(": ");
            }
            line.push_str(&cause);
        }
    }
    if let Some(advice) = error
        .chain()
        .find_map(|cause| cause.downcast_ref())
        .and_then(|error| advice(error, global))
    {
        line.truncate(line.trim_end_matches('.').len());
        line.push_str("; ");
        line.push_str(&advice);
    }
    line.replace(['\n', '\r'], " ")
}

/// Leaves out what a broker's own words repeat: "creating topic 't': topic 't': plugin 'p': …".
fn without_repetition(text: String) -> String {
    match text
        .split_once(": ")
        .map(|(what, rest)| (what, rest.split_once(": ")))
    {
        Some((what, Some((again, reason)))) if !again.is_empty() && what.ends_with(again) => {
            format!("{what}: {reason}")
        }
        _ => text,
    }
}

/// The line for arguments that make no sense, of what clap has to say about them over several.
pub fn usage_line(rendered: &str) -> String {
    let mut line = String::new();
    let told = rendered.lines().map(str::trim).filter(|part| !part.is_empty());
    for part in told.take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more")) {
        let separator = match part.as_bytes() {
            _ if line.is_empty() => "",
            _ if line.ends_with(':') => " ",
            [b'[', ..] => " ",
            [b't', b'i', b'p', b':', ..] => "; ",
            _ => ", ",
        };
        line.push_str(separator);
        line.push_str(part);
    }
    line + "; --help tells more"
}

/// Whether the failure is only that our reader went away.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn advice(error: &Error, global: &Global) -> Option<String> {
    Some(match error {
        Error::Connect { address, .. } if global.bootstrap.contains(address.as_str()) => {
            "is the broker running? 'millstream broker' starts one, --bootstrap names another".to_owned()
        }
        Error::Connect { .. } => {
            "the broker told clients to use this address: see its --advertised".to_owned()
        }
        Error::Invalid(text) if text.starts_with("topic '") && text.ends_with("does not exist") => {
            "'millstream topic list' shows those that do".to_owned()
        }
        Error::Broker { code, .. } => match code {
            ErrorCode::TopicAlreadyExists => "'millstream topic alter' changes it".to_owned(),
            ErrorCode::NonEmptyGroup => {
                "stop its members first: 'millstream group describe' shows them".to_owned()
            }
            ErrorCode::GroupIdNotFound => "'millstream group list' shows those that exist".to_owned(),
            ErrorCode::UnknownTopicOrPartition => "'millstream topic list' shows those that exist".to_owned(),
            ErrorCode::MessageTooLarge => "the topic's max.message.bytes is the limit".to_owned(),
            ErrorCode::GroupAuthorizationFailed | ErrorCode::TransactionalIdAuthorizationFailed => {
                "what begins with '__transform.' is a transform's: 'millstream transform' looks after it"
                    .to_owned()
            }
            _ => return None,
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_repeats_is_said_once() {
        for (text, line) in [
            (
                "creating topic 't': topic 't': plugin 'p': no",
                "creating topic 't': plugin 'p': no",
            ),
            (
                "creating topic 't': topic 'u': no",
                "creating topic 't': topic 'u': no",
            ),
            ("no: yes", "no: yes"),
            (": : no", ": : no"),
        ] {
            assert_eq!(without_repetition(text.to_owned()), line);
        }
    }

    #[test]
    fn what_clap_says_becomes_a_line() {
        for (rendered, line) in [
            (
                "error: the following required arguments were not provided:\n  --input <INPUT>\n  <FILE>\n\n\
                 Usage: x --input <INPUT> <FILE>\n\nFor more information, try '--help'.\n",
                "error: the following required arguments were not provided: --input <INPUT>, <FILE>; --help tells more",
            ),
            (
                "error: unrecognized subcommand 'lst'\n\n  tip: a similar subcommand exists: 'list'\n\nUsage: x\n",
                "error: unrecognized subcommand 'lst'; tip: a similar subcommand exists: 'list'; --help tells more",
            ),
            (
                "error: invalid value 'yaml' for '--output <FORMAT>'\n  [possible values: table, json]\n",
                "error: invalid value 'yaml' for '--output <FORMAT>' [possible values: table, json]; --help tells more",
            ),
        ] {
            assert_eq!(usage_line(rendered), line);
        }
    }
}
