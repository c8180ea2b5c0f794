//! Projectors against llama.cpp's converter (0.6.0): keys with their types, values and order, and tensors with their names,
//! types, shapes, order and bytes.
//!
//! `tests/data/projectors/NAME.json` holds the configuration, the processor and the tensors of a small checkpoint;
//! `NAME.txt` what `convert_hf_to_gguf.py --mmproj` wrote for it as f16, bf16 and q8_0, and for Qwen-VL and InternVL with
//! InternLM 2 what it wrote for the text model as bf16, without the tokenizer.

use std::fs;
use std::path::{Path, PathBuf};

use orinplan::checkpoint::StoredTensor;
use orinplan::dtype::Dtype;
use orinplan::model::Projector;
use orinplan::model::projector::ImageSize;
use orinplan::plan::compute::{ComputeBackend, encoder};
use serde_json::{Value as Json, json};

use crate::build::{Scratch, Written, orinplan, quantize};
use crate::converter::{lines, value};

/// The checkpoint `name`, after `change` of its tensors.
fn checkpoint(
    scratch: &Scratch,
    name: &str,
    change: impl FnOnce(&mut Vec<(String, Vec<usize>)>),
) -> PathBuf {
    let text = fs::read_to_string(data(&format!("{name}.json"))).unwrap();
    let described: Json = serde_json::from_str(&text).unwrap();
    let mut listed = serde_json::from_value(described["tensors"].clone()).unwrap();
    change(&mut listed);
    let model = scratch.bf16(&described["config"], &listed, value);
    let processor = model.join("preprocessor_config.json");
    fs::write(processor, described["processor"].to_string()).unwrap();
    for (name, content) in described["files"].as_object().into_iter().flatten() {
        fs::write(model.join(name), content.to_string()).unwrap();
    }
    model
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/projectors")
        .join(name)
}

fn check(name: &str) {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, name, |_| {});
    let expect = fs::read_to_string(data(&format!("{name}.txt"))).unwrap();
    let parts: Vec<&str> = expect.split("= ").filter(|part| !part.is_empty()).collect();
    assert!(!parts.is_empty(), "{name}");
    for part in parts {
        let (scheme, expect) = part.split_once('\n').unwrap();
        let output = scratch.path(&format!("{scheme}.gguf"));
        match scheme {
            "text" => quantize(&model, "bf16", &output, &[]),
            scheme => quantize(&model, scheme, &output, &["--projector"]),
        };
        if scheme == "f16" {
            planned_alike(name, &output);
        }
        let found = lines(&output);
        let expect: Vec<&str> = expect.trim_end().lines().collect();
        assert_eq!(found.len(), expect.len(), "{name} {scheme}");
        for (found, expect) in found.iter().zip(expect) {
            match expect.rsplit_once(' ') {
                Some((expect, _)) if is_rounded(expect) => assert!(found.starts_with(expect)),
                _ => assert_eq!(found, expect, "{name} {scheme}"),
            }
        }
    }
}

/// What a plan takes from the configuration is what it takes from the file that is written: weights, buffers, tokens.
fn planned_alike(name: &str, file: &Path) {
    let text = fs::read_to_string(data(&format!("{name}.json"))).unwrap();
    let described: Json = serde_json::from_str(&text).unwrap();
    let processor = described["processor"].clone();
    let stated = Projector::of_hugging_face(&described["config"], processor, &[]).unwrap();
    let header = orinplan::gguf::read_header(file).unwrap();
    let tensors: Vec<StoredTensor> = header
        .tensors
        .into_iter()
        .map(|tensor| StoredTensor {
            name: tensor.name,
            dtype: tensor.dtype,
            shape: tensor.shape,
            file: 0,
            offset: tensor.offset,
            bytes: tensor.bytes,
        })
        .collect();
    let written = Projector::of_gguf(&header.metadata, tensors.iter().enumerate()).unwrap();
    assert_eq!(written.family.name, stated.family.name);
    assert_eq!(written.audio, stated.audio, "{name}");
    assert_eq!(written.parameters(), stated.parameters(), "{name}");
    assert_eq!(
        written.bytes(Dtype::F16),
        stated.bytes(Dtype::F16),
        "{name}"
    );
    for (width, height) in [(56, 56), (100, 200), (640, 480), (1024, 768)] {
        let size = ImageSize { width, height };
        assert_eq!(written.image(size), stated.image(size), "{name} {size:?}");
        for flash_attention in [true, false] {
            let of =
                |of: &Projector| encoder(of, Some(size), flash_attention, ComputeBackend::Cuda);
            assert_eq!(of(&written), of(&stated), "{name} {size:?}");
        }
    }
}

