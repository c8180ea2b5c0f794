//! The dimensions of an image encoder.

use super::{Part, ProjectorError, ProjectorTensor};
use crate::gguf::Metadata;

/// The dimensions of an image encoder.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Vision {
    /// Width of a patch.
    pub width: u64,
    /// Inner width of the feed-forward.
    pub inner: u64,
    /// Attention heads.
    pub heads: u64,
    /// Blocks.
    pub blocks: u64,
    /// Pixels of a patch's side.
    pub patch: u64,
    /// Pixels of the side of the square image that it was made for.
    pub image: u64,
    /// Patches of a token's side.
    pub merge: u64,
    /// Width of the text model.
    pub text: u64,
    /// Rows of the table of positions.
    pub positions: u64,
    /// Every such block sees the whole image, and the others a window; 0 if all see the whole.
    pub window_every: u64,
    /// The blocks whose output goes into early blocks of the text model too.
    pub deepstack: Vec<u64>,
    /// Pixels of the longer side of an image before it is cut into tiles; 0 if that is not stated.
    pub longest_edge: u64,
    /// The least and most tiles of an image.
    pub tiles: (u64, u64),
    /// Sizes that an image is brought to before it is cut into tiles.
    pub pinpoints: Vec<(u64, u64)>,
    /// Its projection has two matrices of this inner width; 0 for one.
    pub projection: u64,
    /// Tokens of each picture, whatever its size, where that is a fixed number; 0 else.
    pub queries: u64,
    /// The block behind which patches are merged by fours, where a token has more of them than four.
    pub merger_block: Option<u64>,
    /// The blocks before which, and behind the last of which, the stream is projected, if they are stated: behind the last one
    /// else, or that before it.
    pub feature_blocks: Vec<u64>,
    /// A class token stands beside the patches, in kinds whose encoders may have one.
    pub has_class_token: bool,
    /// Queries, keys and values have biases, in kinds whose encoders may have none.
    pub attention_bias: bool,
    /// Queries and keys are normed, in kinds whose encoders may leave that out.
    pub attention_norm: bool,
    /// A norm stands before the matrices of the projection, in kinds that may have none.
    pub projection_norm: bool,
    /// The matrices of the projection have biases, in kinds that may have none.
    pub projection_bias: bool,
    /// Beside each matrix of its blocks stand bounds of what goes in and what comes out.
    pub clipped: bool,
    /// The pooled patches are shifted and scaled.
    pub standardized: bool,
    /// The pass ends before the last block that a checkpoint stores.
    pub ends_early: bool,
}

/// No published encoder has as many blocks.
const BLOCKS: u64 = 1024;

impl Vision {
    /// Pixels of a token's side.
    pub fn token_side(&self) -> u64 {
        self.patch.saturating_mul(self.merge)
    }

    /// Itself, if its pass can be laid out.
    pub(super) fn checked(self) -> Result<Vision, ProjectorError> {
        let part = Part::Vision;
        let wrong = |problem| Err(ProjectorError::Encoder { part, problem });
        if self.patch == 0 || self.merge == 0 || self.merge > 64 {
            return wrong("has no usable size of patches, or merges more of them than any model");
        }
        if self.image < self.token_side() {
            return wrong("sees images that are smaller than a token of them");
        }
        if self.blocks > BLOCKS {
            return wrong("has more blocks than any model");
        }
        // An encoder without blocks has no heads.
        let divided = self.heads > 0 && self.width.is_multiple_of(self.heads);
        if self.blocks > 0 && !divided {
            return wrong("has a number of heads that does not divide its width");
        }
        if self.deepstack.iter().any(|block| *block >= self.blocks) {
            return part.wrong(
                "deepstack_visual_indexes",
                "names a block that does not exist",
            );
        }
        Ok(self)
    }

    /// The dimensions that an `mmproj` states; `usual_merge` is that of its kind.
    pub(super) fn of_gguf(
        metadata: &Metadata,
        usual_merge: u64,
        tensors: &[ProjectorTensor],
    ) -> Option<Vision> {
        let stated = |key: &str| {
            let value = metadata.u64(&format!("clip.vision.{key}")).ok().flatten();
            value.filter(|value| *value <= 1 << 16)
        };
        let list = |key: &str| metadata.u64s(&format!("clip.vision.{key}")).ok().flatten();
        let shape = |name: &str| {
            let found = tensors.iter().find(|t| t.tensor.name == name)?;
            Some(found.tensor.shape.as_slice())
        };
        let flags = metadata.bools("clip.vision.is_deepstack_layers").ok();
        let flags = flags.flatten().unwrap_or_default();
        let deep = flags.iter().zip(0u64..).filter(|(is, _)| **is);
        let pinpoints = list("image_grid_pinpoints").unwrap_or_default();
        let pairs = pinpoints.chunks_exact(2).filter_map(|pair| match pair {
            &[width, height] if width.max(height) <= 1 << 16 => Some((width, height)),
            _ => None,
        });
        let length = stated("feed_forward_length");
        // Scripts state another width, or none.
        let text = ["mm.2.weight", "mm.down.weight", "resampler.proj.weight"]
            .into_iter()
            .find_map(|name| shape(name)?.first().copied());
        let merge = stated("projector.scale_factor").or(stated("spatial_merge_size"));
        // A table of two axes has two matrices.
        let positions =
            shape("v.position_embd.weight").and_then(|s| s.iter().rev().nth(1).copied());
        let projection = [
            "mm.0.weight",
            "mm.1.weight",
            "mm.model.mlp.1.weight",
            "mm.up.weight",
        ];
        let projection = projection
            .iter()
            .find_map(|name| shape(name)?.first().copied());
        Some(Vision {
            width: stated("embedding_length")?,
            inner: match shape("v.blk.0.ffn_up.weight") {
                // Scripts called the two matrices by each other's name.
                Some(&[width, inner]) if Some(inner) == length && Some(width) != length => inner,
                Some(&[inner, _]) if inner <= 1 << 16 => inner,
                _ => length?,
            },
            heads: stated("attention.head_count")?,
            blocks: stated("block_count")?,
            patch: stated("patch_size")?,
            image: stated("image_size")?,
            merge: merge.unwrap_or(usual_merge),
            text: text.or(stated("projection_dim"))?,
            positions: positions.unwrap_or(0),
            window_every: stated("n_wa_pattern").unwrap_or(0),
            deepstack: deep.map(|(_, block)| block).collect(),
            longest_edge: stated("preproc_image_size").unwrap_or(0),
            tiles: (
                stated("preproc_min_tiles").unwrap_or(1),
                stated("preproc_max_tiles").unwrap_or(12),
            ),
            pinpoints: pairs.collect(),
            projection: projection.unwrap_or(0),
            queries: shape("resampler.query")
                .and_then(|s| s.first().copied())
                .unwrap_or(0),
            merger_block: list("wa_layer_indexes").and_then(|list| list.first().copied()),
            feature_blocks: list("feature_layer").unwrap_or_default(),
            has_class_token: shape("v.class_embd").is_some(),
            attention_bias: shape("v.blk.0.attn_q.bias").is_some(),
            projection_norm: shape("mm.input_norm.weight").is_some(),
            projection_bias: shape("mm.1.bias").is_some(),
            attention_norm: shape("v.blk.0.attn_q_norm.weight").is_some(),
            clipped: shape("v.blk.0.attn_q.input_max").is_some(),
            standardized: shape("v.std_bias").is_some(),
            // A file holds the blocks of the pass.
            ends_early: false,
        })
    }
}
