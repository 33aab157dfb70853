//! Reads the examples of `tests/api`: objects that are accepted, and objects that are refused with the
//! message that their file names.

use std::{fs, path::Path};

use serde_json::Value;

/// What refuses an example.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A CEL rule on each object.
    Rule,
    /// The schema, on each object.
    Schema,
    /// A CEL rule when the second object replaces the first.
    Update,
}

/// One file.
#[derive(Debug)]
pub struct Example {
    /// Its name.
    pub file: String,
    /// What refuses it; meaningless in accepted ones.
    pub by: By,
    /// Part of the message; empty in accepted ones.
    pub message: String,
    /// The objects.
    pub objects: Vec<Value>,
}

/// Examples that are accepted.
pub fn accepted() -> Vec<Example> {
    read("accepted")
}

/// Examples that are refused.
pub fn refused() -> Vec<Example> {
    let examples = read("refused");
    assert!(examples.iter().all(|example| !example.message.is_empty()));
    examples
}

fn read(folder: &str) -> Vec<Example> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api").join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() > 3);
    paths.iter().map(|path| example(path)).collect()
}

fn example(path: &Path) -> Example {
    let text = fs::read_to_string(path).unwrap();
    let header = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    let by = match header("# Refused by:") {
        "schema" => By::Schema,
        "update" => By::Update,
        _ => By::Rule,
    };
    let objects = text.split("---\n").map(|text| serde_saphyr::from_str(text).unwrap()).collect();
    let file = path.file_name().unwrap().to_string_lossy().into_owned();
    Example { file, by, message: header("# Message:").to_owned(), objects }
}
