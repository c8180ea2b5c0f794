//! A server on this machine that speaks the protocols of the Hugging Face hub and of Ollama's registry, with a second
//! port that stands for the network from which the hub has large files sent. It can be told to misbehave.
//!
//! Follows the hub's API documentation and the requests that `huggingface_hub` makes.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What a file holds.
#[derive(Clone)]
pub(crate) enum Content {
    Bytes(Arc<Vec<u8>>),
    /// A beginning, and zeros behind it up to a size: weights that nobody should ask for.
    Begins(Arc<Vec<u8>>, u64),
}

/// A file of a repository.
#[derive(Clone)]
pub(crate) struct Served {
    pub(crate) content: Content,
    /// Its SHA-256 as stated; only large files have one.
    pub(crate) sha256: Option<String>,
}

/// A repository of the hub, or a model of the registry.
#[derive(Clone, Default)]
pub(crate) struct Repository {
    pub(crate) commit: String,
    /// Commits before it, which have the same files.
    pub(crate) old: Vec<String>,
    pub(crate) files: BTreeMap<String, Served>,
    /// The token that it asks for.
    pub(crate) token: Option<&'static str>,
    /// The text of the registry's manifest.
    pub(crate) manifest: Option<String>,
}

/// How an answer goes wrong.
#[derive(Clone)]
pub(crate) enum Fault {
    /// A status with headers and no file.
    Status(u16, Vec<(&'static str, &'static str)>),
    /// A page for people.
    WebPage,
    /// To itself, again and again.
    EndlessRedirect,
    RedirectTo(String),
    /// The body ends after so many bytes.
    Cut(usize),
    /// The file is sent from its beginning on, whatever range was asked for.
    WholeFile,
    /// Another range than the one that was asked for, by its header.
    OtherRange,
    /// More bytes are promised than a range has.
    LongLength,
    /// The size of the whole file is another.
    OtherSize,
    /// A compressed answer.
    Compressed,
    /// Another byte somewhere in the body.
    Flipped,
    /// Another tag.
    OtherTag,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// Whether it came to the second port.
    pub(crate) second: bool,
    pub(crate) path: String,
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) token: Option<String>,
    /// Bytes of the body of the answer.
    pub(crate) sent: u64,
}

/// Which answers go wrong, and how.
struct Rule {
    part: String,
    /// Answers that are right before.
    after: usize,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    repositories: BTreeMap<String, Repository>,
    /// Faults by a part of the path, each for so many answers.
    faults: Vec<Rule>,
    asked: Vec<Asked>,
    delay: Duration,
}

/// A running server. It ends with the process.
#[derive(Clone)]
pub(crate) struct Server {
    state: Arc<Mutex<State>>,
    scheme: &'static str,
    ports: (u16, u16),
}

/// A connection, encrypted or not.
pub(crate) trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

/// Makes a connection of what was accepted.
pub(crate) type Accept = Arc<dyn Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync>;

impl Server {
    pub(crate) fn start() -> Server {
        Server::with("http", Arc::new(|stream| Ok(Box::new(stream))))
    }

