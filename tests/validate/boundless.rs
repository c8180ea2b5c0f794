//! Servers without measure: they ignore how much was asked for, hold their streams back, drip, or count
//! what cannot be. What can be believed is reported, the rest is told.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::server::{Answer, Server, end, models, ollama, token};
use crate::support::{assert_error, validate};

fn openai(completion: Answer) -> Server {
    Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", completion),
    ])
}

/// Measures eight tokens once, and returns the document and the text on one line.
#[track_caller]
fn measured(backend: &str, server: &Server) -> (Value, String) {
    let words = ["--tokens", "8", "--repeats", "1", "--timeout", "2"];
    let words = server.as_a(backend, &words);
    let since = Instant::now();
    let json = validate(&[&words[..], &["--format", "json"]].concat());
    // Two requests, each of at most twice the silence and a second a token.
    assert!(
        since.elapsed() < Duration::from_secs(24),
        "{:?}",
        since.elapsed()
    );
    assert!(json.code < 2, "{}", json.err);
    let text = validate(&words);
    let text = text.out.split_whitespace().collect::<Vec<_>>().join(" ");
    (crate::schema::document(&json.out), text)
}

/// The reason why a quantity was not measured.
#[track_caller]
fn reason<'a>(found: &'a Value, quantity: &str) -> &'a str {
    let doubts = found["not_measured"].as_array().unwrap();
    let doubt = doubts.iter().find(|doubt| doubt["quantity"] == quantity);
    assert_eq!(found["measured"][quantity], Value::Null, "{found}");
    doubt.unwrap_or_else(|| panic!("{quantity} is believed: {found}"))["reason"]
        .as_str()
        .unwrap()
}

#[test]
fn a_server_that_ignores_the_token_limit_is_stopped_and_rated() {
    let server = openai(Answer::Endless(15, token(" a")));
    let (found, text) = measured("openai", &server);
    assert_eq!(found["workload"]["generated_tokens"], 8);
    let rate = found["measured"]["decode_tokens_per_second"]
        .as_f64()
        .unwrap();
    // A token each 15 ms is 67 a second; on a busy machine some come late and the next at once.
    assert!(rate > 1.0 && rate < 100.0, "{rate}");
    assert!(
        text.contains("ignores the limit of 8 tokens: it was stopped after 24"),
        "{text}"
    );

    let piece = "{\"response\":\" a\",\"done\":false}\n".to_owned();
    let (found, text) = measured("ollama", &ollama(Answer::Endless(15, piece), "900000000"));
    assert_eq!(found["workload"]["generated_tokens"], 8);
    assert!(found["measured"]["decode_tokens_per_second"].is_number());
    assert!(text.contains("it was stopped after 24"), "{text}");
}

#[test]
fn a_server_that_drips_is_left_at_the_deadline() {
    let run = |backend: &str, server: &Server| {
        let words = ["--tokens", "8", "--repeats", "3", "--timeout", "1"];
        let since = Instant::now();
        let run = validate(&server.as_a(backend, &words));
        assert!(
            since.elapsed() < Duration::from_secs(16),
            "{:?}",
            since.elapsed()
        );
        run
    };
    // Bytes that never make a line, and lines that never make a token: to warm up takes 6 s at most.
    for drip in [
        "x",
        ": still here\n\n",
        "data: {\"choices\":[{\"text\":\"\"}]}\n\n",
    ] {
        let server = openai(Answer::Endless(300, drip.to_owned()));
        assert_error(
            &run("openai", &server),
            &["did not end its answer: 0 of 4 tokens in 6 s", "--timeout"],
        );
    }
    let server = ollama(
        Answer::Endless(300, "{\"response\":\"\",\"done\":false}\n".to_owned()),
        "1",
    );
    assert_error(&run("ollama", &server), &["0 of 4 tokens in 6 s"]);
}

#[test]
fn an_answer_of_too_much_text_is_cut() {
    let (_, text) = measured(
        "openai",
        &openai(Answer::Endless(1, token(&"a".repeat(10_000)))),
    );
    assert!(
        text.contains("bytes of text, more than 8 tokens have"),
        "{text}"
    );
    let server = openai(Answer::Endless(1, token(&"a".repeat(60_000))));
    let words = server.openai(&["--tokens", "8", "--repeats", "1"]);
    assert_error(
        &validate(&words),
        &["2 of 8 tokens in more bytes than so many"],
    );
    // A flood of events without a token.
    let flood = format!(": {}\n", "x".repeat(1 << 20));
    let server = openai(Answer::Endless(0, flood));
    let run = validate(&server.openai(&["--tokens", "8", "--repeats", "1"]));
    assert_error(
        &run,
        &["0 of 4 tokens in more bytes than so many tokens have"],
    );
}

