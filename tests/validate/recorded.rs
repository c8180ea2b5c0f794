//! Answers as llama-server, vLLM and Ollama give them.

use serde_json::Value;

use crate::server::{Answer, Server, counted, end, models, stream, token};
use crate::support::{MODEL, document, run_in, validate};

/// Runs against a server and returns its document, whatever the verdict.
#[track_caller]
fn measured(words: &[&str]) -> Value {
    let run = validate(&[words, &["--format", "json"]].concat());
    assert!(run.code < 2, "{}", run.err);
    let code = run.code;
    document(&run, code)
}

#[test]
fn llama_server_is_timed_by_the_client_and_counts_for_itself() {
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", stream(100, 50, 8, 131, 1234.5)),
    ]);
    let found = measured(&server.openai(&["--tokens", "8", "--repeats", "2"]));
    let number = |path: &str| found.pointer(path).and_then(Value::as_f64).unwrap();
    assert_eq!(found["schema"], "orinplan.validate/1");
    assert_eq!(found["backend"], "openai");
    assert_eq!(found["measured"]["engine"], "llama.cpp b9000-abc");
    assert_eq!(found["workload"]["prompt_tokens"], 131);
    assert_eq!(found["workload"]["generated_tokens"], 8);
    assert_eq!(number("/measured/prefill_tokens_per_second"), 1234.5);
    // 50 ms between tokens and 100 ms before the first are what the server waits at least.
    let decode = number("/measured/decode_tokens_per_second");
    assert!(decode > 0.2 && decode <= 20.1, "{decode}");
    assert!(number("/measured/time_to_first_token_seconds") >= 0.0999);
    assert!(number("/measured/longest_gap_seconds") >= 0.0499);
    assert_eq!(found["measured"]["text"], " word".repeat(8));
    // 131 prompt tokens are enough to be judged; every rate has its error.
    for line in [
        "decode_percent",
        "prefill_percent",
        "time_to_first_token_percent",
    ] {
        assert!(found["error"][line].is_number(), "{line}");
    }
}

/// A stream whose end counts drafted and accepted tokens, as llama-server b11434 does where it speculates.
fn drafted(drafted: u64, accepted: u64) -> Answer {
    let counters = format!("\"draft_n\":{drafted},\"draft_n_accepted\":{accepted},\"cache_n\"");
    let last = end(131, 8, 1234.5).replace("\"cache_n\"", &counters);
    let mut pieces: Vec<(u64, String)> = (0..8).map(|_| (2, token(" word"))).collect();
    pieces.push((0, last));
    Answer::Pieces(pieces)
}

#[test]
fn the_acceptance_that_llama_server_counts_is_reported_over_all_repeats() {
    let of = |answer: Answer| {
        let server = Server::start(&[("/v1/models", models(&["m"])), ("/v1/completions", answer)]);
        measured(&server.openai(&["--tokens", "8", "--repeats", "2"]))
    };
    let found = of(drafted(12, 9));
    let speculation = &found["measured"]["speculation"];
    assert_eq!(speculation["drafted_tokens"], 24);
    assert_eq!(speculation["accepted_tokens"], 18);
    assert_eq!(speculation["acceptance"], 0.75);
    // More accepted than drafted is no count, and a server that does not speculate has none.
    assert!(of(drafted(3, 4))["measured"].get("speculation").is_none());
    assert!(
        of(stream(2, 2, 8, 131, 1234.5))["measured"]
            .get("speculation")
            .is_none()
    );
}

