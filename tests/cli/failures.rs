//! Runs that failed on a board, as their sources tell: each is planned as a failure, with its cause.

use std::fs;

use serde_json::{Value as Json, json as document};

use crate::support::{command, json, left, recorded};

fn qwen2(hidden: u64, layers: u64, heads: u64, kv_heads: u64, inner: u64, vocab: u64) -> Json {
    document!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": hidden,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": kv_heads,
        "intermediate_size": inner, "vocab_size": vocab, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "hidden_act": "silu",
    })
}

fn qwen_3b() -> Json {
    qwen2(2048, 36, 16, 2, 11008, 151_936)
}

fn qwen_7b() -> Json {
    qwen2(3584, 28, 28, 4, 18944, 152_064)
}

fn qwen_14b() -> Json {
    qwen2(5120, 48, 40, 8, 13824, 152_064)
}

fn llama_8b() -> Json {
    document!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "intermediate_size": 14336, "vocab_size": 128_256, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-5, "rope_theta": 5e5, "tie_word_embeddings": false, "hidden_act": "silu",
    })
}

fn qwen3_8b() -> Json {
    document!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "intermediate_size": 12288, "vocab_size": 151_936, "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "hidden_act": "silu",
    })
}

/// The published configuration of a model that measurements are of.
fn published(model: &str) -> Json {
    let models: Json = serde_json::from_str(include_str!("../../profiles/models.json")).unwrap();
    models[model].clone()
}

fn qwen3_vl_2b() -> Json {
    document!({
        "architectures": ["Qwen3VLForConditionalGeneration"], "model_type": "qwen3_vl",
        "tie_word_embeddings": true, "image_token_id": 151_655,
        "text_config": {
            "model_type": "qwen3_vl_text", "head_dim": 128, "hidden_act": "silu", "hidden_size": 2048,
            "intermediate_size": 6144, "max_position_embeddings": 262_144, "num_attention_heads": 16,
            "num_hidden_layers": 28, "num_key_value_heads": 8, "rms_norm_eps": 1e-6,
            "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"},
            "rope_theta": 5_000_000, "tie_word_embeddings": true, "vocab_size": 151_936,
        },
        "vision_config": {
            "model_type": "qwen3_vl", "deepstack_visual_indexes": [5, 11, 17], "depth": 24,
            "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1024, "in_channels": 3,
            "intermediate_size": 4096, "num_heads": 16, "num_position_embeddings": 2304,
            "out_hidden_size": 2048, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2,
        },
    })
}

fn gemma3_4b() -> Json {
    let mut config = gemma3_12b();
    config["hidden_size"] = 2560.into();
    config["num_hidden_layers"] = 34.into();
    config["num_attention_heads"] = 8.into();
    config["num_key_value_heads"] = 4.into();
    config["intermediate_size"] = 10240.into();
    config
}

