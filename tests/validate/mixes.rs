//! `quantize` to a size: what is kept of a search, what its report says, and which flags it has.

use serde_json::Value as Json;
use tempfile::TempDir;

use crate::quality::{folder, orinplan, succeeds, wide_folder};
use crate::support::{assert_error, document};

/// The words of a search on the short text.
fn search<'a>(goal: [&'a str; 2], output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["quantize", "model.gguf", goal[0], goal[1]];
    words.extend([
        "--text",
        "text.txt",
        "--chunk-tokens",
        "64",
        "--output",
        output,
    ]);
    words.extend(more);
    words
}

fn read(folder: &TempDir, name: &str) -> Vec<u8> {
    std::fs::read(folder.path().join(name)).unwrap()
}

/// Types that need an importance matrix too; and the size is what `fit` says, to the byte.
#[test]
fn a_saved_list_makes_the_same_file_again() {
    let folder = wide_folder();
    let words = search(
        ["--target-bpw", "3.9"],
        "a.gguf",
        &["--save-types", "a.types"],
    );
    succeeds(&folder, &words);
    let list = String::from_utf8(read(&folder, "a.types")).unwrap();
    assert!(
        list.contains("\n# imatrix=a.types.imatrix.gguf\n"),
        "{list}"
    );
    assert!(list.contains("=iq3_") || list.contains("=iq2_"), "{list}");
    let replay = ["quantize", "model.gguf", "--types", "a.types", "--output"];
    succeeds(&folder, &[&replay[..], &["b.gguf"]].concat());
    assert!(read(&folder, "a.gguf") == read(&folder, "b.gguf"));
    let fit = [
        "fit",
        "model.gguf",
        "--types",
        "a.types",
        "--format",
        "json",
    ];
    let planned = document(&orinplan(&folder, &fit), 0);
    let bytes = read(&folder, "a.gguf").len();
    assert_eq!(planned["plans"][0]["file_bytes"], bytes);
    // The list has moved without its matrix: the way out is named.
    std::fs::rename(
        folder.path().join("a.types.imatrix.gguf"),
        folder.path().join("moved.gguf"),
    )
    .unwrap();
    let run = orinplan(&folder, &[&replay[..], &["c.gguf"]].concat());
    assert_error(&run, &["a.types", "a.types.imatrix.gguf", "put it back"]);
    assert_error(&orinplan(&folder, &fit), &["a.types.imatrix.gguf"]);
    let given = [&replay[..], &["c.gguf", "--imatrix", "moved.gguf"]].concat();
    succeeds(&folder, &given);
}

/// The list names a matrix that was given, and a recipe that was no worse than the mix.
#[test]
fn a_list_names_the_matrix_and_the_recipe_of_its_file() {
    let folder = wide_folder();
    let made = [
        "--text",
        "text.txt",
        "--chunk-tokens",
        "64",
        "--output",
        "i.gguf",
    ];
    succeeds(&folder, &[&["imatrix", "model.gguf"], &made[..]].concat());
    let more = [
        "--imatrix",
        "i.gguf",
        "--save-types",
        "a.types",
        "--format",
        "json",
    ];
    // The largest size at which a recipe is no worse: where both have next to no loss.
    let report = document(
        &orinplan(&folder, &search(["--target-bpw", "4.7"], "a.gguf", &more)),
        0,
    );
    let list = String::from_utf8(read(&folder, "a.types")).unwrap();
    assert!(list.contains("\n# imatrix=i.gguf\n"), "{list}");
    let is_plain = report["mix"]["taken"] == "plain";
    assert_eq!(list.contains("\n# scheme="), is_plain, "{list}");
    assert!(!folder.path().join("a.types.imatrix.gguf").exists());
    let replay = [
        "quantize",
        "model.gguf",
        "--types",
        "a.types",
        "--output",
        "b.gguf",
    ];
    succeeds(&folder, &replay);
    assert!(read(&folder, "a.gguf") == read(&folder, "b.gguf"));
    // The matrix of a list is no place for an output.
    let over = [&replay[..5], &["i.gguf", "--overwrite"]].concat();
    assert_error(&orinplan(&folder, &over), &["i.gguf", "an input"]);
}

#[test]
fn a_report_says_what_was_held_out_and_why_each_tensor_has_its_type() {
    let folder = wide_folder();
    let json = |goal: [&str; 2], more: &[&str]| -> Json {
        let more = [&["--overwrite", "--format", "json"], more].concat();
        document(&orinplan(&folder, &search(goal, "a.gguf", &more)), 0)
    };
    let report = json(["--target-bpw", "4.5"], &[]);
    let mix = &report["mix"];
    // Probes score what is compared in chunks this short, and the importance matrix is of all of the text.
    let reused =
        mix["text"]["chunks"].as_u64().unwrap() - mix["text"]["held_out_chunks"].as_u64().unwrap();
    assert!(reused > 0, "{}", mix["text"]);
    let said = succeeds(
        &folder,
        &search(["--target-bpw", "4.5"], "a.gguf", &["--overwrite"]),
    );
    assert!(
        !said.contains("held out") && said.contains("which the types were chosen"),
        "{said}"
    );
    // The usual recipe is there, at whatever size.
    let named: Vec<&Json> = [&mix["plain"], &mix["usual"]]
        .map(|of| &of["scheme"])
        .into();
    assert!(named.contains(&&Json::from("Q4_K_M")), "{named:?}");
    assert!(said.contains("Q4_K_M: KLD"), "{said}");
    if mix["taken"] == "mix" {
        let tensors = report["tensors"].as_array().unwrap();
        let chosen = tensors.iter().filter(|tensor| tensor["reason"] == "search");
        let chosen: Vec<&Json> = chosen.collect();
        assert!(chosen.len() > 5, "{}", report["tensors"]);
        let sum: f64 = chosen
            .iter()
            .map(|t| t["expected_kld"].as_f64().unwrap())
            .sum();
        let expected = mix["expected_kld"].as_f64().unwrap();
        assert!((sum / expected - 1.0).abs() < 1e-3, "{sum} for {expected}");
        let saves = |tensor: &&Json| tensor["larger"]["less_kld"].as_f64().unwrap_or(0.0) > 0.0;
        assert!(chosen.iter().any(saves));
    }
}