#[test]
fn every_request_is_greedy_and_begins_differently() {
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", stream(1, 1, 8, 131, 100.0)),
    ]);
    measured(&server.openai(&["--tokens", "8", "--repeats", "2"]));
    let asked: Vec<Value> = server
        .asked()
        .iter()
        .map(|body| serde_json::from_str(body).unwrap())
        .collect();
    assert_eq!(asked.len(), 3, "one to warm up and two repeats");
    let starts: Vec<&str> = asked
        .iter()
        .map(|body| body["prompt"].as_str().unwrap().split(' ').next().unwrap())
        .collect();
    assert!(
        starts[0] != starts[1] && starts[1] != starts[2] && starts[0] != starts[2],
        "{starts:?}"
    );
    for body in &asked {
        assert_eq!(body["model"], "m");
        assert_eq!(body["temperature"], 0);
        assert_eq!(body["stream"], true);
        assert_eq!(body["cache_prompt"], false);
        assert_eq!(body["stream_options"]["include_usage"], true);
    }
    assert_eq!(asked[2]["max_tokens"], 8);
}

#[test]
fn a_server_that_knows_only_openais_fields_is_asked_with_those() {
    let strict = Answer::Strict("cache_prompt", Box::new(stream(1, 1, 8, 131, 100.0)));
    let server = Server::start(&[("/v1/models", models(&["m"])), ("/v1/completions", strict)]);
    let found = measured(&server.openai(&["--tokens", "8", "--repeats", "1"]));
    assert_eq!(found["workload"]["generated_tokens"], 8);
    assert_eq!(server.asked().len(), 3);
}

#[test]
fn vllm_ends_with_a_usage_of_its_own_and_counts_no_prefill() {
    // The form of vLLM 0.10: no timings, the usage in a last event without choices.
    let piece = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"Qwen/Qwen3-0.6B\",\"choices\":[{\"index\":0,\"text\":\" a\",\"logprobs\":null,\"finish_reason\":null,\"stop_reason\":null}],\"usage\":null}\n\n";
    let last = piece.replace("\"finish_reason\":null", "\"finish_reason\":\"length\"");
    let usage = "data: {\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"Qwen/Qwen3-0.6B\",\"choices\":[],\"usage\":{\"prompt_tokens\":200,\"total_tokens\":206,\"completion_tokens\":6}}\n\ndata: [DONE]\n\n";
    let mut pieces = vec![(100, piece.to_owned())];
    pieces.extend((0..4).map(|_| (5, piece.to_owned())));
    pieces.extend([(5, last), (0, usage.to_owned())]);
    let server = Server::start(&[
        ("/v1/models", models(&["Qwen/Qwen3-0.6B"])),
        ("/v1/completions", Answer::Pieces(pieces)),
    ]);
    let found = measured(&[
        "--backend",
        "openai",
        "--url",
        &format!("{}/v1/", server.url),
        "--tokens",
        "6",
        "--repeats",
        "1",
    ]);
    let first = found["measured"]["time_to_first_token_seconds"]
        .as_f64()
        .unwrap();
    let prefill = found["measured"]["prefill_tokens_per_second"]
        .as_f64()
        .unwrap();
    assert!(
        (prefill * first - 200.0).abs() < 0.01,
        "{prefill} x {first}"
    );
}

#[test]
fn a_chat_goes_to_the_chat_endpoint_and_counts_thinking_too() {
    let delta = |delta: &str| {
        format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":null}}],\"object\":\"chat.completion.chunk\"}}\n\n"
        )
    };
    let mut pieces = vec![(1, delta("{\"role\":\"assistant\",\"content\":null}"))];
    pieces.extend([
        (5, delta("{\"reasoning_content\":\"Hm\"}")),
        (5, delta("{\"content\":\"Hello\"}")),
    ]);
    pieces.extend((0..3).map(|_| (5, delta("{\"content\":\" you\"}"))));
    pieces.push((0, crate::server::end(9, 5, 50.0)));
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/chat/completions", Answer::Pieces(pieces)),
    ]);
    let found = measured(&server.openai(&[
        "--chat",
        "--prompt",
        "Hi",
        "--tokens",
        "5",
        "--repeats",
        "1",
    ]));
    assert_eq!(found["measured"]["text"], "HmHello you you you");
    let body: Value = serde_json::from_str(&server.asked()[0]).unwrap();
    assert_eq!(body["messages"][0]["content"], "Hi");
    // Nine tokens say nothing of the rate of a prompt: shown, not judged.
    assert!(found["error"]["prefill_percent"].is_number());
}

