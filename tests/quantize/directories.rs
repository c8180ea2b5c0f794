//! `--scheme int4` and `fp8`: a directory instead of a file, with the same manners.

use std::fs;
use std::path::{Path, PathBuf};

use crate::build::{Scratch, error, orinplan, quantize};

fn args<'a>(model: &'a Path, scheme: &'a str, output: &'a Path) -> Vec<&'a str> {
    let (model, output) = (model.to_str().unwrap(), output.to_str().unwrap());
    vec!["quantize", model, "--scheme", scheme, "--output", output]
}

/// Names in a directory, in order.
fn names(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).unwrap();
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
    let mut names: Vec<String> = entries
        .map(|entry| name(entry).into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn contents(path: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |name: String| (name.clone(), fs::read(path.join(name)).unwrap());
    names(path).into_iter().map(read).collect()
}

/// The one fixture whose rows 128 divides.
fn llama(scratch: &Scratch) -> PathBuf {
    scratch.fixture("tiny-llama")
}

#[test]
fn sizes_are_those_of_the_dry_run_and_of_the_plan() {
    let scratch = Scratch::new();
    let model = llama(&scratch);
    for scheme in ["int4", "fp8"] {
        let output = scratch.path(scheme);
        let planned = quantize(&model, scheme, &output, &["--dry-run"]);
        assert!(!output.exists());
        let made = quantize(&model, scheme, &output, &[]);
        assert_eq!(made["schema"], "orinplan.quantize/1");
        let size = fs::metadata(output.join("model.safetensors"))
            .unwrap()
            .len();
        assert_eq!(made["file_bytes"], size);
        for key in [
            "file_bytes",
            "tensor_bytes",
            "source_bytes",
            "bits_per_weight",
            "scheme",
        ] {
            assert_eq!(planned[key], made[key], "{scheme} {key}");
        }
        assert!(planned["seconds"].is_null() && made["seconds"].is_number());
        let (planned, made) = (&planned["tensors"], &made["tensors"]);
        let pairs = planned
            .as_array()
            .unwrap()
            .iter()
            .zip(made.as_array().unwrap());
        for (planned, made) in pairs {
            for key in ["name", "shape", "type", "bytes", "reason"] {
                assert_eq!(planned[key], made[key], "{scheme}");
            }
        }
        let fit = ["fit", model.to_str().unwrap(), "--runtime", "vllm"];
        let (fit, stderr, _) =
            orinplan(&[&fit[..], &["--scheme", scheme, "--format", "json"]].concat());
        assert!(!fit.is_empty(), "{stderr}");
        let fit = crate::schema::document(&fit);
        assert_eq!(fit["plans"][0]["file_bytes"], size, "{scheme}");
        assert_eq!(
            names(&output),
            ["config.json", "model.safetensors", "tokenizer.json"]
        );
    }
}

#[test]
fn the_summary_has_sizes_types_error_and_time() {
    let scratch = Scratch::new();
    let (model, output) = (llama(&scratch), scratch.path("out"));
    let (text, _, status) = orinplan(&args(&model, "int4", &output));
    assert_eq!(status, 0);
    for word in ["Wrote ", "bits per weight", "INT4", "weights/s", "error"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn the_number_of_threads_leaves_no_trace() {
    let scratch = Scratch::new();
    let model = llama(&scratch);
    let (one, two) = (scratch.path("one"), scratch.path("two"));
    quantize(&model, "fp8", &one, &["--threads", "1"]);
    quantize(&model, "fp8", &two, &["--threads", "2"]);
    assert!(contents(&one) == contents(&two));
}

#[test]
fn what_is_there_is_replaced_only_on_demand_and_never_the_input() {
    let scratch = Scratch::new();
    let (model, output) = (llama(&scratch), scratch.path("out"));
    quantize(&model, "int4", &output, &[]);
    let before = contents(&output);
    let said = error(&args(&model, "fp8", &output));
    assert!(said.contains("--overwrite"), "{said}");
    assert!(contents(&output) == before);
    quantize(&model, "fp8", &output, &["--overwrite"]);
    assert!(contents(&output) != before);

    let input = contents(&model);
    let mut own = vec![model.clone(), model.join("../tiny-llama"), scratch.path("")];
    #[cfg(unix)]
    {
        let link = scratch.path("link");
        std::os::unix::fs::symlink(&model, &link).unwrap();
        own.push(link);
    }
    own.push(scratch.path("tiny-llama/"));
    for own in &own {
        let said = error(&[args(&model, "int4", own), vec!["--overwrite"]].concat());
        assert!(said.contains("holds the input"), "{said}");
    }
    assert!(contents(&model) == input);
}

#[test]
fn what_a_killed_run_left_is_cleaned_and_nothing_is_left_by_a_failed_one() {
    let scratch = Scratch::new();
    let (model, output) = (llama(&scratch), scratch.path("out"));
    let left = scratch.path("out.orinplan-partial");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("model-00007-of-00009.safetensors"), "half").unwrap();
    quantize(&model, "int4", &output, &[]);
    assert_eq!(names(&scratch.path("")), ["out", "tiny-llama"]);
    assert_eq!(
        names(&output),
        ["config.json", "model.safetensors", "tokenizer.json"]
    );

    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() - 1]).unwrap();
    error(&args(&model, "int4", &scratch.path("other")));
    assert_eq!(names(&scratch.path("")), ["out", "tiny-llama"]);
}

