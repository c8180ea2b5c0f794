//! Weight files of formats that are not read here, recognised by their names, and how to convert them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::{OtherKind, importance_matrix};
use crate::input::display_name;

/// A format of weight files that is not read.
struct UnreadFormat {
    /// The start of file names, in lower case.
    start: &'static str,
    /// Ends of file names, in lower case.
    ends: &'static [&'static str],
    what: &'static str,
    way_out: &'static str,
}

/// The more specific first.
const FORMATS: &[UnreadFormat] = &[
    UnreadFormat {
        start: "params_shard_",
        ends: &[".bin"],
        what: "MLC's format, for its own runtime",
        way_out: "give the model that it was made from, and plan MLC for it with --runtime mlc",
    },
    UnreadFormat {
        start: "openvino_",
        ends: &[".bin", ".xml"],
        what: "OpenVINO's format, for Intel's processors",
        way_out: "download the *.safetensors or the GGUF of the model that it was exported from",
    },
    UnreadFormat {
        start: "",
        ends: &[".bin", ".pth", ".pt", ".ckpt"],
        what: "PyTorch's pickle format, which can run code when it is read",
        way_out: "load the model with Transformers and write it with `save_pretrained(DIRECTORY, safe_serialization=True)`, \
                  or download the repository's *.safetensors",
    },
    UnreadFormat {
        start: "",
        ends: &[".onnx", ".onnx_data", ".onnx.data"],
        what: "ONNX, a graph for another runtime",
        way_out: "download the *.safetensors or the GGUF of the model that it was exported from",
    },
    UnreadFormat {
        start: "",
        ends: &[".msgpack"],
        what: "Flax's format",
        way_out: "load the model with Transformers (`from_pretrained(DIRECTORY, from_flax=True)`) and write it with \
                  `save_pretrained`, or download the repository's *.safetensors",
    },
    UnreadFormat {
        start: "",
        ends: &[".h5", ".keras"],
        what: "TensorFlow's format",
        way_out: "load the model with Transformers (`from_pretrained(DIRECTORY, from_tf=True)`) and write it with \
                  `save_pretrained`, or download the repository's *.safetensors",
    },
    UnreadFormat {
        start: "",
        ends: &[".npz", ".npy"],
        what: "NumPy's format",
        way_out: "download the repository's *.safetensors, or the GGUF of the same model",
    },
    UnreadFormat {
        start: "",
        ends: &[
            ".engine",
            ".plan",
            ".tflite",
            ".task",
            ".litertlm",
            ".mlmodel",
            ".mlpackage",
            ".nemo",
        ],
        what: "a format of another runtime",
        way_out: "download the *.safetensors or the GGUF of the model that it was made from",
    },
];

/// PyTorch files that hold no weights.
const NO_WEIGHTS: &[&str] = &[
    "training_args.bin",
    "optimizer.pt",
    "optimizer.bin",
    "scheduler.pt",
    "rng_state.pth",
];

/// Ends of the names that programs give to a file while they download it.
const UNFINISHED: &[&str] = &[
    ".aria2",
    ".crdownload",
    ".download",
    ".incomplete",
    ".part",
    ".partial",
];

fn is_unfinished(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    UNFINISHED.iter().any(|end| name.ends_with(end))
}

const FINISH: &str = "let the download finish, or restart it (`hf download` resumes)";

fn format(name: &str) -> Option<&'static UnreadFormat> {
    let name = name.to_ascii_lowercase();
    let weights = !NO_WEIGHTS.contains(&name.as_str()) && !name.starts_with("rng_state");
    let is = |format: &&UnreadFormat| {
        name.starts_with(format.start) && format.ends.iter().any(|end| name.ends_with(end))
    };
    FORMATS.iter().filter(|_| weights).find(is)
}

/// A directory whose only weights are of a format that is not read.
pub(in crate::checkpoint) fn foreign_weights<'a>(
    directory: &Path,
    files: &'a [String],
) -> Option<OtherKind> {
    let in_folder = files
        .iter()
        .any(|name| name == "onnx")
        .then_some("model.onnx");
    let mut names = files.iter().map(String::as_str).chain(in_folder);
    let read = |name: &'a str| match format(name) {
        Some(format) => Some((name, format.what, format.way_out)),
        None => is_unfinished(name).then_some((name, "an unfinished download", FINISH)),
    };
    let (name, what, way_out) = names.find_map(read)?;
    let alone = if files.iter().any(|name| name == "config.json") {
        format!(
            ", or give {} to plan from the configuration alone",
            directory.join("config.json").display()
        )
    } else {
        String::new()
    };
    Some(OtherKind::new(
        format!("a model whose weights are {} ({what})", super::quoted(name)),
        format!("{way_out}{alone}"),
    ))
}

/// The kind of a single file that is neither safetensors nor GGUF nor JSON, by its name or its first bytes.
pub(in crate::checkpoint) fn unread_file(path: &Path, file: &mut File) -> Option<OtherKind> {
    let name = display_name(path);
    let mut start = Vec::new();
    let read = file.take(512).read_to_end(&mut start);
    if read.is_ok() && is_old_importance(&start) {
        return Some(importance_matrix());
    }
    if is_unfinished(&name) {
        return Some(OtherKind::new("an unfinished download", FINISH));
    }
    let format = format(&name)?;
    Some(OtherKind::new(
        format!("a file of weights in {}", format.what),
        format.way_out,
    ))
}

/// Whether a file starts as llama.cpp's first format of importance matrices does. The format has no magic number: a count
/// of entries, then for each the length of its name and the name.
fn is_old_importance(start: &[u8]) -> bool {
    let number = |at: usize| {
        let bytes: [u8; 4] = start.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_le_bytes(bytes) as usize)
    };
    let name = number(4).and_then(|length| start.get(8..8 + length.min(512)));
    number(0).is_some_and(|entries| (1..1 << 20).contains(&entries))
        && name.is_some_and(|name| name.is_ascii() && name.ends_with(b".weight"))
}
