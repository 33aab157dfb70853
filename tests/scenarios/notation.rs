//! Reads scenarios out of Markdown: a heading, prose, and a fenced block of sections. A section is a
//! word with a colon in the first column, with its words behind it or indented lines below it.

use std::collections::BTreeMap;

/// Sections a scenario may have. A new kind of expectation is a new name here and a check in `expect`.
const SECTIONS: [&str; 5] = ["policy", "servers", "primary", "events", "expect"];

/// One line of a section, without its indent.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    /// Indented further than the section's own lines: belongs to the line above.
    pub(crate) nested: bool,
    pub(crate) text: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// File and heading.
    pub(crate) title: String,
    sections: BTreeMap<String, Vec<Line>>,
}

impl Scenario {
    /// The lines of a section; none when it is not there.
    pub(crate) fn lines(&self, section: &str) -> &[Line] {
        self.sections.get(section).map(Vec::as_slice).unwrap_or_default()
    }
}

/// All scenarios of a file.
pub(crate) fn read(file: &str, text: &str) -> Vec<Scenario> {
    let mut found = Vec::new();
    let mut heading = String::new();
    let mut block: Option<Vec<&str>> = None;
    for line in text.lines() {
        match &mut block {
            Some(lines) if line.trim() == "```" => {
                found.push(scenario(format!("{file}: {heading}"), lines));
                block = None;
            }
            Some(lines) => lines.push(line),
            None if line.trim() == "```scenario" => block = Some(Vec::new()),
            None => heading = line.strip_prefix("## ").map_or(heading, ToOwned::to_owned),
        }
    }
    assert!(block.is_none(), "{file}: a block is not closed");
    assert!(!found.is_empty(), "{file}: no scenario");
    found
}

fn scenario(title: String, lines: &[&str]) -> Scenario {
    let mut sections: BTreeMap<String, Vec<Line>> = BTreeMap::new();
    let mut current = String::new();
    for line in lines.iter().map(|line| line.split('#').next().unwrap_or_default().trim_end()) {
        if line.is_empty() {
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        if indent > 0 {
            let text = line.trim_start().to_owned();
            sections.entry(current.clone()).or_default().push(Line { nested: indent > 2, text });
            continue;
        }
        let (key, rest) = line.split_once(':').unwrap_or_else(|| panic!("{title}: no section: {line:?}"));
        assert!(SECTIONS.contains(&key), "{title}: unknown section {key:?}, known are {SECTIONS:?}");
        key.clone_into(&mut current);
        let lines = sections.entry(current.clone()).or_default();
        if !rest.trim().is_empty() {
            lines.push(Line { nested: false, text: rest.trim().to_owned() });
        }
    }
    Scenario { title, sections }
}
