//! The report as Markdown, for issues and pull requests.

use super::advice::advice_text;
use super::commands::{CommandBlock, commands};
use super::formats::table;
use super::text::{by_power_mode, headline, notes};
use super::{Report, quality, speculation};
use crate::foreign::{fenced, markdown, markdown_sentence};
use crate::report::{count, line};

/// The report as Markdown.
pub fn page(report: &Report<'_>) -> String {
    let Report {
        model, target, fit, ..
    } = report;
    let recommended = fit.recommended();
    let mut out = String::new();
    line(
        &mut out,
        format_args!(
            "## {} on {}\n\n{}.\n\n{} parameters, {}, with {}.\n\n**{}**\n",
            markdown(&model.name),
            markdown(&target.device.name),
            markdown_sentence(&report.planned_for()),
            count(model.parameters),
            markdown(&model.architecture),
            markdown(&target.runtime.name),
            markdown_sentence(&headline(report, recommended)),
        ),
    );
    if let Some(speculation) = recommended.and_then(speculation::line) {
        line(
            &mut out,
            format_args!("{}.\n", markdown_sentence(&speculation)),
        );
    }
    if let Some(modes) = by_power_mode(report) {
        line(&mut out, format_args!("{modes}\n"));
    }
    out.push_str(&table(report, 0..report.fit.plans.len()).markdown());
    if let Some(reason) = quality::reason(report) {
        line(&mut out, format_args!("\n{}.", markdown_sentence(&reason)));
    }
    if !report.advice.is_empty() {
        out.push_str("\nWhat to change, least loss first:\n\n");
        for advice in report.advice {
            line(
                &mut out,
                format_args!("1. {}", markdown_sentence(&advice_text(advice, report))),
            );
        }
    }
    if let Some(plan) = recommended {
        for CommandBlock { title, lines, .. } in commands(report, plan) {
            line(
                &mut out,
                format_args!(
                    "\n{}:\n\n{}",
                    markdown_sentence(&title),
                    fenced("sh", &lines.join("\n"))
                ),
            );
        }
    }
    let notes = notes(report);
    if !notes.is_empty() {
        out.push('\n');
    }
    for note in notes {
        line(
            &mut out,
            format_args!("- {}", markdown_sentence(&note.text)),
        );
    }
    out
}
