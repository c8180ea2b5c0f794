//! The runtimes that orinplan knows, and profiles given as text.
//!
//! In: an id or TOML text. Out: a checked [`RuntimeProfile`]. Reads no files: the built-in profiles are part of the
//! program.

use toml::{Table, Value};

use super::profile::RuntimeProfile;

/// Id and text of each built-in profile, the default first.
const BUILTIN: [(&str, &str); 9] = [
    (
        "llama.cpp",
        include_str!("../../profiles/runtimes/llama.cpp.toml"),
    ),
    (
        "llama-bench",
        include_str!("../../profiles/runtimes/llama-bench.toml"),
    ),
    (
        "llama.cpp-cpu",
        include_str!("../../profiles/runtimes/llama.cpp-cpu.toml"),
    ),
    (
        "ollama",
        include_str!("../../profiles/runtimes/ollama.toml"),
    ),
    ("vllm", include_str!("../../profiles/runtimes/vllm.toml")),
    ("mlc", include_str!("../../profiles/runtimes/mlc.toml")),
    (
        "tensorrt-edge-llm",
        include_str!("../../profiles/runtimes/tensorrt-edge-llm.toml"),
    ),
    (
        "candle",
        include_str!("../../profiles/runtimes/candle.toml"),
    ),
    (
        "candle-cpu",
        include_str!("../../profiles/runtimes/candle-cpu.toml"),
    ),
];

/// The tables that a profile with `extends` changes key by key. Any other table is one quantity with its source, or the
/// ranges of one fit, and is replaced as a whole.
const SECTIONS: [&str; 8] = [
    "sources",
    "loads",
    "lines",
    "memory",
    "speed",
    "cost",
    "attention",
    "prefill",
];

/// Why there is no runtime profile.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// The id is none of the built-in ones.
    #[error("runtime `{id}` is not known{hint}; known: {known}")]
    Unknown {
        /// The id asked for.
        id: String,
        /// The closest known id in brackets, if one is close.
        hint: String,
        /// All known ids.
        known: String,
    },
    /// The text is not TOML, or not in the form of a profile.
    #[error("runtime profile {origin}: {message}")]
    Form {
        /// Where the text is from.
        origin: String,
        /// The parser's message, with line and field.
        message: String,
    },
    /// A value is out of bounds, or has no source.
    #[error("runtime profile {origin}: {problem}")]
    Value {
        /// Where the text is from.
        origin: String,
        /// The field and what is wrong with it.
        problem: String,
    },
}

/// The ids of the built-in runtimes, the default first.
pub fn builtin_ids() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(id, _)| *id)
}

/// The texts of the built-in runtimes, the default first.
pub fn texts() -> impl Iterator<Item = &'static str> {
    BUILTIN.iter().map(|(_, text)| *text)
}

/// The built-in runtime called `id`.
///
/// # Errors
/// [`RuntimeError::Unknown`], with the nearest id, where there is none.
pub fn find(id: &str) -> Result<RuntimeProfile, RuntimeError> {
    parse(text_of(id)?, id)
}

/// A profile from TOML `text`; `origin` is its name in errors. The text may say `extends = "<built-in id>"` and then gives
/// only what differs.
///
/// # Errors
/// [`RuntimeError::Form`] where the text is not TOML of the form of a profile, [`RuntimeError::Value`] where a value is
/// out of bounds or has no source, [`RuntimeError::Unknown`] where it extends a runtime that is not built in.
pub fn parse(text: &str, origin: &str) -> Result<RuntimeProfile, RuntimeError> {
    let form = |message: String| RuntimeError::Form {
        origin: origin.to_owned(),
        message: message.trim_end().to_owned(),
    };
    let mut table: Table = toml::from_str(text).map_err(|error| form(error.to_string()))?;
    if let Some(base) = table.remove("extends") {
        let base = base
            .as_str()
            .ok_or_else(|| form("`extends` must be the id of a built-in runtime".to_owned()))?;
        let mut base: Table =
            toml::from_str(text_of(base)?).map_err(|error| form(error.to_string()))?;
        // The errors of a fit of one runtime say nothing about another, nor do its relatives.
        base.remove("fit");
        base.remove("same_kernels");
        if base.contains_key("extends") {
            return Err(form(
                "`extends` names a runtime that itself extends another; name that one".to_owned(),
            ));
        }
        // Ranges by format are those of the base's own range.
        let speed = |key: &str| {
            table
                .get("speed")
                .and_then(|speed| speed.get(key))
                .is_some()
        };
        if let Some(Value::Table(own)) = base.get_mut("speed").filter(|_| speed("spread")) {
            own.remove("format_spread");
        }
        table = refine(base, table);
    }
    let profile: RuntimeProfile = table.try_into().map_err(|error| form(error.to_string()))?;
    profile.check().map_err(|problem| RuntimeError::Value {
        origin: origin.to_owned(),
        problem,
    })?;
    Ok(profile)
}

fn text_of(id: &str) -> Result<&'static str, RuntimeError> {
    BUILTIN
        .iter()
        .find(|(known, _)| *known == id)
        .map(|(_, text)| *text)
        .ok_or_else(|| RuntimeError::Unknown {
            id: id.to_owned(),
            hint: crate::nearest::hint(id, builtin_ids()),
            known: builtin_ids().collect::<Vec<_>>().join(", "),
        })
}

