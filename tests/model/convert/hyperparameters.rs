//! Hyperparameters become keys. Each expectation is what llama.cpp's converter (0.5.0) wrote for
//! that configuration, up to the tokenizer; the models are published ones, five of them cut to two
//! blocks.

use serde_json::{Value as Json, json};

use super::build::{Fixture, QWEN2, byte_level};

fn check(config: Json, expect: &str) {
    let fixture = Fixture::new(&config).with("tokenizer.json", byte_level(QWEN2).to_string());
    check_fixture(&fixture, expect);
}

fn check_fixture(fixture: &Fixture, expect: &str) {
    let lines = fixture.lines().into_iter();
    let lines: Vec<String> = lines
        .filter(|line| !line.starts_with("tokenizer."))
        .collect();
    let expect: Vec<&str> = expect
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(lines.join("\n"), expect.join("\n"));
}

#[test]
fn llama_3_2() {
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 8, "intermediate_size": 8192, "vocab_size": 128256, "tie_word_embeddings": true, "rope_theta": 500000.0, "rms_norm_eps": 1e-05, "max_position_embeddings": 131072, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 128000, "eos_token_id": 128009, "head_dim": 64, "rope_scaling": {"factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"}});
    check(
        config,
        "
        general.architecture string llama
        general.type string model
        general.name string Cg
        general.size_label string 384M
        llama.block_count u32 2
        llama.context_length u32 131072
        llama.embedding_length u32 2048
        llama.feed_forward_length u32 8192
        llama.attention.head_count u32 32
        llama.attention.head_count_kv u32 8
        llama.rope.freq_base f32 500000
        llama.attention.layer_norm_rms_epsilon f32 0.00001
        llama.attention.key_length u32 64
        llama.attention.value_length u32 64
        general.file_type u32 32
        llama.vocab_size u32 128256
        llama.rope.dimension_count u32 64
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn qwen2_5() {
    let config = json!({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 2, "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864, "vocab_size": 151936, "tie_word_embeddings": true, "rope_theta": 1000000.0, "rms_norm_eps": 1e-06, "max_position_embeddings": 32768, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 151643, "eos_token_id": 151645, "use_sliding_window": false, "sliding_window": 32768, "max_window_layers": 2});
    check(
        config,
        "
        general.architecture string qwen2
        general.type string model
        general.name string Cg
        general.size_label string 166M
        qwen2.block_count u32 2
        qwen2.context_length u32 32768
        qwen2.embedding_length u32 896
        qwen2.feed_forward_length u32 4864
        qwen2.attention.head_count u32 14
        qwen2.attention.head_count_kv u32 2
        qwen2.rope.freq_base f32 1000000
        qwen2.attention.layer_norm_rms_epsilon f32 0.000001
        general.file_type u32 32
        general.quantization_version u32 2
    ",
    );
}

/// No file of the converter at hand: the keys follow from `set_gguf_parameters` of `conversion/base.py`,
/// to which `conversion/starcoder.py` adds nothing.
#[test]
fn starcoder2() {
    let config = json!({"architectures": ["Starcoder2ForCausalLM"], "model_type": "starcoder2", "hidden_size": 3072, "num_hidden_layers": 2, "num_attention_heads": 24, "num_key_value_heads": 2, "intermediate_size": 12288, "vocab_size": 49152, "rope_theta": 999999.4420358813, "norm_epsilon": 1e-05, "max_position_embeddings": 16384, "hidden_act": "gelu_pytorch_tanh", "sliding_window": 4096, "use_bias": true, "bos_token_id": 0, "eos_token_id": 0});
    let mut tokenizer = byte_level("");
    tokenizer["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]});
    let fixture = Fixture::new(&config).with("tokenizer.json", tokenizer.to_string());
    check_fixture(
        &fixture,
        "
        general.architecture string starcoder2
        general.type string model
        general.name string Cg
        general.size_label string 343M
        starcoder2.block_count u32 2
        starcoder2.context_length u32 16384
        starcoder2.embedding_length u32 3072
        starcoder2.feed_forward_length u32 12288
        starcoder2.attention.head_count u32 24
        starcoder2.attention.head_count_kv u32 2
        starcoder2.rope.freq_base f32 999999.44
        starcoder2.attention.layer_norm_epsilon f32 0.00001
        general.file_type u32 32
        general.quantization_version u32 2
    ",
    );
    // SmolLM's tokenizer splits alike; this is what the converter calls that of StarCoder2.
    let pre = "tokenizer.ggml.pre string starcoder".to_owned();
    assert!(fixture.lines().contains(&pre));
}

#[test]
fn qwen3() {
    let config = json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "num_hidden_layers": 2, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936, "tie_word_embeddings": true, "rope_theta": 1000000, "rms_norm_eps": 1e-06, "max_position_embeddings": 40960, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 151643, "eos_token_id": 151645, "attention_bias": false, "use_sliding_window": false});
    check(
        config,
        "
        general.architecture string qwen3
        general.type string model
        general.name string Cg
        general.size_label string 187M
        qwen3.block_count u32 2
        qwen3.context_length u32 40960
        qwen3.embedding_length u32 1024
        qwen3.feed_forward_length u32 3072
        qwen3.attention.head_count u32 16
        qwen3.attention.head_count_kv u32 8
        qwen3.rope.freq_base f32 1000000
        qwen3.attention.layer_norm_rms_epsilon f32 0.000001
        qwen3.attention.key_length u32 128
        qwen3.attention.value_length u32 128
        general.file_type u32 32
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn smollm2() {
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "vocab_size": 49152, "tie_word_embeddings": true, "rope_theta": 100000, "rms_norm_eps": 1e-05, "max_position_embeddings": 8192, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2});
    check(
        config,
        "
        general.architecture string llama
        general.type string model
        general.name string Cg
        general.size_label string 35M
        llama.block_count u32 2
        llama.context_length u32 8192
        llama.embedding_length u32 576
        llama.feed_forward_length u32 1536
        llama.attention.head_count u32 9
        llama.attention.head_count_kv u32 3
        llama.rope.freq_base f32 100000
        llama.attention.layer_norm_rms_epsilon f32 0.00001
        llama.attention.key_length u32 64
        llama.attention.value_length u32 64
        general.file_type u32 32
        llama.vocab_size u32 49152
        llama.rope.dimension_count u32 64
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn tinyllama() {
    let config = json!({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 32, "num_key_value_heads": 4, "intermediate_size": 5632, "vocab_size": 32000, "tie_word_embeddings": false, "rope_theta": 10000.0, "rms_norm_eps": 1e-05, "max_position_embeddings": 2048, "hidden_act": "silu", "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2});
    check(
        config,
        "
        general.architecture string llama
        general.type string model
        general.name string Cg
        general.size_label string 219M
        llama.block_count u32 2
        llama.context_length u32 2048
        llama.embedding_length u32 2048
        llama.feed_forward_length u32 5632
        llama.attention.head_count u32 32
        llama.attention.head_count_kv u32 4
        llama.rope.freq_base f32 10000
        llama.attention.layer_norm_rms_epsilon f32 0.00001
        llama.attention.key_length u32 64
        llama.attention.value_length u32 64
        general.file_type u32 32
        llama.vocab_size u32 32000
        llama.rope.dimension_count u32 64
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn qwen3_with_yarn() {
    let config = json!({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 2560, "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 9728, "vocab_size": 151936, "tie_word_embeddings": true, "rope_theta": 1000000, "rms_norm_eps": 1e-06, "max_position_embeddings": 40960, "bos_token_id": 151643, "eos_token_id": 151645, "attention_bias": false, "use_sliding_window": false, "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768, "beta_fast": 32.0, "beta_slow": 1.0}});
    check(
        config,
        "
        general.architecture string qwen3
        general.type string model
        general.name string Cg
        general.size_label string 4.0B
        qwen3.block_count u32 36
        qwen3.context_length u32 40960
        qwen3.embedding_length u32 2560
        qwen3.feed_forward_length u32 9728
        qwen3.attention.head_count u32 32
        qwen3.attention.head_count_kv u32 8
        qwen3.rope.scaling.type string yarn
        qwen3.rope.scaling.factor f32 4
        qwen3.rope.scaling.original_context_length u32 32768
        qwen3.rope.scaling.yarn_beta_fast f32 32
        qwen3.rope.scaling.yarn_beta_slow f32 1
        qwen3.rope.freq_base f32 1000000
        qwen3.attention.layer_norm_rms_epsilon f32 0.000001
        qwen3.attention.key_length u32 128
        qwen3.attention.value_length u32 128
        general.file_type u32 32
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn qwen3_moe() {
    let config = json!({"architectures": ["Qwen3MoeForCausalLM"], "attention_bias": false, "bos_token_id": 151643, "decoder_sparse_step": 1, "eos_token_id": 151645, "head_dim": 128, "hidden_size": 2048, "intermediate_size": 6144, "max_position_embeddings": 40960, "max_window_layers": 48, "mlp_only_layers": [], "model_type": "qwen3_moe", "moe_intermediate_size": 768, "norm_topk_prob": true, "num_attention_heads": 32, "num_experts": 128, "num_experts_per_tok": 8, "num_hidden_layers": 48, "num_key_value_heads": 4, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000.0, "sliding_window": null, "tie_word_embeddings": false, "use_sliding_window": false, "vocab_size": 151936});
    check(
        config,
        "
        general.architecture string qwen3moe
        general.type string model
        general.name string Cg
        general.size_label string 128x1.8B
        qwen3moe.block_count u32 48
        qwen3moe.context_length u32 40960
        qwen3moe.embedding_length u32 2048
        qwen3moe.feed_forward_length u32 6144
        qwen3moe.attention.head_count u32 32
        qwen3moe.attention.head_count_kv u32 4
        qwen3moe.rope.freq_base f32 1000000
        qwen3moe.attention.layer_norm_rms_epsilon f32 0.000001
        qwen3moe.expert_count u32 128
        qwen3moe.expert_used_count u32 8
        qwen3moe.attention.key_length u32 128
        qwen3moe.attention.value_length u32 128
        general.file_type u32 32
        qwen3moe.expert_feed_forward_length u32 768
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn smollm3() {
    let config = json!({"architectures": ["SmolLM3ForCausalLM"], "attention_bias": false, "bos_token_id": 128000, "eos_token_id": 128012, "hidden_size": 2048, "intermediate_size": 11008, "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": false, "model_type": "smollm3", "no_rope_layer_interval": 4, "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4, "pad_token_id": 128004, "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 5000000.0, "sliding_window": null, "use_sliding_window": false, "vocab_size": 128256});
    check(
        config,
        "
        general.architecture string smollm3
        general.type string model
        general.name string Cg
        general.size_label string 3.1B
        smollm3.block_count u32 36
        smollm3.context_length u32 65536
        smollm3.embedding_length u32 2048
        smollm3.feed_forward_length u32 11008
        smollm3.attention.head_count u32 16
        smollm3.attention.head_count_kv u32 4
        smollm3.rope.freq_base f32 5000000
        smollm3.attention.layer_norm_rms_epsilon f32 0.000001
        general.file_type u32 32
        smollm3.vocab_size u32 128256
        smollm3.rope.dimension_count u32 128
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn gemma2() {
    let config = json!({"architectures": ["Gemma2ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": 50.0, "bos_token_id": 2, "eos_token_id": 1, "final_logit_softcapping": 30.0, "head_dim": 256, "hidden_size": 2304, "intermediate_size": 9216, "max_position_embeddings": 8192, "model_type": "gemma2", "num_attention_heads": 8, "num_hidden_layers": 26, "num_key_value_heads": 4, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_theta": 10000.0, "sliding_window": 4096, "vocab_size": 256000});
    check(
        config,
        "
        general.architecture string gemma2
        general.type string model
        general.name string Cg
        general.size_label string 2.6B
        gemma2.context_length u32 8192
        gemma2.embedding_length u32 2304
        gemma2.block_count u32 26
        gemma2.feed_forward_length u32 9216
        gemma2.attention.head_count u32 8
        gemma2.attention.head_count_kv u32 4
        gemma2.attention.layer_norm_rms_epsilon f32 0.000001
        gemma2.attention.key_length u32 256
        gemma2.attention.value_length u32 256
        general.file_type u32 32
        gemma2.attn_logit_softcapping f32 50
        gemma2.final_logit_softcapping f32 30
        gemma2.attention.sliding_window u32 4096
        general.quantization_version u32 2
    ",
    );
}

#[test]
fn gemma3() {
    let config = json!({"architectures": ["Gemma3ForCausalLM"], "attention_bias": false, "attn_logit_softcapping": null, "bos_token_id": 2, "eos_token_id": [1, 106], "final_logit_softcapping": null, "head_dim": 256, "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768, "model_type": "gemma3_text", "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1, "pad_token_id": 0, "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000, "rope_scaling": null, "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size": 262144});
    check(
        config,
        "
        general.architecture string gemma3
        general.type string model
        general.name string Cg
        general.size_label string 1000M
        gemma3.block_count u32 26
        gemma3.context_length u32 32768
        gemma3.embedding_length u32 1152
        gemma3.feed_forward_length u32 6912
        gemma3.attention.head_count u32 4
        gemma3.attention.head_count_kv u32 1
        gemma3.rope.freq_base f32 1000000
        gemma3.rope.freq_base_swa f32 10000
        gemma3.attention.layer_norm_rms_epsilon f32 0.000001
        gemma3.attention.key_length u32 256
        gemma3.attention.value_length u32 256
        general.file_type u32 32
        gemma3.attention.sliding_window u32 512
        general.quantization_version u32 2
    ",
    );
}
