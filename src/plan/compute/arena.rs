//! ggml's graph allocator, replayed on sizes alone: a list of tensors in execution order comes in,
//! the bytes that each buffer must have come out. Knows nothing of models; allocates no tensor.
//!
//! Rules: `ggml/src/ggml-alloc.c` of llama.cpp. Inputs are placed first; a node then takes over the memory
//! of a source that no other node reads (if its operation may work in place), else the smallest free block
//! that fits, else the end; a tensor's memory is freed after its last reader. Fragmentation is why a buffer
//! is larger than what is alive in it at any one time.

use super::tensors::{Graph, Id, Storage};

/// What a replay found for one pool.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Footprint {
    /// The size of the buffer in bytes.
    pub(super) bytes: u64,
    /// The most bytes alive at once within each stage, in order of appearance.
    pub(super) stages: Vec<(&'static str, u64)>,
}

/// Replays the allocator on `graph`. Returns the footprint of the host pool and of the device pool.
pub(super) fn replay(graph: &Graph) -> [Footprint; 2] {
    Replay::new(graph).run()
}

/// The free blocks of one pool.
#[derive(Debug)]
struct FreeList {
    /// Offset and size of each, in the order of their offsets; the last block has no end.
    blocks: Vec<(u64, u64)>,
    alignment: u64,
    /// The end of what was ever allocated.
    high: u64,
    /// Bytes that are allocated now.
    live: u64,
    /// The most bytes allocated at once in each stage.
    stages: Vec<(&'static str, u64)>,
}

impl FreeList {
    fn padded(&self, bytes: u64) -> u64 {
        bytes
            .div_ceil(self.alignment)
            .saturating_mul(self.alignment)
    }

    /// The offset of `bytes` new bytes: the smallest block that fits, the last of equals.
    fn allocate(&mut self, bytes: u64, stage: &'static str) -> u64 {
        let size = self.padded(bytes);
        let end = self.blocks.len().saturating_sub(1);
        let mut best = end;
        for (index, block) in self.blocks.iter().enumerate().take(end) {
            let smaller = best == end || self.blocks.get(best).is_some_and(|b| block.1 <= b.1);
            if block.1 >= size && smaller {
                best = index;
            }
        }
        let Some(block) = self.blocks.get_mut(best) else {
            return self.high;
        };
        let offset = block.0;
        block.0 = block.0.saturating_add(size);
        block.1 = block.1.saturating_sub(size);
        if block.1 == 0 {
            self.blocks.remove(best);
        }
        self.high = self.high.max(offset.saturating_add(size));
        self.live = self.live.saturating_add(size);
        match self.stages.iter_mut().find(|s| s.0 == stage) {
            Some(entry) => entry.1 = entry.1.max(self.live),
            None => self.stages.push((stage, self.live)),
        }
        offset
    }

    /// Frees `bytes` at `offset` and merges neighbouring free blocks.
    fn free(&mut self, offset: u64, bytes: u64) {
        let size = self.padded(bytes);
        self.live = self.live.saturating_sub(size);
        let at = self.blocks.partition_point(|b| b.0 < offset);
        self.blocks.insert(at, (offset, size));
        for left in [at, at.wrapping_sub(1)] {
            if let (Some(&a), Some(&b)) =
                (self.blocks.get(left), self.blocks.get(left.wrapping_add(1)))
                && a.0.saturating_add(a.1) == b.0
            {
                self.blocks.remove(left + 1);
                if let Some(block) = self.blocks.get_mut(left) {
                    block.1 = a.1.saturating_add(b.1);
                }
            }
        }
    }
}

/// What the allocator knows of a tensor while it walks the graph.
#[derive(Clone, Default, Debug)]
struct TensorState {
    readers: u32,
    views: u32,
    offset: u64,
    allocated: bool,
}

struct Replay<'g> {
    graph: &'g Graph,
    states: Vec<TensorState>,
    pools: [FreeList; 2],
}

