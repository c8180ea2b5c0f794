//! The costs that are expected before anything is timed: those of a reference machine, scaled by the memory bandwidth
//! and the arithmetic rate of this one.
//!
//! The reference is two AVX2 cores with 20 GB/s of memory, in round numbers. The rates of Q4_K, Q8_0, Q4_0 and F16
//! follow from the measurements in `docs/decoder.md`; the other rates and the overheads are estimated from these by the
//! kind of kernel. So each may be off by a factor of two or more, and the fit relies on measured times where there are
//! any.

use super::solve::UnitCost;
use crate::dtype::Dtype;

/// The reference machine: bytes read and multiply-adds computed a second.
const BANDWIDTH: f64 = 20e9;
const ARITHMETIC: f64 = 25e9;

/// Uncertainty of the rate of a format and of an overhead, as standard deviations of the logarithm: factors of two and
/// three.
const FORMAT: f64 = 0.7;
const OVERHEAD: f64 = 1.1;

/// The formats that are measured: all that the decoder has kernels for. Each with its rates on the reference machine: bytes
/// of weights a second in decode, multiply-accumulates a second in prefill.
pub(super) const FORMATS: [(Dtype, f64, f64); 15] = [
    (Dtype::Q4_K, 16e9, 50e9),
    (Dtype::Q6_K, 16e9, 45e9),
    (Dtype::Q8_0, 20e9, 50e9),
    (Dtype::Q4_0, 16e9, 50e9),
    (Dtype::Q5_0, 14e9, 40e9),
    (Dtype::F16, 20e9, 25e9),
    (Dtype::Q5_K, 14e9, 40e9),
    (Dtype::BF16, 20e9, 25e9),
    (Dtype::Q3_K, 10e9, 40e9),
    (Dtype::Q2_K, 9e9, 40e9),
    (Dtype::Q4_1, 16e9, 50e9),
    (Dtype::Q5_1, 14e9, 40e9),
    (Dtype::IQ4_NL, 14e9, 50e9),
    (Dtype::IQ4_XS, 14e9, 50e9),
    (Dtype::F32, 20e9, 25e9),
];

/// Seconds of a row, a column, a layer, a token, and a byte of the cache, in decode on the reference machine.
const TOKEN: [f64; 5] = [3e-9, 1e-8, 2e-5, 5e-5, 2e-10];

/// Seconds of a row for one token, and of a multiply-accumulate of attention, in prefill on the reference machine.
const PROMPT: [f64; 2] = [1e-9, 1e-10];

/// The rates of a machine that are measured without a model.
#[derive(Clone, Copy, Debug)]
pub(super) struct MachineRates {
    /// Bytes read from memory a second, by all threads together.
    pub(super) bandwidth: f64,
    /// Multiply-adds a second, by all threads together.
    pub(super) arithmetic: f64,
}

impl MachineRates {
    /// How many times as long as the reference machine it takes to read memory.
    fn reading(self) -> f64 {
        BANDWIDTH / self.bandwidth
    }

    /// How many times as long as the reference machine it takes to compute.
    fn computing(self) -> f64 {
        ARITHMETIC / self.arithmetic
    }

    /// The costs of a decoded token: a byte of each format, then a row, a column, a layer, a token, a byte of the cache.
    pub(super) fn token(self) -> Vec<UnitCost> {
        // A byte is read and unpacked: the slower of the two decides.
        let slower = self.reading().max(self.computing());
        let formats = FORMATS.map(|(_, rate, _)| of_format(slower / rate));
        let shared = TOKEN.map(|seconds| overhead(seconds * self.computing()));
        formats.into_iter().chain(shared).collect()
    }

    /// The costs of a prompt: a multiply-accumulate of each format, then a row for one token, and a multiply-accumulate
    /// of attention.
    pub(super) fn prompt(self) -> Vec<UnitCost> {
        let formats = FORMATS.map(|(_, _, rate)| of_format(self.computing() / rate));
        let shared = PROMPT.map(|seconds| overhead(seconds * self.computing()));
        formats.into_iter().chain(shared).collect()
    }
}

fn of_format(seconds: f64) -> UnitCost {
    UnitCost {
        seconds,
        uncertainty: FORMAT,
    }
}

fn overhead(seconds: f64) -> UnitCost {
    UnitCost {
        seconds,
        uncertainty: OVERHEAD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::multiplies;
    use crate::dtype;

    /// Those whose blocks are unpacked, without a kernel of their own, are left to the nearest in bits.
    #[test]
    fn every_format_with_a_kernel_is_measured() {
        use Dtype::*;
        let unpacked = [
            IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS, IQ3_S, TQ1_0, TQ2_0, MXFP4, Q1_0, Q2_0,
        ];
        for format in dtype::FORMATS {
            let measured = FORMATS.iter().any(|(known, ..)| *known == format.dtype);
            let kernel = multiplies(format.dtype) && !unpacked.contains(&format.dtype);
            assert_eq!(measured, kernel, "{}", format.name);
        }
    }

    #[test]
    fn a_machine_of_half_the_speed_is_expected_to_take_twice_as_long() {
        let reference = MachineRates {
            bandwidth: BANDWIDTH,
            arithmetic: ARITHMETIC,
        };
        let slow = MachineRates {
            bandwidth: BANDWIDTH / 2.0,
            arithmetic: ARITHMETIC / 2.0,
        };
        let pairs = |of: fn(MachineRates) -> Vec<UnitCost>| of(reference).into_iter().zip(of(slow));
        for (one, two) in pairs(MachineRates::token).chain(pairs(MachineRates::prompt)) {
            assert!((two.seconds / one.seconds - 2.0).abs() < 1e-9);
        }
    }
}
