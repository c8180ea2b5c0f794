//! How a tensor of a GGUF differs from the stored one: in its values, and in the order of its rows and columns.

use std::ops::Range;

/// The change from a stored tensor to the tensor of a GGUF.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    /// The change of each value.
    pub value: ValueChange,
    /// The order of its rows; `None` is the stored order.
    pub rows: Option<Permutation>,
    /// The order of the values in a row; `None` is the stored order.
    pub columns: Option<Permutation>,
    /// The stored rows that belong to it, if several tensors share a stored matrix.
    pub slices: Option<RowSlices>,
    /// The rows of a stored block, which become its columns; `None` if none are transposed.
    pub transposed: Option<u64>,
    /// Where several tensors share a stored one row by row in turn: which of the rows belong to it, after they were
    /// transposed.
    pub turn: Option<Turn>,
    /// Where several tensors share a stored one column by column: which part of each of its rows belongs to it, before they
    /// are transposed.
    pub part: Option<Turn>,
    /// Factors of all rows, one after the other.
    pub factors: Vec<f64>,
    /// Factors of some rows, after those of all.
    pub row_factors: Vec<(Range<u64>, f64)>,
}

/// Rows of a tensor among those of a stored one, or its part of each row among equal parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The first.
    pub first: u64,
    /// Every so many, one is the tensor's.
    pub every: u64,
}

/// The change of each value.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ValueChange {
    /// Nothing.
    #[default]
    None,
    /// Adds a number: the model multiplies by so much more than the weight, the runtime by the stored weight.
    Add(f32),
    /// `-exp(x)`: the checkpoint stores the logarithm of a decay.
    NegatedExp,
    /// Divides each row by its Euclidean norm: the model multiplies with rows of unit length.
    UnitRows,
    /// `ln(1 + exp(x))`: a factor that cannot be negative.
    Softplus,
    /// -1, 0 or 1 times the mean magnitude of the tensor: the model rounds its weights before it multiplies with them.
    Ternary,
}

/// An order of rows or columns. After the first `start`, each run of `groups * members * unit` is stored as
/// `[groups, members, unit]` and written as `[members, groups, unit]`: one member of each group in turn. The `rest` behind
/// each run keeps its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    /// Rows or columns before the first group, which keep their place.
    pub start: u64,
    /// Groups in a run.
    pub groups: u64,
    /// Members of a group.
    pub members: u64,
    /// Neighbouring rows or columns that stay together.
    pub unit: u64,
    /// Rows or columns behind each run that keep their place.
    pub rest: u64,
}

/// The rows of one tensor in a stored matrix that several tensors share: the given ranges in every `period` rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSlices {
    /// The number of rows after which the ranges repeat.
    pub period: u64,
    /// Its rows in the first period. The tensor has the first range of all periods, then the second of all periods, and
    /// so on.
    pub ranges: Vec<Range<u64>>,
}

impl RowSlices {
    /// Whether so many `rows` are a whole number of periods, and a period has the rows that are taken of it.
    pub fn divides(&self, rows: u64) -> bool {
        let mut ranges = self.ranges.iter();
        self.period > 0
            && rows.is_multiple_of(self.period)
            && ranges.all(|range| range.end <= self.period)
    }
}

impl Permutation {
    /// The stored index of the row or column that is written at index `place`.
    pub fn source(self, place: u64) -> u64 {
        let run = self.run();
        let Some(behind) = place.checked_sub(self.start).filter(|_| self.moved() > 0) else {
            return place;
        };
        let inside = behind % run;
        if inside >= run - self.rest {
            return place;
        }
        let (taken, within) = (inside / self.unit, inside % self.unit);
        let (member, group) = (taken / self.groups, taken % self.groups);
        self.start + (behind - inside) + (group * self.members + member) * self.unit + within
    }

    /// Whether `places` rows or columns are a whole number of runs.
    pub fn divides(self, places: u64) -> bool {
        let behind = places.checked_sub(self.start);
        self.moved() > 0 && behind.is_some_and(|behind| behind.is_multiple_of(self.run()))
    }

    /// The places of its first run and what is before it.
    pub fn places(self) -> u64 {
        self.start.saturating_add(self.run())
    }

    /// Rows or columns of a run without the rest.
    fn moved(self) -> u64 {
        self.groups
            .saturating_mul(self.members)
            .saturating_mul(self.unit)
    }

    fn run(self) -> u64 {
        self.moved().saturating_add(self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(permutation: Permutation, places: u64) -> Vec<u64> {
        (0..places).map(|place| permutation.source(place)).collect()
    }

    #[test]
    fn what_does_not_turn_keeps_its_place() {
        let permutation = Permutation {
            start: 0,
            groups: 2,
            members: 2,
            unit: 1,
            rest: 3,
        };
        assert_eq!(
            order(permutation, 14),
            [0, 2, 1, 3, 4, 5, 6, 7, 9, 8, 10, 11, 12, 13]
        );
    }

    #[test]
    fn a_heads_halves_become_pairs() {
        let permutation = Permutation {
            start: 0,
            groups: 2,
            members: 3,
            unit: 1,
            rest: 0,
        };
        assert_eq!(
            order(permutation, 12),
            [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
        );
    }

    #[test]
    fn heads_of_each_group_are_dealt_round_the_groups() {
        // Two groups of three heads of two rows, behind one row that stays.
        let permutation = Permutation {
            start: 1,
            groups: 2,
            members: 3,
            unit: 2,
            rest: 0,
        };
        let expect = [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12];
        assert_eq!(order(permutation, 13), expect);
        assert!(permutation.divides(13) && !permutation.divides(12));
    }
}
