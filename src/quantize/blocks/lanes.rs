//! Vectors of eight numbers: one lane for each of eight sub-blocks that are searched at once.
//!
//! [`Lanes`] has the operations that a search needs, [`Eight`] implements them with plain arrays for every processor,
//! [`super::avx2`] with registers. Products and sums are never fused, and every operation
//! rounds by IEEE 754, so that both compute the same bits. Values are finite; if NaN occurs nevertheless,
//! comparisons with it are false.

use std::fmt::Debug;
use std::ops::{Add, Div, Mul, Neg, Sub};

/// Lanes in a vector.
pub(super) const LANES: usize = 8;

/// Eight independent `f32`.
pub(super) trait Lanes:
    Copy
    + Debug
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    fn from_array(values: [f32; LANES]) -> Self;
    fn to_array(self) -> [f32; LANES];
    fn splat(value: f32) -> Self;
    /// The larger of two; `other` where either is NaN.
    fn max(self, other: Self) -> Self;
    /// The smaller of two; `other` where either is NaN.
    fn min(self, other: Self) -> Self;
    fn abs(self) -> Self;
    fn sqrt(self) -> Self;
    /// `yes` where `self < limit`, else `no`.
    fn select_lt(self, limit: Self, yes: Self, no: Self) -> Self;
    /// Lane `i` of vector `j` becomes lane `j` of vector `i`.
    fn transpose(rows: [Self; LANES]) -> [Self; LANES];
    /// Runs `work` in a function of its own, compiled for the instructions of these lanes, so that not everything is
    /// inlined into one function. `work` must be `#[inline(always)]`.
    fn outlined<R>(work: impl FnOnce() -> R) -> R;

    #[inline(always)]
    fn zero() -> Self {
        Self::splat(0.0)
    }

    /// The nearest integer, halves to even, for magnitudes below 2^22: adding 1.5 x 2^23 leaves no
    /// fraction bits.
    #[inline(always)]
    fn round(self) -> Self {
        let shift = Self::splat(SHIFT);
        (self + shift) - shift
    }

    /// Integers as bytes, those below 0 in two's complement, for magnitudes below 2^22.
    #[inline(always)]
    fn to_bytes(self) -> [u8; LANES] {
        // The same shift puts the integer in the lowest bits.
        (self + Self::splat(SHIFT))
            .to_array()
            .map(|v| v.to_bits() as u8)
    }

    /// `1 / self`, and 0 where that is not a finite number.
    #[inline(always)]
    fn inverse_or_zero(self) -> Self {
        let inverse = Self::splat(1.0) / self;
        inverse
            .abs()
            .select_lt(Self::splat(f32::INFINITY), inverse, Self::zero())
    }

    /// The sum of all lanes, in double precision and in order.
    #[inline(always)]
    fn sum(self) -> f64 {
        self.to_array()
            .iter()
            .fold(0.0, |sum, &v| sum + f64::from(v))
    }

    /// The largest lane, at least 0.
    #[inline(always)]
    fn largest(self) -> f32 {
        self.to_array()
            .iter()
            .fold(0.0, |a, &b| if a < b { b } else { a })
    }
}

const SHIFT: f32 = 12_582_912.0;

/// Lanes in a plain array.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(32))]
pub(super) struct Eight([f32; LANES]);

/// `f` of each lane, unrolled, so that the compiler can use vector instructions.
macro_rules! each {
    ($i:ident => $f:expr) => {
        Eight([
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
        impl $trait for Eight {
            type Output = Eight;
            #[inline(always)]
            fn $method(self, other: Eight) -> Eight {
                let (a, b) = (self.0, other.0);
                each!(i => a[i] $op b[i])
            }
        }
    )*};
}

operator! { Add add +; Sub sub -; Mul mul *; Div div /; }

impl Neg for Eight {
    type Output = Eight;
    #[inline(always)]
    fn neg(self) -> Eight {
        let a = self.0;
        each!(i => -a[i])
    }
}

impl Lanes for Eight {
    #[inline(always)]
    fn from_array(values: [f32; LANES]) -> Eight {
        Eight(values)
    }

    #[inline(always)]
    fn to_array(self) -> [f32; LANES] {
        self.0
    }

    #[inline(always)]
    fn splat(value: f32) -> Eight {
        Eight([value; LANES])
    }

    #[inline(always)]
    fn max(self, other: Eight) -> Eight {
        let (a, b) = (self.0, other.0);
        each!(i => if a[i] > b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn min(self, other: Eight) -> Eight {
        let (a, b) = (self.0, other.0);
        each!(i => if a[i] < b[i] { a[i] } else { b[i] })
    }

    #[inline(always)]
    fn abs(self) -> Eight {
        let a = self.0;
        each!(i => a[i].abs())
    }

    #[inline(always)]
    fn sqrt(self) -> Eight {
        let a = self.0;
        each!(i => a[i].sqrt())
    }

    #[inline(always)]
    fn select_lt(self, limit: Eight, yes: Eight, no: Eight) -> Eight {
        let (a, b, y, n) = (self.0, limit.0, yes.0, no.0);
        each!(i => if a[i] < b[i] { y[i] } else { n[i] })
    }

    #[inline(never)]
    fn outlined<R>(work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline(always)]
    fn transpose(rows: [Eight; LANES]) -> [Eight; LANES] {
        let mut out = [Eight::zero(); LANES];
        for (i, row) in rows.iter().enumerate() {
            for (out, &value) in out.iter_mut().zip(&row.0) {
                out.0[i] = value;
            }
        }
        out
    }
}

/// Sub-block `lane` of `values`, each `LEN` long (a multiple of 8), becomes lane `lane` of `LEN`
/// vectors. Missing sub-blocks are 0.
#[inline(always)]
pub(super) fn transpose<V: Lanes, const LEN: usize>(values: &[f32]) -> [V; LEN] {
    let mut out = [V::zero(); LEN];
    for (part, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut rows = [V::zero(); LANES];
        for (row, sub) in rows.iter_mut().zip(values.chunks_exact(LEN)) {
            if let Some(eight) = sub.as_chunks::<LANES>().0.get(part) {
                *row = V::from_array(*eight);
            }
        }
        *out = V::transpose(rows);
    }
    out
}
