//! What the model is asked to do, and how much of the board it may use.

use crate::device::Session;
use crate::dtype::Dtype;
use crate::model::projector::ImageSize;
use crate::plan::draft::Draft;
use crate::plan::kv::KvSettings;
use crate::units::Bytes;

/// The KV cache types that llama.cpp offers, by their names on the command line.
pub const KV_TYPES: &[Dtype] = &[
    Dtype::F16,
    Dtype::BF16,
    Dtype::F32,
    Dtype::Q8_0,
    Dtype::Q5_1,
    Dtype::Q5_0,
    Dtype::Q4_1,
    Dtype::Q4_0,
    Dtype::IQ4_NL,
];

/// What the model is asked to do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Tokens of context over all sequences, as llama.cpp's `-c`.
    pub context: u64,
    /// Type of cached keys.
    pub type_k: Dtype,
    /// Type of cached values.
    pub type_v: Dtype,
    /// Sequences decoded at once.
    pub parallel: u64,
    /// Tokens of a prompt processed at once.
    pub ubatch: u64,
    /// Tokens of the prompt; decode is rated at this depth.
    pub prompt_tokens: u64,
    /// Tokens at the start of the prompt that the cache holds already.
    pub cached_tokens: u64,
    /// Tokens of each answer, where whole requests are to be predicted.
    pub generated_tokens: Option<u64>,
    /// Rows of logits reserved in a pass; `None` leaves it to the runtime.
    pub outputs: Option<u64>,
    /// Fused attention, which never holds the score matrix.
    pub flash_attention: bool,
    /// Whether the kernels of a step are launched together, as CUDA graphs.
    pub cuda_graphs: bool,
    /// Whether a desktop session runs beside the model.
    pub session: Session,
    /// Memory kept free for other programs (a camera pipeline, ROS).
    pub reserve: Bytes,
    /// Memory the model may use, instead of what the board has left.
    pub budget: Option<Bytes>,
    /// Watts that the board may draw: the power mode to take is named.
    pub energy_budget: Option<f64>,
    /// Leave vision and audio towers out.
    pub text_only: bool,
    /// Images that the model looks at; `prompt_tokens` has their tokens too.
    pub images: u64,
    /// Their size, if not the encoder's own.
    pub image: Option<ImageSize>,
    /// The image encoder runs on the processor.
    pub projector_on_cpu: bool,
    /// What drafts tokens that the model verifies.
    pub draft: Option<Draft>,
    /// Adapters that share the model's weights.
    pub adapters: Bytes,
    /// Merges of the model's tokenizer, for which runtimes take memory; `None` where the tokenizer is not at hand.
    pub merges: Option<u64>,
}

impl Default for Workload {
    fn default() -> Workload {
        Workload {
            context: 4096,
            type_k: Dtype::F16,
            type_v: Dtype::F16,
            parallel: 1,
            ubatch: 512,
            prompt_tokens: 512,
            cached_tokens: 0,
            generated_tokens: None,
            outputs: None,
            flash_attention: true,
            cuda_graphs: true,
            session: Session::Headless,
            reserve: Bytes(0),
            budget: None,
            energy_budget: None,
            text_only: false,
            images: 0,
            image: None,
            projector_on_cpu: false,
            draft: None,
            adapters: Bytes(0),
            merges: None,
        }
    }
}

impl Workload {
    /// The cache's part of the workload, for a runtime that pads its cache to `context_multiple`.
    pub fn kv_settings(&self, context_multiple: u64) -> KvSettings {
        KvSettings {
            context: self.context,
            parallel: self.parallel,
            ubatch: self.ubatch,
            type_k: self.type_k,
            type_v: self.type_v,
            unified: false,
            flash_attention: self.flash_attention,
            swa_full: false,
            context_multiple,
        }
    }

    /// The same with another total context.
    pub fn with_context(&self, context: u64) -> Workload {
        Workload {
            context,
            ..self.clone()
        }
    }

    /// The same with fused attention.
    pub fn with_flash_attention(&self) -> Workload {
        Workload {
            flash_attention: true,
            ..self.clone()
        }
    }

    /// The same on a board without a desktop.
    pub fn headless(&self) -> Workload {
        Workload {
            session: Session::Headless,
            ..self.clone()
        }
    }

    /// The same without vision and audio towers.
    pub fn without_towers(&self) -> Workload {
        Workload {
            text_only: true,
            ..self.clone()
        }
    }

    /// The same with another cache type for keys and values.
    pub fn with_kv_type(&self, dtype: Dtype) -> Workload {
        Workload {
            type_k: dtype,
            type_v: dtype,
            ..self.clone()
        }
    }
}