#[test]
fn pieces_stand_for_tokens_where_a_server_counts_none() {
    let mut pieces: Vec<(u64, String)> = (0..6).map(|_| (3, token(" a"))).collect();
    pieces.push((0, "data: [DONE]\n\n".to_owned()));
    let server = Server::start(&[
        ("/v1/models", models(&["m"])),
        ("/v1/completions", Answer::Pieces(pieces)),
    ]);
    let found = measured(&server.openai(&["--tokens", "6", "--repeats", "1"]));
    assert_eq!(found["workload"]["generated_tokens"], 6);
    assert_eq!(found["workload"]["prompt_tokens"], Value::Null);
    assert_eq!(found["measured"]["prefill_tokens_per_second"], Value::Null);
    assert!(
        found["measured"]["remarks"][0]
            .as_str()
            .unwrap()
            .contains("no usage")
    );
}

/// What Ollama 0.12 streams, with the counters of its documentation's example: 26 prompt tokens in
/// 130.079 ms, 259 tokens in 4232.710 ms.
fn ollama() -> Vec<(&'static str, Answer)> {
    let piece = "{\"model\":\"llama3.2\",\"created_at\":\"2023-08-04T08:52:19.385406455-07:00\",\"response\":\"The\",\"done\":false}\n".to_owned();
    let done = "{\"model\":\"llama3.2\",\"created_at\":\"2023-08-04T19:22:45.499127Z\",\"response\":\"\",\"done\":true,\"done_reason\":\"length\",\"context\":[1,2,3],\"total_duration\":10706818083,\"load_duration\":6338219291,\"prompt_eval_count\":26,\"prompt_eval_duration\":130079000,\"eval_count\":259,\"eval_duration\":4232710000}\n".to_owned();
    let ps = "{\"models\":[{\"name\":\"x\",\"model\":\"x\",\"size\":1000000000,\"size_vram\":600000000}]}";
    vec![
        (
            "/api/version",
            Answer::Whole(200, "{\"version\":\"0.12.3\"}".to_owned()),
        ),
        ("/api/generate", Answer::Pieces(vec![(1, piece), (1, done)])),
        ("/api/ps", Answer::Whole(200, ps.to_owned())),
    ]
}

#[test]
fn ollama_is_taken_by_its_own_counters() {
    let server = Server::start(&ollama());
    let found = measured(&server.ollama(&["--tokens", "259", "--repeats", "1"]));
    assert_eq!(found["runtime"]["id"], "ollama");
    assert_eq!(found["measured"]["engine"], "Ollama 0.12.3");
    // 259 / 4.23271 s and 26 / 0.130079 s.
    assert_eq!(found["measured"]["decode_tokens_per_second"], 61.1901);
    assert_eq!(found["measured"]["prefill_tokens_per_second"], 199.879);
    assert_eq!(found["measured"]["memory"]["engine_bytes"], 1_000_000_000);
    // 600 of 1000 MB on the GPU is a reason that was looked up.
    let checks = found["checks"].as_array().unwrap();
    assert_eq!(checks[1]["code"], "cpu_fallback");
    assert_eq!(checks[1]["state"], "holds");
    assert!(
        found["measured"]["remarks"]
            .to_string()
            .contains("60 % of the model on the GPU")
    );
}

#[test]
fn an_ollama_tag_of_a_file_must_be_said() {
    let server = Server::start(&ollama());
    let run = validate(&["--backend", "ollama", "--url", &server.url]);
    crate::support::assert_error(&run, &["--served-model", "qwen3-0.6b-Q4_K_M"]);
}

