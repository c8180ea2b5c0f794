//! Kinds that are recognised by a Hugging Face class, a model type or a GGUF architecture.

use super::{Attends, EMBEDDING_WAY_OUT, KindEvidence, OtherKind, quoted};
use serde_json::Value as Json;

/// Ends of class names whose head classifies texts.
const CLASSIFIERS: &[&str] = &[
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
    "ForImageClassification",
    "ForAudioClassification",
    "ForNextSentencePrediction",
    "ForRewardModel",
    "RewardModel",
];

/// The end of those that rank, if they have one label: the score of a pair of texts.
const RANKS: &str = "ForSequenceClassification";

/// Parts of class names of decoders that were trained as embedding models.
const EMBEDDERS: &[&str] = &[
    "Bidirectional",
    "BiDirectional",
    "BiModel",
    "BiForMNTP",
    "Embedding",
    "EmbedModel",
    "ForRetrieval",
    "ColBERT",
    "ColBert",
    "ColQwen",
    "ColPali",
    "ColIdefics",
    "ColGemma",
    "BiQwen",
    "SentenceTransformer",
    "CrossEncoder",
    "Reranker",
];

/// Model types of encoder-decoders. Most configurations state `is_encoder_decoder` as well.
const ENCODER_DECODERS: &[&str] = &[
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "blenderbot-small",
    "encoder-decoder",
    "florence2",
    "fsmt",
    "led",
    "longt5",
    "m2m_100",
    "marian",
    "mbart",
    "moonshine",
    "mt5",
    "mvp",
    "nllb-moe",
    "pegasus",
    "pegasus_x",
    "pix2struct",
    "plbart",
    "prophetnet",
    "seamless_m4t",
    "seamless_m4t_v2",
    "speech-encoder-decoder",
    "speech_to_text",
    "speecht5",
    "switch_transformers",
    "t5",
    "t5gemma",
    "t5gemma2",
    "udop",
    "umt5",
    "vision-encoder-decoder",
    "whisper",
    // GGUF
    "t5encoder",
];

/// Model types and GGUF architectures of encoders of text, images and sound.
const ENCODERS: &[&str] = &[
    "albert",
    "align",
    "altclip",
    "audio-spectrogram-transformer",
    "beit",
    "big_bird",
    "camembert",
    "chinese_clip",
    "clap",
    "clip",
    "clip_text_model",
    "clip_vision_model",
    "convbert",
    "convnext",
    "data2vec-text",
    "deberta",
    "deberta-v2",
    "deit",
    "depth_anything",
    "detr",
    "dinov2",
    "dinov3_vit",
    "distilbert",
    "electra",
    "ernie",
    "ernie_m",
    "esm",
    "eurobert",
    "flaubert",
    "funnel",
    "gte",
    "hubert",
    "ibert",
    "layoutlm",
    "layoutlmv2",
    "layoutlmv3",
    "longformer",
    "megatron-bert",
    "mobilebert",
    "modernbert",
    "mpnet",
    "mra",
    "new",
    "nystromformer",
    "owlv2",
    "owlvit",
    "qdqbert",
    "rembert",
    "roberta-prelayernorm",
    "roformer",
    "sam",
    "sam2",
    "segformer",
    "siglip",
    "siglip2",
    "siglip_text_model",
    "siglip_vision_model",
    "splinter",
    "squeezebert",
    "swin",
    "vit",
    "wav2vec2",
    "wav2vec2-bert",
    "wavlm",
    "xlm-roberta-xl",
    "xmod",
    "yolos",
    // GGUF
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
];

/// A kind that is recognised by names.
struct NamedKind {
    /// Model types and GGUF architectures.
    names: &'static [&'static str],
    /// Parts of class names.
    classes: &'static [&'static str],
    /// The text before the name in a message.
    what: &'static str,
    /// The text behind it.
    but: &'static str,
    way_out: &'static str,
}

