//! A model on several boards, held to published runs of layer pipelines.

use std::path::Path;

use orinplan::checkpoint::{Checkpoint, RawConfig, SourceFormat};
use orinplan::device;
use orinplan::dtype::Dtype;
use orinplan::evidence::boards::{Link, PIPELINES, PipelineRow, parse_pipelines};
use orinplan::model::{self, ModelSpec, Unknown};
use orinplan::plan::Workload;
use orinplan::plan::boards::{Cluster, ServerPlace, Split};
use orinplan::plan::fit::Target;
use orinplan::planner::assigned;
use orinplan::runtime;
use orinplan::scheme::{Assignment, Rules, Scheme};

use crate::support::described;

fn rows() -> Vec<PipelineRow> {
    parse_pipelines(PIPELINES).unwrap()
}

fn row(id: &str) -> PipelineRow {
    rows().into_iter().find(|row| row.id == id).unwrap()
}

/// The one model of the table of pipelines that no measurement of a single board names.
const QWEN_14B: &str = r#"{"architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","hidden_size":5120,
    "intermediate_size":13824,"num_hidden_layers":48,"num_attention_heads":40,"num_key_value_heads":8,
    "vocab_size":152064,"max_position_embeddings":32768,"tie_word_embeddings":false,"torch_dtype":"bfloat16"}"#;

fn typed(name: &str, format: &str) -> (ModelSpec, Assignment) {
    let model = match name {
        "qwen2.5-14b" => {
            let config = RawConfig::HuggingFace(serde_json::from_str(QWEN_14B).unwrap());
            let checkpoint = Checkpoint::of(name, SourceFormat::Config, config);
            model::read(&checkpoint, Unknown::Refuse).unwrap()
        }
        name => described(name).1,
    };
    let runtime = runtime::find("llama.cpp").unwrap();
    let scheme = Scheme::get(format).unwrap();
    let assignment = assigned(&model, scheme, &runtime, Rules::default());
    (model, assignment)
}

/// A model on so many Orin Nano over 1 GbE; `layers` if they are given.
fn split(
    (model, assignment): &(ModelSpec, Assignment),
    boards: usize,
    workload: &Workload,
    server: ServerPlace,
    layers: Option<&[usize]>,
) -> Split {
    let device = device::open("orin-nano-8gb", Path::new("/")).unwrap();
    let mode = device.mode("MAXN_SUPER").unwrap().clone();
    let runtime = runtime::find("llama.cpp").unwrap();
    let target = Target {
        device: &device,
        mode: &mode,
        release: None,
        clocks: None,
        runtime: &runtime,
    };
    let targets = vec![target; boards];
    let cluster = Cluster {
        targets: &targets,
        link: &Link::named("1gbe").unwrap(),
        server,
        layers,
    };
    cluster.split(model, assignment, workload)
}

fn published(row: &PipelineRow) -> Split {
    let workload = Workload {
        context: 1536 * row.sequences,
        prompt_tokens: row.depth,
        parallel: row.sequences,
        ..Workload::default()
    };
    let typed = typed(&row.model, &row.format);
    split(&typed, 2, &workload, ServerPlace::Last, Some(&row.counts()))
}

/// The 32B of two boards: resident bytes, F16-equivalent cache in Q8_0, 33 and 31 blocks, the embedding with the first.
#[test]
fn bytes_on_each_board_are_those_of_the_published_run() {
    let workload = Workload {
        context: 1024,
        ubatch: 128,
        prompt_tokens: 128,
        type_k: Dtype::Q8_0,
        type_v: Dtype::Q8_0,
        ..Workload::default()
    };
    let typed = typed("qwen2.5-32b", "q2_k");
    let split = split(&typed, 2, &workload, ServerPlace::First, Some(&[33, 31]));
    let weights: Vec<u64> = split
        .stages
        .iter()
        .map(|stage| stage.memory.weights.0)
        .collect();
    assert_eq!(weights, [6_140_276_736, 6_166_843_392]);
    // It ran: the driver granted the weights of the second board in one piece.
    assert!(split.fits());
    let cache = split
        .stages
        .iter()
        .map(|stage| stage.memory.kv_cache.0 as f64 / f64::from(1 << 20));
    let cache: Vec<String> = cache.map(|mib| format!("{mib:.2}")).collect();
    // Published as 70.12 + 65.88, rounded to even.
    assert_eq!(cache, ["70.12", "65.88"]);
}

