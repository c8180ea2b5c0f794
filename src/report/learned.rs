//! What runs on a board showed, as text and as JSON: the rates of models like those that ran, each refined parameter with its
//! uncertainty, memory.

use serde_json::{Value, json};

use crate::runtime::learned::{Correction, Learned, Refined};
use crate::units::counted;

/// One sentence without its full stop. After `+-` stands one standard deviation.
pub(super) fn text(learned: &Learned) -> String {
    let rates = |name: &str, correction: &Option<Correction>| {
        let told = |one: &Correction| {
            let [runs, models] = one.counts();
            format!(
                "{name} x {:.2} (within x {:.2}, {} of {})",
                one.factor(),
                one.spread(),
                counted(runs, "run", "runs"),
                counted(models, "model", "models"),
            )
        };
        correction.as_ref().map(told)
    };
    let rates = [
        rates("decode", &learned.decode),
        rates("prefill", &learned.prefill),
    ];
    let rates: Vec<String> = rates.into_iter().flatten().collect();
    let times = learned.phrases(None);
    let parts = [rates, times].into_iter().filter(|part| !part.is_empty());
    let parts: Vec<String> = parts.map(|part| part.join(", ")).collect();
    format!("{}; {}", parts.join("; "), learned.source)
}

/// The same for scripts.
pub(super) fn json(learned: &Learned) -> Value {
    json!({
        "decode": learned.decode.as_ref().map(correction),
        "prefill": learned.prefill.as_ref().map(correction),
        "more_memory_bytes": learned.more_memory,
        "source": learned.source,
    })
}

fn correction(correction: &Correction) -> Value {
    let [runs, models] = correction.counts();
    let parameters = correction.parameters().into_iter().map(|refined| {
        let Refined {
            parameter,
            factor,
            deviation,
            value,
        } = refined;
        json!({
            "parameter": parameter.key(),
            "time_factor": factor,
            "standard_deviation": deviation,
            "profile": value.map(|[profile, _]| profile),
            "refined": value.map(|[_, refined]| refined),
        })
    });
    json!({
        "factor": correction.factor(),
        "spread": correction.spread(),
        "runs": runs,
        "models": models,
        "parameters": parameters.collect::<Vec<_>>(),
    })
}
