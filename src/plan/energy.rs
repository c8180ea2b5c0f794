//! Watts while decoding, and tokens a joule, in each power mode, by the rails of the board whose power was measured.

use crate::device::PowerMode;
use crate::evidence::{Activity, Rail, rails};
use crate::note::NoWatts;
use crate::plan::speed::{ClockedGpu, DecodeEstimate, Spread};
use crate::plan::target::{Target, gpu};
use crate::runtime::profile::ComputeBackend;

/// What a power mode is predicted to draw while it decodes.
#[derive(Clone, Debug, PartialEq)]
pub struct ModeEnergy {
    /// The mode's name.
    pub power_mode: String,
    /// Its decode rate.
    pub tokens_per_second: Spread,
    /// Each rail of the board that was measured, that of the whole board first; never empty.
    pub rails: Vec<RailEnergy>,
}

/// The power of one rail at the expected decode rate.
#[derive(Clone, Debug, PartialEq)]
pub struct RailEnergy {
    /// The rail.
    pub rail: &'static Rail,
    /// Watts.
    pub watts: Spread,
    /// Decoded tokens a joule.
    pub tokens_per_joule: Spread,
}

/// The rails whose power is predicted on `target`: those that were measured on its board while a GPU decoded one sequence.
///
/// # Errors
/// Why there are none.
pub(super) fn predicted_rails(
    target: Target<'_>,
    parallel: u64,
) -> Result<Vec<&'static Rail>, NoWatts> {
    if target.runtime.backend == ComputeBackend::Cpu {
        return Err(NoWatts::Processors);
    }
    let rails = rails(&target.device.id);
    match rails.is_empty() {
        true => Err(NoWatts::Board),
        // The arithmetic of several is no more of what single ones were measured with.
        false if parallel > 1 => Err(NoWatts::Sequences),
        false => Ok(rails),
    }
}

/// The modes of the board whose clocks are known, each with what its rails draw while `decode` estimates its rate; empty
/// where no power is predicted.
pub(super) fn by_mode(
    target: Target<'_>,
    parallel: u64,
    decode: impl Fn(&PowerMode, ClockedGpu) -> DecodeEstimate,
) -> Vec<ModeEnergy> {
    let Ok(rails) = predicted_rails(target, parallel) else {
        return Vec::new();
    };
    let modes = target.device.modes.iter();
    let known = modes.filter_map(|mode| Some((mode, gpu(mode)?)));
    known
        .map(|(mode, gpu)| {
            let decode = decode(mode, gpu);
            let of = |rail: &&'static Rail| rail_energy(rail, &decode, &gpu);
            ModeEnergy {
                power_mode: mode.name.clone(),
                tokens_per_second: decode.tokens_per_second,
                rails: rails.iter().map(of).collect(),
            }
        })
        .collect()
}

fn rail_energy(rail: &'static Rail, decode: &DecodeEstimate, gpu: &ClockedGpu) -> RailEnergy {
    // Of one sequence, each step is a token.
    let rate = decode.tokens_per_second.expected;
    let expected = rail.watts(Activity {
        sms: f64::from(gpu.sm_count),
        gigahertz: gpu.clock.0 / 1e9,
        gigamacs: rate * decode.flops_per_step as f64 / 2e9,
        gigabytes: rate * decode.memory_bytes_per_step / 1e9,
    });
    let watts = Spread {
        low: expected * rail.low,
        expected,
        high: expected * rail.high,
    };
    // Power follows the rate, so that the range of tokens a joule is that of the power, not that of both.
    let at = |watts: f64| rate / watts.max(f64::MIN_POSITIVE);
    RailEnergy {
        rail,
        watts,
        tokens_per_joule: Spread {
            low: at(watts.high),
            expected: at(watts.expected),
            high: at(watts.low),
        },
    }
}

/// The mode that decodes fastest among those whose first rail is expected to draw no more than `watts`; `None` where
/// there is none.
pub fn fastest_within(modes: &[ModeEnergy], watts: f64) -> Option<&ModeEnergy> {
    let drawn = |mode: &&ModeEnergy| {
        let rail = mode.rails.first();
        rail.is_some_and(|rail| rail.watts.expected <= watts)
    };
    let rate = |mode: &ModeEnergy| mode.tokens_per_second.expected;
    modes
        .iter()
        .filter(drawn)
        .max_by(|a, b| rate(a).total_cmp(&rate(b)))
}
