//! Files made while their source streams from a server: the same bytes, each part of the source fetched once, checked as it
//! passes, and gone on with after an end.

use std::fs;
use std::path::{Path, PathBuf};

use orinplan::safetensors;
use serde_json::json;

use super::server::{Asked, Fault, Repository};
use super::{COMMIT, Desk, in_two_shards, left, repository, same, served};
use crate::build::quantize;
use crate::types::llama;

/// A desk with the tiny fixture in two shards as `org/tiny`; the fixture's folder.
fn with_shards() -> (Desk, PathBuf) {
    let desk = Desk::new();
    let folder = desk.scratch.fixture("tiny-qwen3");
    let shards = desk.path("tiny");
    in_two_shards(&folder, &shards);
    desk.server.put("org/tiny", repository(&shards));
    (desk, shards)
}

fn make<'a>(output: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let output = output.to_str().unwrap();
    let args = [
        "quantize", "org/tiny", "--scheme", "q4_k_m", "--output", output,
    ];
    [&args[..], more].concat()
}

/// Names of what an unfinished output leaves.
fn left_over(desk: &Desk) -> Vec<String> {
    let entries = fs::read_dir(desk.path(".")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.contains("orinplan")).collect();
    names.sort();
    names
}

/// Bytes that were sent of a shard.
fn sent(asked: &[Asked], shard: &str) -> u64 {
    let of_shard = asked
        .iter()
        .filter(|asked| asked.second && asked.path.contains(shard));
    of_shard.map(|asked| asked.sent).sum()
}

#[test]
fn a_streamed_source_makes_the_same_file() {
    let (desk, folder) = with_shards();
    for scheme in ["q4_k_m", "f16"] {
        let (here, there) = (desk.path("here.gguf"), desk.path("there.gguf"));
        desk.made_here(&folder, scheme, &here);
        let output = there.to_str().unwrap();
        let run = desk.run(&[
            "quantize", "org/tiny", "--scheme", scheme, "--output", output,
        ]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{scheme}");
        same(&here, &there);
        fs::remove_file(here).unwrap();
        fs::remove_file(there).unwrap();
    }
    assert_eq!(left_over(&desk), [""; 0]);
    let (here, there) = (desk.path("here"), desk.path("there"));
    desk.made_here(&folder, "fp8", &here);
    let output = there.to_str().unwrap();
    let run = desk.run(&[
        "quantize", "org/tiny", "--scheme", "fp8", "--output", output,
    ]);
    assert_eq!(run.code, 0, "{}", run.err);
    for entry in fs::read_dir(here).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap();
        assert_eq!(
            fs::read(&path).unwrap(),
            fs::read(there.join(name)).unwrap(),
            "{name:?}"
        );
    }
}

#[test]
fn every_byte_of_the_source_is_fetched_once() {
    let (desk, folder) = with_shards();
    desk.json(&["fit", "org/tiny"]);
    desk.server.asked();
    let run = desk.run(&make(&desk.path("a.gguf"), &[]));
    assert_eq!(run.code, 0, "{}", run.err);
    let asked = desk.server.asked();
    for shard in ["model-00001-of-00002", "model-00002-of-00002"] {
        let path = folder.join(format!("{shard}.safetensors"));
        let header = safetensors::read_header(&path).unwrap();
        // The header is here since the plan.
        let expected = header.file_bytes - header.data_offset;
        assert_eq!(sent(&asked, shard), expected, "{shard}");
    }
}

