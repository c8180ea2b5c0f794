//! Why a checkpoint cannot be opened or planned, and the way out.

use crate::checkpoint::CheckpointError;
use crate::convert::ConvertError;
use crate::device::DeviceError;
use crate::dtype::Dtype;
use crate::evidence::quality::QualityFileError;
use crate::model::ModelError;
use crate::model::accept::AcceptError;
use crate::quantize::QuantizeError;
use crate::runtime::lines::KnownSince;
use crate::runtime::{RuntimeError, Version};
use crate::scheme::{SCHEMES, TypeListError};
use crate::units::{Bytes, counted};

/// Why a checkpoint cannot be planned on any board.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no such checkpoint, or it cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It is no language model of a known architecture, or its configuration contradicts its weights.
    #[error("{model}: {source}")]
    Model {
        /// The checkpoint as the user named it.
        model: String,
        /// Why.
        source: ModelError,
    },
    /// What is measured of models that write says nothing of it.
    #[error(
        "{model}: is {what}: it has no tokens to measure or compare; `orinplan fit` plans it and prints the line that serves it, `orinplan quantize` makes its file{}",
        if *is_decoded { ", `orinplan validate` without --backend measures it" } else { "" }
    )]
    Retrieval {
        /// The checkpoint as the user named it.
        model: String,
        /// What it is, with its article.
        what: String,
        /// Whether the decoder runs it.
        is_decoded: bool,
    },
    /// No runtime would load it.
    #[error("{model}: {source}")]
    Accept {
        /// The checkpoint as the user named it.
        model: String,
        /// Why.
        source: AcceptError,
    },
}

