//! What clocks and system release change: runs of one source that differ in nothing else, compared two by two.

use orinplan::device::Clocks;
use orinplan::evidence::{Grade, Measurement};
use orinplan::runtime::profile::{Conditions, Slower};

use super::data::Observation;

/// Sets the factors of `conditions` to the geometric means over the pairs among the rows of `members`. A factor without a
/// pair stays as it is.
pub(crate) fn measure(conditions: &mut Conditions, members: &[&str], rows: &[Observation]) {
    let rows: Vec<&Measurement> = rows
        .iter()
        .map(|observation| &observation.row)
        .filter(|row| row.grade != Grade::C && members.contains(&row.runtime.as_str()))
        .collect();
    let before = conditions.before;
    let is_old = |row: &Measurement| row.release().map(|release| release < before);
    let governed = |slow: &Measurement, fast: &Measurement| {
        let clocks = (slow.clocks, fast.clocks);
        clocks == (Some(Clocks::Governed), Some(Clocks::Locked)) && slow.l4t == fast.l4t
    };
    let old = |slow: &Measurement, fast: &Measurement| {
        let systems = (is_old(slow), is_old(fast));
        systems == (Some(true), Some(false)) && slow.clocks == fast.clocks
    };
    set(&mut conditions.governed, &rows, governed);
    set(&mut conditions.old_system, &rows, old);
}

fn set(
    slower: &mut Slower,
    rows: &[&Measurement],
    is_pair: impl Fn(&Measurement, &Measurement) -> bool,
) {
    let pairs: Vec<(&Measurement, &Measurement)> = rows
        .iter()
        .flat_map(|slow| rows.iter().map(move |fast| (*slow, *fast)))
        .filter(|(slow, fast)| alike(slow) == alike(fast) && is_pair(slow, fast))
        .collect();
    let mean = |rate: fn(&Measurement) -> Option<f64>| {
        let logs: Vec<f64> = pairs
            .iter()
            .filter_map(|(slow, fast)| Some((rate(fast)? / rate(slow)?).ln()))
            .collect();
        (!logs.is_empty()).then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
    };
    slower.decode = mean(|row| row.decode_tps).unwrap_or(slower.decode);
    slower.prefill = mean(|row| row.prefill_tps).unwrap_or(slower.prefill);
}

/// All that a pair has in common.
fn alike(row: &Measurement) -> impl PartialEq + use<'_> {
    (
        (&row.board, &row.power_mode, &row.runtime, &row.version),
        (&row.without, &row.model, &row.format, &row.source),
        (row.sequences, row.prompt_tokens, row.generated_tokens),
        row.depth,
    )
}
