//! What is accepted loads in llama.cpp, and what is refused as unloadable does not: every family's file
//! with each key and each tensor of a kind left out in turn, with other types, lengths and shapes.

use std::fs;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use orinplan::checkpoint;
use orinplan::dtype::Dtype;
use orinplan::gguf::{self, StringList, TensorEntry, Value};
use orinplan::model::{self, Unknown, accept};
use serde_json::json;

use super::bench::Bench;
use super::families::Made;
use super::shapes;

/// A GGUF in memory.
#[derive(Clone)]
pub(super) struct File {
    pub(super) metadata: Vec<(String, Value)>,
    pub(super) tensors: Vec<Tensor>,
}

#[derive(Clone)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    pub(super) bytes: Vec<u8>,
}

/// Checks every family, and the kinds of checkpoints that were once written wrong.
pub(super) fn check(bench: &mut Bench, made: &Made) {
    for shape in shapes::SHAPES {
        let outcome = shapes::file(bench, shape).and_then(|file| variants(bench, &file));
        bench.report(&format!("{} accepted or refused", shape.0), outcome);
    }
    for family in &made.families {
        let outcome = family_files(bench, made, family);
        bench.report(&format!("{family} accepted or refused"), outcome);
    }
    let outcome = padded(bench, made);
    bench.report("fewer tokens than rows of the embedding", outcome);
    let outcome = own_head(bench, made);
    bench.report("tied, with a head of its own", outcome);
}

fn family_files(bench: &mut Bench, made: &Made, family: &str) -> anyhow::Result<String> {
    let name = format!("accept-{family}.gguf");
    let file = bench.quantize(&made.checkpoint(family), "f16", &name, &[])?;
    variants(bench, &File::read(&file)?)
}

/// Our answer to `whole` and to each file that is one step away from it, against llama.cpp's.
fn variants(bench: &mut Bench, whole: &File) -> anyhow::Result<String> {
    let path = bench.file("accept.gguf");
    let (mut accepted, mut refused, mut apart) = (0, 0, Vec::new());
    for (what, file) in whole.variants() {
        file.write(&path)?;
        let ours = accepts(&path);
        let theirs = loads(bench, &path);
        match (&ours, &theirs) {
            (Err(error), _) if accepted + refused + apart.len() == 0 => {
                bail!("the file itself is refused: {error:#}")
            }
            (Ok(()), Ok(())) => accepted += 1,
            (Err(_), Err(_)) => refused += 1,
            (Ok(()), Err(error)) => {
                apart.push(format!("{what}: accepted, and does not load: {error:#}"))
            }
            (Err(error), Ok(())) => apart.push(format!("{what}: loads, and is refused: {error:#}")),
        }
    }
    ensure!(apart.is_empty(), "{}", apart.join("\n      "));
    ensure!(
        accepted > 0 && refused > 0,
        "{accepted} accepted, {refused} refused"
    );
    Ok(format!(
        "llama.cpp loads the {accepted} accepted files and none of the {refused} refused"
    ))
}

/// What `fit`, `validate` and `quantize` say of the file.
fn accepts(path: &Path) -> anyhow::Result<()> {
    let checkpoint = checkpoint::open(&path.to_string_lossy())?;
    let model = model::read(&checkpoint, Unknown::Refuse)?;
    accept::checkpoint(&checkpoint, &model)?;
    Ok(())
}

fn loads(bench: &mut Bench, path: &Path) -> anyhow::Result<()> {
    let request = json!({ "path": path });
    bench.probe.ask("loads", request).map(|_| ())
}

/// A SentencePiece-like `tokenizer.json` alone, and a larger embedding.
fn padded(bench: &mut Bench, made: &Made) -> anyhow::Result<String> {
    let mut said = Vec::new();
    for family in ["mistral", "qwen3"] {
        let directory = bench.file(&format!("padded-{family}"));
        let request = json!({
            "family": family, "like": made.checkpoint(family), "directory": directory, "rows": 24,
        });
        bench.probe.ask("other", request)?;
        let name = format!("padded-{family}.gguf");
        let file = bench.quantize(&directory, "q8_0", &name, &[])?;
        accepts(&file)?;
        loads(bench, &file)?;
        let tokens = File::read(&file)?.texts("tokenizer.ggml.tokens")?;
        let last = tokens.iter().last().unwrap_or_default().to_owned();
        ensure!(
            last == format!("[PAD{}]", tokens.len() - 1),
            "{family}: the last token is {last}"
        );
        said.push(format!("{family} ends with {last}"));
    }
    Ok(format!("{}; both answer", said.join(", ")))
}

/// A checkpoint whose configuration ties a head that differs from the embedding.
fn own_head(bench: &mut Bench, made: &Made) -> anyhow::Result<String> {
    let family = "qwen3";
    let directory = bench.file("own-head");
    let request = json!({
        "family": family, "like": made.checkpoint(family), "directory": directory, "head": true,
    });
    bench.probe.ask("other", request)?;
    let file = bench.quantize(&directory, "f16", "own-head.gguf", &[])?;
    let has_head = |file: &Path| -> anyhow::Result<bool> {
        let tensors = File::read(file)?.tensors;
        Ok(tensors.iter().any(|tensor| tensor.name == "output.weight"))
    };
    ensure!(has_head(&file)?, "the file has no output.weight");
    let tied = bench.quantize(&made.checkpoint(family), "f16", "tied.gguf", &[])?;
    ensure!(!has_head(&tied)?, "the tied file has an output.weight");
    let ask = |bench: &mut Bench, file: &Path| {
        let request = json!({ "file": file, "ids": made.prompt, "count": 8 });
        bench.probe.ask("complete", request)
    };
    let (own, tied) = (ask(bench, &file)?, ask(bench, &tied)?);
    ensure!(own != tied, "both continue with {own}");
    Ok("the file has it, and llama.cpp continues with other tokens".to_owned())
}

