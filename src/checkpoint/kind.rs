//! Recognises inputs that are no model that writes text token by token: a table of kinds, each with the rule that
//! recognises it and with what the user can do.
//!
//! In: names of files, a configuration, names of tensors. Out: an [`OtherKind`], or `None` for a model that writes text.
//! All commands open models through here, so that they give the same answer. Must not: read files.

mod classes;
mod formats;
mod quantizers;

use std::fmt;
use std::path::Path;

use serde_json::Value as Json;

use super::{Checkpoint, RawConfig};
use crate::gguf::Metadata;
use crate::input::one_line;

pub(super) use classes::{encoder_called as encoder, ranks as ranks_by_class};
pub(super) use formats::{foreign_weights, unread_file};
pub use quantizers::is_quantized_as_it_runs;

/// The tokens that a token attends to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attends {
    /// Those that it attends to in other models of its architecture.
    AsUsual,
    /// All of its text.
    All,
}

/// An input of another kind than a model that writes text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherKind {
    /// What it is, with its article: "a LoRA adapter of `Qwen/Qwen3-0.6B`".
    pub what: String,
    /// What the user can do, as a clause in the imperative.
    pub way_out: String,
    /// What is said of attention in a model that turns texts into numbers, which is planned where its architecture is
    /// known for that.
    pub(super) retrieves: Option<Attends>,
}

impl fmt::Display for OtherKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "is {}; {}", self.what, self.way_out)
    }
}

impl OtherKind {
    pub(super) fn new(what: impl Into<String>, way_out: impl Into<String>) -> OtherKind {
        OtherKind {
            what: what.into(),
            way_out: way_out.into(),
            retrieves: None,
        }
    }

    /// The same for a model that turns texts into numbers.
    fn retrieving(self, attends: Attends) -> OtherKind {
        OtherKind {
            retrieves: Some(attends),
            ..self
        }
    }
}

/// What the rules look at to recognise a kind.
#[derive(Clone, Copy)]
pub(super) struct KindEvidence<'a> {
    /// Names of the files and folders in the model's directory.
    files: &'a [String],
    config: Option<&'a Json>,
    /// `adapter_config.json`, if there is one.
    adapter: Option<&'a Json>,
    /// `hf_quant_config.json`, if there is one.
    quantization: Option<&'a Json>,
    metadata: Option<&'a Metadata>,
    tensors: &'a [super::StoredTensor],
    /// The name of the checkpoint's directory or of its model on a server; empty for one of the catalogue.
    name: &'a str,
}

/// Small files beside a checkpoint that describe it.
#[derive(Default)]
pub(super) struct Companions {
    pub(super) files: Vec<String>,
    pub(super) adapter: Option<Json>,
    /// `hf_quant_config.json`, in which ModelOpt describes its quantization.
    pub(super) quantization: Option<Json>,
}

