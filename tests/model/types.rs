//! The type of every tensor: `types/*.txt` hold what llama-quantize (0.5.0-dev, `--dry-run`) chose
//! for fifteen published shapes in every format that it offers, with an importance matrix where it demands one. A line is a tensor, its shape (rows first) and
//! its type in each format, as runs over the blocks (`Q6_K*3,Q4_K`); one column stands for all.
//! The models come from their configurations alone. Not here: sizes of files, which hold a header.

use std::collections::BTreeMap;

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::model::{self, ModelSpec, Unknown};
use orinplan::scheme::{Rules, SCHEMES, Scheme, assign};
use serde_json::{Value as Json, json};

/// Name, shape, type.
type Row = (String, String, String);

fn model(name: &str, config: Json) -> ModelSpec {
    let checkpoint = Checkpoint::of(name, SourceFormat::Config, RawConfig::HuggingFace(config));
    model::read(&checkpoint, Unknown::Refuse).unwrap()
}

/// A Llama-shaped configuration: `dims` are width, blocks, heads, key-value heads, inner width and
/// vocabulary.
fn config(class: &str, kind: &str, dims: [u64; 6], tied: bool) -> Json {
    let [hidden, blocks, heads, kv_heads, inner, vocab] = dims;
    json!({
        "architectures": [class], "model_type": kind, "hidden_size": hidden,
        "num_hidden_layers": blocks, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "intermediate_size": inner, "vocab_size": vocab, "tie_word_embeddings": tied,
        "max_position_embeddings": 32768
    })
}

fn llama(dims: [u64; 6], tied: bool) -> Json {
    config("LlamaForCausalLM", "llama", dims, tied)
}

fn qwen2(dims: [u64; 6]) -> Json {
    config("Qwen2ForCausalLM", "qwen2", dims, true)
}

fn qwen2_5_half_billion() -> Json {
    qwen2([896, 24, 14, 2, 4864, 151_936])
}

fn gemma3n() -> Json {
    let kinds: Vec<&str> = (1..=30)
        .map(|n| match n % 5 {
            0 => "full_attention",
            _ => "sliding_attention",
        })
        .collect();
    json!({
        "architectures": ["Gemma3nForConditionalGeneration"], "model_type": "gemma3n",
        "text_config": {
            "model_type": "gemma3n_text", "hidden_size": 2048, "intermediate_size": vec![8192; 30],
            "num_hidden_layers": 30, "num_attention_heads": 8, "num_key_value_heads": 2,
            "head_dim": 256, "max_position_embeddings": 32768, "vocab_size": 262_400,
            "sliding_window": 512, "layer_types": kinds, "vocab_size_per_layer_input": 262_144,
            "hidden_size_per_layer_input": 256, "altup_num_inputs": 4, "num_kv_shared_layers": 10,
            "laurel_rank": 64
        }
    })
}

fn phi3_mini() -> Json {
    config(
        "Phi3ForCausalLM",
        "phi3",
        [3072, 32, 32, 32, 8192, 32_064],
        false,
    )
}

/// Items in runs: `Q6_K*3,Q4_K`.
fn runs<'a>(items: impl IntoIterator<Item = &'a str>) -> String {
    let mut runs: Vec<(&str, usize)> = Vec::new();
    for item in items {
        match runs.last_mut() {
            Some((last, count)) if *last == item => *count += 1,
            _ => runs.push((item, 1)),
        }
    }
    let written = runs.iter().map(|(item, count)| match count {
        1 => (*item).to_owned(),
        _ => format!("{item}*{count}"),
    });
    written.collect::<Vec<_>>().join(",")
}

/// The items of runs.
fn items(runs: &str) -> Vec<&str> {
    runs.split(',')
        .flat_map(|run| {
            let (item, count) = run.split_once('*').unwrap_or((run, "1"));
            std::iter::repeat_n(item, count.parse().unwrap())
        })
        .collect()
}

/// What a recorded column says of every tensor, sorted by name.
fn recorded(lines: &[Vec<&str>], column: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in lines {
        let cell = if line.len() == 3 {
            line[2]
        } else {
            line[2 + column]
        };
        for (block, dtype) in items(cell).into_iter().enumerate() {
            // `blk.0-27.attn_q.weight` stands for 28 tensors.
            let name = match line[0].strip_prefix("blk.") {
                Some(rest) => format!("blk.{block}.{}", rest.split_once('.').unwrap().1),
                None => line[0].to_owned(),
            };
            rows.push((name, line[1].to_owned(), dtype.to_owned()));
        }
    }
    rows.sort();
    rows
}

/// What the scheme gives every tensor, sorted by name.
fn assigned(model: &ModelSpec, scheme: &Scheme) -> Vec<Row> {
    let assignment = assign(model, scheme, Rules::Llama2026);
    assert_eq!(assignment.tensors.len(), model.tensors.len());
    let rows = model.tensors.iter().zip(&assignment.tensors);
    let mut rows: Vec<Row> = rows
        .map(|(tensor, given)| {
            let ne: Vec<String> = tensor.shape.iter().rev().map(u64::to_string).collect();
            (
                tensor.name.clone(),
                ne.join("x"),
                given.dtype.name().to_owned(),
            )
        })
        .collect();
    rows.sort();
    rows
}

