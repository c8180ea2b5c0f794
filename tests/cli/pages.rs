//! Pages and figures: `--format html` and `--format svg`.

use std::fs;

use crate::schema::page;
use crate::support::{json, refused, says};

const QWEN: &str = "fixtures/qwen3-0.6b";
const BOARD: &str = "--device orin-nano-8gb";

/// The numbers of a page are those of the JSON, and nothing is loaded to read it.
#[test]
fn a_page_shows_its_document_and_loads_nothing() {
    let board = format!("board {QWEN} fixtures/gemma-3-1b-it {BOARD}");
    let too_large = format!("fit fixtures/gemma-3n-e2b-it {BOARD} --budget 3GB");
    for (words, exit) in [
        (format!("fit {QWEN} {BOARD}"), 0),
        (too_large, 1),
        (board, 0),
        (format!("models {BOARD}"), 0),
        (format!("fit {QWEN} --boards 2xorin-nano-8gb"), 0),
        (
            format!("fit {QWEN} --boards orin-nx-16gb,orin-nano-8gb --budget 600MB"),
            1,
        ),
    ] {
        let page = says(exit, &format!("{words} --format html"));
        assert!(page.len() < 300_000, "{words}: {}", page.len());
        let data = page::document(&page);
        for (key, value) in json(exit, &words).as_object().unwrap() {
            assert_eq!(data[key], *value, "{words}: {key}");
        }
        let values = page::values(&page);
        assert!(values.len() > 10, "{words}: {}", values.len());
        for loaded in [
            " src=",
            "@import",
            "url(",
            "<link rel=\"stylesheet",
            "<iframe",
        ] {
            assert!(!page.contains(loaded), "{words}: {loaded}");
        }
        assert!(page.contains("default-src 'none'"), "{words}");
    }
}

#[test]
fn a_name_from_a_file_is_text_in_a_page() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("<img onerror=alert(1)>&\"'");
    fs::create_dir(&folder).unwrap();
    let config = fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/qwen3-0.6b/config.json"
    ));
    fs::write(folder.join("config.json"), config.unwrap()).unwrap();
    let run = crate::support::run_with(&format!("fit {BOARD} --format html"), &[&folder]);
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(!run.out.contains("<img"));
    assert!(run.out.contains("&lt;img onerror"));
}

#[test]
fn a_figure_is_a_file_of_its_own() {
    let words = format!("fit {QWEN} {BOARD} --format svg");
    let first = says(0, &words);
    for figure in ["memory", "context", "speed", "roofline", "quality"] {
        let svg = says(0, &format!("{words} --figure {figure}"));
        assert!(
            svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        assert!(
            svg.contains("<title") && svg.contains("role=\"img\""),
            "{svg}"
        );
        assert_eq!(svg == first, figure == "memory");
    }
    refused(&format!("{words} --figure nope"), &["`nope`", "roofline"]);
    refused(
        &format!("fit {QWEN} {BOARD} --figure memory"),
        &["--figure", "--format svg"],
    );
    refused(&format!("fit {QWEN} {QWEN} --format html"), &["no page"]);
}

/// The picture of the README is what its command draws.
#[test]
fn the_picture_of_the_readme_is_drawn_by_its_command() {
    let picture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/docs/pictures/gemma-3n-e2b.svg"
    );
    let drawn = says(0, "fit fixtures/gemma-3n-e2b-it --format svg");
    assert!(
        fs::read_to_string(picture).unwrap() == drawn,
        "orinplan fit fixtures/gemma-3n-e2b-it --format svg > docs/pictures/gemma-3n-e2b.svg"
    );
}

/// A format that has room and is refused says so in both tables, and the figure of contexts does not blame the largest format.
#[test]
fn a_refusal_is_on_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("config.json");
    let config = serde_json::json!({
        "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 5120,
        "num_hidden_layers": 48, "num_attention_heads": 40, "num_key_value_heads": 8,
        "intermediate_size": 13824, "vocab_size": 152_064, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "hidden_act": "silu",
    });
    fs::write(&file, config.to_string()).unwrap();
    // A board whose driver is known to grant 5 GiB at once.
    let mut board = json(0, "devices show orin-nano-8gb");
    let limits = board["device"]["allocation_limits"].as_array_mut().unwrap();
    limits.last_mut().unwrap()["largest"]["bytes"] = (5_u64 << 30).into();
    let strict = directory.path().join("strict.json");
    fs::write(&strict, board.to_string()).unwrap();
    let words = format!(
        "fit {} --device {} --context 512 --format html",
        file.display(),
        strict.display()
    );
    let page = says(1, &words);
    let document = page::document(&page);
    assert_eq!(page.matches(">refused</td>").count(), 2);
    assert!(page.contains("refused: L4T R36.5.0 grants no allocation above 5.00 GiB."));
    assert!(page.contains("No format fits with any context on this board."));
    for plan in document["curves"]["plans"].as_array().unwrap() {
        let fits = plan["fits"].as_array().unwrap();
        assert!(fits.iter().all(|fits| *fits == false), "{plan}");
    }
}
