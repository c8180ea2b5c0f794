//! The quality of each candidate: as it was measured of this model, else as the measurements of other models let expect.

use crate::dtype::Dtype;
use crate::evidence::quality::{Asked, MeasuredQuality, PlannedFile, Quality, prior};
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
        let measured = self.known.measured;
        let measured = measured.and_then(|measured| measured.of(self.model, planned));
        if measured.is_some() {
            return measured;
        }
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
        let asked = Asked {
            model: &self.model.name,
            architecture: &self.model.architecture,
            parameters: self.model.parameters,
        };
        prior().expect(asked, format, &self.own)
    }
}
