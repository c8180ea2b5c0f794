//! `orinplan fit --boards`: one model on several boards.

use serde_json::json as document;

use crate::support::{QWEN, json, refused, run, says};

const TWO: &str = "--boards 2xorin-nano-8gb";

#[test]
fn every_board_has_its_blocks_and_the_document_is_as_described() {
    let document = json(0, &format!("fit {QWEN} {TWO} --scheme q4_k_m"));
    let plan = &document["plans"][0];
    let boards = plan["boards"].as_array().unwrap();
    let blocks: u64 = boards
        .iter()
        .map(|board| board["blocks"].as_u64().unwrap())
        .sum();
    assert_eq!(Some(blocks), document["model"]["block_count"].as_u64());
    assert_eq!(document["recommended"], "q4_k_m");
    // The server's board is reached by no link.
    assert!(boards[0]["wire"].is_object() && boards[1]["wire"].is_null());
    for board in boards {
        let parts = [
            "weights",
            "kv_cache",
            "recurrent_state",
            "compute",
            "image_encoder",
            "output",
            "runtime",
        ];
        let sum: u64 = parts
            .iter()
            .map(|part| board["memory"][format!("{part}_bytes")].as_u64().unwrap())
            .sum();
        assert_eq!(board["memory"]["total_bytes"], sum);
    }
}

#[test]
fn a_count_may_stand_apart_and_boards_may_differ() {
    let apart = run(&format!("fit {QWEN} --boards 2x orin-nano-8gb"));
    let joined = run(&format!("fit {QWEN} {TWO}"));
    assert_eq!((apart.code, &apart.out), (0, &joined.out));
    let mixed = json(
        0,
        &format!("fit {QWEN} --boards orin-nx-16gb@25W,orin-nano-8gb@15W"),
    );
    let modes = mixed["boards"].as_array().unwrap().iter();
    let modes: Vec<&str> = modes
        .map(|board| board["power_mode"].as_str().unwrap())
        .collect();
    assert_eq!(modes, ["25W", "15W"]);
}

#[test]
fn a_faster_board_gets_more_blocks() {
    let of = |boards: &str| {
        let document = json(0, &format!("fit {QWEN} --boards {boards} --scheme q4_k_m"));
        document["plans"][0]["boards"][0]["blocks"]
            .as_u64()
            .unwrap()
    };
    assert!(of("agx-orin-64gb@MAXN,orin-nano-8gb@15W") > of("2xorin-nano-8gb@15W"));
}

#[test]
fn the_text_has_what_has_to_be_known() {
    let text = run(&format!("fit {QWEN} {TWO} --all"));
    assert_eq!((text.code, text.err.as_str()), (0, ""));
    let flat = text.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for said in [
        "FITS 2 boards",
        "no authentication or encryption",
        "if a board drops out, llama-server aborts",
        "no run of llama.cpp's RPC with layers split over Orin boards is published",
        "ggml-rpc-server -H 0.0.0.0 -p 50052 -c",
    ] {
        assert!(flat.contains(said), "{said}: {}", text.out);
    }
    // Where another division may have more context than the printed one.
    let short = "max ctx: with these blocks";
    for (more, is_said) in [
        ("--scheme bf16 --budget 2GiB", true),
        ("--scheme q4_0", false),
    ] {
        let text = run(&format!("fit {QWEN} {TWO} {more}"));
        assert_eq!(text.out.contains(short), is_said, "{more}: {}", text.out);
    }
    let markdown = run(&format!("fit {QWEN} {TWO} --format markdown"));
    assert!(markdown.out.contains("| Q4_K_M |"), "{}", markdown.out);
}

#[test]
fn several_boards_that_are_too_small_say_by_how_much() {
    let run = run(&format!("fit {QWEN} {TWO} --budget 300MiB --scheme q8_0"));
    assert_eq!(run.code, 1);
    assert!(
        run.out.contains("DOES NOT FIT 2 boards") && run.out.contains("short"),
        "{}",
        run.out
    );
    assert!(run.out.contains("a larger budget: Q8_0 fits with --budget"));
}

/// Every piece of advice is tried as it is printed.
#[test]
fn advice_for_several_boards_holds() {
    let asked = format!("fit {QWEN} --boards 2xorin-nano-4gb");
    for more in [
        "--context 40960 --scheme f16",
        "--context 40000 --kv-type q4_0 --scheme f16 --budget 1GiB",
    ] {
        let document = json(1, &format!("{asked} {more}"));
        let advice = document["advice"].as_array().unwrap();
        assert!(advice.len() > 1, "{more}: {advice:?}");
        for advice in advice {
            let advice = advice.as_str().unwrap();
            let (_, rest) = advice.split_once(": ").unwrap();
            let (scheme, how) = rest.split_once(" fits").unwrap();
            let flags = how.find("--").map_or("", |at| &how[at..]);
            // A flag that is advised replaces the one that was given.
            let given = format!("{} {more}", &asked[asked.find("--boards").unwrap()..]);
            let kept = given.split("--").filter(|flag| {
                let name = flag.split(' ').next().unwrap_or_default();
                !name.is_empty() && name != "scheme" && !flags.contains(&format!("--{name} "))
            });
            let kept: String = kept.map(|flag| format!("--{} ", flag.trim())).collect();
            let words = format!(
                "fit {QWEN} {kept}{flags} --scheme {}",
                scheme.to_lowercase()
            );
            assert_eq!(run(&words).code, 0, "{advice}: {words}");
        }
    }
}

