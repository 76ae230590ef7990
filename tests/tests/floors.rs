//! Each crate stays on its floor: only some may know what others must not.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that panics has failed")]

use std::{collections::BTreeSet, fs};

use vitrine_tests::repository;

/// The dependencies of a member as its manifest names them, those of its tests left out.
fn dependencies(member: &str) -> BTreeSet<String> {
    let manifest = fs::read_to_string(repository().join(member).join("Cargo.toml")).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_owned).collect()
}

fn members() -> Vec<String> {
    let manifest = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
    let list = manifest.split("members = [").nth(1).unwrap().split(']').next().unwrap();
    list.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn what_one_crate_knows_no_other_does() {
    for (dependency, owners) in [
        ("ort", &["services/clip"][..]),
        ("tokenizers", &["services/clip"]),
        ("image", &["services/clip"]),
        ("qdrant-edge", &["services/index"]),
        ("qdrant-client", &["services/index", "tests"]),
        ("reqwest", &["services/index"]),
        ("tonic-health", &["services/remote", "services/server", "tests"]),
        ("tonic-reflection", &["services/server"]),
        ("tonic", &["proto", "services/index", "services/remote", "services/server", "tests", "benches"]),
        ("vitrine-clip", &["services/server", "catalog-loader", "tests", "benches"]),
        ("vitrine-index", &["services/server", "catalog-loader", "tests", "benches"]),
        ("vitrine-remote", &["services/server", "catalog-loader", "tests", "benches"]),
        ("vitrine-proto", &["services/remote", "services/server", "tests", "benches"]),
        ("vitrine-server", &["tests", "benches"]),
    ] {
        for member in members() {
            let knows = dependencies(&member).contains(dependency);
            assert!(!knows || owners.contains(&member.as_str()), "{member} knows {dependency}");
        }
        let owned = owners.iter().any(|owner| dependencies(owner).contains(dependency));
        assert!(owned || dependency == "vitrine-server", "nobody knows {dependency} any more");
    }
}

#[test]
fn core_knows_no_environment_and_no_files() {
    let core = repository().join("services/core/src");
    let mut folders = vec![core];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let source = fs::read_to_string(&path).unwrap();
            for word in ["std::env", "std::fs", "tokio::fs", "std::net", "std::process"] {
                assert!(!source.contains(word), "{} knows {word}", path.display());
            }
        }
    }
}
