//! What the examples measure with: the guests of `examples/guest`, and records that are all different, and so many that the
//! processor's branch prediction cannot learn them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use millstream_runtime::build::componentize;

/// Builds the guest of a world.
pub fn build(world: &str) -> anyhow::Result<Vec<u8>> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/guest");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/boundary-guest");
    let status = Command::new("cargo")
        .args([
            "build",
            "--quiet",
            "--release",
            "--target",
            "wasm32-unknown-unknown",
        ])
        .args(["--features", world, "--target-dir"])
        .arg(&target)
        .env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+simd128")
        .current_dir(&project)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "the guest for {world} does not build");
    let module = target.join("wasm32-unknown-unknown/release/boundary_guest.wasm");
    Ok(componentize(&std::fs::read(module)?)?)
}

/// Records of one call: where each value lies in the data, and where its header.
pub struct Slice {
    pub data: Vec<u8>,
    pub records: Vec<(u32, u32, u32)>,
}

/// All records, in slices of the size that a broker makes.
pub fn slices() -> Vec<Slice> {
    let mut slices = Vec::new();
    let mut slice = Slice {
        data: Vec::new(),
        records: Vec::new(),
    };
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..RECORDS {
        let start = slice.data.len() as u32;
        slice.data.extend_from_slice(format!("{number:08}").as_bytes());
        while slice.data.len() - (start as usize) < RECORD_BYTES {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            // Half of the records have the text that is looked for, each at its own place.
            let text: &[u8] = if random.is_multiple_of(30) {
                b"\"UA\""
            } else {
                b"abcdefgh"
            };
            let rest = RECORD_BYTES - (slice.data.len() - start as usize);
            slice.data.extend_from_slice(&text[..text.len().min(rest)]);
        }
        let end = slice.data.len() as u32;
        slice.data.extend_from_slice(b"\x02h\x02v");
        slice.records.push((start, end, end + 4));
        if slice.data.len() >= SLICE_BYTES || number + 1 == RECORDS {
            slices.push(std::mem::replace(
                &mut slice,
                Slice {
                    data: Vec::new(),
                    records: Vec::new(),
                },
            ));
        }
    }
    slices
}

/// Records in all.
pub const RECORDS: usize = 16_384;
/// Bytes of a record's value.
pub const RECORD_BYTES: usize = 100;
const SLICE_BYTES: usize = 64 << 10;
