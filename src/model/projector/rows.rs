//! The tensors of a projector: their names on both sides, their shapes, and what conversion does to them.

use std::collections::{HashMap, HashSet};

use super::super::TensorRole;
use super::super::packed::FoldedWeight;
use super::super::tensor::Tensor;
use super::vision::Vision;
use super::{ProjectorError, ProjectorTensor};
use crate::dtype::{Dtype, elements};
use crate::units::Bytes;

/// A tensor of a projector and where it comes from.
#[derive(Clone, Debug)]
pub struct ProjectorRow {
    /// Its names in a checkpoint, without a prefix of `BEFORE`; the first that is stored counts.
    pub from: Vec<String>,
    /// Its name in a GGUF.
    pub name: String,
    /// Outermost dimension first.
    pub shape: Vec<u64>,
    /// What of the stored tensor it is.
    pub taken: Taken,
    /// The precision that it is kept in.
    pub kept: Kept,
    /// Whether a checkpoint may be without it, and if it may, whether its configuration says that it has it.
    pub optional: Option<bool>,
}

/// What of a stored tensor goes into one of a GGUF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// All of it.
    All,
    /// All of it, with 1 added.
    PlusOne,
    /// One third of its rows.
    Third(u64),
    /// One of two frames of a convolution.
    Frame(u64),
    /// All of it: of so many pixels of three colours, which stand beside each other in a checkpoint, plane after plane.
    Planes(u64),
    /// All of it: of so many places, the rows of the first axis and then those of the second, which a checkpoint has in
    /// turn.
    Axes(u64),
    /// All of it, as `ln(1 + e^x)`.
    Softplus,
    /// All of it, rows for columns.
    Transposed,
    /// All of it: of heads so wide, the rows of each half that turn together beside each other.
    Pairs(u64),
    /// The row of the embedding of a token.
    Token {
        /// Its text.
        token: &'static str,
        /// Rows of the embedding; 0 where that is not stored.
        of: u64,
    },
    /// None: sines and cosines of the places in a square of so many a side.
    Sines(u64),
    /// None: sines and cosines of the times that its rows stand for.
    Times,
}

/// The precision that llama.cpp's converter keeps a tensor in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The type that is asked for; vectors in F32.
    Matrix,
    /// The convolution of patches: F16 in a file of F16, else F32.
    Convolution,
    /// F32.
    Full,
    /// F16.
    Half,
}

impl Kept {
    /// The type in a file of `base` of a tensor with rows of `row` values and so many dimensions.
    pub fn dtype(self, base: Dtype, row: u64, dimensions: usize) -> Dtype {
        match self {
            Kept::Half => Dtype::F16,
            _ if dimensions < 2 => Dtype::F32,
            Kept::Full => Dtype::F32,
            Kept::Convolution if base == Dtype::F16 => Dtype::F16,
            Kept::Convolution => Dtype::F32,
            Kept::Matrix if base.divides(row) => base,
            Kept::Matrix => Dtype::F16,
        }
    }
}

impl ProjectorRow {
    /// One tensor, whole.
    pub fn new(from: impl Into<String>, name: impl Into<String>, shape: &[u64]) -> ProjectorRow {
        ProjectorRow {
            from: vec![from.into()],
            name: name.into(),
            shape: shape.to_vec(),
            taken: Taken::All,
            kept: Kept::Matrix,
            optional: None,
        }
    }

    /// A matrix of `[outputs, inputs]` and its bias.
    pub fn linear(from: &str, name: &str, outputs: u64, inputs: u64) -> [ProjectorRow; 2] {
        [
            ProjectorRow::new(
                format!("{from}.weight"),
                format!("{name}.weight"),
                &[outputs, inputs],
            ),
            ProjectorRow::new(format!("{from}.bias"), format!("{name}.bias"), &[outputs]),
        ]
    }

    /// A matrix without a bias, which a checkpoint calls `from` and a GGUF `name`, and the bounds of what goes in and what
    /// comes out if it is `clipped`.
    pub fn clippable(from: &str, name: &str, shape: [u64; 2], clipped: bool) -> Vec<ProjectorRow> {
        let weight = ProjectorRow::new(
            format!("{from}.linear.weight"),
            format!("{name}.weight"),
            &shape,
        );
        let mut rows = vec![weight.or(format!("{from}.weight"))];
        if clipped {
            let bounds = ["input_max", "input_min", "output_max", "output_min"];
            rows.extend(bounds.map(|bound| {
                ProjectorRow::new(format!("{from}.{bound}"), format!("{name}.{bound}"), &[1])
            }));
        }
        rows
    }

    /// The two matrices of a feed-forward without a gate, which a checkpoint calls `up` and `down` in the block that begins
    /// with `from`, and a GGUF in that which begins with `name`.
    pub fn feed_forward(
        from: &str,
        name: &str,
        [up, down]: [&str; 2],
        vision: &Vision,
    ) -> [ProjectorRow; 4] {
        let &Vision { width, inner, .. } = vision;
        let [up, up_bias] = ProjectorRow::linear(
            &format!("{from}{up}"),
            &format!("{name}ffn_up"),
            inner,
            width,
        );
        let [down, down_bias] = ProjectorRow::linear(
            &format!("{from}{down}"),
            &format!("{name}ffn_down"),
            width,
            inner,
        );
        [up, up_bias, down, down_bias]
    }

