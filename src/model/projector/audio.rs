//! The dimensions of an audio encoder, which shares a file with an image encoder.

use super::{Part, ProjectorError, ProjectorTensor};
use crate::dtype::Dtype;
use crate::gguf::Metadata;

/// The dimensions of an audio encoder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audio {
    /// Width of a piece of sound.
    pub width: u64,
    /// Inner width of the feed-forwards.
    pub inner: u64,
    /// Attention heads.
    pub heads: u64,
    /// Blocks.
    pub blocks: u64,
    /// Values of each moment that the encoder is given.
    pub bins: u64,
    /// The number that llama.cpp's converter states for them.
    pub stated_bins: u64,
    /// Planes of each convolution that makes the moments fewer.
    pub planes: Vec<u64>,
    /// Moments that the convolution of a block sees.
    pub kernel: u64,
    /// Width of what the blocks' output is mapped to, before the projection.
    pub output: u64,
    /// Width of the text model.
    pub text: u64,
    /// What its convolutions see is kept in F32, not in F16: ggml does so where they are stored in BF16.
    pub wide_windows: bool,
    /// Beside each matrix of its blocks stand bounds of what goes in and what comes out.
    pub clipped: bool,
}

/// No published encoder has as many blocks.
const BLOCKS: u64 = 1024;

impl Audio {
    /// Itself, if its pass can be laid out.
    pub(super) fn checked(self) -> Result<Audio, ProjectorError> {
        let part = Part::Audio;
        let wrong = |problem| Err(ProjectorError::Encoder { part, problem });
        if self.blocks > BLOCKS {
            return wrong("has more blocks than any model");
        }
        let divided = self.heads > 0 && self.width.is_multiple_of(self.heads);
        if self.blocks > 0 && !divided {
            return wrong("has a number of heads that does not divide its width");
        }
        Ok(self)
    }

    /// The dimensions that an `mmproj` states.
    pub(super) fn of_gguf(metadata: &Metadata, tensors: &[ProjectorTensor]) -> Option<Audio> {
        let stated = |key: &str| {
            let value = metadata.u64(&format!("clip.audio.{key}")).ok().flatten();
            value.filter(|value| *value <= 1 << 16)
        };
        let side = |name: &str, axis: usize| {
            let found = tensors.iter().find(|t| t.tensor.name == name)?;
            found.tensor.shape.get(axis).copied()
        };
        let first = tensors
            .iter()
            .find(|t| t.tensor.name == "a.conv1d.0.weight");
        let convolutions = (0..8).map_while(|n| side(&format!("a.conv1d.{n}.weight"), 0));
        let bins = stated("num_mel_bins")?;
        let blocks = stated("block_count")?;
        Audio {
            width: stated("embedding_length")?,
            inner: stated("feed_forward_length")?,
            heads: stated("attention.head_count")?,
            blocks,
            bins: if blocks > 0 {
                bins
            } else {
                stated("embedding_length")?
            },
            stated_bins: bins,
            planes: convolutions.collect(),
            kernel: side("a.blk.0.conv_dw.weight", 1).unwrap_or(0),
            output: side("mm.a.input_projection.weight", 1).unwrap_or(0),
            text: stated("projection_dim")?,
            wide_windows: first.is_some_and(|first| first.tensor.dtype == Dtype::BF16),
            clipped: side("a.blk.0.attn_q.input_max", 0).is_some(),
        }
        .checked()
        .ok()
    }
}