/// The last of the 24 lines of a usual terminal is the shell's.
#[test]
fn the_first_screen_of_several_boards_is_a_screen() {
    for words in [
        format!("fit {QWEN} {TWO}"),
        format!("fit {QWEN} --boards 3xorin-nano-4gb --scheme f16"),
        format!("fit {QWEN} --boards 2xorin-nano-4gb --budget 300MiB"),
        format!("fit {QWEN} --parallel auto"),
        format!("fit {QWEN} --parallel auto --max-latency 1ms"),
    ] {
        let text = run(&words).out;
        let rows = text
            .lines()
            .map(|line| line.chars().count().div_ceil(80).max(1));
        assert!(rows.sum::<usize>() <= 23, "{words}: {text}");
        assert!(
            text.contains("--all: ") || text.contains("`--all`"),
            "{words}: {text}"
        );
    }
}

#[test]
fn what_cannot_be_divided_is_refused_with_the_reason() {
    for (words, said) in [
        (format!("fit {QWEN} {TWO} --split-mode tensor"), "51 MB"),
        (
            format!("fit {QWEN} {TWO} --layers 3,3"),
            "blocks for 2 boards",
        ),
        (
            format!("fit {QWEN} {TWO} --runtime vllm"),
            "--runtime llama.cpp",
        ),
        (
            format!("fit {QWEN} {TWO} --runtime llama.cpp-cpu"),
            "--server-on apart",
        ),
        (format!("fit {QWEN} --boards orin-nano-8gb"), "--device"),
        (format!("fit {QWEN} --boards 99xorin-nano-8gb"), "16"),
        (format!("fit {QWEN} {TWO} --link wifi"), "2.5gbe"),
        (format!("fit {QWEN} {TWO} --rpc a"), "50052"),
        (format!("fit {QWEN} {QWEN} {TWO}"), "one model"),
        (format!("fit {QWEN} {TWO} --figure memory"), "--format svg"),
        (format!("fit {QWEN} {TWO} --draft lookup"), "--draft"),
        (format!("fit {QWEN} --link 1gbe"), "--boards"),
        (
            "fit fixtures/gemma-3n-e2b-it --boards 2xorin-nano-8gb".to_owned(),
            "every block",
        ),
    ] {
        refused(&words, &[said]);
    }
}

#[test]
fn a_plan_is_saved_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let file = file.display();
    let words = format!("fit {QWEN} {TWO} --scheme q4_k_m");
    assert_eq!(run(&format!("{words} --save {file}")).code, 0);
    assert!(says(0, &format!("{words} --check {file}")).contains("equals"));
    let changed = says(1, &format!("{words} --link 10gbe --check {file}"));
    assert!(changed.contains("link.name"), "{changed}");
}

/// A measured link has no other name than its numbers.
#[test]
fn a_measured_link_is_told_once() {
    let shown = run(&format!("fit {QWEN} {TWO} --link 110MB/s,0.3ms"));
    let flat = shown.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("; a link of 110 MB/s, 0.3 ms round trip"),
        "{flat}"
    );
    assert!(!flat.contains("110MB/s,0.3ms"), "{flat}");
}

/// Each half of the weights is one allocation on its board, and R36.4.7 grants neither; R36.5 grants both.
#[test]
fn an_update_of_the_boards_is_advised_where_their_driver_refuses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let config = document!({
        "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 4096,
        "num_hidden_layers": 36, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
        "intermediate_size": 12288, "vocab_size": 151_936, "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6, "rope_theta": 1e6, "tie_word_embeddings": false, "hidden_act": "silu",
    });
    std::fs::write(&path, config.to_string()).unwrap();
    let words = format!("fit {} {TWO} --l4t 36.4.7", path.display());
    let said = says(1, &words);
    let flat = said.split_whitespace().collect::<Vec<_>>().join(" ");
    // The format whose allocations are least above the limit is the closest.
    assert!(
        flat.contains("Q2_K comes closest, but on board 1 one allocation of"),
        "{flat}"
    );
    assert!(
        flat.contains("1. update to JetPack 6.2.2 (L4T R36.5.0) or later: Q4_K_"),
        "{flat}"
    );
    json(0, &words.replace("36.4.7", "36.5.0"));
}
