//! Kinds that a Hugging Face class, a model type or a GGUF architecture tells.

use super::{EMBEDDING_WAY_OUT, Evidence, Kind, quoted};
use serde_json::Value as Json;

/// Ends of class names whose head sorts texts instead of writing them.
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

/// Parts of class names of decoders that were trained to embed.
const EMBEDDERS: &[&str] = &[
    "Bidirectional",
    "BiDirectional",
    "ForEmbedding",
    "EmbeddingModel",
    "ForRetrieval",
    "ColQwen",
    "ColPali",
    "ColIdefics",
    "ColGemma",
    "BiQwen",
    "ForSentenceEmbedding",
    "SentenceTransformer",
    "CrossEncoder",
    "Reranker",
];

/// Model types of encoders with a decoder behind them. Most say `is_encoder_decoder` as well.
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

/// Model types and GGUF architectures of encoders: text, images and sound.
const ENCODERS: &[&str] = &[
    "albert",
    "align",
    "altclip",
    "audio-spectrogram-transformer",
    "beit",
    "bert",
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
    "nomic_bert",
    "nystromformer",
    "owlv2",
    "owlvit",
    "qdqbert",
    "rembert",
    "roberta",
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
    "xlm-roberta",
    "xlm-roberta-xl",
    "xmod",
    "yolos",
    // GGUF
    "jina-bert-v2",
    "jina-bert-v3",
    "modern-bert",
    "neo-bert",
    "nomic-bert",
    "nomic-bert-moe",
    "wavtokenizer-dec",
];

/// Whether a class is of a decoder that embeds.
pub(super) fn embeds(class: &str) -> bool {
    EMBEDDERS.iter().any(|part| class.contains(part))
}

pub(super) fn classifier(seen: &Evidence<'_>) -> Option<Kind> {
    let sorts = |class: &&str| CLASSIFIERS.iter().any(|end| class.ends_with(end));
    let class = seen.classes().find(sorts).map(quoted);
    let labels = || {
        let labels = format!("{}.classifier.output_labels", seen.architecture()?);
        seen.metadata?
            .get(&labels)
            .map(|_| "output_labels".to_owned())
    };
    let why = class.or_else(labels)?;
    Some(Kind::new(
        format!("a classifier ({why}), which sorts a text in one pass and writes none"),
        "run it with Transformers or vLLM (`--task classify`); it needs its weights and no KV cache, and \
         `orinplan inspect` lists their sizes",
    ))
}

/// The names by which a model says what it is, if one of them is in `list`.
fn stated<'a>(seen: &Evidence<'a>, list: &[&str]) -> Option<&'a str> {
    let model_type = seen.json("model_type").and_then(Json::as_str);
    let names = model_type.into_iter().chain(seen.architecture());
    names.into_iter().find(|name| list.contains(name))
}

pub(super) fn encoder_decoder(seen: &Evidence<'_>) -> Option<Kind> {
    let flagged = || {
        let is = seen.flag("is_encoder_decoder");
        is.then(|| seen.json("model_type").and_then(Json::as_str))
            .map(|name| name.unwrap_or("is_encoder_decoder"))
    };
    let name = stated(seen, ENCODER_DECODERS).or_else(flagged)?;
    Some(Kind::new(
        format!(
            "an encoder-decoder ({}), whose memory is not that of a decoder's cache of tokens",
            quoted(name)
        ),
        "plan decoders here; whisper.cpp runs Whisper, CTranslate2 and Transformers the others, and `orinplan inspect` \
         lists the sizes of its weights",
    ))
}

pub(super) fn encoder(seen: &Evidence<'_>) -> Option<Kind> {
    let masked = || seen.classes().find(|class| class.ends_with("ForMaskedLM"));
    let not_causal = || {
        let name = seen.architecture()?;
        let causal = seen.metadata?.get(&format!("{name}.attention.causal"));
        matches!(causal, Some(crate::gguf::Value::Bool(false))).then_some(name)
    };
    let name = stated(seen, ENCODERS).or_else(masked).or_else(not_causal)?;
    Some(Kind::new(
        format!(
            "an encoder ({}), which reads its input in one pass, writes no text and keeps no cache",
            quoted(name)
        ),
        EMBEDDING_WAY_OUT,
    ))
}
