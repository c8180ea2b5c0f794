//! `--format html` and `--format svg`: a report as a page, or one figure of it.

use anyhow::ensure;

use super::args::{FigureArgs, ReportFormat};
use crate::report::html::Page;

/// That a command has no page, which is said before it begins.
pub(super) fn none(command: &str) -> anyhow::Error {
    anyhow::anyhow!("{command} has no page: use --format text, json or markdown")
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
