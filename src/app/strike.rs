//! Points at which a test ends or freezes this process from within, before and after each effect on the world, since
//! no signal from outside comes that exactly. Only with the feature `testing`: without it, nothing happens there.

use std::{
    process::Command,
    sync::{Mutex, PoisonError},
};

/// Names a file with a line for each strike: a signal and a point, as `KILL before:Claim`. Each strikes once.
const VARIABLE: &str = "BATON_STRIKE";

/// Has the effect `what`, and passes the points before and after it.
pub(super) async fn passing<T>(what: &str, effect: impl Future<Output = T>) -> T {
    pass("before", what);
    let done = effect.await;
    pass("after", what);
    done
}

fn pass(when: &str, what: &str) {
    if cfg!(feature = "testing")
        && let Ok(file) = std::env::var(VARIABLE)
        && let Some(signal) = take(&file, &format!("{when}:{what}"))
    {
        let process = std::process::id().to_string();
        let _struck = Command::new("kill").args([format!("-{signal}"), process]).status();
    }
}

/// The signal of the first strike at `point`, which is taken out of the file.
fn take(file: &str, point: &str) -> Option<String> {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let text = std::fs::read_to_string(file).ok()?;
    let strikes = || text.lines().filter_map(|line| Some((line, line.split_once(' ')?)));
    let (struck, (signal, _)) = strikes().find(|(_, (_, at))| *at == point)?;
    let left: String = strikes().filter(|(line, _)| *line != struck).map(|(line, _)| format!("{line}\n")).collect();
    std::fs::write(file, left).ok()?;
    Some(signal.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::folder::Folder;

    #[test]
    fn each_strikes_once() {
        let folder = Folder::new().unwrap();
        let file = folder.path().join("strikes");
        std::fs::write(&file, "STOP before:Begin\nKILL after:Save:Promoting\n").unwrap();
        let file = file.to_str().unwrap();
        assert_eq!(take(file, "after:Begin"), None);
        assert_eq!(take(file, "after:Save:Promoting").as_deref(), Some("KILL"));
        assert_eq!(take(file, "after:Save:Promoting"), None);
        assert_eq!(take(file, "before:Begin").as_deref(), Some("STOP"));
    }
}
