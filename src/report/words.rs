//! What a report says in words, for the forms that are not text.

/// The sentences of a report; what a report does not have is empty.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// The answer.
    pub(super) verdict: String,
    /// The device, the reason for the answer, and the like.
    pub(super) facts: Vec<String>,
    /// What to change where the answer is no, least harm first.
    pub(super) advice: Vec<String>,
    /// Lines to paste, under what they do.
    pub(super) commands: Vec<(String, Vec<String>)>,
    /// Caveats, and what numbers mean.
    pub(super) notes: Vec<String>,
}
