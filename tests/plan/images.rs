//! Image encoders against what llama-server printed on an Orin Nano (CUDA, flash attention) and in a report of its users.

use std::path::Path;

use orinplan::dtype::Dtype;
use orinplan::model::Projector;
use orinplan::model::projector::ImageSize;
use orinplan::plan::compute::{ComputeBackend, encoder};
use orinplan::plan::projector::macs;
use orinplan::units::Bytes;
use serde_json::{Value as Json, json};

fn projector(config: &Json, processor: Json) -> Projector {
    Projector::of_hugging_face(config, processor, &[]).unwrap()
}

fn smolvlm_256m(processor: Json) -> Projector {
    let config = json!({
        "model_type": "idefics3",
        "scale_factor": 4,
        "text_config": {"hidden_size": 576},
        "vision_config": {
            "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
            "image_size": 512, "patch_size": 16,
        },
    });
    projector(&config, processor)
}

fn gemma3_4b() -> Projector {
    let config = json!({
        "model_type": "gemma3",
        "text_config": {"hidden_size": 2560},
        "vision_config": {
            "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
            "image_size": 896, "patch_size": 14,
        },
    });
    projector(&config, Json::Null)
}

fn gemma4_e2b() -> Projector {
    let config =
        json!({"model_type": "gemma4", "text_config": {"hidden_size": 1536}, "vision_config": {}});
    projector(&config, Json::Null)
}

fn qwen(model_type: &str, vision: Json) -> Projector {
    let config = json!({"model_type": model_type, "vision_config": vision});
    projector(&config, Json::Null)
}

fn mib(bytes: Bytes) -> f64 {
    bytes.as_f64() / Bytes::MIB.as_f64()
}

/// Weights, the device's buffer and the host's, in MiB.
fn check(
    projector: &Projector,
    image: Option<ImageSize>,
    [weights, device, host]: [f64; 3],
    off: f64,
) {
    let compute = encoder(projector, image, true, ComputeBackend::Cuda);
    let found = [
        mib(projector.bytes(Dtype::F16)),
        mib(compute.device_bytes),
        mib(compute.host_bytes),
    ];
    let near = |found: f64, expect: f64| (found - expect).abs() <= 0.006 + expect * off;
    assert!((found[0] - weights).abs() < 0.006, "{found:?}");
    assert!(near(found[1], device) && near(found[2], host), "{found:?}");
}

#[test]
fn smolvlm_as_logged() {
    // 205.22 in all.
    check(&smolvlm_256m(Json::Null), None, [181.22, 21.0, 3.0], 0.0);
}

#[test]
fn gemma3_as_logged() {
    // 942.23 in all, of which the host has its pixels.
    check(
        &gemma3_4b(),
        None,
        [811.79, 121.25, 942.23 - 811.79 - 121.25],
        0.0,
    );
}

#[test]
fn gemma4_within_a_tenth_of_the_log() {
    let compute = encoder(&gemma4_e2b(), None, true, ComputeBackend::Cuda);
    let device = mib(compute.device_bytes);
    assert!((device / 94.52 - 1.0).abs() < 0.1, "{device}");
}

/// Buffers that llama.cpp's multimodal library reserves on the CPU (build 11549), in MiB: with fused attention, and
/// without. Ours are within a hundredth.
fn near_library(projector: &Projector, expect: [f64; 2]) {
    for (flash_attention, expect) in [true, false].into_iter().zip(expect) {
        let compute = encoder(projector, None, flash_attention, ComputeBackend::Cpu);
        let found = mib(compute.total());
        assert!((found / expect - 1.0).abs() < 0.01, "{found} {expect}");
    }
}

/// Small encoders of every kind, with fused attention (`cargo xtask interop images` measures them anew). Windows have masks
/// over all patches, which are most of what Qwen2.5-VL's take.
#[test]
fn small_encoders_as_the_library() {
    let records = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/projectors");
    for (name, expect) in [
        ("gemma3", 0.22),
        ("gemma4_unified", 15.50),
        ("gemma4_vision", 7.40),
        ("glm4v", 31.71),
        ("kimi_vl", 3.45),
        ("minicpmv", 3.46),
        ("mistral3", 3.87),
        ("qwen2_5_omni", 170.98),
        ("qwen2_5_vl", 168.69),
        ("qwen2_vl", 31.71),
        ("qwen3_5", 40.42),
        ("qwen3_vl", 40.42),
    ] {
        let record = std::fs::read(records.join(format!("{name}.json"))).unwrap();
        let record: Json = serde_json::from_slice(&record).unwrap();
        let projector = projector(&record["config"], record["processor"].clone());
        let compute = encoder(&projector, None, true, ComputeBackend::Cpu);
        let found = mib(compute.total());
        assert!(
            (found - expect).abs() <= 0.006 + 0.01 * expect,
            "{name}: {found} {expect}"
        );
    }
}

