//! Weights into files: blocks of rows are dealt to threads, which read, encode and write each at its
//! own place, so the bytes do not depend on who did what when.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use super::error::DirectoryError;
use super::layout::{Place, Prediction};
use crate::checkpoint::{Checkpoint, StoredTensor};
use crate::dtype::Dtype;
use crate::model::{FoldedWeight, ModelSpec};
use crate::quantize::blocks::half::{bf16_to_f32, f32_to_bf16};
use crate::quantize::fp8::{self, e4m3_to_f32};
use crate::quantize::int4;
use crate::quantize::packed::{Files, Weight};
use crate::quantize::tally::plain_deviation;
use crate::quantize::{OutputError, Progress, Tally};
use crate::scheme::{Reason, StoredWeight};
use crate::units::Bytes;

/// Values (or bytes that are only copied) in one piece of work.
const BLOCK: u64 = 1 << 20;

/// Where a weight comes from.
pub(super) enum Source<'a> {
    /// Its bytes as they are.
    Bytes(&'a Files, &'a StoredTensor),
    /// Its values.
    Values(Box<Weight<'a>>),
}

/// Opens every weight, before anything is written.
pub(super) fn open<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &ModelSpec,
    plan: &Prediction,
) -> Result<Vec<Source<'a>>, DirectoryError> {
    let open = |(logical, planned): (&FoldedWeight, &StoredWeight)| {
        let stored = logical.sources.first();
        let stored = stored.and_then(|&index| checkpoint.tensors.get(index as usize));
        if let (true, Some(tensor)) = (planned.verbatim, stored) {
            return Ok(Source::Bytes(files, tensor));
        }
        let weight = Weight::open(checkpoint, files, logical)?;
        match weight.shape() == planned.shape {
            true => Ok(Source::Values(Box::new(weight))),
            false => Err(DirectoryError::Shape {
                tensor: logical.name.clone(),
                found: weight.shape().to_vec(),
                expected: planned.shape.clone(),
            }),
        }
    };
    model.stored.iter().zip(&plan.weights).map(open).collect()
}

/// A block of one weight's rows, or of its bytes.
struct Piece {
    weight: usize,
    range: Range<u64>,
}

