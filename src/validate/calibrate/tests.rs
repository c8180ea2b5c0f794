//! Simulated machines with known costs: how close the fitted costs come, and whether predicted ranges hold.

use super::*;
use crate::dtype::Dtype;
use crate::plan::Workload;
use crate::plan::cpu;

/// The seed of the random numbers of these tests.
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

/// Normally distributed numbers, the same for the same seed: sums of twelve uniform ones.
pub(super) fn normal(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    let mut uniform = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    move || (0..12).map(|_| uniform()).sum::<f64>() - 6.0
}

/// A model of one format that was not timed yet: each layer has 12 x `width`^2 weights, the head has `vocab` rows, and
/// `depth` tokens of the cache are read.
fn model(format: usize, layers: u64, width: u64, vocab: u64, depth: u64) -> Sample {
    let dtype = FORMATS[format].0;
    let matrix = |group, rows: u64| {
        let bytes = dtype.bytes(&[rows, width]).unwrap().0;
        Operation::dense("matrix", group, dtype, bytes, rows * width, rows)
    };
    let cache = Operation::state(
        "cache",
        OperationGroup::KvCache,
        Dtype::F16,
        layers * width * depth,
        0,
    );
    Sample {
        format,
        operations: vec![
            matrix(OperationGroup::FeedForward, layers * width * 12),
            matrix(OperationGroup::Head, vocab),
            cache,
        ],
        layers: layers as f64,
        prompt: 64,
        prompt_attention: (layers * width * 64 * 64) as f64,
        token: Times::default(),
        prompt_read: Times::default(),
    }
}

/// Two shapes of every format, and those that separate the shared costs.
fn models() -> Vec<Sample> {
    let every = (0..FORMATS.len()).flat_map(|format| {
        [
            model(format, 16, 768, 24_576, 90),
            model(format, 2, 2048, 12_288, 90),
        ]
    });
    let shared = [
        model(3, 16, 768, 24_576, 800),
        model(3, 32, 256, 4096, 90),
        model(3, 1, 256, 131_072, 90),
    ];
    every.chain(shared).collect()
}

fn seconds(observed: &Observation, truth: &[f64]) -> f64 {
    observed
        .counts
        .iter()
        .zip(truth)
        .map(|(n, cost)| n * cost)
        .sum()
}

const REFERENCE: MachineRates = MachineRates {
    bandwidth: 20e9,
    arithmetic: 25e9,
};

/// A machine whose true costs are random around the expected ones, timed with noise in a number of rounds: its true
/// costs, and the calibration that was found.
fn timed(rounds: usize, noise: f64, random: &mut impl FnMut() -> f64) -> ([Vec<f64>; 2], Cpu) {
    let (token, prompt) = (REFERENCE.token(), REFERENCE.prompt());
    let truth = [&token, &prompt].map(|prior| {
        let other = |cost: &UnitCost| cost.seconds * (cost.uncertainty * random()).exp();
        prior.iter().map(other).collect::<Vec<f64>>()
    });
    let mut samples = models();
    for sample in &mut samples {
        let times = [observed_token(sample), observed_prompt(sample)];
        let [token, prompt] = [0, 1].map(|kind: usize| seconds(&times[kind], &truth[kind]));
        for _ in 0..rounds {
            sample.token.push(token * (noise * random()).exp());
            sample.prompt_read.push(prompt * (noise * random()).exp());
        }
    }
    let found = Costs {
        token: solve::costs(
            &samples.iter().map(observed_token).collect::<Vec<_>>(),
            &token,
        ),
        prompt: solve::costs(
            &samples.iter().map(observed_prompt).collect::<Vec<_>>(),
            &prompt,
        ),
    };
    let noise = [
        load_noise(samples.iter().map(|sample| &sample.token)),
        load_noise(samples.iter().map(|sample| &sample.prompt_read)),
    ];
    let cpu = Cpu {
        bandwidth_bytes_per_second: 1e15,
        date: "2026-11-23".to_owned(),
        ..found.cpu(noise)
    };
    (truth, cpu)
}

/// The share of 100 machines on which the time of a shape that was not timed lies within the predicted range, and the
/// median factor of the ranges.
fn held(rounds: usize, noise: f64) -> (f64, f64) {
    let mut random = normal(SEED);
    let (mut within, mut factors) = (0_u32, Vec::new());
    for index in 0..100 {
        let ([truth, _], cpu) = timed(rounds, noise, &mut random);
        let sample = model(index % FORMATS.len(), 28, 1024, 151_936, 100);
        let machine = cpu::CpuContext {
            cpu: &cpu,
            own: true,
            layers: 28,
        };
        let range = cpu::decode(&sample.operations, 1, machine).tokens_per_second;
        let measured = 1.0 / (seconds(&observed_token(&sample), &truth) * (noise * random()).exp());
        within += u32::from((range.low..=range.high).contains(&measured));
        factors.push((range.high / range.low).sqrt());
    }
    factors.sort_by(f64::total_cmp);
    (f64::from(within) / 100.0, factors[50])
}

