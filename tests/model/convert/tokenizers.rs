//! Tokenizers become `tokenizer.*` keys. The rules: `conversion/base.py` and `gguf-py/gguf/vocab.py`
//! of llama.cpp; the expectations follow from what the small tokenizers here are made of.

use orinplan::convert::has_unknown_pre_tokenizer;
use serde_json::{Value as Json, json};

use super::build::{Fixture, LLAMA3, QWEN2, byte_level, llama, sentencepiece, starts_with};

fn tokenizer_lines(fixture: &Fixture) -> Vec<String> {
    let lines = fixture.lines().into_iter();
    lines
        .filter(|line| line.starts_with("tokenizer."))
        .collect()
}

fn find<'a>(lines: &'a [String], key: &str) -> Option<&'a str> {
    let mut values = lines
        .iter()
        .filter_map(|l| l.strip_prefix(key)?.strip_prefix(' '));
    values.next()
}

#[test]
fn byte_level_tokens_are_padded_and_typed() {
    let config = json!({"bos_token": "<|start|>", "eos_token": {"content": "<|end|>"},
                        "pad_token": "<|absent|>", "add_eos_token": false, "chat_template": "T"});
    let mut tokenizer = byte_level(LLAMA3);
    tokenizer["post_processor"] = starts_with("<|start|>");
    let fixture = Fixture::new(&llama(302))
        .with("tokenizer.json", tokenizer.to_string())
        .with("tokenizer_config.json", config.to_string());
    let lines = tokenizer_lines(&fixture);
    let keys: Vec<&str> = lines.iter().map(|l| l.split(' ').next().unwrap()).collect();
    assert_eq!(
        keys.join("\n"),
        "tokenizer.ggml.model\ntokenizer.ggml.pre\ntokenizer.ggml.tokens\n\
         tokenizer.ggml.token_type\ntokenizer.ggml.merges\ntokenizer.ggml.bos_token_id\n\
         tokenizer.ggml.eos_token_id\ntokenizer.ggml.add_bos_token\n\
         tokenizer.ggml.add_sep_token\ntokenizer.ggml.add_eos_token\ntokenizer.chat_template"
    );
    assert_eq!(find(&lines, "tokenizer.ggml.model"), Some("string gpt2"));
    assert_eq!(find(&lines, "tokenizer.ggml.pre"), Some("string llama-bpe"));
    assert_eq!(find(&lines, "tokenizer.ggml.bos_token_id"), Some("u32 296"));
    assert_eq!(
        find(&lines, "tokenizer.ggml.add_bos_token"),
        Some("bool true")
    );
    assert_eq!(
        find(&lines, "tokenizer.ggml.add_sep_token"),
        Some("bool false")
    );
    let tokens = find(&lines, "tokenizer.ggml.tokens").unwrap();
    assert!(tokens.starts_with(r#"strings ["Ā", "ā", "Ă""#), "{tokens}");
    let end =
        r#""ĀĦ", "Āħ", "<|start|>", "<|end|>", "<think>", "<|tool|>", "[PAD300]", "[PAD301]"]"#;
    assert!(tokens.ends_with(end), "{tokens}");
    let types = find(&lines, "tokenizer.ggml.token_type").unwrap();
    assert!(types.ends_with(" 1, 3, 3, 4, 3, 5, 5]"), "{types}");
    let merges = find(&lines, "tokenizer.ggml.merges").unwrap();
    assert!(merges.starts_with(r#"strings ["Ā Ā", "Ā ā", "#), "{merges}");
}

#[test]
fn the_split_is_told_from_its_pattern() {
    let digits = json!({"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": true},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]});
    let gpt2 = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true});
    let split = |pattern: &str| byte_level(pattern)["pre_tokenizer"].clone();
    let newline = LLAMA3.replace(r"\r\n", "\r\n");
    let cases: &[(Json, Option<&str>, &str)] = &[
        (split(LLAMA3), Some("<|start|>"), "llama-bpe"),
        (split(&newline), Some("<|start|>"), "llama-bpe"),
        (split(LLAMA3), None, "smaug-bpe"),
        (split(QWEN2), None, "qwen2"),
        (
            split(QWEN2),
            Some("<｜begin▁of▁sentence｜>"),
            "deepseek-r1-qwen",
        ),
        (digits, None, "smollm"),
        (gpt2, None, "gpt-2"),
        (split(r"\S+"), None, "default"),
        (Json::Null, None, "default"),
    ];
    for (pre_tokenizer, start, name) in cases {
        let mut tokenizer = byte_level("");
        tokenizer["pre_tokenizer"] = pre_tokenizer.clone();
        if let Some(token) = start {
            tokenizer["post_processor"] = starts_with(token);
        }
        let fixture = Fixture::new(&llama(300)).with("tokenizer.json", tokenizer.to_string());
        let lines = tokenizer_lines(&fixture);
        assert_eq!(
            find(&lines, "tokenizer.ggml.pre"),
            Some(&*format!("string {name}"))
        );
        let unknown = has_unknown_pre_tokenizer(&fixture.metadata().unwrap());
        assert_eq!(unknown, *name == "default", "{name}");
    }
}

