//! Files with one change each: a key or a tensor left out or added, of another type, length or shape.

use orinplan::dtype::Dtype;
use orinplan::gguf::{StringList, Value};

use super::gguf_file::{GgufFile, Tensor};

/// What is added to the mean square or variance in the norms of one kind or the other.
const EPSILONS: [&str; 2] = [
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
];

impl GgufFile {
    /// The file itself, and the file with each change.
    pub(super) fn variants(&self) -> Vec<(String, GgufFile)> {
        let mut all = vec![("as it is".to_owned(), self.clone())];
        self.keys(&mut all);
        self.types(&mut all);
        self.numbers(&mut all);
        self.vocabularies(&mut all);
        self.weights(&mut all);
        self.companions(&mut all);
        all
    }

    /// Every key as another type.
    fn types(&self, all: &mut Vec<(String, GgufFile)>) {
        let own = |key: &str| format!("{}.{key}", self.architecture());
        let text = || Value::String("x".to_owned());
        let others = [
            ("general.name".to_owned(), Value::U32(1)),
            ("general.file_type".to_owned(), Value::U64(1)),
            ("general.file_type".to_owned(), text()),
            ("tokenizer.ggml.add_bos_token".to_owned(), Value::U32(1)),
            ("tokenizer.ggml.add_space_prefix".to_owned(), text()),
            ("tokenizer.ggml.pre".to_owned(), Value::U32(1)),
            ("tokenizer.chat_template".to_owned(), Value::U32(1)),
            (own("vocab_size"), Value::U64(64)),
            (own("rope.freq_base"), Value::F64(1e4)),
            (own("rope.scaling.type"), Value::U32(1)),
            (own("rope.scaling.type"), text()),
            (own("attention.sliding_window"), Value::U64(32)),
            (own("attention.causal"), Value::U32(1)),
            (own("final_logit_softcapping"), Value::F64(30.0)),
            (own("logit_scale"), Value::F64(30.0)),
            (own("attention.shared_kv_layers"), Value::U64(0)),
            (own("full_attention_interval"), Value::U64(4)),
            (own("expert_weights_norm"), Value::U32(1)),
        ];
        for (key, value) in others {
            let what = format!("{key} as {}", value.type_name());
            all.push((what, self.with(&key, value)));
        }
        for (key, value) in &self.metadata {
            let other = match value {
                Value::F32(x) => Value::F64((*x).into()),
                Value::Bool(flag) => Value::U32((*flag).into()),
                Value::U32(n) if !key.starts_with("general.") => Value::U64((*n).into()),
                _ => continue,
            };
            all.push((format!("{key} wider"), self.with(key, other)));
        }
    }

    /// Numbers out of their range.
    fn numbers(&self, all: &mut Vec<(String, GgufFile)>) {
        let own = |key: &str| format!("{}.{key}", self.architecture());
        let mut set = |key: &str, value: Value| {
            let what = format!("{key} is {value:?}");
            all.push((what, self.with(&own(key), value)));
        };
        for key in ["attention.key_length", "attention.value_length"] {
            set(key, Value::U32(0));
        }
        for dims in [0, 2, 7, 1 << 10] {
            set("rope.dimension_count", Value::U32(dims));
        }
        for sections in [vec![1, 1, 1], vec![1, 1, 1, 1], vec![0; 4], vec![1; 5]] {
            set("rope.dimension_sections", Value::I32s(sections));
        }
        set("expert_used_count", Value::U32(2));
        set("expert_count", Value::U32(2));
        set("expert_group_count", Value::U32(3));
        set("nextn_predict_layers", Value::U32(99));
        set("block_count", Value::U32(600));
        let blocks = match self.get(&own("block_count")) {
            Some(Value::U32(blocks)) => *blocks,
            _ => 0,
        };
        let flags = |count: u32| Value::Array(vec![Value::Bool(false); count as usize]);
        set("attention.recurrent_layers", flags(blocks + 1));
        set("attention.recurrent_layers", Value::F32(1.0));
        if blocks > 3 {
            set("nextn_predict_layers", Value::U32(1));
        }
        if self.get(&own("attention.sliding_window")).is_some() {
            set("attention.sliding_window_pattern", flags(blocks + 1));
            set("attention.sliding_window_pattern", Value::F32(1.0));
        }
        let further = self
            .with(&own("nextn_predict_layers"), Value::U32(1))
            .with(&own("block_count"), Value::U32(blocks + 1));
        all.push(("a block ahead that is not there".to_owned(), further));
    }

