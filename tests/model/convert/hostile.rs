//! Files made to break the reader: one clear error with the file's name, and no panic.

use serde_json::{Value as Json, json};

use super::build::{Fixture, QWEN2, byte_level, llama, sentencepiece};

fn check_json(change: impl FnOnce(&mut Json), expect: &str) {
    let mut tokenizer = byte_level(QWEN2);
    change(&mut tokenizer);
    let fixture = Fixture::new(&llama(300)).with("tokenizer.json", tokenizer.to_string());
    let error = fixture.error();
    assert!(
        error.contains("tokenizer.json") && error.contains(expect),
        "{error}"
    );
}

#[test]
fn ids_must_be_distinct_and_below_the_vocabulary_size() {
    check_json(|t| t["model"]["vocab"]["x"] = 7.into(), "both have id 7");
    check_json(|t| t["model"]["vocab"]["x"] = 300.into(), "`x` has id 300");
    check_json(
        |t| t["model"]["vocab"]["x"] = json!(u64::MAX),
        "expected a whole number from 0 to 4294967295",
    );
    check_json(
        |t| t["model"]["vocab"]["x"] = json!(-1),
        "expected a whole number from 0 to 4294967295",
    );
    check_json(
        |t| t["model"]["vocab"]["x"] = json!("7"),
        "expected a whole number from 0 to 4294967295",
    );
    check_json(
        |t| t["added_tokens"][0]["id"] = json!(4_000_000_000u32),
        "4000000000",
    );
}

#[test]
fn other_kinds_of_tokenizers_are_named() {
    check_json(|t| t["model"]["type"] = "WordPiece".into(), "WordPiece");
    check_json(
        |t| t["model"]["vocab"] = 7.into(),
        "an object of tokens to ids",
    );
    check_json(|t| t["model"]["merges"] = json!([["a"]]), "two tokens");
    check_json(|t| t["model"]["merges"] = json!([7]), "a merge");
    check_json(|t| t["model"] = Json::Null, "JSON");
    check_json(|t| t["added_tokens"] = json!([{"id": 1}]), "content");
    let steps = vec![json!({"type": "ByteLevel"}); 257];
    check_json(
        |t| t["pre_tokenizer"]["pretokenizers"] = json!(steps),
        "at most 256",
    );
}

#[test]
fn deep_json_cut_json_and_empty_files_are_refused() {
    let deep = "[".repeat(100_000);
    for text in [
        &*deep,
        &format!(r#"{{"pre_tokenizer": {deep}"#),
        "{",
        "\u{0}",
        "[]",
    ] {
        let fixture = Fixture::new(&llama(300)).with("tokenizer.json", text);
        assert!(
            fixture.error().contains("tokenizer.json"),
            "{}",
            fixture.error()
        );
    }
    let fixture = Fixture::new(&llama(300)).with("tokenizer.json", "");
    assert!(fixture.error().contains("empty"), "{}", fixture.error());
    let whole = byte_level(QWEN2).to_string();
    let fixture = Fixture::new(&llama(300));
    let mut fixture = Some(fixture);
    for end in (1..whole.len())
        .step_by(97)
        .filter(|&end| whole.is_char_boundary(end))
    {
        let cut = fixture
            .take()
            .unwrap()
            .with("tokenizer.json", &whole[..end]);
        assert!(cut.error().contains("tokenizer.json"), "cut at {end}");
        fixture = Some(cut);
    }
}

#[test]
fn a_sentencepiece_model_cut_anywhere_or_with_a_flipped_bit_never_panics() {
    let whole = sentencepiece(&[("<unk>", 0.0, 2), ("a", -1.0, 1), ("é", -2.0, 1)]);
    for end in 1..whole.len() {
        let fixture = Fixture::new(&llama(3)).with("tokenizer.model", &whole[..end]);
        if let Err(error) = fixture.metadata() {
            assert!(error.to_string().contains("tokenizer.model"), "{error}");
        }
    }
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let fixture = Fixture::new(&llama(3)).with("tokenizer.model", &flipped);
        if let Err(error) = fixture.metadata() {
            assert!(error.to_string().contains("tokenizer.model"), "{error}");
        }
    }
    let check = |bytes: &[u8], expect: &str| {
        let error = Fixture::new(&llama(3))
            .with("tokenizer.model", bytes)
            .error();
        assert!(error.contains(expect), "{error}");
    };
    check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], "ends beyond");
    check(&[0xff; 12], "64 bits");
    check(&[0x12, 0x00], "no pieces");
    check(&[0x0b, 0x00], "no longer has");
    check(&[0x0a, 0x02, 0x08, 0x01], "another type");
}

#[test]
fn what_is_missing_or_too_large_is_said() {
    let fixture = Fixture::new(&llama(300));
    assert!(
        fixture
            .error()
            .contains("neither tokenizer.json nor tokenizer.model")
    );
    let mut config = llama(300);
    config["vocab_size"] = 4_000_000_000u32.into();
    let fixture = Fixture::new(&config).with("tokenizer.json", byte_level(QWEN2).to_string());
    assert!(
        fixture.error().contains("above the limit of 2097152"),
        "{}",
        fixture.error()
    );
}

#[test]
fn an_architecture_without_a_conversion_is_named_with_those_that_have_one() {
    let mut config = llama(300);
    config["architectures"] = json!(["BloomForCausalLM"]);
    config["model_type"] = "bloom".into();
    let fixture = Fixture::new(&config).with("tokenizer.json", byte_level(QWEN2).to_string());
    let error = fixture.error();
    assert!(
        error.starts_with("conversion of bloom is not supported yet"),
        "{error}"
    );
    assert!(error.contains("qwen3moe"), "{error}");
}