    /// A server whose connections `accept` makes.
    pub(crate) fn with(scheme: &'static str, accept: Accept) -> Server {
        let (first, second) = (listener(), listener());
        let port = |listener: &TcpListener| listener.local_addr().unwrap().port();
        let server = Server {
            state: Arc::default(),
            scheme,
            ports: (port(&first), port(&second)),
        };
        for (listener, is_second) in [(first, false), (second, true)] {
            let (server, accept) = (server.clone(), accept.clone());
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let (server, accept) = (server.clone(), accept.clone());
                    thread::spawn(move || {
                        let _ = stream.set_nodelay(true);
                        server.pause();
                        if let Ok(stream) = accept(stream) {
                            let _ = server.serve(stream, is_second);
                        }
                    });
                }
            });
        }
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.ports.0)
    }

    /// The port that stands for the network from which files are sent.
    pub(crate) fn cdn(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.ports.1)
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.ports.0)
    }

    /// Puts a repository there, or another in its place.
    pub(crate) fn put(&self, id: &str, repository: Repository) {
        let mut state = self.state.lock().unwrap();
        state.repositories.insert(id.to_owned(), repository);
    }

    /// Lets the next `times` answers to paths with `part` in them go wrong.
    pub(crate) fn fault(&self, part: &str, times: usize, fault: Fault) {
        self.rule(part, 0, times, fault);
    }

    /// Lets every answer to paths with `part` in them go wrong after the next `after`.
    pub(crate) fn fault_after(&self, part: &str, after: usize, fault: Fault) {
        self.rule(part, after, usize::MAX, fault);
    }

    fn rule(&self, part: &str, after: usize, times: usize, fault: Fault) {
        let part = part.to_owned();
        let mut state = self.state.lock().unwrap();
        state.faults.push(Rule {
            part,
            after,
            times,
            fault,
        });
    }

    /// Lets all answers be right again.
    pub(crate) fn mend(&self) {
        self.state.lock().unwrap().faults.clear();
    }

    /// Makes every round trip take so long.
    pub(crate) fn delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// The requests since the last call.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().unwrap().asked)
    }

    fn pause(&self) {
        let delay = self.state.lock().unwrap().delay;
        thread::sleep(delay);
    }

    fn serve(&self, stream: Box<dyn Stream>, second: bool) -> io::Result<()> {
        let mut stream = BufReader::new(stream);
        while let Some(request) = read_request(&mut stream)? {
            self.pause();
            let (answer, asked) = self.answer(&request, second);
            self.state.lock().unwrap().asked.push(asked);
            if !answer.send(stream.get_mut(), request.head)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn answer(&self, request: &Request, second: bool) -> (Answer, Asked) {
        let mut state = self.state.lock().unwrap();
        let fault = state
            .faults
            .iter_mut()
            .find(|rule| rule.times > 0 && request.path.contains(&rule.part));
        let fault = fault.and_then(|rule| {
            if rule.after > 0 {
                rule.after -= 1;
                return None;
            }
            rule.times -= 1;
            Some(rule.fault.clone())
        });
        let mut asked = Asked {
            second,
            path: request.path.clone(),
            range: request.range,
            token: request.token.clone(),
            sent: 0,
        };
        let answer = match fault {
            Some(Fault::Status(status, headers)) => {
                let headers = headers
                    .iter()
                    .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
                Answer::of(status, headers.collect(), Vec::new())
            }
            Some(Fault::WebPage) => Answer::of(
                200,
                vec![header("content-type", "text/html; charset=utf-8")],
                b"<!DOCTYPE html><html>Sign in</html>".to_vec(),
            ),
            Some(Fault::EndlessRedirect) => Answer::redirect(&format!("{}?again", request.path)),
            Some(Fault::RedirectTo(to)) => Answer::redirect(&to),
            fault => {
                let answer = self.right_answer(&state, request, second);
                answer.spoiled(fault, request)
            }
        };
        asked.sent = answer.body.len().min(answer.cut.unwrap_or(usize::MAX)) as u64;
        (answer, asked)
    }

    fn right_answer(&self, state: &State, request: &Request, second: bool) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        let path = decoded(path);
        if second {
            // /cdn/ORG/NAME/FILE with a signature, as of a bucket.
            let found = path.strip_prefix("/cdn/").and_then(|path| {
                let (id, file) = split_id(path)?;
                state.repositories.get(id)?.files.get(file)
            });
            return match found {
                Some(file) if request.path.contains("?signature=") => file_answer(file, request),
                _ => Answer::of(403, Vec::new(), b"<Error>AccessDenied</Error>".to_vec()),
            };
        }
        if let Some(rest) = path.strip_prefix("/v2/") {
            return registry(state, rest, self);
        }
        let api = path.strip_prefix("/api/models/");
        let Some((id, rest)) = split_id(api.unwrap_or(path.trim_start_matches('/'))) else {
            return Answer::error(404, "");
        };
        let Some(repository) = state.repositories.get(id) else {
            // The hub does not tell a stranger whether there is such a repository.
            return Answer::error(
                if request.token.is_some() { 404 } else { 401 },
                "RepoNotFound",
            );
        };
        if let Some(token) = repository.token
            && request.token.as_deref() != Some(token)
            && api.is_none()
        {
            return match &request.token {
                None => Answer::error(401, "GatedRepo"),
                Some(_) => Answer::error(403, "GatedRepo"),
            };
        }
        let is_known = |revision: &str| {
            let mut commits = repository.old.iter().chain([&repository.commit]);
            revision == "main" || commits.any(|commit| commit == revision)
        };
        let parts: Vec<&str> = rest.split('/').collect();
        match (api.is_some(), parts.as_slice()) {
            (true, ["revision", revision]) if is_known(revision) => Answer::json(&format!(
                r#"{{"id":"{id}","sha":"{}","siblings":[{}]}}"#,
                repository.commit,
                siblings(repository)
            )),
            (true, ["tree", revision]) if is_known(revision) => tree(repository, request, self),
            (false, ["resolve", revision, file @ ..]) if is_known(revision) => {
                let name = file.join("/");
                match repository.files.get(&name) {
                    Some(file) => resolve(repository, id, &name, file, request, self),
                    None => Answer::error(404, "EntryNotFound"),
                }
            }
            (_, ["revision" | "tree" | "resolve", ..]) => Answer::error(404, "RevisionNotFound"),
            _ => Answer::error(404, ""),
        }
    }
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// `ORG/NAME` and what follows.
fn split_id(path: &str) -> Option<(&str, &str)> {
    let slash = path.find('/')?;
    let end = path[slash + 1..]
        .find('/')
        .map_or(path.len(), |at| slash + 1 + at);
    Some((&path[..end], path[end..].trim_start_matches('/')))
}

fn siblings(repository: &Repository) -> String {
    let names = repository.files.keys();
    let names: Vec<String> = names
        .map(|name| format!(r#"{{"rfilename":"{name}"}}"#))
        .collect();
    names.join(",")
}

/// Files with their sizes, two on a page.
fn tree(repository: &Repository, request: &Request, server: &Server) -> Answer {
    const PAGE: usize = 2;
    let start: usize = request
        .path
        .split_once("cursor=")
        .map_or(0, |(_, n)| n.parse().unwrap());
    let entry = |(name, file): (&String, &Served)| {
        let (size, oid) = (file.content.size(), oid(file));
        let lfs = file.sha256.as_ref().map_or_else(String::new, |sha256| {
            format!(r#","lfs":{{"oid":"{sha256}","size":{size},"pointerSize":135}}"#)
        });
        format!(r#"{{"type":"file","oid":"{oid}","size":{size},"path":"{name}"{lfs}}}"#)
    };
    let all = repository.files.iter();
    let page: Vec<String> = all.skip(start).take(PAGE).map(entry).collect();
    let mut answer = Answer::json(&format!("[{}]", page.join(",")));
    if start + PAGE < repository.files.len() {
        let path = request.path.split('&').next().unwrap_or_default();
        let next = format!("{}{path}&cursor={}", server.url(), start + PAGE);
        answer
            .headers
            .push(header("link", &format!("<{next}>; rel=\"next\"")));
    }
    answer
}

/// The name of a file's contents in Git.
fn oid(file: &Served) -> String {
    let size = file.content.size();
    format!("{:040x}", size.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

fn resolve(
    repository: &Repository,
    id: &str,
    name: &str,
    file: &Served,
    request: &Request,
    server: &Server,
) -> Answer {
    let commit = header("x-repo-commit", &repository.commit);
    let Some(sha256) = &file.sha256 else {
        let mut answer = file_answer(file, request);
        answer.headers.push(commit);
        return answer;
    };
    let to = format!(
        "{}://127.0.0.1:{}/cdn/{id}/{name}?signature=secret",
        server.scheme, server.ports.1
    );
    let mut answer = Answer::redirect(&to);
    answer.headers.extend([
        commit,
        header("x-linked-size", &file.content.size().to_string()),
        header("x-linked-etag", &format!("\"{sha256}\"")),
    ]);
    answer
}

fn registry(state: &State, path: &str, server: &Server) -> Answer {
    let Some((id, rest)) = split_id(path) else {
        return Answer::error(404, "");
    };
    let Some(repository) = state.repositories.get(id) else {
        return Answer::error(404, "");
    };
    if let Some(digest) = rest.strip_prefix("blobs/sha256:") {
        let mut files = repository.files.iter();
        let found = files.find(|(_, file)| file.sha256.as_deref() == Some(digest));
        return found.map_or(Answer::error(404, ""), |(name, _)| {
            let port = server.ports.1;
            let scheme = server.scheme;
            Answer::redirect(&format!(
                "{scheme}://127.0.0.1:{port}/cdn/{id}/{name}?signature=secret"
            ))
        });
    }
    match &repository.manifest {
        Some(manifest) if rest.starts_with("manifests/") => Answer::json(manifest),
        _ => Answer::error(404, ""),
    }
}

fn file_answer(file: &Served, request: &Request) -> Answer {
    let size = file.content.size();
    let tag = file.sha256.clone().unwrap_or_else(|| oid(file));
    let etag = header("etag", &format!("\"{tag}\""));
    let kind = header("content-type", "application/octet-stream");
    let ranges = header("accept-ranges", "bytes");
    match request.range {
        Some((first, _)) if first >= size => {
            let range = header("content-range", &format!("bytes */{size}"));
            Answer::of(416, vec![range], Vec::new())
        }
        Some((first, last)) => {
            let last = last.min(size - 1);
            let range = header("content-range", &format!("bytes {first}-{last}/{size}"));
            let body = file.content.bytes(first, last + 1);
            Answer::of(206, vec![range, etag, kind, ranges], body)
        }
        None => Answer::of(200, vec![etag, kind, ranges], file.content.bytes(0, size)),
    }
}

impl Content {
    pub(crate) fn of(bytes: Vec<u8>) -> Content {
        Content::Bytes(Arc::new(bytes))
    }

    fn size(&self) -> u64 {
        match self {
            Content::Bytes(bytes) => bytes.len() as u64,
            Content::Begins(_, size) => *size,
        }
    }

    fn bytes(&self, start: u64, end: u64) -> Vec<u8> {
        let (Content::Bytes(bytes) | Content::Begins(bytes, _)) = self;
        let mut part: Vec<u8> = {
            let kept = bytes
                .iter()
                .skip(start as usize)
                .take((end - start) as usize);
            kept.copied().collect()
        };
        part.resize((end - start) as usize, 0);
        part
    }
}

/// What a client sent.
struct Request {
    path: String,
    range: Option<(u64, u64)>,
    token: Option<String>,
    head: bool,
}

fn read_request(stream: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if stream.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let head = words.next() == Some("HEAD");
    let path = words.next().unwrap_or_default().to_owned();
    let mut request = Request {
        path,
        range: None,
        token: None,
        head,
    };
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line.trim().is_empty() {
            return Ok(Some(request));
        }
        let Some((name, value)) = line.split_once(':') else {
            continue;
        };
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                let range = value.strip_prefix("bytes=").and_then(|r| r.split_once('-'));
                request.range = range.and_then(|(first, last)| {
                    let last = if last.is_empty() {
                        u64::MAX
                    } else {
                        last.parse().ok()?
                    };
                    Some((first.parse().ok()?, last))
                });
            }
            "authorization" => {
                request.token = value.strip_prefix("Bearer ").map(str::to_owned);
            }
            _ => {}
        }
    }
}

/// What is sent back.
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// What the length is said to be.
    length: Option<usize>,
    cut: Option<usize>,
}

impl Answer {
    fn of(status: u16, headers: Vec<(String, String)>, body: Vec<u8>) -> Answer {
        Answer {
            status,
            headers,
            body,
            length: None,
            cut: None,
        }
    }

    fn json(text: &str) -> Answer {
        let kind = header("content-type", "application/json");
        Answer::of(200, vec![kind], text.as_bytes().to_vec())
    }

    fn redirect(to: &str) -> Answer {
        Answer::of(302, vec![header("location", to)], Vec::new())
    }

    fn error(status: u16, code: &str) -> Answer {
        let headers = match code {
            "" => Vec::new(),
            code => vec![header("x-error-code", code)],
        };
        Answer::of(status, headers, br#"{"error":"no"}"#.to_vec())
    }

    fn spoiled(mut self, fault: Option<Fault>, request: &Request) -> Answer {
        let range = |first: u64, last: u64, size: u64| format!("bytes {first}-{last}/{size}");
        let (first, last) = request.range.unwrap_or_default();
        let set = |headers: &mut Vec<(String, String)>, name: &str, value: &str| {
            headers.retain(|(key, _)| key != name);
            headers.push(header(name, value));
        };
        match fault {
            Some(Fault::Cut(bytes)) => self.cut = Some(bytes),
            Some(Fault::WholeFile) => self.status = 200,
            Some(Fault::OtherRange) => {
                set(
                    &mut self.headers,
                    "content-range",
                    &range(first + 1, last + 1, last + 9),
                );
            }
            Some(Fault::OtherSize) => {
                set(
                    &mut self.headers,
                    "content-range",
                    &range(first, last, last + 12345),
                );
            }
            Some(Fault::LongLength) => self.length = Some(self.body.len() + 100),
            Some(Fault::Compressed) => set(&mut self.headers, "content-encoding", "gzip"),
            Some(Fault::OtherTag) => set(&mut self.headers, "etag", "\"another\""),
            Some(Fault::Flipped) => {
                if let Some(byte) = self.body.last_mut() {
                    *byte ^= 1;
                }
            }
            _ => {}
        }
        self
    }

    /// Sends it; returns whether the connection goes on.
    fn send(&self, stream: &mut impl Write, head: bool) -> io::Result<bool> {
        let mut text = format!("HTTP/1.1 {} X\r\n", self.status);
        for (name, value) in &self.headers {
            text += &format!("{name}: {value}\r\n");
        }
        let length = self.length.unwrap_or(self.body.len());
        text += &format!("content-length: {length}\r\n\r\n");
        stream.write_all(text.as_bytes())?;
        let body = match self.cut {
            Some(cut) => &self.body[..cut.min(self.body.len())],
            None => &self.body,
        };
        if !head {
            stream.write_all(body)?;
        }
        stream.flush()?;
        Ok(body.len() == length || head)
    }
}

fn header(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

fn decoded(path: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = path.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let hex: Vec<u8> = rest.by_ref().take(2).collect();
            let hex = std::str::from_utf8(&hex).unwrap();
            bytes.push(u8::from_str_radix(hex, 16).unwrap());
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).unwrap()
}
