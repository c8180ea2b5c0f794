//! A server of recorded answers: a thread with a listener, no more HTTP than the tests need.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What the server does with a request to a path.
#[derive(Clone)]
pub(crate) enum Answer {
    /// A status and a body of known length.
    Whole(u16, String),
    /// Pieces of a body without length, each after so many milliseconds; then the connection ends.
    Pieces(Vec<(u64, String)>),
    /// This piece again and again, so many milliseconds apart.
    Endless(u64, String),
    /// A body of which only this much arrives, though its length was announced.
    Half(String),
    /// Nothing, for longer than any test waits.
    Silence,
    /// Bytes that are not HTTP.
    Raw(&'static str),
    /// 400 with a message while the request holds this word, else the other answer.
    Strict(&'static str, Box<Answer>),
}

/// A server and what it was asked.
pub(crate) struct Server {
    pub(crate) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// The words that measure it as a server with OpenAI's completions, and `more`.
    pub(crate) fn openai<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        [&["--backend", "openai", "--url", &self.url], more].concat()
    }

    /// The words that measure it as a server of this kind that has a model `x`, and `more`.
    pub(crate) fn as_a<'a>(&'a self, backend: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let fixed = [
            "--backend",
            backend,
            "--url",
            &self.url,
            "--served-model",
            "x",
        ];
        [&fixed[..], more].concat()
    }

    /// The same as an Ollama.
    pub(crate) fn ollama<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        self.as_a("ollama", more)
    }

    /// Answers requests to paths that begin with one of these with what stands beside it.
    pub(crate) fn start(answers: &[(&'static str, Answer)]) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answers, seen) = (answers.to_vec(), asked.clone());
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, seen) = (answers.clone(), seen.clone());
                thread::spawn(move || {
                    let _ = serve(stream.unwrap(), &answers, &seen);
                });
            }
        });
        Server { url, asked }
    }

    /// The bodies of all posts so far.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// The body of a request.
fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut first = String::new();
    if reader.read_line(&mut first).ok()? == 0 {
        return None;
    }
    let path = first.split(' ').nth(1)?.to_owned();
    let (mut length, mut chunked) = (0, false);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let line = line.trim().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        chunked |= line.starts_with("transfer-encoding:");
    }
    assert!(!chunked, "requests state their length");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path, String::from_utf8(body).ok()?))
}

fn serve(
    stream: TcpStream,
    answers: &[(&'static str, Answer)],
    seen: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    while let Some((path, body)) = request(&mut reader) {
        let answer = answers.iter().find(|(prefix, _)| path.starts_with(prefix));
        let mut answer = answer.map(|(_, answer)| answer);
        let refusal = Answer::Whole(
            400,
            "{\"detail\":\"extra fields not permitted\"}".to_owned(),
        );
        if let Some(Answer::Strict(word, other)) = answer {
            answer = Some(if body.contains(word) { &refusal } else { other });
        }
        if !body.is_empty() {
            seen.lock().unwrap().push(body);
        }
        match answer {
            None => write!(
                out,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\nnot found"
            )?,
            Some(Answer::Whole(status, body)) => {
                write!(
                    out,
                    "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )?;
            }
            Some(Answer::Half(body)) => {
                write!(
                    out,
                    "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len() + 999
                )?;
                return Ok(());
            }
            Some(Answer::Pieces(pieces)) => {
                write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                for (milliseconds, piece) in pieces {
                    thread::sleep(Duration::from_millis(*milliseconds));
                    out.write_all(piece.as_bytes())?;
                    out.flush()?;
                }
                return Ok(());
            }
            Some(Answer::Endless(milliseconds, piece)) => {
                write!(out, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                // Ends when nobody listens any more.
                loop {
                    thread::sleep(Duration::from_millis(*milliseconds));
                    out.write_all(piece.as_bytes())?;
                    out.flush()?;
                }
            }
            Some(Answer::Raw(bytes)) => {
                out.write_all(bytes.as_bytes())?;
                return Ok(());
            }
            Some(Answer::Strict(..)) => unreachable!("one strict answer within another"),
            Some(Answer::Silence) => thread::sleep(Duration::from_secs(60)),
        }
    }
    Ok(())
}

/// What llama-server, vLLM and others list as their models.
pub(crate) fn models(ids: &[&str]) -> Answer {
    let entries: Vec<String> = ids
        .iter()
        .map(|id| format!("{{\"id\":\"{id}\",\"object\":\"model\",\"owned_by\":\"llamacpp\"}}"))
        .collect();
    Answer::Whole(
        200,
        format!("{{\"object\":\"list\",\"data\":[{}]}}", entries.join(",")),
    )
}

/// A piece of a completion as llama-server b9000 streams it.
pub(crate) fn token(text: &str) -> String {
    format!(
        "data: {{\"choices\":[{{\"text\":\"{text}\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}}],\"created\":1795393199,\"model\":\"m\",\"system_fingerprint\":\"b9000-abc\",\"object\":\"text_completion\",\"id\":\"x\"}}\n\n"
    )
}

/// The end of the stream, with llama-server's counters.
pub(crate) fn end(prompt: u64, generated: u64, prefill: f64) -> String {
    format!(
        "data: {{\"choices\":[{{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"length\"}}],\"object\":\"text_completion\",\"system_fingerprint\":\"b9000-abc\",\"usage\":{{\"completion_tokens\":{generated},\"prompt_tokens\":{prompt},\"total_tokens\":9,\"prompt_tokens_details\":{{\"cached_tokens\":0}}}},\"timings\":{{\"cache_n\":0,\"prompt_n\":{prompt},\"prompt_per_second\":{prefill},\"predicted_n\":{generated}}}}}\n\ndata: [DONE]\n\n"
    )
}

/// A stream of `count` tokens, the first after `first` ms, the others `gap` ms apart.
pub(crate) fn stream(first: u64, gap: u64, count: u64, prompt: u64, prefill: f64) -> Answer {
    let mut pieces: Vec<(u64, String)> = (0..count)
        .map(|index| (if index == 0 { first } else { gap }, token(" word")))
        .collect();
    pieces.push((0, end(prompt, count, prefill)));
    Answer::Pieces(pieces)
}

/// An Ollama that answers so, and says that it holds a model `x` of this size.
pub(crate) fn ollama(generate: Answer, size: &str) -> Server {
    let running =
        format!("{{\"models\":[{{\"name\":\"x\",\"size\":{size},\"size_vram\":{size}}}]}}");
    Server::start(&[
        (
            "/api/version",
            Answer::Whole(200, "{\"version\":\"0.12.3\"}".to_owned()),
        ),
        ("/api/ps", Answer::Whole(200, running)),
        ("/api/generate", generate),
    ])
}

/// What Ollama sends at once where it has read a prompt of so many tokens within 0.1 s, and generated so many at
/// this rate.
pub(crate) fn counted(prompt: u64, generated: u64, rate: f64) -> Answer {
    let nanoseconds = (generated as f64 / rate * 1e9) as u64;
    let done = format!(
        "{{\"response\":\"a\",\"done\":true,\"prompt_eval_count\":{prompt},\"prompt_eval_duration\":100000000,\"eval_count\":{generated},\"eval_duration\":{nanoseconds}}}\n"
    );
    Answer::Pieces(vec![(10, done)])
}
