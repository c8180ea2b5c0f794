//! What a plan is asked for. Every default is that of the command line.

use std::path::PathBuf;

use super::drafting;
use super::error::PlanError;
use crate::device::{Clocks, L4tRelease, Session, WhatIf};
use crate::dtype::Dtype;
use crate::evidence::quality::MeasuredQuality;
use crate::model::ModelSpec;
use crate::model::adapter::Adapter;
use crate::model::projector::ImageSize;
use crate::plan::draft::Draft;
use crate::plan::{self, Preference, Workload};
use crate::runtime::profile::ComputeRule;
use crate::runtime::{RuntimeProfile, Version};
use crate::scheme::{Rules, TypeList};
use crate::units::Bytes;

/// Tokens of context by default, if the model has no smaller limit.
pub const CONTEXT: u64 = 4096;

/// What to plan, where, and under which load.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Where it runs.
    pub board: BoardRequest,
    /// In which formats.
    pub schemes: Schemes,
    /// The version of llama.cpp's rules for the type of each tensor.
    pub rules: Rules,
    /// What it is asked to do.
    pub workload: WorkloadRequest,
    /// What the recommended plan is chosen by.
    pub preference: Preference,
    /// What was measured of this model's quality. Without: the measurements of others are the guide.
    pub quality: Option<MeasuredQuality>,
}

/// Which formats to plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Schemes {
    /// What the file is, and the common ones it could become.
    #[default]
    Common,
    /// Everything the runtime loads.
    All,
    /// These, by id.
    Named(Vec<String>),
    /// One GGUF, whose tensors have the types of a list.
    Types(TypeList),
}

/// Where a model runs.
#[derive(Clone, Debug)]
pub struct BoardRequest {
    /// A board's id, a profile file, or `host`. Without: the machine at hand if it is a Jetson Orin, else the
    /// 8 GB Orin Nano.
    pub device: Option<String>,
    /// Whether that device is the user's usual one, rather than named for this plan: the report says so.
    pub is_preferred: bool,
    /// The power mode by name. Without: the one in force on the machine at hand, else the board's default.
    pub power_mode: Option<String>,
    /// The runtime's id. Without: llama.cpp, on the processors where there is no GPU.
    pub runtime: Option<String>,
    /// The runtime's version. It changes the commands that start it, and no number. Without: the newest known.
    pub runtime_version: Option<Version>,
    /// The board's L4T release. Without: that of the machine at hand.
    pub release: Option<L4tRelease>,
    /// Whether the board's clocks are locked. Without: as on the machine at hand.
    pub clocks: Option<Clocks>,
    /// Numbers of the board that are changed for the plan.
    pub what_if: Vec<WhatIf>,
    /// The root directory of the machine at hand.
    pub root: PathBuf,
    /// The settings folder, with `calibration.toml` of this machine and `runs.toml`. Without: plans use published
    /// measurements alone.
    pub settings: Option<PathBuf>,
}

/// Tokens of the prompt by default, if the context is no smaller.
const PROMPT: u64 = 512;

/// What the model is asked to do. What is not given follows from the model.
#[derive(Clone, Debug)]
pub struct WorkloadRequest {
    /// Tokens of context over all sequences. Without: those that an Ollama tag states, else 4096, or the model's limit if
    /// that is smaller.
    pub context: Option<u64>,
    /// Type of the KV cache.
    pub kv_type: Dtype,
    /// Type of cached keys, if not that.
    pub type_k: Option<Dtype>,
    /// Type of cached values, if not that.
    pub type_v: Option<Dtype>,
    /// Sequences decoded at once.
    pub parallel: u64,
    /// Tokens of a prompt processed at once.
    pub ubatch: u64,
    /// Tokens of the prompt; decode is rated at this depth. Without: 512, or the context if that is smaller.
    pub prompt_tokens: Option<u64>,
    /// Tokens at the start of the prompt that the cache holds already; less than the prompt has.
    pub cached_tokens: u64,
    /// Tokens of each answer, where whole requests are to be predicted.
    pub generated_tokens: Option<u64>,
    /// Rows of logits reserved in a pass; `None` leaves it to the runtime.
    pub outputs: Option<u64>,
    /// Fused attention, which never holds the score matrix.
    pub flash_attention: bool,
    /// Whether the kernels of a step are launched together, as CUDA graphs.
    pub cuda_graphs: bool,
    /// What runs beside the model.
    pub session: Session,
    /// Memory kept free for other programs.
    pub reserve: Bytes,
    /// Memory the model may use, instead of what the board has left.
    pub budget: Option<Bytes>,
    /// Watts that the board may draw: the power mode to take is named.
    pub energy_budget: Option<f64>,
    /// Leave vision and audio towers out.
    pub text_only: bool,
    /// Images that the model looks at.
    pub images: u64,
    /// Their size. Without: the image encoder's own.
    pub image: Option<ImageSize>,
    /// The image encoder runs on the processor.
    pub projector_on_cpu: bool,
    /// What drafts tokens that the model verifies.
    pub draft: Option<Draft>,
    /// Adapters that share the model's weights.
    pub adapters: Vec<Adapter>,
}