#[cfg(unix)]
#[test]
fn two_runs_do_not_write_one_directory() {
    let scratch = Scratch::new();
    let (model, output) = (llama(&scratch), scratch.path("out"));
    let left = scratch.path("out.orinplan-partial");
    fs::create_dir(&left).unwrap();
    let held = fs::File::open(&left).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let said = error(&args(&model, "int4", &output));
    assert!(said.contains("another run"), "{said}");
    drop(held);
    // A link of that name leads nowhere.
    fs::remove_dir(&left).unwrap();
    let precious = scratch.path("precious");
    fs::create_dir(&precious).unwrap();
    fs::write(precious.join("letter"), "mine").unwrap();
    std::os::unix::fs::symlink(&precious, &left).unwrap();
    error(&args(&model, "int4", &output));
    assert_eq!(names(&precious), ["letter"]);
}

#[test]
fn wishes_that_a_directory_cannot_meet_are_refused_at_once() {
    let scratch = Scratch::new();
    let (model, output) = (llama(&scratch), scratch.path("out"));
    let cases: &[(&[&str], &str)] = &[
        (
            &["--imatrix", "/no/such/file", "--pure"],
            "--imatrix, --pure is for GGUF",
        ),
        (&["--tensor-type", "attn_v=q8_0"], "--tensor-type"),
        (
            &["--token-embedding-type", "q8_0"],
            "--token-embedding-type",
        ),
        (&["--allow-requantize"], "--allow-requantize"),
        (&["--rules", "llama.cpp-2025"], "--rules"),
    ];
    for (more, said) in cases {
        let message = error(&[&args(&model, "int4", &output)[..], more].concat());
        assert!(message.contains(said), "{message}");
    }
    let said = error(&args(&model, "int4", &scratch.path("no/such/place")));
    assert!(said.contains("directory does not exist"), "{said}");
    let said = error(&args(&model, "int4", Path::new("/")));
    assert!(said.contains("no name"), "{said}");
    let file = scratch.path("file");
    fs::write(&file, "mine").unwrap();
    error(&[args(&model, "int4", &file), vec!["--overwrite"]].concat());
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let gguf = scratch.path("x.gguf");
    quantize(&model, "f16", &gguf, &[]);
    let said = error(&args(&gguf, "int4", &output));
    assert!(said.contains("Hugging Face directory"), "{said}");
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/qwen3-0.6b");
    for more in [&[][..], &["--dry-run"]] {
        let said = error(&[&args(&header, "int4", &output)[..], more].concat());
        assert!(said.contains("only the header"), "{said}");
    }
    assert_eq!(names(&scratch.path("")), ["file", "tiny-llama", "x.gguf"]);
}

