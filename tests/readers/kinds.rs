//! Inputs that are no model which writes text: each is refused with what it is and the way out, by
//! whichever of its names it is opened.

use std::path::Path;

use orinplan::checkpoint::{self, Stores};
use orinplan::model::{self, ModelError, Unknown};

use crate::build::*;

#[track_caller]
fn refused(path: &Path, fragments: &[&str]) {
    // A model that turns texts into numbers is told apart by its architecture, once it is open.
    let message = match checkpoint::open(path.to_str().unwrap()) {
        Err(error) => error.to_string(),
        Ok(checkpoint) => match model::read(&checkpoint, Unknown::Refuse) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{} was taken for a model", path.display()),
        },
    };
    for fragment in fragments {
        assert!(message.contains(fragment), "`{fragment}` not in: {message}");
    }
    for wrong in ["--assume-kv", "incompletely downloaded", "\n", "\u{1b}"] {
        assert!(!message.contains(wrong), "`{wrong}` in: {message}");
    }
}

const LLAMA: &str = r#""architectures":["LlamaForCausalLM"],"model_type":"llama""#;

fn config(text: &str) -> Vec<u8> {
    format!("{{{text}}}").into_bytes()
}

/// A directory with these files is refused, and so is each of `alone` in it.
#[track_caller]
fn directory_refused(files: &[(&str, &[u8])], alone: &[&str], fragments: &[&str]) {
    let (_guard, path) = directory(files);
    refused(&path, fragments);
    for name in alone {
        refused(&path.join(name), fragments);
    }
}

#[test]
fn adapters_name_their_base_model() {
    let lora = vectors(&[(
        "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight",
        8,
    )]);
    let adapter = br#"{"base_model_name_or_path":"Qwen/Qwen3-0.6B","peft_type":"LORA"}"#;
    let said = ["a LoRA adapter of `Qwen/Qwen3-0.6B`", "merge_and_unload"];
    let weights = ("adapter_model.safetensors", &*lora);
    let stated = ("adapter_config.json", &adapter[..]);
    let base = config(LLAMA);
    directory_refused(&[weights, stated], &["adapter_model.safetensors"], &said);
    // Beside the configuration of its base model, and in PyTorch's format.
    directory_refused(
        &[weights, stated, ("config.json", &base)],
        &["adapter_model.safetensors"],
        &said,
    );
    directory_refused(
        &[("adapter_model.bin", b"PK"), stated, ("config.json", &base)],
        &[],
        &said,
    );
    // The name is someone else's text.
    let foreign = br#"{"base_model_name_or_path":"x\u001b[2J\nerror"}"#;
    directory_refused(
        &[weights, ("adapter_config.json", foreign)],
        &[],
        &["a LoRA adapter of `x"],
    );
    // Names alone tell, of modules that were saved before they were merged too.
    for name in [
        "model.layers.0.mlp.up_proj.base_layer.weight",
        "unet.down.lora_up.weight",
    ] {
        let file = vectors(&[(name, 2)]);
        directory_refused(
            &[("model.safetensors", &file), ("config.json", &base)],
            &[],
            &["a LoRA adapter,"],
        );
    }
    // An adapter beside its whole base model is no reason against the model.
    let whole = vectors(&[("model.norm.weight", 2)]);
    let (_guard, path) = directory(&[
        ("model.safetensors", &whole),
        weights,
        stated,
        ("config.json", &base),
    ]);
    checkpoint::open(path.to_str().unwrap()).unwrap();
}

