//! Who may know whom, and which crates stay in which room.

use crate::graph::{Graph, within};

/// A room of the house and the rooms that it may know besides itself.
struct Room {
    name: &'static str,
    knows: &'static [&'static str],
}

/// The drawing in `docs/architecture.md`. A folder that is not here is not part of the house.
const ROOMS: &[Room] = &[
    Room { name: "core", knows: &[] },
    Room { name: "engine", knows: &["core"] },
    Room { name: "api", knows: &[] },
    Room { name: "telemetry", knows: &["engine", "core"] },
    Room { name: "mysql", knows: &["engine", "core"] },
    Room { name: "k8s", knows: &["api", "engine", "core"] },
    Room { name: "hooks", knows: &["engine", "core"] },
    Room { name: "http", knows: &["api", "engine", "core"] },
    Room { name: "app", knows: &["k8s", "mysql", "http", "hooks", "telemetry", "engine", "core"] },
    Room { name: "cli", knows: &["app", "api", "k8s", "mysql", "http", "hooks", "telemetry", "engine", "core"] },
    Room { name: "main", knows: &["cli"] },
    Room { name: "testing", knows: &["api", "engine", "core"] },
    Room { name: "bin", knows: &["testing", "core"] },
];

/// A file that may know a room although the drawing says no. One that is not needed any more is a fault.
struct Exception {
    file: &'static str,
    room: &'static str,
    /// Why; for whoever reads this.
    #[expect(dead_code, reason = "for people")]
    because: &'static str,
}

const EXCEPTIONS: &[Exception] = &[
    Exception {
        file: "k8s::events",
        room: "telemetry",
        because: "a fact becomes log line, metric and Event in one place; this publishes what it says",
    },
    Exception {
        file: "app",
        room: "api",
        because: "the records of a cluster are handed on from the controller as they are",
    },
    Exception { file: "app::cluster", room: "api", because: "the same" },
    Exception { file: "app::orphans", room: "api", because: "the same, and whether there is such a cluster" },
    Exception { file: "app::cluster::report", room: "api", because: "the same: back to the shell, which tends them" },
    Exception {
        file: "app::feed",
        room: "api",
        because: "the one place where words of the resource become words of the MySQL shell",
    },
];

/// All that the core may use besides itself. What is not here is a clock, IO or a thread; of `std::net` the
/// addresses are meant and of `std::sync` Arc, clippy.toml bans the rest.
const CORE_CRATES: &[&str] = &["serde", "jiff", "regex", "thiserror"];
const CORE_STD: &[&str] = &["std::collections", "std::fmt", "std::mem", "std::net", "std::str", "std::sync"];

/// Crates that stay in some rooms: the outside has one door each.
const KEPT: &[(&str, &[&str])] = &[
    ("kube", &["api", "k8s", "app", "testing"]),
    ("k8s_openapi", &["api", "k8s", "testing"]),
    ("schemars", &["api"]),
    ("mysql_async", &["mysql", "testing"]),
    ("rustls", &["mysql"]),
    ("axum", &["http", "app", "testing", "bin"]),
    ("prometheus", &["telemetry"]),
    ("rustix", &["engine", "testing"]),
    ("clap", &["cli", "bin"]),
    ("anyhow", &["main", "cli", "bin"]),
];

/// Everything in `graph` that breaks a rule, one line each.
pub fn broken(graph: &Graph) -> Vec<String> {
    judge(graph, EXCEPTIONS)
}

