//! The generated files in the repository are what this version generates: `crds/` and the chart's
//! templates never drift from the types. `BATON_BLESS=1 cargo test --test golden` rewrites them. And the
//! page about analyses tells of each what the code says.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs, unreachable_pub)]

use std::{fs, path::Path};

use baton::{
    api::crds,
    core::{
        analysis::{Act, Code},
        rules::Rule,
    },
};

#[test]
fn generated_resources_are_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let bless = std::env::var_os("BATON_BLESS").is_some();
    for file in crds::generate().unwrap() {
        let path = root.join(&file.path);
        if bless {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &file.text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", file.path));
        assert!(found == file.text, "{} is not what is generated: BATON_BLESS=1 cargo test --test golden", file.path);
    }
    assert_eq!(strays(root), Vec::<String>::new(), "not generated");
}

/// What is in the folders of generated files and is not generated.
fn strays(root: &Path) -> Vec<String> {
    let generated: Vec<_> = crds::generate().unwrap().into_iter().map(|file| root.join(file.path)).collect();
    let folders = ["crds", "charts/baton/templates/crds"];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    paths.filter(|path| !generated.contains(path)).map(|path| path.display().to_string()).collect()
}

/// The part of an analysis' entry that the code decides.
fn entry(code: Code) -> String {
    let row = code.row();
    let act = match row.act {
        Act::Failover => "Baton fails over",
        Act::RestartReceivers => "Baton makes its replicas connect anew",
        Act::Repair => "Baton repairs it where it may",
        Act::Nothing => "shown",
    };
    let theirs = row.orchestrator.map_or("none".to_owned(), |name| format!("`{name}`"));
    format!("## {}\n\n{}\n\n*{:?}; {act}; orchestrator: {theirs}.*\n\n", row.name, row.about, row.severity)
}

#[test]
fn every_analysis_has_its_entry_in_the_order_of_urgency() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/analyses.md")).unwrap();
    let mut rest = page.as_str();
    for code in Code::ALL {
        let entry = entry(*code);
        let (_, after) = rest.split_once(&entry).unwrap_or_else(|| panic!("docs/analyses.md lacks, here:\n{entry}"));
        let advice = after.split("\n## ").next().unwrap();
        assert!(advice.contains("**You**: "), "{}: what is a person to do?", code.name());
        rest = after;
    }
    assert_eq!(page.matches("\n## ").count(), Code::ALL.len(), "entries of no code");
}

#[test]
fn every_safety_rule_is_on_its_page_with_what_misses_it() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/safety-rules.md")).unwrap();
    let rows: Vec<_> = page.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| rule")).collect();
    let rows: Vec<_> = rows.into_iter().filter(|line| !line.starts_with("| ---")).collect();
    assert_eq!(rows.len(), Rule::ALL.len(), "run make mutations");
    for (row, rule) in rows.iter().zip(Rule::ALL) {
        let (name, number, place, about) = (rule.name(), rule.number(), rule.place(), rule.about());
        let told = row.strip_prefix(&format!("| {name} | {number} | `{place}` | {about} | "));
        assert!(told.is_some_and(|told| !told.starts_with("nothing |")), "{name}: run make mutations: {row}");
    }
}