/// Shards larger than what is held ahead.
#[test]
fn large_shards_are_fetched_once_and_kept_once() {
    let desk = Desk::new();
    let (mut config, tensors) = llama();
    let wide = 256 << 10;
    config["intermediate_size"] = json!(wide);
    config["num_hidden_layers"] = json!(2);
    let stored = |name: &str, shape: &[usize]| {
        let shape: Vec<usize> = shape
            .iter()
            .map(|&n| if n == 64 { wide } else { n })
            .collect();
        let bytes = vec![0x11; 2 * shape.iter().product::<usize>()];
        (name.to_owned(), "BF16", shape, bytes)
    };
    let blocks = tensors.iter().flat_map(|(name, shape, _)| {
        let second = name.replace(".layers.0.", ".layers.1.");
        let again = (second != *name).then(|| stored(&second, shape));
        std::iter::once(stored(name, shape)).chain(again)
    });
    let mut tensors: Vec<_> = blocks.collect();
    tensors.sort();
    let folder = desk.scratch.stored("whole", &config, tensors);
    let shards = desk.path("tiny");
    in_two_shards(&folder, &shards);
    desk.server.put("org/tiny", repository(&shards));
    let output = desk.path("a.gguf");
    let words = [
        "quantize",
        "org/tiny",
        "--scheme",
        "bf16",
        "--keep-source",
        "--output",
    ];
    let run = desk.run(&[&words[..], &[output.to_str().unwrap()]].concat());
    assert_eq!(run.code, 0, "{}", run.err);
    let asked = desk.server.asked();
    for shard in ["model-00001-of-00002", "model-00002-of-00002"] {
        let whole = shards.join(format!("{shard}.safetensors"));
        let whole = fs::metadata(whole).unwrap().len();
        assert!(whole > 32 << 20, "{whole}");
        // The first range, which holds the header, has some weights behind it.
        let sent = sent(&asked, shard);
        assert!(
            (whole - (1 << 20)..whole + (1 << 20)).contains(&sent),
            "{shard}: {sent} of {whole}"
        );
    }
    let blobs = fs::read_dir(desk.path("hub/models--org--tiny/blobs")).unwrap();
    let mut names = blobs.map(|blob| blob.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.find(|name| name.contains('.')), None);
}

/// What runs a model reads its weights more than once: they are fetched once, into the hub's own cache.
#[test]
fn a_model_that_is_run_is_fetched_into_the_hubs_cache() {
    let (desk, folder) = with_shards();
    let output = desk.path("a-imatrix.gguf");
    let mut words = [
        "imatrix",
        "org/tiny",
        "--chunks",
        "1",
        "--chunk-tokens",
        "64",
        "--output",
        "",
    ];
    words[7] = output.to_str().unwrap();
    let run = desk.run(&words);
    assert_eq!(run.code, 0, "{}", run.err);
    let asked = desk.server.asked();
    for shard in ["model-00001-of-00002", "model-00002-of-00002"] {
        let whole = fs::metadata(folder.join(format!("{shard}.safetensors"))).unwrap();
        // The first range holds the header and what is behind it.
        assert!(sent(&asked, shard) <= 2 * whole.len(), "{shard}");
    }
    let made = fs::read(&output).unwrap();
    let again = desk.run(&[&words[..], &["--overwrite"]].concat());
    assert_eq!(again.code, 0, "{}", again.err);
    assert_eq!(desk.server.asked().len(), 0);
    assert!(made == fs::read(&output).unwrap());
}

/// Weights that are not here are not fetched where the network is forbidden.
#[test]
fn offline_no_weights_are_fetched() {
    let (desk, _) = with_shards();
    desk.json(&["fit", "org/tiny"]);
    desk.run(&make(&desk.path("a.gguf"), &["--dry-run"]));
    desk.server.asked();
    let output = desk.path("b.gguf");
    let error = desk.error(&make(&output, &["--offline"]));
    assert!(
        error.contains("--offline or HF_HUB_OFFLINE forbids the network"),
        "{error}"
    );
    let mut command = desk.command(&make(&output, &[]));
    let run = left(command.env("HF_HUB_OFFLINE", "1").output().unwrap());
    assert_eq!(run.code, 2, "{}", run.err);
    assert_eq!(desk.server.asked().len(), 0);
    assert!(!output.exists());
}

/// A download that broke off leaves a part of a model in the hub's cache: the rest is on the server.
#[test]
fn a_part_in_the_hubs_cache_is_no_model() {
    let (desk, folder) = with_shards();
    let kept = desk.path("hub/models--org--tiny");
    let snapshot = kept.join("snapshots").join(COMMIT);
    fs::create_dir_all(kept.join("refs")).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    fs::write(kept.join("refs/main"), COMMIT).unwrap();
    let plans = |model: &str| desk.json(&["fit", model])["plans"].clone();
    let whole = plans("org/tiny");
    for name in [
        "config.json",
        "model.safetensors.index.json",
        "model-00001-of-00002.safetensors",
    ] {
        fs::copy(folder.join(name), snapshot.join(name)).unwrap();
        for model in ["org/tiny", "org/tiny@main"] {
            assert!(plans(model) == whole, "{name}, {model}");
        }
    }
    fs::remove_dir_all(&snapshot).unwrap();
    assert!(plans("org/tiny") == whole);
    let run = desk.run(&make(&desk.path("a.gguf"), &["--keep-source"]));
    assert_eq!(run.code, 0, "{}", run.err);
}

