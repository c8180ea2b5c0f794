//! What happens to files: never two names for one, never half of one, never one too many.

use std::fs;
use std::path::Path;

use crate::build::{Scratch, error, orinplan, quantize};

fn run<'a>(model: &'a Path, output: &'a Path) -> Vec<&'a str> {
    let (model, output) = (model.to_str().unwrap(), output.to_str().unwrap());
    vec!["quantize", model, "--scheme", "q8_0", "--output", output]
}

#[test]
fn a_file_that_is_there_stays_unless_it_may_be_replaced() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let output = scratch.path("x.gguf");
    fs::write(&output, "mine").unwrap();
    let said = error(&run(&model, &output));
    assert!(said.contains("--overwrite"), "{said}");
    assert_eq!(fs::read(&output).unwrap(), b"mine");
    quantize(&model, "q8_0", &output, &["--overwrite"]);
    assert!(fs::read(&output).unwrap().starts_with(b"GGUF"));
}

#[test]
fn the_output_is_never_an_input_under_any_name() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let gguf = scratch.path("f16.gguf");
    quantize(&model, "f16", &gguf, &[]);
    let before = fs::read(&gguf).unwrap();
    let (soft, hard) = (scratch.path("soft.gguf"), scratch.path("hard.gguf"));
    #[cfg(unix)]
    std::os::unix::fs::symlink(&gguf, &soft).unwrap();
    #[cfg(not(unix))]
    fs::hard_link(&gguf, &soft).unwrap();
    fs::hard_link(&gguf, &hard).unwrap();
    for output in [&gguf, &soft, &hard] {
        let said = error(&[run(&gguf, output), vec!["--overwrite"]].concat());
        assert!(said.contains("which is read"), "{said}");
    }
    let config = model.join("config.json");
    let said = error(&[run(&model, &config), vec!["--overwrite"]].concat());
    assert!(said.contains("which is read"), "{said}");
    assert_eq!(fs::read(&gguf).unwrap(), before);
}

#[test]
fn what_a_killed_run_left_is_replaced() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let (output, clean) = (scratch.path("x.gguf"), scratch.path("y.gguf"));
    let partial = scratch.path("x.gguf.orinplan-partial");
    fs::write(&partial, vec![7u8; 3 << 20]).unwrap();
    quantize(&model, "q8_0", &output, &[]);
    assert!(!partial.exists());
    quantize(&model, "q8_0", &clean, &[]);
    assert!(fs::read(&output).unwrap() == fs::read(&clean).unwrap());
}

#[cfg(unix)]
#[test]
fn a_link_in_place_of_the_unfinished_file_is_not_followed() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let precious = scratch.path("precious");
    fs::write(&precious, "mine").unwrap();
    let partial = scratch.path("x.gguf.orinplan-partial");
    std::os::unix::fs::symlink(&precious, &partial).unwrap();
    error(&run(&model, &scratch.path("x.gguf")));
    assert_eq!(fs::read(&precious).unwrap(), b"mine");
}

#[cfg(unix)]
#[test]
fn two_runs_do_not_write_one_file() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let partial = fs::File::create(scratch.path("x.gguf.orinplan-partial")).unwrap();
    rustix::fs::flock(&partial, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let said = error(&run(&model, &scratch.path("x.gguf")));
    assert!(said.contains("another run"), "{said}");
}

#[test]
fn a_source_cut_short_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    error(&run(&model, &scratch.path("x.gguf")));
    let left = fs::read_dir(scratch.path("")).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["tiny-qwen3"]);
}

#[test]
fn wishes_that_cannot_be_met_say_what_can_be_done() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let name = model.to_str().unwrap();
    let output = scratch.path("x.gguf");
    let at = output.to_str().unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&["--scheme", "q4_k_n", "--output", at], "did you mean"),
        (&["--scheme", "q8_0"], "--output"),
        (
            &["--scheme", "q8_0", "--output", "/no/such/place/x"],
            "directory is not there",
        ),
        (&["--scheme", "q8_0", "--output", name], "is a directory"),
        (
            &[
                "--scheme",
                "q8_0",
                "--output",
                at,
                "--tensor-type",
                "attn_v",
            ],
            "PATTERN=TYPE",
        ),
        (
            &[
                "--scheme",
                "q8_0",
                "--output",
                at,
                "--tensor-type",
                "attn_v=iq1_s",
            ],
            "types that can be written",
        ),
        (
            &[
                "--scheme",
                "q8_0",
                "--output",
                at,
                "--imatrix",
                "/no/such/file",
            ],
            "no such file",
        ),
        (
            &["--scheme", "q8_0", "--output", at, "--threads", "0"],
            "--threads",
        ),
    ];
    for (args, said) in cases {
        let message = error(&[&["quantize", name], *args].concat());
        assert!(message.contains(said), "{args:?}: {message}");
        assert!(!output.exists());
    }
}

#[test]
fn a_checkpoint_without_weights_or_tokenizer_is_refused() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let output = scratch.path("x.gguf");
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    assert!(error(&run(&model, &output)).contains("tokenizer"));
    let config = model.join("config.json");
    assert!(error(&run(&config, &output)).contains("no weights"));
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/qwen3-0.6b");
    assert!(error(&run(&header, &output)).contains("only the header"));
}

#[test]
fn quantized_weights_are_quantized_again_only_on_request() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let (first, second) = (scratch.path("a.gguf"), scratch.path("b.gguf"));
    quantize(&model, "q8_0", &first, &[]);
    let (from, to) = (first.to_str().unwrap(), second.to_str().unwrap());
    let args = ["quantize", from, "--scheme", "q4_0", "--output", to];
    assert!(error(&args).contains("--allow-requantize"));
    let (text, _, status) = orinplan(&[&args[..], &["--allow-requantize"]].concat());
    assert_eq!(status, 0);
    assert!(text.contains("note: ") && text.contains("again"), "{text}");
}
