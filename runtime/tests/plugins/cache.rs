//! Compiled plugins on disk: used again, and never trusted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use millstream_runtime::{Engine, EngineConfig, Limits};
use tempfile::TempDir;

use crate::guests::{self, KEEP_ALL, silence, slice};

fn engine(folder: &Path) -> Engine {
    Engine::new(EngineConfig {
        cache: Some(folder.to_owned()),
        instances_max: 4,
        ..EngineConfig::default()
    })
    .unwrap()
}

fn compiled(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "compiled"));
    paths
}

fn works(engine: &Engine, component: &[u8]) {
    let plugin = engine.compile(component).unwrap();
    let mut instance = plugin.instantiate(b"", &Limits::default(), silence()).unwrap();
    let (rows, data) = slice(&["a", "b"]);
    assert_eq!(instance.filter(rows.bytes(), &data).unwrap().kept(), 2);
}

/// A folder with one compiled plugin, its path and its bytes.
fn filled() -> (TempDir, Vec<u8>, PathBuf, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let component = guests::filter(KEEP_ALL);
    works(&engine(folder.path()), &component);
    let path = compiled(folder.path()).pop().unwrap();
    let bytes = fs::read(&path).unwrap();
    (folder, component, path, bytes)
}

#[test]
fn what_was_compiled_is_used_again() {
    let (folder, component, path, _) = filled();
    let written = fs::metadata(&path).unwrap().modified().unwrap();
    works(&engine(folder.path()), &component);
    assert_eq!(compiled(folder.path()).len(), 1);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
}

#[test]
fn only_the_owner_may_read_the_key() {
    let (folder, _, path, _) = filled();
    for path in [folder.path().join("key"), path] {
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
}

#[test]
fn files_that_were_tampered_with_are_written_anew() {
    let (folder, component, path, good) = filled();
    let mut flipped_code = good.clone();
    let place = good.len() / 2;
    flipped_code[place] ^= 1;
    let mut flipped_mac = good.clone();
    flipped_mac[0] ^= 1;
    let wrong: [&[u8]; 6] = [
        &flipped_code,
        &flipped_mac,
        &good[..good.len() - 1],
        &good[32..],
        &good[..20],
        b"",
    ];
    for bytes in wrong {
        fs::write(&path, bytes).unwrap();
        works(&engine(folder.path()), &component);
        assert_eq!(fs::read(&path).unwrap().len(), good.len());
        assert_ne!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn what_was_compiled_of_another_component_is_not_used() {
    let (folder, component, path, good) = filled();
    let other = guests::filter("unreachable");
    engine(folder.path()).compile(&other).unwrap();
    let theirs = compiled(folder.path())
        .into_iter()
        .find(|other| *other != path)
        .unwrap();
    fs::copy(&theirs, &path).unwrap();
    works(&engine(folder.path()), &component);
    assert_eq!(fs::read(&path).unwrap().len(), good.len());
}

#[test]
fn what_another_key_signed_is_not_used() {
    let (folder, component, path, good) = filled();
    fs::remove_file(folder.path().join("key")).unwrap();
    works(&engine(folder.path()), &component);
    assert_ne!(fs::read(&path).unwrap()[..32], good[..32]);
}

#[test]
fn what_is_refused_is_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = wat::parse_str("(component)").unwrap();
    engine(folder.path()).compile(&nothing).unwrap_err();
    assert_eq!(compiled(folder.path()).len(), 0);
}

#[test]
fn the_oldest_go_when_there_are_too_many() {
    let (folder, component, path, good) = filled();
    let old = std::time::UNIX_EPOCH;
    for number in 0..300 {
        let path = folder.path().join(format!("{number}.compiled"));
        fs::File::create(&path).unwrap().set_modified(old).unwrap();
    }
    engine(folder.path())
        .compile(&guests::filter("unreachable"))
        .unwrap();
    assert_eq!(compiled(folder.path()).len(), 256);
    assert_eq!(fs::read(&path).unwrap(), good);
    works(&engine(folder.path()), &component);
}

#[test]
fn compiled_code_is_no_component() {
    let (folder, _, _, good) = filled();
    assert!(engine(folder.path()).compile(&good[32..]).is_err());
    assert!(engine(folder.path()).compile(&good).is_err());
}

#[test]
fn a_folder_that_cannot_be_used_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, "x").unwrap();
    let config = EngineConfig {
        cache: Some(path),
        ..EngineConfig::default()
    };
    let error = Engine::new(config).unwrap_err();
    assert!(error.to_string().contains("cache of compiled plugins"), "{error}");
}