/// The rules, the most specific first.
const KINDS: &[fn(&KindEvidence<'_>) -> Option<OtherKind>] = &[
    adapter,
    importance,
    projector,
    control_vector,
    diffusion,
    draft_head,
    classes::reranker,
    embedding,
    classes::classifier,
    classes::named,
    classes::encoder_decoder,
    classes::encoder,
    classes::headless,
    vocabulary,
    quantizers::unread,
];

/// The kind of `checkpoint`, if it is no model that writes text.
pub(super) fn of(checkpoint: &Checkpoint, beside: &Companions) -> Option<OtherKind> {
    let (config, metadata) = match &checkpoint.config {
        RawConfig::HuggingFace(config) => (Some(config), None),
        RawConfig::Gguf(metadata) => (None, Some(metadata)),
    };
    let evidence = KindEvidence {
        files: &beside.files,
        config,
        adapter: beside.adapter.as_ref(),
        quantization: beside.quantization.as_ref(),
        metadata,
        tensors: &checkpoint.tensors,
        name: checkpoint
            .directory
            .as_ref()
            .map_or("", |_| &checkpoint.name),
    };
    KINDS.iter().find_map(|seen| seen(&evidence))
}

/// The kind of a directory without readable weights, by the names of its files.
pub(super) fn of_directory(path: &Path, beside: &Companions) -> Option<OtherKind> {
    let evidence = KindEvidence {
        files: &beside.files,
        config: None,
        adapter: beside.adapter.as_ref(),
        quantization: beside.quantization.as_ref(),
        metadata: None,
        tensors: &[],
        name: "",
    };
    adapter(&evidence)
        .or_else(|| diffusion(&evidence))
        .or_else(|| embedding(&evidence))
        .or_else(|| foreign_weights(path, &beside.files))
}

impl<'a> KindEvidence<'a> {
    fn has_file(&self, name: &str) -> bool {
        self.files.iter().any(|file| file == name)
    }

    fn says(&self, key: &str) -> Option<&'a str> {
        self.metadata?.str(key).ok().flatten()
    }

    fn json(&self, key: &str) -> Option<&'a Json> {
        self.config?.get(key)
    }

    /// A value of the configuration or of the part that describes the text model.
    fn stated(&self, key: &str) -> Option<&'a Json> {
        let text = || self.json("text_config")?.get(key);
        self.json(key).or_else(text)
    }

    fn flag(&self, key: &str) -> bool {
        self.stated(key).and_then(Json::as_bool) == Some(true)
    }

    /// `architectures` of the configuration.
    fn classes(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let classes = self.json("architectures").and_then(Json::as_array);
        classes.into_iter().flatten().filter_map(Json::as_str)
    }

    /// `general.architecture` of a GGUF.
    fn architecture(&self) -> Option<&'a str> {
        self.says("general.architecture")
    }

    /// The number that the GGUF metadata states under `ARCHITECTURE.key`.
    fn number(&self, key: &str) -> Option<u64> {
        let name = format!("{}.{key}", self.architecture()?);
        self.metadata?.u64(&name).ok().flatten()
    }

    fn any_tensor(&self, is: impl Fn(&str) -> bool) -> bool {
        self.tensors.iter().any(|tensor| is(&tensor.name))
    }
}

/// Text from a file between backticks, cut to 120 characters (hub ids are shorter).
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(120).collect();
    format!("`{}`", one_line(&short))
}

/// Parts of tensor names that only adapters have.
const ADAPTER_PARTS: &[&str] = &[
    ".lora_A.",
    ".lora_B.",
    ".lora_embedding_A",
    ".lora_embedding_B",
    ".lora_down.",
    ".lora_up.",
    ".lora_magnitude_vector",
    ".base_layer.",
];

/// The end of a key of the configuration that describes an adapter of the model's own: `vision_lora` is `vision`'s.
const OWN_ADAPTER: &str = "_lora";

/// Whether the tensor `name` belongs to adapters that the model has for some of its inputs, which its configuration
/// describes, or to the layers that they wrap.
fn is_of_own_adapter(seen: &KindEvidence<'_>, name: &str) -> bool {
    let described = seen.config.and_then(Json::as_object).into_iter().flatten();
    let described = described.filter(|(_, value)| value.is_object());
    let mut own = described.filter_map(|(key, _)| key.strip_suffix(OWN_ADAPTER));
    own.any(|adapter| {
        name.contains(".base_layer.")
            || ["A", "B"]
                .iter()
                .any(|half| name.contains(&format!(".lora_{half}.{adapter}.")))
    })
}

