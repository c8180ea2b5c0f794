//! `--explain`: the ledger and the roofline of one plan, term by term, with formula and source.

use super::json::bound;
use super::range;
use super::{
    Report, conditions_text, energy_text, evidence_text, power_text, prompt_evidence_text, quality,
    requests,
};
use crate::plan::fit::speeds_at;
use crate::plan::operations::decode_operations;
use crate::plan::speed::Bound;
use crate::plan::{Plan, Workload};
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::report::{rate, seconds};
use crate::runtime::profile::Range;
use crate::units::{Bytes, counted, tokens};

/// The explanation of `plan`.
pub fn explain(report: &Report<'_>, plan: &Plan, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.line(format_args!(
        "\n{} in detail",
        plan.assignment.scheme.to_uppercase()
    ));
    types(&mut out, report, plan);
    ledger(&mut out, report, plan);
    match report.model.retrieval {
        Some(_) => passes(&mut out, report, plan),
        None => roofline(&mut out, report, plan),
    }
    out.push_str("\n Quality:\n");
    for fact in quality::explained(plan) {
        out.prose(&format!("   {fact}"));
    }
    out.finish()
}

/// The number of tensors and bytes of each type.
fn types(out: &mut Screen, report: &Report<'_>, plan: &Plan) {
    let mut rows: Vec<(&str, usize, Bytes)> = Vec::new();
    for assigned in &plan.assignment.tensors {
        let name = assigned.dtype.name();
        match rows.iter_mut().find(|row| row.0 == name) {
            Some(row) => {
                row.1 += 1;
                row.2 += assigned.bytes;
            }
            None => rows.push((name, 1, assigned.bytes)),
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.2));
    let mut table = Table::new([
        ("type", Align::Left),
        ("tensors", Align::Right),
        ("bytes", Align::Right),
    ]);
    for (name, tensors, bytes) in rows {
        table.row([name.to_owned(), tensors.to_string(), bytes.to_string()]);
    }
    out.blank();
    out.prose(&format!(
        " Types: {}, {} bytes, {:.3} bits per weight (rules of llama-quant.cpp)",
        counted(report.model.tensors.len(), "tensor", "tensors"),
        plan.tensor_bytes.0,
        plan.bits_per_weight,
    ));
    out.table(&table, "   ");
}

fn ledger(out: &mut Screen, report: &Report<'_>, plan: &Plan) {
    let Report {
        target,
        workload,
        model,
        ..
    } = report;
    let memory = &plan.memory;
    let settings = workload.kv_settings(target.runtime.memory.context_multiple.value);
    let cache = crate::plan::kv::kv_cache(model, &settings);
    let mut table = Table::new([
        ("term", Align::Left),
        ("bytes", Align::Right),
        ("", Align::Right),
        ("how", Align::Left),
    ])
    .giving_up(&["bytes"])
    .breaking_last();
    let mut term = |name: &str, bytes: Bytes, how: String| {
        if bytes > Bytes(0) {
            table.row([
                name.to_owned(),
                bytes.0.to_string(),
                format!("{bytes}"),
                how,
            ]);
        }
    };
    term(
        "weights",
        memory.weights,
        "sum over tensors of rows x row bytes".to_owned(),
    );
    term(
        "second embedding",
        memory.duplicated_embedding,
        "tied embedding kept for input and output (llama-model.cpp, load_tensors)".to_owned(),
    );
    let windows = match cache.layers_window {
        0 => String::new(),
        layers => format!(
            " + {} x {} cells",
            counted(layers, "sliding layer", "sliding layers"),
            cache.cells_window
        ),
    };
    term(
        "KV cache",
        memory.kv_cache,
        format!(
            "{} x {} cells{windows} x (K + V row) x sequences",
            counted(cache.layers_full, "layer", "layers"),
            cache.cells_full
        ),
    );
    term(
        "recurrent state",
        memory.recurrent_state,
        "F32 state of each recurrent layer x sequences".to_owned(),
    );
    let stage = memory.stages.iter().max_by_key(|stage| stage.1);
    term(
        "compute buffers",
        memory.compute,
        stage.map_or("share of the weights".to_owned(), |(name, bytes)| {
            format!(
                "peak of one pass of {}, at {name} ({bytes})",
                tokens(settings.tokens())
            )
        }),
    );
    term(
        "image encoder",
        memory.image_encoder,
        "peak of one pass over a picture, and its pixels (clip.cpp)".to_owned(),
    );
    term(
        "draft",
        memory.draft,
        "its weights, its own cache in F16, and its compute buffers".to_owned(),
    );
    term(
        "output rows",
        memory.output,
        "vocabulary x 4 bytes x sequences".to_owned(),
    );
    let source = |key: &String| target.runtime.sources.get(key).cloned().unwrap_or_default();
    let bounds = |range: &Range| {
        format!(
            "{} to {}: {}",
            Bytes(range.low as u64),
            Bytes(range.high as u64),
            source(&range.source)
        )
    };
    let own = &target.runtime.memory;
    let process = own.process_bytes.as_ref();
    term(
        "process",
        memory.runtime.process,
        process.map(bounds).unwrap_or_default(),
    );
    let entry = own.vocabulary_entry_bytes.as_ref();
    let flat = || {
        entry.map_or_else(String::new, |entry| {
            format!(
                "{} bytes an entry of the vocabulary: {}",
                entry.value,
                source(&entry.source)
            )
        })
    };
    let counted = own.tokenizer_bytes.as_ref().zip(workload.merges);
    term(
        "tokenizer",
        memory.runtime.tokenizer,
        counted.map_or_else(flat, |(bytes, merges)| {
            format!(
                "{} bytes an entry, {} a merge ({merges}): {}",
                bytes.entry,
                bytes.merge,
                source(&bytes.source)
            )
        }),
    );
    term("runtime", memory.runtime.rest, bounds(&own.runtime_bytes));
    term("total", memory.total(), String::new());
    if let Some(entry) = own.loading_entry_bytes.as_ref() {
        term(
            "while loading",
            memory.loading,
            format!(
                "for a moment, before caches and buffers: {} bytes an entry of the vocabulary: {}",
                entry.value,
                source(&entry.source)
            ),
        );
    }
    let device = target.device;
    let pool = match workload.budget {
        Some(budget) => format!("--budget {budget}"),
        None => format!(
            "{} less {} held by the system ({})",
            device.total_memory.value,
            device.system(workload.session).expected.value,
            device.system(workload.session).expected.source,
        ),
    };
    let reserve = match workload.reserve {
        Bytes(0) => String::new(),
        reserve => format!(", less --reserve {reserve}"),
    };
    term("available", plan.available, format!("{pool}{reserve}"));
    term(
        "largest allocation",
        memory.largest_allocation,
        "in one piece".to_owned(),
    );
    out.push_str("\n Memory, one pool for CPU and GPU:\n");
    out.table(&table, "   ");
}