#[test]
fn a_directory_with_something_else_in_it_is_not_replaced() {
    let scratch = Scratch::new();
    let (model, output) = (llama(&scratch), scratch.path("out"));
    quantize(&model, "int4", &output, &[]);
    let again = [args(&model, "fp8", &output), vec!["--overwrite"]].concat();
    for stray in ["notes.txt", "pytorch_model.bin", ".git", "photos"] {
        let path = output.join(stray);
        match stray {
            ".git" | "photos" => {
                fs::create_dir(&path).unwrap();
                fs::write(path.join("mine"), "mine").unwrap();
            }
            _ => fs::write(&path, "mine").unwrap(),
        }
        let before = names(&output);
        let said = error(&again);
        assert!(
            said.contains(stray) && said.contains("choose another output"),
            "{said}"
        );
        assert_eq!(names(&output), before);
        if path.is_dir() {
            fs::remove_dir_all(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
    }
    let (_, wrong, status) = orinplan(&again);
    assert_eq!(status, 0, "{wrong}");
}

#[test]
fn a_directory_that_is_called_like_a_file_is_refused_with_the_way_out() {
    let scratch = Scratch::new();
    let model = llama(&scratch);
    for (name, says) in [
        ("i4.gguf", "name it "),
        ("i4.GGUF", "or choose a scheme such as q4_k_m"),
        ("i4.safetensors", "int4 makes a directory"),
    ] {
        let output = scratch.path(name);
        for more in [&[][..], &["--dry-run"]] {
            let said = error(&[&args(&model, "int4", &output)[..], more].concat());
            assert!(said.contains(name) && said.contains(says), "{said}");
            assert!(!output.exists());
        }
    }
}

#[test]
fn weights_without_a_tokenizer_are_told_of() {
    let scratch = Scratch::new();
    let model = llama(&scratch);
    let note = |report: &serde_json::Value| report["notes"].to_string().contains("no_tokenizer");
    let fit = |model: &Path| {
        let words = [
            "fit",
            model.to_str().unwrap(),
            "--runtime",
            "vllm",
            "--scheme",
            "fp8",
        ];
        let (text, wrong, _) = orinplan(&[&words[..], &["--format", "json"]].concat());
        serde_json::from_str::<serde_json::Value>(&text).expect(&wrong)["plans"][0].clone()
    };
    let output = scratch.path("out");
    assert!(!note(&quantize(&model, "fp8", &output, &["--dry-run"])));
    assert!(!note(&fit(&model)));
    fs::remove_file(model.join("tokenizer.json")).unwrap();
    assert!(note(&quantize(&model, "fp8", &output, &["--dry-run"])));
    assert!(note(&fit(&model)));
}

/// vLLM reorders queries and keys of these models as it loads them, but not their zero points.
#[test]
fn zero_points_that_vllm_would_misread_are_refused() {
    let scratch = Scratch::new();
    let model = scratch.path("dense");
    fs::create_dir(&model).unwrap();
    let config = serde_json::json!({
        "architectures": ["Llama4ForCausalLM"], "model_type": "llama4_text", "hidden_size": 1536,
        "num_hidden_layers": 22, "vocab_size": 128256, "num_attention_heads": 24, "num_key_value_heads": 6,
        "head_dim": 64, "intermediate_size": 6144, "intermediate_size_mlp": 6144, "num_local_experts": 0,
        "num_experts_per_tok": 0, "interleave_moe_layer_step": 0, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true
    });
    fs::write(model.join("config.json"), config.to_string()).unwrap();
    let fit = |scheme| {
        [
            "fit",
            model.to_str().unwrap(),
            "--runtime",
            "vllm",
            "--scheme",
            scheme,
        ]
    };
    let said = error(&fit("int4_asym_g32"));
    assert!(
        said.contains("queries and keys") && said.contains("choose int4_g32"),
        "{said}"
    );
    let (text, said, _) = orinplan(&fit("int4_g32"));
    assert!(text.contains("INT4_G32"), "{said}");
}