/// Whether PyTorch's own last bits of this tensor's values depend on the machine.
fn is_rounded(line: &str) -> bool {
    let computed = ["resampler.pos_embed_k ", "a.position_embd.weight "];
    line.contains(".per_dim_scale.weight ") || computed.iter().any(|name| line.starts_with(name))
}

#[test]
fn factors_that_cannot_be_negative_are_the_nearest_to_the_exact_ones() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "gemma4", |_| {});
    let output = scratch.path("x.gguf");
    quantize(&model, "f16", &output, &["--projector"]);
    let text = fs::read_to_string(data("gemma4.json")).unwrap();
    let described: Json = serde_json::from_str(&text).unwrap();
    let listed = described["tensors"].as_array().unwrap();
    let name = "model.audio_tower.layers.1.self_attn.per_dim_scale";
    let tensor = listed.iter().position(|tensor| tensor[0] == name).unwrap();
    let written = Written::read(&output);
    let data = written.data("a.blk.1.per_dim_scale.weight");
    for (index, bytes) in data.as_chunks().0.iter().enumerate() {
        let stored = f32::from_bits(value(tensor, index).to_bits() & 0xffff_0000);
        let exact = f64::from(stored).exp().ln_1p() as f32;
        assert_eq!(f32::from_le_bytes(*bytes), exact, "{stored}");
    }
    assert_eq!(data.len(), 32 * 4);
}

#[test]
fn a_table_of_places_is_computed() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "minicpmv", |_| {});
    let output = scratch.path("x.gguf");
    quantize(&model, "f16", &output, &["--projector"]);
    let written = Written::read(&output);
    let data = written.data("resampler.pos_embed_k").as_chunks::<4>().0;
    let at = |row: usize, column: usize, index: usize| {
        f32::from_le_bytes(data[(row * 70 + column) * 128 + index])
    };
    // Sines and cosines of the column, then of the row; frequency 3 of 32 is 10000^(-3/32).
    let angle = |place: f64, n: f64| place * 10_000f64.powf(-n / 32.0);
    for (index, exact) in [
        (0, 69f64.sin()),
        (3, angle(69.0, 3.0).sin()),
        (32, 69f64.cos()),
        (64 + 3, angle(5.0, 3.0).sin()),
        (96 + 31, angle(5.0, 31.0).cos()),
    ] {
        let off = f64::from(at(5, 69, index)) - exact;
        assert!(off.abs() < 1e-5, "{index}: {off}");
    }
    assert_eq!(data.len(), 70 * 70 * 128);
}

#[test]
fn idefics3() {
    check("idefics3");
}

#[test]
fn smolvlm() {
    check("smolvlm");
}

#[test]
fn gemma3() {
    check("gemma3");
}

#[test]
fn gemma4_with_sound() {
    check("gemma4");
}

#[test]
fn gemma4_without_sound() {
    check("gemma4_vision");
}

#[test]
fn gemma4_without_an_encoder() {
    check("gemma4_unified");
}

#[test]
fn llava_1_5() {
    check("llava");
}

#[test]
fn llava_1_6() {
    check("llava_next");
}

/// Granite Vision: the outputs of several blocks beside each other.
#[test]
fn llava_of_several_blocks() {
    check("llava_layers");
}

#[test]
fn llava_onevision() {
    check("llava_onevision");
}

#[test]
fn minicpm_v_4_6() {
    check("minicpmv4_6");
}

#[test]
fn minicpm_v_with_a_resampler() {
    check("minicpmv");
}

#[test]
fn qwen2_vl() {
    check("qwen2_vl");
}

#[test]
fn qwen2_5_vl() {
    check("qwen2_5_vl");
}

#[test]
fn qwen3_vl() {
    check("qwen3_vl");
}

#[test]
fn qwen3_vl_with_experts() {
    check("qwen3_vl_moe");
}

#[test]
fn qwen3_5() {
    check("qwen3_5");
}

#[test]
fn qwen3_5_with_experts() {
    check("qwen3_5_moe");
}

/// Mistral Small 3 and Ministral 3. The embedding of the token between rows is in the records by a change of the converter,
/// which leaves it out for the names of Transformers; llama.cpp does not load a file without it.
#[test]
fn mistral3() {
    check("mistral3");
}

#[test]
fn glm_4v() {
    check("glm4v");
}

/// The norm before the feed-forward has its own name in the record (`ln2`), by a change of the converter.
#[test]
fn llama4() {
    check("llama4");
}

#[test]
fn kimi_vl() {
    check("kimi_vl");
}

#[test]
fn internvl() {
    check("internvl");
}

