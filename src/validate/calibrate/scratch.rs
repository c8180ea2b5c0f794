//! A file for a synthetic model: in memory and without a name where the system has such files, so that nothing is left
//! of it however the program ends, and nothing is written to a disk. Programs that this one starts open it by its path.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The file, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct ScratchFile {
    file: File,
    path: PathBuf,
}

impl ScratchFile {
    #[cfg(target_os = "linux")]
    pub(super) fn new() -> io::Result<ScratchFile> {
        use std::os::fd::AsRawFd;

        use rustix::fs::{MemfdFlags, memfd_create};
        let file = File::from(memfd_create(c"orinplan-calibrate", MemfdFlags::CLOEXEC)?);
        let path = PathBuf::from(format!(
            "/proc/{}/fd/{}",
            std::process::id(),
            file.as_raw_fd()
        ));
        Ok(ScratchFile { file, path })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn new() -> io::Result<ScratchFile> {
        let name = format!("orinplan-calibrate-{}.gguf", std::process::id());
        let path = std::env::temp_dir().join(name);
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(ScratchFile { file, path })
    }

    /// The file to write to.
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The path to open it by.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(not(target_os = "linux"))]
impl Drop for ScratchFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
