//! The rules themselves, on a message of our own, and how frames are cut into chunks.

use bytes::Bytes;

use super::*;

codec! {
    /// A message with every kind of field.
    pub struct Sample {
        /// In all versions.
        id: i32, ..;
        /// From version 1 on.
        name: Option<Text>, 1.., null 2..;
        /// Up to version 2.
        old: i16 = 7, ..=2;
        /// Records.
        records: Option<Payload>, ..;
        /// Elements.
        parts: Vec<Part>, ..;
        /// Tagged, in flexible versions.
        note: Text, 3.., tag 0;
        /// Tagged, later.
        more: i64 = -1, 4.., tag 5;
        /// Tagged bytes.
        blob: Bytes, 3.., tag 200;
    }

    /// An element.
    pub struct Part {
        /// Its number.
        number: i64, ..;
        /// Its size.
        size: u16, ..;
    }
}

const PLAIN: Layout = Layout {
    version: 0,
    flexible: false,
};
const FLEXIBLE: Layout = Layout {
    version: 4,
    flexible: true,
};

fn chunks(sample: &Sample, layout: Layout, mut writer: Writer) -> Vec<Chunk> {
    sample.write(&mut writer, layout).unwrap();
    writer.finish()
}

fn joined(chunks: &[Chunk]) -> Bytes {
    let bytes = chunks.iter().map(|chunk| match chunk {
        Chunk::Bytes(bytes) => &bytes[..],
        Chunk::External { .. } => &[],
    });
    bytes.collect::<Vec<_>>().concat().into()
}

fn read(bytes: Bytes, layout: Layout) -> Result<Sample, DecodeErrorKind> {
    let mut reader = Reader::new(bytes);
    let sample = Sample::read(&mut reader, layout).map_err(|error| error.kind)?;
    assert_eq!(reader.remaining(), 0);
    Ok(sample)
}

