//! Divides the blocks of a model among boards: each has room for its own, and the slowest is as fast as it can be.

use super::stage::Whole;
use crate::plan::fit::{Target, available};
use crate::plan::kv::kv_cache_of;
use crate::plan::notes::granted;
use crate::plan::part::ModelPart;
use crate::plan::rates::part_seconds;

/// What a board costs with a run of blocks, from sums: bytes that it has too few, then seconds.
#[derive(Clone, Debug)]
pub(super) struct Costs {
    /// Bytes of the first so many blocks, weights and cache.
    bytes: Vec<u64>,
    /// The weights of them, which llama.cpp allocates as one buffer.
    weights: Vec<u64>,
    /// One for each board.
    boards: Vec<BoardCosts>,
}

#[derive(Clone, Debug)]
struct BoardCosts {
    available: u64,
    /// The largest buffer that its driver grants.
    granted: u64,
    /// What it takes beside blocks: the runtime, buffers, the head, the server.
    fixed: u64,
    /// Weights in the buffer of those of its blocks: the head.
    fixed_weights: u64,
    /// Seconds of the first so many blocks.
    seconds: Vec<f64>,
    /// Seconds beside blocks.
    fixed_seconds: f64,
}

/// Seconds of each block on each board, and of what is beside blocks. They do not depend on the context.
#[derive(Clone, Debug)]
pub(super) struct Times(Vec<(Vec<f64>, f64)>);

impl Times {
    /// How long each block takes on each board. Where that is not known all take equally long.
    pub(super) fn of(whole: &Whole<'_>, targets: &[Target<'_>]) -> Times {
        let Whole {
            model,
            assignment,
            workload,
        } = *whole;
        let count = model.layers.len();
        let times = targets.iter().enumerate().map(|(index, &target)| {
            let seconds = |part: &ModelPart| {
                let seconds = part_seconds(model, assignment, target, workload, part, false);
                seconds.map_or(1.0, |seconds| seconds.step.expected)
            };
            let block = |layer: usize| seconds(&ModelPart::blocks(model, layer..layer + 1));
            let blocks = (0..count).map(block).collect();
            let is_last = index + 1 == targets.len();
            let head = if is_last {
                seconds(&ModelPart::head(model))
            } else {
                0.0
            };
            (blocks, head)
        });
        Times(times.collect())
    }
}

impl Costs {
    /// The costs on `targets`, where the server runs on the board at `server`. Buffers count as those of a board with all
    /// blocks, which are no smaller than those of some.
    pub(super) fn of(
        whole: &Whole<'_>,
        targets: &[Target<'_>],
        server: Option<usize>,
        times: &Times,
    ) -> Costs {
        let Whole {
            model, workload, ..
        } = *whole;
        let count = model.layers.len();
        let cache = |layer: usize, target: Target<'_>| {
            let settings = workload.kv_settings(target.runtime.memory.context_multiple.value);
            let layers = model.layers.get(layer..layer + 1).unwrap_or_default();
            kv_cache_of(model, layers, &settings).total().0
        };
        let weights_of =
            |layer: usize| whole.weights(&ModelPart::blocks(model, layer..layer + 1)).0;
        let each: Vec<u64> = (0..count).map(weights_of).collect();
        let weights = sums(0, each.iter().copied(), u64::saturating_add);
        let block = |(layer, &weights): (usize, &u64)| {
            let cached = targets.first().map_or(0, |&target| cache(layer, target));
            weights.saturating_add(cached)
        };
        let bytes = sums(0, each.iter().enumerate().map(block), u64::saturating_add);
        let blocks = bytes.last().copied().unwrap_or(0);
        let block_weights = weights.last().copied().unwrap_or(0);
        let boards = targets.iter().zip(&times.0).enumerate();
        let boards = boards.map(|(index, (target, (seconds, fixed_seconds)))| {
            let part = if index + 1 == targets.len() {
                ModelPart::apart(model, 0..count)
            } else {
                ModelPart::blocks(model, 0..count)
            };
            let (memory, buffers) = whole.ledger(target.runtime, &part, server == Some(index));
            BoardCosts {
                available: available(target.device, workload).0,
                granted: granted(*target).map_or(u64::MAX, |limit| limit.0),
                fixed: memory.total().0.saturating_sub(blocks),
                fixed_weights: buffers.model.0.saturating_sub(block_weights),
                seconds: sums(0.0, seconds.iter().copied(), |a, b| a + b),
                fixed_seconds: *fixed_seconds,
            }
        });
        Costs {
            boards: boards.collect(),
            bytes,
            weights,
        }
    }

