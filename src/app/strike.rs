//! Points of a recovery at which a test ends or freezes this process from within, since no signal from outside
//! comes that exactly. Only with the feature `testing`.

use std::{
    process::Command,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

/// A signal and a point, as `KILL before:Claim`. Strikes once.
const VARIABLE: &str = "BATON_STRIKE";

/// Passes the point `when` (before, after) the side effect `what`.
pub(super) fn at(when: &str, what: &str) {
    static WANTED: OnceLock<Option<String>> = OnceLock::new();
    static DONE: AtomicBool = AtomicBool::new(false);
    let Some(wanted) = WANTED.get_or_init(|| std::env::var(VARIABLE).ok()) else { return };
    let Some((signal, point)) = wanted.split_once(' ') else { return };
    if point.split_once(':') == Some((when, what)) && !DONE.swap(true, Ordering::SeqCst) {
        let process = std::process::id().to_string();
        let _struck = Command::new("kill").args([format!("-{signal}"), process]).status();
    }
}