#[test]
fn a_stream_that_is_held_back_has_no_rate_and_no_first_token() {
    let all: String = (0..64).map(|_| token(" a")).collect::<String>() + &end(131, 64, 1234.5);
    let server = openai(Answer::Pieces(vec![(300, all)]));
    let run =
        validate(&server.openai(&["--repeats", "2", "--power-mode", "15W", "--format", "json"]));
    let found = crate::schema::document(&run.out);
    assert!(
        reason(&found, "decode_tokens_per_second")
            .contains("that Jetson Orin Nano 8GB Super in 15W can reach")
    );
    assert!(reason(&found, "time_to_first_token_seconds").contains("all tokens came at once"));
    // What the server itself counts stands.
    assert_eq!(found["measured"]["prefill_tokens_per_second"], 1234.5);
    assert_eq!(
        found["compared"],
        serde_json::json!(["prefill_tokens_per_second"])
    );
    // Without it, the rate of the prompt is the client's and goes with the first token.
    let all = all_without_timings();
    let server = openai(Answer::Pieces(vec![(300, all)]));
    let run = validate(&server.openai(&["--repeats", "1", "--format", "json"]));
    let found = crate::schema::document(&run.out);
    assert!(
        reason(&found, "prefill_tokens_per_second")
            .contains("follows from the time to the first token")
    );
    assert_eq!(
        (run.code, &found["verdict"]),
        (1, &"nothing_to_compare".into())
    );
}

fn all_without_timings() -> String {
    let stream: String = (0..64).map(|_| token(" a")).collect::<String>() + &end(131, 64, 1.0);
    stream.replace("\"timings\"", "\"others\"")
}

#[test]
fn counts_that_cannot_be_are_not_counted() {
    let huge = u64::MAX;
    let mut pieces: Vec<(u64, String)> = (0..8).map(|_| (10, token(" a"))).collect();
    pieces.insert(0, (100, String::new()));
    pieces.push((0, end(131, huge, 500.0)));
    let (found, text) = measured("openai", &openai(Answer::Pieces(pieces.clone())));
    assert!(
        reason(&found, "decode_tokens_per_second").contains(&format!(
            "counts {huge} generated tokens, but 8 were requested"
        ))
    );
    assert_eq!(found["workload"]["generated_tokens"], Value::Null);
    assert_eq!(found["measured"]["prefill_tokens_per_second"], 500.0);
    assert!(text.contains("generated tokens not counted"), "{text}");
    // None at all is none of an answer either.
    for none in [0, 1] {
        pieces.pop();
        pieces.push((0, end(131, none, 500.0)));
        let (found, _) = measured("openai", &openai(Answer::Pieces(pieces.clone())));
        let why = reason(&found, "decode_tokens_per_second");
        let said = format!("the server counts {none} generated token");
        assert!(
            why.starts_with(&said) && why.ends_with("in an answer of 8 pieces"),
            "{why}"
        );
    }
    // The same of the prompt: its rate is the client's where the server has none.
    pieces.pop();
    pieces.push((0, end(huge, 8, 500.0).replace("\"timings\"", "\"others\"")));
    let (found, _) = measured("openai", &openai(Answer::Pieces(pieces)));
    assert!(
        reason(&found, "prefill_tokens_per_second")
            .contains(&format!("counts {huge} tokens in a prompt"))
    );
    assert_eq!(found["workload"]["prompt_tokens"], Value::Null);
    assert!(found["measured"]["decode_tokens_per_second"].is_number());
}

#[test]
fn ollamas_account_of_itself_is_held_against_the_machine() {
    let counters = |eval: &str| {
        Answer::Pieces(vec![
            (200, "{\"response\":\"a\",\"done\":false}\n".to_owned()),
            (
                0,
                format!(
                    "{{\"response\":\"\",\"done\":true,\"prompt_eval_count\":131,\"prompt_eval_duration\":150000000,{eval}}}\n"
                ),
            ),
        ])
    };
    let sound = "\"eval_count\":8,\"eval_duration\":200000000";
    for (size, says) in [
        (
            "18446744073709551615",
            "are more than the machine's 7.43 GiB",
        ),
        ("0", "0 B is not a measurement"),
        ("1000", " of weights that every token reads"),
    ] {
        let (found, text) = measured("ollama", &ollama(counters(sound), size));
        let why = reason(&found, "peak_memory_bytes");
        assert!(
            why.starts_with("by the engine's account: ") && why.contains(says),
            "{why}"
        );
        assert_eq!(found["measured"]["memory"]["engine_bytes"], Value::Null);
        assert_eq!(found["measured"]["decode_tokens_per_second"], 40.0);
        assert!(text.contains("; not compared: peak memory"), "{text}");
    }
    // Eight tokens came over 200 ms and more, and are said to have taken 80: 100 tokens/s are no more than the board can
    // reach, and no more than 40 arrived.
    let drop = |delay, text: &str| {
        (
            delay,
            format!("{{\"response\":\"{text}\",\"done\":false}}\n"),
        )
    };
    let end = format!(
        "{{\"response\":\"\",\"done\":true,\"prompt_eval_count\":131,\"prompt_eval_duration\":150000000,{}}}\n",
        "\"eval_count\":8,\"eval_duration\":80000000"
    );
    let slow = Answer::Pieces(vec![drop(200, "a"), drop(200, "b"), drop(0, "c"), (0, end)]);
    let (found, _) = measured("ollama", &ollama(slow, "900000000"));
    let why = reason(&found, "decode_tokens_per_second");
    assert!(
        why.starts_with("the engine's clock says 100.0 tokens/s, but they arrived here at "),
        "{why}"
    );
    assert!(found["measured"]["prefill_tokens_per_second"].is_number());
    let never = "\"eval_count\":8,\"eval_duration\":0";
    let (found, _) = measured("ollama", &ollama(counters(never), "900000000"));
    assert!(reason(&found, "decode_tokens_per_second").contains("no time passed"));
    assert_eq!(found["measured"]["peak_memory_bytes"], 900_000_000);
}