/// `base` with the entries of `changes` in place of its own.
fn refine(mut base: Table, changes: Table) -> Table {
    for (key, change) in changes {
        let merged = match (base.remove(&key), change) {
            (Some(Value::Table(old)), Value::Table(new)) if SECTIONS.contains(&key.as_str()) => {
                Value::Table(refine(old, new))
            }
            (_, change) => change,
        };
        base.insert(key, merged);
    }
    base
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::profile::{ComputeRule, Outputs};
    use crate::sourced::Trust;

    #[test]
    fn every_builtin_profile_loads_under_its_own_id() {
        for id in builtin_ids() {
            assert_eq!(find(id).unwrap_or_else(|error| panic!("{error}")).id, id);
        }
    }

    #[test]
    fn an_unknown_runtime_names_the_nearest() {
        for (asked, nearest) in [
            ("lama.cpp", "llama.cpp"),
            ("Ollama", "ollama"),
            ("vlm", "vllm"),
            ("tensorrt-llm", "tensorrt-edge-llm"),
        ] {
            let message = find(asked).unwrap_err().to_string();
            assert!(
                message.contains(&format!("did you mean `{nearest}`")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_profile_that_extends_another_changes_only_what_it_states() {
        let (base, bench) = (find("llama.cpp").unwrap(), find("llama-bench").unwrap());
        assert_eq!(base.memory.outputs.value, Outputs::Parallel);
        assert_eq!(bench.memory.outputs.value, Outputs::Ubatch);
        assert_eq!(bench.speed.cost, base.speed.cost);
        assert_eq!(bench.memory.context_multiple.value, 256);
        assert!(matches!(
            find("candle").unwrap().memory.compute,
            ComputeRule::Fraction { .. }
        ));
        assert_eq!(find("candle").unwrap().trust, Trust::None);
        assert!(
            !find("llama.cpp-cpu")
                .unwrap()
                .memory
                .duplicates_tied_embedding
                .value
        );
    }

    #[track_caller]
    fn refused(change: &str, says: &str) {
        let text = format!("extends = \"llama.cpp\"\nid = \"mine\"\n{change}");
        let message = parse(&text, "mine.toml").unwrap_err().to_string();
        assert!(
            message.starts_with("runtime profile mine.toml: "),
            "{message}"
        );
        assert!(message.contains(says), "{message}");
    }

    #[test]
    fn numbers_without_a_source_and_values_out_of_bounds_are_refused() {
        refused(
            "[speed]\noverlap_norm = { value = 3.0 }",
            "missing field `source`",
        );
        refused(
            "[speed]\noverlap_norm = { value = 3.0, source = \"hearsay\" }",
            "`speed.overlap_norm` cites the source `hearsay`",
        );
        refused(
            "[sources]\ndecode-fit = \" \"",
            "source `decode-fit` is empty",
        );
        refused("[speed]\njion = 3", "jion");
        refused(
            "[speed]\noverlap_norm = { value = 0.5, source = \"left-out\" }",
            "must be from 1 to 64",
        );
        refused(
            "[speed]\noverlap_norm = { value = nan, source = \"left-out\" }",
            "must be from 1 to 64",
        );
        refused(
            "[speed]\nbandwidth_efficiency = { low = 0.5, expected = 0.6, high = 1.2, source = \"left-out\", trust = \"fitted\" }",
            "at most 1",
        );
        refused(
            "[speed]\nbandwidth_efficiency = { low = 0.7, expected = 0.6, high = 0.9, source = \"left-out\", trust = \"fitted\" }",
            "low <= expected",
        );
        refused(
            "[speed]\nhost_seconds = { low = 0.0, expected = nan, high = 0.9, source = \"left-out\", trust = \"fitted\" }",
            "low <= expected",
        );
        refused(
            "[speed.cost]\nQ4_K = { cycles = -1.0, source = \"left-out\", trust = \"fitted\" }",
            "not negative",
        );
        refused(
            "[speed.cost]\nw4 = { cycles = 1.0, source = \"left-out\", trust = \"fitted\" }",
            "must state its `bits`",
        );
        refused(
            "[memory]\ncontext_multiple = { value = 0, source = \"left-out\" }",
            "at least 1",
        );
        refused(
            "[memory]\npool_fraction = { value = 1.5, source = \"left-out\" }",
            "at most 1",
        );
        refused("trust = \"absolute\"", "trust");
        refused("id = \"again\"", "duplicate");
        let chained = parse("extends = \"ollama\"\nid = \"x\"", "x.toml")
            .unwrap_err()
            .to_string();
        assert!(chained.contains("itself extends another"), "{chained}");
        assert!(
            parse("extends = 3", "x.toml")
                .unwrap_err()
                .to_string()
                .contains("built-in runtime")
        );
        assert!(matches!(
            parse("extends = \"olama\"", "x.toml"),
            Err(RuntimeError::Unknown { hint, .. }) if hint.contains("ollama")
        ));
    }
}
