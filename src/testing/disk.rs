//! A small disk of its own for a test's server, to be frozen or filled: a file with a file system, mounted.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{folder::Folder, process::run};

/// A mounted file system; gone with this value.
#[derive(Debug)]
pub struct Disk {
    mounted: PathBuf,
    _folder: Folder,
}

impl Disk {
    /// Makes and mounts one of `megabytes`; needs root.
    ///
    /// # Errors
    /// When a tool fails; its words are in the error.
    pub fn new(megabytes: u64) -> io::Result<Self> {
        let folder = Folder::new()?;
        let (image, mounted) = (folder.path().join("image"), folder.path().join("disk"));
        fs::File::create(&image)?.set_len(megabytes << 20)?;
        fs::create_dir(&mounted)?;
        run("mkfs.ext4", &["-q", "-m", "0", &image.to_string_lossy()])?;
        run("mount", &["-o", "loop", &image.to_string_lossy(), &mounted.to_string_lossy()])?;
        Ok(Self { mounted, _folder: folder })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    /// Whatever writes waits until the answer is dropped.
    ///
    /// # Errors
    /// When it is frozen already.
    pub fn freeze(&self) -> io::Result<Frozen> {
        run("fsfreeze", &["--freeze", &self.mounted.to_string_lossy()])?;
        Ok(Frozen(self.mounted.clone()))
    }
}

/// A disk that does not write.
#[derive(Debug)]
pub struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        drop(run("fsfreeze", &["--unfreeze", &self.0.to_string_lossy()]));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that is just being ended may still use it: detached now, gone with it.
        drop(run("umount", &["--lazy", &self.mounted.to_string_lossy()]));
    }
}
