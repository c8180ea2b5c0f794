//! A search as a whole: activations, errors, probes, the reference's predictions; then mixes, each of which can be
//! evaluated without being written.

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::super::{
    Beginning, Chunks, Collector, Divergence, LogProbs, QualityError, collect, divergence, record,
};
use super::probe::{ProbeTokens, Probes};
use super::search::{
    CODEBOOKS, Mix, Search, SearchStage, Sensitivities, measure, measure_codebooks, mix,
};
use super::setup::{FixedBytes, Setup, probing, weights};
use crate::decode::{LoadOptions, Model, Observing, Tokenizer};
use crate::dtype::Dtype;
use crate::model::{DecodeAccess, ModelSpec, Tensor};
use crate::quantize::{GgufView, Importance, Job, Options, QuantizeError};
use crate::scheme::{self, Overrides, Scheme};
use crate::units::Bytes;

/// How much text is evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TextAmount {
    /// Chunks that activations are collected from.
    collected: usize,
    /// Chunks behind them whose predictions are compared.
    compared: usize,
    /// Pieces of text in a probe.
    pieces: usize,
}

/// What a model of up to a billion weights evaluates within five minutes on two cores.
const USUAL: TextAmount = TextAmount {
    collected: 16,
    compared: 6,
    pieces: 4,
};
/// What one of four billion evaluates within thirty.
const LARGE_MODEL: TextAmount = TextAmount {
    collected: 10,
    compared: 4,
    pieces: 3,
};
/// Weights from which a model is large. Experts do not count: a router leaves them few tokens, so they need all.
const LARGE: u64 = 2_000_000_000;

/// Tokens in a piece of text; predictions of the second half of each are scored.
const PIECE_TOKENS: usize = 128;

/// Bits for each weight below which a file may have types with codebooks: above, they gain next to nothing.
const CODEBOOK_BITS: f64 = 4.25;

/// What an earlier search of the same kind left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resumed {
    /// The importance matrix that was made or given.
    pub importance: Option<Importance>,
    /// Whether it was given: then nothing of the text went into it.
    pub is_given: bool,
    /// Probes that were made.
    pub probes: Probes,
}

/// A stage of the search.
#[derive(Clone, Debug)]
pub enum Stage<'a> {
    /// The weights are read.
    Loading(Bytes),
    /// Activations of so many of so many chunks are collected.
    Activations(usize, usize),
    /// The importance matrix is made.
    Importance(&'a Importance, &'a crate::quantize::ActivationSums),
    /// Errors of so many of so many tensors were sampled.
    Errors(usize, usize),
    /// These of so many probes were made.
    Probes(&'a Probes, usize),
    /// The predictions of so many of so many chunks were made, of the model that is called so.
    Predictions(&'a str, usize, usize),
}

impl<'a> From<SearchStage<'a>> for Stage<'a> {
    fn from(stage: SearchStage<'a>) -> Stage<'a> {
        match stage {
            SearchStage::Errors(done, of) => Stage::Errors(done, of),
            SearchStage::Probes(probes, of) => Stage::Probes(probes, of),
        }
    }
}

/// What was measured of a model.
pub struct Session<'a> {
    setup: &'a Setup<'a>,
    /// The importance matrix.
    pub importance: Importance,
    /// What each type of each tensor costs.
    pub sensitivities: Sensitivities,
    /// Chunks that mixes are evaluated on.
    pub compared: usize,
    /// Those of them that the types are chosen by too, since the text has too few.
    pub reused: usize,
    predictions: LogProbs,
    fixed: FixedBytes,
    has_codebooks: bool,
}