const SOUND: NamedKind = NamedKind {
    names: &[
        "bark",
        "csm",
        "dac",
        "dia",
        "encodec",
        "fastspeech2_conformer",
        "mimi",
        "musicgen",
        "musicgen_melody",
        "parler_tts",
        "univnet",
        "vits",
        "xcodec",
        // GGUF
        "pockettts",
        "wavtokenizer-dec",
    ],
    classes: &[
        "Bark",
        "Musicgen",
        "MusicGen",
        "Encodec",
        "ParlerTTS",
        "Vits",
    ],
    what: "an audio model",
    but: ", which generates speech or music, not text",
    way_out: "orinplan plans language models; run this one with Transformers. `orinplan inspect` lists the sizes of its weights",
};

const DIFFUSION: NamedKind = NamedKind {
    names: &[
        "Dream",
        "dream",
        "diffusion-gemma",
        "diffusion_gemma",
        "llada",
        "llada-moe",
        "llada_moe",
        "rnd1",
        "sdar",
        "sdar_moe",
    ],
    classes: &["LLaDA", "Dream", "DiffuCoder", "RND1", "SDAR"],
    what: "a diffusion language model",
    but: ", which fills in a whole text in steps, without a KV cache",
    way_out: "run it with llama.cpp's `llama-diffusion-cli` or Transformers; it needs memory for its weights and none for a KV cache; `orinplan inspect` lists their sizes",
};

const RECURRENT: NamedKind = NamedKind {
    names: &[
        "minimax",
        "recurrent_gemma",
        "rwkv",
        "rwkv5",
        "rwkv6",
        "xlstm",
        // GGUF
        "arwkv7",
        "rwkv6qwen2",
    ],
    classes: &[
        "Rwkv",
        "RWKVForCausalLM",
        "RWKV5",
        "RWKV6",
        "MambaLMHeadModel",
        "MambaModel",
        "xLSTM",
        "RecurrentGemma",
    ],
    what: "a recurrent model",
    but: ", whose state of fixed size is not supported",
    way_out: "its state has the same size at any context. `orinplan inspect` lists the sizes of its weights; measure a \
              GGUF of it on the board with `llama-bench`",
};

/// Blocks of attention that are used again and again between blocks of the first Mamba.
const SHARED_ATTENTION: NamedKind = NamedKind {
    names: &["zamba"],
    classes: &["ZambaFor"],
    what: "a hybrid of Mamba and shared blocks of attention",
    but: ", which neither llama.cpp nor vLLM has an architecture for",
    way_out: "no GGUF of it can be made; run the checkpoint with Transformers. `orinplan inspect` lists the sizes of its weights",
};

/// Every such kind, the most specific first.
const NAMED: &[NamedKind] = &[SOUND, DIFFUSION, SHARED_ATTENTION, RECURRENT];

pub(super) fn named(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    NAMED.iter().find_map(|kind| {
        let by_class = || {
            let is = |class: &&str| kind.classes.iter().any(|part| class.contains(part));
            seen.classes().find(is)
        };
        let name = stated(seen, kind.names).or_else(by_class)?;
        let what = format!("{} ({}){}", kind.what, quoted(name), kind.but);
        Some(OtherKind::new(what, kind.way_out))
    })
}

/// Ends of class names that end in `Model` and write text all the same.
const WRITING_MODELS: &[&str] = &["LMHeadModel", "ChatModel", "LMModel", "OmniModel"];

/// A class without a language-model head: its output is the hidden state of each token.
pub(super) fn headless(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let bare = |class: &&str| {
        class.ends_with("Model") && !WRITING_MODELS.iter().any(|end| class.ends_with(end))
    };
    // A class of the repository's own code may have any name; `auto_map` says what it is used for.
    let map = seen.json("auto_map");
    let writes = map.is_some_and(|map| map.get("AutoModelForCausalLM").is_some());
    let class = seen.classes().find(bare).filter(|_| !writes)?;
    let others = seen.classes().any(|class| !bare(&class));
    (!others).then(|| {
        let kind = OtherKind::new(
            format!(
                "a model without a head that generates text (its class is {})",
                quoted(class)
            ),
            "give the checkpoint whose class ends in `ForCausalLM` or `ForConditionalGeneration`; if it embeds texts, run \
             it with `llama-server --embedding` or Sentence Transformers, and `orinplan inspect` lists the sizes of its weights",
        );
        kind.retrieving(Attends::AsUsual)
    })
}