impl Default for BoardRequest {
    fn default() -> BoardRequest {
        BoardRequest {
            device: None,
            is_preferred: false,
            power_mode: None,
            runtime: None,
            runtime_version: None,
            release: None,
            clocks: None,
            what_if: Vec::new(),
            root: PathBuf::from("/"),
            settings: None,
        }
    }
}

impl Default for WorkloadRequest {
    fn default() -> WorkloadRequest {
        let usual = Workload::default();
        WorkloadRequest {
            context: None,
            kv_type: usual.type_k,
            type_k: None,
            type_v: None,
            parallel: usual.parallel,
            ubatch: usual.ubatch,
            prompt_tokens: None,
            cached_tokens: usual.cached_tokens,
            generated_tokens: usual.generated_tokens,
            outputs: usual.outputs,
            flash_attention: usual.flash_attention,
            cuda_graphs: usual.cuda_graphs,
            session: usual.session,
            reserve: usual.reserve,
            budget: usual.budget,
            energy_budget: usual.energy_budget,
            text_only: usual.text_only,
            images: usual.images,
            image: usual.image,
            projector_on_cpu: usual.projector_on_cpu,
            draft: None,
            adapters: Vec::new(),
        }
    }
}

impl Schemes {
    /// The schemes of a list of ids: an empty list is the common ones, `all` in it is all.
    pub fn of(ids: &[String]) -> Schemes {
        match ids {
            [] => Schemes::Common,
            ids if ids.iter().any(|id| id.eq_ignore_ascii_case("all")) => Schemes::All,
            ids => {
                let mut named: Vec<String> = Vec::new();
                for id in ids {
                    if !named.iter().any(|known| known.eq_ignore_ascii_case(id)) {
                        named.push(id.clone());
                    }
                }
                Schemes::Named(named)
            }
        }
    }
}

