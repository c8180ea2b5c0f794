//! The quality of each candidate: as it was measured of this model, else as the measurements of other models let expect.

use crate::dtype::Dtype;
use crate::evidence::quality::{
    Asked, CacheCosts, MeasuredQuality, PLAIN_CACHE, PlannedFile, Quality, prior,
};
use crate::model::ModelSpec;
use crate::scheme::{Assignment, Scheme};
use crate::units::Bytes;

/// What is known of a model's quality beside the built-in measurements.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownQuality<'a> {
    /// What was measured of this model.
    pub(super) measured: Option<&'a MeasuredQuality>,
    /// The types of the keys and values that it will cache.
    pub(super) kv_types: [Dtype; 2],
}

impl Default for KnownQuality<'_> {
    fn default() -> Self {
        KnownQuality {
            measured: None,
            kv_types: [Dtype::F16; 2],
        }
    }
}

/// Quality relative to the 16-bit original of a checkpoint.
pub(super) struct FromOriginal<'a> {
    model: &'a ModelSpec,
    known: KnownQuality<'a>,
    own: Vec<(String, f64)>,
    /// What the cache costs, where it is known.
    cache: Option<Quality>,
    /// The quality of the checkpoint itself; `None` for a format that was never measured.
    checkpoint: Option<Quality>,
}

impl<'a> FromOriginal<'a> {
    /// For a checkpoint whose format is `stored`, if it is quantized.
    pub(super) fn new(
        model: &'a ModelSpec,
        stored: Option<&str>,
        known: KnownQuality<'a>,
    ) -> FromOriginal<'a> {
        let own = known.measured.map(MeasuredQuality::schemes);
        let mut from = FromOriginal {
            model,
            known,
            own: own.unwrap_or_default(),
            cache: CacheCosts::of(known.measured).of_types(model, known.kv_types),
            checkpoint: Some(Quality::original()),
        };
        if let Some(stored) = stored {
            from.checkpoint = from.expected(stored);
        }
        from
    }

    /// The quality of a file with the types of `assignment`. `None` where nothing comparable was measured. A file made of
    /// a checkpoint of unknown quality has what it loses itself, by which such files compare.
    pub(super) fn of(&self, assignment: &Assignment, file_bytes: Bytes) -> Option<Quality> {
        let scheme = Scheme::get(&assignment.scheme);
        let types: Vec<Dtype> = assignment
            .tensors
            .iter()
            .map(|tensor| tensor.dtype)
            .collect();
        let planned = PlannedFile {
            format: scheme.map_or(assignment.scheme.as_str(), |scheme| scheme.name),
            bytes: file_bytes,
            kv_types: self.known.kv_types,
            types: &types,
        };
        let of_file = |planned| self.known.measured?.of(self.model, planned);
        // Measured with the very cache, what it costs is in it.
        of_file(planned).or_else(|| {
            let plain = of_file(PlannedFile {
                kv_types: PLAIN_CACHE,
                ..planned
            });
            let format = plain.or_else(|| self.format(assignment, scheme))?;
            Some(match &self.cache {
                Some(cost) => format.after(cost),
                None => format,
            })
        })
    }

    /// The quality of a format, with a cache that loses nothing.
    fn format(&self, assignment: &Assignment, scheme: Option<&Scheme>) -> Option<Quality> {
        if assignment.is_stored() {
            return self.checkpoint.clone();
        }
        let added = match scheme?.base {
            Dtype::BF16 | Dtype::F16 => Some(Quality::original()),
            _ => self.expected(&assignment.scheme),
        };
        let added = added?;
        Some(match &self.checkpoint {
            Some(checkpoint) => added.after(checkpoint),
            None => added,
        })
    }

    fn expected(&self, format: &str) -> Option<Quality> {
        prior().expect(Asked::of(self.model), format, &self.own)
    }
}
