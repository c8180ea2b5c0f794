//! What to change: every piece of advice is tried by the command itself.

use std::fs;
use std::path::Path;

use serde_json::{Value as Json, json};

use crate::support::{json, says};

/// Qwen3-8B and Llama-3.1-8B as their config.json describes them, without what plans do not read.
fn config(directory: &Path, name: &str) -> String {
    let common = json!({
        "hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "tie_word_embeddings": false, "rms_norm_eps": 1e-6,
    });
    let own = match name {
        "qwen3-8b" => json!({
            "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 36,
            "intermediate_size": 12288, "vocab_size": 151_936, "max_position_embeddings": 40960,
            "rope_theta": 1_000_000,
        }),
        _ => json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 32,
            "intermediate_size": 14336, "vocab_size": 128_256, "max_position_embeddings": 131_072,
            "rope_theta": 500_000,
        }),
    };
    let mut config = common;
    let (into, from) = (config.as_object_mut().unwrap(), own.as_object().unwrap());
    into.extend(from.clone());
    let directory = directory.join(name);
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("config.json");
    fs::write(&path, config.to_string()).unwrap();
    path.to_str().unwrap().to_owned()
}

fn advice(document: &Json) -> Vec<String> {
    let lines = document["advice"].as_array().unwrap().iter();
    lines
        .map(|line| line.as_str().unwrap().to_owned())
        .collect()
}

/// The words with a flag and its value gone.
fn without(words: &str, flag: &str) -> String {
    let mut kept = Vec::new();
    let mut words = words.split_whitespace();
    while let Some(word) = words.next() {
        if word != flag {
            kept.push(word);
        } else if !["--desktop", "--no-flash-attention", "--text-only"].contains(&flag) {
            words.next();
        }
    }
    kept.join(" ")
}

/// The command that a piece of advice describes, and the scheme that it promises.
fn advised(given: &str, line: &str) -> (String, String) {
    let (what, how) = line.split_once(": ").unwrap();
    let how = how.strip_prefix("even ").unwrap_or(how);
    let how = how.split_once("would do: ").map_or(how, |(_, how)| how);
    let (scheme, how) = how.split_once(" fits ").unwrap_or_else(|| panic!("{line}"));
    let scheme = scheme.to_lowercase();
    let mut words = format!("{} --scheme {scheme}", without(given, "--scheme"));
    let (with, gone) = match how.split_once("without ") {
        Some((with, gone)) => (with.trim_end_matches([' ', ',']), gone),
        None => (how, ""),
    };
    for flag in gone.split_whitespace() {
        words = without(&words, flag);
    }
    let with = with.strip_prefix("with ").unwrap_or("");
    for flag in with
        .split_whitespace()
        .filter(|word| word.starts_with("--"))
    {
        words = without(&words, flag);
    }
    let release = what
        .split_once("(L4T R")
        .and_then(|(_, rest)| rest.split_once(')'));
    if let Some((release, _)) = release {
        words = format!("{} --l4t {release}", without(&words, "--l4t"));
    }
    (format!("{words} {with}"), scheme)
}

