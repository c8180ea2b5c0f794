//! `orinplan board`: several models on one board, held to what `fit` says of each alone.

use std::fs;

use serde_json::Value as Json;

use crate::support::{QWEN, assert_error, json, refused, run_with, says};

const GEMMA: &str = "fixtures/gemma-3-1b-it";
const BOARD: &str = "--device orin-nano-8gb";

/// The memory of a model alone, in bytes.
fn alone(model: &str, scheme: &str, context: u64) -> u64 {
    let words = format!("fit {model} {BOARD} --scheme {scheme} --context {context}");
    json(0, &words)["plans"][0]["memory"]["total_bytes"]
        .as_u64()
        .unwrap()
}

/// The document of a file with these entries, in which `QWEN` and `GEMMA` stand for the fixtures.
fn of_file(code: i32, entries: &str) -> Json {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.toml");
    let root = env!("CARGO_MANIFEST_DIR");
    let entries = entries
        .replace("QWEN", &format!("{root}/{QWEN}"))
        .replace("GEMMA", &format!("{root}/{GEMMA}"));
    fs::write(&file, entries).unwrap();
    let run = run_with("board --format json", &[&file]);
    assert_eq!((run.code, run.err.as_str()), (code, ""));
    crate::schema::document(&run.out)
}

const TWO: &str = r#"
    device = "orin-nano-8gb"
    storage = "200MB/s"
    [[model]]
    model = "QWEN"
    name = "chat"
    scheme = "q4_k_m"
    [[model]]
    model = "GEMMA"
    name = "translate"
    scheme = "q8_0"
    context = "2k"
    [[program]]
    name = "camera"
    memory = "450MiB"
"#;

#[test]
fn what_they_take_together_is_the_sum_of_each_alone() {
    let (chat, translate) = (alone(QWEN, "q4_k_m", 4096), alone(GEMMA, "q8_0", 2048));
    let document = of_file(0, TWO);
    assert_eq!(document["verdict"], "fits");
    assert_eq!(document["needed_bytes"], chat + translate + (450 << 20));
    let models = document["models"].as_array().unwrap();
    for (model, total) in models.iter().zip([chat, translate]) {
        assert_eq!(model["memory"]["total_bytes"], total);
        let file = model["file_bytes"].as_f64().unwrap();
        let seconds = model["load_seconds"].as_f64().unwrap();
        assert!((seconds - file / 200e6).abs() < 1e-4 * seconds);
    }
    // On demand they take turns: only the larger has to have room.
    let turns = of_file(
        0,
        &TWO.replace("context", "load = \"on-demand\"\ncontext")
            .replace("name = \"chat\"", "name = \"chat\"\nload = \"on-demand\""),
    );
    assert_eq!(turns["needed_bytes"], chat.max(translate) + (450 << 20));
}

/// The largest contexts are such that all fit with them, and that the first could not have a step more.
#[test]
fn the_first_takes_the_context_that_the_others_leave() {
    let room = alone(QWEN, "q4_k_m", 4096) + alone(GEMMA, "q8_0", 2048) + (450 << 20);
    let left = 200 << 20;
    let flags = format!("--budget {}B --storage sd", room + left);
    let folder = tempfile::tempdir().unwrap();
    let root = env!("CARGO_MANIFEST_DIR");
    let file = folder.path().join("plan.toml");
    let entries = TWO
        .replace("QWEN", &format!("{root}/{QWEN}"))
        .replace("GEMMA", &format!("{root}/{GEMMA}"));
    let largest = |entries: &str| -> [u64; 2] {
        fs::write(&file, entries).unwrap();
        let run = run_with(&format!("board --format json {flags}"), &[&file]);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        let document = crate::schema::document(&run.out);
        [0, 1].map(|at| document["models"][at]["max_context"].as_u64().unwrap())
    };
    let [chat, translate] = largest(&entries);
    let more = alone(QWEN, "q4_k_m", chat) - alone(QWEN, "q4_k_m", 4096);
    let next = alone(QWEN, "q4_k_m", chat + 256) - alone(QWEN, "q4_k_m", 4096);
    assert!(more <= left && next > left, "{chat}: {more} of {left}");
    assert!(translate >= 2048);
    let grown = alone(GEMMA, "q8_0", translate) - alone(GEMMA, "q8_0", 2048);
    assert!(more + grown <= left);
    // With the other first, it takes what it can.
    let turned = entries.replace("name = \"chat\"", "name = \"chat\"\npriority = 2");
    let [chat_last, translate_first] = largest(&turned);
    assert!(chat_last < chat && translate_first > translate);
}

#[test]
fn a_model_without_room_is_told_with_what_to_unload() {
    let text = says(
        1,
        &format!("board {QWEN} {GEMMA} {BOARD} --scheme f16 --budget 3GiB"),
    );
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("DO NOT FIT TOGETHER"), "{text}");
    assert!(
        text.contains(&format!(
            "{GEMMA} does not fit beside {QWEN}: unload that first"
        )),
        "{text}"
    );
    let text = says(
        1,
        &format!("board {QWEN} {GEMMA} {BOARD} --scheme f16 --budget 1GiB"),
    );
    assert!(text.contains("does not fit on this board"), "{text}");
}

