//! Servers that are away, slow, wrong or broken: one line, exit 2, and the way out.

use crate::server::{Answer, Server, end, models, token};
use crate::support::{assert_error, validate};

#[track_caller]
fn openai(answers: &[(&'static str, Answer)], more: &[&str], fragments: &[&str]) {
    let server = Server::start(answers);
    let words = [&server.openai(&["--tokens", "8", "--timeout", "1"]), more].concat();
    assert_error(&validate(&words), fragments);
}

fn completion(answer: Answer) -> Vec<(&'static str, Answer)> {
    vec![("/v1/models", models(&["m"])), ("/v1/completions", answer)]
}

#[test]
fn nothing_listens_there() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}");
    assert_error(
        &validate(&["--backend", "openai", "--url", &url]),
        &[
            "no answer from http://127.0.0.1",
            "refused",
            "is the server running there?",
        ],
    );
}

#[test]
fn addresses_that_are_none_are_refused() {
    for (url, says) in [
        ("https://127.0.0.1:8080", "needs TLS"),
        ("127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://", "has no host"),
        ("http://a b", "has no host"),
        ("http://127.0.0.1:99999", "99999"),
    ] {
        assert_error(&validate(&["--backend", "openai", "--url", url]), &[says]);
    }
}

#[test]
fn silence_ends_after_the_limit() {
    openai(
        &[("/v1/models", Answer::Silence)],
        &[],
        &["sent nothing for 1 s", "--timeout"],
    );
    openai(
        &completion(Answer::Silence),
        &[],
        &["sent nothing for 1 s", "/v1/completions"],
    );
    let stalled = Answer::Pieces(vec![(0, token("a")), (5000, token("b"))]);
    openai(&completion(stalled), &[], &["sent nothing for 1 s"]);
}

#[test]
fn refusals_are_told_in_the_servers_words() {
    let loading =
        "{\"error\":{\"code\":503,\"message\":\"Loading model\",\"type\":\"unavailable_error\"}}";
    openai(
        &[("/v1/models", Answer::Whole(503, loading.to_owned()))],
        &[],
        &["503: Loading model"],
    );
    openai(&[], &[], &["answered 404: not found"]);
    let long = "{\"error\":{\"message\":\"the request exceeds the available context size\\n\\u001b[31m\"}}";
    openai(
        &completion(Answer::Whole(400, long.to_owned())),
        &[],
        &["400: the request exceeds"],
    );
    let html = format!("<html>{}</html>", "x".repeat(4000));
    openai(
        &[("/v1/models", Answer::Whole(502, html))],
        &[],
        &["502: <html>xxx"],
    );
}

#[test]
fn half_answers_are_not_taken_for_whole_ones() {
    let cut = Answer::Pieces(vec![(0, token("a")), (0, token("b"))]);
    openai(
        &completion(cut),
        &[],
        &["early, after 2 of 4 tokens", "connection was closed"],
    );
    openai(
        &completion(Answer::Half(token("a"))),
        &[],
        &["complete HTTP answer"],
    );
    openai(
        &[("/v1/models", Answer::Half("{\"data\":".to_owned()))],
        &[],
        &["complete HTTP answer"],
    );
    let failed = "data: {\"error\":{\"code\":500,\"message\":\"out of memory\"}}\n\n".to_owned();
    openai(
        &completion(Answer::Pieces(vec![(0, token("a")), (0, failed)])),
        &[],
        &["after 1 of 4 tokens: out of memory"],
    );
}

#[test]
fn answers_of_another_kind_are_named() {
    openai(
        &completion(Answer::Pieces(vec![(
            0,
            "data: {\"choices\": [\n\n".to_owned(),
        )])),
        &[],
        &["gave no JSON"],
    );
    openai(
        &completion(Answer::Whole(
            200,
            "{\"choices\":[{\"text\":\"all at once\"}]}".to_owned(),
        )),
        &[],
        &["no event stream", "all at once"],
    );
    openai(
        &[("/v1/models", Answer::Whole(200, "<html>".to_owned()))],
        &[],
        &["gave no JSON", "<html>"],
    );
    openai(
        &[("/v1/models", Answer::Raw("220 smtp ready\r\n\r\n"))],
        &[],
        &["/v1/models"],
    );
}

#[test]
fn the_model_must_be_one() {
    openai(
        &[("/v1/models", models(&[]))],
        &[],
        &["lists no model", "--served-model"],
    );
    openai(
        &[("/v1/models", models(&["a", "b"]))],
        &[],
        &["serves a, b", "--served-model"],
    );
}

#[test]
fn an_answer_that_ends_at_once_has_no_rate() {
    let short = Answer::Pieces(vec![(0, token("a")), (0, end(9, 1, 10.0))]);
    openai(
        &completion(short),
        &[],
        &["generated 1 token,", "at least 4"],
    );
}

#[test]
fn ollama_says_what_it_lacks() {
    let run = |generate: Answer| {
        let version = Answer::Whole(200, "{\"version\":\"0.12.3\"}".to_owned());
        let server = Server::start(&[("/api/version", version), ("/api/generate", generate)]);
        validate(&server.ollama(&[]))
    };
    let missing = "{\"error\":\"model 'x:1b' not found\"}".to_owned();
    assert_error(
        &run(Answer::Whole(404, missing)),
        &["404: model 'x:1b' not found"],
    );
    let cut = "{\"response\":\"The\",\"done\":false}\n".to_owned();
    assert_error(
        &run(Answer::Pieces(vec![(0, cut)])),
        &["early, after 1 of 4 tokens"],
    );
    let bare = "{\"response\":\"\",\"done\":true}\n".to_owned();
    assert_error(
        &run(Answer::Pieces(vec![(0, bare)])),
        &["`eval_count` is missing"],
    );
    let failed = "{\"error\":\"llama runner process has terminated\"}\n".to_owned();
    assert_error(
        &run(Answer::Pieces(vec![(0, failed)])),
        &["runner process has terminated"],
    );
}

#[test]
fn flags_of_other_backends_are_refused() {
    assert_error(
        &validate(&["--backend", "llama-bench", "--url", "http://127.0.0.1:1"]),
        &["--url is for"],
    );
    assert_error(
        &validate(&["--backend", "openai", "--program", "x"]),
        &["--program is for"],
    );
    let remote = [
        "--backend",
        "openai",
        "--url",
        "http://jetson.local:8080",
        "--device",
        "host",
    ];
    let run = crate::support::run_in(
        std::path::Path::new("/nonexistent"),
        &[&["validate", crate::support::MODEL], &remote[..]].concat(),
    );
    assert_error(&run, &["is another machine", "--device orin-nano-8gb"]);
}
