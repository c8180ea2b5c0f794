//! What holds for every plan, whatever the model, the board, the power mode and the runtime.

use std::collections::BTreeSet;

use orinplan::plan::Workload;
use orinplan::runtime;
use orinplan::units::Bytes;
use serde_json::Value as Json;

use crate::contract::assert_keys;
use crate::support::{boards, fixtures, open};

/// Schemes that differ in all that matters; the snapshots plan the rest.
const SCHEMES: [&str; 4] = ["f16", "q4_k_m", "fp8", "int4"];

fn bytes(value: &Json) -> i64 {
    value.as_i64().unwrap()
}

/// Low, expected and high, which must be in that order and above zero.
fn spread(value: &Json) -> [f64; 3] {
    let of = |key: &str| value[key].as_f64().unwrap();
    let spread = [of("low"), of("expected"), of("high")];
    assert!(0.0 < spread[0], "{value}");
    assert!(spread[0] <= spread[1] && spread[1] <= spread[2], "{value}");
    spread
}

fn check_plan(document: &Json, plan: &Json) {
    let memory = &plan["memory"];
    let parts = [
        "weights_bytes",
        "duplicated_embedding_bytes",
        "kv_cache_bytes",
        "recurrent_state_bytes",
        "compute_bytes",
        "output_bytes",
        "runtime_bytes",
    ];
    let sum: i64 = parts.iter().map(|part| bytes(&memory[part])).sum();
    let total = bytes(&memory["total_bytes"]);
    assert_eq!(sum, total);
    let available = bytes(&memory["available_bytes"]);
    assert_eq!(available - total, bytes(&memory["headroom_bytes"]));
    assert!(bytes(&memory["largest_allocation_bytes"]) <= total);
    assert!(bytes(&memory["weights_bytes"]) >= bytes(&plan["tensor_bytes"]));
    assert!(bytes(&memory["kv_cache_bytes"]) > 0);

    let context = bytes(&document["workload"]["context"]);
    let max_context = bytes(&plan["max_context"]);
    assert!(max_context <= bytes(&document["model"]["context_length"]));
    let fits = plan["verdict"] == "fits";
    assert_eq!(fits, max_context >= context, "{max_context} for {context}");
    assert!(!fits || total <= available);
    if !fits && total <= available {
        // Something other than the sum stands in the way, and a note says what.
        let codes = plan["notes"].as_array().unwrap();
        let said = ["kv_type_impossible", "large_allocation"];
        assert!(
            codes
                .iter()
                .any(|note| said.contains(&note["code"].as_str().unwrap()))
        );
    }

    assert!(bytes(&plan["file_bytes"]) >= bytes(&plan["tensor_bytes"]));
    let bits = plan["bits_per_weight"].as_f64().unwrap();
    let parameters = document["model"]["parameters"].as_f64().unwrap();
    let from_bytes = plan["tensor_bytes"].as_f64().unwrap() * 8.0 / parameters;
    assert!((bits / from_bytes - 1.0).abs() < 1e-5);

    let decode = &plan["decode"];
    let ceiling = decode["ceiling_tokens_per_second"].as_f64().unwrap();
    let [_, expected, high] = spread(&decode["tokens_per_second"]);
    assert!(expected <= ceiling && high <= ceiling * 1.00001, "{decode}");
    let bandwidth = document["device"]["memory_bandwidth_bytes_per_second"]
        .as_f64()
        .unwrap();
    let read = decode["bytes_per_token"].as_f64().unwrap();
    assert!(ceiling <= bandwidth / read * 1.00001, "{decode}");
    assert!(["memory", "compute", "overhead"].contains(&decode["bound"].as_str().unwrap()));

    let quality = &plan["quality"];
    if let Some(kld) = quality["kld"].as_f64() {
        let [low, high] = ["low", "high"].map(|key| quality[key].as_f64().unwrap());
        assert!(0.0 <= low && low <= kld && kld <= high, "{quality}");
        assert_eq!(kld == 0.0, quality["source"] == "original", "{quality}");
    }

    let [_, rate, _] = spread(&plan["prefill"]["tokens_per_second"]);
    let [_, first, _] = spread(&plan["prefill"]["time_to_first_token_seconds"]);
    let prompt = document["workload"]["prompt_tokens"].as_f64().unwrap();
    // The first token also waits for the request and for its own step.
    assert!(first >= prompt / rate * 0.99999, "{}", plan["prefill"]);
}