#[test]
fn a_connection_that_breaks_is_gone_on_with() {
    let (desk, folder) = with_shards();
    let here = desk.path("here.gguf");
    desk.made_here(&folder, "q4_k_m", &here);
    desk.json(&["fit", "org/tiny"]);
    let shard = "/cdn/org/tiny/model-00002";
    desk.server.fault(shard, 2, Fault::Cut(5000));
    desk.server.fault(shard, 2, Fault::Status(503, vec![]));
    // An address with a signature that no longer holds is asked for again.
    desk.server.fault(shard, 1, Fault::Status(403, vec![]));
    let there = desk.path("there.gguf");
    let run = desk.run(&make(&there, &[]));
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    same(&here, &there);
}

#[test]
fn a_run_that_ended_is_gone_on_with() {
    let (desk, folder) = with_shards();
    let (here, there) = (desk.path("here.gguf"), desk.path("there.gguf"));
    desk.made_here(&folder, "q4_k_m", &here);
    desk.json(&["fit", "org/tiny"]);
    desk.server
        .fault("model-00002", usize::MAX, Fault::Status(410, vec![]));
    let error = desk.error(&make(&there, &[]));
    assert!(error.contains("continue with --resume"), "{error}");
    assert!(!there.exists());
    assert_eq!(
        left_over(&desk),
        ["there.gguf.orinplan-journal", "there.gguf.orinplan-partial"]
    );

    // Still broken: nothing is lost by another try.
    let error = desk.error(&make(&there, &["--resume"]));
    assert!(error.contains("continue with --resume"), "{error}");
    desk.server.mend();
    // Other options make another file.
    let other = there.to_str().unwrap();
    let error = desk.error(&[
        "quantize", "org/tiny", "--scheme", "q8_0", "--output", other, "--resume",
    ]);
    assert!(error.contains("instead of --resume"), "{error}");
    // Nothing is begun anew by mistake.
    let error = desk.error(&make(&there, &[]));
    assert!(error.contains("continue with --resume"), "{error}");

    // The branch moves: the state that was begun with is gone on with.
    let mut moved = repository(&desk.path("tiny"));
    moved.commit = COMMIT.replace('0', "f");
    moved.old = vec![COMMIT.to_owned()];
    desk.server.put("org/tiny", moved);
    desk.server.asked();
    let run = desk.run(&make(&there, &["--resume"]));
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(
        run.err.contains("of an earlier run were kept"),
        "{}",
        run.err
    );
    let asked = desk.server.asked();
    assert_eq!(sent(&asked, "model-00001"), 0, "{asked:?}");
    same(&here, &there);
    assert_eq!(left_over(&desk), [""; 0]);
}

#[test]
fn without_its_source_a_run_is_not_gone_on_with() {
    let (desk, _) = with_shards();
    let there = desk.path("there.gguf");
    desk.json(&["fit", "org/tiny"]);
    desk.server
        .fault("model-00002", usize::MAX, Fault::Status(410, vec![]));
    desk.error(&make(&there, &[]));
    desk.server.mend();
    let mut moved = repository(&desk.path("tiny"));
    moved.commit = COMMIT.replace('0', "f");
    desk.server.put("org/tiny", moved);
    let error = desk.error(&make(&there, &["--resume"]));
    assert!(!there.exists(), "{error}");
    // Anew, it is made of what is there now.
    let run = desk.run(&make(&there, &["--overwrite"]));
    assert_eq!(run.code, 0, "{}", run.err);
    assert_eq!(left_over(&desk), [""; 0]);
}

#[test]
fn a_wrong_digest_leaves_nothing() {
    let (desk, _) = with_shards();
    desk.json(&["fit", "org/tiny"]);
    for shard in ["model-00001", "model-00002"] {
        desk.server.fault(
            &format!("/cdn/org/tiny/{shard}"),
            usize::MAX,
            Fault::Flipped,
        );
        let there = desk.path("there.gguf");
        let error = desk.error(&make(&there, &[]));
        assert!(
            error.contains("SHA-256") && error.contains(shard),
            "{error}"
        );
        assert!(!there.exists());
        assert_eq!(left_over(&desk), [""; 0]);
        desk.server.mend();
    }
}

