//! What llama.cpp (0.5.0-dev, CPU backend) printed for eleven shapes in seventeen settings, and the
//! shapes as models. Figures are MiB with its two decimals; -1 where it was not asked.

use crate::dtype::Dtype;
use crate::model::{Attention, Cache, Dims, FeedForward, Layer, Mixer, ModelSpec, Quirks};
use crate::plan::kv::KvSettings;

/// A model of equal layers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) layers: usize,
    /// Leading layers with a cache of their own.
    pub(super) own_cache: usize,
    pub(super) hidden: u64,
    pub(super) vocab: u64,
    pub(super) heads: u64,
    pub(super) kv_heads: u64,
    pub(super) head_dim: u64,
    pub(super) inner: u64,
    /// Window, and the period whose last layer sees everything.
    pub(super) window: Option<(u64, usize)>,
    pub(super) streams: u64,
    pub(super) per_layer: u64,
}

impl Shape {
    pub(super) fn model(&self) -> ModelSpec {
        let layer = |index: usize| Layer {
            mixer: Mixer {
                attention: Some(Attention {
                    heads: self.heads,
                    kv_heads: self.kv_heads,
                    key_dim: self.head_dim,
                    value_dim: self.head_dim,
                    window: self.window.filter(|w| index % w.1 != w.1 - 1).map(|w| w.0),
                    cache: if index < self.own_cache {
                        Cache::Own
                    } else {
                        Cache::Shared
                    },
                }),
                recurrent: None,
            },
            feed_forward: FeedForward::Dense { inner: self.inner },
        };
        let mut model = model(
            self.hidden,
            self.vocab,
            (0..self.layers).map(layer).collect(),
        );
        model.dims.streams = self.streams;
        model.dims.per_layer_embedding = self.per_layer;
        model
    }
}

/// A model of these layers and nothing else.
pub(super) fn model(hidden: u64, vocab: u64, layers: Vec<Layer>) -> ModelSpec {
    ModelSpec {
        ahead: 0,
        forward: Err(String::new()),
        stored: Vec::new(),
        name: String::new(),
        architecture: String::new(),
        quirks: Quirks::NONE,
        parameters: 0,
        source: crate::checkpoint::SourceFormat::Config,
        dims: Dims {
            blocks: layers.len() as u64,
            hidden,
            vocab,
            context: 32768,
            per_layer_embedding: 0,
            streams: 1,
            experts: 0,
        },
        layers,
        tensors: Vec::new(),
        towers: Vec::new(),
        projector: None,
        projector_problem: None,
        left_out: Vec::new(),
        tied: true,
        assumed: None,
        prequantized: None,
        config: serde_json::Value::Null,
        retrieval: None,
        served_context: None,
    }
}

/// One model's figures, in the order of [`settings`].
pub(super) struct Golden {
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) full: [f64; 17],
    pub(super) window: [f64; 17],
    pub(super) compute: [f64; 17],
}

/// The seventeen settings.
pub(super) fn settings() -> [KvSettings; 17] {
    use Dtype::{F16, Q4_0, Q8_0};
    let one = |context, ubatch, type_k, type_v, parallel, flash_attention| KvSettings {
        context,
        ubatch,
        type_k,
        type_v,
        parallel,
        flash_attention,
        ..KvSettings::default()
    };
    [
        one(512, 512, F16, F16, 1, true),
        one(2048, 512, F16, F16, 1, true),
        one(4096, 512, F16, F16, 1, true),
        one(8192, 512, F16, F16, 1, true),
        one(16384, 512, F16, F16, 1, true),
        one(32768, 512, F16, F16, 1, true),
        one(8192, 64, F16, F16, 1, true),
        one(8192, 128, F16, F16, 1, true),
        one(8192, 256, F16, F16, 1, true),
        one(8192, 1024, F16, F16, 1, true),
        one(8192, 512, Q8_0, Q8_0, 1, true),
        one(8192, 512, Q4_0, Q4_0, 1, true),
        one(8192, 512, Q8_0, Q4_0, 1, true),
        one(8192, 512, F16, F16, 2, true),
        one(8192, 512, F16, F16, 4, true),
        one(2048, 512, F16, F16, 1, false),
        one(8192, 512, F16, F16, 1, false),
    ]
}