/// InternVL 2.5 with 2 and 8 B.
#[test]
fn internvl_with_internlm2() {
    check("internvl_internlm2");
}

#[test]
fn internvl_of_transformers() {
    check("internvl_hf");
}

#[test]
fn lfm2_vl() {
    check("lfm2_vl");
}

/// Without the last block and without a norm before the projection.
#[test]
fn lfm2_vl_up_to_the_last_block_but_one() {
    check("lfm2_vl_shallow");
}

fn refused(model: &Path, scheme: &str) -> String {
    let args = [
        "quantize",
        model.to_str().unwrap(),
        "--projector",
        "--scheme",
        scheme,
        "--dry-run",
    ];
    let (stdout, stderr, code) = orinplan(&args);
    assert_eq!((stdout.as_str(), code), ("", 2), "{stderr}");
    stderr
}

#[test]
fn what_cannot_be_written_is_refused_with_the_reason() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "idefics3", |_| {});
    let stderr = refused(&model, "q4_k_m");
    assert!(
        stderr.contains("a projector is written as f16, bf16 or q8_0, not as q4_k_m"),
        "{stderr}"
    );

    fs::remove_file(model.join("preprocessor_config.json")).unwrap();
    let stderr = refused(&model, "f16");
    assert!(stderr.contains("states `image_mean`"), "{stderr}");

    let scratch = Scratch::new();
    let gone = "model.vision_model.encoder.layers.1.mlp.fc1.bias";
    let model = checkpoint(&scratch, "idefics3", |tensors| {
        tensors.retain(|(name, _)| name != gone)
    });
    let stderr = refused(&model, "f16");
    assert!(
        stderr.contains("`vision_model.encoder.layers.1.mlp.fc1.bias` of the projector is missing"),
        "{stderr}"
    );

    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "idefics3", |tensors| {
        let of =
            |tensor: &&mut (String, Vec<usize>)| tensor.0.ends_with("position_embedding.weight");
        tensors.iter_mut().find(of).unwrap().1 = vec![15, 96];
    });
    let stderr = refused(&model, "f16");
    assert!(
        stderr.contains("has 1440 weights, but config.json implies 1536"),
        "{stderr}"
    );
}

/// Its image encoder is that of Qwen2.5-VL under other names, and one of sounds stands beside it.
#[test]
fn qwen2_5_omni() {
    check("qwen2_5_omni");
    // A configuration alone tells of both.
    let text = fs::read_to_string(data("qwen2_5_omni.json")).unwrap();
    let described: Json = serde_json::from_str(&text).unwrap();
    let scratch = Scratch::new();
    let alone = scratch.path("alone");
    fs::create_dir(&alone).unwrap();
    let config = described["config"].to_string();
    fs::write(alone.join("config.json"), config).unwrap();
    let alone = alone.to_str().unwrap();
    let (plan, stderr, _) =
        orinplan(&["fit", alone, "--device", "orin-nx-16gb", "--format", "json"]);
    assert!(!plan.contains("\"towers_unseen\""), "{plan} {stderr}");
    assert!(plan.contains("\"qwen2.5o\""), "{plan} {stderr}");
}

#[test]
fn a_table_of_times_is_computed() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "qwen2_5_omni", |_| {});
    let output = scratch.path("x.gguf");
    quantize(&model, "f16", &output, &["--projector"]);
    let written = Written::read(&output);
    let data = written.data("a.position_embd.weight").as_chunks::<4>().0;
    let at = |time: usize, index: usize| f32::from_le_bytes(data[time * 64 + index]);
    // Sines, then cosines; frequency 5 of 32 is 10000^(-5/31).
    let angle = |time: f64, n: f64| time * 10_000f64.powf(-n / 31.0);
    for (time, index, exact) in [
        (0, 0, 0.0),
        (0, 32, 1.0),
        (7, 5, angle(7.0, 5.0).sin()),
        (1499, 31, angle(1499.0, 31.0).sin()),
        (40, 32 + 30, angle(40.0, 30.0).cos()),
    ] {
        let off = f64::from(at(time, index)) - exact;
        assert!(off.abs() < 1e-4, "{time} {index}: {off}");
    }
    assert_eq!(data.len(), 1500 * 64);
}