impl<'a> Session<'a> {
    /// Measures. Predictions of the reference are stored in `store`, a file for reading and writing with the path that
    /// messages name.
    ///
    /// # Errors
    /// [`QualityError`]: the model cannot be evaluated, the text is too short, or `cancel` became true.
    pub fn measure(
        setup: &'a Setup<'a>,
        store: (File, &Path),
        resumed: Resumed,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Session<'a>, QualityError> {
        let Setup {
            checkpoint, model, ..
        } = *setup;
        let tokenizer = Tokenizer::read(checkpoint, model)?;
        let tokens = setup.chunk_tokens as usize;
        let chunks = setup
            .text
            .chunks(&tokenizer, tokens, None, Beginning::Replaced)?;
        let amount = TextAmount::of(model);
        let reused = amount.reused(chunks.chunks.len(), tokens, !resumed.is_given);
        let (collected, behind) = amount.split(chunks);
        let collector = Arc::new(Collector::new(true, Arc::clone(&setup.cancel)));
        let options = LoadOptions {
            context: setup.chunk_tokens,
            observer: Some(Observing(Arc::clone(&collector) as _)),
            ..LoadOptions::default()
        };
        let mut decoder = Model::load(checkpoint, model, &options, &mut |read| {
            tell(Stage::Loading(read))
        })?;
        let importance = match resumed.importance {
            Some(importance) => importance,
            None => {
                let of = collected.chunks.len();
                let told = &mut |done| tell(Stage::Activations(done, of));
                let mut sums = collect(&mut decoder, &collector, &collected, told)?;
                if (sums.chunks as usize) < of {
                    return Err(QualityError::Interrupted);
                }
                sums.dataset.clone_from(&setup.text.name);
                let importance = sums.importance(&setup.imatrix_name);
                tell(Stage::Importance(&importance, &sums));
                importance
            }
        };
        collector.stop();
        let options = probing(setup, Some(&importance));
        let job = Job::new(checkpoint, setup.files, model, &options)?;
        let search = Search {
            model,
            tensors: &job.tensors,
            text: &amount.pieces(&behind),
            cancel: &setup.cancel,
        };
        let sensitivities = measure(&search, &mut decoder, resumed.probes, &mut |stage| {
            tell(stage.into());
        })?;
        decoder.forget_traces();
        let fixed = FixedBytes::of(&job);
        drop(job);
        let compared = amount.compared(&behind);
        let (file, path) = store;
        let copy = file
            .try_clone()
            .map_err(|source| super::super::LogProbsError::Io {
                path: path.to_owned(),
                source,
            })?;
        let of = compared.chunks.len();
        let told = &mut |done| tell(Stage::Predictions("the reference", done, of));
        record(
            &mut decoder,
            &model.name,
            &compared,
            (copy, path),
            0,
            &setup.cancel,
            told,
        )?;
        Ok(Session {
            setup,
            importance,
            sensitivities,
            compared: of,
            reused,
            predictions: LogProbs::of(file, path)?,
            fixed,
            has_codebooks: false,
        })
    }

    /// Measures the types with codebooks too, if a file of `size` may have them; larger ones do without, since their
    /// kernels may be slow.
    ///
    /// # Errors
    /// [`QualityError`]: weights cannot be read, or `cancel` became true.
    pub fn consider_codebooks(
        &mut self,
        size: Bytes,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<(), QualityError> {
        if self.has_codebooks || !self.is_small(size) {
            return Ok(());
        }
        let Setup {
            checkpoint, model, ..
        } = *self.setup;
        let options = probing(self.setup, Some(&self.importance));
        let job = Job::new(checkpoint, self.setup.files, model, &options)?;
        let (tensors, cancel) = (&job.tensors, &self.setup.cancel);
        measure_codebooks(tensors, &mut self.sensitivities, cancel, &mut |stage| {
            tell(stage.into());
        })?;
        self.has_codebooks = true;
        Ok(())
    }

    /// Whether a file of `size` may have types with codebooks.
    pub(super) fn is_small(&self, size: Bytes) -> bool {
        size < self.size_of_bits(CODEBOOK_BITS)
    }

    /// Whether the types with codebooks are among the choices.
    pub fn has_codebooks(&self) -> bool {
        self.has_codebooks
    }

    /// The name of the text.
    pub fn text_name(&self) -> &str {
        &self.setup.text.name
    }

    /// The size of a file whose tensors have `bits` for each weight.
    pub fn size_of_bits(&self, bits: f64) -> Bytes {
        self.fixed.with_bits(bits, weights(self.setup.model))
    }

    /// The smallest file that can be made, and the largest that is worth it.
    pub fn sizes(&self) -> (Bytes, Bytes) {
        let tensors = self.sensitivities.tensors.iter();
        let bytes = |most: bool| {
            let each = tensors.clone().map(|tensor| {
                let bytes = tensor.options.iter().map(|option| option.bytes);
                if most { bytes.max() } else { bytes.min() }
            });
            Bytes(self.fixed.rest + each.map(|bytes| bytes.unwrap_or(0)).sum::<u64>())
        };
        (bytes(false), bytes(true))
    }

    /// The mix that is expected to diverge least in a file of at most `size`; `None` if none is as small. Types with
    /// codebooks are in it where they were measured and the file is small.
    pub fn mix(&self, size: Bytes) -> Option<Mix> {
        let bytes = size.0.checked_sub(self.fixed.rest)?;
        let is_small = self.is_small(size);
        mix(&self.sensitivities, bytes, |dtype| {
            is_small || !CODEBOOKS.contains(&dtype)
        })
    }

    /// The options of the file with these types.
    pub fn options(&self, types: &BTreeMap<String, Dtype>) -> Options<'_> {
        let scheme = scheme::of_types(self.setup.model, types);
        Options {
            overrides: Overrides {
                exact: types.clone(),
                ..Overrides::default()
            },
            ..self.plain(scheme)
        }
    }

