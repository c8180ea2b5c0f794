//! Pages, figures and Markdown of a run.

use crate::schema::page;
use crate::server::{counted, ollama};
use crate::support::{MODEL, Run, run_on_board};

/// The run of an Ollama that decodes at `rate` and holds 2 GiB, in a form.
fn measured(rate: f64, form: &[&str]) -> Run {
    let settings = tempfile::tempdir().unwrap();
    let server = ollama(counted(128, 64, rate), "2147483648");
    let asked = server.ollama(&["--tokens", "64", "--repeats", "2", "--format"]);
    let words = [
        &["validate", MODEL, "--device", "orin-nano-8gb"],
        &asked[..],
        form,
    ]
    .concat();
    run_on_board(settings.path(), &words)
}

#[test]
fn a_run_is_a_page_of_what_was_predicted_and_measured() {
    let run = measured(8.0, &["html"]);
    assert_eq!(run.code, 1, "{}", run.err);
    let document = page::document(&run.out);
    // 64 tokens at 8 a second, of which the first is the prompt's.
    assert_eq!(document["measured"]["decode_tokens_per_second"], 8.0);
    assert_eq!(document["measured"]["peak_memory_bytes"], 2_147_483_648_u64);
    let range = &document["predicted"]["peak_memory_range_bytes"];
    let ends = ["low", "expected", "high"].map(|end| range[end].as_u64().unwrap());
    assert!(ends.is_sorted(), "{ends:?}");
    assert_eq!(ends[1], document["predicted"]["peak_memory_bytes"]);
    let page = &run.out;
    for said in [
        "OFF by more than 15 %",
        ">2.00 GiB</span>",
        "id=\"errors\"",
        "id=\"memory\"",
        "<td>off</td>",
    ] {
        assert!(page.contains(said), "{said}: {page}");
    }
}

#[test]
fn a_run_has_figures_and_markdown() {
    let figure = measured(8.0, &["svg", "--figure", "memory"]);
    assert!(figure.out.starts_with("<svg ") && figure.out.contains("2.00 GiB"));
    let report = measured(8.0, &["markdown"]);
    assert_eq!(report.code, 1);
    assert!(
        report.out.starts_with("**OFF by more than 15 %"),
        "{}",
        report.out
    );
    assert!(
        report.out.contains("| decode, tokens/s |"),
        "{}",
        report.out
    );
    // Said before anything is measured.
    let wrong = measured(8.0, &["svg", "--figure", "speed"]);
    assert_eq!((wrong.code, wrong.out.as_str()), (2, ""));
    assert!(wrong.err.contains("errors, memory"), "{}", wrong.err);
}