/// Without a format, the first has the best that the smallest of the other leaves room for.
#[test]
fn formats_are_chosen_by_priority() {
    let document = json(0, &format!("board {QWEN} {GEMMA} {BOARD} --budget 3GiB"));
    let total = document["needed_bytes"].as_u64().unwrap();
    assert!(total <= 3 << 30);
    let alone = json(0, &format!("fit {QWEN} {BOARD} --budget 3GiB"));
    assert_eq!(document["models"][0]["scheme"], alone["recommended"]);
}

#[test]
fn a_saved_plan_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved.json");
    let words = format!("board {QWEN} {GEMMA} {BOARD}");
    assert_eq!(run_with(&format!("{words} --save"), &[&saved]).code, 0);
    let same = run_with(&format!("{words} --check"), &[&saved]);
    assert_eq!(same.code, 0, "{}", same.out);
    let other = run_with(&format!("{words} --context 2048 --check"), &[&saved]);
    assert_eq!(other.code, 1);
    let line = format!("models[{QWEN}].context: 4096 saved, 2048 now");
    assert!(other.out.contains(&line), "{}", other.out);
    let of_fit = run_with(&format!("fit {QWEN} {BOARD} --check"), &[&saved]);
    assert_error(&of_fit, &["its schema is orinplan.board/1"]);
}

#[test]
fn a_wrong_file_is_refused_with_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.toml");
    let root = env!("CARGO_MANIFEST_DIR");
    let model = format!("[[model]]\nmodel = \"{root}/{QWEN}\"\n");
    let check = |text: &str, said: &str| {
        fs::write(&file, text).unwrap();
        assert_error(&run_with("board", &[&file]), &["plan.toml", said]);
    };
    check("", "the file is empty");
    check("storage = \"sd\"\n", "it names no model");
    check(
        "[[model]]\nmodle = \"x\"\n",
        "line 2: there is no key `modle`",
    );
    check("[[model]\n", "line 1");
    check(&format!("{model}context = 0\n"), "context is 0");
    check(&format!("{model}kv_type = \"q9\"\n"), "no KV cache of `q9`");
    check(
        &format!("{model}load = \"now\"\n"),
        "found `now`, expected `resident` or `on-demand`",
    );
    check(&format!("{model}{model}"), "give one a name of its own");
    check(
        &format!("storage = \"floppy\"\n{model}"),
        "`floppy` is not a storage",
    );
    check(
        &format!("{model}[[program]]\nname = \"ros\"\nmemory = \"2\"\n"),
        "program `ros`: `2` is not a size",
    );
    refused("board nothing-here", &["there is no model `nothing-here`"]);
    refused("board nothing-here.toml", &["nothing-here.toml"]);
}

/// Rank 16 on four matrices of each block, in F32.
#[test]
fn adapters_add_their_weights_to_the_model_that_they_share() {
    let config =
        r#"{"peft_type":"LORA","r":16,"target_modules":["q_proj","k_proj","v_proj","o_proj"]}"#;
    let folder = tempfile::tempdir().unwrap();
    let lora = folder.path().join("lora");
    fs::create_dir(&lora).unwrap();
    fs::write(lora.join("adapter_config.json"), config).unwrap();
    let entry = "[[model]]\nmodel = \"QWEN\"\nname = \"chat\"\nscheme = \"q8_0\"\n";
    let bytes = |entry: &str| {
        let document = of_file(0, entry);
        let memory = document["models"][0]["memory"].clone();
        (
            memory["total_bytes"].as_u64().unwrap(),
            memory["adapters_bytes"].as_u64(),
        )
    };
    let named = lora.display();
    let (without, none) = bytes(entry);
    let (with, added) = bytes(&format!(
        "{entry}adapters = [\"{named}\", \"{named}/adapter_config.json\"]\n"
    ));
    // Qwen3-0.6B: 28 blocks of width 1024, 16 heads of queries and 8 of keys and values, each of 128.
    let each = 28 * 16 * ((1024 + 2048) + 2 * (1024 + 1024) + (2048 + 1024)) * 4;
    assert_eq!((none, added), (None, Some(2 * each)));
    assert_eq!(with, without + 2 * each);
    fs::write(lora.join("adapter_config.json"), "{}").unwrap();
    let file = folder.path().join("plan.toml");
    let root = env!("CARGO_MANIFEST_DIR");
    let entry = entry.replace("QWEN", &format!("{root}/{QWEN}"));
    fs::write(&file, format!("{entry}adapters = [\"{named}\"]\n")).unwrap();
    assert_error(&run_with("board", &[&file]), &["model `chat`", "`r`"]);
}