pub(super) static GOLDEN: &[Golden] = &[
    Golden {
        name: "Qwen2.5-0.5B-Instruct",
        shape: Shape {
            layers: 24,
            own_cache: 24,
            hidden: 896,
            vocab: 151936,
            heads: 14,
            kv_heads: 2,
            head_dim: 64,
            inner: 4864,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            6.0, 24.0, 48.0, 96.0, 192.0, 384.0, 96.0, 96.0, 96.0, 96.0, 51.0, 27.0, 39.0, 96.0,
            96.0, 24.0, 96.0,
        ],
        window: [0.0; 17],
        compute: [
            300.25, 300.25, 300.25, 300.25, 300.25, 300.25, 37.53, 75.06, 150.13, 600.5, 302.0,
            302.0, 302.0, 300.25, 300.25, 300.25, 302.0,
        ],
    },
    Golden {
        name: "Qwen3-0.6B",
        shape: Shape {
            layers: 28,
            own_cache: 28,
            hidden: 1024,
            vocab: 151936,
            heads: 16,
            kv_heads: 8,
            head_dim: 128,
            inner: 3072,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            56.0, 224.0, 448.0, 896.0, 1792.0, 3584.0, 896.0, 896.0, 896.0, 896.0, 476.0, 252.0,
            364.0, 896.0, 896.0, 224.0, 896.0,
        ],
        window: [0.0; 17],
        compute: [
            309.26, 300.75, 312.76, 300.75, 320.75, 300.75, 37.59, 75.19, 150.38, 601.5, 300.75,
            300.75, 300.75, 312.76, 300.75, 300.75, 302.75,
        ],
    },
    Golden {
        name: "Qwen3-1.7B",
        shape: Shape {
            layers: 28,
            own_cache: 28,
            hidden: 2048,
            vocab: 151936,
            heads: 16,
            kv_heads: 8,
            head_dim: 128,
            inner: 6144,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            56.0, 224.0, 448.0, 896.0, 1792.0, 3584.0, 896.0, 896.0, 896.0, 896.0, 476.0, 252.0,
            364.0, 896.0, 896.0, 224.0, 896.0,
        ],
        window: [0.0; 17],
        compute: [
            304.75, 304.75, 304.75, 304.75, 304.75, 304.75, 38.09, 76.19, 152.38, 609.5, 308.75,
            308.75, 308.75, 304.75, 304.75, 304.75, 308.75,
        ],
    },
    Golden {
        name: "Qwen3-4B",
        shape: Shape {
            layers: 36,
            own_cache: 36,
            hidden: 2560,
            vocab: 151936,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            inner: 9728,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            72.0, 288.0, 576.0, 1152.0, 2304.0, 4608.0, 1152.0, 1152.0, 1152.0, 1152.0, 612.0,
            324.0, 468.0, 1152.0, 1152.0, 288.0, 1152.0,
        ],
        window: [0.0; 17],
        compute: [
            306.75, 306.75, 306.75, 306.75, 306.75, 306.75, 38.34, 76.69, 153.38, 613.5, 311.75,
            311.75, 311.75, 306.75, 306.75, 306.75, 563.01,
        ],
    },
    Golden {
        name: "Llama-3.2-1B-Instruct",
        shape: Shape {
            layers: 16,
            own_cache: 16,
            hidden: 2048,
            vocab: 128256,
            heads: 32,
            kv_heads: 8,
            head_dim: 64,
            inner: 8192,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            16.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 256.0, 256.0, 256.0, 256.0, 136.0, 72.0,
            104.0, 256.0, 256.0, 64.0, 256.0,
        ],
        window: [0.0; 17],
        compute: [
            258.5, 258.5, 258.5, 258.5, 258.5, 258.5, 32.31, 64.63, 129.25, 517.0, 262.5, 262.5,
            262.5, 258.5, 258.5, 258.5, 550.01,
        ],
    },
    Golden {
        name: "Llama-3.1-8B-Instruct",
        shape: Shape {
            layers: 32,
            own_cache: 32,
            hidden: 4096,
            vocab: 128256,
            heads: 32,
            kv_heads: 8,
            head_dim: 128,
            inner: 14336,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 1024.0, 1024.0, 1024.0, 1024.0, 544.0,
            288.0, 416.0, 1024.0, 1024.0, 256.0, 1024.0,
        ],
        window: [0.0; 17],
        compute: [
            266.5, 266.5, 266.5, 266.5, 266.5, 266.5, 33.31, 66.63, 133.25, 533.0, 274.5, 274.5,
            274.5, 266.5, 266.5, 266.5, 572.01,
        ],
    },
    Golden {
        name: "SmolLM2-135M-Instruct",
        shape: Shape {
            layers: 30,
            own_cache: 30,
            hidden: 576,
            vocab: 49152,
            heads: 9,
            kv_heads: 3,
            head_dim: 64,
            inner: 1536,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            11.25, 45.0, 90.0, 180.0, 360.0, 720.0, 180.0, 180.0, 180.0, 180.0, 95.62, 50.62,
            73.12, 180.0, 180.0, -1.0, -1.0,
        ],
        window: [0.0; 17],
        compute: [
            98.25, 102.51, 98.25, 98.25, 98.25, 98.25, 12.28, 24.56, 49.13, 196.5, 99.38, 99.38,
            99.38, 98.25, 102.51, -1.0, -1.0,
        ],
    },
    Golden {
        name: "TinyLlama-1.1B-Chat-v1.0",
        shape: Shape {
            layers: 22,
            own_cache: 22,
            hidden: 2048,
            vocab: 32000,
            heads: 32,
            kv_heads: 4,
            head_dim: 64,
            inner: 5632,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            11.0, 44.0, 88.0, 176.0, 352.0, 704.0, 176.0, 176.0, 176.0, 176.0, 93.5, 49.5, 71.5,
            176.0, 176.0, 44.0, -1.0,
        ],
        window: [0.0; 17],
        compute: [
            70.5, 70.5, 70.5, 70.5, 70.5, 81.01, 8.81, 17.63, 35.25, 141.0, 74.5, 74.5, 74.5, 70.5,
            70.5, 153.01, -1.0,
        ],
    },
    Golden {
        name: "gemma-3-1b-it",
        shape: Shape {
            layers: 26,
            own_cache: 26,
            hidden: 1152,
            vocab: 262144,
            heads: 4,
            kv_heads: 1,
            head_dim: 256,
            inner: 6912,
            window: Some((512, 6)),
            streams: 1,
            per_layer: 0,
        },
        full: [
            2.0, 8.0, 16.0, 32.0, 64.0, 128.0, 32.0, 32.0, 32.0, 32.0, 17.0, 9.0, 13.0, 32.0, 32.0,
            8.0, 32.0,
        ],
        window: [
            11.0, 22.0, 22.0, 22.0, 22.0, 22.0, 16.5, 16.5, 16.5, 33.0, 11.69, 6.19, 8.94, 44.0,
            88.0, 22.0, 22.0,
        ],
        compute: [
            516.5, 518.75, 516.5, 516.5, 518.75, 516.5, 64.56, 129.13, 258.25, 1033.0, 516.5,
            516.5, 516.5, 516.5, 518.75, 516.5, 516.5,
        ],
    },
    Golden {
        name: "SmolLM3-3B",
        shape: Shape {
            layers: 36,
            own_cache: 36,
            hidden: 2048,
            vocab: 128256,
            heads: 16,
            kv_heads: 4,
            head_dim: 128,
            inner: 11008,
            window: None,
            streams: 1,
            per_layer: 0,
        },
        full: [
            36.0, 144.0, 288.0, 576.0, 1152.0, 2304.0, 576.0, 576.0, 576.0, 576.0, 306.0, 162.0,
            234.0, -1.0, 576.0, 144.0, 576.0,
        ],
        window: [0.0; 17],
        compute: [
            258.5, 258.5, 258.5, 258.5, 258.5, 258.5, 32.31, 64.63, 129.25, 517.0, 262.5, 262.5,
            262.5, -1.0, 258.5, 258.5, 294.01,
        ],
    },
    Golden {
        name: "gemma-3n-E2B-it-text",
        shape: Shape {
            layers: 30,
            own_cache: 20,
            hidden: 2048,
            vocab: 262400,
            heads: 8,
            kv_heads: 2,
            head_dim: 256,
            inner: 8192,
            window: Some((512, 5)),
            streams: 4,
            per_layer: 256,
        },
        full: [
            4.0, 16.0, 32.0, 64.0, 128.0, 256.0, 64.0, 64.0, 64.0, 64.0, 34.0, 18.0, 26.0, 64.0,
            64.0, 16.0, 64.0,
        ],
        window: [
            16.0, 32.0, 32.0, 32.0, 32.0, 32.0, 24.0, 24.0, 24.0, 48.0, 17.0, 9.0, 13.0, 64.0,
            128.0, 32.0, 32.0,
        ],
        compute: [
            521.52, 523.52, 525.52, 520.5, 520.5, 540.5, 65.06, 130.13, 260.25, 1041.0, 520.5,
            520.5, 520.5, 525.52, 523.52, 520.5, 524.5,
        ],
    },
];
