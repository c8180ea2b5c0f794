//! Names that are meant to act on a terminal, a page or a shell: every command shows them, and none
//! lets them through.

use std::fs;
use std::path::Path;

use orinplan::dtype::Dtype;
use orinplan::gguf::{self, StringList, TensorEntry, Value};

use crate::support::{QWEN, Run, command, left, run_with};

/// Clears a screen, turns the order of letters, begins a line, ends a cell and a tag.
const HOSTILE: &str = "x\u{1b}[2J\u{202e}|`<b>\n\u{2028}y\u{9b}\u{e0041}";

/// A GGUF in which every string is hostile that may be without changing what it is; and one with a
/// tensor that no model has.
fn write_gguf(path: &Path, with_tensor: bool) {
    write_gguf_with(path, with_tensor, false);
}

fn write_gguf_with(path: &Path, with_tensor: bool, with_tokens: bool) {
    let text = |text: &str| Value::String(text.to_owned());
    let mut metadata = vec![
        ("general.architecture".to_owned(), text("llama")),
        ("general.name".to_owned(), text(HOSTILE)),
        (HOSTILE.to_owned(), text(HOSTILE)),
        ("tokenizer.chat_template".to_owned(), text(HOSTILE)),
        ("tokenizer.ggml.model".to_owned(), text("llama")),
        ("tokenizer.ggml.pre".to_owned(), text(HOSTILE)),
        (
            "llama.attention.layer_norm_rms_epsilon".to_owned(),
            Value::F32(1e-5),
        ),
        ("llama.rope.scaling.type".to_owned(), text(HOSTILE)),
    ];
    for (key, value) in [
        ("context_length", 512),
        ("embedding_length", 32),
        ("block_count", 1),
        ("feed_forward_length", 32),
        ("attention.head_count", 1),
        ("attention.head_count_kv", 1),
    ] {
        metadata.push((format!("llama.{key}"), Value::U32(value)));
    }
    if with_tokens {
        let mut tokens = StringList::default();
        (0..32).for_each(|n| tokens.push(&format!("{HOSTILE}{n}")));
        let scores = Value::F32s(vec![0.0; 32]);
        metadata.extend([
            ("tokenizer.ggml.tokens".to_owned(), Value::Strings(tokens)),
            ("tokenizer.ggml.scores".to_owned(), scores),
            (
                "tokenizer.ggml.token_type".to_owned(),
                Value::I32s(vec![1; 32]),
            ),
        ]);
    }
    let names = [
        "token_embd",
        "output_norm",
        "blk.0.attn_norm",
        "blk.0.attn_q",
        "blk.0.attn_k",
        "blk.0.attn_v",
        "blk.0.attn_output",
        "blk.0.ffn_norm",
        "blk.0.ffn_gate",
        "blk.0.ffn_up",
        "blk.0.ffn_down",
    ];
    let mut names: Vec<String> = names.iter().map(|name| format!("{name}.weight")).collect();
    names.extend(with_tensor.then(|| format!("blk.0.{HOSTILE}")));
    let entries: Vec<TensorEntry<'_>> = names
        .iter()
        .map(|name| TensorEntry {
            name,
            dtype: Dtype::F32,
            shape: if name.contains("norm") {
                &[32]
            } else {
                &[32, 32]
            },
        })
        .collect();
    let mut file = Vec::new();
    gguf::write_header(&mut file, &metadata, &entries).unwrap();
    file.resize(file.len() + entries.len() * 32 * 32 * 4, 0);
    fs::write(path, file).unwrap();
}

/// A directory whose configuration and tokenizer say hostile things.
fn write_directory(path: &Path) {
    fs::create_dir(path).unwrap();
    for file in fs::read_dir("fixtures/tiny-qwen3").unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), path.join(file.file_name())).unwrap();
    }
    let config = path.join("config.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    for key in ["torch_dtype", "_name_or_path", "transformers_version"] {
        json[key] = HOSTILE.into();
    }
    json[HOSTILE] = HOSTILE.into();
    fs::write(&config, json.to_string()).unwrap();
    let tokenizer = serde_json::json!({ "tokenizer_class": HOSTILE, "chat_template": HOSTILE });
    fs::write(path.join("tokenizer_config.json"), tokenizer.to_string()).unwrap();
    // A kind that is not converted here, which is a note.
    let tokenizer = serde_json::json!({ "model": { "type": HOSTILE, "vocab": {} } });
    fs::write(path.join("tokenizer.json"), tokenizer.to_string()).unwrap();
}

