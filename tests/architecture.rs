//! The house as `docs/architecture.md` draws it, held against the sources: who knows whom, which crates
//! stay in which room, no circles, and the measures every file keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unreachable_pub, reason = "a test")]

#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/names.rs"]
mod names;
#[path = "architecture/rules.rs"]
mod rules;

use std::{
    fs,
    path::{Path, PathBuf},
};

use graph::Graph;

/// Longest file, in lines.
const LINES_MAX: usize = 400;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below `folder` as (path from the root, text), in order.
fn sources(folder: &str) -> Vec<(String, String)> {
    let mut folders: Vec<PathBuf> = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The crates that `Cargo.toml` lists, as they are written in code.
fn crates() -> Vec<String> {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let listed = manifest.lines().skip_while(|line| *line != "[dependencies]").skip(1);
    let names = listed.take_while(|line| !line.starts_with('[')).filter(|line| !line.starts_with('#'));
    names.filter_map(|line| Some(line.split_once('=')?.0.trim().replace('-', "_"))).collect()
}

fn assert_none(broken: &[String]) {
    assert!(broken.is_empty(), "{} rules broken:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn rooms_know_whom_they_may_know() {
    let crates = crates();
    assert!(crates.iter().any(|name| name == "mysql_async"), "{crates:?}");
    let graph = Graph::of(&sources("src"), &crates);
    assert!(graph.knows("engine::cluster", "core::recovery::machine"), "the sources were not read");
    assert_none(&rules::broken(&graph));
}

#[test]
fn files_do_not_know_each_other_in_circles() {
    assert_none(&Graph::of(&sources("src"), &crates()).circles());
}

#[test]
fn every_file_says_why_it_exists_and_is_short() {
    let files = ["src", "tests", "benches"].into_iter().flat_map(sources);
    let mut broken = Vec::new();
    for (path, text) in files {
        if !text.starts_with("//! ") {
            broken.push(format!("{path} does not begin with a //! paragraph"));
        }
        let lines = text.lines().count();
        if lines > LINES_MAX {
            broken.push(format!("{path} has {lines} lines, more than {LINES_MAX}"));
        }
    }
    assert_none(&broken);
}

#[test]
fn the_core_denies_what_would_make_it_impure() {
    let text = fs::read_to_string(root().join("src/core.rs")).unwrap();
    let denied = text.split_once("#![deny(").and_then(|(_, rest)| rest.split_once(")]")).unwrap().0;
    let denied: Vec<_> = denied.split(',').map(str::trim).collect();
    for lint in ["disallowed_methods", "disallowed_types", "unwrap_used", "panic", "indexing_slicing"] {
        assert!(denied.contains(&format!("clippy::{lint}").as_str()), "src/core.rs does not deny clippy::{lint}");
    }
    let loosened = sources("src/core").into_iter().filter(|(_, text)| text.contains("allow(clippy::"));
    assert_eq!(loosened.map(|(path, _)| path).collect::<Vec<_>>(), Vec::<String>::new());
}
