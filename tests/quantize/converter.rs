//! Every family against llama.cpp's converter (0.5.0): keys with their types, values and order, and
//! tensors with their names, types, shapes, order and bytes.
//!
//! `tests/data/converter/NAME.json` holds the configuration and the tensors of a checkpoint that
//! Transformers made small; `NAME.txt` what `convert_hf_to_gguf.py --outtype bf16` (with
//! `--no-nextn` where there is a head for further tokens) wrote for it. The tokenizer is left out. Keys and
//! values of gemma3n's last blocks, without which llama.cpp does not load the file, were added by hand. Numbers that
//! llama.cpp has built in are its own: the scale of Gemma's scores, gemma3n's sparse and sharing blocks. The base of OLMo 3's
//! windowed blocks, which is that of all blocks, was taken out: the converter writes it under Transformers 5 alone.
//! Of Baichuan that release converts the packed matrices alone (it does not end for any other tensor): the others were passed
//! through. Configurations of Nomic were read as they are stored, which Transformers 5 does not.
//! Queries and keys
//! of Bamba are in the order that computes what Transformers computes: the converter pairs elements of whole heads, and half of
//! each turns. The heads of PLaMo 2 are one number: on files of the converter, which has none for the first block, llama.cpp's
//! pass does not end. Decays of selective scans are rounded once, as an exponential in double precision is; PyTorch's is off by one bit
//! for one number in 255.

use std::fs;
use std::path::{Path, PathBuf};

use orinplan::gguf::{self, Value};
use serde_json::{Value as Json, json};

use crate::build::{Bytes, Scratch, Written, orinplan, quantize};

/// The value at place `index` of the tensor that is `tensor`-th in the file; BF16 holds it.
pub(crate) fn value(tensor: usize, index: usize) -> f32 {
    let step = (index * 37 + tensor * 101 + index / 7) % 255;
    (step as f32 - 127.0) / 256.0
}

/// The bytes of each tensor: BF16, or codes of four-bit floats and the exponents of their scales.
fn stored(listed: &[(String, Vec<usize>)]) -> Vec<Bytes> {
    let bytes = |(tensor, (name, shape)): (usize, &(String, Vec<usize>))| {
        let all = 0..shape.iter().product::<usize>();
        let code = |index: usize| ((index * 37 + tensor * 101 + index / 7) % 255) as u8;
        let (dtype, bytes): (_, Vec<u8>) = if name.ends_with("_blocks") {
            ("U8", all.map(code).collect())
        } else if name.ends_with("_scales") {
            ("U8", all.map(|index| code(index) % 20 + 110).collect())
        } else {
            let upper = all.map(|index| (value(tensor, index).to_bits() >> 16) as u16);
            ("BF16", upper.flat_map(u16::to_le_bytes).collect())
        };
        (name.clone(), dtype, shape.clone(), bytes)
    };
    listed.iter().enumerate().map(bytes).collect()
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/converter")
        .join(name)
}

