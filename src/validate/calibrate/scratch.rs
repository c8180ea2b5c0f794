//! A file for a model that is only a shape: in memory and without a name where the system can do that, so
//! that nothing is left of it however the program ends, and nothing is written to a disk meanwhile.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The file, which is gone once this is.
#[derive(Debug)]
pub(super) struct Scratch {
    file: File,
    path: PathBuf,
}

impl Scratch {
    #[cfg(target_os = "linux")]
    pub(super) fn new() -> io::Result<Scratch> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{MemfdFlags, memfd_create};
        let file = File::from(memfd_create(c"orinplan-calibrate", MemfdFlags::CLOEXEC)?);
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Scratch { file, path })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new() -> io::Result<Scratch> {
        let name = format!("orinplan-calibrate-{}.gguf", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Scratch { file, path })
    }

    /// Where it is written.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Where it is opened.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(not(target_os = "linux"))]
impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
