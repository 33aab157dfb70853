//! Literate scenarios: every Markdown file of `tests/scenarios` tells situations in prose and in the
//! notation of its README, and what Baton must say about them. A code that no scenario covers fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

#[path = "scenarios/expect.rs"]
mod expect;
#[path = "scenarios/notation.rs"]
mod notation;
#[path = "scenarios/properties.rs"]
mod properties;
#[path = "scenarios/shape.rs"]
mod shape;
#[path = "scenarios/world.rs"]
mod world;

use std::{collections::BTreeSet, fs, path::Path};

use baton::core::analysis::Code;
use notation::Scenario;

fn scenarios() -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let told = |path: &std::path::PathBuf| {
        path.extension().is_some_and(|ending| ending == "md") && !path.ends_with("README.md")
    };
    let mut files: Vec<_> = entries.filter(told).collect();
    files.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        notation::read(&name, &fs::read_to_string(path).unwrap())
    };
    files.iter().flat_map(read).collect()
}

#[test]
fn every_scenario_is_judged_as_told() {
    let wrong: Vec<String> = scenarios().iter().filter_map(|scenario| expect::check(scenario).err()).collect();
    assert!(wrong.is_empty(), "{} scenarios differ\n\n{}", wrong.len(), wrong.join("\n\n"));
}

#[test]
fn every_code_has_a_scenario() {
    let told: BTreeSet<String> = scenarios().iter().flat_map(expect::codes).collect();
    let known: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    assert_eq!(known.difference(&told).collect::<Vec<_>>(), Vec::<&String>::new(), "codes without a scenario");
    assert_eq!(told.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new(), "scenarios of unknown codes");
}

#[test]
fn titles_are_unique() {
    let titles: Vec<_> = scenarios().into_iter().map(|scenario| scenario.title).collect();
    assert_eq!(titles.iter().collect::<BTreeSet<_>>().len(), titles.len());
}
