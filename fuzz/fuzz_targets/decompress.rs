//! Any bytes through each codec: an error or data within the limit; and any bytes there and back.

#![no_main]

use libfuzzer_sys::fuzz_target;
use millstream_kafka::records::{Compression, compress, decompress};

fuzz_target!(|input: (u8, &[u8])| {
    let (codec, bytes) = input;
    let codec = Compression::ALL[usize::from(codec) % Compression::ALL.len()];
    for limit in [100, 100_000] {
        if let Ok(data) = decompress(codec, bytes, limit) {
            assert!(data.len() <= limit);
        }
    }
    let mut packed = Vec::new();
    compress(codec, bytes, &mut packed).expect("any bytes can be compressed");
    assert_eq!(
        decompress(codec, &packed, bytes.len()).expect("and decompressed"),
        bytes
    );
});
