//! The codecs on their own: other writers' choices, limits, bombs, cut ends.

use super::*;

proptest! {
    #[test]
    fn data_comes_back(data in prop::collection::vec(any::<u8>(), 0..300_000), codec in codec()) {
        prop_assert_eq!(decompress(codec, &packed(codec, &data), data.len()).unwrap(), data);
    }

    #[test]
    fn a_limit_holds_to_the_byte(size in 1usize..200_000, codec in codec()) {
        let packed = packed(codec, &vec![7; size]);
        prop_assert_eq!(decompress(codec, &packed, size).unwrap().len(), size);
        let over = decompress(codec, &packed, size - 1);
        prop_assert_eq!(over, Err(BatchError::DecompressedTooLarge { limit: size - 1 }));
    }

    #[test]
    fn a_cut_end_is_an_error(data in prop::collection::vec(0u8..4, 1..100_000), codec in codec(), cut in any::<prop::sample::Index>()) {
        prop_assume!(codec != Compression::None);
        let packed = packed(codec, &data);
        let part = &packed[..cut.index(packed.len())];
        // The framing of snappy has no end mark: a cut between two blocks shows only in the records.
        match decompress(codec, part, LIMIT) {
            Ok(some) => prop_assert!(codec == Compression::Snappy && some.len() < data.len()),
            Err(error) => prop_assert_eq!(error.kind(), BatchErrorKind::Corrupt),
        }
    }

    #[test]
    fn random_bytes_never_panic_nor_pass_the_limit(data in prop::collection::vec(any::<u8>(), 0..500), codec in codec()) {
        if let Ok(data) = decompress(codec, &data, 1000) {
            prop_assert!(data.len() <= 1000);
        }
    }
}

#[test]
fn a_bomb_takes_no_more_memory_than_the_limit() {
    for codec in Compression::ALL
        .into_iter()
        .filter(|codec| codec.is_supported() && *codec != Compression::None)
    {
        let bomb = packed(codec, &vec![0; 200 << 20]);
        let mut scratch = compression_scratch();
        let result = scratch.decompress(codec, &bomb, LIMIT);
        assert_eq!(
            result.map(<[u8]>::len),
            Err(BatchError::DecompressedTooLarge { limit: LIMIT }),
            "{codec:?}"
        );
        assert!(
            scratch.capacity() <= LIMIT,
            "{codec:?} took {}",
            scratch.capacity()
        );
    }
}

#[test]
fn a_length_that_lies_takes_no_memory() {
    // A raw snappy block that claims 64 MiB in six bytes, and a zstd frame that claims 64 MiB.
    let snappy = [0x80, 0x80, 0x80, 0x20, 0x00, b'x'];
    let mut scratch = compression_scratch();
    assert!(
        scratch
            .decompress(Compression::Snappy, &snappy, 100 << 20)
            .is_err()
    );
    assert_eq!(scratch.capacity(), 0);
    if Compression::Zstd.is_supported() {
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 4, 9, 0, 0, b'x'];
        assert!(scratch.decompress(Compression::Zstd, &zstd, 100 << 20).is_err());
        assert!(scratch.capacity() <= 1 << 20, "{}", scratch.capacity());
    }
}

#[test]
fn snappy_without_a_frame_is_read() {
    let data = b"snappy, snappy, snappy".repeat(100);
    let raw = snap::raw::Encoder::new().compress_vec(&data).unwrap();
    assert_eq!(decompress(Compression::Snappy, &raw, LIMIT).unwrap(), data);
}

#[test]
fn linked_lz4_blocks_and_checksums_are_read() {
    // A frame with all checksums, made by hand: one
    // stored block "abcd", and a linked block that copies it.
    let mut frame = vec![0x04, 0x22, 0x4d, 0x18];
    let description = [0b0101_0100u8, 0x40];
    frame.extend(description);
    frame.push((twox_hash::XxHash32::oneshot(0, &description) >> 8) as u8);
    let blocks: [(&[u8], u32); 2] = [
        (b"abcd", 4 | 1 << 31),
        (&[0x04, 0x04, 0x00, 0x50, b'v', b'w', b'x', b'y', b'z'], 9),
    ];
    for (block, size) in blocks {
        frame.extend(size.to_le_bytes());
        frame.extend(block);
        frame.extend(twox_hash::XxHash32::oneshot(0, block).to_le_bytes());
    }
    frame.extend(0u32.to_le_bytes());
    let expected = b"abcdabcdabcdvwxyz";
    frame.extend(twox_hash::XxHash32::oneshot(0, expected).to_le_bytes());
    let read = decompress(Compression::Lz4, &frame, LIMIT);
    assert_eq!(read.as_deref(), Ok(&expected[..]));

    for at in 4..frame.len() {
        let mut damaged = frame.clone();
        damaged[at] ^= 0x10;
        assert!(
            decompress(Compression::Lz4, &damaged, LIMIT).is_err(),
            "byte {at}"
        );
    }
}

#[test]
fn gzip_members_and_lz4_frames_may_follow_one_another() {
    for codec in [Compression::Gzip, Compression::Lz4, Compression::Zstd] {
        if codec.is_supported() {
            let mut both = packed(codec, b"one ");
            both.extend(packed(codec, b"two"));
            assert_eq!(decompress(codec, &both, LIMIT).unwrap(), b"one two", "{codec:?}");
        }
    }
}

fn packed(codec: Compression, data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(codec, data, &mut out).unwrap();
    out
}

fn compression_scratch() -> super::super::compression::Decompressor {
    Default::default()
}
