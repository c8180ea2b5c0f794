//! Rows over whole requests: how long their requests take, and what of that is decode.

use orinplan::evidence::Measurement;
use orinplan::plan::speed::{self, Requests, Spread};
use orinplan::runtime::profile::Speed;

use super::data::Observation;
use super::fit::{Kind, of_row};

/// The expected seconds of the requests of a row.
pub(crate) fn seconds(observation: &Observation, speed: &Speed) -> Option<f64> {
    Some(parts(observation, speed)?.iter().sum())
}

/// The share of decode steps in that time.
pub(crate) fn decode_share(observation: &Observation, speed: &Speed) -> Option<f64> {
    let [prompts, steps] = parts(observation, &of_row(&observation.row, speed))?;
    Some(steps / (prompts + steps))
}

/// What takes most of that time.
pub(crate) fn most(observation: &Observation, speed: &Speed) -> Option<Kind> {
    let share = decode_share(observation, speed)?;
    Some(if share > 0.5 {
        Kind::Decode
    } else {
        Kind::Prefill
    })
}

/// The expected seconds of reading the prompts, and those of decode steps.
fn parts(observation: &Observation, speed: &Speed) -> Option<[f64; 2]> {
    let first = first_token(observation, speed)?.expected;
    let Observation {
        row,
        gpu,
        layers,
        operations,
        ..
    } = observation;
    let step =
        |wave: Requests| speed::step_seconds(operations, *layers, wave.sequences, gpu, speed);
    Some([
        in_waves(row, |wave| wave.seconds(first, 0.0))?,
        in_waves(row, |wave| wave.seconds(0.0, step(wave)))?,
    ])
}

/// The factors on that time that follow from the ranges of prompts and of steps.
pub(crate) fn range(observation: &Observation, speed: &Speed) -> Option<(f64, f64)> {
    let speed = of_row(&observation.row, speed);
    let first = first_token(observation, &speed)?;
    let Observation {
        row,
        gpu,
        layers,
        operations,
        ..
    } = observation;
    let time = |end: fn(&Spread) -> f64| {
        in_waves(row, |wave| {
            let decode = speed::decode(operations, *layers, wave.sequences, gpu, &speed);
            end(&wave.time(&first, &decode.tokens_per_second))
        })
    };
    let expected = time(|time| time.expected)?;
    Some((
        time(|time| time.low)? / expected,
        time(|time| time.high)? / expected,
    ))
}

/// Seconds to read a row's prompt and begin its answer.
fn first_token(observation: &Observation, speed: &Speed) -> Option<Spread> {
    let (operations, gpu) = (&observation.operations, &observation.gpu);
    let read = speed::prefill(
        operations,
        observation.layers,
        observation.prompt?,
        gpu,
        speed,
    );
    Some(read.time_to_first_token)
}

/// Seconds of the requests of `row`, which are served in waves: the last has what is left of them.
fn in_waves(row: &Measurement, seconds: impl Fn(Requests) -> f64) -> Option<f64> {
    let (requests, generated) = (row.requests?, row.generated_tokens?);
    let wave = |sequences| match sequences {
        0 => 0.0,
        _ => seconds(Requests {
            sequences,
            generated,
        }),
    };
    let whole = requests / row.sequences;
    Some(whole as f64 * wave(row.sequences) + wave(requests % row.sequences))
}
