//! Advice for several boards in words, and the flags for it.

use super::Report;
use crate::plan::advise::Advice;
use crate::plan::boards::BoardsAdvice;
use crate::planner::NamedBoard;
use crate::report::fit::{advice_text, lack_text};

/// What to change if nothing fits, least loss first.
pub(super) fn texts(report: &Report<'_>) -> Vec<String> {
    let advice = report.cluster.advice.iter();
    advice.map(|advice| text(report, advice)).collect()
}

fn text(report: &Report<'_>, advice: &BoardsAdvice) -> String {
    let given = &report.asked.boards;
    match advice {
        BoardsAdvice::Changes { scheme, changes } => {
            let changes = Advice::Changes {
                scheme: scheme.clone(),
                changes: changes.clone(),
            };
            advice_text(&changes, &report.alone())
        }
        BoardsAdvice::MoreBoards { more, scheme } => {
            let last = given.iter().rev().take(1);
            let all = given.iter().chain(last.cycle().take(*more));
            format!(
                "{}: {} fits with --boards {}{}",
                match more {
                    1 => "a further board".to_owned(),
                    more => format!("{more} further boards"),
                },
                scheme.to_uppercase(),
                list(all),
                without_layers(report),
            )
        }
        BoardsAdvice::LargerBoards { id, name, scheme } => {
            let count = given.len();
            format!(
                "larger boards: {} fits {count} x {name}, with --boards {count}x{id}{}",
                scheme.to_uppercase(),
                without_layers(report),
            )
        }
        BoardsAdvice::TooLarge { scheme, lack } => format!(
            "nothing fits: on one of the boards even {} {}; use a smaller model",
            scheme.to_uppercase(),
            lack_text(lack)
        ),
    }
}

fn without_layers(report: &Report<'_>) -> &'static str {
    match report.asked.layers {
        Some(_) => ", without --layers",
        None => "",
    }
}

/// Boards as `--boards` takes them: `3xorin-nano-8gb`, `orin-nano-8gb,orin-nx-16gb@25W`.
fn list<'a>(boards: impl Iterator<Item = &'a NamedBoard>) -> String {
    let mut runs: Vec<(&NamedBoard, usize)> = Vec::new();
    for board in boards {
        match runs.last_mut().filter(|(known, _)| *known == board) {
            Some((_, count)) => *count += 1,
            None => runs.push((board, 1)),
        }
    }
    let words = runs.into_iter().map(|(board, count)| {
        let mode = board.power_mode.as_ref();
        let mode = mode.map_or(String::new(), |mode| format!("@{mode}"));
        match count {
            1 => format!("{}{mode}", board.device),
            count => format!("{count}x{}{mode}", board.device),
        }
    });
    words.collect::<Vec<_>>().join(",")
}
