//! The roofline: operational intensity against a board's ridge points, from nominal sizes or from a
//! model's real bytes. No efficiency enters: these are ceilings.

use std::str::FromStr;

use crate::device::PowerMode;
use crate::plan::Plan;
use crate::plan::speed::Bound;

/// Bytes that a token moves over those of the weights in the nominal model: a tenth more for activations and cache, as
/// assumed in the study of decode on the Orin Nano.
pub const NOMINAL_OVERHEAD: f64 = 1.1;

/// A model by its nominal size: `gemma3-1b:1e9:4.5`.
#[derive(Clone, Debug, PartialEq)]
pub struct Nominal {
    /// A name to print.
    pub name: String,
    /// Weights that a token uses.
    pub parameters: f64,
    /// Bits of a weight.
    pub bits: f64,
}

/// A text that is not NAME:PARAMETERS:BITS.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("`{0}` is not NAME:PARAMETERS:BITS, such as gemma3-1b:1e9:4.5 or qwen3:0.6B:8")]
pub struct ParseNominalError(String);

impl FromStr for Nominal {
    type Err = ParseNominalError;

    /// The name may itself contain colons (`gemma3:1b:1e9:4.5`). Parameters take `K`, `M` and `B`.
    fn from_str(text: &str) -> Result<Nominal, ParseNominalError> {
        let refuse = || ParseNominalError(text.to_owned());
        let (rest, bits) = text.rsplit_once(':').ok_or_else(refuse)?;
        let (name, parameters) = rest.rsplit_once(':').ok_or_else(refuse)?;
        let (digits, scale) = match parameters.chars().last().map(|c| c.to_ascii_uppercase()) {
            Some('K') => (&parameters[..parameters.len() - 1], 1e3),
            Some('M') => (&parameters[..parameters.len() - 1], 1e6),
            Some('B') => (&parameters[..parameters.len() - 1], 1e9),
            _ => (parameters, 1.0),
        };
        let parameters = digits.parse::<f64>().map_err(|_| refuse())? * scale;
        let bits = bits.parse::<f64>().map_err(|_| refuse())?;
        let sound = |value: f64, limit: f64| value.is_finite() && value > 0.0 && value <= limit;
        if name.is_empty() || !sound(parameters, 1e15) || !sound(bits, 64.0) {
            return Err(refuse());
        }
        Ok(Nominal {
            name: name.to_owned(),
            parameters,
            bits,
        })
    }
}

/// One point under the roof.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// The model.
    pub model: String,
    /// The scheme, or the nominal bits.
    pub scheme: String,
    /// Floating-point operations per byte.
    pub operational_intensity: f64,
    /// The most tokens a second that the board allows.
    pub ceiling: f64,
    /// Which roof limits it.
    pub bound: Bound,
}

/// The limits of a board in a power mode.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Roof {
    /// Bytes per second.
    pub bandwidth: f64,
    /// Dense FP16 tensor operations per second.
    pub fp16: f64,
    /// Sparse INT8 tensor operations per second.
    pub int8: f64,
}

impl Roof {
    /// The roof of a power mode; `None` where its bandwidth or its peaks are not known.
    pub fn of(mode: &PowerMode) -> Option<Roof> {
        Some(Roof {
            bandwidth: mode.bandwidth.as_ref()?.value.0,
            fp16: mode.fp16.as_ref()?.value.0,
            int8: mode.int8_sparse.as_ref()?.value.0,
        })
    }

    /// FLOP per byte where FP16 arithmetic and memory take equally long.
    pub fn ridge_fp16(&self) -> f64 {
        self.fp16 / self.bandwidth
    }

    /// Operations per byte where sparse INT8 arithmetic and memory take equally long.
    pub fn ridge_int8(&self) -> f64 {
        self.int8 / self.bandwidth
    }

    /// The nominal model: FLOPs = 2 x parameters, bytes = 1.1 x parameters x bits / 8, ceiling =
    /// min(bandwidth / bytes, FP16 peak / FLOPs).
    pub fn nominal(&self, nominal: &Nominal) -> Point {
        let flops = 2.0 * nominal.parameters;
        let bytes = NOMINAL_OVERHEAD * nominal.parameters * nominal.bits / 8.0;
        self.point(
            nominal.name.clone(),
            format!("{} bit", nominal.bits),
            flops,
            bytes,
        )
    }

    /// A plan's real bytes and operations a token. `None` where its speed is not known.
    pub fn plan(&self, model: &str, plan: &Plan) -> Option<Point> {
        let decode = &plan.speeds.as_ref()?.decode;
        let (flops, bytes) = (decode.flops_per_step as f64, decode.bytes_per_step as f64);
        Some(self.point(
            model.to_owned(),
            plan.assignment.scheme.clone(),
            flops,
            bytes,
        ))
    }

    fn point(&self, model: String, scheme: String, flops: f64, bytes: f64) -> Point {
        let (memory, compute) = (self.bandwidth / bytes, self.fp16 / flops);
        Point {
            model,
            scheme,
            operational_intensity: flops / bytes,
            ceiling: memory.min(compute),
            bound: if compute < memory {
                Bound::Compute
            } else {
                Bound::Memory
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seven rows of the study, its own theoretical rate and intensity to the printed digit.
    #[test]
    fn the_studys_figures_come_out_to_the_digit() {
        let roof = Roof {
            bandwidth: 68e9,
            fp16: 10e12,
            int8: 40e12,
        };
        for (text, rate, intensity) in [
            ("qwen3:0.6b:0.6B:8", "103.03", "1.82"),
            ("qwen2.5:0.5b:0.5B:4.5", "219.80", "3.23"),
            ("gemma3:1b:1B:4.5", "109.90", "3.23"),
            ("Qwen/Qwen2.5-0.5B-Instruct:500M:16", "61.82", "0.91"),
            ("Qwen/Qwen3-0.6B-FP8:600M:8", "103.03", "1.82"),
            ("gemma3n:e2b:2e9:4.5", "54.95", "3.23"),
            ("google/gemma-3-1b-it:1e9:16", "30.91", "0.91"),
        ] {
            let point = roof.nominal(&text.parse().unwrap());
            assert_eq!(format!("{:.2}", point.ceiling), rate, "{text}");
            assert_eq!(
                format!("{:.2}", point.operational_intensity),
                intensity,
                "{text}"
            );
            assert_eq!(point.bound, Bound::Memory);
        }
        assert_eq!(
            format!("{:.0} {:.0}", roof.ridge_fp16(), roof.ridge_int8()),
            "147 588"
        );
    }

    #[test]
    fn names_may_hold_colons_and_nonsense_is_refused() {
        let nominal: Nominal = "gemma3:1b:1e9:4.5".parse().unwrap();
        assert_eq!(
            (nominal.name.as_str(), nominal.parameters, nominal.bits),
            ("gemma3:1b", 1e9, 4.5)
        );
        for bad in [
            "",
            "a",
            "a:b",
            "a:1:",
            ":1:8",
            "a:-1:8",
            "a:1:0",
            "a:NaN:8",
            "a:1e99:8",
            "a:\u{e9}:8",
        ] {
            assert!(bad.parse::<Nominal>().is_err(), "{bad}");
        }
    }
}
