//! The comparison as text and as Markdown: what ran, a table of predicted against measured, the verdict, likely reasons.

use super::words::{
    answer, engine, figures, headline, learned, name, not_tried, percent, reasons, remarks, saved,
    shown, verdict, word,
};
use super::{Report, RunResult};
use crate::foreign;
use crate::plan::speed::Spread;
use crate::report::screen::Screen;
use crate::report::table::{Align, Table};
use crate::validate::{Comparison, Metric};

/// The report for a terminal.
pub fn text(report: &Report<'_>, columns: Option<usize>) -> String {
    let mut out = Screen::new(columns);
    out.prose(&headline(report));
    match &report.result {
        RunResult::DoesNotFit => {
            let [verdict, way_out] = not_tried(report);
            out.prose(&verdict);
            out.line(format_args!("{way_out}"));
        }
        RunResult::Measured {
            measured,
            memory,
            comparison,
            checks,
        } => {
            out.prose(&engine(report, measured));
            out.blank();
            let said = answer(measured);
            if !said.is_empty() {
                out.prose(&format!("  > {said}"));
                out.blank();
            }
            out.table(&table(comparison), " ");
            out.blank();
            for sentence in figures(measured, memory) {
                out.prose(&sentence);
            }
            out.prose(&verdict(comparison));
            let found = reasons(comparison, checks);
            if !found.holding.is_empty() {
                out.line(format_args!("{}:", found.heading));
            }
            for text in found.holding {
                out.prose(&format!("  - {text}"));
            }
            for sentence in found.others.into_iter().chain(remarks(report, measured)) {
                out.prose(&sentence);
            }
        }
    }
    if let Some(sentence) = saved(report) {
        out.line(format_args!("{sentence}"));
    }
    if let Some(sentence) = learned(report) {
        out.prose(&sentence);
    }
    out.finish()
}

/// The report as Markdown.
pub fn markdown(report: &Report<'_>) -> String {
    let plain = |sentence: &str| foreign::markdown_sentence(sentence);
    let mut out = String::new();
    let mut list = Vec::new();
    match &report.result {
        RunResult::DoesNotFit => {
            let [verdict, way_out] = not_tried(report);
            out.push_str(&format!("**{}**\n\n", plain(&verdict)));
            out.push_str(&format!("{}\n\n", plain(&headline(report))));
            list.push(way_out);
        }
        RunResult::Measured {
            measured,
            memory,
            comparison,
            checks,
        } => {
            out.push_str(&format!("**{}**\n\n", plain(&verdict(comparison))));
            for sentence in [headline(report), engine(report, measured)] {
                out.push_str(&format!("{}\n\n", plain(&sentence)));
            }
            out.push_str(&format!("{}\n", table(comparison).markdown()));
            let found = reasons(comparison, checks);
            let holding = found.holding.iter();
            list.extend(holding.map(|text| format!("{}: {text}", found.heading)));
            list.extend(figures(measured, memory));
            list.extend(found.others);
            list.extend(remarks(report, measured));
        }
    }
    list.extend(saved(report));
    list.extend(learned(report));
    for sentence in list {
        out.push_str(&format!("- {}\n", plain(&sentence)));
    }
    out
}

fn table(comparison: &Comparison) -> Table {
    let mut table = Table::new([
        ("", Align::Left),
        ("low", Align::Right),
        ("expected", Align::Right),
        ("high", Align::Right),
        ("measured", Align::Right),
        ("spread", Align::Right),
        ("error", Align::Right),
        ("", Align::Left),
    ]);
    for row in &comparison.lines {
        let show = |value: f64| shown(row.metric, value);
        let spread = row.spread_percent();
        let spread = spread.map_or(String::new(), |percent| format!("± {percent:.1} %"));
        let predicted =
            |end: fn(Spread) -> f64| row.predicted.map_or("-".to_owned(), |p| show(end(p)));
        table.row([
            heading(row.metric),
            predicted(|p| p.low),
            predicted(|p| p.expected),
            predicted(|p| p.high),
            row.measured.map_or("-".to_owned(), |seen| show(seen.mean)),
            spread,
            if comparison.elsewhere {
                String::new()
            } else {
                percent(row)
            },
            word(row, comparison).to_owned(),
        ]);
    }
    table
}

/// The head of its row in the table, with the unit of a rate.
fn heading(metric: Metric) -> String {
    match metric {
        Metric::Decode | Metric::Prefill => format!("{}, tokens/s", name(metric)),
        Metric::FirstToken | Metric::Memory => name(metric).to_owned(),
    }
}
