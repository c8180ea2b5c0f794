//! The flags of speculation.

use clap::Args;

use crate::plan::draft::Acceptance;

/// What drafts tokens that the model verifies.
#[derive(Debug, Args)]
#[command(next_help_heading = "Speculation")]
pub(in crate::cli) struct DraftArgs {
    /// What drafts tokens that the model verifies in one pass: a smaller model of the same vocabulary, as MODEL; `mtp`,
    /// the model's own block for it; `eagle3`, a head trained for the model; `lookup`, the text so far
    #[arg(long, value_name = "MODEL|mtp|eagle3|lookup")]
    pub draft: Option<String>,
    /// How much of the draft is accepted: a share of the drafted tokens, such as 0.6 or 60%, or above 1 the tokens that
    /// a verification yields, such as 2.6 [default: from published runs of similar models]
    #[arg(long, value_name = "R", requires = "draft", conflicts_with = "boards", value_parser = parse_acceptance)]
    pub acceptance: Option<Acceptance>,
}

fn parse_acceptance(text: &str) -> Result<Acceptance, String> {
    let (digits, unit) = match text.strip_suffix('%') {
        Some(digits) => (digits.trim_end(), 100.0),
        None => (text, 1.0),
    };
    let value = digits.parse::<f64>().ok().map(|value| value / unit);
    let value = value.filter(|value| (0.0..=64.0).contains(value));
    match value {
        Some(share) if share <= 1.0 => Ok(Acceptance::Share(share)),
        Some(tokens) if unit == 1.0 => Ok(Acceptance::Tokens(tokens)),
        _ => Err(
            "write a share such as 0.6 or 60%, or tokens a verification from 1 to 64, such as 2.6"
                .to_owned(),
        ),
    }
}
