//! What costs are expected before anything is timed: those of a reference machine, scaled by what memory
//! and arithmetic give here.
//!
//! The reference is two AVX2 cores with 20 GB/s of memory, in round numbers: rates of Q4_K, Q8_0, Q4_0 and F16
//! follow from the decodes and prompts in `docs/decoder.md`, the others and the overheads are estimates from these by
//! kind of kernel. So nothing is taken for better than within a factor of two, and what was timed decides.

use super::solve::Cost;
use crate::decode::has_kernel;
use crate::dtype::Dtype;

/// What memory and arithmetic gave on the reference machine, in bytes and multiply-adds a second.
const BANDWIDTH: f64 = 20e9;
const ARITHMETIC: f64 = 25e9;

/// Standard deviations of the logarithms: a factor of two, and of three.
const FORMAT: f64 = 0.7;
const OVERHEAD: f64 = 1.1;

/// The formats that are measured: all that the decoder multiplies. With bytes of weights a second for one token,
/// and multiply-accumulates a second in a prompt, on the reference machine.
pub(super) const FORMATS: [(Dtype, f64, f64); 13] = [
    (Dtype::Q4_K, 16e9, 50e9),
    (Dtype::Q6_K, 16e9, 45e9),
    (Dtype::Q8_0, 20e9, 50e9),
    (Dtype::Q4_0, 16e9, 50e9),
    (Dtype::Q5_0, 14e9, 40e9),
    (Dtype::F16, 20e9, 25e9),
    (Dtype::Q5_K, 14e9, 40e9),
    (Dtype::BF16, 20e9, 25e9),
    (Dtype::Q3_K, 8e9, 15e9),
    (Dtype::Q2_K, 7e9, 15e9),
    (Dtype::Q4_1, 2e9, 4e9),
    (Dtype::Q5_1, 2e9, 4e9),
    (Dtype::F32, 20e9, 25e9),
];

/// Seconds of a row, a column, a layer and a token, and a byte of the cache.
const TOKEN: [f64; 5] = [3e-9, 1e-8, 2e-5, 5e-5, 2e-10];

/// Seconds of a row for one token of a prompt, and a multiply-accumulate of attention.
const PROMPT: [f64; 2] = [1e-9, 1e-10];

/// A machine against the reference.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// Bytes a second.
    pub(super) bandwidth: f64,
    /// Multiply-adds a second.
    pub(super) arithmetic: f64,
}

impl Machine {
    /// How many times as long as the reference it takes where it reads, and where it computes.
    fn reading(self) -> f64 {
        BANDWIDTH / self.bandwidth
    }

    fn computing(self) -> f64 {
        ARITHMETIC / self.arithmetic
    }

    /// Costs of a token: each format's bytes, then a row, a column, a layer, a token and a byte of the cache.
    pub(super) fn token(self) -> Vec<Cost> {
        // A byte is read and unpacked: what takes longer decides.
        let slower = self.reading().max(self.computing());
        let formats = FORMATS.map(|(format, rate, _)| of_format(format, slower / rate));
        let shared = TOKEN.map(|seconds| overhead(seconds * self.computing()));
        formats.into_iter().chain(shared).collect()
    }

    /// Costs of a prompt: each format's multiply-accumulates, then a row and token, and attention.
    pub(super) fn prompt(self) -> Vec<Cost> {
        let formats = FORMATS.map(|(format, _, rate)| of_format(format, self.computing() / rate));
        let shared = PROMPT.map(|seconds| overhead(seconds * self.computing()));
        formats.into_iter().chain(shared).collect()
    }
}

/// Without a kernel of the decoder's own a format may do as badly as overhead.
fn of_format(format: Dtype, seconds: f64) -> Cost {
    let uncertainty = if has_kernel(format) { FORMAT } else { OVERHEAD };
    Cost {
        seconds,
        uncertainty,
    }
}

fn overhead(seconds: f64) -> Cost {
    Cost {
        seconds,
        uncertainty: OVERHEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::multiplies;
    use crate::dtype;

    #[test]
    fn every_format_that_the_decoder_multiplies_is_measured() {
        for format in dtype::FORMATS {
            let measured = FORMATS.iter().any(|(known, ..)| *known == format.dtype);
            assert_eq!(measured, multiplies(format.dtype), "{}", format.name);
        }
    }

    #[test]
    fn a_machine_of_half_the_speed_is_expected_to_take_twice_as_long() {
        let reference = Machine {
            bandwidth: BANDWIDTH,
            arithmetic: ARITHMETIC,
        };
        let slow = Machine {
            bandwidth: BANDWIDTH / 2.0,
            arithmetic: ARITHMETIC / 2.0,
        };
        let pairs = |of: fn(Machine) -> Vec<Cost>| of(reference).into_iter().zip(of(slow));
        for (one, two) in pairs(Machine::token).chain(pairs(Machine::prompt)) {
            assert!((two.seconds / one.seconds - 2.0).abs() < 1e-9);
        }
    }
}