/// Checks a document and each of its plans.
pub(crate) fn check(document: &Json) {
    assert_keys(document);
    let plans = document["plans"].as_array().unwrap();
    for plan in plans {
        check_plan(document, plan);
    }
    let fitting = |plan: &&Json| plan["verdict"] == "fits";
    match document["recommended"].as_str() {
        Some(id) => assert!(
            plans
                .iter()
                .filter(fitting)
                .any(|plan| plan["scheme"] == id)
        ),
        None => {
            assert_eq!(plans.iter().filter(fitting).count(), 0);
            assert!(
                !document["advice"].as_array().unwrap().is_empty(),
                "{}",
                document["model"]
            );
        }
    }
}

/// Plans one fixture on every board, in every power mode, with every runtime. Gives the runtimes
/// that load it and how many documents were checked.
fn sweep(fixture: &str) -> (BTreeSet<String>, usize) {
    let model = open(fixture);
    let workload = model.workload();
    let (mut loaded, mut checked) = (BTreeSet::new(), 0);
    for runtime in runtime::builtin_ids().map(|id| runtime::find(id).unwrap()) {
        for device in &boards() {
            for mode in &device.modes {
                let document = model.document(device, mode, &runtime, &workload, &SCHEMES);
                if let Some(document) = document {
                    check(&document);
                    loaded.insert(runtime.id.clone());
                    checked += 1;
                }
            }
        }
    }
    (loaded, checked)
}

#[test]
fn hold_for_every_fixture_board_power_mode_and_runtime() {
    let fixtures = fixtures();
    let swept: Vec<_> = std::thread::scope(|scope| {
        let started: Vec<_> = fixtures
            .iter()
            .map(|fixture| scope.spawn(|| sweep(fixture)))
            .collect();
        started
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    let loaded: BTreeSet<&str> = swept
        .iter()
        .flat_map(|(loaded, _)| loaded.iter().map(String::as_str))
        .collect();
    assert_eq!(loaded, runtime::builtin_ids().collect());
    let modes: usize = boards().iter().map(|board| board.modes.len()).sum();
    // llama.cpp's family loads every fixture.
    let checked: usize = swept.iter().map(|(_, checked)| checked).sum();
    assert!(checked > fixtures.len() * modes * 4, "{checked}");
}

#[test]
fn more_memory_never_means_less_context() {
    let boards = boards();
    let board = boards
        .iter()
        .find(|board| board.id == "orin-nano-8gb")
        .unwrap();
    let runtime = runtime::find("llama.cpp").unwrap();
    for model in fixtures().iter().map(|name| open(name)) {
        let mut last = Vec::new();
        for step in 0..24 {
            let workload = Workload {
                budget: Some(Bytes(300_000_000 + step * 150_000_000)),
                ..model.workload()
            };
            let document = model
                .document(board, &board.default_mode, &runtime, &workload, &["q4_k_m"])
                .unwrap();
            check(&document);
            let plans = document["plans"].as_array().unwrap();
            let now: Vec<i64> = plans
                .iter()
                .map(|plan| bytes(&plan["max_context"]))
                .collect();
            assert!(
                last.iter().zip(&now).all(|(then, now)| then <= now),
                "{}",
                model.name
            );
            last = now;
        }
    }
}

#[test]
fn a_longer_context_takes_no_less_memory_and_a_larger_reserve_leaves_no_more() {
    let boards = boards();
    let board = boards
        .iter()
        .find(|board| board.id == "orin-nano-8gb")
        .unwrap();
    let runtime = runtime::find("llama.cpp").unwrap();
    for model in fixtures().iter().map(|name| open(name)) {
        let all = |workload: &Workload| -> Vec<(i64, i64)> {
            let document =
                model.document(board, &board.default_mode, &runtime, workload, &["q4_k_m"]);
            let document = document.unwrap();
            let plans = document["plans"].as_array().unwrap();
            let memory = plans.iter().map(|plan| &plan["memory"]);
            memory
                .map(|m| (bytes(&m["total_bytes"]), bytes(&m["headroom_bytes"])))
                .collect()
        };
        let mut last: Option<Vec<(i64, i64)>> = None;
        for context in [1, 255, 256, 257, 1000, 4096, 30_000, 1 << 20] {
            let now = all(&model.workload().with_context(context));
            if let Some(last) = &last {
                let grows = last.iter().zip(&now).all(|(then, now)| then.0 <= now.0);
                assert!(grows, "{} at {context}", model.name);
            }
            last = Some(now);
        }
        let reserve = Bytes(1 << 30);
        let (without, with) = (
            all(&model.workload()),
            all(&Workload {
                reserve,
                ..model.workload()
            }),
        );
        assert!(without.iter().zip(&with).all(|(a, b)| a.1 - b.1 == 1 << 30));
    }
}