/// Why a request cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// There is no such board or power mode, or its file cannot be read.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// There is no such runtime.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The checkpoint is wrong: its configuration or tokenizer cannot be converted.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The checkpoint is wrong: its weights cannot be made into any file.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The GGUF loads, and does not run.
    #[error("{model}: {source}")]
    Accept {
        /// Its name.
        model: String,
        /// Why.
        source: AcceptError,
    },
    /// More sequences than tokens of context.
    #[error(
        "--parallel {sequences} shares {context} tokens of context, which leaves none for some: raise --context, or lower --parallel"
    )]
    SequencesBeyondContext {
        /// Sequences.
        sequences: u64,
        /// Tokens of context over all of them.
        context: u64,
    },
    /// The prompt is longer than the context.
    #[error(
        "--prompt-tokens {prompt} exceeds the context of {context} tokens: raise --context, or lower --prompt-tokens"
    )]
    PromptBeyondContext {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens of context.
        context: u64,
    },
    /// The cache holds the whole prompt, so that nothing is left to read.
    #[error(
        "--cached-tokens {cached} must be less than the {prompt} tokens of the prompt: lower it, or raise --prompt-tokens"
    )]
    CachedBeyondPrompt {
        /// Tokens that the cache holds.
        cached: u64,
        /// Tokens of the prompt.
        prompt: u64,
    },
    /// Prompt and answer are longer than the context of a sequence.
    #[error(
        "--prompt-tokens {prompt} and --generate {generated} exceed the {context} tokens of context that a sequence has: raise --context, or lower either"
    )]
    AnswerBeyondContext {
        /// Tokens of the prompt.
        prompt: u64,
        /// Tokens of the answer.
        generated: u64,
        /// Tokens of context of each sequence.
        context: u64,
    },
    /// Answers of a model that turns texts into numbers.
    #[error("{model} writes no answers: leave out --generate")]
    NoAnswers {
        /// Its name.
        model: String,
    },
    /// Images for a model that has no image encoder of a known kind, or for a runtime without any.
    #[error("{model}: --image and --images are of no use, because {why}")]
    NoImages {
        /// Its name.
        model: String,
        /// What is lacking.
        why: String,
    },
    /// Images and text are longer than the context.
    #[error(
        "images of {images} tokens and {text} tokens of text do not fit into a context of {context}: raise --context, or use fewer or smaller images"
    )]
    ImagesBeyondContext {
        /// Tokens of the images.
        images: u64,
        /// Tokens of text.
        text: u64,
        /// Tokens of context.
        context: u64,
    },
    /// The runtime does not speculate with such a drafter.
    #[error(
        "{runtime} does not speculate with {}: {}",
        match drafter { &"model" => "a draft model", other => other },
        if known.is_empty() { "use another --runtime, such as llama.cpp".to_owned() } else { format!("it does with {known}") }
    )]
    NoSpeculation {
        /// The runtime.
        runtime: String,
        /// What was asked for.
        drafter: &'static str,
        /// What it speculates with.
        known: String,
    },
    /// The model writes no tokens.
    #[error(
        "--draft: {model} turns texts into numbers and generates no tokens; leave the flag out"
    )]
    NothingToDraft {
        /// Its name.
        model: String,
    },
    /// The model has no block that drafts.
    #[error(
        "--draft mtp: {model} has no drafting block (`mtp_num_hidden_layers`); use a draft model, or lookup"
    )]
    NoBlocksAhead {
        /// Its name.
        model: String,
    },
    /// More tokens accepted than a verification evaluates.
    #[error(
        "--acceptance {given} is more than a verification yields: it evaluates {most} tokens; give the share that is accepted, such as 60%, or at most {most}"
    )]
    Acceptance {
        /// Tokens that were given.
        given: f64,
        /// Tokens that a verification evaluates.
        most: u64,
    },
    /// The draft has another vocabulary.
    #[error(
        "--draft {draft} has a vocabulary of {theirs} tokens, but {model} has {own}: use a smaller model of the same family"
    )]
    DraftVocabulary {
        /// The draft's name.
        draft: String,
        /// Its vocabulary.
        theirs: u64,
        /// The model's name.
        model: String,
        /// Its vocabulary.
        own: u64,
    },
    /// A named scheme is not known or not possible.
    #[error(transparent)]
    Candidate(#[from] CandidateError),
    /// A version was given of a runtime whose command lines do not depend on it.
    #[error("--runtime-version {version}: {runtime} starts in the same way in every version")]
    OneVersion {
        /// What was asked for.
        version: Version,
        /// The runtime.
        runtime: String,
    },
    /// A version was given whose command lines are not known.
    #[error(
        "--runtime-version {version}: the options of {runtime} are known from {oldest} on; update it, or leave the flag out"
    )]
    OldVersion {
        /// What was asked for.
        version: Version,
        /// The runtime.
        runtime: String,
        /// The oldest that is known.
        oldest: Version,
    },
    /// The quality was measured of another model.
    #[error(transparent)]
    Quality(#[from] QualityFileError),
    /// A least rate was asked for where no rate is known.
    #[error("{flag} needs speeds, but none are known for {runtime} on {device}: {way_out}")]
    NoRates {
        /// What was asked for.
        flag: &'static str,
        /// The runtime.
        runtime: String,
        /// The board or machine.
        device: String,
        /// What to do about it.
        way_out: &'static str,
    },
    /// The runtime does not run a model on several boards.
    #[error("{runtime} does not run a model on several boards: use --runtime llama.cpp")]
    OneBoard {
        /// The runtime.
        runtime: String,
    },
    /// The runtime computes on boards of a cluster through servers alone.
    #[error(
        "{runtime} computes only through servers on the boards: give --server-on apart, and start one on its own board too"
    )]
    NoOwnDevice {
        /// The runtime.
        runtime: String,
    },
    /// There are fewer blocks than boards, or not as many as were named.
    #[error(
        "--layers: {model} has {blocks} blocks for {boards} boards, each with at least one; {given} were given"
    )]
    Layers {
        /// The model.
        model: String,
        /// Its blocks.
        blocks: usize,
        /// The boards.
        boards: usize,
        /// What was given.
        given: String,
    },
    /// Another number of addresses than there are boards to reach.
    #[error(
        "--rpc names {}, and the server reaches {needed} of the boards: name those that it does not run on, in their order",
        counted(*given as u64, "address", "addresses")
    )]
    Addresses {
        /// Addresses.
        given: usize,
        /// Boards that the server does not run on.
        needed: usize,
    },
    /// The model cannot be divided.
    #[error("{model}: --boards: {why}")]
    NotDivided {
        /// The model.
        model: String,
        /// Why.
        why: &'static str,
    },
    /// Tensors would be divided, and not blocks.
    #[error(
        "--split-mode tensor is never worth it over {link}: each token moves about {bytes} of {model}, {milliseconds:.0} ms on the \
         link alone (measured for a 14B over 1 GbE: 51 MB and 1.6 tokens/s, where a split by layers had 6.3); leave it out"
    )]
    TensorSplit {
        /// The link.
        link: String,
        /// The model.
        model: String,
        /// Bytes of a token.
        bytes: Bytes,
        /// Milliseconds of them on the link.
        milliseconds: f64,
    },
    /// An adapter is not one of the model.
    #[error("adapter {name}: {problem}")]
    Adapter {
        /// The adapter.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The runtime has no such KV cache.
    #[error("{runtime} has no {} KV cache; it has {}", dtype.name().to_lowercase(), known.join(", "))]
    KvType {
        /// The runtime.
        runtime: String,
        /// What was asked for.
        dtype: Dtype,
        /// What it has.
        known: Vec<String>,
    },
    /// Keys and values were asked for in different types.
    #[error("{runtime} has one type for keys and values: use --kv-type")]
    OneKvType {
        /// The runtime.
        runtime: String,
    },
    /// The runtime loads no format that the model can have.
    #[error("{runtime} loads no format that {model} can have; try another --runtime")]
    NoFormat {
        /// The runtime.
        runtime: String,
        /// The model.
        model: String,
    },
}

