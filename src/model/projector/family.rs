//! What is special about one kind of projector, as data and small functions: an entry of `families/`.

use super::ProjectorError;
use super::audio::Audio;
use super::config::ProjectorConfig;
use super::images::{EncodedImage, ImageSize};
use super::rows::ProjectorRow;
use super::vision::Vision;
use crate::gguf::Value;

/// A kind of projector.
#[derive(Debug)]
pub struct Family {
    /// llama.cpp's name (`clip.projector_type`).
    pub name: &'static str,
    /// The key that names it: `clip.vision.projector_type` in files that may hold an audio encoder too.
    pub name_key: &'static str,
    /// The `model_type` of the configurations that it belongs to.
    pub model_types: &'static [&'static str],
    /// Patches of a side that are merged into one token, unless the file states another number.
    pub merge: u64,
    /// Reads its dimensions from a configuration.
    pub read: fn(&ProjectorConfig<'_>) -> Result<Vision, ProjectorError>,
    /// Its tensors.
    pub rows: fn(&Vision) -> Vec<ProjectorRow>,
    /// The keys of its metadata behind those that all have.
    pub keys: fn(&ProjectorConfig<'_>, &Vision) -> Vec<(&'static str, Value)>,
    /// Which of llama.cpp's tools its file is like.
    pub form: Form,
    /// What becomes of an image.
    pub image: fn(&Vision, ImageSize) -> EncodedImage,
    /// The picture that memory is reserved for at the start.
    pub reserved: Reserved,
    /// The pass of its encoder.
    pub encoder: Encoder,
    /// The audio encoder that may stand beside it in the file.
    pub audio: Option<&'static AudioFamily>,
}

/// Which of llama.cpp's tools a file is like.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// `convert_hf_to_gguf.py --mmproj`: keys that all kinds share, tensors in the order of the checkpoint.
    Converter,
    /// A script of `legacy-models`: the entry's keys and tensors in the entry's order.
    Script {
        /// The key of what the file holds.
        holds: &'static str,
        /// Whether the model's name is in the file.
        is_named: bool,
        /// `general.description`.
        description: &'static str,
        /// Whether the activation is GELU.
        gelu: fn(&ProjectorConfig<'_>) -> bool,
        /// What is taken from all colours and what they are divided by, if it is not the processor's.
        colours: Option<f32>,
    },
}

/// A kind of audio encoder.
#[derive(Debug)]
pub struct AudioFamily {
    /// llama.cpp's name (`clip.audio.projector_type`).
    pub name: &'static str,
    /// The file has that name, and the keys of this encoder behind those of the other; without it, they stand before them, and
    /// the name of the projector is that of both.
    pub is_named: bool,
    /// The epsilon of its norms, where the configuration does not state one.
    pub eps: f64,
    /// Reads its dimensions from a configuration that has one.
    pub read: fn(&ProjectorConfig<'_>) -> Result<Audio, ProjectorError>,
    /// Its tensors.
    pub rows: fn(&Audio) -> Vec<ProjectorRow>,
    /// Its pass.
    pub pass: AudioPass,
}

/// The pass of an audio encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AudioPass {
    /// A conformer that attends within chunks, over a spectrum.
    Conformer,
    /// One matrix over pieces of the sound.
    Frames,
    /// Two convolutions over a spectrum, then blocks that attend to all of it.
    Whisper,
}

/// The picture that llama.cpp reserves memory for at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The size that the encoder was made for.
    Own,
    /// A square of so many tokens a side.
    Tokens(u64),
}

impl Reserved {
    pub(super) fn size(self, vision: &Vision) -> ImageSize {
        let side = match self {
            Reserved::Own => vision.image,
            Reserved::Tokens(side) => side * vision.token_side(),
        };
        ImageSize {
            width: side,
            height: side,
        }
    }
}

/// The pass of an encoder: what decides the size and order of its tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encoder {
    /// How pixels become patches.
    pub patches: Patches,
    /// A class token beside the patches.
    pub class_token: bool,
    /// Where the positions of patches come from.
    pub positions: Positions,
    /// One matrix for queries, keys and values.
    pub fused_qkv: bool,
    /// Values of heads are normed.
    pub value_norm: bool,
    /// A norm before the first block.
    pub pre_norm: bool,
    /// A norm after the last block.
    pub post_norm: bool,
    /// A feed-forward with a gate.
    pub gated: bool,
    /// Several pictures go through one pass.
    pub batches: bool,
    /// The last block is left out: its input is what is projected.
    pub drops_last: bool,
    /// What becomes of the last block's output.
    pub head: Head,
}

impl Encoder {
    /// A vision transformer as the first ones were: an entry states where its own differs.
    pub(super) const USUAL: Encoder = Encoder {
        patches: Patches::One,
        class_token: false,
        positions: Positions::Table,
        fused_qkv: false,
        value_norm: false,
        pre_norm: false,
        post_norm: false,
        gated: false,
        batches: false,
        drops_last: false,
        head: Head::Mlp,
    };
}

/// How pixels become patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patches {
    /// One convolution.
    One,
    /// Two, for two frames of a film, and the patches of a token beside each other.
    TwoFrames,
    /// The pixels of each patch beside each other, and one matrix.
    Unfolded,
    /// One matrix over all pixels of a token, between norms; no block follows.
    Normed,
}

/// Where the positions of patches come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// A table with a row for each patch, which is added as it is.
    Table,
    /// Rows of so many tables.
    LookedUp(u64),
    /// A table that is brought to the size of the image.
    Resized,
    /// The same, without the rotation that such kinds have beside it.
    Interpolated,
    /// The rotation of queries and keys alone.
    Rotated,
    /// The rotation of one half of them by the row, and of the other by the column.
    Axes {
        /// Beside a table that is brought to the size of the image.
        beside_table: bool,
    },
}

/// What becomes of the last block's output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The patches of a token beside each other, then one matrix.
    Shuffle,
    /// The same with two matrices, and a norm before them in files that have one.
    ShuffleMlp,
    /// The mean of the patches of a token, a norm, and one matrix, which is transposed in each pass if `transposed`.
    Pool {
        /// Whether the matrix is stored transposed.
        transposed: bool,
    },
    /// A norm and one matrix.
    Normed,
    /// Two matrices over patches that lie beside each other already.
    Mlp,
    /// Four patches beside each other, a norm, and two matrices.
    Merged,
    /// Attention of a fixed number of queries over all patches, and one matrix.
    Resampler,
    /// The patches without the class token, then two matrices.
    Rows,
    /// A norm, the patches of a token beside each other, one matrix over them, then two; and the embedding of a token behind
    /// each row, in files that have one.
    Unfolded,
    /// A convolution over the patches of a token, one matrix, a norm, and a feed-forward with a gate.
    Downsampled,
    /// The patches of a token beside each other without the class token, two matrices with an activation behind each, and one.
    Adapter,
}
