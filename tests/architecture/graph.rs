//! Which file knows which, and which crates it uses, from the names in the sources.

use std::collections::{BTreeMap, BTreeSet};

use crate::names::{Name, said};

/// The graph. Files go by their module, `engine::cluster`; the root of the library is the empty text,
/// the programs are `main` and `bin::NAME`.
#[derive(Debug, Default)]
pub struct Graph {
    /// For each file the files that it knows.
    pub files: BTreeMap<String, BTreeSet<String>>,
    /// For each file the crates that it uses; of the standard library the parts, `std::fmt`.
    pub crates: BTreeMap<String, BTreeSet<String>>,
}

/// `src/engine/cluster.rs` is `engine::cluster`.
fn module(path: &str) -> Name {
    let path = path.strip_prefix("src/").unwrap().strip_suffix(".rs").unwrap();
    let words = path.split('/').filter(|word| !matches!(*word, "mod" | "lib"));
    words.map(str::to_owned).collect()
}

impl Graph {
    /// The graph of `sources`, paths with texts, where `crates` may be used.
    pub fn of(sources: &[(String, String)], crates: &[String]) -> Self {
        let read: BTreeMap<Name, _> = sources.iter().map(|(path, text)| (module(path), said(text))).collect();
        let tests: Vec<Name> = read
            .iter()
            .flat_map(|(module, said)| {
                said.test_modules.iter().map(|test| [module.as_slice(), std::slice::from_ref(test)].concat())
            })
            .collect();
        let mut graph = Self::default();
        for (module, said) in &read {
            if tests.iter().any(|test| module.starts_with(test)) {
                continue;
            }
            let files = graph.files.entry(module.join("::")).or_default();
            let used = graph.crates.entry(module.join("::")).or_default();
            for name in &said.names {
                match target(module, name) {
                    Target::House(words) => {
                        files.extend(longest(&words, |words| read.contains_key(words)).map(|found| found.join("::")));
                    }
                    Target::Other(first) if crates.contains(first) => {
                        used.insert(first.clone());
                    }
                    Target::Other(first) if first == "std" => {
                        used.extend(name.get(1).map(|part| format!("std::{part}")));
                    }
                    Target::Other(first) => {
                        let child = [module.as_slice(), std::slice::from_ref(first)].concat();
                        files.extend(read.contains_key(&child).then(|| child.join("::")));
                    }
                }
            }
            files.remove(&module.join("::"));
        }
        graph
    }

    /// Whether one file knows another.
    pub fn knows(&self, from: &str, to: &str) -> bool {
        self.files.get(from).is_some_and(|known| known.contains(to))
    }

    /// Circles of files, one line each. That a file knows the one above its folder is left out: the two are
    /// one room, with one purpose.
    pub fn circles(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut done = BTreeSet::new();
        for file in self.files.keys() {
            self.walk(file, &mut Vec::new(), &mut done, &mut found);
        }
        found
    }

    fn walk<'a>(
        &'a self,
        file: &'a str,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
        found: &mut Vec<String>,
    ) {
        if let Some(begin) = way.iter().position(|earlier| *earlier == file) {
            found.push(format!("{} -> {file}", way.split_at(begin).1.join(" -> ")));
            return;
        }
        if !done.insert(file) {
            return;
        }
        way.push(file);
        let known = self.files.get(file).into_iter().flatten();
        for next in known.filter(|next| !within(file, next)) {
            self.walk(next, way, done, found);
        }
        way.pop();
    }
}

/// Whether `inner` is `outer` or below it.
pub fn within(inner: &str, outer: &str) -> bool {
    outer.is_empty() || inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Where a name leads.
enum Target<'a> {
    /// Into the library, by the words from its root.
    House(Name),
    /// To a crate or to something of the file's own.
    Other(&'a String),
}

fn target<'a>(module: &Name, name: &'a Name) -> Target<'a> {
    let (first, rest) = name.split_first().unwrap();
    match first.as_str() {
        "crate" | "baton" => Target::House(rest.to_vec()),
        "self" => Target::House([module, rest].concat()),
        "super" => {
            let ups = name.iter().take_while(|word| *word == "super").count();
            let above = module.get(..module.len().saturating_sub(ups)).unwrap_or_default();
            Target::House([above, name.get(ups..).unwrap_or_default()].concat())
        }
        _ => Target::Other(first),
    }
}

/// The longest beginning of `words` that `is_module`.
fn longest(words: &Name, is_module: impl Fn(&Name) -> bool) -> Option<Name> {
    (1..=words.len()).rev().map(|length| words.iter().take(length).cloned().collect()).find(is_module)
}

#[cfg(test)]
mod tests {
    use super::Graph;

    fn graph(sources: &[(&str, &str)]) -> Graph {
        let owned: Vec<_> = sources.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Graph::of(&owned, &["kube".to_owned()])
    }

    #[test]
    fn names_lead_to_files() {
        let graph = graph(&[
            ("src/lib.rs", "pub mod core; pub mod k8s;"),
            ("src/core.rs", "mod id; #[cfg(test)] mod tests; use id::Id;"),
            ("src/core/id.rs", "use super::step::Step; pub struct Id;"),
            ("src/core/step.rs", ""),
            ("src/core/tests.rs", "use crate::k8s::Lease;"),
            ("src/k8s.rs", "use crate::core::id::Id; fn f(x: std::fmt::Error) -> kube::Client { self::g() }"),
        ]);
        assert!(graph.knows("core", "core::id"), "{graph:?}");
        assert!(graph.knows("core::id", "core::step"), "{graph:?}");
        assert!(graph.knows("k8s", "core::id"), "{graph:?}");
        assert!(!graph.files.contains_key("core::tests"), "{graph:?}");
        assert_eq!(graph.crates["k8s"].iter().collect::<Vec<_>>(), ["kube", "std::fmt"]);
        assert_eq!(graph.circles(), Vec::<String>::new());
    }

    #[test]
    fn a_circle_is_told_once_with_its_way() {
        let graph = graph(&[
            ("src/a.rs", "use crate::b::B;"),
            ("src/b.rs", "use crate::b::c::C; mod c;"),
            ("src/b/c.rs", "use super::B; use crate::d::D;"),
            ("src/d.rs", "use crate::a::A; use crate::e::E;"),
            ("src/e.rs", "use crate::d::D;"),
        ]);
        assert_eq!(graph.circles(), ["a -> b -> b::c -> d -> a", "d -> e -> d"]);
    }
}
