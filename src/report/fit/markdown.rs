//! The report as Markdown, for issues and pull requests.

use super::Report;
use super::advice::advice_text;
use super::commands::{Block, commands};
use super::text::{by_power_mode, headline, notes, table};
use crate::report::{count, line};

/// The report as Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let Report {
        model,
        target,
        workload,
        fit,
        ..
    } = report;
    let recommended = fit.recommended();
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "## {} on {}\n\n{}.\n\n{} parameters, {}, with {}.\n\n**{}**\n",
            model.name,
            target.device.name,
            report.place(),
            count(model.parameters),
            model.architecture,
            target.runtime.name,
            headline(report, recommended),
        ),
    );
    if let Some(modes) = by_power_mode(report) {
        line(&mut out, format_args!("{modes}\n"));
    }
    out.push_str(&table(report).markdown());
    if !report.advice.is_empty() {
        out.push_str("\nWhat to change, least harm first:\n\n");
        for advice in report.advice {
            line(
                &mut out,
                format_args!("1. {}", advice_text(advice, workload)),
            );
        }
    }
    if let Some(plan) = recommended {
        for Block { title, lines } in commands(report, plan) {
            line(
                &mut out,
                format_args!("\n{title}:\n\n```sh\n{}\n```", lines.join("\n")),
            );
        }
    }
    let notes = notes(report);
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        line(&mut out, format_args!("- {note}"));
    }
    out
}