/// Every tensor of `config` in every recorded format: same name, shape and type, and the same sum.
fn check(name: &str, config: Json, recorded_text: &str) {
    let model = model(name, config);
    let mut lines = recorded_text
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>());
    let formats = lines.next().unwrap();
    let bytes = lines.next().unwrap();
    let lines: Vec<Vec<&str>> = lines.collect();
    assert_eq!((formats[0], bytes[0]), ("format", "bytes"));
    assert_eq!(formats.len(), bytes.len());
    for (column, format) in formats[1..].iter().enumerate() {
        let scheme = Scheme::get(format).unwrap();
        let (expected, found) = (recorded(&lines, column), assigned(&model, scheme));
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected, found, "{name} in {format}");
        }
        assert_eq!(expected.len(), found.len(), "{name} in {format}");
        let sum = assign(&model, scheme, Rules::Llama2026).tensor_bytes();
        assert_eq!(sum.0.to_string(), bytes[column + 1], "{name} in {format}");
    }
}

macro_rules! every_type {
    ($($test:ident $file:literal $config:expr;)*) => {$(
        #[test]
        fn $test() {
            check($file, $config, include_str!(concat!("types/", $file, ".txt")));
        }
    )*};
}

every_type! {
    mixtral_8x7b "Mixtral-8x7B-Instruct-v0.1" {
        let mut config = config(
            "MixtralForCausalLM",
            "mixtral",
            [4096, 32, 32, 8, 14336, 32_000],
            false,
        );
        config["num_local_experts"] = json!(8);
        config["num_experts_per_tok"] = json!(2);
        config
    };
    qwen3_30b_a3b "Qwen3-30B-A3B" {
        let dims = [2048, 48, 32, 4, 6144, 151_936];
        let mut config = config("Qwen3MoeForCausalLM", "qwen3_moe", dims, false);
        config["head_dim"] = json!(128);
        config["num_experts"] = json!(128);
        config["num_experts_per_tok"] = json!(8);
        config["moe_intermediate_size"] = json!(768);
        config
    };
    phi_3_mini "Phi-3-mini-4k-instruct" phi3_mini();
    llama_3_1_70b "Llama-3.1-70B-Instruct" llama([8192, 80, 64, 8, 28672, 128_256], false);
    llama_3_1_8b "Llama-3.1-8B-Instruct" llama([4096, 32, 32, 8, 14336, 128_256], false);
    llama_3_2_1b "Llama-3.2-1B-Instruct" llama([2048, 16, 32, 8, 8192, 128_256], true);
    tiny_llama_1_1b "TinyLlama-1.1B-Chat-v1.0" llama([2048, 22, 32, 4, 5632, 32_000], false);
    smollm2_135m "SmolLM2-135M-Instruct" llama([576, 30, 9, 3, 1536, 49_152], true);
    smollm3_3b "SmolLM3-3B"
        config("SmolLM3ForCausalLM", "smollm3", [2048, 36, 16, 4, 11008, 128_256], true);
    qwen2_5_0_5b "Qwen2.5-0.5B-Instruct" qwen2_5_half_billion();
    qwen2_5_3b "Qwen2.5-3B-Instruct" qwen2([2048, 36, 16, 2, 11008, 151_936]);
    qwen3_0_6b "Qwen3-0.6B" {
        let mut config =
            config("Qwen3ForCausalLM", "qwen3", [1024, 28, 16, 8, 3072, 151_936], true);
        config["head_dim"] = json!(128);
        config
    };
    gemma_3_1b "gemma-3-1b-it" {
        let mut config =
            config("Gemma3ForCausalLM", "gemma3_text", [1152, 26, 4, 1, 6912, 262_144], true);
        config["head_dim"] = json!(256);
        config["sliding_window"] = json!(512);
        config["sliding_window_pattern"] = json!(6);
        config
    };
    gemma_3n_e2b "gemma-3n-E2B-it" gemma3n();
    bitnet_large "bitnet_b1_58-large" {
        let dims = [1536, 24, 16, 16, 4096, 32_002];
        config("BitnetForCausalLM", "llama", dims, true)
    };
}

#[test]
fn the_recorded_formats_are_the_schemes_of_gguf_but_the_16_bit_ones() {
    let header = include_str!("types/Qwen3-0.6B.txt").lines().next().unwrap();
    let mut recorded: Vec<String> = header.split(' ').skip(1).map(str::to_lowercase).collect();
    let gguf = SCHEMES.iter().filter(|scheme| scheme.file_type.is_some());
    let mut known: Vec<String> = gguf.map(|scheme| scheme.id.to_owned()).collect();
    known.retain(|id| !["f16", "bf16"].contains(&id.as_str()));
    recorded.sort();
    known.sort();
    assert_eq!(recorded, known);
}