#[test]
fn files_of_gguf_that_are_no_models() {
    let tensors = |name: &str| [tensor(name, &[32], 0, 0)];
    let check = |pairs: &[Pair], tensors: &[Tensor], fragments: &[&str]| {
        let file = gguf(pairs, tensors, 128);
        directory_refused(&[("some.gguf", &file)], &["some.gguf"], fragments);
    };
    let arch = |name: &str| string_pair("general.architecture", name);
    let kind = |name: &str| string_pair("general.type", name);
    check(
        &[arch("llama"), kind("adapter")],
        &tensors("a"),
        &["a LoRA adapter"],
    );
    check(
        &[arch("llama")],
        &tensors("blk.0.attn_q.weight.lora_a"),
        &["a LoRA adapter"],
    );
    let base = string_pair("general.base_model.0.name", "Llama 3");
    check(
        &[arch("llama"), kind("adapter"), base],
        &tensors("a"),
        &["adapter of `Llama 3`"],
    );
    check(
        &[arch("clip")],
        &tensors("v.patch_embd.weight"),
        &["a projector", "--mmproj"],
    );
    check(
        &[kind("mmproj")],
        &tensors("mm.0.weight"),
        &["a projector", "--mmproj"],
    );
    check(
        &[kind("imatrix")],
        &tensors("a"),
        &["an importance matrix", "--imatrix"],
    );
    check(
        &[],
        &tensors("blk.0.attn_q.weight.in_sum2"),
        &["an importance matrix"],
    );
    check(
        &[arch("controlvector")],
        &tensors("direction.1"),
        &["--control-vector"],
    );
    check(&[arch("flux")], &tensors("a"), &["a diffusion model"]);
    check(
        &[arch("modern-bert")],
        &tensors("a"),
        &["an encoder", "--embedding"],
    );
    check(&[arch("t5")], &tensors("a"), &["an encoder-decoder"]);
    let pooling = u32_pair("llama.pooling_type", 3);
    check(
        &[arch("llama"), pooling],
        &tensors("a"),
        &["an embedding", "pooling_type"],
    );
    let ranks = u32_pair("llama.pooling_type", 4);
    check(
        &[arch("llama"), ranks],
        &tensors("a"),
        &["reranking", "pooling_type rank"],
    );
    let causal = pair("llama.attention.causal", BOOL, &[0]);
    check(&[arch("llama"), causal], &tensors("a"), &["an encoder"]);
    let labels = pair(
        "qwen2.classifier.output_labels",
        ARRAY,
        &strings(&["no", "yes"]),
    );
    check(&[arch("qwen2"), labels], &tensors("a"), &["a classifier"]);
    let words = string_pair("tokenizer.ggml.model", "llama");
    check(&[arch("llama"), words], &[], &["only a vocabulary"]);
    check(&[arch("llama")], &[], &["without tensors"]);
}

#[test]
fn an_importance_matrix_of_the_first_format_is_told_by_its_start() {
    let name = b"blk.0.attn_q.weight";
    let start = [
        &1u32.to_le_bytes()[..],
        &(name.len() as u32).to_le_bytes(),
        name,
        &[0; 64],
    ];
    directory_refused_file(
        "imatrix.dat",
        &start.concat(),
        &["an importance matrix", "--imatrix"],
    );
    let (_guard, path) = directory(&[("notes.dat", b"\x01\0\0\0\xff\xff\xff\xffnothing")]);
    refused(&path.join("notes.dat"), &["neither a .safetensors"]);
}

#[track_caller]
fn directory_refused_file(name: &str, bytes: &[u8], fragments: &[&str]) {
    let (_guard, path) = directory(&[(name, bytes)]);
    refused(&path.join(name), fragments);
}

#[test]
fn weights_of_other_formats_are_named_with_the_way_to_convert_them() {
    let base = config(LLAMA);
    for (name, fragments) in [
        (
            "pytorch_model.bin",
            &[
                "`pytorch_model.bin`",
                "safe_serialization=True",
                "config.json",
            ][..],
        ),
        (
            "pytorch_model-00001-of-00002.bin",
            &["PyTorch", "safe_serialization=True"],
        ),
        ("consolidated.00.pth", &["PyTorch"]),
        ("tf_model.h5", &["TensorFlow", "from_tf=True"]),
        ("flax_model.msgpack", &["Flax", "from_flax=True"]),
        ("model.onnx", &["ONNX", "safetensors"]),
        ("onnx/model_q4.onnx", &["ONNX"]),
        ("model.engine", &["another runtime"]),
    ] {
        directory_refused(
            &[(name, b"PK\x03\x04"), ("config.json", &base)],
            &[],
            fragments,
        );
        directory_refused(&[(name, b"PK\x03\x04")], &[name], &[]);
        // Beside weights that are read they are of no interest, and the configuration plans alone.
        let weights = vectors(&[("model.norm.weight", 2)]);
        let (_guard, path) = directory(&[
            (name, b"PK\x03\x04"),
            ("model.safetensors", &weights),
            ("config.json", &base),
        ]);
        checkpoint::open(path.to_str().unwrap()).unwrap();
        checkpoint::open(path.join("config.json").to_str().unwrap()).unwrap();
    }
    // What training leaves beside a configuration holds no weights.
    let (_guard, path) = directory(&[("training_args.bin", b"PK"), ("config.json", &base)]);
    checkpoint::open(path.to_str().unwrap()).unwrap();
}