/// The rates of a model that turns texts into numbers, by the length of the texts.
fn passes(out: &mut Screen, report: &Report<'_>, plan: &Plan) {
    if plan.speeds.is_none() {
        return out.push_str("\n Speed: the memory bandwidth of this device is unknown\n");
    }
    out.push_str("\n Texts by length, each in one pass:\n");
    let lengths = PROMPTS
        .into_iter()
        .filter(|tokens| *tokens <= plan.max_context);
    for tokens in lengths {
        let workload = Workload {
            prompt_tokens: tokens,
            ubatch: report.workload.ubatch.max(tokens),
            ..report.workload.clone()
        };
        let speeds = speeds_at(report.model, plan, report.target, &workload);
        let Some((Some(texts), read)) = speeds.map(|s| (s.texts, s.prefill.tokens_per_second))
        else {
            continue;
        };
        let (texts, read) = (range(&texts), range(&read));
        out.prose(&format!(
            "   {tokens} tokens: {texts} texts/s, {read} tokens/s"
        ));
    }
}

fn roofline(out: &mut Screen, report: &Report<'_>, plan: &Plan) {
    let Some(speeds) = &plan.speeds else {
        return out.push_str("\n Speed: the memory bandwidth of this device is unknown\n");
    };
    let Report {
        target,
        workload,
        model,
        ..
    } = report;
    let decode = &speeds.decode;
    let mut table = Table::new([
        ("operation", Align::Left),
        ("type", Align::Left),
        // What tells matrices of one name and type apart.
        ("row", Align::Right),
        ("bytes", Align::Right),
        ("weights", Align::Right),
        ("time", Align::Right),
    ]);
    let operations = decode_operations(model, &plan.assignment, workload);
    for (index, part) in decode.parts.iter().enumerate() {
        let operation = operations.get(index);
        // All matrices of an operation have rows of one length.
        let row = operation.and_then(|o| o.weights.checked_div(o.rows));
        let row = row.filter(|length| *length > 0);
        table.row([
            part.name.clone(),
            operation.map_or(String::new(), |o| o.dtype.name().to_owned()),
            row.map_or(String::new(), |length| length.to_string()),
            operation.map_or(String::new(), |o| Bytes(o.bytes).to_string()),
            operation.map_or(String::new(), |o| crate::report::count(o.weights)),
            seconds(part.seconds),
        ]);
    }
    let mode = target.mode;
    let bandwidth = mode.bandwidth.as_ref().map_or(0.0, |rate| rate.value.0);
    let clock = mode.gpu.as_ref().map_or(0.0, |clock| clock.value.0);
    let speed = &target.runtime.speed;
    out.blank();
    out.prose(&format!(
        " One token at a depth of {} ({:.0} GB/s, GPU at {:.0} MHz):",
        workload.prompt_tokens,
        bandwidth / 1e9,
        clock / 1e6,
    ));
    out.table(&table, "   ");
    let facts = [
        format!(
            "decode {} tokens/s, {} expected; bound by {}; ceiling {} ({}; {} bytes a step)",
            range(&decode.tokens_per_second),
            rate(decode.tokens_per_second.expected),
            bound(decode.bound),
            rate(decode.ceiling),
            match decode.ceiling_bound {
                Bound::Compute => "peak arithmetic",
                _ => "bytes / peak bandwidth",
            },
            decode.bytes_per_step,
        ),
        format!(
            "prompt of {}{}: {} tokens/s, first token after {} to {}",
            workload.prompt_tokens,
            match workload.cached_tokens {
                0 => String::new(),
                cached => format!(", {cached} of them cached"),
            },
            range(&speeds.prefill.tokens_per_second),
            seconds(speeds.prefill.time_to_first_token.low),
            seconds(speeds.prefill.time_to_first_token.high),
        ),
        format!(
            "each operation: ((bytes / (bandwidth x efficiency))^p + (weights x cycles / (SMs x clock))^p)^(1/p), efficiency {}, p {}",
            speed.bandwidth_efficiency.expected, speed.overlap_norm.value
        ),
        format!(
            "efficiency from: {}",
            target
                .runtime
                .sources
                .get(&speed.bandwidth_efficiency.source)
                .cloned()
                .unwrap_or_default()
        ),
    ];
    let published = speeds.published.as_ref().map(|published| {
        let expected = decode.tokens_per_second.expected;
        let better = |factor: f64| {
            format!(
                "{} tokens/s ({:+.0} %)",
                rate(expected * factor),
                100.0 * (factor - 1.0)
            )
        };
        [
            format!(
                "twice the bandwidth would give {}, twice the GPU clock {}: see --what-if",
                better(published.twice_the_bandwidth),
                better(published.twice_the_clock),
            ),
            evidence_text(&published.evidence, *target, workload),
        ]
        .into_iter()
        .chain(prompt_evidence_text(&published.prompt_evidence, workload))
        .chain(requests::evidence(Some(speeds)))
        .chain(conditions_text(*target))
        .chain(power_text(&published.energy))
        .chain(energy_text(&published.evidence))
    });
    let facts = facts.into_iter().chain(requests::terms(speeds, workload));
    for fact in facts.chain(published.into_iter().flatten()) {
        out.prose(&format!("   {fact}"));
    }
    elsewhere(out, report, plan);
}