/// What llama.cpp would compute otherwise without a word.
#[test]
fn variants_that_llama_cpp_does_not_compute_are_refused_by_name() {
    for (name, place, value, said) in [
        ("internvl", "/select_layer", json!(-4), "`select_layer`"),
        ("internvl", "/ps_version", json!("v1"), "`ps_version`"),
        (
            "internvl",
            "/vision_config/norm_type",
            json!("rms_norm"),
            "`norm_type`",
        ),
        (
            "internvl",
            "/vision_config/hidden_act",
            json!("relu"),
            "`hidden_act`",
        ),
        (
            "internvl_hf",
            "/vision_feature_layer",
            json!(-2),
            "`vision_feature_layer`",
        ),
        (
            "mistral3",
            "/vision_config/rope_parameters/rope_theta",
            json!(20000.0),
            "`rope_theta`",
        ),
        (
            "mistral3",
            "/vision_config/head_dim",
            json!(32),
            "`head_dim`",
        ),
        (
            "mistral3",
            "/vision_feature_layer",
            json!(-2),
            "`vision_feature_layer`",
        ),
        (
            "glm4v",
            "/vision_config/spatial_merge_size",
            json!(4),
            "`spatial_merge_size`",
        ),
        (
            "kimi_vl",
            "/vision_config/init_pos_emb_height",
            json!(32),
            "`init_pos_emb_height`",
        ),
        (
            "lfm2_vl",
            "/projector_bias",
            json!(false),
            "`projector_bias`",
        ),
        (
            "lfm2_vl",
            "/vision_feature_layer",
            json!(-4),
            "`vision_feature_layer`",
        ),
        (
            "mistral3",
            "/vision_feature_layer",
            json!("last"),
            "config.json: `vision_feature_layer` is not -1",
        ),
        (
            "lfm2_vl",
            "/vision_feature_layer",
            json!([-1]),
            "config.json: `vision_feature_layer` is no block",
        ),
        (
            "internvl",
            "/select_layer",
            json!("-1"),
            "config.json: `select_layer` is not -1",
        ),
        (
            "internvl",
            "/downsample_ratio",
            json!(0.3),
            "config.json: `downsample_ratio` is not one over a whole number",
        ),
        (
            "llama4",
            "/vision_config/pixel_shuffle_ratio",
            json!(0.3),
            "`pixel_shuffle_ratio` of the vision part is not one over a whole number",
        ),
        (
            "llama4",
            "/vision_config/pixel_shuffle_ratio",
            json!("0.5"),
            "`pixel_shuffle_ratio` of the vision part",
        ),
        (
            "kimi_vl",
            "/vision_config/merge_kernel_size",
            json!([2, 4]),
            "`merge_kernel_size` of the vision part is not the side of a square",
        ),
        (
            "kimi_vl",
            "/vision_config/num_hidden_layers",
            json!([2, 3]),
            "`num_hidden_layers` of the vision part is not a whole number",
        ),
        (
            "internvl_hf",
            "/vision_config/image_size",
            json!([112, 56]),
            "`image_size` of the vision part is not the side of a square",
        ),
        (
            "qwen2_5_omni",
            "/thinker_config/audio_config/encoder_layers",
            json!("2"),
            "`encoder_layers` of the audio part is not a whole number",
        ),
        (
            "qwen2_5_vl",
            "/vision_config/num_heads",
            json!(7),
            "the encoder of the vision part has a number of heads",
        ),
        (
            "llava_layers",
            "/vision_feature_layer",
            json!([-1, -3]),
            "in another order",
        ),
        (
            "llava_layers",
            "/vision_feature_layer",
            json!([]),
            "no block of the encoder",
        ),
        (
            "llava_layers",
            "/vision_feature_layer",
            json!([1, "2"]),
            "no block of the encoder",
        ),
        (
            "llava_layers",
            "/vision_feature_layer",
            json!([2, 9]),
            "no block of the encoder",
        ),
        (
            "llava",
            "/vision_config/model_type",
            json!("pixtral"),
            "`pixtral`",
        ),
        (
            "llava",
            "/multimodal_projector_bias",
            json!(false),
            "`multimodal_projector_bias`",
        ),
    ] {
        let scratch = Scratch::new();
        let model = checkpoint(&scratch, name, |_| {});
        let path = model.join("config.json");
        let mut config: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let (parent, key) = place.rsplit_once('/').unwrap();
        config.pointer_mut(parent).unwrap()[key] = value;
        fs::write(&path, config.to_string()).unwrap();
        let stderr = refused(&model, "f16");
        assert!(stderr.contains(said), "{name} {place}: {stderr}");
    }
}