#[test]
fn the_source_is_kept_as_the_hubs_clients_keep_it() {
    let (desk, folder) = with_shards();
    let run = desk.run(&make(&desk.path("a.gguf"), &["--keep-source"]));
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let kept = desk.path("hub/models--org--tiny");
    assert_eq!(fs::read_to_string(kept.join("refs/main")).unwrap(), COMMIT);
    for name in [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "config.json",
        "tokenizer.json",
    ] {
        let link = kept.join("snapshots").join(COMMIT).join(name);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink(), "{name}");
        assert_eq!(
            fs::read(&link).unwrap(),
            fs::read(folder.join(name)).unwrap(),
            "{name}"
        );
        let blob = fs::read_link(&link).unwrap();
        assert!(blob.starts_with("../../blobs"), "{}", blob.display());
    }
    let blobs = fs::read_dir(kept.join("blobs")).unwrap();
    assert!(
        blobs
            .into_iter()
            .all(|blob| { !blob.unwrap().path().to_string_lossy().ends_with("partial") })
    );
    desk.server.asked();
    let run = desk.run(&make(&desk.path("b.gguf"), &[]));
    assert_eq!(run.code, 0, "{}", run.err);
    assert!(desk.server.asked().is_empty(), "it is here now");
    assert_eq!(
        fs::read(desk.path("a.gguf")).unwrap(),
        fs::read(desk.path("b.gguf")).unwrap()
    );
}

#[test]
fn the_file_that_a_publisher_offers_is_fetched_and_checked() {
    let (desk, folder) = with_shards();
    let output = desk.path("pulled.gguf");
    let args = [
        "pull",
        "org/tiny",
        "--scheme",
        "q8_0",
        "--output",
        output.to_str().unwrap(),
    ];
    let none = desk.run(&args);
    assert_eq!(none.code, 1, "{}", none.err);
    assert!(
        none.out
            .contains("orinplan quantize org/tiny --scheme q8_0"),
        "{}",
        none.out
    );

    // A server that is busy says nothing about what it has.
    desk.server
        .fault("org/tiny-GGUF", usize::MAX, Fault::Status(503, vec![]));
    let error = desk.error(&args);
    assert!(error.contains("the server is busy"), "{error}");
    desk.server.mend();
    desk.server.asked();
    let mut unknown = args;
    unknown[3] = "q8_9";
    let error = desk.error(&unknown);
    assert!(error.contains("there is no scheme `q8_9`"), "{error}");
    assert!(desk.server.asked().is_empty());

    let offered = desk.path("tiny-Q8_0.gguf");
    quantize(&folder, "q8_0", &offered, &[]);
    let bytes = fs::read(&offered).unwrap();
    let put = |bytes: Vec<u8>| {
        let name = "tiny-Q8_0.gguf".to_owned();
        desk.server.put(
            "org/tiny-GGUF",
            Repository {
                commit: COMMIT.to_owned(),
                files: [(name.clone(), served(&name, bytes))].into(),
                ..Repository::default()
            },
        );
    };
    put(bytes.clone());
    desk.server.fault("/cdn/org/tiny-GGUF", 1, Fault::Cut(1000));
    let pulled = desk.run(&args);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(pulled.out.contains("SHA-256 is verified"), "{}", pulled.out);
    assert_eq!(fs::read(&output).unwrap(), bytes);
    fs::remove_file(&output).unwrap();

    desk.server
        .fault("/cdn/org/tiny-GGUF", usize::MAX, Fault::Flipped);
    let error = desk.error(&args);
    assert!(error.contains("SHA-256"), "{error}");
    assert!(!output.exists());
    desk.server.mend();

    // A file of fewer bits under that name.
    let worse = desk.path("worse.gguf");
    quantize(&folder, "q4_0", &worse, &[]);
    let name = "tiny-Q8_0.gguf".to_owned();
    desk.server.put(
        "org/tiny-GGUF",
        Repository {
            commit: COMMIT.replace('0', "f"),
            files: [(name.clone(), served(&name, fs::read(&worse).unwrap()))].into(),
            ..Repository::default()
        },
    );
    let pulled = desk.run(&args);
    assert_eq!(pulled.code, 0, "{}", pulled.err);
    assert!(
        pulled.err.contains("making it yourself is better"),
        "{}",
        pulled.err
    );
}
