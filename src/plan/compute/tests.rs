//! Figures that llama.cpp itself printed.

use super::*;
use crate::plan::golden::{GOLDEN, settings};

#[test]
fn cpu_compute_buffers_are_within_a_tenth_of_llama_cpps() {
    let mut misses = Vec::new();
    for golden in GOLDEN {
        let model = golden.shape.model();
        for (settings, expected) in settings().iter().zip(golden.compute) {
            let found = compute(&model, settings, u64::MAX, Backend::Cpu)
                .device_bytes
                .as_f64()
                / (1 << 20) as f64;
            let error = found / expected - 1.0;
            if std::env::var("SHOW").is_ok() {
                println!(
                    "{} {} {} {:?} {} {} {expected} {found:.2} {:+.1}%",
                    golden.name,
                    settings.context,
                    settings.ubatch,
                    settings.type_k,
                    settings.parallel,
                    settings.flash_attention,
                    error * 100.0
                );
            }
            if expected > 0.0 && error.abs() > 0.10 {
                misses.push(format!(
                    "{} {settings:?}: {found:.2} for {expected}",
                    golden.name
                ));
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}