#[track_caller]
fn assert_harmless(run: &Run, words: &str) {
    let acts = |c: char| {
        c != '\n'
            && orinplan::foreign::Foreign(c.encode_utf8(&mut [0; 4]))
                .to_string()
                .len()
                > c.len_utf8()
    };
    for text in [&run.out, &run.err] {
        assert!(!text.contains(acts), "{words}: {}", text.escape_debug());
        // What stands behind the end of a line in the name never begins one.
        let own_line = |line: &str| line.trim_start().starts_with("y");
        assert!(!text.lines().any(own_line), "{words}: {text}");
    }
}

#[test]
fn hostile_names_act_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let gguf = folder
        .path()
        .join(format!("{}.gguf", HOSTILE.replace('/', "")));
    let directory = folder.path().join(HOSTILE);
    write_gguf(&gguf, false);
    let unknown = folder.path().join("unknown.gguf");
    write_gguf(&unknown, true);
    write_directory(&directory);
    let missing = folder.path().join(format!("missing-{HOSTILE}"));
    for model in [
        &gguf,
        &directory,
        &unknown,
        &directory.join("config.json"),
        &missing,
    ] {
        for words in [
            "fit",
            "fit --format json",
            "fit --format markdown",
            "fit --explain",
            "fit --explain --format markdown",
            "fit --scheme all --runtime vllm",
            "fit --runtime ollama --context 512",
            "inspect",
            "inspect --format json",
            "roofline --scheme q8_0",
            "roofline --scheme q8_0 --format json",
            "quantize --scheme f16 --dry-run",
            "quantize --scheme fp8 --dry-run",
            "quantize --scheme q8_0 --dry-run --format json",
            "validate --tokens 4 --repeats 1 --prompt-tokens 4",
            "validate --tokens 4 --repeats 1 --prompt-tokens 4 --format json",
            "validate --tokens 4 --repeats 1 --prompt hi --chat",
        ] {
            let run = run_with(words, &[model]);
            assert_harmless(&run, words);
            if words.ends_with("json") && !run.out.is_empty() {
                serde_json::from_str::<serde_json::Value>(&run.out).unwrap();
            }
        }
    }
    // Each of them was shown, and not refused for another reason.
    let shown = run_with("inspect", &[&gguf]);
    assert_eq!(shown.code, 0, "{}", shown.err);
    assert_eq!(run_with("fit", &[&directory]).code, 0);
}

/// Tokens of a tokenizer that contradict one another are quoted in errors; a GGUF's are only counted.
#[test]
fn hostile_tokens_act_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("model");
    write_directory(&directory);
    let tokenizer = |added: serde_json::Value, vocab: serde_json::Value, merges: &[&str]| {
        serde_json::json!({
            "version": HOSTILE, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": { "type": HOSTILE }, "decoder": { "type": "ByteLevel" },
            "model": { "type": "BPE", "vocab": vocab, "merges": merges },
        })
    };
    let pair = "a b\u{1b}[2J\u{202e}";
    let mut said = 0;
    for json in [
        tokenizer(
            serde_json::json!([]),
            serde_json::json!({ HOSTILE: 0, "x\u{1b}y": 0 }),
            &[],
        ),
        tokenizer(
            serde_json::json!([]),
            serde_json::json!({ HOSTILE: 4_000_000_000u32 }),
            &[],
        ),
        tokenizer(
            serde_json::json!([]),
            serde_json::json!({ HOSTILE: 0 }),
            &[pair],
        ),
        tokenizer(
            serde_json::json!([{ "id": 0, "content": HOSTILE, "special": true }]),
            serde_json::json!({ "a": 0, HOSTILE: 1 }),
            &[],
        ),
        serde_json::json!({ "model": { "type": HOSTILE, "vocab": {} } }),
    ] {
        fs::write(directory.join("tokenizer.json"), json.to_string()).unwrap();
        for words in [
            "fit",
            "fit --format markdown --explain",
            "quantize --scheme q8_0 --dry-run",
            "quantize --scheme int4 --dry-run --format json",
        ] {
            let run = run_with(words, &[&directory]);
            assert_harmless(&run, words);
            said += usize::from(run.err.contains("tokenizer.json"));
        }
    }
    assert!(said >= 3, "{said}");
    let gguf = folder.path().join("tokens.gguf");
    write_gguf_with(&gguf, false, true);
    for words in [
        "fit",
        "inspect",
        "inspect --format json",
        "validate --tokens 4 --prompt hi",
    ] {
        assert_harmless(&run_with(words, &[&gguf]), words);
    }
}