#[test]
fn archives_and_formats_of_the_past_are_told_by_their_start() {
    let mut tar = vec![b'x'; 257];
    tar.extend(b"ustar");
    for (magic, what) in [
        (&b"PK\x03\x04\x14\0"[..], "is a zip archive; unpack it"),
        (
            &b"\x1f\x8b\x08\0\0\0\0\0\0\x03"[..],
            "is compressed with gzip; unpack it",
        ),
        (&b"BZh91AY"[..], "is compressed with bzip2"),
        (&b"\xfd7zXZ\0"[..], "is compressed with xz"),
        (&b"\x28\xb5\x2f\xfd"[..], "is compressed with zstd"),
        (&tar[..], "is a tar archive"),
        (
            &b"lmgg\x03\0\0\0"[..],
            "is a model in GGML's format from before GGUF",
        ),
        (
            &b"tjgg\x03\0\0\0"[..],
            "is a model in GGML's format from before GGUF",
        ),
    ] {
        for name in ["m.gguf", "m", "config.json", "m.gz", "m.safetensors"] {
            directory_refused_file(name, magic, &[what]);
        }
    }
    // Formats that are archives inside have their own answers, and old models had this name.
    directory_refused_file("m.pt", b"PK\x03\x04\x14\0", &["PyTorch's pickle format"]);
    directory_refused_file("m.npz", b"PK\x03\x04\x14\0", &["NumPy's format"]);
    directory_refused_file("m.bin", b"lmgg\x03\0\0\0", &["from before GGUF"]);
    for name in ["m.safetensors.incomplete", "m.gguf.part", "m.crdownload"] {
        directory_refused_file(name, b"12345678", &["is an unfinished download"]);
    }
}

#[test]
fn folders_without_a_model_are_told_apart() {
    let base = config(LLAMA);
    directory_refused(
        &[
            ("model.safetensors.incomplete", b"1"),
            ("config.json", &base),
        ],
        &[],
        &[
            "`model.safetensors.incomplete` (an unfinished download)",
            "config.json to plan",
        ],
    );
    directory_refused(&[], &[], &["is an empty folder"]);
    directory_refused(
        &[("README.md", b"1")],
        &[],
        &["no config.json; give the folder"],
    );
    let (_guard, path) = directory(&[]);
    let model = path.join("models--org--name");
    std::fs::create_dir_all(model.join("snapshots/abc")).unwrap();
    std::fs::create_dir_all(model.join("blobs")).unwrap();
    std::fs::write(model.join("blobs/1"), "1").unwrap();
    for folder in [model.clone(), model.join("snapshots"), model.join("blobs")] {
        let said = [
            "a folder of the Hugging Face cache",
            "`org/name`",
            "snapshots/abc",
        ];
        refused(&folder, &said);
    }
}

