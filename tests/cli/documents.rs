//! `roofline`, `inspect` and `devices`: their text and their JSON.

use serde_json::json;

use crate::support::{QWEN, json, refused, says};

/// The study's models by their nominal sizes, with its theoretical tokens a second and its
/// operational intensity, to the printed digit. Its board ran in 15W.
const STUDY: [(&str, &str, &str); 7] = [
    ("qwen3:0.6b:0.6B:8", "103.03", "1.82"),
    ("qwen2.5:0.5b:0.5B:4.5", "219.80", "3.23"),
    ("gemma3:1b:1B:4.5", "109.90", "3.23"),
    ("Qwen/Qwen2.5-0.5B-Instruct:0.5B:16", "61.82", "0.91"),
    ("Qwen/Qwen3-0.6B-FP8:0.6B:8", "103.03", "1.82"),
    ("gemma3n:e2b:2B:4.5", "54.95", "3.23"),
    ("google/gemma-3-1b-it:1B:16", "30.91", "0.91"),
];

#[test]
fn the_roofline_reproduces_the_seven_rows_of_the_study() {
    let nominal: Vec<String> = STUDY
        .iter()
        .map(|(model, ..)| format!("--nominal {model}"))
        .collect();
    let words = format!("roofline --power-mode 15W {}", nominal.join(" "));
    let text = says(0, &words);
    assert!(
        text.contains("ridge: 147 FLOP/byte (FP16), 588 op/byte (INT8)"),
        "{text}"
    );
    let document = json(0, &words);
    let points = document["points"].as_array().unwrap();
    assert_eq!(points.len(), STUDY.len());
    for ((model, rate, intensity), point) in STUDY.iter().zip(points) {
        let name = model.rsplitn(3, ':').last().unwrap();
        assert_eq!(point["model"], name);
        let printed = |key: &str| format!("{:.2}", point[key].as_f64().unwrap());
        assert_eq!(printed("ceiling_tokens_per_second"), *rate, "{name}");
        assert_eq!(printed("operational_intensity"), *intensity, "{name}");
        assert_eq!(point["bound"], "memory");
        let row = text
            .lines()
            .find(|line| line.trim_start().starts_with(&format!("{name} ")));
        let cells: Vec<&str> = row.unwrap().split_whitespace().rev().take(3).collect();
        assert_eq!(cells, ["memory", rate, intensity], "{name}");
    }
    let ridge = &document["ridge"];
    let printed = |key: &str| format!("{:.0}", ridge[key].as_f64().unwrap());
    assert_eq!(printed("fp16_flops_per_byte"), "147");
    assert_eq!(printed("int8_ops_per_byte"), "588");
    assert_eq!(document["schema"], "orinplan.roofline/1");
}

#[test]
fn the_roofline_of_a_model_uses_its_real_bytes() {
    let document = json(
        0,
        &format!("roofline {QWEN} --power-mode 15W --scheme q4_k_m,f16 --nominal n:1B:4.5"),
    );
    let points = document["points"].as_array().unwrap();
    assert_eq!(points.len(), 3);
    // 16 bits a weight: two operations for two bytes, less what norms and the embedding's row take.
    let f16 = points
        .iter()
        .find(|point| point["scheme"] == "f16")
        .unwrap();
    assert!((f16["operational_intensity"].as_f64().unwrap() - 1.0).abs() < 0.01);
    // The tied embedding is read once, as the head: all 1,192 MB of them.
    let ceiling = f16["ceiling_tokens_per_second"].as_f64().unwrap();
    assert!((ceiling - 68e9 / 1.192_1e9).abs() < 0.1, "{ceiling}");
    refused("roofline nothing-here", &["nothing-here"]);
}

#[test]
fn inspect_lists_every_tensor() {
    let document = json(0, &format!("inspect {QWEN}"));
    let keys: Vec<&String> = document.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        ["schema", "model", "files", "towers", "tensors", "metadata"]
    );
    assert_eq!(document["schema"], "orinplan.inspect/1");
    assert_eq!(document["metadata"]["model_type"], "qwen3");
    assert_eq!(
        document["files"],
        json!([{ "name": "model.header.safetensors", "bytes": 1_192_135_096 }])
    );
    let tensors = document["tensors"].as_array().unwrap();
    assert_eq!(tensors.len(), 310);
    let q = tensors
        .iter()
        .find(|tensor| tensor["name"] == "blk.0.attn_q.weight")
        .unwrap();
    assert_eq!(
        *q,
        json!({ "name": "blk.0.attn_q.weight", "role": "AttnQ", "shape": [2048, 1024],
            "type": "BF16", "bytes": 4_194_304 })
    );
    // 596,049,920 weights of two bytes.
    let sum: u64 = tensors
        .iter()
        .map(|tensor| tensor["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(sum, 1_192_099_840);
    let text = says(0, &format!("inspect {QWEN}"));
    assert!(text.contains("\ntotal 1192099840 bytes ("), "{text}");
    assert!(text.contains("310 tensors, 28 blocks"), "{text}");

    let gguf = json(0, "inspect fixtures/qwen3-0.6b-Q4_K_M.header.gguf");
    assert_eq!(gguf["metadata"]["general.architecture"], "qwen3");
    assert_eq!(gguf["metadata"]["qwen3.block_count"], 28);
    assert_eq!(gguf["model"]["parameters"], document["model"]["parameters"]);
}

#[test]
fn devices_lists_and_shows_every_board() {
    let boards = [
        "orin-nano-4gb",
        "orin-nano-8gb",
        "orin-nx-8gb",
        "orin-nx-16gb",
        "agx-orin-32gb",
        "agx-orin-64gb",
    ];
    let text = says(0, "devices list");
    assert_eq!(says(0, "devices"), text);
    let document = json(0, "devices list");
    let ids: Vec<_> = document["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| &d["id"])
        .collect();
    assert_eq!(json!(ids), json!(boards));
    assert_eq!(document["default"], "orin-nano-8gb");
    for board in boards {
        assert!(text.contains(board), "{text}");
        let shown = json(0, &format!("devices show {board}"));
        assert_eq!(shown["device"]["id"], board);
        assert!(
            says(0, &format!("devices show {board}")).contains("Memory"),
            "{board}"
        );
        // Every board plans in every mode that it lists.
        for mode in shown["device"]["power_modes"].as_array().unwrap() {
            let mode = mode["name"].as_str().unwrap();
            json(
                0,
                &format!("fit fixtures/tiny-qwen3 --device {board} --power-mode {mode}"),
            );
        }
    }
    assert_eq!(json(0, "devices detect")["schema"], "orinplan.devices/1");
    assert!(says(0, "devices detect").starts_with("device "));
}

#[test]
fn the_machine_at_hand_is_planned_for_without_a_speed_it_does_not_know() {
    let document = json(0, "fit fixtures/tiny-qwen3 --device host");
    assert_eq!(document["device"]["id"], "host");
    let available = document["device"]["memory_available_bytes"]
        .as_u64()
        .unwrap();
    assert!(available > 1 << 28);
}
