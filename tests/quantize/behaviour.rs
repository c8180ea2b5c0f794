//! What happens to files: never two names for one, never half of one, never one too many.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::atomic::AtomicBool;

use orinplan::checkpoint;
use orinplan::inputs::Inputs;
use orinplan::model::{self, Unknown};
use orinplan::quantize::packed::Files;
use orinplan::quantize::{self as quantizer, Destination, Job, Options};
use orinplan::scheme::Scheme;

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
    // What neither is nor is called a GGUF file belongs to something else.
    for name in ["config.json", "model.safetensors", "notes"] {
        let other = scratch.path(name);
        fs::write(&other, "mine").unwrap();
        let said = error(&[run(&model, &other), vec!["--overwrite"]].concat());
        assert!(said.contains("it is not a GGUF file"), "{said}");
        assert_eq!(fs::read(&other).unwrap(), b"mine");
    }
    let called = scratch.path("model");
    fs::rename(&output, &called).unwrap();
    quantize(&model, "q4_0", &called, &["--overwrite"]);
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
        assert!(said.contains("which is an input"), "{said}");
    }
    let config = model.join("config.json");
    let said = error(&[run(&model, &config), vec!["--overwrite"]].concat());
    assert!(said.contains("which is an input"), "{said}");
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
            "directory does not exist",
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

#[test]
fn an_input_that_changes_while_it_is_quantized_makes_no_file() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-llama");
    let weights = model.join("model.safetensors");
    let checkpoint = checkpoint::open(model.to_str().unwrap()).unwrap();
    let spec = model::read(&checkpoint, Unknown::Refuse).unwrap();
    let length = fs::metadata(&weights).unwrap().len();
    let never = AtomicBool::new(false);
    for (scheme, output) in [("q8_0", "x.gguf"), ("int4", "x-int4")] {
        // As the first tensors are written, someone adds to the file that they are from.
        let file = fs::OpenOptions::new().write(true).open(&weights).unwrap();
        file.set_len(length).unwrap();
        let mut changed = false;
        let mut change = |_: quantizer::Progress| {
            if !changed {
                changed = true;
                let mut file = fs::OpenOptions::new().append(true).open(&weights).unwrap();
                file.write_all(b"more").unwrap();
            }
        };
        let options = Options::of(Scheme::get(scheme).unwrap());
        let files = Files::open(&checkpoint).unwrap();
        let job = Job::new(&checkpoint, &files, &spec, &options).unwrap();
        let destination = Destination {
            path: &scratch.path(output),
            overwrite: false,
            inputs: Inputs::read([weights.clone()]),
        };
        let written = quantizer::write(&job, &destination, 2, &never, &mut change);
        let said = written.unwrap_err().to_string();
        assert!(
            said.contains("model.safetensors: changed while it was read"),
            "{said}"
        );
        assert!(changed);
    }
    let left = fs::read_dir(scratch.path("")).unwrap();
    let names: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["tiny-llama"]);
}

/// A file may seem to hold far more than there is: what is a hole is neither read whole nor taken for text.
#[test]
fn sparse_files_are_not_read_whole() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let hole = scratch.path("hole");
    fs::File::create(&hole).unwrap().set_len(64 << 30).unwrap();
    let limit = orinplan::units::Bytes(1 << 40);
    let said = orinplan::input::read_text(&hole, limit)
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("is not a text file (zero byte at 0)"),
        "{said}"
    );
    // A tokenizer that was never filled, and weights that are zeros as far as anyone knows.
    let output = scratch.path("x.gguf");
    let tokenizer = fs::File::options()
        .write(true)
        .open(model.join("tokenizer.json"))
        .unwrap();
    tokenizer.set_len(0).unwrap();
    tokenizer.set_len(200 << 20).unwrap();
    let said = error(&run(&model, &output));
    assert!(
        said.contains("tokenizer.json: is not a text file"),
        "{said}"
    );

    let model = scratch.fixture("tiny-llama");
    let weights = model.join("model.safetensors");
    let (bytes, mut header) = (fs::metadata(&weights).unwrap().len(), [0; 8]);
    fs::File::open(&weights)
        .unwrap()
        .read_exact(&mut header)
        .unwrap();
    let file = fs::File::options().write(true).open(&weights).unwrap();
    file.set_len(8 + u64::from_le_bytes(header)).unwrap();
    file.set_len(bytes).unwrap();
    let report = quantize(&model, "q8_0", &output, &[]);
    let notes = report["notes"].to_string();
    assert!(notes.contains("zero_rows"), "{notes}");
    assert_eq!(report["file_bytes"], fs::metadata(&output).unwrap().len());
}

#[test]
fn the_table_explains_its_errors_and_has_no_column_of_nothing() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let output = scratch.path("x.gguf");
    let planned = [run(&model, &output), vec!["--dry-run"]].concat();
    let (text, _, _) = orinplan(&planned);
    assert!(
        !text.contains("error") && !text.contains("weighted"),
        "{text}"
    );
    // 16 bit of 16 bit: the whole error is that of tensors that are not quantized.
    let f16 = [
        "quantize",
        model.to_str().unwrap(),
        "--scheme",
        "f16",
        "--output",
    ];
    let (text, _, _) = orinplan(&[&f16[..], &[output.to_str().unwrap()]].concat());
    assert!(
        text.contains("column `error`: root mean square of the changes"),
        "{text}"
    );
    assert!(!text.contains("weighted"), "{text}");
    let last = |name: &str| {
        let row = text
            .lines()
            .find(|line| line.trim_start().starts_with(name))
            .unwrap();
        row.split_whitespace()
            .last()
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    // F32 is kept as it is: all that is off is off in F16.
    assert!((last("all") - last("F16")).abs() < 1e-4, "{text}");
}
