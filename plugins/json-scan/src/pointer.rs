//! JSON pointers (RFC 6901), compiled together into a tree, so that one walk over a document finds them all.

use std::fmt;

/// A pointer that cannot be compiled; the message names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointerError(String);

impl fmt::Display for PointerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PointerError {}

/// A set of JSON pointers. Each has a slot, numbered in the order of [`Pointers::add`]; the same pointer has the same slot.
#[derive(Clone, Debug, Default)]
pub struct Pointers {
    root: Node,
    slots: usize,
}

impl Pointers {
    /// Adds a pointer and returns its slot. The empty pointer is the whole document; every other one begins with `/`.
    pub fn add(&mut self, pointer: &str) -> Result<usize, PointerError> {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return Err(PointerError(format!(
                "a JSON pointer begins with /, this one does not: {pointer:?}"
            )));
        }
        let mut node = &mut self.root;
        let tokens: Vec<&str> = pointer.split('/').skip(1).collect();
        if tokens.len() > crate::DEPTH_MAX as usize {
            return Err(PointerError(format!(
                "a pointer may have {} parts at most",
                crate::DEPTH_MAX
            )));
        }
        for token in tokens {
            let Some(key) = unescape(token) else {
                return Err(PointerError(format!(
                    "in a JSON pointer ~ is followed by 0 or 1: {pointer:?}"
                )));
            };
            node = node.child_or_new(key);
        }
        let slot = *node.slot.get_or_insert(self.slots);
        self.slots = self.slots.max(slot + 1);
        Ok(slot)
    }

    /// The number of slots, which is the number of different pointers.
    pub fn len(&self) -> usize {
        self.slots
    }

    /// Whether no pointer was added.
    pub fn is_empty(&self) -> bool {
        self.slots == 0
    }

    /// The node of the whole document.
    pub fn root(&self) -> &Node {
        &self.root
    }
}

/// A place in documents at or below which some pointer of the set points.
#[derive(Clone, Debug, Default)]
pub struct Node {
    slot: Option<usize>,
    children: Vec<Child>,
    /// Bit `n` is set if a child's key has `n` bytes (63: or more): most keys of a document are told apart by this alone.
    lengths: u64,
}

#[derive(Clone, Debug)]
struct Child {
    key: Vec<u8>,
    /// The first eight bytes of the key, zeros behind its end.
    prefix: u64,
    /// The key read as an index into an array.
    index: Option<usize>,
    node: Node,
}

impl Node {
    /// The slot of the pointer that ends here.
    pub fn slot(&self) -> Option<usize> {
        self.slot
    }

    /// Whether no pointer goes further than this.
    pub fn is_leaf(&self) -> bool {
        self.children.is_empty()
    }

    /// The slots of this node and of everything below.
    pub fn each_slot(&self, visit: &mut impl FnMut(usize)) {
        if let Some(slot) = self.slot {
            visit(slot);
        }
        for child in &self.children {
            child.node.each_slot(visit);
        }
    }

    /// The child for a key: `raw` is what stands between the quotes.
    #[inline(always)]
    pub fn member(&self, raw: &[u8], escaped: bool) -> Option<&Node> {
        if escaped {
            return self
                .children
                .iter()
                .find(|c| crate::decoded_eq(raw, &c.key))
                .map(|c| &c.node);
        }
        if self.lengths & length_bit(raw.len()) == 0 {
            return None;
        }
        let prefix = prefix(raw);
        self.children
            .iter()
            .find(|c| {
                c.prefix == prefix && c.key.len() == raw.len() && (raw.len() <= 8 || c.key[8..] == raw[8..])
            })
            .map(|c| &c.node)
    }

    /// The child for an element of an array.
    pub fn element(&self, index: usize) -> Option<&Node> {
        self.children
            .iter()
            .find(|c| c.index == Some(index))
            .map(|c| &c.node)
    }

    fn child_or_new(&mut self, key: String) -> &mut Node {
        let key = key.into_bytes();
        let at = match self.children.iter().position(|c| c.key == key) {
            Some(at) => at,
            None => {
                self.lengths |= length_bit(key.len());
                let (prefix, index) = (prefix(&key), array_index(&key));
                self.children.push(Child {
                    key,
                    prefix,
                    index,
                    node: Node::default(),
                });
                self.children.len() - 1
            }
        };
        &mut self.children[at].node
    }
}

fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

#[inline(always)]
fn prefix(bytes: &[u8]) -> u64 {
    match bytes.first_chunk::<8>() {
        Some(bytes) => u64::from_le_bytes(*bytes),
        None => bytes
            .iter()
            .rev()
            .fold(0, |value, &byte| value << 8 | u64::from(byte)),
    }
}

/// RFC 6901: digits without a leading zero.
fn array_index(key: &[u8]) -> Option<usize> {
    let digits = key.iter().all(u8::is_ascii_digit) && (key.len() == 1 || key.first() != Some(&b'0'));
    if digits {
        std::str::from_utf8(key).ok()?.parse().ok()
    } else {
        None
    }
}

fn unescape(token: &str) -> Option<String> {
    let mut key = String::with_capacity(token.len());
    let mut characters = token.chars();
    while let Some(character) = characters.next() {
        key.push(match character {
            '~' => match characters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            other => other,
        });
    }
    Some(key)
}
