//! A realtime clock of its own for a process: it can jump while the process runs, and nobody else's does.

use std::{
    fs, io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use super::process::run;

/// What is preloaded, built by whatever links Rust programs. Debian's libfaketime cannot be used: with it mysqld 9.7
/// needs half a minute to start, since it takes deadlines of the monotonic clock for those of the other.
const SOURCE: &str = include_str!("clock.c");

/// A clock that runs with the machine's, at a distance that can change at any time.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    file: PathBuf,
}

impl Clock {
    /// A clock that is right, with its files in `folder`, where no other one has that `name`.
    ///
    /// # Errors
    /// When there is no C compiler, or a file cannot be written.
    pub fn new(folder: &Path, name: &str) -> io::Result<Self> {
        let (source, library) = (folder.join("clock.c"), folder.join("clock.so"));
        if !library.exists() {
            fs::write(&source, SOURCE)?;
            let [source, library] = [&source, &library].map(|path| path.to_string_lossy());
            run("cc", &["-shared", "-fPIC", "-O2", "-o", &library, &source])?;
        }
        let clock = Self { library, file: folder.join(name) };
        fs::write(&clock.file, 0_i64.to_ne_bytes())?;
        Ok(clock)
    }

    /// What a process has in its environment that goes by this clock.
    #[must_use]
    pub fn environment(&self) -> [String; 2] {
        [format!("LD_PRELOAD={}", self.library.display()), format!("BATON_CLOCK={}", self.file.display())]
    }

    /// Lets it jump: from now on it is `offset_ms` milliseconds ahead of the machine's, or behind.
    ///
    /// # Errors
    /// When its file cannot be written.
    pub fn jump(&self, offset_ms: i64) -> io::Result<()> {
        // In place: processes have it mapped.
        fs::OpenOptions::new().write(true).open(&self.file)?.write_all_at(&offset_ms.to_ne_bytes(), 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::folder::Folder, *};

    #[test]
    fn a_process_goes_by_its_own_clock() {
        let folder = Folder::new().unwrap();
        let (one, other) = (Clock::new(folder.path(), "one").unwrap(), Clock::new(folder.path(), "other").unwrap());
        one.jump(-3_600_000).unwrap();
        let seconds = |clock: &Clock| {
            let [library, file] = clock.environment();
            run("env", &[&library, &file, "date", "+%s"]).unwrap().trim().parse::<i64>().unwrap()
        };
        let behind_s = seconds(&other) - seconds(&one);
        assert!((3_595..=3_600).contains(&behind_s), "{behind_s}");
    }
}
