//! Finds the fields that get other names, and writes documents with these.

use std::fmt;

use json_scan::{Cursor, Malformed, Node, Pointers, Spans};
use plugin_config::{Config, ConfigError};

/// A compiled configuration.
#[derive(Debug)]
pub struct Renaming {
    /// The fields, by the numbers of `names`.
    fields: Pointers,
    /// The new names as JSON strings, without their quotes.
    names: Vec<Vec<u8>>,
    /// The fields, and where they would be under their new names.
    places: Pointers,
    /// Slots in `places`: of each field, and of its new name unless a field that is itself renamed is there.
    slots: Vec<(usize, Option<usize>)>,
    spans: Spans,
}

/// A record whose fields cannot be renamed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unrenamable {
    /// It is not JSON.
    Malformed(Malformed),
    /// A field of the new name, which is this one as a JSON string without quotes, is there already.
    Taken(String),
}

impl fmt::Display for Unrenamable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unrenamable::Malformed(malformed) => malformed.fmt(f),
            Unrenamable::Taken(name) => write!(f, "the record has a field \"{name}\" already"),
        }
    }
}

impl std::error::Error for Unrenamable {}

impl From<Malformed> for Unrenamable {
    fn from(malformed: Malformed) -> Self {
        Unrenamable::Malformed(malformed)
    }
}

impl Renaming {
    /// Reads the configuration: `fields`, an object from pointers to new names.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["fields"])?;
        let setting = config.required("fields")?;
        let mut fields = Pointers::default();
        let mut places = Pointers::default();
        let (mut names, mut slots) = (Vec::new(), Vec::new());
        let mut targets: Vec<String> = Vec::new();
        for (field, name) in setting.members()? {
            let mistake = |what: String| ConfigError::new(format!("fields: {field:?}: {what}"));
            let text = name.text()?;
            let Some((parent, _)) = field.rsplit_once('/') else {
                return Err(mistake(
                    "a field is named by a JSON pointer, which begins with /".to_owned(),
                ));
            };
            if text.starts_with('/') {
                let bare = text.trim_start_matches('/');
                return Err(mistake(format!(
                    "a field stays where it is and only gets another name: write {bare:?}, not {text:?}"
                )));
            }
            let target = format!("{parent}/{}", text.replace('~', "~0").replace('/', "~1"));
            if targets.contains(&target) {
                return Err(mistake(format!("another field gets the name {text:?} as well")));
            }
            let added = fields.add(&field);
            added.map_err(|error| mistake(error.to_string()))?;
            let slot = places.add(&field).map_err(|error| mistake(error.to_string()))?;
            slots.push((slot, None));
            let raw = name.raw();
            names.push(raw[1..raw.len() - 1].to_vec());
            targets.push(target);
        }
        if names.is_empty() {
            return Err(setting.expected("one field at least"));
        }
        let renamed = names.len();
        for (target, (_, taken)) in targets.iter().zip(&mut slots) {
            let slot = places
                .add(target)
                .map_err(|error| ConfigError::new(error.to_string()))?;
            *taken = (slot >= renamed).then_some(slot);
        }
        let spans = Spans::new(&places);
        Ok(Renaming {
            fields,
            names,
            places,
            slots,
            spans,
        })
    }

    /// Whether a document has one of the fields at least.
    ///
    /// # Errors
    /// It is not JSON, or a new name is taken.
    pub fn find(&mut self, doc: &[u8]) -> Result<bool, Unrenamable> {
        self.spans.scan(doc, &self.places)?;
        let mut found = false;
        for ((slot, target), name) in self.slots.iter().zip(&self.names) {
            if self.spans.get(*slot).is_none() {
                continue;
            }
            if target.is_some_and(|target| self.spans.get(target).is_some()) {
                return Err(Unrenamable::Taken(String::from_utf8_lossy(name).into_owned()));
            }
            found = true;
        }
        Ok(found)
    }

    /// Appends the document in which [`Renaming::find`] has just looked to `out`, the fields renamed, every other byte as it was.
    pub fn write(&self, doc: &[u8], out: &mut Vec<u8>) {
        let mut writer = Writer {
            doc,
            names: &self.names,
            copied: 0,
            out,
        };
        // The document was checked; what is left of one that was not is copied as it is.
        if let Ok(mut cursor) = Cursor::new(doc) {
            let _ = writer.value(&mut cursor, self.fields.root(), 0);
        }
        writer.copy(doc.len());
    }
}

struct Writer<'d, 'o> {
    doc: &'d [u8],
    names: &'d [Vec<u8>],
    /// Bytes of the document that were copied or replaced.
    copied: usize,
    out: &'o mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn value(&mut self, cursor: &mut Cursor<'_>, node: &Node, depth: u32) -> Result<(), Malformed> {
        match cursor.peek() {
            b'{' if !node.is_leaf() => self.object(cursor, node, depth),
            b'[' if !node.is_leaf() => self.array(cursor, node, depth),
            _ => cursor.skip(depth).map(|_| ()),
        }
    }

    fn object(&mut self, cursor: &mut Cursor<'_>, node: &Node, depth: u32) -> Result<(), Malformed> {
        let mut more = cursor.open(depth, b'}')?;
        while more {
            let key = cursor.key()?;
            match node.member(&self.doc[key.start + 1..key.end - 1], key.escaped) {
                Some(child) => {
                    if let Some(slot) = child.slot() {
                        self.copy(key.start + 1);
                        self.out.extend_from_slice(&self.names[slot]);
                        self.copied = key.end - 1;
                    }
                    self.value(cursor, child, depth + 1)?;
                }
                None => {
                    cursor.skip(depth + 1)?;
                }
            }
            more = cursor.more(b'}')?;
        }
        Ok(())
    }

    /// Elements have no names; what lies in them may.
    fn array(&mut self, cursor: &mut Cursor<'_>, node: &Node, depth: u32) -> Result<(), Malformed> {
        let mut more = cursor.open(depth, b']')?;
        let mut index = 0;
        while more {
            match node.element(index) {
                Some(child) => self.value(cursor, child, depth + 1)?,
                None => {
                    cursor.skip(depth + 1)?;
                }
            }
            index += 1;
            more = cursor.more(b']')?;
        }
        Ok(())
    }

    fn copy(&mut self, end: usize) {
        self.out.extend_from_slice(&self.doc[self.copied..end]);
        self.copied = end;
    }
}
