//! Holds a page to the document that it carries: every value that it prints is the one that it points to, as far as its
//! digits go.
#![allow(dead_code)]

use serde_json::Value as Json;

/// The document of a page, which is as its schema describes it, after every printed value was held to it.
#[track_caller]
pub(crate) fn document(page: &str) -> Json {
    let (_, data) = page
        .split_once("<script type=\"application/json\" id=\"data\">")
        .unwrap();
    let document = super::document(data.split_once("</script>").unwrap().0);
    let values = values(page);
    assert!(values.len() > 1, "{}", values.len());
    for value in &values {
        let wrong = wrong(&document, value);
        assert!(wrong.is_none(), "{}", wrong.unwrap());
    }
    document
}

/// A value that a page prints.
pub(crate) struct Shown {
    pub(crate) pointer: String,
    unit: String,
    text: String,
}

/// The values of a page.
pub(crate) fn values(page: &str) -> Vec<Shown> {
    let value = |rest: &str| {
        let (pointer, rest) = rest.split_once('"').unwrap();
        let (_, rest) = rest.split_once("data-unit=\"").unwrap();
        let (unit, rest) = rest.split_once('"').unwrap();
        let text = rest.split_once('>').unwrap().1.split_once('<').unwrap().0;
        Shown {
            pointer: pointer.replace("&#x2f;", "/"),
            unit: unit.to_owned(),
            text: text.replace("&#x2f;", "/").replace("&amp;", "&"),
        }
    };
    page.split("data-pointer=\"").skip(1).map(value).collect()
}

/// Why a printed value is not what it points to.
fn wrong(document: &Json, shown: &Shown) -> Option<String> {
    let Shown {
        pointer,
        unit,
        text,
    } = shown;
    let Some(value) = document.pointer(pointer) else {
        return Some(format!("{pointer} is nothing"));
    };
    if let Some(meant) = value.as_str() {
        let same = meant.eq_ignore_ascii_case(text);
        return (!same).then(|| format!("{pointer}: {text} for {meant}"));
    }
    let keys: &[&str] = match unit.as_str() {
        "rates" | "nats-range" => &["low", "high"],
        "rates-seen" | "seconds-seen" => &["least", "most"],
        "divergence" => &["mean", "standard_error"],
        "divergence-99" => &["p99", "p99_standard_error"],
        "share" => &["percent", "standard_error"],
        "perplexity" => &["value", "standard_error"],
        _ => &[],
    };
    let meant: Vec<f64> = match keys {
        [] => vec![value.as_f64().unwrap()],
        keys => keys
            .iter()
            .map(|key| value[key].as_f64().unwrap())
            .collect(),
    };
    let printed = numbers(text);
    // Ends that print alike are printed once.
    let pairs = meant.iter().enumerate();
    let pairs: Vec<bool> = pairs
        .map(|(index, meant)| {
            let printed = printed.get(index).or(printed.first());
            printed.is_some_and(|(number, within)| {
                (number - meant).abs() <= within + meant.abs() * 1e-5
            })
        })
        .collect();
    let holds = printed.len() <= meant.len() && pairs.iter().all(|holds| *holds);
    (!holds).then(|| format!("{pointer}: {text} for {value}"))
}

/// The numbers of a text, each with half a unit of its last digit.
fn numbers(text: &str) -> Vec<(f64, f64)> {
    let mut found = Vec::new();
    // An end dash stands between the ends of a range, a minus before a number.
    let text = text.replace('\u{2013}', " ").replace('\u{2212}', "-");
    let mut words = text.split_whitespace().peekable();
    while let Some(word) = words.next() {
        let is_below = word.starts_with("&lt;") || word.starts_with('<');
        let digits = word.trim_start_matches("&lt;").trim_start_matches('<');
        let Ok(number) = digits.parse::<f64>() else {
            continue;
        };
        let scale = match words.peek() {
            Some(&"KiB") => 1024.0,
            Some(&"MiB") => 1024.0 * 1024.0,
            Some(&"GiB") => 1024.0 * 1024.0 * 1024.0,
            Some(&"k") => 1e3,
            Some(&"M") => 1e6,
            Some(&"B") if text.contains('.') => 1e9,
            Some(&"ms") => 1e-3,
            _ => 1.0,
        };
        let decimals = digits.split_once('.').map_or(0, |(_, rest)| rest.len());
        let half = match is_below {
            true => number,
            false => 0.5001 * 10f64.powi(-(decimals as i32)),
        };
        found.push((number * scale, half * scale));
    }
    found
}

#[test]
fn numbers_are_read_with_what_they_may_be_rounded_from() {
    let near = |text: &str, value: f64| {
        let (number, within) = numbers(text)[0];
        (number - value).abs() <= within
    };
    assert!(near("1.34 GiB", 1.344 * 1_073_741_824.0));
    assert!(!near("1.34 GiB", 1.346 * 1_073_741_824.0));
    assert!(near("\u{2212}62.7 %", -62.74) && !near("62.7 %", -62.74));
    assert_eq!(numbers("53\u{2013}75"), [(53.0, 0.5001), (75.0, 0.5001)]);
}