/// Writes the weight files into `directory`.
pub(super) fn run(
    sources: &[Source<'_>],
    plan: &Prediction,
    directory: &Path,
    threads: usize,
    cancel: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Vec<Tally>, DirectoryError> {
    let mut outputs = Vec::with_capacity(plan.shards.len());
    for shard in &plan.shards {
        let path = directory.join(&shard.name);
        let made = File::create(&path).and_then(|file| {
            file.set_len(shard.bytes.0)?;
            write_all_at(&file, &shard.header, 0)?;
            Ok(file)
        });
        match made {
            Ok(file) => outputs.push(file),
            Err(source) => return Err(OutputError::Io { path, source }.into()),
        }
    }
    let pieces: Vec<Piece> = sources.iter().enumerate().flat_map(pieces).collect();
    // Pieces of each weight that are still to come.
    let mut left: Vec<AtomicUsize> = Vec::new();
    left.resize_with(sources.len(), AtomicUsize::default);
    for piece in &pieces {
        if let Some(left) = left.get(piece.weight) {
            left.fetch_add(1, Ordering::Relaxed);
        }
    }
    let (next, written) = (AtomicUsize::new(0), AtomicU64::new(0));
    let complete = AtomicUsize::new(0);
    let failure: Mutex<Option<DirectoryError>> = Mutex::new(None);
    let stop = AtomicBool::new(false);
    let work = || {
        let mut done: Vec<(usize, Tally)> = Vec::new();
        let mut room = Room::default();
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(piece) = pieces.get(index) else {
                break;
            };
            let result = match cancel.load(Ordering::Relaxed) {
                true => Err(DirectoryError::Cancelled),
                false => one(piece, sources, plan, &outputs, directory, &mut room),
            };
            match result {
                Ok((tally, bytes)) => {
                    done.push((index, tally));
                    let written = written.fetch_add(bytes, Ordering::Relaxed) + bytes;
                    let left = left.get(piece.weight);
                    let last = left.is_some_and(|n| n.fetch_sub(1, Ordering::Relaxed) == 1);
                    let before = complete.fetch_add(usize::from(last), Ordering::Relaxed);
                    progress(Progress {
                        bytes: Bytes(written),
                        tensors: before + usize::from(last),
                    });
                }
                Err(error) => {
                    stop.store(true, Ordering::Relaxed);
                    if let Ok(mut failure) = failure.lock() {
                        failure.get_or_insert(error);
                    }
                }
            }
        }
        done
    };
    let mut done: Vec<(usize, Tally)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for worker in workers {
            match worker.join() {
                Ok(more) => done.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    if let Some(error) = failure.into_inner().ok().flatten() {
        return Err(error);
    }
    // Sums in the order of the pieces are the same however they were dealt out.
    done.sort_by_key(|(index, _)| *index);
    let mut tallies = vec![Tally::default(); sources.len()];
    for (index, tally) in done {
        let weight = pieces.get(index).map(|piece| piece.weight);
        if let Some(sum) = weight.and_then(|weight| tallies.get_mut(weight)) {
            *sum += tally;
        }
    }
    Ok(tallies)
}

fn pieces((weight, source): (usize, &Source<'_>)) -> impl Iterator<Item = Piece> {
    let (count, step) = match source {
        Source::Bytes(_, tensor) => (tensor.bytes.0, 4 * BLOCK),
        Source::Values(values) => (values.rows(), (BLOCK / values.columns().max(1)).max(1)),
    };
    let starts = (0..count.div_ceil(step)).map(move |n| n * step);
    starts.map(move |start| Piece {
        weight,
        range: start..(start + step).min(count),
    })
}

/// Buffers that a thread uses again and again.
#[derive(Default)]
struct Room {
    values: Vec<f32>,
    decoded: Vec<f32>,
    bytes: Vec<u8>,
    scales: Vec<u16>,
}

/// Reads, encodes and writes one piece. Gives what was met and the bytes written.
fn one(
    piece: &Piece,
    sources: &[Source<'_>],
    plan: &Prediction,
    outputs: &[File],
    directory: &Path,
    room: &mut Room,
) -> Result<(Tally, u64), DirectoryError> {
    let (Some(source), Some(planned), Some(place)) = (
        sources.get(piece.weight),
        plan.weights.get(piece.weight),
        plan.places.get(piece.weight),
    ) else {
        return Ok((Tally::default(), 0));
    };
    let mut written = 0;
    let mut put = |part: usize, at: u64, bytes: &[u8]| {
        let (file, offset) = (outputs.get(place.shard), place.offsets.get(part));
        let (Some(file), Some(offset)) = (file, offset) else {
            return Ok(());
        };
        written += bytes.len() as u64;
        write_all_at(file, bytes, offset.saturating_add(at)).map_err(|source| {
            let path = shard_path(plan, place, directory);
            DirectoryError::from(OutputError::Io { path, source })
        })
    };
    let tally = match source {
        Source::Bytes(files, tensor) => {
            room.bytes
                .resize((piece.range.end - piece.range.start) as usize, 0);
            files.read(tensor, piece.range.start, &mut room.bytes)?;
            put(0, piece.range.start, &room.bytes)?;
            Tally::default()
        }
        Source::Values(weight) => {
            weight.read(piece.range.clone(), &mut room.values)?;
            let (first, columns) = (piece.range.start, weight.columns());
            match (planned.assigned.reason, planned.assigned.dtype) {
                (Reason::Default, Dtype::INT4) => {
                    let tally = encode_int4(columns as usize, room);
                    put(0, first * (columns / 2), &room.bytes)?;
                    put(1, first * (columns / 128) * 2, &le_bytes(&room.scales))?;
                    if first == 0 {
                        let rows = weight.rows().to_le_bytes();
                        put(2, 0, &[rows, columns.to_le_bytes()].concat())?;
                    }
                    tally
                }
                (Reason::Default, _) => {
                    let tally = encode_fp8(columns as usize, room);
                    put(0, first * columns, &room.bytes)?;
                    put(1, first * 2, &le_bytes(&room.scales))?;
                    tally
                }
                _ => {
                    let halves: Vec<u16> = room.values.iter().map(|&v| f32_to_bf16(v)).collect();
                    put(0, first * columns * 2, &le_bytes(&halves))?;
                    room.decoded.clear();
                    room.decoded.extend(halves.iter().map(|&h| bf16_to_f32(h)));
                    met(columns as usize, room)
                }
            }
        }
    };
    Ok((tally, written))
}

fn encode_int4(columns: usize, room: &mut Room) -> Tally {
    let rows = room.values.len() / columns.max(1);
    let groups = columns / int4::GROUP;
    room.bytes.resize(rows * columns / 2, 0);
    room.scales.resize(rows * groups, 0);
    room.decoded.clear();
    let outputs = room.bytes.chunks_exact_mut((columns / 2).max(1));
    let outputs = outputs.zip(room.scales.chunks_exact_mut(groups.max(1)));
    for (values, (bytes, scales)) in room.values.chunks_exact(columns.max(1)).zip(outputs) {
        int4::encode_row(values, bytes, scales);
        for (group, &scale) in bytes.chunks(int4::GROUP / 2).zip(scales.iter()) {
            let scale = bf16_to_f32(scale);
            let pairs = group.iter().flat_map(|&byte| [byte & 15, byte >> 4]);
            let decoded = pairs.map(|code| (f32::from(code) - 8.0) * scale);
            room.decoded.extend(decoded);
        }
    }
    met(columns, room)
}

fn encode_fp8(columns: usize, room: &mut Room) -> Tally {
    room.bytes.resize(room.values.len(), 0);
    room.scales.clear();
    room.decoded.clear();
    let rows = room.values.chunks_exact(columns.max(1));
    for (values, codes) in rows.zip(room.bytes.chunks_exact_mut(columns.max(1))) {
        let (scale, _) = fp8::encode_row(values, codes);
        room.scales.push(scale);
        let scale = bf16_to_f32(scale);
        let decoded = codes.iter().map(|&code| e4m3_to_f32(code) * scale);
        room.decoded.extend(decoded);
    }
    met(columns, room)
}

/// What the rows in `room` were and have become.
fn met(columns: usize, room: &Room) -> Tally {
    let zeros = |row: &&[f32]| row.iter().all(|&value| value == 0.0);
    Tally {
        deviation: plain_deviation(&room.values, &room.decoded),
        not_finite: room.values.iter().filter(|v| !v.is_finite()).count() as u64,
        zero_rows: room.values.chunks(columns.max(1)).filter(zeros).count() as u64,
        overflow: 0,
    }
}

fn shard_path(plan: &Prediction, place: &Place, directory: &Path) -> PathBuf {
    let shard = plan.shards.get(place.shard);
    shard.map_or_else(|| directory.to_owned(), |shard| directory.join(&shard.name))
}

fn le_bytes(halves: &[u16]) -> Vec<u8> {
    halves.iter().flat_map(|half| half.to_le_bytes()).collect()
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], position: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, position)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut position: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let wrote = std::os::windows::fs::FileExt::seek_write(file, bytes, position)?;
        bytes = bytes.get(wrote..).unwrap_or_default();
        position += wrote as u64;
    }
    Ok(())
}