impl WorkloadRequest {
    /// The workload for `model` on `runtime`.
    ///
    /// # Errors
    /// [`PlanError::PromptBeyondContext`] where the prompt is longer than the context,
    /// [`PlanError::SequencesBeyondContext`] where
    /// there are more sequences than tokens of it, [`PlanError::CachedBeyondPrompt`] where the cache holds all of it, [`PlanError::NoPrefix`] where the model
    /// caches nothing,
    /// [`PlanError::AnswerBeyondContext`] where prompt and answer are longer than a sequence's context, [`PlanError::NoAnswers`]
    /// where the model writes none, [`PlanError::KvType`] where the runtime has no cache of such a type.
    pub fn of(&self, model: &ModelSpec, runtime: &RuntimeProfile) -> Result<Workload, PlanError> {
        let limit = match model.dims.context {
            0 => u64::MAX,
            limit => limit,
        };
        let usual = model.served_context.unwrap_or(CONTEXT).min(limit);
        let context = self.context.unwrap_or(usual);
        let prompt = self.prompt_tokens.unwrap_or(PROMPT.min(context));
        if prompt > context {
            return Err(PlanError::PromptBeyondContext { prompt, context });
        }
        if self.parallel > context {
            let sequences = self.parallel;
            return Err(PlanError::SequencesBeyondContext { sequences, context });
        }
        let cached = self.cached_tokens;
        if cached > 0 && model.is_encoder() {
            return Err(PlanError::NoPrefix {
                model: model.name.clone(),
            });
        }
        let type_k = self.type_k.unwrap_or(self.kv_type);
        let type_v = self.type_v.unwrap_or(self.kv_type);
        let known = &runtime.loads.kv_types;
        for dtype in [type_k, type_v] {
            if !known
                .iter()
                .any(|name| name.eq_ignore_ascii_case(dtype.name()))
            {
                return Err(PlanError::KvType {
                    runtime: runtime.name.clone(),
                    dtype,
                    known: known.clone(),
                });
            }
        }
        if runtime.loads.one_kv_type && type_k != type_v {
            return Err(PlanError::OneKvType {
                runtime: runtime.name.clone(),
            });
        }
        let load = Workload {
            context,
            type_k,
            type_v,
            parallel: self.parallel,
            // A text that becomes a vector is evaluated in one pass.
            ubatch: match model.retrieval {
                Some(_) => self.ubatch.max(prompt),
                None => self.ubatch,
            },
            prompt_tokens: prompt,
            cached_tokens: cached,
            generated_tokens: self.generated_tokens,
            outputs: self.outputs,
            flash_attention: self.flash_attention,
            cuda_graphs: self.cuda_graphs,
            session: self.session,
            reserve: self.reserve,
            budget: self.budget,
            energy_budget: self.energy_budget,
            text_only: self.text_only || plan::projector::text_alone(model, runtime),
            images: self.images,
            image: self.image,
            projector_on_cpu: self.projector_on_cpu,
            draft: self.draft.clone(),
            adapters: self.adapter_bytes(model, runtime)?,
            merges: None,
        };
        if let Some(draft) = &load.draft {
            drafting::check(draft, model, runtime)?;
        }
        let load = self.with_images(load, model, runtime)?;
        let prompt = load.prompt_tokens;
        if cached > 0 && cached >= prompt {
            return Err(PlanError::CachedBeyondPrompt { cached, prompt });
        }
        if let Some(generated) = self.generated_tokens {
            if model.retrieval.is_some() {
                return Err(PlanError::NoAnswers {
                    model: model.name.clone(),
                });
            }
            let each = context / self.parallel.max(1);
            if prompt.saturating_add(generated) > each {
                return Err(PlanError::AnswerBeyondContext {
                    prompt,
                    generated,
                    context: each,
                });
            }
        }
        Ok(load)
    }

    /// What all adapters take: F32 in a GGUF as `convert_lora_to_gguf.py` writes it, 16 bits elsewhere.
    fn adapter_bytes(
        &self,
        model: &ModelSpec,
        runtime: &RuntimeProfile,
    ) -> Result<Bytes, PlanError> {
        let each = match runtime.memory.compute {
            ComputeRule::Ggml { .. } => 4,
            ComputeRule::Activations { .. } | ComputeRule::Fraction { .. } => 2,
        };
        let mut sum = Bytes(0);
        for adapter in &self.adapters {
            let weights = adapter.weights(model);
            let weights = weights.map_err(|problem| PlanError::Adapter {
                name: adapter.name.clone(),
                problem,
            })?;
            sum += Bytes(each) * weights;
        }
        Ok(sum)
    }

    /// `load` with the tokens of its images in the prompt.
    fn with_images(
        &self,
        load: Workload,
        model: &ModelSpec,
        runtime: &RuntimeProfile,
    ) -> Result<Workload, PlanError> {
        if self.images == 0 {
            return Ok(load);
        }
        let projector = model.projector.as_ref().filter(|_| !self.text_only);
        let projector = projector.ok_or_else(|| PlanError::NoImages {
            model: model.name.clone(),
            why: match model.unread_projector().filter(|_| !self.text_only) {
                Some(why) => format!("its image encoder is not known: {why}"),
                None if model.towers.is_empty() || self.text_only => {
                    "it has no image encoder".to_owned()
                }
                None => "its image encoder is of a kind that orinplan does not know".to_owned(),
            },
        })?;
        if runtime.loads.text_only {
            return Err(PlanError::NoImages {
                model: model.name.clone(),
                why: "this runtime runs its text model alone".to_owned(),
            });
        }
        let each = plan::projector::image(projector, &load).context();
        let images = each.saturating_mul(self.images);
        // What was not asked for makes room.
        let room = load.context.saturating_sub(images);
        let text = match self.prompt_tokens {
            Some(tokens) => tokens,
            None => load.prompt_tokens.min(room),
        };
        let prompt = text.saturating_add(images);
        if prompt > load.context {
            return Err(PlanError::ImagesBeyondContext {
                images,
                text,
                context: load.context,
            });
        }
        Ok(Workload {
            prompt_tokens: prompt,
            ..load
        })
    }

    /// Whether keys or values have a type of their own.
    pub(super) fn kv_type_of_each(&self) -> bool {
        self.type_k.or(self.type_v).is_some()
    }
}