/// A configuration of fewer blocks than are stored, or without the encoder of sounds, is another model's.
#[test]
fn what_is_stored_and_not_described_is_refused_by_name() {
    for (name, place, value, said) in [
        (
            "kimi_vl",
            "/vision_config/num_hidden_layers",
            json!(1),
            "`vision_tower.encoder.blocks.1.",
        ),
        (
            "qwen2_5_vl",
            "/vision_config/depth",
            json!(1),
            "visual.blocks.1.",
        ),
        ("gemma4", "/audio_config", json!(null), "audio_tower."),
    ] {
        let scratch = Scratch::new();
        let model = checkpoint(&scratch, name, |_| {});
        let path = model.join("config.json");
        let mut config: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        *config.pointer_mut(place).unwrap() = value;
        fs::write(&path, config.to_string()).unwrap();
        let stderr = refused(&model, "f16");
        assert!(
            stderr.contains("is stored, but") && stderr.contains(said),
            "{name}: {stderr}"
        );
    }
    // What runtimes compute themselves is left out, as their converter does.
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "gemma3", |tensors| {
        let name = "vision_tower.vision_model.embeddings.position_ids";
        tensors.push((name.to_owned(), vec![1, 16]));
    });
    quantize(&model, "f16", &scratch.path("x.gguf"), &["--projector"]);
}

/// A plan says why it leaves an encoder of a known kind out, with the weights and of a configuration alone.
#[test]
fn plans_say_why_an_encoder_is_not_described() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "mistral3", |_| {});
    let path = model.join("config.json");
    let mut config: Json = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["vision_feature_layer"] = json!(-2);
    fs::write(&path, config.to_string()).unwrap();
    let alone = scratch.path("config.json");
    fs::write(&alone, config.to_string()).unwrap();
    let why = "`vision_feature_layer` is not -1";
    for (model, code) in [
        (&model, "encoder_memory_unknown"),
        (&alone, "towers_unseen"),
    ] {
        let fit = ["fit", model.to_str().unwrap()];
        let (plan, stderr, _) = orinplan(&[&fit[..], &["--format", "json"]].concat());
        assert!(
            plan.contains(code) && plan.contains(why),
            "{code} {plan} {stderr}"
        );
        let (_, stderr, _) = orinplan(&[&fit[..], &["--image", "64x64"]].concat());
        assert!(stderr.contains(why), "{stderr}");
        assert!(
            stderr.contains("--image and --images are of no use"),
            "{stderr}"
        );
    }
}

/// A token of another model's tokenizer has no row in the embedding; without a tokenizer there is none to look up.
#[test]
fn a_token_beyond_the_embedding_is_refused() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "mistral3", |_| {});
    let named = |id: u64| {
        let token = json!({"content": "[IMG_BREAK]", "special": true});
        let config = json!({"added_tokens_decoder": {id.to_string(): token}});
        fs::write(model.join("tokenizer_config.json"), config.to_string()).unwrap();
    };
    named(512);
    let stderr = refused(&model, "f16");
    assert!(stderr.contains("`v.token_embd.img_break`"), "{stderr}");
    named(511);
    quantize(&model, "f16", &scratch.path("x.gguf"), &["--projector"]);
    fs::remove_file(model.join("tokenizer_config.json")).unwrap();
    let stderr = refused(&model, "f16");
    assert!(stderr.contains("[IMG_BREAK]"), "{stderr}");
}

#[test]
fn a_text_model_has_no_projector() {
    let scratch = Scratch::new();
    let model = scratch.fixture("tiny-qwen3");
    let stderr = refused(&model, "f16");
    assert!(
        stderr.contains("config.json has no `vision_config`"),
        "{stderr}"
    );
}

#[test]
fn a_pair_is_planned_with_the_projector_that_was_written() {
    let scratch = Scratch::new();
    let model = checkpoint(&scratch, "qwen3_vl", |_| {});
    let pair = scratch.path("pair");
    fs::create_dir(&pair).unwrap();
    quantize(&model, "bf16", &pair.join("text.gguf"), &[]);
    quantize(&model, "f16", &pair.join("mmproj.gguf"), &["--projector"]);
    let plan = |model: &Path| -> Json {
        let args = [
            "fit",
            model.to_str().unwrap(),
            "--scheme",
            "bf16",
            "--image",
            "100x200",
        ];
        let (stdout, stderr, _) =
            orinplan(&[&args[..], &["--context", "512", "--format", "json"]].concat());
        serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stderr}"))
    };
    let (source, pair) = (plan(&model), plan(&pair));
    assert_eq!(source["images"], pair["images"]);
    assert_eq!(source["images"]["projector"], json!("qwen3vl_merger"));
    assert_eq!(source["images"]["tokens_per_image"], json!(3 * 6));
    let encoder = |plan: &Json| plan["plans"][0]["memory"]["image_encoder_bytes"].clone();
    assert_eq!(encoder(&source), encoder(&pair));
    assert!(encoder(&source).as_u64().unwrap() > 0);
}
