//! How a failure is told: in one line, with what to do about it where that is known.

use std::io;

use millstream_client::{Error, ErrorCode};

use crate::Global;

/// The line for standard error.
pub fn line(error: &anyhow::Error, global: &Global) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
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
            _ => return None,
        },
        _ => return None,
    })
}
