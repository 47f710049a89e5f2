//! Copies a document without some of its parts.

use json_scan::{Cursor, Malformed, Node, Pointers};
use plugin_config::{Config, ConfigError};

/// A compiled configuration.
#[derive(Debug)]
pub struct Projection {
    pointers: Pointers,
    keep: bool,
}

/// What is to be done with a value.
enum Fate<'n> {
    Copy,
    Omit,
    /// Some pointer leads into it.
    Descend(&'n Node),
}

impl Projection {
    /// Reads the configuration: either `keep` or `drop`, a list of pointers.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure(config: &[u8]) -> Result<Self, ConfigError> {
        let config = Config::parse(config, &["keep", "drop"])?;
        let (keep, list) = match (config.optional("keep"), config.optional("drop")) {
            (Some(list), None) => (true, list),
            (None, Some(list)) => (false, list),
            _ => {
                return Err(ConfigError::new(
                    "give either \"keep\" or \"drop\", a list of JSON pointers",
                ));
            }
        };
        let mut pointers = Pointers::default();
        for pointer in list.list()? {
            let text = pointer.text()?;
            if text.is_empty() {
                return Err(pointer.expected("a pointer to a part of the document"));
            }
            pointers.add(&text).map_err(|e| ConfigError::new(e.to_string()))?;
        }
        if pointers.is_empty() {
            return Err(list.expected("one pointer at least"));
        }
        Ok(Projection { pointers, keep })
    }

    /// Writes what remains of the document to `out`: what is copied is copied byte for byte, in its order; white space
    /// between the parts goes. A parent of which nothing is kept goes as well, except the document itself.
    ///
    /// # Errors
    /// The document is not JSON. What is in `out` then must not be used.
    pub fn project(&self, doc: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
        let mut writer = Writer {
            cursor: Cursor::new(doc)?,
            doc,
            keep: self.keep,
            out,
        };
        match writer.cursor.peek() {
            b'{' => writer.object(self.pointers.root(), 0).map(|_| ())?,
            b'[' => writer.array(self.pointers.root(), 0).map(|_| ())?,
            _ if self.keep => {
                let span = writer.cursor.skip(0)?;
                return Err(Malformed {
                    position: span.start,
                    what: "no object or array to take fields from",
                });
            }
            _ => {
                let span = writer.cursor.skip(0)?;
                writer.out.extend_from_slice(span.raw(doc));
            }
        }
        writer.cursor.finish()
    }
}

struct Writer<'d, 'o> {
    cursor: Cursor<'d>,
    doc: &'d [u8],
    keep: bool,
    out: &'o mut Vec<u8>,
}

impl Writer<'_, '_> {
    fn fate<'n>(&self, node: Option<&'n Node>) -> Fate<'n> {
        match node {
            None if self.keep => Fate::Omit,
            None => Fate::Copy,
            Some(node) if node.slot().is_some() => {
                if self.keep {
                    Fate::Copy
                } else {
                    Fate::Omit
                }
            }
            Some(node) => Fate::Descend(node),
        }
    }

    /// Writes an object; returns whether anything of it was kept.
    fn object(&mut self, node: &Node, depth: u32) -> Result<bool, Malformed> {
        self.out.push(b'{');
        let mut more = self.cursor.open(depth, b'}')?;
        let mut first = true;
        while more {
            let key = self.cursor.key()?;
            let fate = self.fate(node.member(&self.doc[key.start + 1..key.end - 1], key.escaped));
            let before = self.out.len();
            if !first {
                self.out.push(b',');
            }
            self.out.extend_from_slice(&self.doc[key.start..key.end]);
            self.out.push(b':');
            first &= !self.value(fate, before, depth)?;
            more = self.cursor.more(b'}')?;
        }
        self.out.push(b'}');
        Ok(!first)
    }

    /// Writes an array; elements that go leave no gap. Returns whether anything of it was kept.
    fn array(&mut self, node: &Node, depth: u32) -> Result<bool, Malformed> {
        self.out.push(b'[');
        let mut more = self.cursor.open(depth, b']')?;
        let mut first = true;
        let mut index = 0;
        while more {
            let fate = self.fate(node.element(index));
            let before = self.out.len();
            if !first {
                self.out.push(b',');
            }
            first &= !self.value(fate, before, depth)?;
            index += 1;
            more = self.cursor.more(b']')?;
        }
        self.out.push(b']');
        Ok(!first)
    }

    /// Writes a member's or element's value; if it goes, the output is cut back to `before`. Returns whether it stayed.
    fn value(&mut self, fate: Fate<'_>, before: usize, depth: u32) -> Result<bool, Malformed> {
        let stays = match (fate, self.cursor.peek()) {
            (Fate::Descend(node), b'{') => self.object(node, depth + 1)? || !self.keep,
            (Fate::Descend(node), b'[') => self.array(node, depth + 1)? || !self.keep,
            (fate, _) => {
                let span = self.cursor.skip(depth + 1)?;
                // Where a pointer leads further but the value has no parts, the pointer points to nothing.
                let stays = match fate {
                    Fate::Copy => true,
                    Fate::Omit => false,
                    Fate::Descend(_) => !self.keep,
                };
                if stays {
                    self.out.extend_from_slice(span.raw(self.doc));
                }
                stays
            }
        };
        if !stays {
            self.out.truncate(before);
        }
        Ok(stays)
    }
}