fn gemma4(model_type: &str, text: u64, vision: Json, audio: Json) -> Projector {
    let config = json!({
        "model_type": model_type, "text_config": {"hidden_size": text}, "vision_config": vision, "audio_config": audio,
    });
    projector(&config, Json::Null)
}

#[test]
fn gemma4_as_the_library() {
    let audio = json!({"hidden_size": 1024});
    let e2b = gemma4("gemma4", 1536, json!({"use_clipped_linears": true}), audio);
    assert_eq!(format!("{:.2}", mib(e2b.bytes(Dtype::F16))), "939.89");
    // As logged on an Orin Nano.
    assert_eq!(format!("{:.2}", mib(e2b.bytes(Dtype::Q8_0))), "531.44");
    near_library(&e2b, [101.27 + 101.19, 276.77 + 101.19]);

    let vision = json!({
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "head_dim": 72, "standardize": true,
    });
    let large = gemma4("gemma4", 5376, vision, Json::Null);
    assert_eq!(format!("{:.2}", mib(large.bytes(Dtype::F16))), "1143.39");
    near_library(&large, [150.63, 381.39]);

    let audio = json!({"audio_embed_dim": 640});
    let unified = gemma4("gemma4_unified", 3840, json!({"patch_size": 16}), audio);
    assert_eq!(format!("{:.2}", mib(unified.bytes(Dtype::F16))), "116.38");
    near_library(&unified, [13.53 + 58.59; 2]);
}

#[test]
fn llava_as_the_library() {
    let clip = json!({
        "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
        "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
    });
    let config = json!({
        "model_type": "llava", "text_config": {"model_type": "llama"}, "vision_config": clip, "vision_feature_layer": -2,
    });
    let llava = projector(&config, Json::Null);
    assert_eq!(format!("{:.2}", mib(llava.bytes(Dtype::F16))), "595.49");
    near_library(&llava, [21.55, 32.88]);

    let siglip = json!({
        "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26,
        "num_attention_heads": 16, "image_size": 384, "patch_size": 14,
    });
    let config = json!({
        "model_type": "llava_onevision", "text_config": {"hidden_size": 896}, "vision_config": siglip,
        "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        "image_grid_pinpoints": [[384, 384], [384, 768], [768, 384], [768, 768]],
    });
    let onevision = projector(&config, Json::Null);
    assert_eq!(format!("{:.2}", mib(onevision.bytes(Dtype::F16))), "762.88");
    near_library(&onevision, [23.27, 46.94]);
    // The whole and four tiles of 27 x 27 patches.
    let size = ImageSize {
        width: 700,
        height: 700,
    };
    assert_eq!(onevision.image(size).tokens, 5 * 27 * 27);
}

#[test]
fn minicpm_v_as_the_library() {
    let vision = json!({
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 980, "patch_size": 14,
    });
    let config = json!({
        "model_type": "minicpmv4_6", "text_config": {"hidden_size": 1024}, "vision_config": vision,
        "insert_layer_id": 6,
    });
    let minicpm = projector(&config, json!({"scale_resolution": 448}));
    assert_eq!(format!("{:.2}", mib(minicpm.bytes(Dtype::F16))), "1057.36");
    near_library(&minicpm, [34.63, 88.31]);
    // What the library makes of images: tokens, and markers around them.
    let counted = |mode: &str, width, height| {
        let processor = json!({"scale_resolution": 448, "downsample_mode": mode});
        let image = projector(&config, processor).image(ImageSize { width, height });
        (image.tokens, image.markers)
    };
    for (mode, width, height, expect) in [
        ("16x", 448, 448, (64, 2)),
        ("16x", 300, 200, (64, 2)),
        ("16x", 1024, 768, (315, 11)),
        ("16x", 640, 480, (203, 6)),
        ("16x", 1920, 1080, (578, 19)),
        ("16x", 500, 3000, (501, 22)),
        ("16x", 2000, 300, (303, 10)),
        ("16x", 111, 460, (160, 7)),
        ("4x", 448, 448, (256, 2)),
        ("4x", 300, 200, (260, 2)),
        ("4x", 1920, 1080, (2292, 19)),
        ("4x", 37, 900, (237, 2)),
    ] {
        assert_eq!(
            counted(mode, width, height),
            expect,
            "{mode} {width}x{height}"
        );
    }
}

