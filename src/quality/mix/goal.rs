//! The mix that meets a goal: the best of a size, or the smallest within a divergence; and the fixed recipe to compare
//! it with.

use super::super::{Divergence, QualityError};
use super::search::{CODEBOOKS, Mix};
use super::session::{Session, Stage};
use crate::scheme::{SCHEMES, Scheme};
use crate::units::Bytes;

/// Mixes that are evaluated at most until one is within the divergence asked for.
const TRIALS: usize = 5;

/// Bytes of the keys of an importance matrix, which published files of fixed recipes may be without.
const MATRIX_KEYS: Bytes = Bytes(1024);

/// The recipe that people usually take.
pub const USUAL: &str = "q4_k_m";

/// What a mix is made for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    /// The least divergence in a file of at most this size.
    Size(Bytes),
    /// The smallest file that diverges by at most so much, in nats a token.
    Divergence(f64),
}

/// A mix that meets a goal.
#[derive(Clone, Debug)]
pub struct Reached {
    /// The mix.
    pub mix: Mix,
    /// Its measured divergence.
    pub divergence: Divergence,
    /// The size that it was chosen for.
    pub size: Bytes,
}

/// A fixed recipe, measured.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The recipe.
    pub scheme: &'static Scheme,
    /// The size of its file.
    pub bytes: Bytes,
    /// Its measured divergence.
    pub divergence: Divergence,
}

impl Session<'_> {
    /// The mix that meets `goal`.
    ///
    /// # Errors
    /// [`QualityError::TooSmall`] and [`QualityError::TooGood`] where no file does, or as [`Session::evaluate`].
    pub fn reach(
        &mut self,
        goal: Goal,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Reached, QualityError> {
        match goal {
            Goal::Size(size) => {
                self.consider_codebooks(size, tell)?;
                self.of_size(size, tell)
            }
            Goal::Divergence(most) => {
                let reached = self.within(most, tell)?;
                let had_codebooks = self.has_codebooks();
                self.consider_codebooks(reached.size, tell)?;
                if self.has_codebooks() == had_codebooks {
                    return Ok(reached);
                }
                self.within(most, tell)
            }
        }
    }

    fn of_size(
        &self,
        size: Bytes,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Reached, QualityError> {
        let least = self.sizes().0;
        let mix = self.mix(size);
        let mix = mix.ok_or(QualityError::TooSmall { size, least })?;
        let divergence = self.evaluate("the mix", &self.options(&mix.types), tell)?;
        Ok(Reached {
            mix,
            divergence,
            size,
        })
    }

    /// The smallest mix whose measured divergence is at most `most`. The measured divergence of one mix says by how much
    /// the expected ones of others are off.
    fn within(
        &self,
        most: f64,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Reached, QualityError> {
        let largest = self.sizes().1;
        let mut factor = 1.0;
        let mut best: Option<Reached> = None;
        for _ in 0..TRIALS {
            let wanted = most / factor;
            let expected = |size| self.mix(size).is_some_and(|mix| mix.divergence <= wanted);
            // Where even the largest is expected to diverge by more, it is tried.
            let size = self.smallest(expected).unwrap_or(largest);
            if best.as_ref().is_some_and(|best| best.size <= size) {
                break;
            }
            let Some(mix) = self.mix(size) else { break };
            let divergence = self.evaluate("a mix", &self.options(&mix.types), tell)?;
            let mean = divergence.mean().value;
            factor = mean / mix.divergence.max(f64::MIN_POSITIVE) * 1.02;
            if mean <= most {
                best = Some(Reached {
                    mix,
                    divergence,
                    size,
                });
            } else if size >= largest {
                break;
            }
        }
        best.ok_or(QualityError::TooGood { most, largest })
    }

    /// The largest size of a file for which `holds`; `None` where it does not hold for the smallest. What holds for a size
    /// holds for smaller ones.
    pub fn largest(&self, holds: impl Fn(Bytes) -> bool) -> Option<Bytes> {
        let (least, largest) = self.sizes();
        match self.smallest(|size| !holds(size)) {
            Some(first) => first
                .0
                .checked_sub(1)
                .map(Bytes)
                .filter(|&size| size >= least),
            None => Some(largest),
        }
    }

    /// The smallest size of a file for which `holds`, by bisection; `None` where it holds for none. What holds for a size
    /// holds for larger ones.
    fn smallest(&self, holds: impl Fn(Bytes) -> bool) -> Option<Bytes> {
        let (least, largest) = self.sizes();
        let (mut low, mut high) = (least.0, largest.0);
        while low < high {
            let middle = low.midpoint(high);
            if holds(Bytes(middle)) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        Some(Bytes(low)).filter(|&size| holds(size))
    }

    /// The largest fixed recipe of at most `size`, measured; `None` where all are larger.
    ///
    /// # Errors
    /// As [`Session::evaluate`].
    pub fn recipe(
        &self,
        size: Bytes,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Option<Recipe>, QualityError> {
        let mut found: Option<(&'static Scheme, Bytes)> = None;
        let is_codebook = |scheme: &Scheme| CODEBOOKS.contains(&scheme.base);
        let compared =
            |scheme: &&Scheme| scheme.is_recipe() || self.has_codebooks() && is_codebook(scheme);
        for scheme in SCHEMES.iter().filter(compared) {
            let bytes = self.size(&self.plain(scheme))?;
            if bytes <= size + MATRIX_KEYS && found.is_none_or(|(_, most)| bytes > most) {
                found = Some((scheme, bytes));
            }
        }
        let of = |(scheme, bytes)| self.measured(scheme, bytes, tell);
        found.map(of).transpose()
    }

    /// Plain Q4_K_M, which people usually take, at its own size, measured.
    ///
    /// # Errors
    /// As [`Session::evaluate`].
    pub fn usual(
        &self,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Option<Recipe>, QualityError> {
        let Some(scheme) = Scheme::get(USUAL) else {
            return Ok(None);
        };
        let bytes = self.size(&self.plain(scheme))?;
        self.measured(scheme, bytes, tell).map(Some)
    }

    fn measured(
        &self,
        scheme: &'static Scheme,
        bytes: Bytes,
        tell: &mut (dyn FnMut(Stage<'_>) + Send),
    ) -> Result<Recipe, QualityError> {
        let divergence = self.evaluate(scheme.name, &self.plain(scheme), tell)?;
        Ok(Recipe {
            scheme,
            bytes,
            divergence,
        })
    }
}
