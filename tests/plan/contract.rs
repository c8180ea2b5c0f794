//! The keys of `orinplan.fit/1`, written out: scripts depend on them.

use serde_json::Value as Json;

/// Every key with its path; `[]` stands for the items of a list. A key that goes or changes its
/// name needs a new schema; a new one belongs here.
const KEYS: &str = "
schema
model.name model.architecture model.parameters model.source_format model.source_bytes
model.context_length model.block_count model.towers
device.id device.name device.power_mode device.memory_available_bytes
device.memory_bandwidth_bytes_per_second device.clocks device.l4t_release
runtime.id
workload.context workload.kv_type_k workload.kv_type_v workload.parallel workload.ubatch
workload.prompt_tokens workload.cached_tokens workload.flash_attention workload.cuda_graphs
workload.reserve_bytes workload.budget_bytes workload.energy_budget_watts
plans[].scheme plans[].verdict plans[].tensor_bytes plans[].file_bytes plans[].bits_per_weight
plans[].max_context
plans[].memory.weights_bytes plans[].memory.duplicated_embedding_bytes
plans[].memory.kv_cache_bytes plans[].memory.recurrent_state_bytes plans[].memory.compute_bytes
plans[].memory.output_bytes plans[].memory.runtime_bytes
plans[].memory.runtime_parts.process_bytes plans[].memory.runtime_parts.tokenizer_bytes
plans[].memory.runtime_parts.rest_bytes plans[].memory.total_bytes
plans[].memory.available_bytes plans[].memory.headroom_bytes
plans[].memory.largest_allocation_bytes
plans[].decode.bytes_per_token plans[].decode.flops_per_token plans[].decode.operational_intensity
plans[].decode.ceiling_tokens_per_second
plans[].decode.tokens_per_second.low plans[].decode.tokens_per_second.expected
plans[].decode.tokens_per_second.high plans[].decode.bound
plans[].decode.with_twice_the_bandwidth_tokens_per_second
plans[].decode.with_twice_the_gpu_clock_tokens_per_second
plans[].decode.evidence.measurements_on_board plans[].decode.evidence.measurements_anywhere
plans[].decode.evidence.nearest.id plans[].decode.evidence.nearest.board
plans[].decode.evidence.nearest.power_mode plans[].decode.evidence.nearest.clocks
plans[].decode.evidence.nearest.l4t_release plans[].decode.evidence.nearest.model
plans[].decode.evidence.nearest.format plans[].decode.evidence.nearest.depth
plans[].decode.evidence.nearest.sequences plans[].decode.evidence.nearest.flash_attention
plans[].decode.evidence.nearest.cuda_graphs
plans[].decode.evidence.nearest.tokens_per_second
plans[].decode.evidence.nearest.off_percent plans[].decode.evidence.nearest.source
plans[].decode.evidence.energy[].id plans[].decode.evidence.energy[].power_mode
plans[].decode.evidence.energy[].model plans[].decode.evidence.energy[].format
plans[].decode.evidence.energy[].tokens_per_joule plans[].decode.evidence.energy[].watts
plans[].decode.evidence.energy[].rail
plans[].decode.energy[].power_mode
plans[].decode.energy[].tokens_per_second.low plans[].decode.energy[].tokens_per_second.expected
plans[].decode.energy[].tokens_per_second.high
plans[].decode.energy[].rails[].rail plans[].decode.energy[].rails[].whole_board
plans[].decode.energy[].rails[].watts.low plans[].decode.energy[].rails[].watts.expected
plans[].decode.energy[].rails[].watts.high
plans[].decode.energy[].rails[].tokens_per_joule.low
plans[].decode.energy[].rails[].tokens_per_joule.expected
plans[].decode.energy[].rails[].tokens_per_joule.high
plans[].decode.energy[].rails[].measurements
plans[].decode.energy[].rails[].median_off_percent
plans[].decode.power_mode_within_energy_budget
plans[].prefill.tokens_per_second.low plans[].prefill.tokens_per_second.expected
plans[].prefill.tokens_per_second.high
plans[].prefill.time_to_first_token_seconds.low
plans[].prefill.time_to_first_token_seconds.expected
plans[].prefill.time_to_first_token_seconds.high
plans[].prefill.evidence.measurements_on_board plans[].prefill.evidence.measurements_anywhere
plans[].prefill.evidence.nearest.id plans[].prefill.evidence.nearest.board
plans[].prefill.evidence.nearest.power_mode plans[].prefill.evidence.nearest.clocks
plans[].prefill.evidence.nearest.l4t_release plans[].prefill.evidence.nearest.model
plans[].prefill.evidence.nearest.format plans[].prefill.evidence.nearest.prompt_tokens
plans[].prefill.evidence.nearest.flash_attention plans[].prefill.evidence.nearest.cuda_graphs
plans[].prefill.evidence.nearest.tokens_per_second
plans[].prefill.evidence.nearest.off_percent plans[].prefill.evidence.nearest.source
plans[].quality.kld plans[].quality.low plans[].quality.high
plans[].quality.evidence.measurements plans[].quality.evidence.models
plans[].quality.evidence.nearest.id plans[].quality.evidence.nearest.model
plans[].quality.evidence.nearest.format plans[].quality.evidence.nearest.kld
plans[].quality.evidence.nearest.source
plans[].quality.evidence.file plans[].quality.evidence.text
plans[].quality.evidence.scored_tokens
plans[].quality.source
plans[].notes[].code plans[].notes[].text
recommended preference.prefer preference.min_tokens_per_second preference.reason advice[]
curves.context_tokens[] curves.power_modes[] curves.plans[].scheme curves.plans[].total_bytes[]
";