#[test]
fn minicpm_v_with_a_resampler_as_the_library() {
    let vision = json!({
        "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
        "image_size": 980, "patch_size": 14,
    });
    let config = json!({
        "model_type": "minicpmv", "version": 4.5, "hidden_size": 4096, "query_num": 64, "image_size": 448,
        "vision_config": vision,
    });
    let minicpm = projector(&config, Json::Null);
    assert_eq!(format!("{:.2}", mib(minicpm.bytes(Dtype::F16))), "1044.36");
    near_library(&minicpm, [62.81, 84.31]);
    let image = minicpm.image(ImageSize {
        width: 640,
        height: 480,
    });
    assert_eq!((image.tokens, image.markers), (64 * 3, 6));
    // A model of this class of which nothing is known is not taken for another.
    let mut config = config;
    config["version"] = json!(5.0);
    assert!(Projector::of_hugging_face(&config, Json::Null, &[]).is_err());
}

/// Encoders of published widths with four blocks (eight of the windowed one), beside text models as wide.
#[test]
fn encoders_of_published_widths_as_the_library() {
    let mut ministral = json!({
        "model_type": "mistral3", "text_config": {"hidden_size": 3072}, "spatial_merge_size": 2,
        "vision_config": {
            "model_type": "pixtral", "hidden_act": "silu", "hidden_size": 1024, "image_size": 1540,
            "intermediate_size": 4096, "num_attention_heads": 16, "num_hidden_layers": 4, "patch_size": 14,
        },
    });
    let blocks = ministral["vision_config"]["num_hidden_layers"].clone();
    ministral["vision_config"]["num_hidden_layers"] = json!(24);
    // As published, and the embedding between rows.
    let whole = projector(&ministral, Json::Null);
    assert_eq!(whole.parameters(), 420_083_712 + 3072);
    ministral["vision_config"]["num_hidden_layers"] = blocks;
    let ministral = projector(&ministral, Json::Null);
    near_library(&ministral, [64.49, 86.49]);
    // Rows of 37 tokens, and one token more behind each but the last.
    let size = ImageSize {
        width: 1024,
        height: 768,
    };
    let image = ministral.image(size);
    assert_eq!((image.tokens, image.markers), (37 * 27 + 26, 1));

    let glm = json!({"model_type": "glm4v", "text_config": {"hidden_size": 4096}, "vision_config": {"depth": 4}});
    near_library(&projector(&glm, Json::Null), [515.05, 3645.66]);

    let kimi = json!({"model_type": "kimi_vl", "text_config": {"hidden_size": 2048}, "vision_config": {"num_hidden_layers": 4}});
    near_library(&projector(&kimi, Json::Null), [34.87, 88.80]);

    let vision = json!({
        "hidden_size": 1408, "image_size": 336, "intermediate_size": 5632, "num_attention_heads": 16, "patch_size": 14,
        "num_hidden_layers": 4, "projector_input_dim": 4096, "projector_output_dim": 4096, "vision_output_dim": 4096,
    });
    let llama = json!({"model_type": "llama4", "text_config": {"hidden_size": 5120}, "vision_config": vision});
    near_library(&projector(&llama, Json::Null), [19.89, 37.11]);

    let omni = json!({
        "model_type": "qwen2_5_omni",
        "thinker_config": {
            "text_config": {"hidden_size": 3584}, "vision_config": {"depth": 8, "fullatt_block_indexes": [7]},
            "audio_config": {"d_model": 1280, "encoder_layers": 4},
        },
    });
    let omni = projector(&omni, Json::Null);
    near_library(&omni, [569.70 + 51.27, 4871.57 + 200.96]);
}

