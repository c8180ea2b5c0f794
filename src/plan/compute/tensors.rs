//! The tensors of one pass in execution order: their sizes, what each is computed from and how it comes by its memory.
//! Knows neither models nor the allocator.

use std::ops::Range;

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
pub(super) enum Storage {
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

/// A tensor of a [`Graph`], without its values.
#[derive(Debug)]
pub(super) struct SizedTensor {
    pub(super) bytes: u64,
    /// Where what it is computed from stands in the graph's list: see [`Graph::sources`].
    sources: Range<usize>,
    pub(super) storage: Storage,
    pub(super) pool: Pool,
    /// The part of the pass that it belongs to.
    pub(super) stage: &'static str,
    /// Whether it is kept until the end of the graph.
    pub(super) output: bool,
}

/// Tensors in execution order, sizes only.
#[derive(Debug)]
pub(super) struct Graph {
    pub(super) tensors: Vec<SizedTensor>,
    /// The sources of all tensors one after another: a list of its own for each was half of the time of a plan.
    sources: Vec<Id>,
    /// The pool and the stage that new tensors belong to.
    pub(super) pool: Pool,
    pub(super) stage: &'static str,
    /// Bytes that the host pool and the device pool align tensors to.
    pub(super) alignment: [u64; 2],
    /// How often every input is there: once, or for each pass that may be under way.
    pub(super) copies: u64,
}

impl Graph {
    /// An empty graph whose two pools align tensors to `alignment` bytes (host, device).
    pub(super) fn new(alignment: [u64; 2], pool: Pool) -> Graph {
        Graph {
            tensors: Vec::new(),
            sources: Vec::new(),
            pool,
            stage: "inputs",
            alignment,
            copies: 1,
        }
    }

    fn push(&mut self, bytes: u64, sources: &[Id], storage: Storage) -> Id {
        let from = self.sources.len();
        self.sources.extend_from_slice(sources);
        self.tensors.push(SizedTensor {
            bytes,
            sources: from..self.sources.len(),
            storage,
            pool: self.pool,
            stage: self.stage,
            output: false,
        });
        self.tensors.len() - 1
    }

    /// A tensor that the caller fills before each run.
    pub(super) fn input(&mut self, bytes: u64) -> Id {
        for _ in 1..self.copies {
            let further = self.push(bytes, &[], Storage::Input);
            self.keep(further);
        }
        let input = self.push(bytes, &[], Storage::Input);
        if self.copies > 1 {
            self.keep(input);
        }
        input
    }

    /// What the device gets of `source`, which is elsewhere. Where several passes may be under way, each has a copy that
    /// is kept from before the pass until its end.
    pub(super) fn copy(&mut self, source: Id) -> Id {
        let bytes = self.bytes(source);
        if self.copies == 1 {
            return self.own(bytes, &[source]);
        }
        self.input(bytes)
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

    /// The tensors that `tensor` is computed from.
    pub(super) fn sources(&self, tensor: &SizedTensor) -> &[Id] {
        self.sources.get(tensor.sources.clone()).unwrap_or_default()
    }

    /// The bytes of `tensor`.
    pub(super) fn bytes(&self, tensor: Id) -> u64 {
        self.tensors.get(tensor).map_or(0, |t| t.bytes)
    }

    /// Tensors, views included.
    pub(super) fn len(&self) -> usize {
        self.tensors.len()
    }
}