#[test]
fn ranges_hold_four_in_five_decodes_whatever_the_load_noise() {
    for (rounds, noise, widest) in [
        (12, 0.02, 1.3),
        (12, 0.2, 1.7),
        (3, 0.4, 3.0),
        (2, 0.4, 4.0),
    ] {
        let (held, factor) = held(rounds, noise);
        assert!(
            held >= 0.8,
            "{rounds} rounds, noise {noise}: {held}, {factor}"
        );
        // Not by being so wide that they say nothing.
        assert!(
            factor < widest,
            "{rounds} rounds, noise {noise}: {held}, {factor}"
        );
    }
}

#[test]
fn any_times_make_a_file_that_can_be_read_again() {
    let mut random = normal(SEED);
    for (rounds, noise) in [(0, 0.0), (1, 0.1), (2, 3.0), (4, 0.05)] {
        let (_, cpu) = timed(rounds, noise, &mut random);
        assert_eq!(Cpu::parse(&cpu.text(), "calibration.toml").unwrap(), cpu);
        let shown = [cpu.uncertainty.layer, cpu.uncertainty.decode_load_noise];
        assert!(shown.iter().all(|value| *value >= 0.0), "{shown:?}");
    }
}

#[test]
fn a_file_without_uncertainties_is_read_and_a_senseless_one_refused() {
    let (_, cpu) = timed(4, 0.05, &mut normal(SEED));
    let old: String = cpu
        .text()
        .split("[uncertainty]")
        .next()
        .unwrap()
        .lines()
        .filter(|line| !line.contains("_uncertainty"))
        .map(|line| format!("{line}\n"))
        .collect();
    let read = Cpu::parse(&old, "calibration.toml").unwrap();
    assert_eq!(read.uncertainty, Uncertainty::default());
    assert_eq!(read.formats.len(), cpu.formats.len());
    let wrong = cpu.text().replace("decode_unrest = ", "decode_unrest = 1");
    let wrong = wrong.replace("decode_unrest = 10.", "decode_unrest = 99.");
    let error = Cpu::parse(&wrong, "calibration.toml")
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("an uncertainty is 99.") && error.contains("orinplan calibrate"),
        "{error}"
    );
}

#[test]
fn a_format_that_was_not_measured_has_no_rate() {
    let (_, mut cpu) = timed(4, 0.05, &mut normal(SEED));
    let sample = model(10, 28, 1024, 151_936, Workload::default().prompt_tokens);
    assert_eq!(FORMATS[10].0, Dtype::Q4_1);
    assert_eq!(cpu::unmeasured(&sample.operations, &cpu), []);
    cpu.formats.remove("Q4_1");
    assert_eq!(cpu::unmeasured(&sample.operations, &cpu), [Dtype::Q4_1]);
}

/// At the limit there may be times of one format, and of no prompt; or nothing.
#[test]
fn what_was_timed_by_the_limit_is_kept_and_the_rest_is_expected_or_left_out() {
    let calibration = Calibration::new(Duration::from_secs(10));
    assert_eq!(calibration.limit(), Duration::from_secs(30));
    let none = calibration
        .cpu("a machine", "2026-11-23".to_owned())
        .unwrap_err()
        .to_string();
    assert!(
        none.contains("within 30 s") && none.contains("--seconds 30"),
        "{none}"
    );

    calibration.machine.set(REFERENCE).unwrap();
    let cost = |index: usize| REFERENCE.token()[index].seconds;
    let sample = model(0, 16, 768, 24_576, 90);
    let truth: Vec<f64> = (0..REFERENCE.token().len()).map(cost).collect();
    let mut timed = sample.clone();
    timed
        .token
        .push(seconds(&observed_token(&sample), &truth) * 2.0);
    // The second was loaded and not timed.
    calibration.samples.add(timed);
    calibration.samples.add(model(1, 16, 768, 24_576, 90));
    let cpu = calibration
        .cpu("a machine", "2026-11-23".to_owned())
        .unwrap();
    assert_eq!(cpu.formats.keys().collect::<Vec<_>>(), ["Q4_K"]);
    assert_eq!(not_timed(&cpu).len(), FORMATS.len() - 1);
    let rate = &cpu.formats["Q4_K"];
    let expected = (1.0 / REFERENCE.token()[0].seconds, REFERENCE.prompt()[0]);
    // Twice as slow as expected, as far as one round tells; the rate of prompts stays as expected.
    assert!(rate.decode_bytes_per_second < 0.75 * expected.0, "{rate:?}");
    assert!(
        rate.decode_uncertainty < REFERENCE.token()[0].uncertainty,
        "{rate:?}"
    );
    assert!(
        (rate.prefill_macs_per_second * expected.1.seconds - 1.0).abs() < 1e-9,
        "{rate:?}"
    );
    assert_eq!(rate.prefill_uncertainty, expected.1.uncertainty);
    assert_eq!(Cpu::parse(&cpu.text(), "calibration.toml").unwrap(), cpu);
}