    /// Tensors that belong to others, and others' types.
    fn companions(&self, all: &mut Vec<(String, GgufFile)>) {
        for name in ["v.patch.weight", "mm.0.weight", "a.conv.weight"] {
            all.push((format!("with {name}"), self.with_tensor(name, &[4, 4])));
        }
        for (weight, companion, shape) in [
            ("blk.0.attn_q", "scale", vec![1]),
            ("blk.0.attn_q", "scale", vec![2]),
            ("blk.0.attn_output", "input_scale", vec![1]),
            ("blk.0.attn_norm", "scale", vec![1]),
            ("blk.0.ffn_gate_inp", "scale", vec![1]),
            ("token_embd", "scale", vec![1]),
            ("output", "scale", vec![1]),
        ] {
            let name = format!("{weight}.{companion}");
            let what = format!("with {name} {shape:?}");
            let has = |name: &str| self.tensors.iter().any(|t| t.name == name);
            if has(&format!("{weight}.weight")) && !has(&name) {
                all.push((what, self.with_tensor(&name, &shape)));
            }
        }
        for stem in [
            "blk.0.attn_q",
            "blk.1.attn_q",
            "blk.0.attn_qkv",
            "blk.0.attn_output",
            "blk.1.attn_output",
            "blk.0.ffn_up",
            "blk.0.ffn_down",
            "blk.0.ffn_gate",
            "blk.0.ssm_in",
            "output",
        ] {
            let (name, bias) = (format!("{stem}.weight"), format!("{stem}.bias"));
            let weight = self.tensors.iter().find(|t| t.name == name);
            if let Some(weight) = weight.filter(|_| !self.tensors.iter().any(|t| t.name == bias)) {
                let rows = weight.shape.first().copied().unwrap_or(1);
                all.push((format!("with {bias}"), self.with_tensor(&bias, &[rows])));
            }
        }
        let first = self.tensors.iter().filter(|tensor| {
            let block = tensor.name.strip_prefix("blk.");
            block.is_none_or(|rest| rest.starts_with("0."))
        });
        for tensor in first {
            let elements = tensor.shape.iter().product::<u64>() as usize;
            for (dtype, width) in [(Dtype::F16, 2), (Dtype::I8, 1)] {
                let mut other = self.clone();
                for changed in other.tensors.iter_mut().filter(|t| t.name == tensor.name) {
                    changed.dtype = dtype;
                    changed.bytes = vec![0; elements * width];
                }
                all.push((format!("{} as {}", tensor.name, dtype.name()), other));
            }
        }
    }

    fn keys(&self, all: &mut Vec<(String, GgufFile)>) {
        let own = |key: &str| format!("{}.{key}", self.architecture());
        let names = self.metadata.iter().map(|(key, _)| key);
        for key in names.filter(|key| !key.starts_with("general.")) {
            all.push((format!("without {key}"), self.without(key)));
        }
        for key in [
            "block_count",
            "context_length",
            "embedding_length",
            "attention.head_count",
            "attention.head_count_kv",
            "feed_forward_length",
        ] {
            let key = own(key);
            if let Some(&Value::U32(n)) = self.get(&key) {
                all.push((
                    format!("{key} as u64"),
                    self.with(&key, Value::U64(n.into())),
                ));
                let as_i32 = self.with(&key, Value::I32(n.cast_signed()));
                all.push((format!("{key} as i32"), as_i32));
                all.push((
                    format!("{key} one more"),
                    self.with(&key, Value::U32(n + 1)),
                ));
            }
        }
        for key in EPSILONS {
            let mut set = |value: Value| {
                let what = format!("{key} is {value:?}");
                all.push((what, self.with(&own(key), value)));
            };
            set(Value::F64(1e-6));
            set(Value::F32(f32::NAN));
            set(Value::F32(-1e-6));
        }
        let heads = own("attention.head_count");
        if let (Some(Value::U32(n)), Some(Value::U32(blocks))) =
            (self.get(&heads), self.get(&own("block_count")))
        {
            let each =
                |blocks: u32| Value::Array(vec![Value::I32(n.cast_signed()); blocks as usize]);
            all.push((
                "heads of each block".to_owned(),
                self.with(&heads, each(*blocks)),
            ));
            let short = self.with(&heads, each(*blocks - 1));
            all.push(("heads of all blocks but one".to_owned(), short));
        }
    }