#[test]
fn every_piece_of_advice_fits_when_it_is_followed() {
    let directory = tempfile::tempdir().unwrap();
    let qwen = config(directory.path(), "qwen3-8b");
    let llama = config(directory.path(), "llama-3.1-8b");
    let small = "fixtures/qwen3-0.6b";
    let mut tried = 0;
    for words in [
        format!("fit {qwen} --context 40960"),
        format!("fit {qwen} --context 16384 --desktop"),
        format!("fit {qwen} --context 32768 --parallel 4 --desktop"),
        format!("fit {qwen} --context 8192 --ubatch 4096"),
        format!("fit {qwen} --l4t 36.4.7"),
        format!("fit {qwen} --l4t 36.4.7 --context 40960"),
        format!("fit {llama} --reserve 6GiB"),
        format!("fit {llama} --reserve 2GiB --context 16384 --kv-type q8_0"),
        format!("fit {llama} --budget 3GB --reserve 512MiB"),
        format!("fit {llama} --no-flash-attention --context 32768"),
        format!("fit {llama} --no-flash-attention --kv-type q8_0"),
        format!("fit {llama} --outputs 8192 --reserve 1536MiB"),
        format!("fit {llama} --device orin-nano-4gb"),
        format!("fit {llama} --runtime ollama --context 65536"),
        format!("fit {llama} --scheme bf16"),
        format!("fit {llama} --context 131072 --kv-type-k q8_0"),
        format!("fit {small} --scheme bf16 --budget 1400MB"),
        format!("fit {small} --scheme q4_k_m --budget 2GB --context 16384"),
        "fit fixtures/gemma-3-1b-it --context 32768 --budget 1700MB".to_owned(),
        "fit fixtures/gemma-3n-e2b-it --budget 3GB".to_owned(),
        "fit fixtures/gemma-3n-e2b-it --l4t 36.4.7 --scheme q4_k_m".to_owned(),
        "fit fixtures/qwen3-0.6b-Q4_K_M.header.gguf --budget 900MB".to_owned(),
    ] {
        let plan = |words: &str| {
            let run = crate::support::run(&format!("{words} --format json"));
            (run.code, crate::schema::document(&run.out))
        };
        let lines = advice(&plan(&words).1);
        assert!(!lines.is_empty() && lines.len() <= 4, "{words}: {lines:?}");
        for line in lines
            .iter()
            .filter(|line| !line.contains("cache needs flash attention"))
        {
            let (advised, scheme) = advised(&words, line);
            let (code, document) = plan(&advised);
            assert_eq!(code, 0, "{words}\n{line}\n{advised}");
            assert_eq!(document["recommended"], scheme, "{advised}");
            tried += 1;
        }
    }
    assert!(tried > 35, "{tried}");
}

#[test]
fn combinations_are_searched_for() {
    let directory = tempfile::tempdir().unwrap();
    let qwen = config(directory.path(), "qwen3-8b");
    let words = format!("fit {qwen} --context 40960 --scheme q4_k_m,q3_k_m");
    let lines = advice(&json(1, &words));
    let is_wanted = |line: &String| {
        line.starts_with("a smaller KV cache (0.")
            && line.ends_with(
                " nats further) and a smaller format: Q3_K_M fits with --context 40960 --kv-type q4_0",
            )
    };
    assert!(lines.iter().any(is_wanted), "{lines:?}");
    // Neither change alone is enough.
    json(
        1,
        &format!("fit {qwen} --context 40960 --scheme q4_k_m --kv-type q4_0"),
    );
    json(1, &format!("fit {qwen} --context 40960 --scheme q3_k_m"));
}

#[test]
fn the_flag_that_caused_the_lack_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let llama = config(directory.path(), "llama-3.1-8b");
    for (words, start) in [
        (
            "--reserve 6GiB",
            "reserve less than 6.00 GiB: Q4_K_M fits with --reserve ",
        ),
        (
            "--parallel 64",
            "fewer sequences: Q4_K_M fits with --parallel 32",
        ),
        (
            "--budget 2GB",
            "a larger budget: Q4_K_M fits with --budget ",
        ),
        (
            "--context 8192 --ubatch 8192",
            "fewer prompt tokens at once: Q4_K_M fits with --ubatch 512",
        ),
        (
            "--desktop --context 10240",
            "no desktop (`sudo systemctl isolate multi-user.target` frees about ",
        ),
        (
            "--context 12032 --outputs 512",
            "fewer rows of logits: Q4_K_M fits without --outputs",
        ),
    ] {
        let words = format!("fit {llama} --scheme q4_k_m {words}");
        let lines = advice(&json(1, &words));
        let mut named = lines.iter().filter(|line| line.starts_with(start));
        assert!(named.next().is_some(), "{words}: {lines:?}");
    }
}

