//! Requests over HTTP, with the rules that keep them honest: redirects are followed by hand, a token goes to the hub
//! alone, a public server leads to no private address, answers are bounded, and what may succeed later is tried again.
//!
//! In: an [`Address`]. Out: text of a limited length, or an [`Answer`] whose body the caller reads. Counts what was
//! transferred. Must not: know what is asked for.

use std::fmt;
use std::io::{self, Read};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, Proxy};

use super::address::{Address, is_public};
use super::error::HubError;
use super::failure::{broken, failed, is_found};
use crate::units::Bytes;

/// The longest that connecting may take, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// The longest silence of a server.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes a second that a body has to come with on average, once it has lasted longer than that.
const SLOWEST: f64 = 1024.0;
/// Redirects that are followed for one request. The hub's own are two.
const HOPS: usize = 8;
/// The longest wait that a server may ask for; beyond it, the user is told.
const LONGEST_WAIT: Duration = Duration::from_secs(300);
/// Connections that stay open to a server.
const IDLE: usize = 16;

/// How often a request is tried, and how long the pauses between are: doubled each time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    tries: u32,
    first: Duration,
    longest: Duration,
}

impl Patience {
    /// For an answer that somebody waits for: about two seconds.
    pub(super) const PLAN: Patience = Patience {
        tries: 3,
        first: Duration::from_millis(250),
        longest: Duration::from_secs(1),
    };
    /// For work of minutes: outlasts the restart of a router.
    pub(super) const WORK: Patience = Patience {
        tries: 12,
        first: Duration::from_millis(250),
        longest: Duration::from_secs(30),
    };
}

/// A secret that no message shows.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Token(String);

