//! What is counted while a tensor passes through: how far it is from what it was, and values and
//! rows that deserve a note.

use super::blocks::Deviation;

/// Counts of one tensor, or of a part of it; parts add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Tally {
    /// How far the decoded tensor is from the source.
    pub deviation: Deviation,
    /// NaN and infinite weights of the source.
    pub not_finite: u64,
    /// Finite weights of the source that became infinite in F16.
    pub overflow: u64,
    /// Rows of nothing but zeros.
    pub zero_rows: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Tally) {
        self.deviation += other.deviation;
        self.not_finite += other.not_finite;
        self.overflow += other.overflow;
        self.zero_rows += other.zero_rows;
    }
}
