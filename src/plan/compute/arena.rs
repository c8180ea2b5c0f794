//! ggml's graph allocator, replayed on sizes alone: a list of tensors in execution order comes in,
//! the bytes that each buffer must have come out. Knows nothing of models; allocates no tensor.
//!
//! Rules: `ggml/src/ggml-alloc.c` of llama.cpp. Inputs are placed first; a node then takes the place
//! of a source that nobody else reads (if its operation may work in place), else the smallest hole
//! that fits, else the end; a tensor's place is freed after its last reader. Holes are why a buffer
//! is larger than what lives in it at any one time.

/// A tensor of a [`Graph`].
pub(super) type Id = usize;

/// The buffer that a tensor is placed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pool {
    Host = 0,
    Device = 1,
}

/// How a tensor comes by its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Storage {
    /// Set by the caller before the graph runs.
    Input,
    /// Memory of its own.
    Own,
    /// Memory of its own, or that of a source of the same size whose only reader it is.
    Reused,
    /// The memory of another tensor.
    View { root: Id },
    /// Memory outside the graph, such as the cache.
    External,
}

#[derive(Debug)]
struct Tensor {
    bytes: u64,
    sources: Vec<Id>,
    storage: Storage,
    pool: Pool,
    stage: &'static str,
    output: bool,
}

/// Tensors in execution order, sizes only.
#[derive(Debug)]
pub(super) struct Graph {
    tensors: Vec<Tensor>,
    /// The pool and the stage that new tensors belong to.
    pub(super) pool: Pool,
    pub(super) stage: &'static str,
    alignment: [u64; 2],
}

/// What a replay found for one pool.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Footprint {
    /// The size of the buffer in bytes.
    pub(super) bytes: u64,
    /// The most bytes alive at once within each stage, in order of appearance.
    pub(super) stages: Vec<(&'static str, u64)>,
}

impl Graph {
    /// An empty graph whose two pools align tensors to `alignment` bytes (host, device).
    pub(super) fn new(alignment: [u64; 2], pool: Pool) -> Graph {
        Graph {
            tensors: Vec::new(),
            pool,
            stage: "inputs",
            alignment,
        }
    }

    fn push(&mut self, bytes: u64, sources: &[Id], storage: Storage) -> Id {
        self.tensors.push(Tensor {
            bytes,
            sources: sources.to_vec(),
            storage,
            pool: self.pool,
            stage: self.stage,
            output: false,
        });
        self.tensors.len() - 1
    }

    /// A tensor that the caller fills before each run.
    pub(super) fn input(&mut self, bytes: u64) -> Id {
        self.push(bytes, &[], Storage::Input)
    }

    /// The result of an operation that cannot work in place.
    pub(super) fn own(&mut self, bytes: u64, sources: &[Id]) -> Id {
        self.push(bytes, sources, Storage::Own)
    }

    /// The result of an operation that can work in place, of the size of its first source.
    pub(super) fn in_place(&mut self, sources: &[Id]) -> Id {
        let bytes = sources
            .first()
            .and_then(|&s| self.tensors.get(s))
            .map_or(0, |t| t.bytes);
        self.push(bytes, sources, Storage::Reused)
    }

    /// The same memory in another shape.
    pub(super) fn reshape(&mut self, source: Id) -> Id {
        self.slice(self.bytes(source), source)
    }

    /// `bytes` within `source`.
    pub(super) fn slice(&mut self, bytes: u64, source: Id) -> Id {
        let root = match self.tensors.get(source).map(|t| t.storage) {
            Some(Storage::View { root }) => root,
            _ => source,
        };
        self.push(bytes, &[source], Storage::View { root })
    }

    /// An operation that writes outside the graph, such as storing keys in the cache.
    pub(super) fn store(&mut self, sources: &[Id]) -> Id {
        self.push(0, sources, Storage::External)
    }

    /// Keeps `tensor` until the end of the graph.
    pub(super) fn keep(&mut self, tensor: Id) {
        if let Some(tensor) = self.tensors.get_mut(tensor) {
            tensor.output = true;
        }
    }