fn gemma3_12b() -> Json {
    document!({
        "architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "hidden_size": 3840,
        "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256,
        "intermediate_size": 15360, "vocab_size": 262_208, "max_position_embeddings": 131_072,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "rope_local_base_freq": 1e4, "sliding_window": 1024,
        "query_pre_attn_scalar": 256, "hidden_activation": "gelu_pytorch_tanh",
        "tie_word_embeddings": true, "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    })
}

/// The one plan that `words` ask for, which fits or not.
fn plan(config: Json, fits: bool, words: &str) -> Json {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let words = format!("fit {} --device orin-nano-8gb {words}", file.display());
    json(i32::from(!fits), &words)["plans"][0].clone()
}

fn has(plan: &Json, code: &str) -> bool {
    let mut notes = plan["notes"].as_array().unwrap().iter();
    notes.any(|note| note["code"] == code)
}

fn text_of(plan: &Json, code: &str) -> String {
    let mut notes = plan["notes"].as_array().unwrap().iter();
    let note = notes.find(|note| note["code"] == code).unwrap();
    note["text"].as_str().unwrap().to_owned()
}

fn lacks_memory(plan: &Json) -> bool {
    plan["memory"]["headroom_bytes"].as_i64().unwrap() < 0
}

/// A program that has llama.cpp as its library, as llama-bench does, ran Qwen2.5-Coder-7B in Q4_K_M with a context of 1024
/// and failed with 4096: its compute buffer grew to 2432 MiB (SamJSui/jetsonfabric). llama-server reserves the logits of
/// one token a sequence, and would have fitted.
#[test]
fn a_ubatch_as_long_as_the_context_can_be_too_much() {
    let at = |tokens: u64, runtime: &str, fits: bool| {
        let words = format!(
            "--scheme q4_k_m --power-mode MAXN_SUPER --runtime {runtime} --context {tokens} --ubatch {tokens}"
        );
        plan(qwen_7b(), fits, &words)
    };
    assert!(!lacks_memory(&at(1024, "llama-bench", true)));
    assert!(!lacks_memory(&at(4096, "llama.cpp", true)));
    let failed = at(4096, "llama-bench", false);
    assert!(lacks_memory(&failed));
    let memory = &failed["memory"];
    let compute =
        memory["compute_bytes"].as_u64().unwrap() + memory["output_bytes"].as_u64().unwrap();
    assert!(compute >= 2432 << 20, "{memory}");
}

/// `cudaMalloc` of 7694 MiB failed with all layers of gemma-3-12b in Q4_0 on the GPU (jfdg01/jetson).
#[test]
fn the_weights_alone_can_be_too_much() {
    let failed = plan(gemma3_12b(), false, "--scheme q4_0");
    assert!(lacks_memory(&failed));
    // That file keeps its embedding in F16, where llama-quantize takes Q6_K.
    let embedding = 262_208 * 3840;
    let largest = failed["memory"]["largest_allocation_bytes"]
        .as_u64()
        .unwrap();
    let theirs = largest - embedding * 210 / 256 + embedding * 2;
    let off = theirs as f64 / (7694.0 * 1024.0 * 1024.0) - 1.0;
    assert!(off.abs() < 0.001, "{off}");
    assert!(lacks_memory(&plan(qwen_14b(), false, "--scheme q4_0")));
}

/// The buffer that llama.cpp asked for with Qwen2.5-Coder-14B in Q4_0 on one board, 7699.79 MiB (SamJSui/jetsonfabric).
#[test]
fn the_largest_allocation_is_the_one_that_failed() {
    let failed = plan(qwen_14b(), false, "--scheme q4_0 --context 1024");
    let largest = failed["memory"]["largest_allocation_bytes"].as_f64();
    let mebibytes = largest.unwrap() / f64::from(1 << 20);
    assert!((mebibytes - 7699.79).abs() < 0.01, "{mebibytes}");
}

/// Qwen3-8B in Q5_K_M loaded under R36.5, with 5.05 GiB in one piece (SmartEst74). Its server was killed at the second
/// request, for want of the flags that a plan's command has against its prompt cache.
#[test]
fn an_allocation_that_a_board_granted_is_not_refused() {
    let words = "--scheme q5_k_m --context 2048 --l4t 36.5.0";
    let loaded = plan(qwen3_8b(), true, words);
    let largest = loaded["memory"]["largest_allocation_bytes"].as_u64();
    assert!(largest.unwrap() > 5 << 30);
}

/// TensorRT asks for the weights of an engine at once: 3441150208 bytes of Qwen3-VL-2B in F16, which an Orin Nano under R36.5
/// did not have beside its desktop (EasonWangyc/JetsonVLM).
#[test]
fn the_weights_of_an_engine_are_one_allocation() {
    let words = "--runtime tensorrt-edge-llm --scheme bf16 --context 1024";
    let alone = plan(qwen3_vl_2b(), true, words);
    let largest = alone["memory"]["largest_allocation_bytes"].as_f64();
    let off = largest.unwrap() / 3_441_150_208.0 - 1.0;
    assert!(off.abs() < 0.0001, "{off}");
    assert!(lacks_memory(&plan(
        qwen3_vl_2b(),
        false,
        &format!("{words} --desktop")
    )));
    let refused = plan(qwen3_vl_2b(), false, &format!("{words} --l4t 36.4.7"));
    assert!(has(&refused, "large_allocation"));
}

/// Gemma 4 E2B in 16 bit did not fit vLLM: its embeddings for each layer are 4.5 GB (jsligar/Rimrock-Runtimes). Qwen2.5-7B in
/// 4 bit was killed (mit-han-lab/llm-awq issue 261).
#[test]
fn vllm_needs_more_than_the_weights() {
    let seven = plan(qwen_7b(), false, "--runtime vllm --scheme int4");
    assert!(lacks_memory(&seven));
    assert!(lacks_memory(&plan(
        published("gemma-4-e2b"),
        false,
        "--runtime vllm --scheme bf16 --context 1024"
    )));
}

/// L4T R36.4.7 refused 4 GiB in one piece with 5.36 GiB free (choym92); R36.5 grants them.
#[test]
fn one_allocation_can_be_too_much_for_the_driver() {
    let on = |release: &str, fits: bool| {
        let words = format!("--scheme q4_k_m --context 2048 --l4t {release}");
        plan(llama_8b(), fits, &words)
    };
    let failed = on("36.4.7", false);
    assert!(has(&failed, "large_allocation") && !lacks_memory(&failed));
    assert!(!has(&on("36.5.0", true), "large_allocation"));
}

/// Under R36.4.7 a board failed in every power mode with models whose weights are one allocation of 2.2 to 2.5 GB: Gemma 3
/// 4B in Q4_K_M and Ternary Bonsai 8B in Q2_0 (SmolHub). Another was granted a bare cudaMalloc of 3 GiB, which the plan
/// names.
#[test]
fn an_allocation_that_boards_were_refused_is_too_much() {
    let on = |config: Json, scheme: &str, release: &str, fits: bool| {
        let words = format!("--scheme {scheme} --context 2560 {release}");
        plan(config, fits, &words)
    };
    for (config, scheme) in [(gemma3_4b(), "q4_k_m"), (qwen3_8b(), "q2_0")] {
        let failed = on(config.clone(), scheme, "--l4t 36.4.7", false);
        assert!(has(&failed, "large_allocation") && !lacks_memory(&failed));
        let why = text_of(&failed, "large_allocation");
        assert!(
            why.contains("it grants at most 1.40 GiB (3.00 GiB on one board)"),
            "{why}"
        );
        assert_eq!(failed["max_context"], 0);
        for other in ["--l4t 36.5.0", "--l4t 36.4.4", ""] {
            let fits = on(config.clone(), scheme, other, true);
            // Where the release is not known, the plan tells of the older one.
            assert_eq!(
                has(&fits, "large_allocation"),
                other.is_empty(),
                "{scheme} {other}"
            );
        }
    }
}

/// The same board loaded 1.15 GB (Bonsai 8B in Q1_0) and less; other reports have 1.1 GB refused.
#[test]
fn an_allocation_that_boards_differ_about_is_a_risk() {
    let on = |config: Json, words: &str| {
        let words = format!("--context 2560 {words}");
        has(&plan(config, true, &words), "allocation_may_fail")
    };
    assert!(on(qwen3_8b(), "--scheme q1_0 --l4t 36.4.7"));
    for other in ["--l4t 36.5.0", "--l4t 36.4.4", ""] {
        assert!(
            !on(qwen3_8b(), &format!("--scheme q1_0 {other}")),
            "{other}"
        );
    }
    let small = qwen2(896, 24, 14, 2, 4864, 151_936);
    assert!(!on(small, "--scheme q4_k_m --l4t 36.4.7"));
}

/// vLLM allocates each tensor and each block of its cache by itself, so no piece of the same model is too large.
#[test]
fn a_runtime_that_allocates_in_pieces_needs_no_large_one() {
    let words = "--scheme int4 --context 2560 --l4t 36.4.7";
    let vllm = plan(qwen_3b(), true, &format!("{words} --runtime vllm"));
    assert!(!has(&vllm, "large_allocation"));
    let words = "--scheme q4_k_m --context 2560 --l4t 36.4.7";
    assert!(has(&plan(qwen_3b(), false, words), "large_allocation"));
    // Nor does one that computes on the processors, whose memory is another driver's.
    let cpu = plan(qwen_3b(), true, &format!("{words} --runtime llama.cpp-cpu"));
    assert!(!has(&cpu, "large_allocation") && !has(&cpu, "allocation_may_fail"));
}

/// A board that is known to grant more is planned from a device file that says so.
#[test]
fn a_device_file_of_ones_own_says_what_its_board_grants() {
    let directory = tempfile::tempdir().unwrap();
    let mut shown = json(0, "devices show orin-nano-8gb");
    let limits = shown["device"]["allocation_limits"].as_array_mut().unwrap();
    let limit = limits
        .iter_mut()
        .find(|limit| limit["from_release"] == "R36.4.7");
    limit.unwrap()["largest"]["bytes"] = 3_221_225_472_u64.into();
    let board = directory.path().join("board.json");
    fs::write(&board, shown.to_string()).unwrap();
    let config = directory.path().join("config.json");
    fs::write(&config, gemma3_4b().to_string()).unwrap();
    let words = format!("fit {} --scheme q4_k_m --l4t 36.4.7", config.display());
    json(1, &words);
    let own = json(0, &format!("{words} --device {}", board.display()));
    assert!(!has(&own["plans"][0], "large_allocation"));
}

/// Gemma 4 E4B in Q4_0 ran on a headless board and failed to load without a memory map: less was free than one of its
/// buffers, the rest was page cache (jfdg01/jetson). What is free is known on the board alone, which says so.
#[test]
fn memory_that_is_page_cache_is_not_free() {
    let directory = tempfile::tempdir().unwrap();
    let root = recorded("orin-nano-8gb-r36.5.0-maxn-super");
    let mut detect = command();
    detect.env("ORINPLAN_ROOT", root);
    detect.args(["devices", "detect", "--format", "json"]);
    let mut board: Json = serde_json::from_str(&left(detect.output().unwrap()).out).unwrap();
    let file = directory.path().join("board.json");
    let model = directory.path().join("config.json");
    fs::write(&model, published("gemma-4-e4b").to_string()).unwrap();
    let mut flagged_with = |free: u64| {
        board["detected"]["memory_free_bytes"] = free.into();
        fs::write(&file, board.to_string()).unwrap();
        let (model, file) = (model.display(), file.display());
        let words = format!("fit {model} --scheme q4_0 --device {file}");
        has(&json(0, &words)["plans"][0], "contiguity")
    };
    assert!(flagged_with(4 << 30) && !flagged_with(6 << 30));
}

/// 811 MB in one piece failed beside the desktop and worked without it; 2696 MiB failed with 1715 MiB free.
#[test]
fn memory_in_one_piece_is_less_beside_a_desktop() {
    let words = "--scheme q4_0 --context 1024";
    assert!(has(
        &plan(qwen_7b(), true, &format!("{words} --desktop")),
        "contiguity"
    ));
    assert!(!has(&plan(qwen_7b(), true, words), "contiguity"));
    assert!(lacks_memory(&plan(
        qwen_7b(),
        false,
        &format!("{words} --budget 1715MiB")
    )));
}