/// FNV-1a.
fn digest(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn show(value: &Value) -> String {
    match value {
        Value::U32(n) => format!("u32 {n}"),
        Value::I32(n) => format!("i32 {n}"),
        Value::F32(x) => {
            let bytes = x.to_le_bytes().map(|byte| format!("{byte:02x}"));
            format!("f32 {}", bytes.concat())
        }
        Value::Bool(b) => format!("bool {b}"),
        Value::String(text) => format!("string {text}"),
        Value::Array(values) => {
            let values: Vec<String> = values.iter().map(show).collect();
            format!("array {}", values.join(", "))
        }
        other => other.type_name(),
    }
}

/// Everything that the file says, a line each.
pub(crate) fn lines(path: &Path) -> Vec<String> {
    let written = Written::read(path);
    let pairs = written.header.metadata.0.iter();
    let mut lines: Vec<String> = pairs
        .filter(|(key, _)| !key.starts_with("tokenizer."))
        .map(|(key, value)| {
            let value = match value.clone() {
                value @ Value::Located { .. } => {
                    let elements = gguf::elements(path, &value).unwrap();
                    Value::Array(elements.collect::<Result<_, _>>().unwrap())
                }
                value => value,
            };
            format!("{key} {}", show(&value))
        })
        .collect();
    for name in written.names() {
        let (dtype, shape) = (written.dtype(name).name(), written.shape(name));
        let digest = digest(written.data(name));
        lines.push(format!("{name} {dtype} {shape:?} {digest:016x}"));
    }
    lines
}

/// Gemma 3n's small coefficient matrices: the converter keeps F32, and the list of types that
/// llama-quantize printed for the published model, which `tests/types` follows, has 16 bit.
fn is_disputed(line: &str) -> bool {
    line.contains(".altup_correct_coef.") || line.contains(".altup_predict_coef.")
}

fn described(name: &str) -> Json {
    let text = fs::read_to_string(data(&format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn check(name: &str) {
    check_described(name, &described(name));
}

/// Checks that the checkpoint that is `described` becomes the file that the converter wrote for `name`.
fn check_described(name: &str, described: &Json) {
    let scratch = Scratch::new();
    let listed: Vec<(String, Vec<usize>)> =
        serde_json::from_value(described["tensors"].clone()).unwrap();
    let directory = described["directory"].as_str().unwrap_or("model");
    let model = scratch.stored(directory, &described["config"], stored(&listed));
    for (name, content) in described["files"].as_object().into_iter().flatten() {
        let path = model.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = content.as_str().map(str::to_owned);
        fs::write(path, text.unwrap_or_else(|| content.to_string())).unwrap();
    }
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let expect = fs::read_to_string(data(&format!("{name}.txt"))).unwrap();
    let expect: Vec<&str> = expect.lines().filter(|line| !is_disputed(line)).collect();
    let mut found = lines(&output);
    found.retain(|line| !is_disputed(line));
    assert_eq!(found.join("\n"), expect.join("\n"), "{name}");
    let args = ["fit", model.to_str().unwrap(), "--scheme", "bf16"];
    let (plan, stderr, _) = orinplan(&[&args[..], &["--format", "json"]].concat());
    let size = format!("\"file_bytes\": {},", fs::metadata(&output).unwrap().len());
    assert!(plan.contains(&size), "{name}: {size} {plan} {stderr}");
    // A model that turns texts into numbers is served as one.
    let retrieves = described["files"]["modules.json"].is_array();
    let class = described["config"]["architectures"][0].as_str().unwrap();
    let ranks = directory.contains("Reranker") || class.ends_with("ForSequenceClassification");
    let (text, _, _) = orinplan(&[&args[..], &["--all"]].concat());
    for (word, is) in [
        ("--reranking", ranks),
        ("--embeddings --pooling ", retrieves),
        ("http://localhost:11434/api/embed", retrieves),
        ("ollama run", !retrieves && !ranks),
    ] {
        assert_eq!(text.contains(word), is, "{name}: {word} {text}");
    }
}

#[test]
fn llama_with_stretched_frequencies() {
    check("llama");
}

#[test]
fn llama_with_biases() {
    check("llama-biases");
}

#[test]
fn the_llama_of_llava() {
    check("llava");
}

#[test]
fn mistral() {
    check("mistral");
}

#[test]
fn mistral3_beside_its_vision_tower() {
    check("mistral3");
}

#[test]
fn mixtral() {
    check("mixtral");
}

#[test]
fn qwen2() {
    check("qwen2");
}

#[test]
fn qwen3() {
    check("qwen3");
}

#[test]
fn qwen3moe() {
    check("qwen3moe");
}

#[test]
fn smollm3() {
    check("smollm3");
}

#[test]
fn phi3() {
    check("phi3");
}

#[test]
fn phi3_with_two_tables_of_factors() {
    check("phi3-long");
}

#[test]
fn gemma2() {
    check("gemma2");
}

#[test]
fn gemma3() {
    check("gemma3");
}

#[test]
fn gemma3_beside_its_vision_tower() {
    check("gemma3-vision");
}

#[test]
fn gemma3n_beside_its_towers() {
    check("gemma3n");
}

#[test]
fn lfm2() {
    check("lfm2");
}

#[test]
fn qwen3next() {
    check("qwen3next");
}

#[test]
fn qwen35() {
    check("qwen35");
}

#[test]
fn qwen35_beside_its_vision_tower() {
    check("qwen35-vision");
}

#[test]
fn qwen35moe() {
    check("qwen35moe");
}

/// The converter does not take the class; its text model is the one that the file holds. The record has no name for what is
/// beside it.
#[test]
fn phi4_multimodal_without_its_adapters_and_encoders() {
    let mut model = described("phi3-long");
    let config = &mut model["config"];
    config["architectures"] = json!(["Phi4MMForCausalLM"]);
    config["model_type"] = json!("phi4mm");
    for key in ["vision_lora", "speech_lora", "audio_processor"] {
        config[key] = json!({"r": 4});
    }
    let tensors = model["tensors"].as_array_mut().unwrap();
    let mut beside = Vec::new();
    for tensor in tensors.iter_mut() {
        let name = tensor[0].as_str().unwrap().to_owned();
        let Some(module) = name.strip_suffix("_proj.weight") else {
            continue;
        };
        tensor[0] = json!(format!("{module}_proj.base_layer.weight"));
        for adapter in ["vision", "speech"] {
            let part = |half: &str| format!("{module}_proj.lora_{half}.{adapter}.weight");
            beside.push(json!([part("A"), [4, tensor[1][1]]]));
            beside.push(json!([part("B"), [tensor[1][0], 4]]));
        }
    }
    tensors.extend(beside);
    let extended = "model.embed_tokens_extend";
    for name in [
        "image_embed.glb_GN",
        "image_embed.img_processor.encoder.layers.0.mlp.fc1.bias",
        "image_embed.img_projection.0.weight",
        "audio_embed.encoder.embed.out.weight",
        "audio_embed.audio_projection.speech.0.weight",
    ] {
        tensors.push(json!([format!("{extended}.{name}"), [8]]));
    }
    check_described("phi3-long", &model);
}

/// A small moondream2 with the numbers of the record of Phi 2, whose queries, keys and values it stores as one.
fn moondream2() -> (Json, Vec<Bytes>) {
    let phi2 = described("phi2");
    let listed: Vec<(String, Vec<usize>)> =
        serde_json::from_value(phi2["tensors"].clone()).unwrap();
    let config = json!({
        "architectures": ["HfMoondream"], "model_type": "moondream1", "dtype": "bfloat16", "vocab_size": 320,
        "config": {"text": {
            "dim": 64, "ff_dim": 256, "n_layers": 2, "vocab_size": 320, "max_context": 2048, "n_heads": 4
        }}
    });
    let all = stored(&listed);
    let find = |name: &str| all.iter().find(|tensor| tensor.0 == name).unwrap();
    let mut tensors = Vec::new();
    let mut add = |own: String, parts: &[String]| {
        let (_, dtype, shape, _) = find(&parts[0]);
        let mut shape = shape.clone();
        shape[0] *= parts.len();
        let bytes = parts.iter().flat_map(|part| find(part).3.clone());
        tensors.push((format!("model.text.{own}"), *dtype, shape, bytes.collect()));
    };
    for (own, usual) in [
        ("wte", "model.embed_tokens.weight"),
        ("post_ln.weight", "model.final_layernorm.weight"),
        ("post_ln.bias", "model.final_layernorm.bias"),
        ("lm_head.weight", "lm_head.weight"),
        ("lm_head.bias", "lm_head.bias"),
    ] {
        add(own.to_owned(), &[usual.to_owned()]);
    }
    for block in 0..2 {
        for part in ["weight", "bias"] {
            let at = |name: &str| format!("model.layers.{block}.{name}.{part}");
            for (own, usual) in [
                ("ln", &["input_layernorm"][..]),
                (
                    "attn.qkv",
                    &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
                ),
                ("attn.proj", &["self_attn.dense"]),
                ("mlp.fc1", &["mlp.fc1"]),
                ("mlp.fc2", &["mlp.fc2"]),
            ] {
                let usual: Vec<String> = usual.iter().map(|name| at(name)).collect();
                add(format!("blocks.{block}.{own}.{part}"), &usual);
            }
        }
    }
    for name in [
        "vision.patch_emb.weight",
        "vision.blocks.0.attn.qkv.weight",
        "vision.proj_mlp.fc1.bias",
        "region.coord_features",
        "region.size_decoder.fc1.weight",
    ] {
        tensors.push((format!("model.{name}"), "BF16", vec![4], vec![0; 8]));
    }
    (config, tensors)
}

/// The code beside the weights of a revision that has its tokenizer with it.
const OWN_TOKENIZER: &str = "Tokenizer.from_pretrained(\"vikhyatk/moondream2\")";

/// llama.cpp's converter does not take the class. The published file of moondream2 has the keys of Phi 2, and its queries, keys
/// and values fused.
#[test]
fn moondream2_is_a_phi2_with_fused_projections() {
    let (config, tensors) = moondream2();
    let scratch = Scratch::new();
    let model = scratch.stored("model", &config, tensors);
    fs::write(model.join("moondream.py"), OWN_TOKENIZER).unwrap();
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let expect = fs::read_to_string(data("phi2.txt")).unwrap();
    let is_apart = |line: &&str| {
        ["q", "k", "v"]
            .iter()
            .any(|p| line.contains(&format!(".attn_{p}.")))
    };
    let mut expect: Vec<&str> = expect.lines().filter(|line| !is_apart(line)).collect();
    let found = lines(&output);
    let (fused, mut found): (Vec<&str>, Vec<&str>) = found
        .iter()
        .map(String::as_str)
        .partition(|line| line.contains(".attn_qkv."));
    expect.sort_unstable();
    found.sort_unstable();
    assert_eq!(found.join("\n"), expect.join("\n"));
    let fused: Vec<&str> = fused
        .iter()
        .map(|line| line.rsplit_once(' ').unwrap().0)
        .collect();
    assert_eq!(
        fused,
        [
            "blk.0.attn_qkv.weight BF16 [192, 64]",
            "blk.0.attn_qkv.bias F32 [192]",
            "blk.1.attn_qkv.weight BF16 [192, 64]",
            "blk.1.attn_qkv.bias F32 [192]",
        ]
    );
    // Its encoder is none that runtimes of GGUFs could load from a file.
    let fit = [
        "fit",
        model.to_str().unwrap(),
        "--device",
        "orin-nano-8gb",
        "--all",
    ];
    let (plan, stderr, _) = orinplan(&fit);
    assert!(
        plan.contains("text alone, because no projector"),
        "{plan}{stderr}"
    );
    assert!(
        !plan.contains("--mmproj") && !plan.contains("vision or audio weights"),
        "{plan}"
    );
    let vllm = [&fit[..], &["--runtime", "vllm"]].concat();
    let (_, stderr, code) = orinplan(&vllm);
    assert!(
        code == 2 && stderr.contains("vLLM does not run"),
        "{stderr}"
    );
    // llama-quantize's order has the bias first.
    quantize(&model, "q8_0", &scratch.path("q8_0.gguf"), &[]);
}

/// Since 2025-06-21 its code takes the tokenizer of another repository, and the files of the earlier one are still there.
#[test]
fn a_tokenizer_of_an_earlier_moondream2_is_refused() {
    let (config, tensors) = moondream2();
    let scratch = Scratch::new();
    let model = scratch.stored("model", &config, tensors);
    let model_text = model.to_str().unwrap();
    let output = scratch.path("x.gguf");
    let refused = || {
        let args = [
            "quantize",
            model_text,
            "--scheme",
            "f16",
            "--output",
            output.to_str().unwrap(),
        ];
        let (_, stderr, code) = orinplan(&args);
        assert_eq!(code, 2, "{stderr}");
        stderr
    };
    let unsaid = refused();
    assert!(unsaid.contains("no moondream.py found"), "{unsaid}");
    let code = "Tokenizer.from_pretrained(\"moondream/starmie-v1\")";
    fs::write(model.join("moondream.py"), code).unwrap();
    let elsewhere = refused();
    assert!(elsewhere.contains("`moondream/starmie-v1`"), "{elsewhere}");
    // With that repository's tokenizer it is the model's.
    let path = model.join("tokenizer.json");
    let mut tokenizer: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let tokens = tokenizer["model"]["vocab"].as_object_mut().unwrap();
    tokens.retain(|_, id| *id != 5);
    tokens.insert("<|md_reserved_0|>".to_owned(), json!(5));
    fs::write(&path, tokenizer.to_string()).unwrap();
    quantize(&model, "f16", &output, &[]);
    let args = [
        "quantize",
        model_text,
        "--projector",
        "--scheme",
        "f16",
        "--dry-run",
    ];
    let (_, stderr, code) = orinplan(&args);
    assert_eq!(code, 2, "{stderr}");
    assert!(
        stderr.contains("ggml-org/moondream2-20250414-GGUF"),
        "{stderr}"
    );
}

/// A test for each of these.
macro_rules! families {
    ($($name:ident)*) => { $(#[test] fn $name() { check(stringify!($name)); })* };
}

families! {
    apertus arcee baichuan bamba bert bitnet cohere cohere2 deepseek2 deepseek3 deepseek_ocr ernie4_5 ernie4_5_moe exaone exaone4
    falcon_h1 falcon_mamba gemma gemma4 gemma4_dense gemma4_moe gemma4_unified gemma_embedding glm glm4 glm4v gpt_oss gpt_oss_floats
    gptneox granite granitehybrid granitemoe hunyuan_dense hunyuan_moe internlm2 jamba kimi_linear lfm2moe llama4 mamba mamba2 minicpm
    minicpm3 ministral3 nemotron nemotron_h nemotron_h_moe nomic_bert nomic_bert_moe olmo olmo3 olmoe phi2 phimoe plamo2
    qwen2_5_omni qwen2moe qwen2vl qwen3_embedding qwen3_reranker qwen3_reranker_head qwen3vl qwen3vlmoe roberta rwkv7 seed_oss stablelm
    starcoder2 xlm_roberta xlm_roberta_reranker
}

/// The converter gives it a template that joins messages; its own checkpoint has none.
#[test]
fn deepseek_ocr_has_a_chat_template() {
    let text = fs::read_to_string(data("deepseek_ocr.json")).unwrap();
    let described: Json = serde_json::from_str(&text).unwrap();
    let listed: Vec<(String, Vec<usize>)> =
        serde_json::from_value(described["tensors"].clone()).unwrap();
    let scratch = Scratch::new();
    let model = scratch.stored("model", &described["config"], stored(&listed));
    let output = scratch.path("x.gguf");
    quantize(&model, "bf16", &output, &[]);
    let pairs = Written::read(&output).header.metadata.0;
    let (key, template) = &pairs[1];
    assert_eq!(key, "tokenizer.chat_template");
    let joined = "{% for m in messages %}{{m['content']}}{% endfor %}";
    assert_eq!(template, &Value::String(joined.to_owned()));
}

#[test]
fn tokens_that_a_unified_gemma_never_writes_are_in_its_file() {
    let text = fs::read_to_string(data("gemma4_unified.json")).unwrap();
    let described: Json = serde_json::from_str(&text).unwrap();
    let listed: Vec<(String, Vec<usize>)> =
        serde_json::from_value(described["tensors"].clone()).unwrap();
    let suppressed = |class: &str| {
        let scratch = Scratch::new();
        let mut config = described["config"].clone();
        config["architectures"] = serde_json::json!([class]);
        let model = scratch.stored("model", &config, stored(&listed));
        let tokenizer = described["files"]["tokenizer.json"].to_string();
        fs::write(model.join("tokenizer.json"), tokenizer).unwrap();
        let settings = serde_json::json!({"suppress_tokens": [7, 300], "top_k": 64});
        fs::write(model.join("generation_config.json"), settings.to_string()).unwrap();
        let output = scratch.path("x.gguf");
        quantize(&model, "bf16", &output, &[]);
        let metadata = Written::read(&output).header.metadata;
        let found = metadata
            .0
            .iter()
            .find(|(key, _)| key == "tokenizer.ggml.suppress_tokens");
        found.map(|(_, value)| {
            let ids = gguf::elements(&output, value).unwrap();
            ids.collect::<Result<Vec<_>, _>>().unwrap()
        })
    };
    let ids = suppressed("Gemma4UnifiedForConditionalGeneration");
    assert_eq!(ids, Some(vec![Value::I32(7), Value::I32(300)]));
    // The converter knows no such key of the other models.
    assert_eq!(suppressed("Gemma4ForConditionalGeneration"), None);
}

/// The text of MiniCPM-V with a resampler is a model of another class behind a prefix, told by the version.
#[test]
fn the_text_of_a_minicpm_v_is_that_of_its_version() {
    for (family, version) in [("qwen2", "2.6"), ("llama", "4.0"), ("qwen3", "4.5")] {
        let text = fs::read_to_string(data(&format!("{family}.json"))).unwrap();
        let described: Json = serde_json::from_str(&text).unwrap();
        let listed: Vec<(String, Vec<usize>)> =
            serde_json::from_value(described["tensors"].clone()).unwrap();
        let written = |config: &Json, prefix: &str| {
            let scratch = Scratch::new();
            let tensors = stored(&listed).into_iter();
            let tensors = tensors.map(|(name, dtype, shape, bytes)| {
                (format!("{prefix}{name}"), dtype, shape, bytes)
            });
            let model = scratch.stored("model", config, tensors.collect());
            let output = scratch.path("x.gguf");
            quantize(&model, "bf16", &output, &[]);
            fs::read(output).unwrap()
        };
        let mut config = described["config"].clone();
        let plain = written(&config, "");
        config["architectures"] = serde_json::json!(["MiniCPMV"]);
        config["model_type"] = serde_json::json!("minicpmv");
        config["version"] = serde_json::from_str(version).unwrap();
        assert!(written(&config, "llm.") == plain, "{family}");
    }
}