#[test]
fn configurations_of_other_kinds_of_models() {
    let weights = vectors(&[("model.norm.weight", 2)]);
    for (text, fragments) in [
        (
            r#""architectures":["T5ForConditionalGeneration"],"model_type":"t5""#,
            &["an encoder-decoder (`t5`)"][..],
        ),
        (
            r#""architectures":["WhisperForConditionalGeneration"],"model_type":"whisper","is_encoder_decoder":true"#,
            &["an encoder-decoder (`whisper`)"],
        ),
        (
            r#""model_type":"of-tomorrow","is_encoder_decoder":true"#,
            &["an encoder-decoder (`of-tomorrow`)"],
        ),
        (
            r#""architectures":["XLMRobertaXLModel"],"model_type":"xlm-roberta-xl""#,
            &["an encoder (`xlm-roberta-xl`)", "--embedding"],
        ),
        (
            r#""architectures":["NewForMaskedLM"],"model_type":"of-tomorrow""#,
            &["an encoder (`NewForMaskedLM`)"],
        ),
        (
            r#""architectures":["LlamaForSequenceClassification"],"model_type":"llama""#,
            &["a classifier (`LlamaForSequenceClassification`)"],
        ),
        (
            r#""architectures":["Qwen3ForTokenClassification"],"model_type":"qwen3""#,
            &["a classifier"],
        ),
        (
            r#""architectures":["Gemma2Model"],"model_type":"gemma2","use_bidirectional_attention":true"#,
            &["an embedding or reranking model"],
        ),
        (
            r#""architectures":["Lfm2BidirectionalModel"],"model_type":"lfm2""#,
            &["an embedding or reranking model"],
        ),
        (
            r#""architectures":["ColQwen2"],"model_type":"qwen2_vl""#,
            &["an embedding or reranking model"],
        ),
        (
            r#""architectures":["NVEmbedModel"],"model_type":"nvembed""#,
            &["an embedding or reranking model"],
        ),
        (
            r#""architectures":["LlamaBiModel"],"model_type":"llama""#,
            &["an embedding or reranking model"],
        ),
        (
            r#""architectures":["Qwen2ForCausalLM"],"model_type":"qwen2","is_causal":false"#,
            &["an embedding or reranking model (is_causal)"],
        ),
        (
            r#""architectures":["LlamaForCausalLM"],"model_type":"llama","bidirectional":true"#,
            &["an embedding or reranking model (bidirectional)"],
        ),
        (
            r#""architectures":["OfTomorrowForConditionalGeneration"],"model_type":"of-tomorrow","text_config":{"model_type":"xlstm"}"#,
            &["a recurrent model (`xlstm`)"],
        ),
        (
            r#""architectures":["OfTomorrowForConditionalGeneration"],"model_type":"of-tomorrow","text_config":{"model_type":"t5"}"#,
            &["an encoder-decoder (`t5`)"],
        ),
        (
            r#""architectures":["LlamaModel"],"model_type":"llama""#,
            &["without a head", "`LlamaModel`", "--embedding"],
        ),
        (
            r#""architectures":["Qwen3Model"],"model_type":"qwen3""#,
            &["without a head", "`Qwen3Model`"],
        ),
        (
            r#""architectures":["ModelOfTomorrowModel"],"model_type":"of-tomorrow""#,
            &["without a head"],
        ),
        (
            r#""architectures":["BarkModel"],"model_type":"bark""#,
            &["an audio model (`bark`)"],
        ),
        (
            r#""architectures":["MusicgenForConditionalGeneration"],"model_type":"musicgen","is_encoder_decoder":true"#,
            &["an audio model (`musicgen`)"],
        ),
        (
            r#""architectures":["RwkvForCausalLM"],"model_type":"rwkv""#,
            &["a recurrent model (`rwkv`)", "inspect"],
        ),
        (
            r#""architectures":["ZambaForCausalLM"],"model_type":"zamba""#,
            &[
                "shared blocks of attention (`zamba`)",
                "neither llama.cpp nor vLLM",
                "Transformers",
            ],
        ),
        (
            r#""architectures":["MambaLMHeadModel"],"model_type":"of-tomorrow""#,
            &["a recurrent model (`MambaLMHeadModel`)"],
        ),
        (
            r#""architectures":["LLaDAModelLM"],"model_type":"llada""#,
            &["a diffusion language model (`llada`)"],
        ),
        (
            r#""architectures":["DreamModel"],"model_type":"Dream""#,
            &["a diffusion language model (`Dream`)"],
        ),
        (
            r#""word_embedding_dimension":384,"pooling_mode_mean_tokens":true"#,
            &["a module of Sentence Transformers"],
        ),
        (
            r#""in_features":768,"out_features":3072,"bias":false"#,
            &["a module of Sentence Transformers"],
        ),
        (
            r#""architectures":["LlamaForCausalLMEagle3"],"model_type":"llama""#,
            &["a draft head", "`LlamaForCausalLMEagle3`"],
        ),
        (
            r#""_class_name":"FluxTransformer2DModel","_diffusers_version":"0.30""#,
            &["a diffusion model"],
        ),
    ] {
        let config = config(text);
        directory_refused(&[("config.json", &config)], &["config.json"], fragments);
        directory_refused(
            &[("config.json", &config), ("model.safetensors", &weights)],
            &["config.json", "model.safetensors"],
            fragments,
        );
    }
    // The class may be that of the model that writes; what lies beside it tells.
    let llama = config(LLAMA);
    directory_refused(
        &[
            ("config.json", &llama),
            ("modules.json", b"[]"),
            ("model.safetensors", &weights),
        ],
        &["config.json", "model.safetensors"],
        &["an embedding or reranking model (modules.json"],
    );
    for name in [
        "config_sentence_transformers.json",
        "sentence_bert_config.json",
    ] {
        directory_refused(
            &[("config.json", &llama), (name, b"{}")],
            &["config.json"],
            &["an embedding or reranking model", name],
        );
    }
    directory_refused(
        &[("modules.json", b"[]"), ("2_Dense/config.json", b"{}")],
        &[],
        &["an embedding or reranking model"],
    );
    directory_refused(
        &[
            ("model_index.json", b"{}"),
            ("unet/x.safetensors", &weights),
        ],
        &[],
        &["a diffusion model"],
    );
}

