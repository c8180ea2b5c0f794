//! One pass of llama.cpp's audio encoder as a list of tensor sizes: the convolutions that make moments fewer, blocks, and
//! what maps them to the text model.
//!
//! Sources: `tools/mtmd/models/gemma4a.cpp`, `gemma4ua.cpp`, `whisper-enc.cpp` and `clip.cpp` of llama.cpp (`get_dummy_batch`). As in
//! `graph`, operations that work in place on their only reader's input are left out.

use super::ComputeBackend;
use super::graph::{f32_bytes, graph_of};
use super::heads::attended;
use super::tensors::{Graph, Id, Pool};
use crate::model::projector::{Audio, AudioPass};

/// Moments that llama.cpp reserves memory for at the start.
const MOMENTS: u64 = 3000;

/// Moments that attend to each other, and those before them that they see.
const CHUNK: u64 = 12;
const BEFORE: u64 = 12;

/// The pass of an audio encoder over what is reserved for it.
pub(super) fn graph(
    audio: &Audio,
    pass: AudioPass,
    flash_attention: bool,
    backend: ComputeBackend,
) -> Graph {
    let mut graph = graph_of(backend);
    let raw = graph.input(f32_bytes(audio.bins, MOMENTS));
    let mut inputs = vec![raw];
    let moments = audio.planes.iter().fold(MOMENTS, |n, _| n.div_ceil(2));
    if pass == AudioPass::Conformer {
        inputs.push(graph.input(f32_bytes(audio.width, BEFORE + 1)));
        let mask = (CHUNK + BEFORE) * CHUNK;
        inputs.push(graph.input(f32_bytes(mask, moments.div_ceil(CHUNK))));
    }
    if backend == ComputeBackend::Cuda {
        graph.pool = Pool::Device;
        for input in &mut inputs {
            *input = graph.own(graph.bytes(*input), &[*input]);
        }
    }
    match (pass, inputs.as_slice()) {
        (AudioPass::Conformer, &[raw, positions, mask]) => {
            let mut stream = convolved(&mut graph, audio, raw);
            for _ in 0..audio.blocks {
                stream = block(&mut graph, audio, moments, stream, (positions, mask));
            }
            graph.stage = "projection";
            let out = graph.own(f32_bytes(audio.output, moments), &[stream]);
            graph.own(f32_bytes(audio.text, moments), &[out]);
        }
        (AudioPass::Whisper, &[raw]) => whisper(&mut graph, audio, raw, flash_attention),
        _ => {
            let pieces = graph.own(f32_bytes(audio.bins, MOMENTS), &inputs);
            graph.own(f32_bytes(audio.text, MOMENTS), &[pieces]);
        }
    }
    graph
}

/// Two convolutions, of which the second makes the moments half as many, blocks, and one matrix.
fn whisper(graph: &mut Graph, audio: &Audio, raw: Id, flash_attention: bool) {
    graph.stage = "convolutions";
    let (mut stream, mut moments, mut inputs) = (raw, MOMENTS, audio.bins);
    for step in [1, 2] {
        moments /= step;
        // Windows of three moments beside each other, in F16.
        let windows = inputs.saturating_mul(3).saturating_mul(moments);
        let windows = graph.own(windows.saturating_mul(2), &[stream]);
        let product = graph.own(f32_bytes(audio.width, moments), &[windows]);
        stream = graph.in_place(&[product]);
        inputs = audio.width;
    }
    let row = f32_bytes(audio.width, moments);
    stream = graph.own(row, &[stream]);
    let scores = f32_bytes(moments * moments, audio.heads);
    for _ in 0..audio.blocks {
        graph.stage = "attention";
        let normed = graph.own(row, &[stream]);
        let parts = [0; 3].map(|_| graph.own(row, &[normed]));
        let attended = attended(graph, flash_attention, scores, parts, None);
        let out = graph.own(row, &[attended]);
        stream = graph.in_place(&[out, stream]);
        stream = feed_forward(graph, audio, moments, stream);
    }
    graph.stage = "projection";
    let normed = graph.own(row, &[stream]);
    graph.own(f32_bytes(audio.text, moments), &[normed]);
}