fn judge(graph: &Graph, exceptions: &[Exception]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut used = vec![false; exceptions.len()];
    for (file, known) in &graph.files {
        let from = room_of(file);
        let Some(room) = ROOMS.iter().find(|room| room.name == from) else {
            if !from.is_empty() {
                broken.push(format!("{file} is in no room: draw it in docs/architecture.md and add it to the rules"));
            }
            continue;
        };
        for other in known {
            let to = room_of(other);
            let excepted = exceptions.iter().position(|exception| exception.file == file && exception.room == to);
            if to == from || room.knows.contains(&to) {
                continue;
            }
            match excepted.and_then(|index| used.get_mut(index)) {
                Some(used) => *used = true,
                None => broken.push(format!("{file} knows {other}: {from} may not know {to}")),
            }
        }
    }
    let idle = exceptions.iter().zip(used).filter(|(_, used)| !used);
    broken.extend(idle.map(|(it, _)| format!("{} does not know {} any more: remove the exception", it.file, it.room)));
    broken
        .extend(graph.crates.iter().flat_map(|(file, crates)| crates.iter().filter_map(|name| misplaced(file, name))));
    broken
}

fn misplaced(file: &str, name: &str) -> Option<String> {
    let room = room_of(file);
    if room == "core" && name.starts_with("std::") {
        return (!CORE_STD.contains(&name)).then(|| format!("{file} uses {name}: the core uses {CORE_STD:?} alone"));
    }
    if room == "core" {
        return (!CORE_CRATES.contains(&name))
            .then(|| format!("{file} uses {name}: the core uses {CORE_CRATES:?} alone"));
    }
    let (_, rooms) = KEPT.iter().find(|(kept, _)| *kept == name)?;
    (!rooms.contains(&room)).then(|| format!("{file} uses {name}: it stays in {rooms:?}"))
}

fn room_of(file: &str) -> &str {
    ROOMS.iter().map(|room| room.name).find(|name| within(file, name)).unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::{Exception, Graph, judge};

    fn graph(files: &[(&str, &[&str])], crates: &[(&str, &[&str])]) -> Graph {
        let owned = |rows: &[(&str, &[&str])]| {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
            rows.iter().map(|(file, names)| ((*file).to_owned(), set(names))).collect()
        };
        Graph { files: owned(files), crates: owned(crates) }
    }

    #[test]
    fn a_forbidden_edge_is_told_and_an_allowed_one_is_not() {
        let graph = graph(&[("core::id", &["mysql::rows"]), ("mysql::rows", &["core::id", "mysql::error"])], &[]);
        assert_eq!(judge(&graph, &[]), ["core::id knows mysql::rows: core may not know mysql"]);
    }

    #[test]
    fn shells_do_not_know_each_other_and_nobody_knows_the_fixtures() {
        let graph = graph(&[("k8s::lease", &["mysql::watch"]), ("engine", &["testing::folder"])], &[]);
        let wanted = [
            "engine knows testing::folder: engine may not know testing",
            "k8s::lease knows mysql::watch: k8s may not know mysql",
        ];
        assert_eq!(judge(&graph, &[]), wanted);
    }

    #[test]
    fn an_exception_holds_for_its_file_and_only_while_it_is_needed() {
        let exception = |file| Exception { file, room: "api", because: "a test" };
        let graph = graph(&[("app::feed", &["api::common"]), ("app::tell", &["api"])], &[]);
        let wanted =
            ["app::tell knows api: app may not know api", "app does not know api any more: remove the exception"];
        assert_eq!(judge(&graph, &[exception("app::feed"), exception("app")]), wanted);
    }

    #[test]
    fn a_file_outside_every_room_is_told() {
        let told = judge(&graph(&[("helpers", &[]), ("coreutils", &[]), ("", &[])], &[]), &[]);
        assert_eq!(told.len(), 2, "{told:?}");
    }

    #[test]
    fn a_crate_outside_its_rooms_is_told() {
        let graph = graph(
            &[],
            &[
                ("core::id", &["serde", "std::fmt", "std::fs", "tokio"]),
                ("k8s::lease", &["kube", "mysql_async", "std::fs"]),
            ],
        );
        let told = judge(&graph, &[]);
        let places = ["core::id uses std::fs:", "core::id uses tokio:", "k8s::lease uses mysql_async:"];
        assert_eq!(told.len(), places.len(), "{told:?}");
        assert!(told.iter().zip(places).all(|(told, place)| told.starts_with(place)), "{told:?}");
    }
}
