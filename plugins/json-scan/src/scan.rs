//! One walk over a document that finds all pointers of a set.

use crate::cursor::{Cursor, Malformed};
use crate::pointer::{Node, Pointers};
use crate::{Kind, Span};

/// Is told what the walk finds. Calls come as values end: what lies inside a value comes before it.
/// When the walk ends with an error, what was told until then is worth nothing.
pub trait Sink {
    /// The pointer of this slot points to the value at `span`.
    fn found(&mut self, slot: usize, span: Span);

    /// A value begins that lies around or at this slot's pointer; where a key was repeated, what was found for this slot
    /// before lies in the value that is being replaced.
    fn forget(&mut self, _slot: usize) {}
}

/// Where each pointer of a set points in one document: reused from record to record.
#[derive(Clone, Debug, Default)]
pub struct Spans {
    spans: Vec<Option<Span>>,
}

impl Spans {
    /// Room for the slots of this set.
    pub fn new(pointers: &Pointers) -> Self {
        Spans {
            spans: vec![None; pointers.len()],
        }
    }

    /// Scans the next document, forgetting the one before.
    #[inline]
    pub fn scan(&mut self, doc: &[u8], pointers: &Pointers) -> Result<(), Malformed> {
        self.clear();
        scan(doc, pointers, self)
    }

    /// Forgets everything, as if the document had none of the values.
    pub fn clear(&mut self) {
        self.spans.fill(None);
    }

    /// The value of a slot, if the document has it.
    #[inline]
    pub fn get(&self, slot: usize) -> Option<Span> {
        self.spans.get(slot).copied().flatten()
    }
}

impl Sink for Spans {
    #[inline]
    fn found(&mut self, slot: usize, span: Span) {
        self.spans[slot] = Some(span);
    }

    fn forget(&mut self, slot: usize) {
        self.spans[slot] = None;
    }
}

/// Walks over the whole document, checks it, and tells `sink` of each value that a pointer of the set points to.
///
/// # Errors
/// The first place at which the document is not JSON.
#[inline]
pub fn scan(doc: &[u8], pointers: &Pointers, sink: &mut impl Sink) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(doc)?;
    value(&mut cursor, doc, pointers.root(), 0, sink)?;
    cursor.finish()
}

fn value(
    cursor: &mut Cursor<'_>,
    doc: &[u8],
    node: &Node,
    depth: u32,
    sink: &mut impl Sink,
) -> Result<(), Malformed> {
    let start = cursor.at() as u32;
    let (kind, escaped) = match cursor.peek() {
        b'{' if !node.is_leaf() => {
            object(cursor, doc, node, depth, sink)?;
            (Kind::Object, false)
        }
        b'[' if !node.is_leaf() => {
            array(cursor, doc, node, depth, sink)?;
            (Kind::Array, false)
        }
        b'{' | b'[' => (cursor.skip(depth)?.kind, false),
        _ => cursor.scalar()?,
    };
    if let Some(slot) = node.slot() {
        sink.found(
            slot,
            Span {
                start,
                end: cursor.at() as u32,
                kind,
                escaped,
            },
        );
    }
    Ok(())
}

fn object(
    cursor: &mut Cursor<'_>,
    doc: &[u8],
    node: &Node,
    depth: u32,
    sink: &mut impl Sink,
) -> Result<(), Malformed> {
    if !cursor.open(depth, b'}')? {
        return Ok(());
    }
    loop {
        let key = cursor.key()?;
        match node.member(&doc[key.start + 1..key.end - 1], key.escaped) {
            Some(child) => {
                if !child.is_leaf() {
                    child.each_slot(&mut |slot| sink.forget(slot));
                }
                value(cursor, doc, child, depth + 1, sink)?;
            }
            None => cursor.skip_inner(depth + 1)?,
        }
        if !cursor.more(b'}')? {
            return Ok(());
        }
    }
}

fn array(
    cursor: &mut Cursor<'_>,
    doc: &[u8],
    node: &Node,
    depth: u32,
    sink: &mut impl Sink,
) -> Result<(), Malformed> {
    if !cursor.open(depth, b']')? {
        return Ok(());
    }
    for index in 0.. {
        match node.element(index) {
            Some(child) => value(cursor, doc, child, depth + 1, sink)?,
            None => cursor.skip_inner(depth + 1)?,
        }
        if !cursor.more(b']')? {
            break;
        }
    }
    Ok(())
}

/// Calls `visit` with each element of an array; `array` is the text of a checked array, `[` to `]`.
/// Spans count from the beginning of `array`. `visit` returns whether it wants more.
///
/// # Errors
/// The text is not an array.
pub fn elements(array: &[u8], mut visit: impl FnMut(Span) -> bool) -> Result<(), Malformed> {
    let mut cursor = Cursor::new(array)?;
    if cursor.peek() != b'[' {
        return Err(Malformed {
            position: 0,
            what: "expected an array",
        });
    }
    if !cursor.open(0, b']')? {
        return Ok(());
    }
    loop {
        let span = cursor.skip(1)?;
        if !visit(span) || !cursor.more(b']')? {
            return Ok(());
        }
    }
}
