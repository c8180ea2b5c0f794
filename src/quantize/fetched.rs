//! Writes a file of a server as it is, compared with the digest that the server states.

use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use super::destination::{Destination, OutputError, Start};
use super::error::QuantizeError;
use super::journal::{self, Identity, Journal};
use super::packed::PackedError;
use super::partial::{Leftover, OutputForm, Partial};
use super::pool::Progress;
use crate::checkpoint::{Checkpoint, CheckpointFile, FileRange, Source};
use crate::units::Bytes;

/// Bytes that are written at a time.
const PIECE: u64 = 1 << 20;

/// A file that was fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Bytes of it that an earlier run fetched.
    pub kept: Bytes,
    /// Whether it was compared with a digest.
    pub checked: bool,
}

/// Fetches the only file of `checkpoint`, which is on a server. It gets its name when it is complete and on the disk; what
/// was fetched of it stays when that ends early.
///
/// # Errors
/// [`QuantizeError`]: the checkpoint is on no server or has several files, the destination cannot or must not be written,
/// an earlier run left a part that is not to be gone on with or is of another state of the source, the file cannot be
/// fetched or has another digest, or `cancel` became true.
pub fn fetch(
    checkpoint: &Checkpoint,
    destination: &Destination<'_>,
    start: Start,
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Fetched, QuantizeError> {
    let (Some(source), [file]) = (&checkpoint.source, checkpoint.files.as_slice()) else {
        let name = checkpoint.name.clone();
        return Err(QuantizeError::NotOneFile { name });
    };
    let target = destination.path;
    let identity = Identity::of(&source.pinned, file.bytes, &[]);
    let begun = journal::begun(destination, start, &identity)?;
    let leftover = match begun {
        Some(_) => Leftover::GoOn,
        None => Leftover::Replace,
    };
    let partial = Partial::create(destination, OutputForm::File, file.bytes, leftover)?;
    let out = partial.file()?;
    let there = out
        .metadata()
        .map_err(|error| OutputError::io(target, error))?;
    // No part of a longer file.
    let kept = Bytes(there.len()).min(file.bytes);
    Journal::begin(target, &identity, &[])?;
    partial.stays().store(true, Ordering::Relaxed);
    let fetched = rest(source, file, (out, kept), cancel, progress).and_then(|unchecked| {
        if kept == Bytes(0) {
            return Ok(unchecked.is_empty());
        }
        // What an earlier run fetched did not pass here.
        let mut whole = File::open(partial.path()).map_err(|e| OutputError::io(target, e))?;
        let verified = source.weights.verify(&file.path, &mut whole);
        verified.map_err(failed)
    });
    match fetched {
        Ok(checked) => {
            partial.commit()?;
            journal::remove(target);
            Ok(Fetched { kept, checked })
        }
        Err(error) => {
            let there = fs::metadata(partial.path()).map_or(0, |metadata| metadata.len());
            if error.is_of_other_content() || there == 0 {
                partial.stays().store(false, Ordering::Relaxed);
                journal::remove(target);
                return Err(error);
            }
            Err(QuantizeError::FetchSuspended {
                there: Bytes(there),
                of: file.bytes,
                source: Box::new(error),
            })
        }
    }
}

fn failed(source: io::Error) -> QuantizeError {
    QuantizeError::Weights(PackedError::Source(source))
}

/// Fetches what follows the first `kept` bytes. Returns the files whose digest could not be checked.
fn rest(
    source: &Source,
    file: &CheckpointFile,
    (mut out, kept): (File, Bytes),
    cancel: &AtomicBool,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<Vec<String>, QuantizeError> {
    use std::io::{Seek, SeekFrom, Write};
    let written = |error| OutputError::io(&file.path, error);
    out.seek(SeekFrom::Start(kept.0)).map_err(written)?;
    source.weights.fetch_ahead(vec![FileRange {
        file: file.path.clone(),
        range: kept.0..file.bytes.0,
    }]);
    let mut bytes = Vec::new();
    let mut start = kept.0;
    while start < file.bytes.0 {
        if cancel.load(Ordering::Relaxed) {
            return Err(QuantizeError::Interrupted);
        }
        bytes.resize(PIECE.min(file.bytes.0 - start) as usize, 0);
        source
            .weights
            .read(&file.path, start, &mut bytes)
            .map_err(failed)?;
        out.write_all(&bytes).map_err(written)?;
        start += bytes.len() as u64;
        progress(Progress {
            bytes: Bytes(start),
            tensors: 0,
        });
    }
    source.weights.finish().map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::Path;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::checkpoint::{RawConfig, RemoteWeights, SourceFormat};
    use crate::gguf::Metadata;
    use crate::inputs::Inputs;

    const NAME: &str = "model.gguf";

    /// A server that breaks behind its first `until` bytes.
    #[derive(Debug)]
    struct Server {
        content: Vec<u8>,
        until: u64,
        /// Where each read began.
        reads: Mutex<Vec<u64>>,
    }

    impl RemoteWeights for Server {
        fn size(&self, _: &Path) -> Option<Bytes> {
            Some(Bytes(self.content.len() as u64))
        }

        fn shown(&self, _: &Path) -> String {
            NAME.to_owned()
        }

        fn read(&self, _: &Path, start: u64, out: &mut [u8]) -> io::Result<()> {
            self.reads.lock().unwrap().push(start);
            if start + out.len() as u64 > self.until {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            out.copy_from_slice(&self.content[start as usize..][..out.len()]);
            Ok(())
        }

        fn fetch_ahead(&self, _: Vec<FileRange>) {}

        fn verify(&self, _: &Path, content: &mut dyn Read) -> io::Result<bool> {
            let mut found = Vec::new();
            content.read_to_end(&mut found)?;
            if found == self.content {
                return Ok(true);
            }
            Err(io::ErrorKind::InvalidData.into())
        }

        fn finish(&self) -> io::Result<Vec<String>> {
            Ok(Vec::new())
        }
    }

    fn served(until: u64) -> (Arc<Server>, Checkpoint) {
        let content = (0..5 * PIECE / 2).map(|n| (n % 251) as u8).collect();
        let reads = Mutex::default();
        let server = Arc::new(Server {
            content,
            until,
            reads,
        });
        let empty = RawConfig::Gguf(Metadata(Vec::new()));
        let checkpoint = Checkpoint {
            files: vec![CheckpointFile {
                path: NAME.into(),
                bytes: Bytes(server.content.len() as u64),
            }],
            source: Some(Source {
                pinned: "server/model@1".to_owned(),
                listing: Vec::new(),
                weights: server.clone(),
            }),
            ..Checkpoint::of("model", SourceFormat::Gguf, empty)
        };
        (server, checkpoint)
    }

    fn to(path: &Path) -> Destination<'_> {
        Destination {
            path,
            overwrite: false,
            inputs: Inputs::default(),
        }
    }

    fn run(checkpoint: &Checkpoint, path: &Path, start: Start) -> Result<Fetched, QuantizeError> {
        let cancel = AtomicBool::new(false);
        fetch(checkpoint, &to(path), start, &cancel, &mut |_| {})
    }

    #[test]
    fn what_was_fetched_is_not_fetched_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (_, broken) = served(2 * PIECE);
        let error = run(&broken, &path, Start::Anew).unwrap_err().to_string();
        assert!(error.contains("2.0 MiB of 2.5 MiB are kept"), "{error}");
        assert!(!path.exists());

        let (server, whole) = served(u64::MAX);
        let error = run(&whole, &path, Start::Anew).unwrap_err();
        assert!(matches!(error, QuantizeError::Begun { .. }), "{error}");
        let mut moved = whole.clone();
        if let Some(source) = &mut moved.source {
            source.pinned = "server/model@2".to_owned();
        }
        let error = run(&moved, &path, Start::WhereItEnded).unwrap_err();
        assert!(matches!(error, QuantizeError::OtherBegun { .. }), "{error}");

        let fetched = run(&whole, &path, Start::WhereItEnded).unwrap();
        let kept = Bytes(2 * PIECE);
        assert_eq!(
            fetched,
            Fetched {
                kept,
                checked: true
            }
        );
        assert_eq!(*server.reads.lock().unwrap(), [2 * PIECE]);
        assert_eq!(fs::read(&path).unwrap(), server.content);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_part_of_another_file_is_found_by_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let (_, broken) = served(2 * PIECE);
        run(&broken, &path, Start::Anew).unwrap_err();
        let partial = folder.path().join("model.gguf.orinplan-partial");
        let mut content = fs::read(&partial).unwrap();
        content[7] ^= 1;
        fs::write(&partial, content).unwrap();
        let (_, whole) = served(u64::MAX);
        let error = run(&whole, &path, Start::WhereItEnded).unwrap_err();
        assert!(error.is_of_other_content(), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