#[test]
fn time_between_tokens_is_near_the_published_one() {
    let mut off = Vec::new();
    for row in rows().iter().filter(|row| row.sequences == 1) {
        let rates = published(row).rates.unwrap();
        let percent = (rates.decode.expected / row.tokens_per_second - 1.0) * 100.0;
        let is_inside =
            rates.decode.low <= row.tokens_per_second && row.tokens_per_second <= rates.decode.high;
        off.push((row.id.clone(), percent, is_inside));
    }
    assert_eq!(off.len(), 5, "{off:?}");
    // What a relay over HTTP takes (7 to 8 ms a step, for 1 to 2 of a direct transport) is not planned: it leaves the smallest
    // model below its range.
    let large = |id: &str| off.iter().find(|(known, ..)| known == id).unwrap().clone();
    for (id, percent) in [("pipe-08", 10.0), ("pipe-09", 10.0), ("pipe-10", 15.0)] {
        let found = large(id);
        assert!(found.1.abs() <= percent && found.2, "{off:?}");
    }
    assert!(off.iter().all(|row| row.2 || row.0 == "pipe-01"), "{off:?}");
}

/// Two requests that take turns keep both boards busy: that is what the bound is for, and llama.cpp does not do it.
#[test]
fn the_rate_of_a_busy_pipeline_is_near_the_published_one() {
    for id in ["pipe-04", "pipe-05"] {
        let row = row(id);
        let rates = published(&row).rates.unwrap();
        let percent = (rates.all_busy / row.tokens_per_second - 1.0) * 100.0;
        assert!(percent.abs() <= 15.0, "{id}: {percent:.1} %");
        assert!(rates.decode.expected < rates.all_busy, "{id}: {rates:?}");
    }
}

#[test]
fn a_14b_that_one_board_has_no_room_for_fits_two() {
    let workload = Workload {
        context: 1024,
        prompt_tokens: 64,
        ..Workload::default()
    };
    for format in ["q4_0", "q4_k_m"] {
        let typed = typed("qwen2.5-14b", format);
        let fits = |boards| split(&typed, boards, &workload, ServerPlace::Last, None).fits();
        assert!(!fits(1), "{format} fits one");
        assert!(fits(2), "{format} does not fit two");
    }
}

#[test]
fn blocks_are_all_there_once_and_the_slowest_board_is_as_fast_as_it_can_be() {
    let typed = typed("qwen2.5-14b", "q4_k_m");
    let workload = Workload::default();
    let of = |layers: Option<[usize; 2]>| {
        let layers = layers.as_ref().map(|layers| &layers[..]);
        split(&typed, 2, &workload, ServerPlace::Last, layers)
    };
    let slowest = |split: &Split| {
        let steps = split
            .stages
            .iter()
            .map(|stage| stage.seconds.unwrap().step.expected);
        steps.fold(0.0, f64::max)
    };
    let planned = of(None);
    let mut next = 0;
    for stage in &planned.stages {
        assert_eq!(stage.layers.start, next);
        next = stage.layers.end;
    }
    assert_eq!(next, 48);
    let first = planned.stages[0].layers.len();
    for other in [first - 2, first + 2] {
        let other = of(Some([other, 48 - other]));
        assert!(slowest(&planned) <= slowest(&other), "{first}");
    }
    assert_eq!(
        planned.tensor_split(&typed.0),
        [first as u64, 48 - first as u64 + 1]
    );
}

/// 8 x 5120 + 2 x 2048 + 2 kB, counted by hand for builds whose first board gets no mixed embeddings: the second has none.
/// Wherever any division fits, the planned one does, the output head on the last board included.
#[test]
fn the_planned_division_fits_where_any_does() {
    let typed = typed("qwen2.5-14b", "q4_k_m");
    let mut seen = [0; 2];
    for server in [ServerPlace::Last, ServerPlace::First, ServerPlace::Apart] {
        for context in (8 << 10..=40 << 10).step_by(4 << 10) {
            let workload = Workload {
                context,
                ..Workload::default()
            };
            let of = |layers: Option<&[usize]>| split(&typed, 2, &workload, server, layers);
            let any = (20..=28).any(|first| of(Some(&[first, 48 - first])).fits());
            assert_eq!(of(None).fits(), any, "{server:?}, {context}");
            seen[usize::from(any)] += 1;
        }
    }
    assert!(seen[0] > 1 && seen[1] > 1, "{seen:?}");
}

#[test]
fn a_step_moves_the_hidden_state_there_and_back() {
    let typed = typed("qwen2.5-14b", "q4_k_m");
    let workload = Workload {
        context: 4096,
        prompt_tokens: 2047,
        ..Workload::default()
    };
    let split = split(&typed, 3, &workload, ServerPlace::Last, None);
    let middle = split.stages[1].remote.unwrap().step;
    let by_hand = 47_000.0;
    assert!(
        (middle.total().0 as f64 / by_hand - 1.0).abs() < 0.05,
        "{middle:?}"
    );
    // Logits cross where the head is on another board than the server.
    let first = self::split(&typed, 2, &workload, ServerPlace::First, None);
    let last = first.stages[1].remote.unwrap().step;
    assert_eq!(last.from.0, 4 * 152_064 + 8);
}
