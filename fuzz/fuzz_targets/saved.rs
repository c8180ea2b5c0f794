//! Any bytes as a saved prediction: what differs from another one, or no JSON.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use orinplan::report::fit::differences;
use serde_json::{Value, json};

/// The form of a prediction: objects, lists matched by name, numbers, text.
static NOW: LazyLock<Value> = LazyLock::new(|| {
    json!({
        "schema": orinplan::report::fit::SCHEMA,
        "model": { "name": "model", "parameters": 596_049_920_u64, "tied": true },
        "plans": [
            { "scheme": "q4_k_m", "memory": { "total": 1e9 }, "notes": [] },
            { "scheme": "q8_0", "memory": { "total": 2e9 }, "notes": [{ "code": "x", "text": "y" }] },
        ],
        "advice": [null],
    })
});

fuzz_target!(|bytes: &[u8]| {
    if let Ok(saved) = serde_json::from_slice::<Value>(bytes) {
        let lines = differences(&saved, &NOW);
        assert_eq!(
            lines.is_empty(),
            saved == *NOW || differences(&NOW, &saved).is_empty()
        );
    }
});
