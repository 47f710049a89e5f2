//! Messages made from arbitrary bytes, for tests: what the bytes are decides every field, so that shrinking them
//! shrinks the message.

use bytes::Bytes;
use uuid::Uuid;

use super::{Layout, Payload, Text};

/// A type whose values can be made from arbitrary bytes.
pub(crate) trait Generate: Sized {
    fn generate(source: &mut Source<'_>, layout: Layout, nullable: bool) -> Self;
}

/// Arbitrary bytes; zeros when they are used up.
pub(crate) struct Source<'a>(pub &'a [u8]);

impl Source<'_> {
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Often small, as lengths and counts are.
    fn count(&mut self) -> usize {
        (self.byte() & 3).into()
    }

    fn is_null(&mut self, nullable: bool) -> bool {
        nullable && self.byte() & 3 == 0
    }
}

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Generate for $number {
            fn generate(source: &mut Source<'_>, _: Layout, _: bool) -> Self {
                Self::from_be_bytes(source.array())
            }
        }
    )* };
}

numbers!(i8 i16 u16 i32 u32 i64);

impl Generate for bool {
    fn generate(source: &mut Source<'_>, _: Layout, _: bool) -> Self {
        source.byte() & 1 == 1
    }
}

impl Generate for Uuid {
    fn generate(source: &mut Source<'_>, _: Layout, _: bool) -> Self {
        Self::from_bytes(source.array())
    }
}

impl Generate for Text {
    fn generate(source: &mut Source<'_>, _: Layout, _: bool) -> Self {
        // A length above 127 needs a varint of two bytes.
        let chars = match source.byte() {
            255 => 200,
            short => usize::from(short & 7),
        };
        (0..chars)
            .map(|_| char::from(source.byte()))
            .collect::<String>()
            .into()
    }
}

impl Generate for Bytes {
    fn generate(source: &mut Source<'_>, _: Layout, _: bool) -> Self {
        match source.byte() {
            // Long enough to become a chunk of its own.
            250.. => vec![source.byte(); 5000].into(),
            short => (0..short & 7).map(|_| source.byte()).collect(),
        }
    }
}

impl Generate for Payload {
    fn generate(source: &mut Source<'_>, layout: Layout, nullable: bool) -> Self {
        Self::Bytes(Bytes::generate(source, layout, nullable))
    }
}

impl<T: Generate> Generate for Option<T> {
    fn generate(source: &mut Source<'_>, layout: Layout, nullable: bool) -> Self {
        if source.is_null(nullable) {
            None
        } else {
            Some(T::generate(source, layout, true))
        }
    }
}

impl<T: Generate> Generate for Vec<T> {
    fn generate(source: &mut Source<'_>, layout: Layout, _: bool) -> Self {
        (0..source.count())
            .map(|_| T::generate(source, layout, true))
            .collect()
    }
}
