//! Parses a model's name into base name, finetune, version and size, and formats the size label of a parameter
//! count, by llama.cpp's rules (`gguf-py/gguf/metadata.py`, `utility.py`).

/// The parts of a model's name; `None` for those that it does not have.
#[derive(Debug, Default, PartialEq)]
pub(super) struct NameParts {
    /// The whole name as a title, `Llama 3.2 1B Instruct`.
    pub name: Option<String>,
    pub organization: Option<String>,
    pub basename: Option<String>,
    pub finetune: Option<String>,
    pub version: Option<String>,
    pub size_label: Option<String>,
}

impl NameParts {
    /// Fills parts that are `None` from `other`.
    pub(super) fn or(self, other: NameParts) -> NameParts {
        NameParts {
            name: self.name.or(other.name),
            organization: self.organization.or(other.organization),
            basename: self.basename.or(other.basename),
            finetune: self.finetune.or(other.finetune),
            version: self.version.or(other.version),
            size_label: self.size_label.or(other.size_label),
        }
    }
}

/// What one part of a name may be; several may be true.
#[derive(Clone, Default)]
struct NamePart {
    text: String,
    basename: bool,
    size: bool,
    finetune: bool,
    version: bool,
    quantization: bool,
}

impl NamePart {
    fn kinds(&self) -> usize {
        let kinds = [
            self.basename,
            self.size,
            self.finetune,
            self.version,
            self.quantization,
        ];
        kinds.into_iter().filter(|&kind| kind).count()
    }
}

/// Parses `id` (`org/Base-Size-Finetune` or a part of it). A size far from the number of `parameters` is not taken as
/// one: it may be a context length.
pub(super) fn parse_name(id: &str, parameters: u64) -> NameParts {
    if id.contains(' ') {
        return NameParts {
            name: Some(title(id)),
            ..NameParts::default()
        };
    }
    let (organization, full) = match id.split_once('/') {
        Some((organization, full)) => (Some(organization), full),
        None => (None, id),
    };
    let mut parts: Vec<NamePart> = full
        .split('-')
        .filter(|text| !text.is_empty())
        .enumerate()
        .map(|(index, text)| annotate(text, index, parameters))
        .collect();
    let numbered = |p: &NamePart| p.size && p.text.contains(|c: char| c.is_ascii_digit());
    if parts.iter().any(numbered) {
        for part in parts.iter_mut().filter(|part| part.size) {
            part.size = !part.text.chars().all(char::is_alphabetic);
        }
    }
    let mut at_start = true;
    for part in &mut parts {
        let plain = part.kinds() == 0;
        let worded = part.text.starts_with(char::is_alphabetic);
        if at_start && ((plain && worded) || part.version) {
            part.basename = true;
        } else {
            at_start = false;
            part.finetune |= plain;
        }
    }
    for part in parts.iter_mut().rev() {
        if !part.basename || part.kinds() < 2 {
            break;
        }
        part.basename = false;
    }
    let join = |is: fn(&NamePart) -> bool| -> Option<String> {
        let texts: Vec<&str> = parts.iter().filter(|p| is(p)).map(|p| &*p.text).collect();
        (!texts.is_empty()).then(|| texts.join("-"))
    };
    let mut sizes: Vec<&str> = Vec::new();
    for part in parts.iter().filter(|part| part.size) {
        if !sizes.contains(&&*part.text) {
            sizes.push(&part.text);
        }
    }
    let size_label = (!sizes.is_empty()).then(|| sizes.join("-"));
    let finetune = join(|p| p.finetune);
    let version = join(|p| p.version && !p.basename);
    let telling = size_label.is_some() || finetune.is_some() || version.is_some();
    NameParts {
        name: Some(title(full)),
        organization: organization
            .filter(|name| !name.starts_with('.'))
            .map(title),
        basename: join(|p| p.basename).filter(|_| telling),
        finetune,
        version,
        size_label,
    }
}

fn annotate(text: &str, index: usize, parameters: u64) -> NamePart {
    let mut part = NamePart {
        text: text.to_owned(),
        ..NamePart::default()
    };
    let lower = text.to_ascii_lowercase();
    if is_version(&lower) {
        part.version = true;
    } else if is_quantization(&lower) {
        part.quantization = true;
        part.text = text.to_ascii_uppercase();
    } else if index > 0 && is_size(&lower) {
        part.text = normalized_size(text);
        let (number, unit) = part.text.split_at(part.text.len() - 1);
        let scale = " KMBT".find(unit).map(|power| 1000f64.powi(power as i32));
        if let (Ok(number), Some(scale)) = (number.parse::<f64>(), scale)
            && parameters > 0
            && (number * scale - parameters as f64).abs() > (u128::from(parameters) * 7 / 8) as f64
        {
            // A number this far from the parameter count is a context length.
            part.finetune = true;
            part.text = format!("{number}{}", unit.to_ascii_lowercase());
        }
        part.size = !part.finetune;
    } else if index > 0 && ["chat", "instruct", "vision", "lora"].contains(&&*lower) {
        part.finetune = true;
    }
    part
}