/// An encoder of sounds beside it takes no part in looking.
#[test]
fn images_cost_as_much_beside_an_encoder_of_sounds() {
    let size = ImageSize {
        width: 576,
        height: 576,
    };
    let of = |audio: Json| {
        let vision = json!({"use_clipped_linears": true});
        macs(&gemma4("gemma4", 1536, vision, audio), size)
    };
    assert_eq!(of(json!({"hidden_size": 1024})), of(Json::Null));
}

#[test]
fn gemma4_with_sound_within_a_tenth_of_the_log() {
    // 790.49 in all, of which weights are 531.44; the host has pixels, positions and sound. That release kept what
    // convolutions see in F32, whatever their weights were.
    let audio = json!({"hidden_size": 1024});
    let mut projector = gemma4("gemma4", 1536, json!({}), audio);
    if let Some(audio) = &mut projector.audio {
        audio.wide_windows = true;
    }
    let compute = encoder(&projector, None, true, ComputeBackend::Cuda);
    let device = mib(compute.device_bytes);
    assert!((device / (94.52 + 153.93) - 1.0).abs() < 0.1, "{device}");
    let all = mib(compute.total());
    assert!((all / (790.49 - 531.44) - 1.0).abs() < 0.1, "{all}");
}

#[test]
fn an_encoder_of_1472_pixels_as_reported() {
    // llama.cpp #18111: 888 MiB of weights, 248 + 25 MiB at 1472 x 1472.
    let projector = qwen("qwen3_5", json!({"depth": 27, "out_hidden_size": 5120}));
    assert_eq!(
        projector.reserved(),
        ImageSize {
            width: 1472,
            height: 1472
        }
    );
    let compute = encoder(&projector, None, true, ComputeBackend::Cuda);
    assert_eq!(mib(compute.device_bytes).round(), 248.0);
    assert_eq!(mib(compute.host_bytes).round(), 25.0);
    let weights = mib(projector.bytes(Dtype::F16));
    assert!((weights / 888.0 - 1.0).abs() < 0.01, "{weights}");
}

#[test]
fn a_larger_image_takes_more_than_what_is_reserved() {
    let projector = qwen("qwen3_vl", json!({"out_hidden_size": 4096}));
    let of = |width, height| {
        let image = Some(ImageSize { width, height });
        encoder(&projector, image, true, ComputeBackend::Cuda).total()
    };
    let reserved = encoder(&projector, None, true, ComputeBackend::Cuda).total();
    assert_eq!(of(640, 480), reserved);
    assert!(of(2000, 1500) > reserved);
    // Above 4096 tokens an image is made smaller.
    let large = projector.image(ImageSize {
        width: 8000,
        height: 6000,
    });
    assert_eq!(large.tokens, 73 * 55);
}

#[test]
fn without_flash_attention_the_scores_are_held() {
    let projector = smolvlm_256m(Json::Null);
    let compute = encoder(&projector, None, false, ComputeBackend::Cuda);
    // 12 heads of 1024 x 1024 scores.
    assert!(mib(compute.device_bytes) > 48.0);
}

#[test]
fn tokens_of_images() {
    let tokens =
        |projector: &Projector, width, height| projector.image(ImageSize { width, height }).tokens;
    let tile = smolvlm_256m(Json::Null);
    assert_eq!(tile.image(tile.reserved()).tokens, 64 * 2);
    let smolvlm = smolvlm_256m(json!({"size": {"longest_edge": 2048}}));
    assert_eq!(tokens(&smolvlm, 1024, 768), 64 * (4 * 3 + 1));
    assert_eq!(tokens(&smolvlm, 768, 1024), 64 * (3 * 4 + 1));
    assert_eq!(tokens(&gemma3_4b(), 1024, 768), 256);
    assert_eq!(tokens(&gemma4_e2b(), 576, 576), 144);
    let qwen2_5 = qwen("qwen2_5_vl", json!({}));
    assert_eq!(tokens(&qwen2_5, 1024, 768), 37 * 27);
    let qwen3 = qwen("qwen3_vl", json!({}));
    assert_eq!(tokens(&qwen3, 1024, 768), 32 * 24);
    assert_eq!(tokens(&qwen3, 16, 16), 3 * 3);
}
