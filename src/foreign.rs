//! Escapes text from outside (names in files, output of servers and other programs) for a terminal, JSON, Markdown or
//! a shell, so that it cannot move the cursor, reverse the order of letters or start a line.
//!
//! In: any text. Out: text of visible characters, with all others as escapes.

use std::fmt::{self, Display, Write};

/// Whether a character has an effect instead of being visible: control characters, line and paragraph separators, and
/// Unicode's format characters (bidirectional overrides, zero-width joiners, byte order marks, tags).
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// Text from outside within a line: `{}` writes it with every invisible character escaped.
pub struct Foreign<'a>(pub &'a str);

impl Display for Foreign<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&escaped(self.0, is_invisible))
    }
}

/// `text` with every invisible character except line feeds and tabs escaped: for a whole report as it is printed.
pub fn lines(text: &str) -> String {
    escaped(text, |c| is_invisible(c) && c != '\n' && c != '\t')
}

fn escaped(text: &str, escape: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if escape(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// A JSON document with every invisible character escaped, which JSON itself does not require: the value is the same.
pub fn json(document: &str) -> String {
    let mut out = String::with_capacity(document.len());
    for c in document.chars() {
        // Outside of strings, valid JSON has no invisible character but the line feed.
        if is_invisible(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// A name from outside as plain Markdown text on one line, its markup escaped.
pub fn markdown(name: &str) -> String {
    let mut out = String::new();
    for c in Foreign(name).to_string().chars() {
        if "\\`*_[]<>|&~#!".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A sentence of this program that may quote text from outside, for Markdown on one line: HTML, links and images are
/// disabled, code between backticks stays.
pub fn markdown_sentence(text: &str) -> String {
    Foreign(text)
        .to_string()
        .replace('<', "&lt;")
        .replace("](", "]\\(")
}

/// [`markdown_sentence`] as a cell of a Markdown table.
pub fn markdown_cell(text: &str) -> String {
    markdown_sentence(text).replace('|', "\\|")
}

/// `text` as a Markdown code block, with a fence longer than any that it contains.
pub fn fenced(language: &str, text: &str) -> String {
    let mut fence = "```".to_owned();
    while text.contains(&fence) {
        fence.push('`');
    }
    format!("{fence}{language}\n{text}\n{fence}")
}

/// A word quoted for a POSIX shell: bare where no character is special, else in single quotes. With invisible
/// characters it is in bash's `$'..'`, where they can be written as escapes.
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:+,=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        return word.to_owned();
    }
    if !word.contains(is_invisible) {
        return format!("'{}'", word.replace('\'', r"'\''"));
    }
    let mut out = String::from("$'");
    for c in word.chars() {
        match c {
            '\'' | '\\' => out.extend(['\\', c]),
            // Byte by byte: bash reads at most two hexadecimal digits.
            c if is_invisible(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
            c => out.push(c),
        }
    }
    out.push('\'');
    out
}

/// A hub id as `hf download` takes it: `ORG/NAME`, and the revision of `ORG/NAME@REVISION` as a flag.
pub fn hub_words(id: &str) -> String {
    match id.split_once('@') {
        Some((id, revision)) => format!("{} --revision {}", shell(id), shell(revision)),
        None => shell(id),
    }
}

/// A path quoted for the shell, with `./` before a name that a program could take for a flag.
pub fn shell_path(path: &str) -> String {
    if path.starts_with('-') {
        shell(&format!("./{path}"))
    } else {
        shell(path)
    }
}

/// The name of a model as reports show it: an address without its user, its query and its fragment, in which secrets
/// stand.
pub fn without_secrets(name: &str) -> String {
    if std::path::Path::new(name).exists() {
        return name.to_owned();
    }
    let name = name.split(['?', '#']).next().unwrap_or_default();
    match name.split_once("://") {
        Some((scheme, rest)) => {
            let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = host.rsplit('@').next().unwrap_or_default();
            format!("{scheme}://{host}{path}")
        }
        None => name.to_owned(),
    }
}

/// Whether a name has no invisible character, so that it stays on its line in a file that is read line by line.
pub fn is_one_line(name: &str) -> bool {
    !name.contains(is_invisible)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_that_act_are_written_as_escapes() {
        let name = "a\u{1b}[2J\u{202e}b\n\u{2028}é\u{e0041}\u{feff}\u{85}";
        let shown = r"a\u{1b}[2J\u{202e}b\n\u{2028}é\u{e0041}\u{feff}\u{85}";
        assert_eq!(Foreign(name).to_string(), shown);
        assert_eq!(lines("a\n\tb\u{7f}\r"), "a\n\tb\\u{7f}\\r");
        assert_eq!(format!("{:<6}|", Foreign("\u{200b}")), "\\u{200b}|");
        assert_eq!(format!("{:<4}|", Foreign("é")), "é   |");
    }

    #[test]
    fn a_revision_is_a_flag_of_its_own() {
        assert_eq!(hub_words("Qwen/Qwen3-0.6B"), "Qwen/Qwen3-0.6B");
        assert_eq!(hub_words("a/b@refs/pr/1"), "a/b --revision refs/pr/1");
    }

    #[test]
    fn json_stays_the_same_document() {
        let value = serde_json::json!({ "a\u{202e}": "\u{e0041}\u{1b}\u{7f}\u{2029}é" });
        let text = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(
            text.contains(r"\u202e") && text.contains(r"\udb40\udc41"),
            "{text}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&text).unwrap(),
            value
        );
        assert_eq!(lines(&text), text);
    }

    #[test]
    fn words_are_quoted_where_a_shell_would_split_or_expand_them() {
        for (word, expected) in [
            ("Qwen3-0.6B.gguf", "Qwen3-0.6B.gguf"),
            ("my model.gguf", "'my model.gguf'"),
            ("$(reboot)", "'$(reboot)'"),
            ("it's", r"'it'\''s'"),
            ("-rf", "'-rf'"),
            ("", "''"),
            ("a\nb'\\", r"$'a\x0ab\'\\'"),
            ("\u{202e}a", r"$'\xe2\x80\xaea'"),
        ] {
            assert_eq!(shell(word), expected);
        }
        assert_eq!(shell_path("-rf"), "./-rf");
        assert_eq!(shell_path("a"), "a");
    }

    #[cfg(unix)]
    #[test]
    fn a_shell_reads_back_the_word() {
        for word in ["a\nb", "\u{1b}0'\\$x`", "\u{202e}ee", "\u{e0041}1"] {
            let script = format!("printf %s {}", shell(word));
            let run = std::process::Command::new("bash")
                .args(["-c", &script])
                .output();
            // Not every system has a bash.
            if let Ok(run) = run {
                assert_eq!(String::from_utf8_lossy(&run.stdout), word);
            }
        }
    }

    #[test]
    fn markdown_shows_names_as_they_are() {
        assert_eq!(markdown("a|`<b>`\n"), "a\\|\\`\\<b\\>\\`\\\\n");
        assert_eq!(markdown("Qwen3-0.6B"), "Qwen3-0.6B");
        let sentence = markdown_sentence("run `ls` <img> ![x](http://y)");
        assert_eq!(sentence, "run `ls` &lt;img> ![x]\\(http://y)");
    }
}