    /// A norm with a bias.
    pub fn norm(from: &str, name: &str, width: u64) -> [ProjectorRow; 2] {
        ["weight", "bias"].map(|part| {
            ProjectorRow::new(format!("{from}.{part}"), format!("{name}.{part}"), &[width])
        })
    }

    /// A further name in checkpoints.
    pub fn or(mut self, from: impl Into<String>) -> ProjectorRow {
        self.from.push(from.into());
        self
    }

    /// The same, of part of a stored tensor.
    pub fn taken(self, taken: Taken) -> ProjectorRow {
        ProjectorRow { taken, ..self }
    }

    /// The same in another precision.
    pub fn kept(self, kept: Kept) -> ProjectorRow {
        ProjectorRow { kept, ..self }
    }

    /// The same, which a checkpoint may be without, and which is `expected` by its configuration or not.
    pub fn optional(self, expected: bool) -> ProjectorRow {
        ProjectorRow {
            optional: Some(expected),
            ..self
        }
    }

    /// The weights of the stored tensor.
    fn stored_weights(&self) -> u64 {
        let own = elements(&self.shape);
        match self.taken {
            Taken::All
            | Taken::PlusOne
            | Taken::Planes(_)
            | Taken::Axes(_)
            | Taken::Softplus
            | Taken::Transposed
            | Taken::Pairs(_)
            | Taken::Sines(_)
            | Taken::Times => own,
            Taken::Token { of, .. } => own.saturating_mul(of.max(1)),
            Taken::Third(_) => own.saturating_mul(3),
            Taken::Frame(_) => own.saturating_mul(2),
        }
    }
}

/// Prefixes of its names in checkpoints.
const BEFORE: [&str; 2] = ["model.", "thinker."];

/// The name of a stored weight without such a prefix.
fn bare(weight: &FoldedWeight) -> &str {
    let name = weight.name.as_str();
    let bare = BEFORE.iter().find_map(|prefix| name.strip_prefix(prefix));
    bare.unwrap_or(name)
}

/// A name without the numbers of its blocks.
fn numberless(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let parts = name.split('.');
    let parts = parts.map(|part| if is_number(part) { "{}" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

/// Checks that no tensor of a block is stored that is like those of `rows` and not among them. Others that no row uses are what
/// runtimes compute themselves, or do not need.
pub(super) fn no_further_blocks(
    rows: &[ProjectorRow],
    stored: &[FoldedWeight],
) -> Result<(), ProjectorError> {
    let names = || rows.iter().flat_map(|row| &row.from);
    let used: HashSet<&str> = names().map(String::as_str).collect();
    let kinds: HashSet<String> = names().map(|name| numberless(name)).collect();
    let further = stored.iter().find(|weight| {
        let name = bare(weight);
        !used.contains(name) && kinds.contains(&numberless(name))
    });
    undescribed(further)
}

/// Checks that none of `rows` is stored.
pub(super) fn none_stored(
    rows: &[ProjectorRow],
    stored: &[FoldedWeight],
) -> Result<(), ProjectorError> {
    let names: HashSet<&str> = rows
        .iter()
        .flat_map(|row| &row.from)
        .map(String::as_str)
        .collect();
    undescribed(stored.iter().find(|weight| names.contains(bare(weight))))
}

fn undescribed(found: Option<&FoldedWeight>) -> Result<(), ProjectorError> {
    found.map_or(Ok(()), |weight| {
        let name = weight.name.clone();
        Err(ProjectorError::Undescribed { name })
    })
}

/// The tensors of `rows`, each with its stored one; all of them without weights.
pub(super) fn resolve(
    rows: Vec<ProjectorRow>,
    stored: &[FoldedWeight],
) -> Result<Vec<ProjectorTensor>, ProjectorError> {
    let by_name: HashMap<&str, &FoldedWeight> = stored.iter().map(|w| (bare(w), w)).collect();
    let mut tensors = Vec::with_capacity(rows.len());
    for mut row in rows {
        let weight = row
            .from
            .iter()
            .find_map(|name| by_name.get(name.as_str()).copied());
        let weight = match weight {
            None if matches!(row.taken, Taken::Sines(_) | Taken::Times) => None,
            None if stored.is_empty() && row.optional != Some(false) => None,
            None if row.optional.is_some() => continue,
            None => {
                let name = row.from.into_iter().next().unwrap_or_default();
                return Err(ProjectorError::Missing { name });
            }
            found => found,
        };
        let found = weight.map(|weight| elements(&weight.shape));
        if let (Taken::Token { of, .. }, Some(found)) = (&mut row.taken, found) {
            *of = found.checked_div(elements(&row.shape)).unwrap_or(0);
        }
        let expected = row.stored_weights();
        if let Some(found) = found.filter(|found| *found != expected) {
            let name = row.from.into_iter().next().unwrap_or_default();
            return Err(ProjectorError::Size {
                name,
                found,
                expected,
            });
        }
        tensors.push(ProjectorTensor {
            tensor: Tensor {
                name: row.name,
                role: TensorRole::Other,
                layer: None,
                shape: row.shape,
                dtype: weight.map_or(Dtype::BF16, |weight| weight.dtype),
                stored_bytes: weight.map_or(Bytes(0), |weight| weight.bytes),
                sources: weight.map_or(Vec::new(), |weight| weight.sources.clone()),
            },
            taken: row.taken,
            kept: row.kept,
        });
    }
    Ok(tensors)
}
