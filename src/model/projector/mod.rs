//! Projectors: the image encoder of a vision-language model and what maps its output to text embeddings, which llama.cpp
//! keeps in a GGUF of its own (`mmproj-*.gguf`).
//!
//! In: a checkpoint's configuration and stored tensors, or the metadata and tensors of an `mmproj`. Out: a [`Projector`],
//! the same for both. A family is one entry of `families/`. Must not: read weights or files.
//!
//! Sources: llama.cpp's `conversion/*.py`, `tools/mtmd/clip.cpp`, `mtmd-image.cpp`, `models/*.cpp` (release 0.6.0).

mod audio;
mod config;
mod families;
mod family;
mod images;
mod rows;
mod vision;

use serde_json::Value as Json;

use super::TensorRole;
use super::packed::FoldedWeight;
use super::tensor::Tensor;
use crate::checkpoint::StoredTensor;
use crate::dtype::{Dtype, elements};
use crate::gguf::Metadata;
use crate::units::Bytes;

pub use audio::Audio;
pub use config::{Part, ProjectorConfig};
pub use family::{AudioFamily, AudioPass, Encoder, Family, Form, Head, Patches, Positions};
pub use images::{EncodedImage, ImageSize};
pub use rows::{Kept, Taken};
pub use vision::Vision;

/// A projector.
#[derive(Clone, Debug)]
pub struct Projector {
    /// What is special about its kind.
    pub family: &'static Family,
    /// The dimensions of its image encoder.
    pub vision: Vision,
    /// Those of the audio encoder beside it, if there is one.
    pub audio: Option<Audio>,
    /// Its tensors in the order of the file, with llama.cpp's names and shapes.
    pub tensors: Vec<ProjectorTensor>,
    /// Whether its file is there, with types of its own.
    pub is_stored: bool,
}

/// A tensor of a projector.
#[derive(Clone, Debug)]
pub struct ProjectorTensor {
    /// Its name, shape and source.
    pub tensor: Tensor,
    /// What of the stored tensor it is.
    pub taken: Taken,
    /// The precision that llama.cpp's converter keeps it in.
    pub kept: Kept,
}

/// The types that a projector is written in.
pub const TYPES: [Dtype; 3] = [Dtype::F16, Dtype::BF16, Dtype::Q8_0];

/// Why a projector cannot be described.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProjectorError {
    /// There is no vision part.
    #[error(
        "config.json has no `vision_config`: the model has no projector; leave --projector out"
    )]
    NoVision,
    /// The kind is not in the table.
    #[error(
        "the projector of `{name}` is unknown; known: those of {known}; llama.cpp's convert_hf_to_gguf.py --mmproj may write it"
    )]
    Unknown {
        /// The model type.
        name: String,
        /// Those with an entry.
        known: String,
    },
    /// The kind has no file that could be made here.
    #[error("no projector of `{name}` is made: {why}")]
    NotMade {
        /// The model type.
        name: String,
        /// Why, and what there is instead.
        why: &'static str,
    },
    /// A value is missing or impossible.
    #[error("{}: `{key}`{part} {problem}", part.file())]
    Value {
        /// Where it is stated.
        part: Part,
        /// Its name.
        key: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// Values that make no encoder together.
    #[error("config.json: the encoder{part} {problem}")]
    Encoder {
        /// Where it is described.
        part: Part,
        /// What is wrong.
        problem: &'static str,
    },
    /// A tensor of the projector is not stored.
    #[error(
        "tensor `{name}` of the projector is missing; the checkpoint may be cut short, or belong to another config.json"
    )]
    Missing {
        /// Its name.
        name: String,
    },
    /// A tensor of the projector is stored that the configuration does not describe.
    #[error(
        "tensor `{name}` is stored, but config.json describes encoders without it: fewer blocks, or an encoder less; use the config.json that belongs to these weights"
    )]
    Undescribed {
        /// Its name.
        name: String,
    },
    /// A tensor has another number of weights.
    #[error(
        "tensor `{name}` of the projector has {found} weights, but config.json implies {expected}"
    )]
    Size {
        /// Its name.
        name: String,
        /// Weights.
        found: u64,
        /// By the configuration.
        expected: u64,
    },
}

impl ProjectorError {
    /// Whether the checkpoint is of a known kind, and something of it is wrong or not known.
    pub fn is_of_known_kind(&self) -> bool {
        match self {
            ProjectorError::NoVision
            | ProjectorError::Unknown { .. }
            | ProjectorError::NotMade { .. } => false,
            ProjectorError::Value { .. }
            | ProjectorError::Encoder { .. }
            | ProjectorError::Missing { .. }
            | ProjectorError::Undescribed { .. }
            | ProjectorError::Size { .. } => true,
        }
    }
}

/// llama.cpp's name of each known kind of projector, with a `model_type` of the models that it belongs to.
pub fn known_projectors() -> impl Iterator<Item = (&'static str, &'static str)> {
    families::known()
}

