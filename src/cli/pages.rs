//! `--format html` and `--format svg`: a report as a page, or one figure of it.

use anyhow::ensure;

use super::args::{FigureArgs, ReportFormat};
use crate::report::html::{FigureError, Page};

/// That a report has no page, which is said before it begins.
pub(super) fn none(report: &str) -> anyhow::Error {
    anyhow::anyhow!("{report} has no page: use --format text, json or markdown")
}

/// Refuses the name of a figure where no figure is asked for, before anything is planned.
///
/// # Errors
/// `--figure` without `--format svg`.
pub(super) fn check(figure: &FigureArgs, format: ReportFormat) -> anyhow::Result<()> {
    let is_read = figure.figure.is_none() || format == ReportFormat::Svg;
    ensure!(is_read, "--figure names a figure for --format svg");
    Ok(())
}

/// The same for a report that takes minutes to make, whose figures are `known`.
///
/// # Errors
/// Those of [`check`], and a figure that it has not.
pub(super) fn check_named(
    figure: &FigureArgs,
    format: ReportFormat,
    known: &[&'static str],
) -> anyhow::Result<()> {
    check(figure, format)?;
    match &figure.figure {
        Some(asked) if !known.contains(&asked.as_str()) => Err(FigureError::Unknown {
            asked: asked.clone(),
            known: known.to_vec(),
        }
        .into()),
        _ => Ok(()),
    }
}

/// The page, or the figure of it that is asked for.
pub(super) fn rendered(
    page: &Page,
    format: ReportFormat,
    figure: &FigureArgs,
) -> anyhow::Result<String> {
    Ok(match format {
        ReportFormat::Svg => page.figure(figure.figure.as_deref())?,
        _ => page.html()?,
    })
}
