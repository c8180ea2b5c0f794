//! Differences as annotations of GitHub Actions, which shows them beside the file in a pull request.

use crate::foreign::Foreign;

/// An error on `file` for each of `differences`, a line each.
pub fn errors(file: &str, differences: &[String]) -> String {
    let file = property(file);
    let line = |difference: &String| {
        let message = data(difference);
        format!("::error file={file},title=The prediction changed::{message}\n")
    };
    differences.iter().map(line).collect()
}

/// Text as the message of a workflow command.
fn data(text: &str) -> String {
    Foreign(text).to_string().replace('%', "%25")
}

/// Text as a property of a workflow command.
fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A runner decodes `%25`, `%3A` and `%2C`, and begins a command at each line.
    #[test]
    fn what_ends_a_property_or_a_line_is_escaped() {
        let differences = ["a: 1 saved, 2 now (+100.0 %)", "b\n::error::c"].map(str::to_owned);
        assert_eq!(
            errors("plans/a,b:c.json", &differences),
            "::error file=plans/a%2Cb%3Ac.json,title=The prediction changed::a: 1 saved, 2 now (+100.0 %25)\n\
             ::error file=plans/a%2Cb%3Ac.json,title=The prediction changed::b\\n::error::c\n"
        );
    }
}
