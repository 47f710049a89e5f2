//! The types of fields that are no structs.

use bytes::Bytes;
use uuid::Uuid;

use super::{DecodeError, DecodeErrorKind, EncodeError, Field, Layout, Payload, Reader, Text, Writer};

macro_rules! numbers {
    ($($number:ty)*) => { $(
        impl Field for $number {
            const BYTES_MIN: usize = size_of::<Self>();

            #[inline(always)]
            fn read(reader: &mut Reader, _: Layout) -> Result<Self, DecodeError> {
                reader.array().map(Self::from_be_bytes)
            }

            #[inline(always)]
            fn write(&self, writer: &mut Writer, _: Layout) -> Result<(), EncodeError> {
                writer.array(self.to_be_bytes());
                Ok(())
            }
        }
    )* };
}

numbers!(i8 i16 u16 i32 u32 i64 f64);

impl Field for bool {
    const BYTES_MIN: usize = 1;

    #[inline(always)]
    fn read(reader: &mut Reader, _: Layout) -> Result<Self, DecodeError> {
        reader.array().map(|[byte]| byte != 0)
    }

    #[inline(always)]
    fn write(&self, writer: &mut Writer, _: Layout) -> Result<(), EncodeError> {
        writer.array([u8::from(*self)]);
        Ok(())
    }
}

impl Field for Uuid {
    const BYTES_MIN: usize = 16;

    #[inline]
    fn read(reader: &mut Reader, _: Layout) -> Result<Self, DecodeError> {
        reader.array().map(Self::from_bytes)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, _: Layout) -> Result<(), EncodeError> {
        writer.array(*self.as_bytes());
        Ok(())
    }
}

impl Field for Option<Text> {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        match reader.text_length(layout.flexible)? {
            Some(length) => reader.text(length).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        writer.text_length(self.as_ref().map(|text| text.len()), layout.flexible)?;
        writer.slice(self.as_deref().unwrap_or_default().as_bytes());
        Ok(())
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl Field for Text {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        let length = reader.text_length(layout.flexible)?;
        reader.text(length.ok_or_else(|| reader.fault(DecodeErrorKind::Null("text")))?)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        writer.text_length(Some(self.len()), layout.flexible)?;
        writer.slice(self.as_bytes());
        Ok(())
    }
}

impl Field for Option<Bytes> {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        match reader.length(layout.flexible)? {
            Some(length) => reader.bytes(length).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        writer.length(self.as_ref().map(Bytes::len), layout.flexible)?;
        self.iter().for_each(|bytes| writer.bytes(bytes));
        Ok(())
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl Field for Bytes {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        let length = reader.length(layout.flexible)?;
        reader.bytes(length.ok_or_else(|| reader.fault(DecodeErrorKind::Null("a byte string")))?)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        writer.length(Some(self.len()), layout.flexible)?;
        writer.bytes(self);
        Ok(())
    }
}

impl Field for Option<Payload> {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        Option::<Bytes>::read(reader, layout).map(|bytes| bytes.map(Payload::Bytes))
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        writer.length(self.as_ref().map(Payload::len), layout.flexible)?;
        self.iter().for_each(|payload| writer.payload(payload));
        Ok(())
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl<T: Field> Field for Option<Vec<T>> {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        match reader.length(layout.flexible)? {
            Some(count) => read_elements(reader, count, layout).map(Some),
            None => Ok(None),
        }
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        match self {
            Some(elements) => elements.write(writer, layout),
            None => writer.length(None, layout.flexible),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }
}

impl<T: Field> Field for Vec<T> {
    const BYTES_MIN: usize = 1;

    #[inline]
    fn read(reader: &mut Reader, layout: Layout) -> Result<Self, DecodeError> {
        let count = reader.length(layout.flexible)?;
        let count = count.ok_or_else(|| reader.fault(DecodeErrorKind::Null("an array")))?;
        read_elements(reader, count, layout)
    }

    #[inline]
    fn write(&self, writer: &mut Writer, layout: Layout) -> Result<(), EncodeError> {
        writer.length(Some(self.len()), layout.flexible)?;
        self.iter().try_for_each(|element| element.write(writer, layout))
    }
}

fn read_elements<T: Field>(reader: &mut Reader, count: usize, layout: Layout) -> Result<Vec<T>, DecodeError> {
    reader.check(count.saturating_mul(T::BYTES_MIN))?;
    // Elements can be larger in memory than on the wire: beyond a few, memory is taken as they turn out to be there.
    let mut elements = Vec::with_capacity(count.min(RESERVED_ELEMENTS_MAX));
    for _ in 0..count {
        elements.push(T::read(reader, layout)?);
    }
    Ok(elements)
}

/// Elements for which memory is taken because a count says so.
const RESERVED_ELEMENTS_MAX: usize = 256;