#[test]
fn flags_that_choose_types_are_refused_beside_a_search_or_a_list() {
    let folder = folder("qwen3");
    std::fs::write(folder.path().join("a.types"), "a=q4_0").unwrap();
    let own = [
        ["--tensor-type", "attn_v=q8_0"],
        ["--token-embedding-type", "q8_0"],
        ["--output-tensor-type", "q8_0"],
    ];
    let goals = [
        ["--target-bpw", "4.5"],
        ["--target-size", "1GiB"],
        ["--max-kld", "0.1"],
        ["--fit", "orin-nano-8gb"],
        ["--types", "a.types"],
    ];
    for goal in goals {
        let words = ["quantize", "model.gguf", goal[0], goal[1], "--dry-run"];
        for flag in own {
            let run = orinplan(&folder, &[&words[..], &flag].concat());
            assert_error(&run, &[flag[0], "cannot be used with"]);
        }
        let run = orinplan(&folder, &[&words[..], &["--pure"]].concat());
        assert_error(&run, &["--pure", "cannot be used with"]);
    }
    let plain = [
        "quantize",
        "model.gguf",
        "--scheme",
        "q4_0",
        "--output",
        "a.gguf",
    ];
    let run = orinplan(&folder, &[&plain[..], &["--keep-source"]].concat());
    assert_error(&run, &["--keep-source", "on a server"]);
    let run = orinplan(
        &folder,
        &search(["--target-bpw", "5"], "a.gguf", &["--keep-source"]),
    );
    assert_error(&run, &["--keep-source", "cannot be used with"]);
    // Nothing is continued, and the reason is not that the output were no GGUF.
    let run = orinplan(&folder, &[&plain[..], &["--resume"]].concat());
    assert_eq!(run.code, 0);
    assert!(
        run.err.contains("made from a model on a server"),
        "{}",
        run.err
    );
}

/// Beside the output are what an interrupted search left: its probes, as decimals that read back as the same numbers.
#[test]
fn a_search_goes_on_from_what_was_kept() {
    let folder = wide_folder();
    let words = search(["--target-bpw", "4.5"], "a.gguf", &[]);
    succeeds(&folder, &words);
    let kept = [
        "a.gguf.orinplan-probes.json",
        "a.gguf.orinplan-imatrix.gguf",
    ];
    assert!(kept.iter().all(|name| !folder.path().join(name).exists()));
    let run = orinplan(
        &folder,
        &search(["--target-bpw", "4.5"], "b.gguf", &["--resume"]),
    );
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.err.contains("nothing of an earlier run was kept"),
        "{}",
        run.err
    );
    assert!(!run.err.contains("only a GGUF"), "{}", run.err);
    assert!(read(&folder, "a.gguf") == read(&folder, "b.gguf"));
}

#[test]
fn what_compare_cannot_do_is_said_with_the_limit() {
    let folder = folder("qwen3");
    let compare = |more: &[&str]| {
        let words = [
            "compare",
            "model.gguf",
            "model.gguf",
            "--text",
            "text.txt",
            "--chunks",
            "1",
        ];
        orinplan(&folder, &[&words[..], more].concat())
    };
    let run = compare(&["--chunk-tokens", "64", "--kv-type", "iq4_nl"]);
    assert_error(&run, &["IQ4_NL", "q8_0, q5_1, q5_0, q4_1, q4_0"]);
    let run = compare(&["--chunk-tokens", "64", "--keep", "nowhere/r.keep"]);
    assert_error(
        &run,
        &["cannot write", "r.keep: its directory does not exist"],
    );
    let nowhere = ["--save-types", "nowhere/a.types"];
    let run = orinplan(&folder, &search(["--target-bpw", "5"], "a.gguf", &nowhere));
    assert_error(&run, &["a.types: its directory does not exist"]);
    let run = orinplan(&folder, &search(["--max-kld", "0.0000001"], "a.gguf", &[]));
    assert_error(&run, &["from 0.000001 to 10 nats"]);
    // A model against itself: 0 and not less, whatever the rounding of stored predictions; and what bits are.
    let run = compare(&["--chunk-tokens", "64"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(!run.out.contains(" -0.0"), "{}", run.out);
    assert!(run.out.contains("bits: of the tensors"), "{}", run.out);
    let run = compare(&["--chunk-tokens", "600"]);
    assert_eq!(run.code, 0);
    assert!(
        run.err
            .starts_with("warning: chunks of 600 tokens are longer"),
        "{}",
        run.err
    );
}