/// Whether the name of a class is that of an embedding model.
pub(super) fn embeds(class: &str) -> bool {
    EMBEDDERS.iter().any(|part| class.contains(part))
}

/// Whether a model of the class `class` ranks pairs of texts if it has one label.
pub(in crate::checkpoint) fn ranks(class: &str) -> bool {
    class.ends_with(RANKS)
}

/// The number of labels; as Transformers has it, two where none are stated.
fn labels(seen: &KindEvidence<'_>) -> u64 {
    let named = seen.json("id2label").and_then(Json::as_object);
    let named = named.map(|labels| labels.len() as u64);
    let counted = || seen.json("num_labels").and_then(Json::as_u64);
    named.or_else(counted).unwrap_or(2)
}

pub(super) fn reranker(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let class = seen.classes().find(|class| ranks(class))?;
    let kind = OtherKind::new(
        format!(
            "a reranker ({}), which gives a pair of texts a score in one pass and generates none",
            quoted(class)
        ),
        EMBEDDING_WAY_OUT,
    );
    (labels(seen) == 1).then(|| kind.retrieving(Attends::All))
}

pub(super) fn classifier(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let sorts = |class: &&str| CLASSIFIERS.iter().any(|end| class.ends_with(end));
    let class = seen.classes().find(sorts).map(quoted);
    let labels = || {
        let labels = format!("{}.classifier.output_labels", seen.architecture()?);
        seen.metadata?
            .get(&labels)
            .map(|_| "output_labels".to_owned())
    };
    let why = class.or_else(labels)?;
    Some(OtherKind::new(
        format!("a classifier ({why}), which labels a text in one pass and generates none"),
        "run it with Transformers or vLLM (`--task classify`); it needs memory for its weights and none for a KV cache; `orinplan inspect` lists their sizes",
    ))
}

/// The model type, that of the text model or the GGUF architecture that is stated, if it is in `list`.
fn stated<'a>(seen: &KindEvidence<'a>, list: &[&str]) -> Option<&'a str> {
    let own = seen.json("model_type");
    let text = seen.json("text_config").and_then(|c| c.get("model_type"));
    let model_types = own.into_iter().chain(text).filter_map(Json::as_str);
    let names = model_types.chain(seen.architecture());
    names.into_iter().find(|name| list.contains(name))
}

pub(super) fn encoder_decoder(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let flagged = || {
        let is = seen.flag("is_encoder_decoder");
        is.then(|| seen.json("model_type").and_then(Json::as_str))
            .map(|name| name.unwrap_or("is_encoder_decoder"))
    };
    let name = stated(seen, ENCODER_DECODERS).or_else(flagged)?;
    Some(OtherKind::new(
        format!(
            "an encoder-decoder ({}), whose cache differs from a decoder's",
            quoted(name)
        ),
        "orinplan plans decoders; run Whisper with whisper.cpp, others with CTranslate2 or Transformers. `orinplan inspect` \
         lists the sizes of its weights",
    ))
}

pub(super) fn encoder(seen: &KindEvidence<'_>) -> Option<OtherKind> {
    let masked = || seen.classes().find(|class| class.ends_with("ForMaskedLM"));
    let not_causal = || {
        let name = seen.architecture()?;
        let causal = seen.metadata?.get(&format!("{name}.attention.causal"));
        matches!(causal, Some(crate::gguf::Value::Bool(false))).then_some(name)
    };
    let name = stated(seen, ENCODERS).or_else(masked).or_else(not_causal)?;
    Some(encoder_called(name))
}

/// An encoder of the class, model type or architecture `name`.
pub(in crate::checkpoint) fn encoder_called(name: &str) -> OtherKind {
    let kind = OtherKind::new(
        format!(
            "an encoder ({}), which reads its input in one pass, generates no text and keeps no cache",
            quoted(name)
        ),
        EMBEDDING_WAY_OUT,
    );
    kind.retrieving(Attends::All)
}