/// Tensor data of published Q4_K_M files, byte for byte. Those of Llama 3 hold a tensor of rope
/// factors, which the recorded types leave out.
#[test]
fn published_q4_k_m_files_have_these_sizes() {
    let q4_k_m = Scheme::get("q4_k_m").unwrap();
    let llama3 = |dims, tied| {
        let mut config = llama(dims, tied);
        config["rope_scaling"] = json!({
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192
        });
        config
    };
    for (name, config, bytes) in [
        ("Qwen2.5-0.5B", qwen2_5_half_billion(), 391_859_712),
        (
            "Llama-3.2-1B",
            llama3([2048, 16, 32, 8, 8192, 128_256], true),
            799_862_912,
        ),
        (
            "Qwen2.5-3B",
            qwen2([2048, 36, 16, 2, 11008, 151_936]),
            1_923_946_496,
        ),
        (
            "Llama-3.1-8B",
            llama3([4096, 32, 32, 8, 14336, 128_256], false),
            4_912_898_304,
        ),
    ] {
        let model = model(name, config);
        let sum = assign(&model, q4_k_m, Rules::default()).tensor_bytes();
        assert_eq!(sum.0, bytes, "{name}");
    }
}

/// The types of one kind of tensor, block by block, under a version of the rules.
fn types(config: Json, scheme: &str, rules: Rules, stem: &str) -> String {
    let model = model("model", config);
    let assignment = assign(&model, Scheme::get(scheme).unwrap(), rules);
    let mut by_block = BTreeMap::new();
    for (tensor, given) in model.tensors.iter().zip(&assignment.tensors) {
        if tensor.name.ends_with(stem) {
            by_block.insert(tensor.layer, given.dtype.name());
        }
    }
    runs(by_block.into_values())
}

/// A fused projection had a rule of its own until 2025; since then it is mixed like `attn_v`: the
/// first and last eighth of the blocks and every third between them get more bits.
#[test]
fn fused_attention_of_phi3_depends_on_the_version_of_the_rules() {
    let stem = "attn_qkv.weight";
    let of = |scheme, rules| types(phi3_mini(), scheme, rules, stem);
    assert_eq!(of("q4_k_m", Rules::Llama2025), "Q5_K*32");
    assert_eq!(of("q5_k_m", Rules::Llama2025), "Q6_K*32");
    assert_eq!(of("q3_k_m", Rules::Llama2025), "Q4_K*32");
    let third = "Q4_K*2,Q6_K,".repeat(7);
    let mixed = format!("Q6_K*4,{third}Q4_K*2,Q6_K*5");
    assert_eq!(of("q4_k_m", Rules::Llama2026), mixed);
    assert_eq!(of("q3_k_m", Rules::Llama2026), "Q5_K*2,Q4_K*30");
}

/// llama.cpp gives values one step more in what it takes for a 70B (`LLM_TYPE_70B`): a Llama of 80 blocks whose
/// heads share keys, and any Qwen2 of 80 blocks.
#[test]
fn values_have_more_bits_in_a_qwen2_of_80_blocks() {
    let of = |blocks, scheme| {
        let config = qwen2([8192, blocks, 64, 8, 29568, 152_064]);
        types(config, scheme, Rules::default(), "attn_v.weight")
    };
    // The first and last eighth and every third between them are Q6_K, the others Q5_K for Q4_K.
    let third = "Q5_K*2,Q6_K,".repeat(19);
    let mixed = format!("Q6_K*10,{third}Q5_K*2,Q6_K*11");
    assert_eq!(of(80, "q4_k_m"), mixed);
    assert_eq!(of(80, "q4_k_s"), "Q5_K*80");
    assert_eq!(of(80, "q3_k_s"), "Q5_K*80");
    assert_eq!(of(80, "q3_k_m"), "Q5_K*80");
    // 64 blocks are a 32B.
    assert_eq!(of(64, "q4_k_s"), "Q5_K*4,Q4_K*60");
    assert_eq!(of(64, "q3_k_s"), "Q3_K*64");
}

#[test]
fn the_per_layer_table_of_gemma3n_was_not_taken_for_a_tied_head_in_2025() {
    let of = |rules| types(gemma3n(), "q4_k_m", rules, "per_layer_token_embd.weight");
    assert_eq!(
        (of(Rules::Llama2025), of(Rules::Llama2026)),
        ("Q4_K".into(), "Q6_K".into())
    );
}

#[test]
fn rows_that_do_not_divide_fell_back_to_iq4_nl_in_2025() {
    let of = |scheme, rules| types(qwen2_5_half_billion(), scheme, rules, "attn_q.weight");
    for scheme in ["q2_k", "q3_k_s", "q3_k_m"] {
        assert_eq!(of(scheme, Rules::Llama2025), "IQ4_NL*24", "{scheme}");
        assert_eq!(of(scheme, Rules::Llama2026), "Q4_0*24", "{scheme}");
    }
    assert_eq!(
        of("q4_k_m", Rules::Llama2025),
        of("q4_k_m", Rules::Llama2026)
    );
}
