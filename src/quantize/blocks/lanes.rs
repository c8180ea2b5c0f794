//! Eight numbers side by side: one lane for each of eight sub-blocks that are searched at once.
//!
//! Plain arrays and plain arithmetic, written so that the compiler makes vector instructions of
//! them. Products and sums are never fused, so every machine computes the same bits. Inputs are
//! finite; comparisons with NaN are false.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// Lanes in a vector.
pub(super) const LANES: usize = 8;

/// Eight `f32`, each with a life of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(32))]
pub(super) struct Lanes(pub(super) [f32; LANES]);

/// `f` of each lane, written out: the compiler sees straight-line code even without optimisation.
macro_rules! each {
    ($i:ident => $f:expr) => {
        Lanes([
            {
                let $i = 0;
                $f
            },
            {
                let $i = 1;
                $f
            },
            {
                let $i = 2;
                $f
            },
            {
                let $i = 3;
                $f
            },
            {
                let $i = 4;
                $f
            },
            {
                let $i = 5;
                $f
            },
            {
                let $i = 6;
                $f
            },
            {
                let $i = 7;
                $f
            },
        ])
    };
}

macro_rules! operator {
    ($($trait:ident $method:ident $op:tt;)*) => {$(
        impl $trait for Lanes {
            type Output = Lanes;
            #[inline(always)]
            fn $method(self, other: Lanes) -> Lanes {
                let (a, b) = (self.0, other.0);
                each!(i => a[i] $op b[i])
            }
        }
    )*};
}

operator! { Add add +; Sub sub -; Mul mul *; Div div /; }

impl Neg for Lanes {
    type Output = Lanes;
    #[inline(always)]
    fn neg(self) -> Lanes {
        let a = self.0;
        each!(i => -a[i])
    }
}

impl Lanes {
    pub(super) const ZERO: Lanes = Lanes([0.0; LANES]);

    #[inline(always)]
    pub(super) fn splat(value: f32) -> Lanes {
        Lanes([value; LANES])
    }

    /// The larger of two; `other` where either is NaN.
    #[inline(always)]
    pub(super) fn max(self, other: Lanes) -> Lanes {
        self.below(other, other, self)
    }

    /// The smaller of two; `other` where either is NaN.
    #[inline(always)]
    pub(super) fn min(self, other: Lanes) -> Lanes {
        let (a, b) = (self.0, other.0);
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    pub(super) fn abs(self) -> Lanes {
        let a = self.0;
        each!(i => a[i].abs())
    }

    #[inline(always)]
    pub(super) fn sqrt(self) -> Lanes {
        let a = self.0;
        each!(i => a[i].sqrt())
    }

    /// `yes` where `self < limit`, else `no`.
    #[inline(always)]
    pub(super) fn below(self, limit: Lanes, yes: Lanes, no: Lanes) -> Lanes {
        let (a, b, y, n) = (self.0, limit.0, yes.0, no.0);
        each!(i => if a[i] < b[i] { y[i] } else { n[i] })
    }

    /// The nearest integer, halves to even, for magnitudes below 2^22: adding 1.5 x 2^23 leaves no
    /// fraction bits.
    #[inline(always)]
    pub(super) fn round(self) -> Lanes {
        const SHIFT: f32 = 12_582_912.0;
        let a = self.0;
        each!(i => (a[i] + SHIFT) - SHIFT)
    }

    /// `1 / self`, and 0 where that is not a finite number.
    #[inline(always)]
    pub(super) fn inverse_or_zero(self) -> Lanes {
        let inverse = Lanes::splat(1.0) / self;
        inverse
            .abs()
            .below(Lanes::splat(f32::INFINITY), inverse, Lanes::ZERO)
    }

    /// The sum of all lanes, in double precision and in order.
    #[inline(always)]
    pub(super) fn sum(self) -> f64 {
        self.0.iter().fold(0.0, |sum, &v| sum + f64::from(v))
    }

    /// The largest lane.
    #[inline(always)]
    pub(super) fn largest(self) -> f32 {
        self.0
            .iter()
            .fold(f32::NEG_INFINITY, |a, &b| if a < b { b } else { a })
    }
}

/// Sub-block `lane` of `values`, each `LEN` long, becomes lane `lane` of `LEN` vectors. Missing
/// values are 0.
#[inline(always)]
pub(super) fn transpose<const LEN: usize>(values: &[f32]) -> [Lanes; LEN] {
    let mut out = [Lanes::ZERO; LEN];
    for (lane, sub) in values.chunks(LEN).take(LANES).enumerate() {
        for (vector, &value) in out.iter_mut().zip(sub) {
            vector.0[lane] = value;
        }
    }
    out
}