impl File {
    fn read(path: &Path) -> anyhow::Result<File> {
        let header = gguf::read_header(path)?;
        let content = fs::read(path)?;
        let mut metadata = Vec::new();
        for (key, value) in header.metadata.0 {
            let value = match value {
                Value::Located { .. } => resolved(gguf::elements(path, &value)?)?,
                value => value,
            };
            metadata.push((key, value));
        }
        let mut tensors = Vec::new();
        for tensor in header.tensors {
            let start = usize::try_from(tensor.offset)?;
            let bytes = content.get(start..start + usize::try_from(tensor.bytes.0)?);
            tensors.push(Tensor {
                bytes: bytes.context("the file is short")?.to_vec(),
                name: tensor.name,
                dtype: tensor.dtype,
                shape: tensor.shape,
            });
        }
        Ok(File { metadata, tensors })
    }

    fn write(&self, path: &Path) -> anyhow::Result<()> {
        let entry = self.tensors.iter().map(|tensor| TensorEntry {
            name: &tensor.name,
            dtype: tensor.dtype,
            shape: &tensor.shape,
        });
        let entries: Vec<TensorEntry<'_>> = entry.collect();
        let mut out = Vec::new();
        gguf::write_header(&mut out, &self.metadata, &entries)?;
        for tensor in &self.tensors {
            out.extend(&tensor.bytes);
            out.resize(out.len().next_multiple_of(32), 0);
        }
        Ok(fs::write(path, out)?)
    }

    fn texts(&self, key: &str) -> anyhow::Result<StringList> {
        match self.get(key) {
            Some(Value::Strings(list)) => Ok(list.clone()),
            other => anyhow::bail!("{key} is {other:?}"),
        }
    }

    fn get(&self, key: &str) -> Option<&Value> {
        let pair = self.metadata.iter().find(|(name, _)| name == key);
        pair.map(|(_, value)| value)
    }

    fn architecture(&self) -> String {
        match self.get("general.architecture") {
            Some(Value::String(name)) => name.clone(),
            _ => String::new(),
        }
    }

    fn with(&self, key: &str, value: Value) -> File {
        let mut file = self.without(key);
        file.metadata.push((key.to_owned(), value));
        file
    }

    fn without(&self, key: &str) -> File {
        let mut file = self.clone();
        file.metadata.retain(|(name, _)| name != key);
        file
    }

    fn without_tensor(&self, name: &str) -> File {
        let mut file = self.clone();
        file.tensors.retain(|tensor| tensor.name != name);
        file
    }

    fn with_tensor(&self, name: &str, shape: &[u64]) -> File {
        let mut file = self.clone();
        file.tensors.push(Tensor {
            name: name.to_owned(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: vec![0; 4 * shape.iter().product::<u64>() as usize],
        });
        file
    }

    /// The file itself, and every other that is one step away from it.
    fn variants(&self) -> Vec<(String, File)> {
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
    fn types(&self, all: &mut Vec<(String, File)>) {
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

    /// Numbers that have no place.
    fn numbers(&self, all: &mut Vec<(String, File)>) {
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
        set("attention.layer_norm_rms_epsilon", Value::F32(-1e-6));
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
    fn companions(&self, all: &mut Vec<(String, File)>) {
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
            if self
                .tensors
                .iter()
                .any(|t| t.name == format!("{weight}.weight"))
            {
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

    fn keys(&self, all: &mut Vec<(String, File)>) {
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
        let epsilon = own("attention.layer_norm_rms_epsilon");
        all.push((
            "epsilon as f64".to_owned(),
            self.with(&epsilon, Value::F64(1e-6)),
        ));
        let not_a_number = self.with(&epsilon, Value::F32(f32::NAN));
        all.push(("epsilon NaN".to_owned(), not_a_number));
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

    fn vocabularies(&self, all: &mut Vec<(String, File)>) {
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

    fn weights(&self, all: &mut Vec<(String, File)>) {
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
        let none = File {
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

/// Elements in the form in which the writer takes them.
fn resolved(elements: gguf::Elements) -> anyhow::Result<Value> {
    let values: Vec<Value> = elements.collect::<Result<_, _>>()?;
    let mut texts = StringList::default();
    let (mut integers, mut floats) = (Vec::new(), Vec::new());
    for value in &values {
        match value {
            Value::String(text) => texts.push(text),
            Value::I32(n) => integers.push(*n),
            Value::F32(x) => floats.push(*x),
            _ => {}
        }
    }
    Ok(match values.first() {
        Some(Value::String(_)) => Value::Strings(texts),
        Some(Value::I32(_)) => Value::I32s(integers),
        Some(Value::F32(_)) => Value::F32s(floats),
        _ => Value::Array(values),
    })
}