/// Normalizes a size: `1_5b` to `1.5B`, bloom's `7b1` to `7.1B`; words stay.
fn normalized_size(text: &str) -> String {
    let mut text = text.replace('_', ".");
    if text.ends_with(|c: char| c.is_ascii_digit()) {
        let (digit, unit) = (text.pop(), text.pop());
        text.push('.');
        text.extend(digit.into_iter().chain(unit));
    }
    let mut letters = text.chars().rev();
    let unit = letters.next().filter(|c| "kmbt".contains(*c));
    if let Some(unit) = unit
        && letters.next().is_some_and(|c| c.is_ascii_digit())
    {
        text.pop();
        text.push(unit.to_ascii_uppercase());
    }
    text
}

/// `(v|iter)?\d+([.]\d+)*`
fn is_version(lower: &str) -> bool {
    let rest = lower
        .strip_prefix("iter")
        .or(lower.strip_prefix('v'))
        .unwrap_or(lower);
    rest.split('.').all(is_digits)
}

/// `i?q\d(_\w)*|b?fp?(16|32)`
fn is_quantization(lower: &str) -> bool {
    let rest = lower.strip_prefix('i').unwrap_or(lower);
    if let Some(rest) = rest.strip_prefix('q') {
        let mut parts = rest.split('_');
        return parts.next().is_some_and(|p| p.len() == 1 && is_digits(p))
            && parts.all(|p| p.chars().count() == 1);
    }
    let rest = lower.strip_prefix('b').unwrap_or(lower);
    rest.strip_prefix('f')
        .map(|rest| rest.strip_prefix('p').unwrap_or(rest))
        .is_some_and(|bits| bits == "16" || bits == "32")
}

