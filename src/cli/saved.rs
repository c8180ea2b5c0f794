//! Saved predictions: what `--save` wrote, and what has changed since.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail, ensure};

use super::args::{PredictionArgs, ReportFormat};
use super::{Outcome, show};
use crate::foreign::Foreign;
use crate::input;
use crate::report::{self, github};
use crate::units::{Bytes, counted};

/// The largest saved prediction that is read; one has some kB a scheme.
const SAVED_LIMIT: Bytes = Bytes(16 << 20);

/// The prediction in a file, whose first key has to be `schema`; with its path.
pub(super) fn read(path: &Path, schema: &str) -> anyhow::Result<(PathBuf, serde_json::Value)> {
    let shown = path.display();
    let text = input::read_text(path, SAVED_LIMIT).context("cannot read the saved prediction")?;
    let document: serde_json::Value = serde_json::from_str(&text).map_err(|error| {
        let why = input::in_words(&error.to_string());
        anyhow!("{shown} is not JSON; a saved prediction is what --save FILE writes: {why}")
    })?;
    let found = document.get("schema").and_then(|schema| schema.as_str());
    if found != Some(schema) {
        bail!(
            "{shown} is not a saved prediction: its schema is {}, not {}",
            found.unwrap_or("missing"),
            schema
        );
    }
    Ok((path.to_owned(), document))
}

/// Refuses an output or a page beside a comparison, which makes no report.
pub(super) fn check_flags(args: &PredictionArgs) -> anyhow::Result<()> {
    ensure!(
        args.check.is_none() || !args.format().is_page(),
        "--check prints what differs and makes no page: use --format text, json or github"
    );
    ensure!(
        args.check.is_none() || args.output.is_none(),
        "--check prints what differs and makes no report: leave --output out"
    );
    Ok(())
}

/// Prints what differs from the prediction in `path`.
pub(super) fn check(
    path: &Path,
    differences: &[String],
    args: &PredictionArgs,
) -> anyhow::Result<Outcome> {
    let shown = path.display();
    let outcome = if differences.is_empty() {
        Outcome::Yes
    } else {
        Outcome::No
    };
    if args.format() == ReportFormat::Json {
        let document = report::fit::check_document(&shown.to_string(), differences);
        show(&report::json(&document))?;
        return Ok(outcome);
    }
    if differences.is_empty() {
        show(&format!("the prediction equals {shown}\n"))?;
        return Ok(outcome);
    }
    let places = counted(differences.len(), "place", "places");
    let lines = if args.is_for_github() {
        github::errors(&shown.to_string(), differences)
    } else {
        let lines = differences.iter();
        lines.map(|line| format!("  {}\n", Foreign(line))).collect()
    };
    show(&format!(
        "the prediction differs from {shown} in {places}:\n{lines}"
    ))?;
    Ok(outcome)
}
