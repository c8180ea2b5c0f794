//! The vectors of a codebook with the least error for eight weights of each lane at a given scale.

use super::super::lanes::Lanes;
use super::Codebook;
use super::grids::Four;

/// Eight weights of each lane.
#[derive(Clone, Copy)]
pub(super) struct Octet<V> {
    /// Their magnitudes.
    pub(super) x: [V; 8],
    /// The weights of their errors.
    pub(super) w: [V; 8],
    /// 1 where a sign has to be changed for even parity, else 0.
    pub(super) odd: V,
}

/// What is stored for eight weights of each lane.
#[derive(Clone, Copy)]
pub(super) struct Choice<V> {
    /// Numbers of vectors: one of eight coordinates, or two of four.
    pub(super) vectors: [V; 2],
    /// The weight whose sign is changed, or 8.
    pub(super) changed: V,
}

/// Room for the errors of the lower and the higher halves of vectors, one for each byte that could name a half.
pub(super) struct Tables<V>([[V; 256]; 2]);

impl<V: Lanes> Tables<V> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn new() -> Tables<V> {
        Tables([[V::zero(); 256]; 2])
    }

    /// The square errors of every half of a vector.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn fill<B: Codebook>(&mut self, x: &[V], w: &[V], scale: V) {
        let half = B::COORDINATES / 2;
        for (table, (x, w)) in self.0.iter_mut().zip(x.chunks(half).zip(w.chunks(half))) {
            table[0] = V::zero();
            let mut size = 1;
            for (&x, &w) in x.iter().zip(w) {
                // The halves so far with every level of this coordinate; the lowest level takes their place last.
                for (number, &level) in B::LEVELS.iter().enumerate().rev() {
                    let off = x - scale * V::splat(level);
                    let error = w * (off * off);
                    for low in 0..size {
                        table[usize::from((number * size + low) as u8)] =
                            table[usize::from(low as u8)] + error;
                    }
                }
                size *= B::LEVELS.len();
            }
        }
    }

    /// The least error of four vectors.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn of_four(&self, four: &Four) -> V {
        let [low, high] = &self.0;
        let [a, b, c, d] = four.lows.map(|half| low[usize::from(half)]);
        a.min(b).min(c.min(d)) + high[usize::from(four.high)]
    }

    /// The least error of a vector.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn least<B: Codebook>(&self) -> V {
        let mut least = V::splat(f32::INFINITY);
        for four in B::fours() {
            least = self.of_four(four).min(least);
        }
        least
    }

    /// The number of the first vector with the least error.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn nearest<B: Codebook>(&self) -> V {
        let fours = B::fours();
        let (mut least, mut nearest) = (V::splat(f32::INFINITY), V::zero());
        for (number, four) in fours.iter().enumerate() {
            let error = self.of_four(four);
            nearest = error.select_lt(least, V::splat(number as f32), nearest);
            least = error.min(least);
        }
        let mut vectors = nearest.to_array();
        for (lane, vector) in vectors.iter_mut().enumerate() {
            let Some(four) = fours.get(*vector as usize) else {
                continue;
            };
            let errors = four
                .lows
                .map(|half| self.0[0][usize::from(half)].to_array()[lane]);
            let mut place = 0;
            for (other, &error) in errors.iter().enumerate().skip(1) {
                if error < errors[place] {
                    place = other;
                }
            }
            *vector = f32::from(four.first) + place as f32;
        }
        V::from_array(vectors)
    }
}

impl<V: Lanes> Choice<V> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn none() -> Choice<V> {
        Choice {
            vectors: [V::zero(); 2],
            changed: V::splat(8.0),
        }
    }
}

impl<V: Lanes> Octet<V> {
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn zero() -> Octet<V> {
        Octet {
            x: [V::zero(); 8],
            w: [V::zero(); 8],
            odd: V::zero(),
        }
    }

    /// The octet of weights `x`, the square errors of which weigh `w`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn new(x: &[V; 8], w: &[V; 8]) -> Octet<V> {
        let mut octet = Octet {
            x: *x,
            w: *w,
            odd: V::zero(),
        };
        for x in &mut octet.x {
            octet.odd = x.select_lt(V::zero(), V::splat(1.0) - octet.odd, octet.odd);
            *x = x.abs();
        }
        octet
    }

    /// The least error at `scale`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn error<B: Codebook>(&self, scale: V, tables: &mut Tables<V>) -> V {
        let (x, _) = self.signed::<B>(scale);
        let mut sum = V::zero();
        for (x, w) in x.chunks(B::COORDINATES).zip(self.w.chunks(B::COORDINATES)) {
            tables.fill::<B>(x, w, scale);
            sum = sum + tables.least::<B>();
        }
        sum
    }

    /// What has the least error at `scale`.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn choice<B: Codebook>(&self, scale: V, tables: &mut Tables<V>) -> Choice<V> {
        let (x, changed) = self.signed::<B>(scale);
        let mut vectors = [V::zero(); 2];
        let parts = x.chunks(B::COORDINATES).zip(self.w.chunks(B::COORDINATES));
        for (vector, (x, w)) in vectors.iter_mut().zip(parts) {
            tables.fill::<B>(x, w, scale);
            *vector = tables.nearest::<B>();
        }
        Choice { vectors, changed }
    }

    /// The magnitudes, one of them negated where a sign has to be changed: the one where that adds least error.
    #[cfg_attr(not(debug_assertions), inline(always))]
    fn signed<B: Codebook>(&self, scale: V) -> ([V; 8], V) {
        let none = V::splat(8.0);
        if !B::EVEN {
            return (self.x, none);
        }
        let smallest = scale * V::splat(B::LEVELS[0]);
        let (mut least, mut changed) = (V::splat(f32::INFINITY), none);
        for (number, (&x, &w)) in self.x.iter().zip(&self.w).enumerate() {
            // With its own sign a weight comes close to a level, unless it is below the smallest.
            let (other, own) = (x + smallest, (x - smallest).min(V::zero()));
            let harm = w * (other * other - own * own);
            changed = harm.select_lt(least, V::splat(number as f32), changed);
            least = harm.min(least);
        }
        changed = V::zero().select_lt(self.odd, changed, none);
        (self.changed(changed), changed)
    }

    /// The magnitudes, that of weight `changed` negated.
    #[cfg_attr(not(debug_assertions), inline(always))]
    pub(super) fn changed(&self, changed: V) -> [V; 8] {
        let mut x = self.x;
        for (number, x) in x.iter_mut().enumerate() {
            let apart = (changed - V::splat(number as f32)).abs();
            *x = apart.select_lt(V::splat(0.5), -*x, *x);
        }
        x
    }
}