#[test]
fn fields_that_a_version_lacks_have_their_defaults() {
    let sample = Sample {
        id: 1,
        name: Some("n".into()),
        old: 9,
        note: "x".into(),
        more: 3,
        ..Default::default()
    };
    let bytes = joined(&chunks(&sample, PLAIN, Writer::new()));
    assert_eq!(bytes[..], [0, 0, 0, 1, 0, 9, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(
        read(bytes, PLAIN),
        Ok(Sample {
            id: 1,
            old: 9,
            ..Default::default()
        })
    );
    let bytes = joined(&chunks(&sample, FLEXIBLE, Writer::new()));
    assert_eq!(read(bytes, FLEXIBLE), Ok(Sample { old: 7, ..sample }));
}

#[test]
fn null_is_refused_where_a_version_has_none() {
    let layout = Layout {
        version: 1,
        flexible: false,
    };
    let refused = Sample::default().write(&mut Writer::new(), layout);
    assert_eq!(refused, Err(EncodeError::Null("name")));
    let bytes = Bytes::from_static(&[0, 0, 0, 0, 0xff, 0xff, 0, 7, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    assert_eq!(read(bytes, layout), Err(DecodeErrorKind::Null("name")));
    // A list of elements is never null.
    let bytes = Bytes::from_static(&[0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    assert_eq!(read(bytes, PLAIN), Err(DecodeErrorKind::Null("an array")));
}

#[test]
fn unknown_tags_are_passed_over() {
    // id, name, records, parts; then three tags: 1 with two bytes, 5 with a number, 9 with none.
    let bytes = [
        &[0, 0, 0, 1, 0, 0, 1, 3, 1, 2, 0xaa, 0xbb, 5, 8][..],
        &5i64.to_be_bytes(),
        &[9, 0],
    ]
    .concat();
    let sample = Sample {
        id: 1,
        more: 5,
        ..Default::default()
    };
    assert_eq!(read(bytes.into(), FLEXIBLE), Ok(sample));
}

#[test]
fn a_tagged_field_fills_its_length() {
    let bytes = |length: u8| {
        [&[0, 0, 0, 1, 0, 0, 1, 1, 5, length][..], &[0; 9]]
            .concat()
            .into()
    };
    assert_eq!(
        read(bytes(9), FLEXIBLE),
        Err(DecodeErrorKind::TaggedFieldLength(1))
    );
    assert_eq!(
        read(bytes(7), FLEXIBLE),
        Err(DecodeErrorKind::Truncated {
            needed: 8,
            available: 7
        })
    );
    assert_eq!(
        read(bytes(10), FLEXIBLE),
        Err(DecodeErrorKind::Truncated {
            needed: 10,
            available: 9
        })
    );
}

#[test]
fn counts_beyond_the_bytes_are_refused_before_memory_is_taken() {
    assert_eq!(Part::BYTES_MIN, 10);
    let mut bytes = vec![0, 0, 0, 0, 0, 7, 0xff, 0xff, 0xff, 0xff];
    bytes.extend_from_slice(&i32::MAX.to_be_bytes());
    bytes.extend_from_slice(&[0; 50]);
    let needed = i32::MAX as usize * 10;
    assert_eq!(
        read(bytes.into(), PLAIN),
        Err(DecodeErrorKind::Truncated {
            needed,
            available: 50
        })
    );
    let bytes = [0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f];
    let needed = (u32::MAX - 1) as usize * 10;
    assert_eq!(
        read(Bytes::copy_from_slice(&bytes), FLEXIBLE),
        Err(DecodeErrorKind::Truncated { needed, available: 0 })
    );
}

#[test]
fn lengths_and_text_are_checked() {
    let read_text = |bytes: &[u8], layout| {
        let text = Text::read(&mut Reader::new(Bytes::copy_from_slice(bytes)), layout);
        text.map_err(|error| (error.at, error.kind))
    };
    assert_eq!(read_text(&[0, 2, b'h', b'i'], PLAIN), Ok(Text::from("hi")));
    assert_eq!(
        read_text(&[0xff, 0xfe], PLAIN),
        Err((2, DecodeErrorKind::Length(-2)))
    );
    assert_eq!(
        read_text(&[0, 2, 0xc3, 0x28], PLAIN),
        Err((2, DecodeErrorKind::Utf8))
    );
    assert_eq!(
        read_text(&[0x80, 0x80, 0x80, 0x80, 0x10], FLEXIBLE),
        Err((5, DecodeErrorKind::Varint))
    );
    assert_eq!(
        read_text(&[0x81, 0x80, 0x02], FLEXIBLE),
        Err((3, DecodeErrorKind::TextTooLong(32768)))
    );
    let long = Text::from("x".repeat(32768));
    for layout in [PLAIN, FLEXIBLE] {
        assert_eq!(
            long.write(&mut Writer::new(), layout),
            Err(EncodeError::TextTooLong(32768))
        );
    }
}

#[test]
fn decoded_bytes_are_slices_of_the_frame() {
    let sample = Sample {
        records: Some(Bytes::from_static(b"records").into()),
        ..Default::default()
    };
    let frame = joined(&chunks(&sample, PLAIN, Writer::new()));
    let read = read(frame.clone(), PLAIN).unwrap();
    let records = read.records.as_ref().and_then(Payload::bytes).unwrap();
    assert!(frame.as_ptr_range().contains(&records.as_ptr()));
}

#[test]
fn large_records_are_chunks_of_their_own() {
    let large = Bytes::from(vec![1; 100_000]);
    let sample = Sample {
        records: Some(large.clone().into()),
        ..Default::default()
    };
    let chunks = chunks(&sample, PLAIN, Writer::frame());
    let [Chunk::Bytes(before), Chunk::Bytes(records), Chunk::Bytes(after)] = &chunks[..] else {
        panic!("three chunks, not {}", chunks.len());
    };
    assert_eq!(
        before[..],
        [
            &100_014i32.to_be_bytes()[..],
            &[0, 0, 0, 0, 0, 7],
            &100_000i32.to_be_bytes()
        ]
        .concat()
    );
    assert_eq!(records.as_ptr(), large.as_ptr());
    assert_eq!(after[..], [0; 4]);
}

#[test]
fn records_that_lie_elsewhere_count_in_the_length() {
    let sample = Sample {
        records: Some(Payload::External { index: 3, len: 1000 }),
        ..Default::default()
    };
    let chunks = chunks(&sample, PLAIN, Writer::frame());
    assert_eq!(chunks[1], Chunk::External { index: 3, len: 1000 });
    assert_eq!(joined(&chunks[..1])[..4], 1014i32.to_be_bytes());
    assert_eq!(chunks.len(), 3);
    // Nothing is no chunk.
    let sample = Sample {
        records: Some(Payload::External { index: 0, len: 0 }),
        ..Default::default()
    };
    let mut writer = Writer::new();
    sample.write(&mut writer, PLAIN).unwrap();
    assert_eq!(writer.finish().len(), 1);
}

#[test]
fn large_tagged_fields_are_copied_behind_their_length() {
    let sample = Sample {
        blob: vec![5; 10_000].into(),
        note: "n".into(),
        ..Default::default()
    };
    let chunks = chunks(&sample, FLEXIBLE, Writer::new());
    assert_eq!(chunks.len(), 1);
    assert_eq!(read(joined(&chunks), FLEXIBLE), Ok(sample));
}

#[test]
fn text_can_be_a_key_asked_for_with_a_str() {
    let map = std::collections::HashMap::from([(Text::from("a"), 1)]);
    assert_eq!(map.get("a"), Some(&1));
    assert_eq!(
        format!("{} {:?}", Text::from("a"), Text::from_static("b")),
        "a \"b\""
    );
}
