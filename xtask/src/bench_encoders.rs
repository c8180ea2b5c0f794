//! `cargo xtask bench encoders`: weights a second through each block encoder, on one thread and on
//! all. Run it from a release build (`cargo run --release -p xtask -- bench encoders`).

use std::io::Write;
use std::time::{Duration, Instant};

use orinplan::dtype::Dtype;
use orinplan::quantize::blocks::{FORMATS, encode_rows};

/// Rows of a thread's share, and their length.
const ROWS: usize = 256;
const ROW: usize = 1024;

/// Counted runs; the fastest counts, for the machine has other things to do.
const RUNS: usize = 7;

pub(crate) fn run() -> anyhow::Result<()> {
    let threads = std::thread::available_parallelism()?.get();
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{:8} {:>12} {:>12} {:>16}   (million weights a second)",
        "format",
        "1 thread",
        format!("{threads} threads"),
        "with importance"
    )?;
    let importance: Vec<f32> = (0..ROW).map(|i| 0.5 + (i % 37) as f32).collect();
    for &dtype in FORMATS {
        writeln!(
            out,
            "{:8} {:12.1} {:12.1} {:16.1}",
            dtype.name(),
            speed(dtype, 1, None)?,
            speed(dtype, threads, None)?,
            speed(dtype, threads, Some(&importance))?
        )?;
    }
    Ok(())
}

fn speed(dtype: Dtype, threads: usize, importance: Option<&[f32]>) -> anyhow::Result<f64> {
    let values = weights(ROWS * ROW);
    let bytes = dtype
        .bytes(&[values.len() as u64])
        .map_or(0, |b| b.0 as usize);
    let mut best = Duration::MAX;
    for _ in 0..RUNS {
        let mut outputs = vec![vec![0; bytes]; threads];
        let start = Instant::now();
        std::thread::scope(|scope| {
            let running: Vec<_> = outputs
                .iter_mut()
                .map(|out| scope.spawn(|| encode_rows(dtype, &values, ROW, importance, out)))
                .collect();
            for thread in running {
                match thread.join() {
                    Ok(result) => result.map(|_| ())?,
                    Err(_) => anyhow::bail!("an encoder of {} panicked", dtype.name()),
                }
            }
            anyhow::Ok(())
        })?;
        best = best.min(start.elapsed());
    }
    Ok((values.len() * threads) as f64 / best.as_secs_f64() / 1e6)
}

/// Nearly normal values, as bfloat16 holds them.
fn weights(n: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..n)
        .map(|_| (next() + next() + next() + next()) * 0.02)
        .map(|v| f32::from_bits(v.to_bits() & 0xffff_0000))
        .collect()
}
