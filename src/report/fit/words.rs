//! The sentences of a plan, for the forms that are not text.

use super::advice::advice_text;
use super::commands::commands;
use super::text::{by_power_mode, headline, notes};
use super::{Report, images, quality};
use crate::report::words::Words;

/// The sentences of `report`.
pub(in crate::report) fn words(report: &Report<'_>) -> Words {
    let recommended = report.fit.recommended();
    let facts = [
        Some(report.planned_for()),
        images::line(report),
        quality::reason(report),
        by_power_mode(report),
    ];
    let blocks = recommended.map_or(Vec::new(), |plan| commands(report, plan));
    Words {
        verdict: headline(report, recommended),
        facts: facts.into_iter().flatten().collect(),
        advice: report
            .advice
            .iter()
            .map(|advice| advice_text(advice, report))
            .collect(),
        commands: blocks
            .into_iter()
            .map(|block| (block.title, block.lines))
            .collect(),
        notes: notes(report).into_iter().map(|note| note.text).collect(),
    }
}
