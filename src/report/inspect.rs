//! `orinplan inspect`: what is in a checkpoint (`orinplan.inspect/1`).

use serde_json::{Map, Value, json};

use crate::checkpoint::{Checkpoint, OtherKind, RawConfig};
use crate::gguf;
use crate::model::ModelSpec;
use crate::report::count;
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::units::{Bytes, counted};

/// The document's first key.
pub const SCHEMA: &str = "orinplan.inspect/1";

/// The whole document. What follows from the architecture is `null` where that is not known.
pub fn document(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    kind: Option<&OtherKind>,
    refusal: Option<&str>,
) -> Value {
    let known = !model.layers.is_empty();
    let mut document = json!({
        "schema": SCHEMA,
        "model": {
            "name": model.name,
            "architecture": model.architecture,
            "parameters": model.parameters,
            "context_length": known.then_some(model.dims.context),
            "block_count": known.then_some(model.layers.len()),
            "hidden_size": known.then_some(model.dims.hidden),
            "vocabulary_size": known.then_some(model.dims.vocab),
            "tied_embedding": known.then_some(model.tied),
            "quantized_as": model.prequantized,
        },
        "files": checkpoint.files.iter().map(|file| json!({
            "name": file.path.file_name().map(|name| name.to_string_lossy()),
            "bytes": file.bytes,
        })).collect::<Vec<_>>(),
        "towers": model.towers.iter().map(|tower| json!({
            "name": tower.name, "parameters": tower.parameters, "bytes": tower.bytes,
        })).collect::<Vec<_>>(),
        "tensors": model.tensors.iter().map(|tensor| json!({
            "name": tensor.name,
            "role": format!("{:?}", tensor.role),
            "shape": tensor.shape,
            "type": tensor.dtype.name(),
            "bytes": tensor.stored_bytes,
        })).collect::<Vec<_>>(),
        "metadata": metadata(checkpoint),
    });
    if let (Some(kind), Some(object)) = (kind, document.as_object_mut()) {
        let kind = json!({ "what": kind.what, "way_out": kind.way_out });
        object.insert("kind".to_owned(), kind);
    }
    if let (Some(refusal), Some(object)) = (refusal, document.as_object_mut()) {
        object.insert("refused".to_owned(), json!(refusal));
    }
    document
}

fn metadata(checkpoint: &Checkpoint) -> Value {
    match &checkpoint.config {
        RawConfig::HuggingFace(config) => config.clone(),
        RawConfig::Gguf(metadata) => {
            let pairs = metadata
                .0
                .iter()
                .map(|(key, value)| (key.clone(), value_json(value)));
            Value::Object(pairs.collect::<Map<_, _>>())
        }
    }
}

fn value_json(value: &gguf::Value) -> Value {
    match value {
        gguf::Value::String(text) => json!(text),
        gguf::Value::Bool(flag) => json!(flag),
        gguf::Value::Array(items) => items.iter().map(value_json).collect(),
        gguf::Value::Located { len, .. } => json!({ "array_of": value.type_name(), "length": len }),
        number => match number.as_u64() {
            Some(n) => json!(n),
            None => json!(number.as_f64()),
        },
    }
}

/// The dimensions of the model, where the architecture is known.
fn shape(model: &ModelSpec) -> String {
    if model.layers.is_empty() {
        return "; its blocks are unknown".to_owned();
    }
    let tied = if model.tied {
        "tied embedding"
    } else {
        "separate output head"
    };
    format!(
        ", {}, hidden size {}, vocabulary {}, {tied}",
        counted(model.layers.len(), "block", "blocks"),
        model.dims.hidden,
        model.dims.vocab,
    )
}

/// The settings of a checkpoint without tensors that are a single word or number.
fn settings(checkpoint: &Checkpoint) -> Table {
    let mut table = Table::new([("setting", Align::Left), ("value", Align::Left)]).breaking_last();
    let metadata = metadata(checkpoint);
    for (key, value) in metadata.as_object().into_iter().flatten() {
        let value = match value.as_array().map(Vec::as_slice) {
            Some([only]) => only,
            _ => value,
        };
        match value {
            Value::String(text) => table.row([key.clone(), text.chars().take(80).collect()]),
            Value::Number(_) | Value::Bool(_) => table.row([key.clone(), value.to_string()]),
            _ => {}
        }
    }
    table
}

/// The report for a terminal.
pub fn text(
    checkpoint: &Checkpoint,
    model: &ModelSpec,
    kind: Option<&OtherKind>,
    refusal: Option<&str>,
    columns: Option<usize>,
) -> String {
    let mut out = Screen::new(columns);
    out.prose(&format!(
        "{}: {}, {}{}",
        model.name,
        model.architecture,
        match model.tensors.len() {
            0 => "no weights here".to_owned(),
            tensors => format!(
                "{} parameters in {}",
                count(model.parameters),
                counted(tensors, "tensor", "tensors")
            ),
        },
        shape(model),
    ));
    if let Some(kind) = kind {
        out.prose(&format!("it {kind}"));
    }
    if let Some(refusal) = refusal {
        out.prose(&format!("not planned: {refusal}"));
    }
    if let Some(now) = &model.prequantized {
        out.prose(&format!("quantized as {now}"));
    }
    for tower in &model.towers {
        let parameters = count(tower.parameters);
        out.prose(&format!(
            "beside the text model: {}, {parameters} parameters, {}",
            tower.name, tower.bytes
        ));
    }
    for file in &checkpoint.files {
        let name = file
            .path
            .file_name()
            .map(|name| name.to_string_lossy())
            .unwrap_or_default();
        out.prose(&format!("file: {name}, {}", file.bytes));
    }
    if model.tensors.is_empty() {
        out.blank();
        out.table(&settings(checkpoint), " ");
        return out.finish();
    }
    let mut table = Table::new([
        ("tensor", Align::Left),
        ("shape", Align::Right),
        ("type", Align::Left),
        ("bytes", Align::Right),
    ]);
    for tensor in &model.tensors {
        let shape: Vec<String> = tensor.shape.iter().map(u64::to_string).collect();
        table.row([
            tensor.name.clone(),
            shape.join(" x "),
            tensor.dtype.name().to_owned(),
            tensor.stored_bytes.0.to_string(),
        ]);
    }
    let total: Bytes = model.tensors.iter().map(|tensor| tensor.stored_bytes).sum();
    out.blank();
    out.table(&table, " ");
    out.line(format_args!("\ntotal {} bytes ({total})", total.0));
    out.finish()
}