#[test]
fn the_verdict_is_the_error_against_the_tolerance() {
    let fit = run_in(
        std::path::Path::new("/nonexistent"),
        &[
            "fit",
            MODEL,
            "--runtime",
            "ollama",
            "--prompt-tokens",
            "70",
            "--format",
            "json",
        ],
    );
    let plan = &document(&fit, 0)["plans"][0];
    let expected = plan["decode"]["tokens_per_second"]["expected"]
        .as_f64()
        .unwrap();
    for (factor, tolerance, code) in [
        (1.0, "1", 0),
        (1.1, "15", 0),
        (1.1, "8", 1),
        (0.8, "20", 1),
        (0.8, "26%", 0),
    ] {
        // 100 tokens at this rate behind a prompt of 20, too short to be judged: a mean depth of 70.
        let generate = counted(20, 100, expected * factor);
        let server = Server::start(&[
            ("/api/version", Answer::Whole(200, "{}".to_owned())),
            ("/api/generate", generate),
        ]);
        let more = ["--tokens", "100", "--repeats", "1", "--tolerance"];
        let words = server.ollama(&[&more[..], &[tolerance]].concat());
        let found = document(
            &validate(&[&words[..], &["--format", "json"]].concat()),
            code,
        );
        let off = found["error"]["decode_percent"].as_f64().unwrap();
        assert!(
            (off - (1.0 / factor - 1.0) * 100.0).abs() < 0.01,
            "{off} {factor}"
        );
        assert_eq!(found["within_tolerance"], code == 0);
        assert_eq!(found["error"]["memory_percent"], Value::Null);
        let text = validate(&words);
        assert!(
            text.out.contains(if code == 0 {
                "PARTLY COMPARED: decode is within "
            } else {
                "OFF by more than "
            }),
            "{}",
            text.out
        );
        assert!(
            text.out.contains("not judged: the prompt is short"),
            "{}",
            text.out
        );
    }
}

#[test]
fn a_rate_of_the_processors_or_of_a_slower_mode_is_named() {
    // The weights that a token reads, about 372 MiB, at 16 GB/s; and what 15W is expected to reach.
    let fit = [
        "fit",
        MODEL,
        "--power-mode",
        "15W",
        "--runtime",
        "ollama",
        "--prompt-tokens",
        "163",
        "--format",
        "json",
    ];
    let plan = document(&run_in(std::path::Path::new("/nonexistent"), &fit), 0);
    let slower = plan["plans"][0]["decode"]["tokens_per_second"]["expected"]
        .as_f64()
        .unwrap();
    for (rate, says) in [
        (16e9 / 391e6, "on the CPU, which reads about 16 GB/s"),
        (
            slower,
            "in 15W (memory of 68 GB/s), but the plan is for MAXN_SUPER",
        ),
    ] {
        let server = crate::server::ollama(counted(131, 64, rate), "900000000");
        let run = validate(&server.ollama(&["--power-mode", "MAXN_SUPER", "--repeats", "1"]));
        let words = run.out.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words.contains("tokens/s are what this model decodes") && words.contains(says),
            "{rate}: {words}"
        );
    }
}

#[test]
fn a_directory_is_refused_with_the_two_commands() {
    for (backend, more, line) in [
        (
            "candle",
            &["--scheme", "q4_k_m"][..],
            "`orinplan quantize fixtures/tiny-qwen3 --scheme q4_k_m --output model.gguf`, then `orinplan validate model.gguf`",
        ),
        (
            "llama-bench",
            &["--scheme", "q8_0"],
            "`orinplan quantize fixtures/tiny-qwen3 --scheme q8_0 --output model.gguf`, then `orinplan validate model.gguf --backend llama-bench`",
        ),
    ] {
        let words = ["validate", "fixtures/tiny-qwen3", "--backend", backend];
        let run = run_in(
            std::path::Path::new("/nonexistent"),
            &[&words[..], more].concat(),
        );
        crate::support::assert_error(&run, &["is not a GGUF", line]);
    }
}