impl PlanError {
    /// [`PlanError::OldVersion`] where `version` is before what is known `since`; `of` is what has the version.
    pub(super) fn of_version(
        version: Option<Version>,
        since: Option<&KnownSince>,
        of: impl Fn() -> String,
    ) -> Result<(), PlanError> {
        match version.zip(since) {
            Some((version, since)) if since.is_before(version) => Err(PlanError::OldVersion {
                version,
                runtime: of(),
                oldest: since.build,
            }),
            _ => Ok(()),
        }
    }

    /// Whether another runtime or board could do what is refused, so that where these come from matters.
    pub fn is_of_the_runtime(&self) -> bool {
        matches!(
            self,
            PlanError::Candidate(_)
                | PlanError::OneVersion { .. }
                | PlanError::OldVersion { .. }
                | PlanError::NoRates { .. }
                | PlanError::KvType { .. }
                | PlanError::OneKvType { .. }
                | PlanError::NoFormat { .. }
        )
    }
}

/// Why there are no candidates.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CandidateError {
    /// A list of types is not one for this model.
    #[error("{file}: {source}")]
    Types {
        /// The list's file.
        file: String,
        /// Why.
        source: TypeListError,
    },
    /// A list of types makes a GGUF, and the runtime loads none.
    #[error("{file} has the types of a GGUF, but {runtime} loads none; try another --runtime")]
    TypesNotLoadable {
        /// The list's file.
        file: String,
        /// The runtime.
        runtime: String,
    },
    /// No scheme has that id.
    #[error("there is no scheme `{id}`{nearest}; known: {}", known())]
    Unknown {
        /// What was asked for.
        id: String,
        /// ` (did you mean ...)`, or nothing.
        nearest: String,
    },
    /// The runtime cannot load the scheme.
    #[error("{runtime} does not load {id}; it loads {loads}{way_out}")]
    NotLoadable {
        /// The runtime.
        runtime: String,
        /// The scheme.
        id: String,
        /// What it loads.
        loads: String,
        /// What to plan instead, behind a semicolon, if the checkpoint can be planned as it is.
        way_out: String,
    },
    /// The processor that the runtime computes on has no kernels for a type.
    #[error(
        "{runtime} has no kernels for {} on the GPU, and leaves these products to the processors: plan it with --runtime llama.cpp-cpu",
        dtype.name()
    )]
    NoKernels {
        /// The runtime.
        runtime: String,
        /// The type.
        dtype: Dtype,
    },
    /// The runtime does not run models of this architecture or kind.
    #[error("{runtime} does not run {model}: {why}{way_out}")]
    NotRun {
        /// The runtime.
        runtime: String,
        /// The model.
        model: String,
        /// Why.
        why: String,
        /// What to do, behind a semicolon, if another runtime runs it.
        way_out: &'static str,
    },
    /// The runtime cannot load parts of the model in the scheme.
    #[error(
        "{name} has {what} that vLLM loads in INT4 without zero points only; choose {instead} instead of {id}"
    )]
    SymmetricOnly {
        /// The model.
        name: String,
        /// The parts, in the plural.
        what: &'static str,
        /// The scheme.
        id: String,
        /// The scheme with the same groups.
        instead: String,
    },
    /// The checkpoint cannot become such a file.
    #[error("{id} is made from a Hugging Face checkpoint, but {name} is a GGUF")]
    NeedsHuggingFace {
        /// The scheme.
        id: String,
        /// The model.
        name: String,
    },
}

fn known() -> String {
    SCHEMES
        .iter()
        .map(|scheme| scheme.id)
        .collect::<Vec<_>>()
        .join(", ")
}
