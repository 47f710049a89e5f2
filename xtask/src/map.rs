//! Keeps the map of the code true: every folder is named in `docs/architecture.md`.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
fn every_folder_is_on_the_map() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let listed = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(&root)
        .output()
        .unwrap();
    assert!(listed.status.success(), "git does not list the files");
    let map = std::fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let files = String::from_utf8(listed.stdout).unwrap();
    let folders: BTreeSet<&str> = files.split('\0').flat_map(folders).collect();
    assert!(folders.contains("broker/") && folders.contains("broker/src/plugins/"));
    let missing: Vec<_> = folders
        .into_iter()
        .filter(|folder| !map.contains(&format!("`{folder}")))
        .collect();
    assert!(
        missing.is_empty(),
        "docs/architecture.md does not name {}",
        missing.join(", ")
    );
}

/// The folders above a file that must be on the map: the outermost, and a module's directly in the `src/` of a crate
/// that is part of the house.
fn folders(file: &str) -> Vec<&str> {
    let ends: Vec<usize> = file.match_indices('/').map(|(at, _)| at + 1).collect();
    let mut found: Vec<&str> = ends.first().map(|end| &file[..*end]).into_iter().collect();
    let is_module = CRATES.iter().any(|name| {
        file.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with("/src/"))
    });
    if let (true, Some(end)) = (is_module, ends.get(2)) {
        found.push(&file[..*end]);
    }
    found
}

#[test]
fn folders_are_found() {
    assert_eq!(
        folders("broker/src/plugins/tests/view.rs"),
        ["broker/", "broker/src/plugins/"]
    );
    assert_eq!(folders("broker/src/lib.rs"), ["broker/"]);
    assert_eq!(folders("plugins/mask/src/deep/lib.rs"), ["plugins/"]);
    assert!(folders("README.md").is_empty());
}

const CRATES: [&str; 7] = ["broker", "core", "storage", "kafka", "runtime", "client", "cli"];