// Ids come from `Graph::push` alone, so every index below is in bounds by construction.
impl<'g> Replay<'g> {
    fn new(graph: &'g Graph) -> Replay<'g> {
        let pools = graph.alignment.map(|alignment| FreeList {
            blocks: vec![(0, u64::MAX / 2)],
            alignment: alignment.max(1),
            high: 0,
            live: 0,
            stages: Vec::new(),
        });
        Replay {
            graph,
            states: vec![TensorState::default(); graph.tensors.len()],
            pools,
        }
    }

    fn run(mut self) -> [Footprint; 2] {
        let graph = self.graph;
        for (id, tensor) in graph.tensors.iter().enumerate() {
            if tensor.storage == Storage::Input {
                self.allocate(id);
            }
            if let Storage::View { root } = tensor.storage {
                self.states[root].views += 1;
            }
            for &source in graph.sources(tensor) {
                self.states[source].readers += 1;
            }
        }
        for (id, tensor) in graph.tensors.iter().enumerate() {
            match tensor.storage {
                Storage::Own => self.allocate(id),
                Storage::Reused if !self.reuse(id) => self.allocate(id),
                _ => {}
            }
            for &source in graph.sources(tensor) {
                self.release(source);
            }
        }
        self.pools.map(|p| Footprint {
            bytes: p.high,
            stages: p.stages,
        })
    }

    fn allocate(&mut self, id: Id) {
        let tensor = &self.graph.tensors[id];
        let offset = self.pools[tensor.pool as usize].allocate(tensor.bytes, tensor.stage);
        self.states[id].offset = offset;
        self.states[id].allocated = true;
    }

    /// Takes over the memory of a source of the same size that `id` alone reads. A view owns no memory, so its own
    /// cannot be taken over.
    fn reuse(&mut self, id: Id) -> bool {
        let graph = self.graph;
        let tensor = &graph.tensors[id];
        for &source in graph.sources(tensor) {
            let parent = &self.graph.tensors[source];
            let state = &self.states[source];
            let alone = state.allocated && state.readers == 1 && state.views == 0;
            let same = parent.bytes == tensor.bytes && parent.pool == tensor.pool && !parent.output;
            if alone && same {
                self.states[id].offset = state.offset;
                self.states[id].allocated = true;
                self.states[source].allocated = false;
                return true;
            }
        }
        false
    }

    /// One reader of `source` has run.
    fn release(&mut self, source: Id) {
        let state = &mut self.states[source];
        state.readers = state.readers.saturating_sub(1);
        if state.readers > 0 || state.views > 0 {
            return;
        }
        let owner = match self.graph.tensors[source].storage {
            Storage::View { root } => {
                let state = &mut self.states[root];
                state.views = state.views.saturating_sub(1);
                if state.views > 0 || state.readers > 0 {
                    return;
                }
                root
            }
            _ => source,
        };
        let tensor = &self.graph.tensors[owner];
        if self.states[owner].allocated && !tensor.output {
            self.states[owner].allocated = false;
            self.pools[tensor.pool as usize].free(self.states[owner].offset, tensor.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tensors::Pool;
    use super::*;

    fn graph() -> Graph {
        Graph::new([32, 32], Pool::Device)
    }

    fn bytes(graph: &Graph) -> u64 {
        let [host, device] = replay(graph);
        assert_eq!(host.bytes, 0);
        device.bytes
    }

    #[test]
    fn a_chain_needs_two_buffers_and_in_place_work_one() {
        let mut chain = graph();
        let mut tensor = chain.input(64);
        for _ in 0..5 {
            tensor = chain.own(64, &[tensor]);
        }
        assert_eq!(bytes(&chain), 128);

        let mut chain = graph();
        let mut tensor = chain.input(64);
        for _ in 0..5 {
            tensor = chain.in_place(&[tensor]);
        }
        assert_eq!(bytes(&chain), 64);
    }

    #[test]
    fn sizes_are_rounded_up_to_the_alignment() {
        let mut graph = graph();
        graph.input(1);
        graph.input(33);
        assert_eq!(bytes(&graph), 32 + 64);
    }

    #[test]
    fn a_tensor_with_another_reader_is_not_worked_on_in_place() {
        let mut graph = graph();
        let stream = graph.input(64);
        let normed = graph.in_place(&[stream]);
        graph.in_place(&[normed, stream]);
        assert_eq!(bytes(&graph), 128);
    }

    #[test]
    fn a_view_keeps_its_tensor_and_is_not_written_over() {
        let mut graph = graph();
        let tensor = graph.input(64);
        let view = graph.reshape(tensor);
        graph.in_place(&[view]);
        assert_eq!(bytes(&graph), 128);
    }

    #[test]
    fn a_freed_block_that_is_too_small_stays_free() {
        // 64 at 0 is freed when 96 is made behind what still lives at 64..96.
        let mut graph = graph();
        let first = graph.input(64);
        let second = graph.own(32, &[first]);
        let third = graph.own(96, &[second]);
        let fourth = graph.own(32, &[third]);
        graph.store(&[fourth]);
        assert_eq!(bytes(&graph), 64 + 32 + 96);
    }

    #[test]
    fn what_is_kept_is_never_freed() {
        let mut graph = graph();
        let kept = graph.input(64);
        graph.keep(kept);
        let mut tensor = graph.in_place(&[kept]);
        for _ in 0..3 {
            tensor = graph.own(64, &[tensor]);
        }
        assert_eq!(bytes(&graph), 3 * 64);
    }

    #[test]
    fn stages_report_what_lived_in_them() {
        let mut graph = graph();
        let first = graph.input(64);
        graph.stage = "work";
        let second = graph.own(128, &[first]);
        graph.own(32, &[second]);
        let [_, device] = replay(&graph);
        assert_eq!(device.stages, [("inputs", 64), ("work", 192)]);
    }
}
