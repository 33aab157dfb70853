//! What people meet by name is explained where they look it up.
#![allow(clippy::unwrap_used, missing_docs, reason = "a test")]

use std::{collections::BTreeSet, fs, path::Path};

use regex::Regex;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// First groups of all matches of `pattern` in the files, without what comes after their tests begin.
fn said(pattern: &str, files: &[&str]) -> BTreeSet<String> {
    let pattern = Regex::new(pattern).unwrap();
    let texts = files.iter().map(|file| read(file).split("#[cfg(test)]").next().unwrap().to_owned());
    texts.flat_map(|text| pattern.captures_iter(&text).map(|found| found[1].to_owned()).collect::<Vec<_>>()).collect()
}

fn missing(words: &BTreeSet<String>, page: &str) -> Vec<String> {
    let page = read(page);
    words.iter().filter(|word| !page.contains(&format!("`{word}`"))).cloned().collect()
}

#[test]
fn every_metric_is_explained() {
    let names = said(r#""(baton_[a-z_]+)""#, &["src/telemetry/metrics.rs"]);
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(missing(&names, "docs/metrics.md"), Vec::<String>::new());
}

#[test]
fn every_reason_of_a_condition_is_explained() {
    let answers = said(r#"(?s)Answer::new\([^"]*"([A-Z]\w+)""#, &["src/engine/view.rs"]);
    let failures = said(r#"=> "([A-Z]\w+)","#, &["src/core/observation/failure.rs"]);
    let readiness = said(r#"Readiness::no\(\s*"([A-Z]\w+)""#, &["src/core/readiness.rs"]);
    let categories = said(
        r#"=> "([A-Z]\w+)""#,
        &["src/k8s/controller/validate.rs", "src/k8s/controller/claims.rs", "src/k8s/secrets.rs", "src/k8s/routing.rs"],
    );
    for words in [&answers, &failures, &readiness, &categories] {
        assert!(words.len() > 2, "{words:?}");
        assert_eq!(missing(words, "docs/conditions.md"), Vec::<String>::new());
    }
}