#[test]
fn where_nothing_fits_the_smallest_board_that_would_do_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let llama = config(directory.path(), "llama-3.1-8b");
    let lines = advice(&json(
        1,
        &format!("fit {llama} --device orin-nano-4gb --context 8192"),
    ));
    let [line] = &lines[..] else {
        panic!("{lines:?}")
    };
    assert!(
        line.starts_with("nothing fits: even Q2_K with 512 tokens of context is "),
        "{line}"
    );
    assert!(
        line.contains("; use a smaller model, or a Jetson Orin Nano 8GB Super, the smallest board that would do: Q4_K_")
            && line.ends_with(" fits with --device orin-nano-8gb"),
        "{line}"
    );
    // Where one fits, it is not said that none does.
    let some = json(0, &format!("fit {llama} --scheme bf16,q3_k_m"));
    assert_eq!(some["recommended"], "q3_k_m");
    assert_eq!(advice(&some), Vec::<String>::new());
    let far = advice(&json(
        1,
        &format!("fit {llama} --device agx-orin-64gb --context 1073741824"),
    ));
    assert!(far.iter().all(|line| !line.contains("--device")), "{far:?}");
}

/// A type for keys or values alone goes before one for both, and a power mode is one board's.
#[test]
fn advice_does_not_lose_to_flags_that_were_given() {
    let directory = tempfile::tempdir().unwrap();
    let qwen = config(directory.path(), "qwen3-8b");
    let words = format!("fit {qwen} --context 40960 --kv-type-v f16");
    let lines = advice(&json(1, &words));
    let both = "--kv-type-k q4_0 --kv-type-v q4_0";
    assert!(lines.iter().any(|line| line.ends_with(both)), "{lines:?}");
    assert!(
        lines.iter().all(|line| !line.contains("--kv-type q")),
        "{lines:?}"
    );

    let llama = config(directory.path(), "llama-3.1-8b");
    let board = |mode: &str| {
        let words = format!("fit {llama} --device orin-nano-4gb --context 8192{mode}");
        let lines = advice(&json(1, &words));
        let [line] = &lines[..] else {
            panic!("{lines:?}")
        };
        line.split_once("fits with ").unwrap().1.to_owned()
    };
    assert_eq!(board(""), "--device orin-nano-8gb");
    assert_eq!(board(" --power-mode 25W"), "--device orin-nano-8gb");
    for mode in ["7W_AI", "10W"] {
        let mode = format!(" --power-mode {mode}");
        assert_eq!(board(&mode), "--device orin-nano-8gb, without --power-mode");
    }
}

/// Q4_K_M has room on a board of 8 GB, and the driver of R36.4.7 grants no 4 GiB at once; it grants what Q1_0 needs.
#[test]
fn a_format_that_the_driver_refuses_says_so_where_it_is_decided() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["qwen3-8b", "llama-3.1-8b"] {
        let model = config(directory.path(), name);
        let words = format!("fit {model} --scheme q4_k_m,q1_0 --l4t 36.4.7");
        let document = json(0, &words);
        assert_eq!(document["recommended"], "q1_0");
        let plans = document["plans"].as_array().unwrap();
        let plan = plans
            .iter()
            .find(|plan| plan["scheme"] == "q4_k_m")
            .unwrap();
        assert_eq!(plan["verdict"], "does_not_fit");
        assert!(plan["memory"]["headroom_bytes"].as_i64().unwrap() > 0);
        let notes = plan["notes"].as_array().unwrap();
        assert!(
            notes.iter().any(|note| note["code"] == "large_allocation"),
            "{notes:?}"
        );
        assert_eq!(
            advice(&document),
            ["update to JetPack 6.2.2 (L4T R36.5.0) or later: Q4_K_M fits as asked"]
        );
        for format in ["text", "markdown"] {
            let said = says(0, &format!("{words} --format {format} --all"));
            let row = said.lines().find(|line| line.contains("Q4_K_M ")).unwrap();
            assert!(row.contains("refused"), "{row}");
            let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
            let reason = "; there is room for Q4_K_M, but one allocation of 4.3";
            let (headline, _) = flat.split_once("max ctx").unwrap();
            assert!(headline.contains(reason), "{headline}");
            let limit =
                "fails on L4T R36.4.7, which grants at most 1.40 GiB (3.00 GiB on one board)";
            assert!(headline.contains(limit), "{headline}");
        }
        let words = format!("fit {model} --scheme q4_k_m,q1_0 --l4t 36.5.0");
        let newer = says(0, &words);
        assert!(newer.starts_with("FITS as Q4_K_M: "), "{newer}");
    }
}