    fn vocabularies(&self, all: &mut Vec<(String, GgufFile)>) {
        let key = "tokenizer.ggml.tokens";
        if let Some(Value::Strings(list)) = self.get(key) {
            let of = |count: usize| {
                let mut texts = StringList::default();
                let further = std::iter::repeat("[more]");
                list.iter()
                    .chain(further)
                    .take(count)
                    .for_each(|text| texts.push(text));
                self.with(key, Value::Strings(texts))
            };
            all.push(("one token less".to_owned(), of(list.len() - 1)));
            all.push(("one token more".to_owned(), of(list.len() + 1)));
            let alone = self
                .without(key)
                .with("tokenizer.ggml.model", Value::String("none".into()));
            all.push(("no vocabulary".to_owned(), alone.clone()));
            let size = format!("{}.vocab_size", self.architecture());
            let sized = alone.with(&size, Value::U32(list.len() as u32));
            all.push(("no vocabulary but its size".to_owned(), sized));
            let numbers = self.with(key, Value::I32s(vec![0; list.len()]));
            all.push(("tokens that are numbers".to_owned(), numbers));
            let mut twice = StringList::default();
            let texts: Vec<&str> = list.iter().collect();
            let last = texts.get(3).copied().unwrap_or_default();
            let but_one = texts.iter().take(texts.len() - 1);
            but_one
                .copied()
                .chain([last])
                .for_each(|text| twice.push(text));
            all.push((
                "two tokens alike".to_owned(),
                self.with(key, Value::Strings(twice)),
            ));
            let empty = list.iter().enumerate();
            let mut blank = StringList::default();
            empty.for_each(|(n, text)| blank.push(if n % 7 == 6 { "" } else { text }));
            all.push((
                "tokens without text".to_owned(),
                self.with(key, Value::Strings(blank)),
            ));
            let unknown = Value::String("of-tomorrow".to_owned());
            let unknown = self.with("tokenizer.ggml.pre", unknown);
            all.push(("a pre-tokenizer of tomorrow".to_owned(), unknown));
            let whole = Value::I32s(vec![0; list.len()]);
            let whole = self.with("tokenizer.ggml.scores", whole);
            all.push(("whole scores".to_owned(), whole));
        }
        let key = "tokenizer.ggml.scores";
        if let Some(Value::F32s(scores)) = self.get(key) {
            let short = scores.iter().copied().skip(1).collect();
            all.push((
                "one score less".to_owned(),
                self.with(key, Value::F32s(short)),
            ));
        }
        let key = "tokenizer.ggml.token_type";
        if let Some(Value::I32s(types)) = self.get(key) {
            let short = types.iter().copied().skip(1).collect();
            all.push((
                "one type less".to_owned(),
                self.with(key, Value::I32s(short)),
            ));
            let numbers = Value::F32s(vec![1.0; types.len()]);
            all.push(("types as f32".to_owned(), self.with(key, numbers)));
        }
        let eos = "tokenizer.ggml.eos_token_id";
        all.push((
            "an end that is i32".to_owned(),
            self.with(eos, Value::I32(2)),
        ));
    }

    fn weights(&self, all: &mut Vec<(String, GgufFile)>) {
        let first = self.tensors.iter().filter(|tensor| {
            let block = tensor.name.strip_prefix("blk.");
            block.is_none_or(|rest| rest.starts_with("0."))
        });
        for tensor in first {
            let name = &tensor.name;
            all.push((format!("without {name}"), self.without_tensor(name)));
            if let &[rows, columns] = tensor.shape.as_slice()
                && rows > 1
            {
                let row = tensor.bytes.len() / rows as usize;
                let mut less = self.clone();
                for other in less.tensors.iter_mut().filter(|t| t.name == *name) {
                    other.shape = vec![rows - 1, columns];
                    other.bytes.truncate(tensor.bytes.len() - row);
                }
                all.push((format!("{name} with a row less"), less));
            }
        }
        let none = GgufFile {
            tensors: Vec::new(),
            ..self.clone()
        };
        all.push(("without tensors".to_owned(), none));
        let embedding = self.tensors.iter().find(|t| t.name == "token_embd.weight");
        if let Some(embedding) = embedding
            && !self.tensors.iter().any(|t| t.name == "output.weight")
        {
            let mut own = self.clone();
            let name = "output.weight".to_owned();
            own.tensors.push(Tensor {
                name,
                ..embedding.clone()
            });
            all.push(("with a head beside the embedding".to_owned(), own));
        }
        let stranger = self.with_tensor("blk.0.stranger.weight", &[32]);
        all.push(("with a stranger".to_owned(), stranger));
        let beyond = self.with_tensor("blk.99.attn_norm.weight", &[256]);
        all.push(("with a tensor of block 99".to_owned(), beyond));
        for (table, count) in [
            ("rope_freqs.weight", 7),
            ("rope_freqs.weight", 8),
            ("rope_factors_long.weight", 8),
        ] {
            let long = self.without_tensor(table).with_tensor(table, &[count]);
            all.push((format!("with {table} of {count}"), long));
        }
    }
}