/// Depths, prompt lengths and numbers of sequences for which speeds are shown, up to the largest context that fits.
const DEPTHS: [u64; 6] = [0, 4096, 16384, 32768, 65536, 131_072];
const PROMPTS: [u64; 5] = [128, 512, 2048, 8192, 32768];
const SEQUENCES: [u64; 4] = [1, 2, 3, 4];

/// The same plan at other depths, prompts and numbers of sequences.
fn elsewhere(out: &mut Screen, report: &Report<'_>, plan: &Plan) {
    let Report {
        target,
        workload,
        model,
        ..
    } = report;
    let limit = plan.max_context;
    let at = |change: &dyn Fn(&mut Workload)| {
        let mut other = (*workload).clone();
        (other.cached_tokens, other.generated_tokens) = (0, None);
        change(&mut other);
        speeds_at(model, plan, *target, &other)
    };
    let mut list = |title: &str, items: Vec<String>| {
        if !items.is_empty() {
            out.prose(&format!("   {title}: {}", items.join(", ")));
        }
    };
    let depths = DEPTHS.into_iter().filter(|depth| *depth <= limit);
    let prompts = PROMPTS.into_iter().filter(|tokens| *tokens <= limit);
    list(
        "decode by depth, tokens/s",
        depths
            .filter_map(|depth| Some((depth, at(&|other| other.prompt_tokens = depth)?)))
            .map(|(depth, speeds)| format!("{depth}: {}", range(&speeds.decode.tokens_per_second)))
            .collect(),
    );
    list(
        "time to the first token by prompt",
        prompts
            .filter_map(|tokens| Some((tokens, at(&|other| other.prompt_tokens = tokens)?)))
            .map(|(tokens, speeds)| {
                let first = speeds.prefill.time_to_first_token;
                format!(
                    "{tokens}: {} to {}",
                    seconds(first.low),
                    seconds(first.high)
                )
            })
            .collect(),
    );
    list(
        "total tokens/s by sequences at once",
        SEQUENCES
            .into_iter()
            .filter_map(|count| Some((count, at(&|other| other.parallel = count)?)))
            .map(|(count, speeds)| format!("{count}: {}", range(&speeds.decode.tokens_per_second)))
            .collect(),
    );
}