impl Token {
    /// `None` for text that cannot stand in a header.
    pub(super) fn new(text: &str) -> Option<Token> {
        let text = text.trim();
        let is_word = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_word.then(|| Token(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What was transferred so far.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    bytes: AtomicU64,
    requests: AtomicU64,
}

impl Traffic {
    pub(super) fn bytes(&self) -> Bytes {
        Bytes(self.bytes.load(Ordering::Relaxed))
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

/// Sends requests.
#[derive(Debug)]
pub(super) struct Client {
    open: Agent,
    /// For what a public server leads to: resolves no name to a private address.
    public: Agent,
    proxy: Option<Proxy>,
    /// The only server that is sent the token.
    hub: Address,
    token: Option<Token>,
    /// Whether nothing may be asked.
    offline: bool,
    pub(super) traffic: Arc<Traffic>,
}

/// An answer whose body is not read yet.
pub(super) struct Answer {
    /// Where it came from, after redirects.
    pub(super) at: Target,
    pub(super) status: u16,
    headers: HeaderMap,
    body: Body,
}

/// An address with what may be done there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: Address,
    /// Whether a public server led here, so that it must be public too.
    led: bool,
}

impl From<Address> for Target {
    fn from(address: Address) -> Target {
        let led = false;
        Target { address, led }
    }
}

impl Client {
    /// A client that trusts `roots`, and sends `token` to `hub` alone.
    pub(super) fn new(
        hub: Address,
        token: Option<Token>,
        roots: &[Certificate<'static>],
        proxy: Option<Proxy>,
    ) -> Client {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::new_with_certs(roots))
            .unversioned_rustls_crypto_provider(provider)
            .build();
        let config = Agent::config_builder()
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(2 * IDLE)
            .max_idle_connections_per_host(IDLE)
            .user_agent(concat!("orinplan/", env!("CARGO_PKG_VERSION")))
            .proxy(proxy.clone())
            .tls_config(tls)
            .build();
        Client {
            open: config.clone().into(),
            public: Agent::with_parts(
                config,
                DefaultConnector::default(),
                PublicOnly(DefaultResolver::default()),
            ),
            proxy,
            hub,
            token,
            offline: false,
            traffic: Arc::default(),
        }
    }

    /// The same client; it asks nothing if the network must not be used.
    pub(super) fn offline(self, offline: bool) -> Client {
        Client { offline, ..self }
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Calls `attempt` until it succeeds, fails for good, or was tried often enough. What `attempt` got done before it
    /// failed counts as a success: the tries begin anew while `progress` grows.
    pub(super) fn retried<T>(
        &self,
        patience: Patience,
        mut attempt: impl FnMut(&mut u64) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        let (mut progress, mut before) = (0, 0);
        let (mut tries, mut pause) = (patience.tries, patience.first);
        loop {
            let error = match attempt(&mut progress) {
                Err(error) => error,
                done => return done,
            };
            if progress > before {
                (tries, pause, before) = (patience.tries, patience.first, progress);
            }
            tries -= 1;
            let wait = match error.transient() {
                Some(asked) if tries > 0 => asked.unwrap_or(pause).max(pause),
                _ => return Err(error),
            };
            if wait > LONGEST_WAIT {
                return Err(error);
            }
            thread::sleep(wait);
            pause = patience.longest.min(2 * pause);
        }
    }

    /// The text at `address`, of at most `limit` bytes, and the address of the next page if the answer names one.
    pub(super) fn text(
        &self,
        address: &Address,
        accept: &str,
        limit: Bytes,
    ) -> Result<(String, Option<Address>), HubError> {
        self.retried(Patience::PLAN, |_| {
            let answer = self.get(&address.clone().into(), &[("accept", accept)])?;
            let next = next_page(&answer)?;
            let bytes = self.whole(answer, limit)?;
            let text = String::from_utf8(bytes).map_err(|_| HubError::Answer {
                address: address.to_string(),
                problem: "the text is not UTF-8".to_owned(),
            })?;
            Ok((text, next))
        })
    }

    /// The bytes of a small file, of at most `limit`.
    pub(super) fn file(&self, address: &Address, limit: Bytes) -> Result<Vec<u8>, HubError> {
        self.retried(Patience::PLAN, |_| {
            self.whole(self.get(&address.clone().into(), &[])?, limit)
        })
    }

    fn whole(&self, answer: Answer, limit: Bytes) -> Result<Vec<u8>, HubError> {
        let answer = self.accepted(answer)?;
        let address = answer.at.address.clone();
        let stated: Option<u64> = answer.header("content-length").and_then(|n| n.parse().ok());
        let too_large = || HubError::TooLarge {
            address: address.to_string(),
            limit,
        };
        if stated.is_some_and(|bytes| bytes > limit.0) {
            return Err(too_large());
        }
        let mut bytes = Vec::new();
        let mut body = self.body(answer).take(limit.0 + 1);
        body.read_to_end(&mut bytes)
            .map_err(|error| broken(&address, &error))?;
        if bytes.len() as u64 > limit.0 {
            return Err(too_large());
        }
        Ok(bytes)
    }

    /// One request, with its redirects.
    pub(super) fn get(&self, start: &Target, headers: &[(&str, &str)]) -> Result<Answer, HubError> {
        let mut at = start.clone();
        for _ in 0..=HOPS {
            let answer = self.ask(&at, headers)?;
            let location = match answer.status {
                301 | 302 | 303 | 307 | 308 => answer.header("location"),
                _ => return Ok(answer),
            };
            let Some(location) = location else {
                return Err(HubError::Answer {
                    address: at.address.to_string(),
                    problem: "a redirect has no target".to_owned(),
                });
            };
            if self.without_token(location) != location {
                return Err(HubError::Answer {
                    address: at.address.to_string(),
                    problem: "a redirect repeats the token".to_owned(),
                });
            }
            at = self.follow(&at, at.address.join(location)?)?;
        }
        Err(HubError::EndlessRedirects {
            address: start.address.to_string(),
            limit: HOPS,
        })
    }

    /// Checks that an answer from `from` may lead to `to`.
    fn follow(&self, from: &Target, to: Address) -> Result<Target, HubError> {
        let refuse = |problem| HubError::Redirect {
            address: from.address.to_string(),
            target: to.to_string(),
            problem,
        };
        if from.address.is_secure() && !to.is_secure() {
            return Err(refuse("which is not encrypted"));
        }
        if from.address.origin() == to.origin() {
            let led = from.led;
            return Ok(Target { address: to, led });
        }
        let led = from.led || !self.is_private(&from.address);
        let is_named_private =
            to.is_this_machine() || to.ip().is_some_and(|address| !is_public(address));
        if led && is_named_private {
            return Err(refuse("which is on a private network"));
        }
        Ok(Target { address: to, led })
    }

    /// Whether the user's own address is on a private network, from which others there may be reached.
    fn is_private(&self, address: &Address) -> bool {
        if self.is_proxied(address) {
            return address.is_this_machine() || address.ip().is_some_and(|ip| !is_public(ip));
        }
        let (_, host, port) = address.origin();
        let found = (host.as_str(), port).to_socket_addrs();
        found.is_ok_and(|mut found| found.any(|at| !is_public(at.ip())))
    }

    /// Whether a request goes through the proxy, which then resolves names.
    fn is_proxied(&self, address: &Address) -> bool {
        let uri: Result<Uri, _> = address.whole().parse();
        let proxy = self.proxy.as_ref();
        proxy.is_some_and(|proxy| !uri.is_ok_and(|uri| proxy.is_no_proxy(&uri)))
    }

    /// One request without redirects.
    fn ask(&self, at: &Target, headers: &[(&str, &str)]) -> Result<Answer, HubError> {
        let address = &at.address;
        if self.offline {
            return Err(HubError::Offline {
                model: address.to_string(),
            });
        }
        let agent = if at.led && !self.is_proxied(address) {
            &self.public
        } else {
            &self.open
        };
        let mut request = agent
            .get(address.whole())
            .header("accept-encoding", "identity");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(Token(token)) = self.token.as_ref().filter(|_| self.is_told(address)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        self.traffic.requests.fetch_add(1, Ordering::Relaxed);
        let answer = request.call().map_err(|error| {
            // The resolver's errors have no kind of their own.
            if matches!(error, ureq::Error::Io(_))
                && !self.is_proxied(address)
                && !is_found(address)
            {
                return failed(address, ureq::Error::HostNotFound);
            }
            failed(address, error)
        })?;
        let (parts, body) = answer.into_parts();
        Ok(Answer {
            at: at.clone(),
            status: parts.status.as_u16(),
            headers: parts.headers,
            body,
        })
    }

    /// Whether the token is sent there: to the hub, where nobody on the way can read it.
    fn is_told(&self, address: &Address) -> bool {
        let safe = address.is_secure() || address.is_this_machine();
        safe && address.origin() == self.hub.origin()
    }

    /// The answer if it is the file or a part of it, and no page about it.
    pub(super) fn accepted(&self, answer: Answer) -> Result<Answer, HubError> {
        let address = answer.at.address.to_string();
        match answer.status {
            200 | 206 => {}
            status @ (408 | 425 | 429 | 500 | 502 | 503 | 504) => {
                return Err(HubError::Busy {
                    address,
                    status,
                    after: answer.asked_to_wait(),
                    has_token: self.has_token(),
                });
            }
            status => {
                let named = |name| self.without_token(answer.header(name).unwrap_or_default());
                let (code, message) = (named("x-error-code"), named("x-error-message"));
                return Err(HubError::Refused {
                    address,
                    status,
                    code,
                    message,
                });
            }
        }
        if let Some(encoding) = answer
            .header("content-encoding")
            .filter(|e| *e != "identity")
        {
            let problem = format!("it is compressed as `{encoding}`, which was not requested");
            return Err(HubError::Answer { address, problem });
        }
        let kind = answer.header("content-type").unwrap_or_default();
        if kind.to_ascii_lowercase().starts_with("text/html") {
            return Err(HubError::WebPage { address });
        }
        Ok(answer)
    }

    /// What a server says, which may repeat the token.
    fn without_token(&self, text: &str) -> String {
        match &self.token {
            Some(Token(token)) => text.replace(token.as_str(), "(token)"),
            None => text.to_owned(),
        }
    }

    /// The body of an answer, counted.
    pub(super) fn body(&self, answer: Answer) -> impl Read + use<> {
        Counted {
            inner: answer.body.into_reader(),
            traffic: self.traffic.clone(),
            begun: Instant::now(),
            read: 0,
        }
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The pause that the server asks for: `Retry-After` in seconds, or the time to the reset in the `RateLimit` of the
    /// IETF's draft, as in `"api";r=0;t=55`.
    fn asked_to_wait(&self) -> Option<Duration> {
        let seconds = self
            .header("retry-after")
            .and_then(|text| text.trim().parse().ok());
        let limits = self.header("ratelimit");
        let reset = || {
            let parts = limits?.split([';', ',']).map(str::trim);
            let mut resets = parts.filter_map(|part| part.strip_prefix("t="));
            resets.next()?.parse().ok()
        };
        let seconds: u64 = seconds.or_else(reset)?;
        Some(Duration::from_secs(seconds))
    }
}

/// The page after this one: `<ADDRESS>; rel="next"`. Only one of the same server is taken.
fn next_page(answer: &Answer) -> Result<Option<Address>, HubError> {
    let Some(link) = answer.header("link") else {
        return Ok(None);
    };
    let next = link.split(',').find(|part| part.contains("rel=\"next\""));
    let target = next.and_then(|part| part.split_once('<')?.1.split_once('>'));
    let Some((target, _)) = target else {
        return Ok(None);
    };
    let here = &answer.at.address;
    let next = here.join(target)?;
    if next.origin() != here.origin() {
        return Err(HubError::Answer {
            address: here.to_string(),
            problem: format!("its next page is on another server, {next}"),
        });
    }
    Ok(Some(next))
}

/// A body that counts what is read of it, and ends with an error when it comes too slowly to be waited for.
struct Counted<R> {
    inner: R,
    traffic: Arc<Traffic>,
    begun: Instant,
    read: u64,
}

/// Whether a body of which `read` bytes came in `elapsed` is not worth the wait: a server that sends a byte now and then
/// is never silent, and would hold a run for ever.
fn is_too_slow(elapsed: Duration, read: u64) -> bool {
    elapsed > SILENCE && (read as f64) < SLOWEST * elapsed.as_secs_f64()
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.traffic.bytes.fetch_add(read as u64, Ordering::Relaxed);
        self.read += read as u64;
        if read > 0 && is_too_slow(self.begun.elapsed(), self.read) {
            let problem = format!("it sends less than {SLOWEST} bytes a second");
            return Err(io::Error::new(io::ErrorKind::TimedOut, problem));
        }
        Ok(read)
    }
}

/// Resolves names to public addresses alone.
#[derive(Debug)]
struct PublicOnly(DefaultResolver);

impl Resolver for PublicOnly {
    fn resolve(
        &self,
        uri: &Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.0.resolve(uri, config, timeout)?;
        let mut kept = self.empty();
        for at in found.iter().filter(|at| is_public(at.ip())) {
            kept.push(*at);
        }
        if kept.is_empty() {
            let problem = "a redirect leads to a private network, and is not followed";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, problem).into());
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_that_drips_is_given_up_and_a_slow_link_is_not() {
        let seconds = Duration::from_secs;
        assert!(!is_too_slow(seconds(20), 0));
        assert!(is_too_slow(seconds(31), 31));
        assert!(is_too_slow(seconds(3600), 1_000_000));
        // A modem's 56 kbit/s.
        assert!(!is_too_slow(seconds(3600), 7000 * 3600));
    }
}