/// Heads of 80 elements are no whole number of blocks of a quantized cache, whatever else is changed.
#[test]
fn a_cache_that_the_heads_cannot_have_is_not_advised() {
    let directory = tempfile::tempdir().unwrap();
    let model = config(directory.path(), "llama-3.1-8b");
    let text = fs::read_to_string(&model).unwrap();
    assert!(text.contains("\"head_dim\":128"), "{text}");
    fs::write(&model, text.replace("\"head_dim\":128", "\"head_dim\":80")).unwrap();
    let lines = advice(&json(
        1,
        &format!("fit {model} --scheme q4_k_m --context 32768"),
    ));
    assert!(!lines.is_empty(), "{lines:?}");
    assert!(
        lines.iter().all(|line| !line.contains("--kv-type")),
        "{lines:?}"
    );
    let lines = advice(&json(
        1,
        &format!("fit {model} --scheme q4_k_m --kv-type q8_0"),
    ));
    assert!(lines[0].contains("multiples of 32"), "{lines:?}");
    assert!(
        lines[1].ends_with("Q4_K_M fits with --context 4096 --kv-type f16"),
        "{lines:?}"
    );
}

/// Neither the memory nor the speed that is lacking goes unsaid.
#[test]
fn where_nothing_fits_and_nothing_is_fast_both_are_said() {
    let directory = tempfile::tempdir().unwrap();
    let model = config(directory.path(), "qwen3-8b");
    let words = format!("fit {model} --reserve 4GiB --min-speed 500");
    let lines = advice(&json(1, &words));
    assert!(
        lines[0].starts_with("fewer tokens/s: ") && lines[0].contains("is the fastest of all"),
        "{lines:?}"
    );
    assert!(
        lines[1..].iter().any(|line| line.contains("--reserve")),
        "{lines:?}"
    );
}

/// The scheme that is advised with less of a reserve is about what `fit` would recommend with that reserve.
#[test]
fn a_reserve_is_not_given_up_for_a_format_that_nobody_would_get() {
    let directory = tempfile::tempdir().unwrap();
    let model = config(directory.path(), "qwen3-8b");
    for rest in ["--parallel 1", "--parallel 4"] {
        let words = format!("fit {model} --reserve 3500MiB {rest}");
        let lines = advice(&json(1, &words));
        let line = lines
            .iter()
            .find(|line| line.contains("--reserve"))
            .unwrap();
        let left = line.split("--reserve ").nth(1).unwrap();
        let left = left.split("MiB").next().unwrap().parse::<u64>().unwrap();
        assert!(left > 500, "{rest}: {lines:?}");
    }
}

#[test]
fn a_draft_that_takes_too_much_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let draft = config(directory.path(), "qwen3-8b");
    let words = format!("fit fixtures/qwen3-0.6b --draft {draft}");
    let lines = advice(&json(1, &words));
    assert!(
        lines.iter().any(
            |line| line.starts_with("no draft (it takes ") && line.ends_with("without --draft")
        ),
        "{lines:?}"
    );
}