    /// The options of a fixed recipe with the same importance matrix.
    pub fn plain(&self, scheme: &'static Scheme) -> Options<'_> {
        Options {
            rules: self.setup.rules,
            importance: Some(&self.importance),
            allow_requantize: self.setup.allow_requantize,
            ..Options::of(scheme)
        }
    }

    /// The size of the file of `options`.
    ///
    /// # Errors
    /// [`QuantizeError`], as [`Job::new`].
    pub fn size(&self, options: &Options<'_>) -> Result<Bytes, QuantizeError> {
        let Setup {
            checkpoint,
            files,
            model,
            ..
        } = *self.setup;
        Ok(Job::new(checkpoint, files, model, options)?.file_bytes())
    }

    /// The divergence of the file of `options`, called `name`, from the reference; nothing is written.
    ///
    /// # Errors
    /// [`QualityError`]: it cannot be made or evaluated, or `cancel` became true.
    pub fn evaluate(
        &self,
        name: &str,
        options: &Options<'_>,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Divergence, QualityError> {
        let Setup {
            checkpoint,
            files,
            model,
            ..
        } = *self.setup;
        let view = GgufView::planned(checkpoint, files, model, options)?;
        let load = LoadOptions {
            context: self.setup.chunk_tokens,
            ..LoadOptions::default()
        };
        let mut decoder = Model::load_view(&view, &load, &mut |read| tell(Stage::Loading(read)))?;
        let of = self.compared;
        let told = &mut |done| tell(Stage::Predictions(name, done, of));
        divergence(
            &mut decoder,
            name,
            &self.predictions,
            None,
            &self.setup.cancel,
            told,
        )
    }
}

impl TextAmount {
    fn of(model: &ModelSpec) -> TextAmount {
        let multiplied = model.tensors.iter();
        let multiplied = multiplied.filter(|t| t.role.info().access == DecodeAccess::Whole);
        let weights: u64 = multiplied.map(Tensor::elements).sum();
        if weights < LARGE { USUAL } else { LARGE_MODEL }
    }

    /// The chunks that activations are collected from, and those behind them; where the text has few, the latter are the
    /// same or overlap.
    fn split(self, all: Chunks) -> (Chunks, Chunks) {
        let of = |chunks: &[Vec<u32>]| Chunks {
            chunks: chunks.to_vec(),
            tokens: all.tokens,
        };
        let (first, behind) = self.ranges(all.chunks.len());
        let (first, behind) = (all.chunks.get(first), all.chunks.get(behind));
        (
            of(first.unwrap_or_default()),
            of(behind.unwrap_or_default()),
        )
    }

    fn ranges(self, count: usize) -> (Range<usize>, Range<usize>) {
        let first = self.collected.min(count);
        let behind = first.min(count.saturating_sub(self.pieces.max(self.compared)));
        (0..first, behind..count)
    }

    /// How many of the chunks that mixes are evaluated on choose types too, in a text of `count` chunks of `tokens`:
    /// activations are collected from them, or probes score the same predictions.
    fn reused(self, count: usize, tokens: usize, collects: bool) -> usize {
        let (first, behind) = self.ranges(count);
        let compared = count - self.compared.min(behind.len())..count;
        // Probes score the second half of a piece at a chunk's beginning, comparisons that of the chunk.
        let scores_both = PIECE_TOKENS > tokens / 2;
        let probed: Vec<usize> = self.places(behind.len()).collect();
        let is_reused = |chunk: &usize| {
            let is_probed = probed.iter().any(|place| place + behind.start == *chunk);
            collects && first.contains(chunk) || scores_both && is_probed
        };
        compared.filter(is_reused).count()
    }

    /// The places, among so many chunks, of those that pieces are cut from.
    fn places(self, count: usize) -> impl Iterator<Item = usize> {
        let step = (count / self.pieces).max(1);
        (0..count).step_by(step).take(self.pieces)
    }

    /// Pieces of `chunks`, spread over them, for probes.
    fn pieces(self, chunks: &Chunks) -> ProbeTokens {
        let places = self.places(chunks.chunks.len());
        let pieces = places.filter_map(|place| chunks.chunks.get(place));
        let length = PIECE_TOKENS.min(chunks.tokens);
        let cut = |tokens: &Vec<u32>| tokens.iter().copied().take(length).collect();
        ProbeTokens {
            pieces: pieces.map(cut).collect(),
            rows: length / 2,
        }
    }

    /// The last of `chunks`, which mixes are evaluated on.
    fn compared(self, chunks: &Chunks) -> Chunks {
        let first = chunks.chunks.len().saturating_sub(self.compared);
        Chunks {
            chunks: chunks.chunks.get(first..).unwrap_or_default().to_vec(),
            tokens: chunks.tokens,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_that_choose_types_too_are_counted() {
        // Sixteen chunks, then those that are held out.
        assert_eq!(USUAL.reused(40, 512, true), 0);
        assert_eq!(USUAL.reused(22, 512, true), 0);
        assert_eq!(USUAL.reused(18, 512, true), 4);
        assert_eq!(USUAL.reused(2, 512, true), 2);
        assert_eq!(USUAL.reused(2, 512, false), 0);
        // Probes score what is compared where chunks are as short as their pieces.
        assert_eq!(USUAL.reused(2, 64, false), 2);
    }
}
