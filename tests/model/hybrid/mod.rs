//! Architectures whose blocks are not all alike: their configurations and their checkpoints.

mod architectures;
mod checkpoints;
mod recurrent;
