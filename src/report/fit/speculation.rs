//! What speculation brings: for people and for scripts.

use serde_json::{Value, json};

use super::{range, spread};
use crate::evidence::speculation::source;
use crate::plan::Plan;
use crate::plan::speculation::Speculation;
use crate::plan::speed::Spread;
use crate::units::Bytes;

/// What it brings to the recommended plan.
pub(super) fn line(plan: &Plan) -> Option<String> {
    let speculation = plan.speculation.as_ref()?;
    let cost = speculation.cost.expected;
    let word = speculation.method.drafter.word();
    let memory = match plan.memory.draft {
        Bytes(0) => String::new(),
        bytes => format!("; the draft takes {bytes}"),
    };
    let Some((speed_up, accepted)) = speculation.speed_up.zip(speculation.accepted) else {
        return Some(format!(
            "Speculation ({word}): faster if a verification yields more than {cost:.2} tokens ({}); no published run says what it yields: --acceptance{memory}",
            two(&speculation.cost),
        ));
    };
    let verdict = match speed_up {
        Spread { high, .. } if high < 1.0 => "slower",
        Spread { low, .. } if low >= 1.0 => "faster",
        Spread { expected, .. } if expected < 1.0 => "probably slower",
        _ => "probably faster",
    };
    let rate = plan.speeds.as_ref().map(|speeds| {
        let plain = &speeds.decode.tokens_per_second;
        format!(", {} tokens/s", range(&scaled(plain, &speed_up)))
    });
    Some(format!(
        "Speculation ({word}): {verdict}, {:.2} times as fast ({}){}: a verification yields {:.2} tokens for the time of \
         {cost:.2}{memory}",
        speed_up.expected,
        two(&speed_up),
        rate.unwrap_or_default(),
        accepted.expected,
    ))
}

/// Where the numbers are from.
pub(super) fn evidence(plan: &Plan) -> Option<String> {
    let speculation = plan.speculation.as_ref()?;
    let method = speculation.method;
    let rows = match speculation.evidence.first() {
        None => String::new(),
        Some(row) => {
            let accepted = row.accepted_by(method);
            let yields = accepted.map(|tokens| format!(" with {tokens:.2} tokens a verification"));
            format!(
                "; nearest of {} published runs: {} on {} with {}, {:.2} times as fast{}",
                speculation.evidence.len(),
                row.model,
                row.board,
                row.runtime,
                row.speed_up,
                yields.unwrap_or_default(),
            )
        }
    };
    Some(format!(
        "speculation ({}): {}{rows}",
        method.drafter.word(),
        source(method)
    ))
}

/// The same for scripts.
pub(super) fn document(plan: &Plan) -> Option<Value> {
    let Speculation {
        method,
        cost,
        accepted,
        speed_up,
        evidence,
    } = plan.speculation.as_ref()?;
    let plain = plan.speeds.as_ref().map(|s| s.decode.tokens_per_second);
    let rate = plain.zip(*speed_up).map(|(plain, up)| scaled(&plain, &up));
    Some(json!({
        "drafter": method.drafter.word(),
        "draft_bytes": plan.memory.draft,
        "drafted_tokens_per_verification": method.drafted,
        "positions_per_verification": method.positions,
        "draft_passes_per_verification": method.passes,
        "cost_plain_steps": spread(cost),
        "accepted_tokens_per_verification": accepted.as_ref().map(spread),
        "speed_up": speed_up.as_ref().map(spread),
        "tokens_per_second": rate.as_ref().map(spread),
        "source": source(method),
        "evidence": evidence.iter().map(|row| json!({
            "id": row.id,
            "board": row.board,
            "power_mode": row.power_mode,
            "runtime": row.runtime,
            "model": row.model,
            "sequences": row.sequences,
            "accepted_tokens_per_verification": row.accepted_by(method),
            "speed_up": row.speed_up,
            "source": row.source,
        })).collect::<Vec<_>>(),
    }))
}

/// A plain rate times a speed-up.
fn scaled(plain: &Spread, speed_up: &Spread) -> Spread {
    Spread {
        low: plain.low * speed_up.low,
        expected: plain.expected * speed_up.expected,
        high: plain.high * speed_up.high,
    }
}

fn two(spread: &Spread) -> String {
    format!("{:.2} to {:.2}", spread.low, spread.high)
}