fn adapter(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let by_name = |name: &str| {
        let named = name.starts_with("base_model.model.")
            || ADAPTER_PARTS.iter().any(|part| name.contains(part))
            || name.ends_with(".lora_a")
            || name.ends_with(".lora_b");
        named && !is_of_own_adapter(seen, name)
    };
    let only_adapter = seen.adapter.is_some() && seen.tensors.is_empty();
    let is_tuned_prompt = seen.any_tensor(|name| name == "prompt_embeddings");
    let by_tensors = seen.any_tensor(by_name) || is_tuned_prompt;
    if !(seen.says("general.type") == Some("adapter") || only_adapter || by_tensors) {
        return None;
    }
    let is_embedding = |name: &str| name == "model.embed_tokens.weight";
    if seen.adapter.is_none() && seen.any_tensor(is_embedding) {
        return Some(OtherKind::new(
            "a model with the weights of a LoRA adapter beside its own",
            "merge them (PEFT: `merge_and_unload()`, then `save_pretrained(DIRECTORY)`) and give the merged directory",
        ));
    }
    let method = seen
        .adapter
        .and_then(|config| config.get("peft_type")?.as_str())
        .filter(|method| *method != "LORA");
    let stated = seen.adapter.and_then(|config| {
        let base = config.get("base_model_name_or_path")?.as_str()?;
        (!base.is_empty()).then_some(base)
    });
    let base = stated
        .or_else(|| seen.says("general.base_model.0.name"))
        .map_or(String::new(), |base| format!(" of {}", quoted(base)));
    let adapter = match method {
        Some(method) => format!("an adapter{base} ({})", quoted(method)),
        None if is_tuned_prompt => format!("an adapter{base} (tuned prompt)"),
        None => format!("a LoRA adapter{base}"),
    };
    Some(OtherKind::new(
        format!("{adapter}, which holds changes to a model, not a model"),
        "merge it into its base model (PEFT: `merge_and_unload()`, then `save_pretrained(DIRECTORY)`) and give \
         the merged directory, or give the base model alone",
    ))
}

fn importance(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let is = seen.says("general.type") == Some("imatrix")
        || seen.any_tensor(|name| name.ends_with(".in_sum2"));
    is.then(importance_matrix)
}

pub(super) fn importance_matrix() -> OtherKind {
    OtherKind::new(
        "an importance matrix, which holds statistics of a model's inputs, not weights",
        "give the model, and this file to `orinplan quantize` as `--imatrix FILE`",
    )
}

fn projector(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let is = seen.architecture() == Some("clip") || seen.says("general.type") == Some("mmproj");
    is.then(|| {
        OtherKind::new(
            "a projector: the vision or audio part of a language model, not a text model",
            "give the language model's GGUF (its directory, if both lie in one), and this file to llama.cpp as `--mmproj FILE`",
        )
    })
}

fn control_vector(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    (seen.architecture() == Some("controlvector")).then(|| {
        OtherKind::new(
            "a control vector, which steers a model",
            "give the model, and this file to llama.cpp as `--control-vector FILE`",
        )
    })
}

/// Architectures of image and video generators that are distributed as GGUF.
const DIFFUSION: &[&str] = &[
    "flux",
    "sd1",
    "sd3",
    "sdxl",
    "aura",
    "hidream",
    "cosmos",
    "ltxv",
    "hyvid",
    "wan",
    "lumina2",
    "qwen_image",
    "pig",
];

fn diffusion(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let is = seen.has_file("model_index.json")
        || seen.json("_diffusers_version").is_some()
        || seen
            .architecture()
            .is_some_and(|name| DIFFUSION.contains(&name))
        || seen.any_tensor(|name| {
            name.starts_with("model.diffusion_model.") || name.starts_with("double_blocks.")
        });
    is.then(|| {
        OtherKind::new(
            "a diffusion model, which generates images or video, not text",
            "orinplan plans language models; stable-diffusion.cpp and TensorRT run this kind on a Jetson",
        )
    })
}

fn draft_head(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let class = seen.classes().find(|class| {
        let named = ["eagle", "medusa", "mtpmodel", "draftmodel", "speculator"]
            .iter()
            .any(|part| class.to_ascii_lowercase().contains(part));
        // NVIDIA's Eagle 2.5 sees and writes.
        named && !class.ends_with("ForConditionalGeneration")
    });
    let by_gguf = seen.architecture().filter(|name| name.starts_with("eagle"));
    let name = class.or(by_gguf)?;
    Some(OtherKind::new(
        format!(
            "a draft head for speculative decoding ({}), which runs only beside the model it drafts for",
            quoted(name)
        ),
        "give the model that it drafts for",
    ))
}

/// Architectures of GGUF files for embedding models.
const EMBEDDING: &[&str] = &["llama-embed"];

/// What Sentence Transformers writes beside a model: a list of its modules, and a folder for each.
const SENTENCE_TRANSFORMERS: &[&str] = &[
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "1_Pooling",
    "1_Dense",
    "2_Dense",
];

