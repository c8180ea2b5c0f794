//! How a tensor of a GGUF differs from the stored one: its values, and the order of its rows and of
//! what is in them.

use std::ops::Range;

/// How a GGUF's tensor differs from the checkpoint's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// What becomes of each value.
    pub value: ValueChange,
    /// In which order its rows are taken; as stored without.
    pub rows: Option<Permutation>,
    /// In which order the values of a row are taken; as stored without.
    pub columns: Option<Permutation>,
    /// Which rows are its own, where it shares a stored matrix with others.
    pub slices: Option<RowSlices>,
}

/// What becomes of each value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ValueChange {
    /// Nothing.
    #[default]
    None,
    /// One is added: the runtime multiplies by the weight where the model multiplies by one more.
    AddOne,
    /// `-exp(x)`: the model stores the logarithm of a decay.
    NegatedExp,
}

/// An order: behind the first `start` places, each run of `groups * members * unit` is stored as
/// `groups` groups of `members` members of `unit`, and written by taking one member from each group in
/// turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permutation {
    /// Places before the first group, which stay.
    pub start: u64,
    /// Groups in a run.
    pub groups: u64,
    /// Members of a group.
    pub members: u64,
    /// Neighbouring places that stay together.
    pub unit: u64,
}

/// The rows of one tensor in a stored matrix that it shares: in every `period` rows, these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSlices {
    /// Rows after which the division repeats.
    pub period: u64,
    /// Its rows in the first period. Those of all periods come before those of the next range.
    pub ranges: Vec<Range<u64>>,
}

impl Permutation {
    /// Where place `place` is stored.
    pub fn source(self, place: u64) -> u64 {
        let run = self.run();
        let Some(behind) = place.checked_sub(self.start).filter(|_| run > 0) else {
            return place;
        };
        let inside = behind % run;
        let (taken, within) = (inside / self.unit, inside % self.unit);
        let (member, group) = (taken / self.groups, taken % self.groups);
        self.start + (behind - inside) + (group * self.members + member) * self.unit + within
    }

    /// Whether `places` places are whole runs.
    pub fn divides(self, places: u64) -> bool {
        let behind = places.checked_sub(self.start);
        self.run() > 0 && behind.is_some_and(|behind| behind.is_multiple_of(self.run()))
    }

    fn run(self) -> u64 {
        self.groups
            .saturating_mul(self.members)
            .saturating_mul(self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(permutation: Permutation, places: u64) -> Vec<u64> {
        (0..places).map(|place| permutation.source(place)).collect()
    }

    #[test]
    fn a_heads_halves_become_pairs() {
        let permutation = Permutation {
            start: 0,
            groups: 2,
            members: 3,
            unit: 1,
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
        };
        let expect = [0, 1, 2, 7, 8, 3, 4, 9, 10, 5, 6, 11, 12];
        assert_eq!(order(permutation, 13), expect);
        assert!(permutation.divides(13) && !permutation.divides(12));
    }
}