/// What machines, device files and settings say of themselves.
#[test]
fn hostile_machines_and_settings_act_nowhere() {
    let folder = tempfile::tempdir().unwrap();
    let name = HOSTILE.replace(['\n', '/'], "");
    let write = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let root = format!("root-{name}");
    write(&format!("{root}/proc/device-tree/model"), HOSTILE);
    write(&format!("{root}/proc/device-tree/compatible"), HOSTILE);
    write(
        &format!("{root}/proc/cpuinfo"),
        &format!("model name\t: {name}\n"),
    );
    write(
        &format!("{root}/proc/meminfo"),
        "MemTotal: 8000000 kB\nMemAvailable: 6000000 kB\n",
    );
    write(&format!("{root}/etc/nv_tegra_release"), HOSTILE);
    let quoted = toml_string(HOSTILE);
    let settings = format!("settings-{name}");
    let run = format!(
        "schema = \"orinplan.runs/1\"\n[[run]]\ndate = {quoted}\nversion = {quoted}\nruntime = \"llama.cpp\"\nengine = {quoted}\ndevice = \"orin-nano-8gb\"\npower_mode = \"25W\"\nmodel = {quoted}\nscheme = {quoted}\n[run.decode]\npredicted = 10.0\nmeasured = 11.0\n"
    );
    let calibration = "schema = {q}\ndate = {q}\n".replace("{q}", &quoted);
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/profiles/boards/orin-nano-8gb.toml"
    );
    let board = fs::read_to_string(shipped).unwrap();
    let field = "name = \"Jetson Orin Nano 8GB Super\"";
    assert!(board.contains(field));
    write(
        "board.toml",
        &board.replacen(field, &format!("name = {quoted}"), 1),
    );
    write("wrong.toml", &format!("{quoted} = {quoted}"));
    let at = |path: &str| folder.path().join(path).to_str().unwrap().to_owned();
    for (runs, calibration) in [(run.as_str(), calibration.as_str()), (&quoted, HOSTILE)] {
        write(&format!("{settings}/orinplan/runs.toml"), runs);
        write(
            &format!("{settings}/orinplan/calibration.toml"),
            calibration,
        );
        for words in [
            vec!["devices", "detect"],
            vec!["devices", "detect", "--format", "json"],
            vec!["devices", "show", "host"],
            vec!["devices", "show", "host", "--format", "json"],
            vec!["devices", "show", "orin-nano-8gb"],
            vec!["devices", "show", &at("board.toml")],
            vec!["devices", "show", &at("wrong.toml")],
            vec!["devices", "show", HOSTILE],
            vec!["fit", QWEN],
            vec!["fit", QWEN, "--device", "host", "--runtime", HOSTILE],
            vec!["fit", QWEN, "--device", "host"],
            vec![
                "fit",
                QWEN,
                "--device",
                &at("board.toml"),
                "--format",
                "markdown",
            ],
            vec!["fit", QWEN, "--power-mode", HOSTILE],
            vec!["calibrate", "--reset"],
        ] {
            let output = command()
                .args(&words)
                .env("ORINPLAN_ROOT", at(&root))
                .env("XDG_CONFIG_HOME", at(&settings))
                .output()
                .unwrap();
            let run = left(output);
            assert_harmless(&run, &format!("{words:?}"));
            assert!(!(run.out.is_empty() && run.err.is_empty()), "{words:?}");
        }
    }
}

/// A string as TOML writes it.
fn toml_string(text: &str) -> String {
    let escaped = text.chars().map(|c| match c {
        '"' | '\\' => format!("\\{c}"),
        c if c.is_ascii_graphic() || c == ' ' => c.to_string(),
        c => format!("\\U{:08X}", u32::from(c)),
    });
    format!("\"{}\"", escaped.collect::<String>())
}

#[test]
fn a_name_is_no_flag_and_adds_no_line() {
    let folder = tempfile::tempdir().unwrap();
    let dash = folder.path().join("-rf.gguf");
    write_gguf(&dash, false);
    let out = run_with("fit --runtime llama.cpp", &[&dash]).out;
    assert!(
        !out.contains(" -rf.gguf") && !out.contains(" '-rf.gguf'"),
        "{out}"
    );
    let lines = folder.path().join("a\nSYSTEM evil.gguf");
    write_gguf(&lines, false);
    let out = run_with("fit --runtime ollama", &[&lines]).out;
    assert!(!out.contains("Modelfile"), "{out}");
}
