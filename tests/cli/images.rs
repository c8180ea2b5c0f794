//! The time of image encoders: published ones, and what is said where none is known.

use std::fs;

use serde_json::Value as Json;

use crate::support::{command, left};

/// The plan of a model of the catalogue that looks at one image.
fn plan(shape: &str, words: &str) -> Json {
    let catalogue: toml::Table = fs::read_to_string("profiles/catalog.toml")
        .unwrap()
        .parse()
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = catalogue["shapes"][shape]["config"].as_str().unwrap();
    fs::write(folder.path().join("config.json"), config).unwrap();
    let run = command()
        .arg("fit")
        .arg(folder.path())
        .args("--images 1 --clocks locked --format json".split(' '))
        .args(words.split(' '))
        .output();
    let run = left(run.unwrap());
    assert_ne!(run.code, 2, "{}", run.err);
    crate::schema::document(&run.out)
}

fn codes(plan: &Json) -> Vec<&str> {
    let notes = plan["plans"][0]["notes"].as_array().unwrap();
    notes
        .iter()
        .map(|note| note["code"].as_str().unwrap())
        .collect()
}

/// NVIDIA's times for one image of 265 tokens, and of 349 for Qwen2.5-VL. Ours have 256 and 342.
#[test]
fn encoders_take_as_long_as_published() {
    for (shape, board, milliseconds) in [
        ("qwen3-vl-2b", "orin-nano-8gb --power-mode 15W", 151.1),
        ("qwen3-vl-2b", "orin-nx-16gb --power-mode MAXN_SUPER", 82.1),
        ("qwen3-vl-8b", "agx-orin-64gb --power-mode MAXN", 57.2),
        ("qwen3.5-0.8b", "orin-nano-8gb --power-mode 15W", 49.2),
        ("qwen3.5-0.8b", "agx-orin-64gb --power-mode MAXN", 13.2),
        ("qwen3.5-2b", "orin-nx-16gb --power-mode MAXN_SUPER", 78.3),
        ("qwen2.5-vl-7b", "agx-orin-64gb --power-mode MAXN", 89.2),
    ] {
        let (image, tokens) = match shape {
            "qwen2.5-vl-7b" => ("532x504", 349.0),
            _ => ("512x512", 265.0),
        };
        let words =
            format!("--runtime tensorrt-edge-llm --scheme int4 --image {image} --device {board}");
        let plan = plan(shape, &words);
        let images = &plan["images"];
        let scale = tokens / images["tokens_per_image"].as_f64().unwrap();
        let [low, high] =
            ["low", "high"].map(|end| images["encoder_seconds"][end].as_f64().unwrap() * scale);
        let measured = milliseconds / 1000.0;
        assert!(
            low <= measured && measured <= high,
            "{shape} {board}: {low} {high}"
        );
        assert!(!codes(&plan).contains(&"encoder_time_unknown"));
    }
}

/// Gemma 3 4B in Q4_0 on an Orin Nano in 15W, by llama.cpp: 7.39 s to the first token of 303, of which 256 are an image.
#[test]
fn the_time_to_the_first_token_includes_the_encoder() {
    let board = "--device orin-nano-8gb --power-mode 15W --scheme q4_0 --image 896x896";
    let with = plan("gemma-3-4b", &format!("{board} --prompt-tokens 47"));
    let part = |plan: &Json, end: &str| {
        let time = &plan["plans"][0]["prefill"]["time_to_first_token_seconds"];
        time[end].as_f64().unwrap()
    };
    assert!(
        part(&with, "low") < 7.39 && 7.39 < part(&with, "high"),
        "{}",
        with["plans"][0]["prefill"]
    );
    // What of the prompt is an image may be cached.
    let cached = plan(
        "gemma-3-4b",
        &format!("{board} --prompt-tokens 47 --cached-tokens 300"),
    );
    assert!(part(&cached, "expected") < part(&with, "expected"));
    // What the processors take is not known, nor what other runtimes do.
    for other in ["--projector cpu", "--runtime vllm --scheme bf16"] {
        let unknown = plan(
            "gemma-3-4b",
            &format!("{board} {other}").replace(
                "--scheme q4_0 --image 896x896 --runtime",
                "--image 896x896 --runtime",
            ),
        );
        assert_eq!(unknown["images"]["encoder_seconds"], Json::Null, "{other}");
        assert!(codes(&unknown).contains(&"encoder_time_unknown"), "{other}");
    }
}

/// Gemma 4's file has the image encoder and the audio encoder, 531.44 MiB in Q8_0 by the log of a board; the plan is for F16,
/// and names both sizes. Its images come on top of the text.
#[test]
fn a_described_encoder_is_counted_and_said_once() {
    let words = "--device orin-nano-8gb --scheme q4_0 --image 576x576 --prompt-tokens 45";
    let planned = plan("gemma-4-e2b", words);
    assert!(!codes(&planned).contains(&"towers_unseen"));
    let notes = planned["plans"][0]["notes"].as_array().unwrap();
    let towers = notes.iter().find(|note| note["code"] == "towers_included");
    let text = towers.unwrap()["text"].as_str().unwrap();
    assert!(
        text.contains("939.9 MiB") && text.contains("531.4 MiB as an mmproj in Q8_0"),
        "{text}"
    );
    let tokens = planned["workload"]["prompt_tokens"].as_u64().unwrap();
    assert_eq!(tokens, 45 + 144 + 2);
}
