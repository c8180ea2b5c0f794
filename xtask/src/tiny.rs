//! Small checkpoints with weights: big enough for every block format, small enough for a repository.
//! The weights are noise with the heavy tail that trained weights have.

use serde_json::{Map, Value, json};

/// A tensor in F32: name, shape.
type Tensor = (String, Vec<u64>);

/// A Llama with grouped heads and an untied head; its rows are whole K-quant blocks.
pub(crate) fn llama() -> (&'static str, Value, Vec<Tensor>) {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256,
        "intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 512, "vocab_size": 96,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu",
        "tie_word_embeddings": false, "torch_dtype": "float32",
    });
    let mut tensors = decoder(2, 256, 256, 256, 128, 96);
    tensors.push(("lm_head.weight".to_owned(), vec![96, 256]));
    ("tiny-llama", config, tensors)
}

/// A Qwen3 whose rows are no whole K-quant blocks, tied.
pub(crate) fn qwen3() -> (&'static str, Value, Vec<Tensor>) {
    let config = json!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 96,
        "intermediate_size": 160, "num_hidden_layers": 2, "num_attention_heads": 3,
        "num_key_value_heads": 1, "head_dim": 32, "max_position_embeddings": 512,
        "vocab_size": 96, "rms_norm_eps": 1e-6, "rope_theta": 1_000_000.0, "hidden_act": "silu",
        "tie_word_embeddings": true, "attention_bias": false, "torch_dtype": "float32",
    });
    let mut tensors = decoder(2, 96, 160, 96, 32, 96);
    for block in 0..2 {
        for name in ["q_norm", "k_norm"] {
            tensors.push((
                format!("model.layers.{block}.self_attn.{name}.weight"),
                vec![32],
            ));
        }
    }
    ("tiny-qwen3", config, tensors)
}

fn decoder(
    blocks: u64,
    hidden: u64,
    inner: u64,
    queries: u64,
    keys: u64,
    vocab: u64,
) -> Vec<Tensor> {
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![vocab, hidden])];
    for block in 0..blocks {
        for (name, shape) in [
            ("input_layernorm", vec![hidden]),
            ("mlp.down_proj", vec![hidden, inner]),
            ("mlp.gate_proj", vec![inner, hidden]),
            ("mlp.up_proj", vec![inner, hidden]),
            ("post_attention_layernorm", vec![hidden]),
            ("self_attn.k_proj", vec![keys, hidden]),
            ("self_attn.o_proj", vec![hidden, queries]),
            ("self_attn.q_proj", vec![queries, hidden]),
            ("self_attn.v_proj", vec![keys, hidden]),
        ] {
            tensors.push((format!("model.layers.{block}.{name}.weight"), shape));
        }
    }
    tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
    tensors
}

/// A whole safetensors file in BF16; norms are ones.
pub(crate) fn safetensors(tensors: &[Tensor]) -> anyhow::Result<Vec<u8>> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    header.insert("__metadata__".to_owned(), json!({ "format": "pt" }));
    let mut noise = Noise::default();
    for (name, shape) in tensors {
        let start = data.len();
        for _ in 0..shape.iter().product::<u64>() {
            let value = if shape.len() == 1 {
                1.0
            } else {
                noise.weight()
            };
            data.extend(bf16(value).to_le_bytes());
        }
        let entry = json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let mut json = serde_json::to_vec(&Value::Object(header))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.append(&mut json);
    file.append(&mut data);
    Ok(file)
}

/// Rounds to nearest, ties to even.
pub(crate) fn bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    ((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// A generator that gives the same numbers everywhere (xorshift64*).
pub(crate) struct Noise(u64);

impl Default for Noise {
    fn default() -> Noise {
        Noise(0x0123_4567_89ab_cdef)
    }
}

impl Noise {
    fn uniform(&mut self) -> f32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40;
        bits as f32 / (1u32 << 24) as f32
    }

    /// A sum of four uniforms, near enough to a normal of deviation 0.02; one in about a thousand
    /// is eight times as large. No library function enters, whose last bits differ by platform.
    pub(crate) fn weight(&mut self) -> f32 {
        let sum = self.uniform() + self.uniform() + self.uniform() + self.uniform();
        let tail = if self.uniform() < 0.001 { 8.0 } else { 1.0 };
        (sum - 2.0) * 0.0346 * tail
    }
}