/// Keys of the configuration in such a folder.
const SENTENCE_MODULE: &[&str] = &["word_embedding_dimension", "pooling_mode_mean_tokens"];

/// Prefixes of GGUF tensors that follow the decoder in an embedding or reranking model.
const EMBEDDING_HEADS: &[&str] = &["dense_2.", "dense_3.", "cls."];

/// Keys of the configuration that are false where a token sees those behind it.
const CAUSAL: &[&str] = &["is_causal", "causal", "causal_attention"];

/// Keys that are true, or `all`, there.
const BIDIRECTIONAL: &[&str] = &[
    "use_bidirectional_attention",
    "use_bidirectional",
    "is_bidirectional",
    "bidirectional",
];

/// A decoder that was trained to embed often keeps its class: the files beside it or a flag give it away.
fn embedding(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    // llama.cpp's LLAMA_POOLING_TYPE: 0 is no pooling, 4 ranks.
    let pooling = seen.number("pooling_type").filter(|&pooling| pooling > 0);
    let beside = SENTENCE_TRANSFORMERS
        .iter()
        .find(|name| seen.has_file(name));
    let dense = seen.json("in_features").is_some() && seen.json("out_features").is_some();
    let module = dense || SENTENCE_MODULE.iter().any(|key| seen.json(key).is_some());
    let head = |name: &str| EMBEDDING_HEADS.iter().any(|start| name.starts_with(start));
    let is = |key: &str, values: &[Json]| seen.stated(key).is_some_and(|v| values.contains(v));
    let no = [Json::Bool(false), Json::from("false"), Json::from("False")];
    let causal = CAUSAL.iter().find(|key| is(key, &no));
    let all = ["all", "true", "True"].map(Json::from);
    let all = [&[Json::Bool(true)], &all[..]].concat();
    let flag = causal.or_else(|| BIDIRECTIONAL.iter().find(|key| is(key, &all)));
    let of_files = beside.map(|name| format!("{name} of Sentence Transformers"));
    let why = if let Some(why) = &of_files {
        why.as_str()
    } else if module {
        "a module of Sentence Transformers, one of its parts"
    } else if let Some(key) = flag {
        key
    } else if seen.metadata.is_some() && seen.any_tensor(head) {
        "a head that embeds or ranks"
    } else if seen.classes().any(classes::embeds) {
        "its class"
    } else if seen.config.is_some() && ranks(seen.name) {
        // Rerankers keep the class of the model that writes, and often have nothing beside them that tells.
        "its name"
    } else if pooling == Some(4) {
        "pooling_type rank"
    } else if pooling.is_some() {
        "pooling_type"
    } else if seen
        .architecture()
        .is_some_and(|name| EMBEDDING.contains(&name))
    {
        "its architecture"
    } else {
        return None;
    };
    let kind = OtherKind::new(
        format!(
            "an embedding or reranking model ({why}), which turns a text into numbers in one pass and generates none"
        ),
        EMBEDDING_WAY_OUT,
    );
    Some(match flag {
        _ if module => kind,
        Some(_) => kind.retrieving(Attends::All),
        None => kind.retrieving(Attends::AsUsual),
    })
}

/// Whether the name of a checkpoint is that of a reranker, as llama.cpp's converter tells Qwen3-Reranker.
pub(super) fn ranks(name: &str) -> bool {
    name.to_ascii_lowercase().contains("reranker")
}

const EMBEDDING_WAY_OUT: &str = "run it with `llama-server --embedding` (`--reranking`) or Sentence Transformers; it needs memory for its weights and none for a KV cache; `orinplan inspect` lists their sizes";

fn vocabulary(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let is = seen.metadata.is_some() && seen.tensors.is_empty();
    is.then(|| match seen.says("tokenizer.ggml.model") {
        Some(_) => OtherKind::new(
            "only a vocabulary: a tokenizer without weights",
            "give the GGUF with the model's weights",
        ),
        None => OtherKind::new(
            "a GGUF without tensors",
            "give the GGUF with the model's weights, or download it again",
        ),
    })
}