/// Why no file is made of the encoders of a model with this `config.json`, which runtimes of GGUFs load from one, and what
/// there is instead.
pub fn without_file(config: &Json) -> Option<&'static str> {
    let stated = config.get("model_type").and_then(Json::as_str)?;
    families::not_made(stated).map(|(_, why)| why)
}

impl Projector {
    /// The projector of a Hugging Face checkpoint with these `stored` weights, or of its configuration alone if there
    /// are none.
    ///
    /// # Errors
    /// [`ProjectorError`]: none, of an unknown kind, with a value that is missing or impossible, or a tensor that is
    /// missing or of another size.
    pub fn of_hugging_face(
        config: &Json,
        processor: Json,
        stored: &[FoldedWeight],
    ) -> Result<Projector, ProjectorError> {
        let stated = config.get("model_type").and_then(Json::as_str);
        if let Some((name, why)) = stated.and_then(families::not_made) {
            let name = name.to_owned();
            return Err(ProjectorError::NotMade { name, why });
        }
        let config = ProjectorConfig::new(config, processor)?;
        let name = config.model_type();
        let family = families::of_model_type(name).ok_or_else(|| ProjectorError::Unknown {
            name: name.to_owned(),
            known: families::model_types().join(", "),
        })?;
        let vision = (family.read)(&config)?.checked()?;
        let mut rows = (family.rows)(&vision);
        let audio = match family.audio {
            Some(kind) if config.audio.is_some() => {
                let audio = (kind.read)(&config)?.checked()?;
                rows.extend((kind.rows)(&audio));
                Some(audio)
            }
            _ => None,
        };
        if !vision.ends_early {
            rows::no_further_blocks(&rows, stored)?;
        }
        // An encoder that is stored and not described would be left out.
        if let Some(kind) = family.audio.filter(|_| audio.is_none())
            && let Ok(usual) = (kind.read)(&config)
        {
            rows::none_stored(&(kind.rows)(&usual), stored)?;
        }
        let mut tensors = rows::resolve(rows, stored)?;
        if matches!(family.form, Form::Converter) {
            tensors.sort_by_key(|t| t.tensor.sources.first().copied());
        }
        Ok(Projector {
            family,
            vision,
            audio,
            tensors,
            is_stored: false,
        })
    }

    /// The projector of an `mmproj` file with this `metadata`, whose tensors are `stored`; `None` if it is of an unknown
    /// kind or its metadata lacks a value.
    pub fn of_gguf<'a>(
        metadata: &Metadata,
        stored: impl Iterator<Item = (usize, &'a StoredTensor)>,
    ) -> Option<Projector> {
        let family = families::of_gguf(metadata)?;
        let tensor = |(index, stored): (usize, &StoredTensor)| ProjectorTensor {
            tensor: Tensor {
                name: stored.name.clone(),
                role: TensorRole::Other,
                layer: None,
                shape: stored.shape.clone(),
                dtype: stored.dtype,
                stored_bytes: stored.bytes,
                sources: vec![index as u32],
            },
            taken: Taken::All,
            kept: Kept::Matrix,
        };
        let tensors: Vec<ProjectorTensor> = stored.map(tensor).collect();
        let vision = Vision::of_gguf(metadata, family.merge, &tensors)?
            .checked()
            .ok()?;
        let named = metadata.str("clip.audio.projector_type").ok().flatten();
        let hears = metadata.bool("clip.has_audio_encoder").ok().flatten();
        let known = family.audio.filter(|kind| match kind.is_named {
            true => named == Some(kind.name),
            false => hears == Some(true),
        });
        let audio = known.and_then(|_| Audio::of_gguf(metadata, &tensors));
        Some(Projector {
            family,
            vision,
            audio,
            tensors,
            is_stored: true,
        })
    }

    /// The type of a tensor in a file of `base`: its own in a file that is there.
    pub fn dtype(&self, tensor: &ProjectorTensor, base: Dtype) -> Dtype {
        if self.is_stored {
            return tensor.tensor.dtype;
        }
        tensor
            .kept
            .dtype(base, tensor.tensor.row(), tensor.tensor.shape.len())
    }

    /// The bytes of all tensors in a file of `base`.
    pub fn bytes(&self, base: Dtype) -> Bytes {
        let bytes = |tensor: &ProjectorTensor| {
            if self.is_stored {
                tensor.tensor.stored_bytes
            } else {
                let dtype = self.dtype(tensor, base);
                dtype.bytes(&tensor.tensor.shape).unwrap_or(Bytes(0))
            }
        };
        self.tensors.iter().map(bytes).sum()
    }

    /// The number of weights.
    pub fn parameters(&self) -> u64 {
        let weights = self.tensors.iter().map(|t| elements(&t.tensor.shape));
        weights.fold(0, u64::saturating_add)
    }

    /// What becomes of an image: the pictures that the encoder sees, and the tokens that the text model does.
    pub fn image(&self, size: ImageSize) -> EncodedImage {
        (self.family.image)(&self.vision, size)
    }

    /// The picture that llama.cpp reserves memory for when it starts.
    pub fn reserved(&self) -> ImageSize {
        self.family.reserved.size(&self.vision)
    }
}
