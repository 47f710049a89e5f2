//! Embeds the plugin SDK's sources, so that `millstream plugin new` makes projects that build anywhere.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    // Asked for now, not when this was compiled: a target folder may be shared by two checkouts.
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
    let sdk = Path::new(&here).join("../plugins-sdk");
    println!("cargo::rerun-if-changed={}", sdk.display());
    let mut files = Vec::new();
    collect(&sdk, &sdk, &mut files)?;
    files.sort();
    let mut list = String::from("&[");
    for file in files {
        let name = file
            .strip_prefix(&sdk)
            .expect("collected below it")
            .display()
            .to_string();
        let _ = write!(
            list,
            "({name:?}, include_str!({:?})),",
            file.canonicalize()?.display().to_string()
        );
    }
    list.push(']');
    fs::write(
        Path::new(&env::var("OUT_DIR").expect("cargo sets it")).join("sdk.rs"),
        list,
    )
}

/// The manifests and the sources of the crate and of its macros: not what else may lie there.
fn collect(sdk: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let within = path.strip_prefix(sdk).expect("it is below");
        let part = within.strip_prefix("macros").unwrap_or(within);
        let is_source = part.starts_with("src") || part == Path::new("");
        if path.is_dir() && is_source {
            collect(sdk, &path, files)?;
        } else if part == Path::new("Cargo.toml") || is_source && path.extension().is_some_and(|e| e == "rs")
        {
            files.push(path);
        }
    }
    Ok(())
}