#[test]
fn quantizers_that_are_not_read_are_named() {
    let check = |quantization: &str, tensor: &str, fragments: &[&str]| {
        let config = config(&format!(r#"{LLAMA},"quantization_config":{quantization}"#));
        let weights = vectors(&[(tensor, 2)]);
        directory_refused(&[("config.json", &config)], &["config.json"], fragments);
        directory_refused(
            &[("config.json", &config), ("model.safetensors", &weights)],
            &["model.safetensors"],
            fragments,
        );
    };
    for method in [
        "hqq",
        "quanto",
        "torchao",
        "aqlm",
        "vptq",
        "fp_quant",
        "exl2",
        "exl3",
        "eetq",
        "quark",
        "higgs",
        "spqr",
        "of-tomorrow",
    ] {
        let config = format!(r#"{{"quant_method":"{method}","bits":4}}"#);
        check(
            &config,
            "model.norm.weight",
            &[&format!("quantized with `{method}`"), "16-bit model"],
        );
    }
    check(
        r#"{"quant_method":"bitnet","quantization_mode":"offline"}"#,
        "model.norm.weight",
        &["quantized with `bitnet`", "Transformers or bitnet.cpp"],
    );
    for algorithm in ["W4A16_AWQ", "W4A8_AWQ"] {
        let config = format!(r#"{{"quant_method":"modelopt","quant_algo":"{algorithm}"}}"#);
        check(
            &config,
            "model.norm.weight",
            &[&format!("ModelOpt's `{algorithm}`")],
        );
        // Where only ModelOpt's own file says it.
        let beside = format!(r#"{{"quantization":{{"quant_algo":"{algorithm}"}}}}"#);
        let weights = vectors(&[("model.norm.weight", 2)]);
        directory_refused(
            &[
                ("config.json", &self::config(LLAMA)),
                ("hf_quant_config.json", beside.as_bytes()),
                ("model.safetensors", &weights),
            ],
            &[],
            &[&format!("ModelOpt's `{algorithm}`")],
        );
    }
    let sparse = r#"{"quant_method":"compressed-tensors","format":"float-quantized","sparsity_config":{"format":"sparse-24-bitmask"}}"#;
    check(sparse, "a", &["sparse layout `sparse-24-bitmask`"]);
    check(
        r#"{"quant_method":"compressed-tensors","format":"marlin-24"}"#,
        "a",
        &["layout `marlin-24`"],
    );
    // Tensors tell where the configuration does not.
    for (name, what) in [
        ("q_proj.W_q", "`hqq`"),
        ("q_proj.weight._data", "`quanto`"),
        ("q_proj.bitmask", "sparse"),
    ] {
        let weights = vectors(&[(name, 2)]);
        directory_refused(
            &[
                ("config.json", &config(LLAMA)),
                ("model.safetensors", &weights),
            ],
            &[],
            &[what],
        );
    }
    for read in [
        r#"{"quant_method":"fp8","activation_scheme":"static"}"#,
        r#"{"quant_method":"fbgemm_fp8"}"#,
        r#"{"quant_method":"gptq","bits":4}"#,
        r#"{"quant_method":"awq"}"#,
        r#"{"quant_method":"bitsandbytes"}"#,
        r#"{"quant_method":"mxfp4"}"#,
        r#"{"quant_method":"modelopt","quant_algo":"NVFP4"}"#,
        r#"{"quant_algo":"FP8"}"#,
        r#"{"quant_method":"compressed-tensors","format":"pack-quantized","sparsity_config":{}}"#,
    ] {
        let config = config(&format!(r#"{LLAMA},"quantization_config":{read}"#));
        let (_guard, path) = directory(&[("config.json", &config)]);
        checkpoint::open(path.to_str().unwrap()).unwrap();
    }
}

#[test]
fn rotated_weights_and_seeing_models_are_told_from_their_kin() {
    let quantized = |place: &str| {
        let apply = format!(
            r#""transform_config":{{"config_groups":{{"R4":{{"apply":[{{"location":"{place}"}}]}}}}}}"#
        );
        config(&format!(
            r#"{LLAMA},"quantization_config":{{"quant_method":"compressed-tensors","format":"pack-quantized",{apply}}}"#
        ))
    };
    let rotated = quantized("input");
    directory_refused(
        &[("config.json", &rotated)],
        &["config.json"],
        &["transforms of the inputs"],
    );
    // What is multiplied into the weights needs nothing more.
    let fused = quantized("weight_output");
    let (_guard, path) = directory(&[("config.json", &fused)]);
    checkpoint::open(path.to_str().unwrap()).unwrap();

    let draft = config(r#""architectures":["LlamaForCausalLMEAGLE"],"model_type":"llama""#);
    directory_refused(
        &[("config.json", &draft)],
        &["config.json"],
        &["a draft head"],
    );
    let sees = config(
        r#""architectures":["Eagle2_5_VLForConditionalGeneration"],"model_type":"eagle_2_5_vl""#,
    );
    let (_guard, path) = directory(&[("config.json", &sees)]);
    checkpoint::open(path.to_str().unwrap()).unwrap();
}

#[test]
fn a_web_page_is_named_whatever_file_it_stands_for() {
    for page in [
        &b"<!DOCTYPE html>\n<html><head></head></html>"[..],
        b"\n<HTML lang=\"en\">",
    ] {
        for name in ["model.safetensors", "model.gguf", "config.json"] {
            let (_guard, path) = directory(&[("config.json", b"{}"), (name, page)]);
            refused(&path.join(name), &["is a web page", "download it again"]);
        }
    }
}

#[test]
fn a_git_lfs_pointer_is_named_whatever_file_it_stands_for() {
    const POINTER: &[u8] =
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";
    let said = ["is a git-LFS pointer", "git lfs pull"];
    for name in [
        "model.safetensors",
        "model.gguf",
        "config.json",
        "model.safetensors.index.json",
    ] {
        let (_guard, path) = directory(&[
            ("config.json", b"{}"),
            ("x-00001-of-00001.safetensors", b""),
            (name, POINTER),
        ]);
        refused(&path.join(name), &said);
    }
    directory_refused(
        &[
            ("config.json", POINTER),
            ("model.safetensors", &vectors(&[("a", 1)])),
        ],
        &["model.safetensors"],
        &said,
    );
    directory_refused(
        &[
            ("config.json", &config(LLAMA)),
            ("model.safetensors", POINTER),
        ],
        &[],
        &said,
    );
}

#[test]
fn wrappers_of_training_are_taken_off_names() {
    let wrapped = vectors(&[
        ("_orig_mod.model.norm.weight", 1),
        ("_orig_mod.lm_head._fsdp_wrapped_module.weight", 2),
    ]);
    let (_guard, path) = directory(&[("model.safetensors", &wrapped)]);
    let checkpoint = checkpoint::open(path.to_str().unwrap()).unwrap();
    let names: Vec<&str> = checkpoint.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["model.norm.weight", "lm_head.weight"]);
    // A name with and without is ambiguous.
    let both = vectors(&[("_orig_mod.a", 1), ("a", 1)]);
    directory_refused(&[("model.safetensors", &both)], &[], &["`a` is both in"]);
}

#[test]
fn whoever_only_looks_gets_the_tensors_with_what_they_are() {
    let lora = vectors(&[("base_model.model.q_proj.lora_A.weight", 8)]);
    let config = config(LLAMA);
    for files in [
        &[("adapter_model.safetensors", &lora[..])][..],
        &[
            ("adapter_model.safetensors", &lora[..]),
            ("config.json", &config[..]),
        ],
    ] {
        let (_guard, path) = directory(files);
        let (checkpoint, kind) =
            checkpoint::open_any(path.to_str().unwrap(), &Stores::default()).unwrap();
        assert!(kind.unwrap().what.contains("LoRA"));
        let model = model::read(&checkpoint, Unknown::Listed).unwrap();
        assert_eq!((model.tensors.len(), model.layers.len()), (1, 0));
    }
    // A configuration alone has none to list, and comes with what it is all the same.
    let bert = br#"{"architectures":["BertModel"],"model_type":"bert"}"#;
    let (_guard, path) = directory(&[("config.json", bert)]);
    let (checkpoint, kind) =
        checkpoint::open_any(path.to_str().unwrap(), &Stores::default()).unwrap();
    assert!(kind.unwrap().what.contains("without a head"));
    let model = model::read(&checkpoint, Unknown::Listed).unwrap();
    assert_eq!(
        (model.architecture.as_str(), model.tensors.len()),
        ("bert", 0)
    );
}

#[test]
fn a_class_that_is_not_listed_is_refused_by_name() {
    let read = |class: &str, model_type: &str| {
        let text = format!(
            r#""architectures":["{class}"],"model_type":"{model_type}","hidden_size":64,"num_hidden_layers":2,
            "num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":128,"vocab_size":100"#
        );
        let (_guard, path) = directory(&[("config.json", &config(&text))]);
        let checkpoint = checkpoint::open(path.to_str().unwrap()).unwrap();
        model::read(&checkpoint, Unknown::Refuse).map(|model| model.architecture)
    };
    for (class, model_type) in [
        ("LlamaForCausalLMOfTomorrow", "llama"),
        ("OtherForCausalLM", "llama"),
        ("Qwen2ForTomorrow", "qwen2"),
    ] {
        let error = read(class, model_type).unwrap_err();
        assert!(
            matches!(&error, ModelError::UnknownArchitecture { name, .. } if name == class),
            "{error}"
        );
        // Taking it for a transformer is offered where it may write text.
        let writes = class.ends_with("ForCausalLM");
        assert_eq!(error.to_string().contains("--assume-kv"), writes, "{error}");
    }
    for (class, model_type, architecture) in [
        ("LlamaForCausalLM", "llama", "llama"),
        ("MistralForConditionalGeneration", "mistral", "llama"),
        ("Qwen3LMHeadModel", "qwen3", "qwen3"),
    ] {
        assert_eq!(read(class, model_type).as_deref(), Ok(architecture));
    }
}
