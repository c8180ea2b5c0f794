//! `--check`: the differences between a saved prediction and the current one, line by line.

use serde_json::{Value, json};

use super::curves::CURVES;

/// The first key of [`check_document`].
const CHECK_SCHEMA: &str = "orinplan.check/1";

/// What differs from the prediction in the file `saved`, for scripts.
pub fn check_document(saved: &str, differences: &[String]) -> Value {
    json!({
        "schema": CHECK_SCHEMA,
        "saved": saved,
        "equal": differences.is_empty(),
        "differences": differences,
    })
}

/// One line per difference, each with its path, the saved and the new value. Plans are matched by
/// scheme, not by position. Empty if the documents agree. The numbers of figures, which one that was printed has and one
/// that was saved has not, follow from the others.
pub fn differences(saved: &Value, now: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let plain = |document: &Value| {
        let mut document = document.clone();
        if let Some(keys) = document.as_object_mut() {
            keys.shift_remove(CURVES);
        }
        document
    };
    let (saved, now) = (plain(saved), plain(now));
    compare(String::new(), Some(&saved), Some(&now), &mut lines);
    lines
}

fn compare(path: String, saved: Option<&Value>, now: Option<&Value>, lines: &mut Vec<String>) {
    let (Some(old), Some(new)) = (saved, now) else {
        match (saved, now) {
            (Some(old), None) => lines.push(format!("{path}: {} saved, gone now", brief(old))),
            (None, Some(new)) => lines.push(format!("{path}: not saved, {} now", brief(new))),
            _ => {}
        }
        return;
    };
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for key in old
                .keys()
                .chain(new.keys().filter(|key| !old.contains_key(*key)))
            {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                compare(path, old.get(key), new.get(key), lines);
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            let names: Vec<String> = unique(old.iter().chain(new).enumerate().map(|(i, item)| {
                name(item)
                    .unwrap_or_else(|| (if i < old.len() { i } else { i - old.len() }).to_string())
            }));
            let find = |list: &'_ [Value], wanted: &str| {
                let named = list
                    .iter()
                    .position(|item| name(item).as_deref() == Some(wanted));
                named.or_else(|| wanted.parse().ok().filter(|&i| i < list.len()))
            };
            for wanted in names {
                let at = |list: &[Value]| find(list, &wanted);
                let (i, j) = (at(old), at(new));
                compare(
                    format!("{path}[{wanted}]"),
                    i.and_then(|i| old.get(i)),
                    j.and_then(|j| new.get(j)),
                    lines,
                );
            }
        }
        (old, new) if old == new => {}
        (old, new) => {
            let change = match (old.as_f64(), new.as_f64()) {
                (Some(a), Some(b)) if a != 0.0 => format!(" ({:+.1} %)", (b / a - 1.0) * 100.0),
                _ => String::new(),
            };
            lines.push(format!(
                "{path}: {} saved, {} now{change}",
                brief(old),
                brief(new)
            ));
        }
    }
}

/// The name of a list's item: its own, a plan's scheme, a note's code.
fn name(item: &Value) -> Option<String> {
    let key = ["name", "scheme", "code"]
        .into_iter()
        .find_map(|key| item.get(key))?;
    key.as_str().map(str::to_owned)
}

fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(items) => format!("a list of {}", items.len()),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn plans_are_matched_by_scheme_and_changes_read_well() {
        let saved = json!({"plans": [
            {"scheme": "q8_0", "memory": {"total_bytes": 100}},
            {"scheme": "q4_0", "memory": {"total_bytes": 50}},
        ], "recommended": "q4_0"});
        let now = json!({"plans": [
            {"scheme": "q4_0", "memory": {"total_bytes": 55}},
            {"scheme": "q6_k", "memory": {"total_bytes": 70}},
        ], "recommended": null});
        assert_eq!(
            differences(&saved, &now),
            [
                "plans[q8_0]: an object saved, gone now",
                "plans[q4_0].memory.total_bytes: 50 saved, 55 now (+10.0 %)",
                "plans[q6_k]: not saved, an object now",
                "recommended: \"q4_0\" saved, null now",
            ]
        );
        assert!(differences(&saved, &saved).is_empty());
    }
}