/// `([a]|\d+[x])?\d+([._]\d+)?[kmbt]\d?`, or a word that stands for a size
fn is_size(lower: &str) -> bool {
    if ["small", "mini", "medium", "large", "xl", "xxl"].contains(&lower) {
        return true;
    }
    let rest = match lower.split_once('x') {
        Some((count, rest)) if is_digits(count) => rest,
        _ => lower.strip_prefix('a').unwrap_or(lower),
    };
    let Some((number, tail)) = rest
        .find(|c| "kmbt".contains(c))
        .and_then(|at| rest.split_at_checked(at))
    else {
        return false;
    };
    let mut numbers = number.splitn(2, ['.', '_']);
    numbers.all(is_digits) && tail.len() <= 2 && tail.chars().skip(1).all(|c| c.is_ascii_digit())
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A name as a title: dashes become spaces, words in lower case are capitalized except versions.
fn title(text: &str) -> String {
    let word = |word: &str| {
        let cased = |c: char| c.is_uppercase() || c.is_lowercase();
        let small = word.contains(cased) && !word.contains(char::is_uppercase);
        let version = word.starts_with(|c: char| c.is_ascii_digit())
            || word.starts_with('v') && is_version(word);
        if small && !version {
            capitals(word)
        } else {
            word.to_owned()
        }
    };
    let spaced = text.replace('-', " ");
    let words: Vec<String> = spaced.split_whitespace().map(word).collect();
    words.join(" ")
}

/// Capitalizes the first letter of every run of letters.
fn capitals(word: &str) -> String {
    let mut inside = false;
    let mut out = String::with_capacity(word.len());
    for c in word.chars() {
        if inside {
            out.push(c)
        } else {
            out.extend(c.to_uppercase())
        }
        inside = c.is_alphabetic();
    }
    out
}

/// The size label of a parameter count: `596M`, `1.1B`; with experts `128x1.9B`, where the size is
/// that of the shared parameters and of one expert of each block.
pub(super) fn size_label(shared: u64, one_expert: u64, experts: u64) -> String {
    let rounded = rounded(shared.saturating_add(one_expert));
    match experts {
        0 => rounded,
        experts => format!("{experts}x{rounded}"),
    }
}

/// Rounds to two significant digits, or to an integer if it has more digits.
fn rounded(count: u64) -> String {
    let count = count as f64;
    let (scaled, suffix) = match count {
        n if n > 1e12 => (n * 1e-12, 'T'),
        n if n > 1e9 => (n * 1e-9, 'B'),
        n if n > 1e6 => (n * 1e-6, 'M'),
        n => (n * 1e-3, 'K'),
    };
    // Both roundings take ties to even, as Python does.
    let digits = match scaled.round_ties_even() {
        n if n < 1.0 => 0,
        n => format!("{n}").len(),
    };
    let decimals = 2usize.saturating_sub(digits);
    format!("{scaled:.decimals$}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Id, parameters; name, organization, base name, finetune, version, size.
    #[rustfmt::skip]
    const NAMES: &[(&str, u64, &str)] = &[
        ("Llama-3.2-1B-Instruct", 1235814400, "Llama 3.2 1B Instruct | - | Llama-3.2 | Instruct | - | 1B"),
        ("Qwen/Qwen3-30B-A3B", 30532122624, "Qwen3 30B A3B | Qwen | Qwen3 | - | - | 30B-A3B"),
        ("TinyLlama-1.1B-Chat-v1.0", 1100048384, "TinyLlama 1.1B Chat v1.0 | - | TinyLlama | Chat | v1.0 | 1.1B"),
        ("cg", 5, "Cg | - | - | - | - | -"),
        ("microsoft/Phi-3.5-mini-instruct", 3821079552, "Phi 3.5 Mini Instruct | Microsoft | Phi-3.5 | instruct | - | mini"),
        ("DeepSeek-R1-Distill-Qwen-1.5B", 1777088000, "DeepSeek R1 Distill Qwen 1.5B | - | DeepSeek-R1-Distill-Qwen | - | - | 1.5B"),
        ("bigscience/bloom-7b1-petals", 7069016064, "Bloom 7b1 Petals | Bigscience | bloom | petals | - | 7.1B"),
        ("gemma-3-1b-it", 999885952, "Gemma 3 1b It | - | gemma-3 | it | - | 1B"),
        ("Yarn-Llama-2-7b-128k", 6738415616, "Yarn Llama 2 7b 128k | - | Yarn-Llama-2 | 128k | - | 7B"),
        ("my own model", 1, "My Own Model | - | - | - | - | -"),
        ("trained-5m-qwen3", 5800000, "Trained 5m Qwen3 | - | trained | qwen3 | - | 5M"),
        ("./model-small-2b", 2000000000, "Model Small 2b | - | model-small | - | - | 2B"),
        ("SmolLM2-135M-Instruct", 134515008, "SmolLM2 135M Instruct | - | SmolLM2 | Instruct | - | 135M"),
        ("stories260K-hf", 260000, "stories260K Hf | - | - | - | - | -"),
        ("Mixtral-8x7B-v0.1-q4_k", 46702792704, "Mixtral 8x7B v0.1 Q4_K | - | Mixtral | - | v0.1 | 8x7B"),
        ("--", 3, " | - | - | - | - | -"),
        ("", 3, " | - | - | - | - | -"),
        ("Qwen2.5-0.5B-fp16", 494032768, "Qwen2.5 0.5B Fp16 | - | Qwen2.5 | - | - | 0.5B"),
        ("llama2-v2-iter_3", 7, "Llama2 v2 Iter_3 | - | - | - | - | -"),
        ("x-large-1_5b", 1500000000, "X Large 1_5b | - | x-large | - | - | 1.5B"),
        ("tinystories-656k-hf", 656000, "Tinystories 656k Hf | - | tinystories | hf | - | 656K"),
    ];

    #[test]
    fn names_are_taken_apart_as_gguf_py_does() {
        for (id, parameters, expect) in NAMES {
            let found = parse_name(id, *parameters);
            let parts = [
                found.name,
                found.organization,
                found.basename,
                found.finetune,
                found.version,
                found.size_label,
            ];
            let parts = parts.map(|part| part.unwrap_or("-".to_owned()));
            assert_eq!(parts.join(" | "), *expect, "{id}");
        }
    }

    #[test]
    fn size_labels_equal_those_of_gguf_py() {
        let labels = [
            ((596049920, 0, 0), "596M"),
            ((1100048384, 0, 0), "1.1B"),
            ((134515008, 0, 0), "135M"),
            ((999885952, 0, 0), "1000M"),
            ((8030261248, 0, 0), "8.0B"),
            ((260000, 0, 0), "260K"),
            ((70553706496, 0, 0), "71B"),
            ((1541031936, 226492416, 128), "128x1.8B"),
            ((1000000, 0, 0), "1000K"),
            ((10500000000, 0, 0), "10B"),
            ((9500000000, 0, 0), "10B"),
            ((0, 0, 0), "0.00K"),
            ((999999999, 0, 0), "1000M"),
            ((2500000, 0, 0), "2.5M"),
            ((1250000000, 0, 0), "1.2B"),
        ];
        for ((shared, one_expert, experts), label) in labels {
            assert_eq!(size_label(shared, one_expert, experts), label);
        }
    }
}