    /// The bytes of `tensor`.
    pub(super) fn bytes(&self, tensor: Id) -> u64 {
        self.tensors.get(tensor).map_or(0, |t| t.bytes)
    }

    /// Tensors, views included.
    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Replays the allocator and returns the footprint of the host pool and of the device pool.
    pub(super) fn replay(&self) -> [Footprint; 2] {
        Replay::new(self).run()
    }
}

/// Free space of one pool, sorted by offset; the last block has no end.
#[derive(Debug)]
struct Holes {
    blocks: Vec<(u64, u64)>,
    alignment: u64,
    high: u64,
    live: u64,
    stages: Vec<(&'static str, u64)>,
}

impl Holes {
    fn padded(&self, bytes: u64) -> u64 {
        bytes
            .div_ceil(self.alignment)
            .saturating_mul(self.alignment)
    }

    /// The offset of `bytes` new bytes: the smallest hole that fits, the last of equals.
    fn take(&mut self, bytes: u64, stage: &'static str) -> u64 {
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

    /// Frees `bytes` at `offset` and joins neighbouring holes.
    fn give(&mut self, offset: u64, bytes: u64) {
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
struct State {
    readers: u32,
    views: u32,
    offset: u64,
    allocated: bool,
}

struct Replay<'g> {
    graph: &'g Graph,
    states: Vec<State>,
    pools: [Holes; 2],
}

// Ids come from `Graph::push` alone, so every index below is in bounds by construction.
impl<'g> Replay<'g> {
    fn new(graph: &'g Graph) -> Replay<'g> {
        let pools = graph.alignment.map(|alignment| Holes {
            blocks: vec![(0, u64::MAX / 2)],
            alignment: alignment.max(1),
            high: 0,
            live: 0,
            stages: Vec::new(),
        });
        Replay {
            graph,
            states: vec![State::default(); graph.tensors.len()],
            pools,
        }
    }

    fn run(mut self) -> [Footprint; 2] {
        for (id, tensor) in self.graph.tensors.iter().enumerate() {
            if tensor.storage == Storage::Input {
                self.take(id);
            }
            if let Storage::View { root } = tensor.storage {
                self.states[root].views += 1;
            }
            for &source in &tensor.sources {
                self.states[source].readers += 1;
            }
        }
        for (id, tensor) in self.graph.tensors.iter().enumerate() {
            match tensor.storage {
                Storage::Own => self.take(id),
                Storage::Reused if !self.reuse(id) => self.take(id),
                _ => {}
            }
            for &source in &tensor.sources {
                self.release(source);
            }
        }
        self.pools.map(|p| Footprint {
            bytes: p.high,
            stages: p.stages,
        })
    }

    fn take(&mut self, id: Id) {
        let tensor = &self.graph.tensors[id];
        let offset = self.pools[tensor.pool as usize].take(tensor.bytes, tensor.stage);
        self.states[id].offset = offset;
        self.states[id].allocated = true;
    }

    /// Takes over the place of a source of the same size that `id` alone reads. A view owns no
    /// place, so it has none to give.
    fn reuse(&mut self, id: Id) -> bool {
        let tensor = &self.graph.tensors[id];
        for &source in &tensor.sources {
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
            self.pools[tensor.pool as usize].give(self.states[owner].offset, tensor.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        Graph::new([32, 32], Pool::Device)
    }

    fn bytes(graph: &Graph) -> u64 {
        let [host, device] = graph.replay();
        assert_eq!(host.bytes, 0);
        device.bytes
    }

    #[test]
    fn a_chain_needs_two_places_and_in_place_work_one() {
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
    fn a_view_keeps_its_tensor_and_lends_no_place() {
        let mut graph = graph();
        let tensor = graph.input(64);
        let view = graph.reshape(tensor);
        graph.in_place(&[view]);
        assert_eq!(bytes(&graph), 128);
    }

    #[test]
    fn a_freed_place_that_is_too_small_is_a_hole() {
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
        let [_, device] = graph.replay();
        assert_eq!(device.stages, [("inputs", 64), ("work", 192)]);
    }
}
