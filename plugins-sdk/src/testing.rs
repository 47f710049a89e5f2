//! Runs transforms in native tests as if they were deployed, and tells what came out at which sink.
//!
//! ```
//! use millstream_plugin::testing::Deployed;
//! use millstream_plugin::{Output, Record};
//!
//! fn split(record: &Record, out: &mut Output) {
//!     let large = record.value().is_some_and(|value| value.len() > 3);
//!     out.to(if large { "large" } else { "small" });
//! }
//!
//! let records = ["ab", "abcd", "cd"].map(|value| Record::new().with_value(value));
//! let made = Deployed::to(["small", "large"]).run(split, &records);
//! assert_eq!(made.values("small"), ["ab", "cd"]);
//! assert_eq!(made.values("large"), ["abcd"]);
//! ```

use std::cell::RefCell;

use crate::outcome::Outcome;
use crate::output::{Made, Output, Part};
use crate::record::Record;
use crate::transform::Transform;

/// The sinks that a test has a transform write to.
#[derive(Debug, Clone, Default)]
pub struct Deployed {
    sinks: Vec<String>,
}

/// What a transform made of a test's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Results {
    sinks: Vec<String>,
    /// What it made, in the order in which it made it.
    pub records: Vec<Written>,
    /// Index of each record that is an error, and the reason.
    pub errors: Vec<(usize, String)>,
}

/// A record as it came out, with the parts that were left as they were.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Index of the record that it was made of.
    pub source: usize,
    /// Name of the sink that it goes to; empty where sinks have none.
    pub sink: String,
    /// Milliseconds since 1970: the source's.
    pub timestamp_ms: i64,
    /// Key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// Value; `None` is null.
    pub value: Option<Vec<u8>>,
    /// Names and values of the headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Deployed {
    /// Sinks with these names, in this order. Without any it is as on ingest: there is one sink, which has no name.
    pub fn to<S: Into<String>>(sinks: impl IntoIterator<Item = S>) -> Self {
        Deployed {
            sinks: sinks.into_iter().map(Into::into).collect(),
        }
    }

    /// Has a transform read its configuration while it knows the sinks.
    ///
    /// # Errors
    /// It refuses the configuration.
    pub fn configure<T: Transform>(&self, config: impl AsRef<[u8]>) -> Result<T, String> {
        self.while_declared(|| T::configure(config.as_ref()))
    }

    /// Runs a transform over records: a function, or `|record, out| plugin.transform(record, out)`.
    ///
    /// # Panics
    /// It writes to a place that no sink has, for which a broker would refuse all that it made.
    pub fn run<R: Outcome<()>>(
        &self,
        mut transform: impl FnMut(&Record<'_>, &mut Output) -> R,
        records: &[Record<'_>],
    ) -> Results {
        let mut output = Output::new();
        self.while_declared(|| {
            for (index, record) in records.iter().enumerate() {
                output.begin(index);
                let result = transform(record, &mut output).into_result();
                output.end(result);
            }
        });
        let errors = output.errors();
        Results {
            sinks: self.sinks.clone(),
            records: output.records().map(|made| self.written(made, records)).collect(),
            errors: errors
                .map(|(source, reason)| (source as usize, reason.to_owned()))
                .collect(),
        }
    }

    fn written(&self, made: Made<'_>, records: &[Record<'_>]) -> Written {
        let source = made.source() as usize;
        let record = &records[source];
        let part = |part: Part<'_>, same: Option<&[u8]>| match part {
            Part::Same => same.map(<[u8]>::to_vec),
            Part::Absent => None,
            Part::New(bytes) => Some(bytes.to_vec()),
        };
        let headers = made.headers().unwrap_or_else(|| record.headers());
        Written {
            source,
            sink: self.name(made.sink()),
            timestamp_ms: record.timestamp_ms(),
            key: part(made.key(), record.key()),
            value: part(made.value(), record.value()),
            headers: headers
                .map(|header| {
                    let name = String::from_utf8_lossy(header.name).into_owned();
                    (name, header.value.map(<[u8]>::to_vec))
                })
                .collect(),
        }
    }

    fn name(&self, place: u16) -> String {
        match self.sinks.get(usize::from(place)) {
            Some(name) => name.clone(),
            None if place == 0 => String::new(),
            None => panic!("no sink has place {place}: a broker would refuse all that was made"),
        }
    }

    fn while_declared<T>(&self, act: impl FnOnce() -> T) -> T {
        /// Puts the names back that were there before, also if the test panics.
        struct Before(Vec<String>);
        impl Drop for Before {
            fn drop(&mut self) {
                DECLARED.set(std::mem::take(&mut self.0));
            }
        }
        let _before = Before(DECLARED.replace(self.sinks.clone()));
        act()
    }
}

impl Results {
    /// What came out at a sink.
    ///
    /// # Panics
    /// There is no sink with this name.
    #[must_use]
    pub fn at(&self, sink: &str) -> Vec<&Written> {
        assert!(
            self.sinks.iter().any(|name| name == sink),
            "there is no sink {sink:?}, only {:?}",
            self.sinks
        );
        self.records.iter().filter(|record| record.sink == sink).collect()
    }

    /// The values that came out at a sink.
    ///
    /// # Panics
    /// There is no sink with this name, or a value is null or no text.
    #[must_use]
    pub fn values(&self, sink: &str) -> Vec<&str> {
        let value = |record: &&'_ Written| record.source;
        let found = self.at(sink);
        let texts = found.iter().map(|record| {
            let text = record.value.as_deref().map(std::str::from_utf8);
            match text {
                Some(Ok(text)) => text,
                Some(Err(_)) => panic!("a value made of record {} is no text", value(record)),
                None => panic!("a record made of record {} has no value", value(record)),
            }
        });
        texts.collect()
    }
}

impl Written {
    /// The key as text; `None` if it is null or no text.
    #[must_use]
    pub fn key_text(&self) -> Option<&str> {
        text(self.key.as_deref())
    }

    /// The value as text; `None` if it is null or no text.
    #[must_use]
    pub fn value_text(&self) -> Option<&str> {
        text(self.value.as_deref())
    }

    /// The header with this name as text, the last one where it is repeated; `None` if there is none, or it is null or no text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        let mut named = self.headers.iter().rev().filter(|(known, _)| known == name);
        text(named.next().and_then(|(_, value)| value.as_deref()))
    }
}

fn text(bytes: Option<&[u8]>) -> Option<&str> {
    std::str::from_utf8(bytes?).ok()
}

/// The sinks of the test that runs on this thread.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn declared() -> Vec<String> {
    DECLARED.with_borrow(Clone::clone)
}

thread_local! {
    static DECLARED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}
