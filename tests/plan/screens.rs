//! What people see: text, Markdown and `--explain`, for a model that fits and one that does not.

use crate::support::run;

/// The exit status, then standard output; standard error must be empty.
fn screen(fixture: &str, words: &str) -> String {
    let output = run(fixture, words);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let text = String::from_utf8(output.stdout).unwrap();
    // Snapshots keep no trailing blanks, so none may be there.
    assert!(text.lines().all(|line| line.trim_end() == line), "{text}");
    format!("exit {}\n{text}", output.status.code().unwrap())
}

macro_rules! screens {
    ($($test:ident $fixture:literal $words:literal;)*) => {$(
        #[test]
        fn $test() {
            insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
                let name = concat!("screen-", stringify!($test));
                insta::assert_snapshot!(name, screen($fixture, $words));
            });
        }
    )*};
}

screens! {
    fits_text "qwen3-0.6b" "";
    fits_markdown "qwen3-0.6b" "--format markdown";
    fits_explained "qwen3-0.6b" "--scheme q4_k_m --explain";
    too_large_text "gemma-3n-e2b-it" "--budget 3GB";
    too_large_markdown "gemma-3n-e2b-it" "--budget 3GB --format markdown";
    too_large_explained "gemma-3n-e2b-it" "--budget 3GB --scheme q4_k_m --explain";
    too_long_a_context_names_what_to_change "gemma-3-1b-it" "--context 32768 --budget 1700MB --scheme q4_k_m";
}
