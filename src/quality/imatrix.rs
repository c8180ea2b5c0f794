//! Collects the activation sums of an importance matrix while a text is evaluated.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Chunks, QualityError};
use crate::decode::{DecodeError, MatrixName, Model, Observer};
use crate::quantize::ActivationSums;

/// Sums over chunks that were evaluated whole, and over the one that is being evaluated: an interruption leaves that out.
#[derive(Debug, Default)]
struct Sums {
    whole: ActivationSums,
    begun: ActivationSums,
}

/// The head, and a tied embedding in its place.
const OUTPUTS: [&str; 2] = ["output.weight", "token_embd.weight"];

/// Sums squares of what the weights of blocks are multiplied with, and of the head if asked for.
#[derive(Debug)]
pub struct Collector {
    /// Whether the head is collected.
    output: bool,
    sums: Mutex<Sums>,
    stopped: AtomicBool,
    /// Ends an evaluation when it becomes true.
    cancel: Arc<AtomicBool>,
}

impl Collector {
    /// Nothing yet. `output` says whether the head is collected too, `cancel` ends the evaluation.
    pub fn new(output: bool, cancel: Arc<AtomicBool>) -> Collector {
        Collector {
            output,
            sums: Mutex::default(),
            stopped: AtomicBool::new(false),
            cancel,
        }
    }

    /// Collects no more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Counts the chunk that was evaluated.
    fn end_chunk(&self) {
        let Sums { whole, begun } = &mut *self.sums();
        begun.move_into(whole);
    }

    fn sums(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Collector {
    fn inputs(
        &self,
        matrices: &[MatrixName<'_>],
        rows: &[f32],
        columns: usize,
    ) -> Result<(), DecodeError> {
        if self.stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut sums = self.sums();
        for name in matrices {
            let is_output = OUTPUTS.contains(&name.tensor);
            if name.tensor.starts_with("blk.") || self.output && is_output {
                let stack = [name.member, name.members];
                sums.begun
                    .add(name.tensor, stack, name.is_routed, rows, columns);
            }
        }
        if self.cancel.load(Ordering::Relaxed) {
            Err(DecodeError::Cancelled)
        } else {
            Ok(())
        }
    }
}

/// Evaluates `chunks` with `model`, which was loaded with `collector`. Returns the sums over them; after an
/// interruption those over what was evaluated, where that is a chunk at least. `progress` is told how many were.
///
/// # Errors
/// [`QualityError`]: the model cannot evaluate them, or nothing was evaluated when it was interrupted.
pub fn collect(
    model: &mut Model,
    collector: &Collector,
    chunks: &Chunks,
    progress: &mut dyn FnMut(usize),
) -> Result<ActivationSums, QualityError> {
    let mut evaluated = 0;
    for tokens in &chunks.chunks {
        model.reset();
        match model.observe(tokens) {
            Err(DecodeError::Cancelled) if evaluated > 0 => break,
            Err(DecodeError::Cancelled) => return Err(QualityError::Interrupted),
            other => other?,
        }
        collector.end_chunk();
        evaluated += 1;
        progress(evaluated);
    }
    let mut sums = std::mem::take(&mut *collector.sums()).whole;
    sums.chunks = evaluated as u32;
    sums.chunk_tokens = chunks.tokens as u32;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_that_was_not_finished_counts_for_nothing() {
        let collector = Collector::new(false, Arc::default());
        let see = |tensor: &str, rows: &[f32]| {
            let name = MatrixName {
                tensor,
                member: 0,
                members: 1,
                is_routed: false,
            };
            collector.inputs(&[name], rows, 2).unwrap();
        };
        see("blk.0.a.weight", &[1.0, 2.0, 3.0, 4.0]);
        see("blk.1.a.weight", &[1.0, 1.0]);
        collector.end_chunk();
        see("blk.0.a.weight", &[1.0, 0.0]);
        collector.end_chunk();
        // Interrupted before it came to the second block.
        see("blk.0.a.weight", &[100.0, 100.0]);
        let matrix = collector.sums().whole.importance("");
        let third = |sum: f32| sum / 3.0;
        assert_eq!(
            matrix.of("blk.0.a.weight").unwrap(),
            [11.0, 20.0].map(third)
        );
        assert_eq!(matrix.of("blk.1.a.weight").unwrap(), [1.0, 1.0]);
    }
}
