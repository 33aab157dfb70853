//! Folders of tests: gone when dropped, and when their process died before that, at the next test.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

/// Folders of this process so far.
static FOLDERS: AtomicU32 = AtomicU32::new(0);

/// A folder below the machine's temporary one, removed when dropped.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new folder. Folders of processes that are gone are removed on the way.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> io::Result<Self> {
        let parent = std::env::temp_dir().join("baton-tests");
        fs::create_dir_all(&parent)?;
        for entry in fs::read_dir(&parent)?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(owner).exists() {
                drop(fs::remove_dir_all(entry.path()));
            }
        }
        let name = format!("{}-{}", std::process::id(), FOLDERS.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_end_with_their_owner() {
        let first = Folder::new().unwrap();
        let left_over = first.path().parent().unwrap().join("4194305-0");
        fs::create_dir_all(left_over.join("data")).unwrap();
        let path = first.path().to_owned();
        let second = Folder::new().unwrap();
        assert!(path.exists() && !left_over.exists() && path != second.path());
        drop(first);
        assert!(!path.exists() && second.path().exists());
    }
}