/// The paths of all values, in the order in which they stand, each once.
fn paths(value: &Json, path: &str, found: &mut Vec<String>) {
    match value {
        Json::Object(pairs) => {
            for (key, value) in pairs {
                let dot = if path.is_empty() { "" } else { "." };
                paths(value, &format!("{path}{dot}{key}"), found);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                paths(item, &format!("{path}[]"), found);
            }
        }
        _ if found.iter().any(|known| known == path) => {}
        _ => found.push(path.to_owned()),
    }
}

/// Asserts that a document with plans has every key of the contract, in its order, and no other.
/// Notes and advice may be absent, as lists without items, the nearest measurements where no row
/// stands behind a rate, or none with power, and quality where nothing comparable was measured.
pub(crate) fn assert_keys(document: &Json) {
    let mut found = Vec::new();
    paths(document, "", &mut found);
    const MAY_BE_EMPTY: [&str; 9] = [
        // What is printed has them, and what is saved has not.
        "curves",
        "plans[].notes",
        "advice",
        "plans[].decode.evidence.nearest",
        "plans[].decode.evidence.energy",
        "plans[].decode.energy",
        "plans[].prefill.evidence.nearest",
        "plans[].quality",
        "plans[].quality.evidence",
    ];
    // Keys that are names of power modes, and what only a board with a GPU has: the schema holds both.
    found.retain(|path| {
        let varies = ["curves.plans[].decode_tokens_per_second", "curves.roofline"];
        !varies.iter().any(|start| path.starts_with(start))
    });
    let may_be_empty = |path: &&str| MAY_BE_EMPTY.iter().any(|start| path.starts_with(start));
    let found: Vec<&str> = found.iter().map(String::as_str).collect();
    let expected: Vec<&str> = KEYS.split_whitespace().collect();
    let firm = |paths: &[&str]| -> Vec<String> {
        let firm = paths.iter().filter(|path| !may_be_empty(path));
        firm.map(|path| (*path).to_owned()).collect()
    };
    assert_eq!(firm(&found), firm(&expected));
    for path in found.iter().filter(|path| may_be_empty(path)) {
        let list = MAY_BE_EMPTY.contains(path) || path.ends_with("[]");
        assert!(list || expected.contains(path), "{path}");
    }
}