/// The spectrum of all moments to the rows of the blocks.
fn convolved(graph: &mut Graph, audio: &Audio, raw: Id) -> Id {
    graph.stage = "convolutions";
    let mut stream = graph.own(graph.bytes(raw), &[raw]);
    let (mut bins, mut moments, mut before) = (audio.bins, MOMENTS, 1u64);
    for &planes in &audio.planes {
        (bins, moments) = (bins.div_ceil(2), moments.div_ceil(2));
        // Windows of three by three beside each other, the product, and its planes put in order.
        let windows = f32_bytes(before.saturating_mul(9), bins * moments);
        let windows = if audio.wide_windows {
            windows
        } else {
            windows / 2
        };
        let windows = graph.own(windows, &[stream]);
        let all = f32_bytes(planes, bins * moments);
        let product = graph.own(all, &[windows]);
        let ordered = graph.own(all, &[product]);
        // A norm over the planes of a place, between two changes of order.
        let columns = graph.own(all, &[ordered]);
        let normed = graph.own(all, &[columns]);
        stream = graph.own(all, &[normed]);
        before = planes;
    }
    let rows = graph.own(graph.bytes(stream), &[stream]);
    graph.own(f32_bytes(audio.width, moments), &[rows])
}

/// A block: half a feed-forward, attention, a convolution, half a feed-forward, a norm.
fn block(graph: &mut Graph, audio: &Audio, moments: u64, stream: Id, (at, mask): (Id, Id)) -> Id {
    let row = f32_bytes(audio.width, moments);
    let stream = feed_forward(graph, audio, moments, stream);

    graph.stage = "attention";
    let (width, chunks) = (audio.width, moments.div_ceil(CHUNK));
    let seen = CHUNK + BEFORE;
    let normed = graph.own(row, &[stream]);
    let [query, key, value] = [0; 3].map(|_| graph.own(row, &[normed]));
    let padded = f32_bytes(width, chunks * CHUNK);
    let query = graph.own(padded, &[query]);
    let query = graph.own(padded, &[query]);
    // The moments that each chunk sees, beside each other.
    let windows = f32_bytes(width, chunks * seen);
    let seen_by =
        |graph: &mut Graph, of: Id| (0..3).fold(of, |from, _| graph.own(windows, &[from]));
    let key = seen_by(graph, key);
    let value = seen_by(graph, value);
    let each = chunks * CHUNK * audio.heads;
    let scores = graph.own(f32_bytes(seen, each), &[key, query]);
    let places = f32_bytes(width, BEFORE + 1);
    let positions = graph.own(places, &[at]);
    let positions = graph.own(places, &[positions]);
    let shifted = graph.own(f32_bytes(BEFORE + 1, each), &[positions, query]);
    let shifted = graph.own(f32_bytes(seen + 1, each), &[shifted]);
    let shifted = graph.own(f32_bytes(seen, each), &[shifted]);
    let scores = graph.in_place(&[scores, shifted]);
    let weights = graph.in_place(&[scores, mask]);
    let mixed = graph.own(padded, &[value, weights]);
    let mixed = graph.own(padded, &[mixed]);
    let mixed = graph.own(padded, &[mixed]);
    let mixed = graph.own(row, &[mixed]);
    let out = graph.own(row, &[mixed]);
    let stream = graph.in_place(&[stream, out]);

    graph.stage = "convolution";
    let normed = graph.own(row, &[stream]);
    let both = graph.own(row.saturating_mul(2), &[normed]);
    let gate = graph.own(row, &[both]);
    let value = graph.own(row, &[both, gate]);
    let value = graph.own(row, &[value]);
    let padded = graph.own(f32_bytes(width, moments + 4), &[value]);
    let seen = graph.own(row, &[padded]);
    let out = graph.own(row, &[seen]);
    let stream = graph.in_place(&[stream, out]);

    let stream = feed_forward(graph, audio, moments, stream);
    graph.in_place(&[stream])
}

fn feed_forward(graph: &mut Graph, audio: &Audio, moments: u64, stream: Id) -> Id {
    graph.stage = "feed-forward";
    let row = f32_bytes(audio.width, moments);
    let normed = graph.own(row, &[stream]);
    let up = graph.own(f32_bytes(audio.inner, moments), &[normed]);
    let down = graph.own(row, &[up]);
    graph.in_place(&[stream, down])
}