    /// The cost of the blocks from `first` up to `end` on a board.
    fn of_run(&self, board: &BoardCosts, first: usize, end: usize) -> Cost {
        let difference = |sums: &[u64]| Some(sums.get(end)?.saturating_sub(*sums.get(first)?));
        let bytes = difference(&self.bytes).unwrap_or(u64::MAX);
        let buffer = difference(&self.weights).unwrap_or(u64::MAX);
        let buffer = buffer.saturating_add(board.fixed_weights);
        let seconds = board.seconds.get(end).zip(board.seconds.get(first));
        Cost {
            missing: bytes
                .saturating_add(board.fixed)
                .saturating_sub(board.available)
                .max(buffer.saturating_sub(board.granted)),
            seconds: seconds.map_or(f64::MAX, |(end, first)| end - first) + board.fixed_seconds,
        }
    }

    /// Blocks of each board, at least one: the division whose worst board misses least, and then is fastest. Empty where
    /// there are fewer blocks than boards.
    pub(super) fn divide(&self) -> Vec<usize> {
        let blocks = self.bytes.len().saturating_sub(1);
        if blocks < self.boards.len() {
            return Vec::new();
        }
        // For each board: the best cost of the first so many blocks on it and those before, and where it begins.
        let mut rows: Vec<Vec<Option<(Cost, usize)>>> = Vec::new();
        for (index, board) in self.boards.iter().enumerate() {
            let before = rows.last();
            let best = |end: usize| {
                let starts = index..end;
                let cost = |first: usize| {
                    let here = self.of_run(board, first, end);
                    let earlier = match before {
                        None if first == 0 => Cost::NONE,
                        None => return None,
                        Some(row) => row.get(first).copied().flatten()?.0,
                    };
                    Some((here.worst(earlier), first))
                };
                starts
                    .filter_map(cost)
                    .min_by(|(a, _), (b, _)| a.compare(b))
            };
            rows.push((0..=blocks).map(best).collect());
        }
        let mut counts = Vec::new();
        let mut end = blocks;
        for row in rows.iter().rev() {
            let first = row
                .get(end)
                .copied()
                .flatten()
                .map_or(0, |(_, first)| first);
            counts.push(end - first);
            end = first;
        }
        counts.reverse();
        counts
    }
}

/// The cost of a board, or of the worst of several.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Cost {
    missing: u64,
    seconds: f64,
}

impl Cost {
    const NONE: Cost = Cost {
        missing: 0,
        seconds: 0.0,
    };

    fn worst(self, other: Cost) -> Cost {
        Cost {
            missing: self.missing.max(other.missing),
            seconds: self.seconds.max(other.seconds),
        }
    }

    fn compare(&self, other: &Cost) -> std::cmp::Ordering {
        let missing = self.missing.cmp(&other.missing);
        missing.then(self.seconds.total_cmp(&other.seconds))
    }
}

/// The sums of the first so many values, from none to all.
fn sums<T: Copy>(zero: T, values: impl Iterator<Item = T>, add: fn(T, T) -> T) -> Vec<T> {
    let further = values.scan(zero, |sum, value| {
        *sum = add(*sum, value);
        Some(*sum)
    });
    std::iter::once(zero).chain(further).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(available: u64, each: f64, fixed_seconds: f64, blocks: usize) -> BoardCosts {
        BoardCosts {
            available,
            granted: u64::MAX,
            fixed: 10,
            fixed_weights: 0,
            seconds: sums(0.0, std::iter::repeat_n(each, blocks), |a, b| a + b),
            fixed_seconds,
        }
    }

    fn divided(blocks: usize, boards: Vec<BoardCosts>) -> Vec<usize> {
        let bytes = sums(0, std::iter::repeat_n(10, blocks), u64::saturating_add);
        let weights = bytes.clone();
        let costs = Costs {
            bytes,
            weights,
            boards,
        };
        costs.divide()
    }

    #[test]
    fn equal_boards_share_equally_and_the_head_counts() {
        let board = |fixed| board(1000, 1.0, fixed, 12);
        assert_eq!(divided(12, vec![board(0.0), board(0.0)]), [6, 6]);
        assert_eq!(divided(12, vec![board(0.0), board(4.0)]), [8, 4]);
        assert_eq!(
            divided(12, vec![board(0.0), board(0.0), board(3.0)]),
            [5, 5, 2]
        );
    }

    #[test]
    fn memory_comes_before_speed() {
        let small = board(40, 1.0, 0.0, 12);
        let large = board(1000, 9.0, 0.0, 12);
        assert_eq!(divided(12, vec![small, large]), [3, 9]);
    }

    #[test]
    fn no_board_gets_a_buffer_that_its_driver_does_not_grant() {
        let fast = BoardCosts {
            granted: 45,
            fixed_weights: 20,
            ..board(1000, 1.0, 0.0, 12)
        };
        let slow = board(1000, 9.0, 0.0, 12);
        assert_eq!(divided(12, vec![slow, fast]), [10, 2]);
    }

    #[test]
    fn without_room_the_worst_board_misses_least() {
        let board = || board(30, 1.0, 0.0, 12);
        assert_eq!(divided(12, vec![board(), board()]), [6, 6]);
        assert!(divided(1, vec![board(), board()]).is_empty());
    }
}
