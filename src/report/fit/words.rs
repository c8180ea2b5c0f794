//! What a report says in words, for the forms that are not text.

use super::advice::advice_text;
use super::commands::commands;
use super::text::{by_power_mode, headline, notes};
use super::{Report, images, quality};

/// The sentences of a report, in the order in which they matter.
pub(in crate::report) struct Words {
    /// The answer.
    pub(in crate::report) verdict: String,
    /// The device, the reason for the format, and the like.
    pub(in crate::report) facts: Vec<String>,
    /// What to change where nothing fits, least harm first.
    pub(in crate::report) advice: Vec<String>,
    /// Lines to paste, under what they do.
    pub(in crate::report) commands: Vec<(String, Vec<String>)>,
    /// Caveats.
    pub(in crate::report) notes: Vec<String>,
}

impl Words {
    /// The sentences of `report`.
    pub(in crate::report) fn of(report: &Report<'_>) -> Words {
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
}