/// llama.cpp composes no characters either, and has no lower case: its own converter stops there.
#[test]
fn text_that_is_changed_before_it_is_split_gives_other_tokens() {
    let step = |kind: &str| json!({ "type": kind });
    let all = |steps: Json| json!({ "type": "Sequence", "normalizers": steps });
    for (normalizer, is_unknown) in [
        (Json::Null, false),
        (step("NFC"), false),
        (all(json!([])), false),
        (all(json!([step("NFC")])), false),
        (step("Lowercase"), true),
        (step("NFKC"), true),
        (all(json!([step("NFC"), step("Lowercase")])), true),
    ] {
        let mut tokenizer = byte_level(QWEN2);
        tokenizer["normalizer"] = normalizer.clone();
        let fixture = Fixture::new(&llama(300)).with("tokenizer.json", tokenizer.to_string());
        let unknown = has_unknown_pre_tokenizer(&fixture.metadata().unwrap());
        assert_eq!(unknown, is_unknown, "{normalizer}");
    }
}

#[test]
fn merges_may_be_strings_or_pairs_with_spaces() {
    let mut tokenizer = byte_level(QWEN2);
    tokenizer["model"]["merges"] = json!(["a b", ["c d", "e"]]);
    let fixture = Fixture::new(&llama(300)).with("tokenizer.json", tokenizer.to_string());
    let lines = tokenizer_lines(&fixture);
    let merges = find(&lines, "tokenizer.ggml.merges");
    assert_eq!(merges, Some(r#"strings ["a b", "cĠd e"]"#));
    for alone in ["abc", " b", "a "] {
        tokenizer["model"]["merges"] = json!([alone]);
        let fixture = Fixture::new(&llama(300)).with("tokenizer.json", tokenizer.to_string());
        let error = fixture.error();
        assert!(error.contains("a merge of two tokens"), "{error}");
    }
}

const PIECES: &[(&str, f32, u8)] = &[
    ("<unk>", 0.0, 2),
    ("<s>", 0.0, 3),
    ("</s>", 0.0, 3),
    ("<0x00>", 0.0, 6),
    ("▁t", -1.0, 1),
    ("▁▁", -2.5, 4),
    ("x", -3.0, 5),
];

#[test]
fn sentencepiece_pieces_keep_scores_and_added_tokens_replace_them() {
    let config = json!({"add_bos_token": true, "add_eos_token": false, "bos_token": "<s>",
        "added_tokens_decoder": {
            "1": {"content": "<s>", "special": true}, "6": {"content": "▁y", "special": false},
            "99": {"content": "beyond", "special": true}}});
    let mut llama = llama(9);
    llama["bos_token_id"] = 1.into();
    llama["eos_token_id"] = json!([2, 3]);
    llama["pad_token_id"] = 9.into();
    let fixture = Fixture::new(&llama)
        .with("tokenizer.model", sentencepiece(PIECES))
        .with("tokenizer_config.json", config.to_string());
    assert_eq!(
        tokenizer_lines(&fixture),
        [
            "tokenizer.ggml.model string llama",
            "tokenizer.ggml.pre string default",
            r#"tokenizer.ggml.tokens strings ["<unk>", "<s>", "</s>", "<0x00>", "▁t", "▁▁", " y", "[PAD7]", "[PAD8]"]"#,
            "tokenizer.ggml.scores f32s [0.0, -1000.0, 0.0, 0.0, -1.0, -2.5, -1000.0, -10000.0, -10000.0]",
            "tokenizer.ggml.token_type i32s [2, 3, 3, 6, 1, 1, 4, 5, 5]",
            "tokenizer.ggml.bos_token_id u32 1",
            "tokenizer.ggml.add_bos_token bool true",
            "tokenizer.ggml.add_eos_token bool false",
        ]
    );
}

fn byte_fallback() -> Json {
    json!({
        "added_tokens": [
            {"id": 0, "content": "<unk>", "special": true}, {"id": 1, "content": "<s>", "special": true},
            {"id": 7, "content": "<extra>", "special": false}],
        "normalizer": null, "pre_tokenizer": null, "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}]},
        "model": {"type": "BPE", "byte_fallback": true, "unk_token": "<unk>",
                  "vocab": {"<unk>": 0, "<s>": 1, "<0x0A>": 2, "▁": 3, "▁▁": 4, "a": 6, "▁a": 5},
                  "merges": ["▁ a", "▁ ▁"]}})
}

#[test]
fn byte_fallback_gives_pieces_in_the_order_of_ids_scored_by_merges() {
    let fixture = Fixture::new(&llama(8)).with("tokenizer.json", byte_fallback().to_string());
    let lines = tokenizer_lines(&fixture);
    // As `tokenizer.model` has it: the earlier merge has the higher score, whatever the id. `<unk>`
    // counts among the control tokens.
    assert_eq!(
        lines[2..],
        [
            r#"tokenizer.ggml.tokens strings ["<unk>", "<s>", "<0x0A>", "▁", "▁▁", "▁a", "a", "<extra>"]"#,
            "tokenizer.ggml.scores f32s [-2.0, -2.0, -2.0, -2.0, -1.0, 0.0, -2.0, -1000.0]",
            "tokenizer.ggml.token_type i32s [3, 3, 6, 1, 1, 1, 1, 4]",
        ]
    );
}

#[test]
fn chat_templates_come_from_three_places() {
    let tokenizer = byte_level(QWEN2).to_string();
    let fixture = |config: Json| {
        Fixture::new(&llama(300))
            .with("tokenizer.json", &tokenizer)
            .with("tokenizer_config.json", config.to_string())
            .with("chat_template.json", r#"{"chat_template": "json"}"#)
    };
    let template = |fixture: &Fixture| {
        let lines = tokenizer_lines(fixture);
        find(&lines, "tokenizer.chat_template").map(str::to_owned)
    };
    let stated = fixture(json!({"chat_template": "config"}));
    assert_eq!(template(&stated).as_deref(), Some("string config"));
    let beside = fixture(json!({"tokenizer_class": "X"}));
    assert_eq!(template(&beside).as_deref(), Some("string json"));
    let jinja = beside.with("chat_template.jinja", "jinja");
    assert_eq!(template(&jinja).as_deref(), Some("string jinja"));
    assert_eq!(template(&fixture(json!({}))), None);
    let several = fixture(json!({"chat_template": [
        {"name": "tool use", "template": "t"}, {"name": "default", "template": "d"}]}));
    let lines = tokenizer_lines(&several);
    assert_eq!(
        lines[lines.len() - 3..],
        [
            "tokenizer.chat_template.tool_use string t",
            r#"tokenizer.chat_templates strings ["tool_use"]"#,
            "tokenizer.chat_template string d",
        ]
    );
}

/// InternLM 2: the files beside its weights name the end of a text.
#[test]
fn turns_of_a_chat_end_with_a_token_that_no_file_names() {
    let mut config = llama(302);
    config["architectures"] = json!(["InternLM2ForCausalLM"]);
    config["model_type"] = json!("internlm2");
    let ends = |tokenizer: String| {
        let names = json!({"bos_token": "<|start|>", "eos_token": "<|end|>"});
        let fixture = Fixture::new(&config)
            .with("tokenizer.json", tokenizer)
            .with("tokenizer_config.json", names.to_string());
        let lines = tokenizer_lines(&fixture);
        find(&lines, "tokenizer.ggml.eos_token_id").map(str::to_owned)
    };
    let tokenizer = byte_level(LLAMA3).to_string();
    assert_eq!(ends(tokenizer.clone()).as_deref(), Some("u32 297"));
    let with_turns = tokenizer.replace("<|tool|>", "<|im_end|>");
    assert_eq!(ends(with_turns).as_deref(), Some("u32 299"));
}

/// InternLM 2: names say which pieces are not used, and SentencePiece's own settings whether a space comes first.
#[test]
fn settings_of_sentencepiece_are_kept_where_a_class_goes_by_them() {
    let mut config = llama(6);
    config["architectures"] = json!(["InternLM2ForCausalLM"]);
    config["model_type"] = json!("internlm2");
    let mut pieces = PIECES.to_vec();
    pieces.truncate(5);
    pieces.push(("[UNUSED_TOKEN_5]", 0.0, 4));
    for (more, space) in [
        (&[][..], "bool true"),
        (&[0x1a, 2, 0x18, 0], "bool false"),
        (&[0x1a, 4, 0x18, 1, 0x20, 0], "bool true"),
    ] {
        let model = [&sentencepiece(&pieces)[..], more].concat();
        let fixture = Fixture::new(&config).with("tokenizer.model", model);
        let lines = tokenizer_lines(&fixture);
        assert_eq!(find(&lines, "tokenizer.ggml.add_space_prefix"), Some(space));
        let types = find(&lines, "tokenizer.ggml.token_type").unwrap();
        assert!(types.ends_with(" 5]"), "{types}");
    }
}
