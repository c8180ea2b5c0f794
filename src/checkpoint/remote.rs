//! Models that are not on this machine: what has to know about them opens them as a folder of headers and small files,
//! and their weights are read by position.
//!
//! Must not: know a protocol. Who speaks one implements [`Remote`], and [`super::Stores`] carries it.

use std::error::Error;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Origin;
use crate::units::Bytes;

/// Why a model cannot be had.
pub type RemoteError = Box<dyn Error + Send + Sync>;

/// Finds models on servers.
pub trait Remote: Debug + Send + Sync {
    /// The model that `name` names; `None` if it is no name of a model on a server, or none may be asked and nothing of
    /// it is known here.
    ///
    /// # Errors
    /// Where it names one, and that cannot be had.
    fn find(&self, name: &str) -> Result<Option<RemoteModel>, RemoteError>;
}

/// A model that is not on this machine.
#[derive(Clone, Debug)]
pub struct RemoteModel {
    /// Its name in reports.
    pub name: String,
    /// How the user named it.
    pub origin: Origin,
    /// Its headers and small files.
    pub place: ModelFiles,
    /// The rest of it; `None` where all of it is here after all.
    pub source: Option<Source>,
}

/// Where the headers and small files of a model are.
#[derive(Clone, Debug)]
pub enum ModelFiles {
    /// A folder as a Hugging Face directory. A weight file is there as its header, with the name of one.
    Directory(PathBuf),
    /// A safetensors file, alone.
    Safetensors(PathBuf),
    /// The first file of a GGUF and its projector.
    Gguf {
        /// The file.
        model: PathBuf,
        /// The projector.
        projector: Option<PathBuf>,
        /// The parameters that Ollama serves it with.
        parameters: Option<PathBuf>,
    },
}

/// A model on a server, pinned to one state of it.
#[derive(Clone, Debug)]
pub struct Source {
    /// What pins its state, such as `huggingface.co/ORG/NAME@COMMIT`.
    pub pinned: String,
    /// Names of all files in its repository.
    pub listing: Vec<String>,
    /// Its weights.
    pub weights: Arc<dyn RemoteWeights>,
}

/// A range of a weight file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRange {
    /// The file, by the path of its header on this machine.
    pub file: PathBuf,
    /// Bytes of the whole file.
    pub range: Range<u64>,
}

/// The weight files of a model on a server. Each is named by the path of its header on this machine.
pub trait RemoteWeights: Debug + Send + Sync {
    /// The size of the whole file.
    fn size(&self, file: &Path) -> Option<Bytes>;

    /// What a message calls the file.
    fn shown(&self, file: &Path) -> String;

    /// Fills `out` with the bytes of `file` from `start` on.
    ///
    /// # Errors
    /// Where they cannot be had, or are not those of the pinned state.
    fn read(&self, file: &Path, start: u64, out: &mut [u8]) -> io::Result<()>;

    /// Announces that `ranges` will be read, mostly in this order, so that they are fetched ahead, over several
    /// connections. What was fetched ahead before is dropped.
    fn fetch_ahead(&self, ranges: Vec<FileRange>);

    /// Whether the server states a digest for `file`, and `content`, read to its end, has it.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where `content` has another one; what reading says.
    fn verify(&self, file: &Path, content: &mut dyn io::Read) -> io::Result<bool>;

    /// Ends fetching ahead. Returns the names of files that were read and whose contents could not be compared with the
    /// digest that the server states for them, each with the reason.
    ///
    /// # Errors
    /// Where a digest is another.
    fn finish(&self) -> io::Result<Vec<String>>;
}

/// Where the header of a weight file is kept: `model.safetensors` as `model.header.safetensors`.
pub fn header_path(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let end = path.extension().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{stem}.header.{end}"))
}

/// The path of a file that is there; else that of its header, if that is.
pub(super) fn there(path: &Path) -> Option<PathBuf> {
    let header = || header_path(path);
    let exists = |path: &PathBuf| std::fs::symlink_metadata(path).is_ok();
    Some(path.to_owned())
        .filter(exists)
        .or_else(|| Some(header()).filter(exists))
}
