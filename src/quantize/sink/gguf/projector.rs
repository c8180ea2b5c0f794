//! Plans an `mmproj`: its metadata, and each tensor with its type and the source of its values. In: a checkpoint, its
//! projector and a scheme. Out: metadata, tensors, notes. Must not: read weights.

use super::plan::Contents;
use crate::checkpoint::Checkpoint;
use crate::convert;
use crate::model::projector::TYPES;
use crate::model::{ModelSpec, Projector};
use crate::quantize::error::QuantizeError;
use crate::quantize::packed::Files;
use crate::quantize::planned::{PlannedTensor, Values};
use crate::quantize::source::Sources;
use crate::scheme::{Assigned, Reason, Scheme};
use crate::units::Bytes;

/// Metadata, tensors and notes of the file of `projector`.
pub(super) fn contents<'a>(
    checkpoint: &'a Checkpoint,
    files: &'a Files,
    model: &'a ModelSpec,
    projector: &'a Projector,
    scheme: &Scheme,
) -> Result<Contents<'a>, QuantizeError> {
    if checkpoint.tensors.is_empty() {
        return Err(QuantizeError::NoWeights {
            name: checkpoint.name.clone(),
        });
    }
    let base = scheme.base;
    let file_type = scheme.file_type.filter(|_| TYPES.contains(&base));
    let file_type = file_type.ok_or(QuantizeError::ProjectorScheme { scheme: scheme.id })?;
    let metadata = convert::projector_metadata(checkpoint, projector, file_type)?;
    let sources = Sources::new(checkpoint, files, model);
    let mut planned = Vec::with_capacity(projector.tensors.len());
    for of in &projector.tensors {
        let tensor = &of.tensor;
        let dtype = projector.dtype(of, base);
        let reason = match dtype {
            dtype if dtype == base => Reason::Default,
            _ if base.is_quantized() && tensor.shape.len() > 1 => {
                Reason::ShapeFallback { intended: base }
            }
            _ => Reason::Kept,
        };
        let values = match convert::projector_table(of) {
            Some(table) => Values::Table(table),
            None => {
                let rows = sources.changed(tensor, convert::projector_change(checkpoint, of)?)?;
                Values::Rows(Box::new(rows))
            }
        };
        planned.push(PlannedTensor {
            name: &tensor.name,
            shape: tensor.shape.clone(),
            assigned: Assigned {
                dtype,
                bytes: dtype.bytes(&tensor.shape).unwrap_or(Bytes(0)),
                reason,
            },
            importance: None,
            groups: None,
            values,
        });
    }
    Ok((metadata, planned, Vec::new()))
}
