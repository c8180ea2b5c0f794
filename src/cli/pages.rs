//! `--format html` and `--format svg`: a report as a page, or one figure of it.

use super::args::ReportFormat;
use crate::report::html::Page;

/// That a command has no page, which is said before it begins.
pub(super) fn none(command: &str) -> anyhow::Error {
    anyhow::anyhow!("{command} has no page: use --format text, json or markdown")
}

/// The page, or its figure called `figure`.
pub(super) fn rendered(
    page: &Page,
    format: ReportFormat,
    figure: Option<&str>,
) -> anyhow::Result<String> {
    Ok(match format {
        ReportFormat::Svg => page.figure(figure)?,
        _ => page.html()?,
    })
}
