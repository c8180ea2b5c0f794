//! Addresses of files on servers: parsed, joined with redirects, and shown without their query, in which servers put
//! signatures.
//!
//! In: text from the user, or a `Location`. Out: an [`Address`] of `https://` or `http://` with a host. Must not: resolve
//! names.

use std::fmt;
use std::net::IpAddr;

use ureq::http::Uri;

use super::error::HubError;
use crate::foreign::without_secrets;

/// The address of a file or a question on a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address(Uri);

impl Address {
    /// # Errors
    /// [`HubError::Address`] for another scheme, without a host, or with a password in it.
    pub(super) fn parse(text: &str) -> Result<Address, HubError> {
        let refuse = |problem| HubError::Address {
            address: without_secrets(text),
            problem,
        };
        let text = text.split('#').next().unwrap_or_default();
        let uri: Uri = text
            .parse()
            .map_err(|_| refuse("it is malformed; write it like https://HOST/PATH"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(refuse("only https:// and http:// are supported"));
        }
        match uri.authority() {
            Some(authority) if authority.as_str().contains('@') => {
                Err(refuse("it holds a user name; set HF_TOKEN instead"))
            }
            Some(authority) if !authority.host().is_empty() => Ok(Address(uri)),
            _ => Err(refuse("it has no host")),
        }
    }

    /// Where a `Location` of an answer to this address leads.
    pub(super) fn join(&self, location: &str) -> Result<Address, HubError> {
        let scheme = self.0.scheme_str().unwrap_or("https");
        let authority = self.0.authority().map_or("", |a| a.as_str());
        // A query may hold an address.
        let before_path = location.split(['/', '?', '#']).next().unwrap_or_default();
        let behind = location.strip_prefix(before_path).unwrap_or_default();
        if before_path.ends_with(':') && behind.starts_with("//") {
            return Address::parse(location);
        }
        if let Some(rest) = location.strip_prefix("//") {
            return Address::parse(&format!("{scheme}://{rest}"));
        }
        if location.starts_with('/') {
            return Address::parse(&format!("{scheme}://{authority}{location}"));
        }
        let path = self.0.path();
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        Address::parse(&format!("{scheme}://{authority}{folder}/{location}"))
    }

    /// The whole of it, for a request.
    pub(super) fn whole(&self) -> String {
        self.0.to_string()
    }

    pub(super) fn host(&self) -> &str {
        let host = self.0.host().unwrap_or_default();
        host.trim_start_matches('[').trim_end_matches(']')
    }

    pub(super) fn path(&self) -> &str {
        self.0.path()
    }

    /// Scheme, host and port.
    pub(super) fn origin(&self) -> (bool, String, u16) {
        let secure = self.is_secure();
        let port = self.0.port_u16().unwrap_or(if secure { 443 } else { 80 });
        (secure, self.host().to_ascii_lowercase(), port)
    }

    pub(super) fn is_secure(&self) -> bool {
        self.0.scheme_str() == Some("https")
    }

    /// The host as an IP address, if it is written as one.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.host().parse().ok()
    }

    /// Whether the host is this machine by its name.
    pub(super) fn is_this_machine(&self) -> bool {
        let name = self.host().to_ascii_lowercase();
        name == "localhost" || self.ip().is_some_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.0.scheme_str().unwrap_or_default();
        let authority = self.0.authority().map_or("", |a| a.as_str());
        write!(f, "{scheme}://{authority}{}", self.0.path())
    }
}

/// Text as one part of a path, in which only unreserved characters stay as they are; with `slashes`, as several parts.
pub(super) fn encoded(text: &str, slashes: bool) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        if plain || (slashes && byte == b'/') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// Whether an address is one of the public internet: not of this machine, a private network or a special purpose.
/// Source: the IANA registries of special-purpose addresses.
pub(super) fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let special = matches!((a, b, c), (0 | 127 | 240..=255, _, _) | (100, 64..=127, _))
                || matches!((a, b, c), (192, 0, 0) | (198, 18 | 19, _));
            !(special || ip.is_private() || ip.is_link_local() || ip.is_multicast())
        }
        IpAddr::V6(ip) => {
            let parts = ip.segments();
            let embedded = match parts {
                // Mapped, and translated by NAT64.
                [0, 0, 0, 0, 0, 0xffff, _, _] | [0x64, 0xff9b, 0, 0, 0, 0, _, _] => {
                    let [.., a, b, c, d] = ip.octets();
                    Some(IpAddr::from([a, b, c, d]))
                }
                _ => None,
            };
            if let Some(ip) = embedded {
                return is_public(ip);
            }
            let [first, ..] = parts;
            // Global unicast is 2000::/3.
            (0x2000..0x4000).contains(&first)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_joined_as_browsers_join_it() {
        let from = Address::parse("https://hub.example:8443/a/b?x=1").unwrap();
        let check = |location: &str, expect: &str| {
            let joined = from.join(location).map(|address| address.whole());
            assert_eq!(joined.ok().as_deref(), Some(expect), "{location}");
        };
        check("/c?y=2", "https://hub.example:8443/c?y=2");
        check("//cdn.example/c", "https://cdn.example/c");
        check("c", "https://hub.example:8443/a/c");
        check("http://other/c", "http://other/c");
        check(
            "/c?of=http://a/b",
            "https://hub.example:8443/c?of=http://a/b",
        );
        check(
            "c?of=http://a/b",
            "https://hub.example:8443/a/c?of=http://a/b",
        );
        assert!(from.join("ftp://other/c").is_err());
        assert_eq!(from.to_string(), "https://hub.example:8443/a/b");
    }

    #[test]
    fn neither_a_password_nor_a_query_is_shown() {
        let error = Address::parse("https://me:secret@host/x?sig=secret").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }

    #[test]
    fn private_addresses_are_told_from_public_ones() {
        for (text, expect) in [
            ("8.8.8.8", true),
            ("10.0.0.1", false),
            ("172.16.3.4", false),
            ("192.168.1.1", false),
            ("169.254.169.254", false),
            ("100.64.0.1", false),
            ("127.0.0.1", false),
            ("0.0.0.0", false),
            ("255.255.255.255", false),
            ("::1", false),
            ("fd00::1", false),
            ("fe80::1", false),
            ("::ffff:10.0.0.1", false),
            ("64:ff9b::a00:1", false),
            ("2606:4700::1111", true),
        ] {
            assert_eq!(is_public(text.parse().unwrap()), expect, "{text}");
        }
    }

    #[test]
    fn names_of_files_become_parts_of_a_path() {
        assert_eq!(encoded("a b/ü?.gguf", true), "a%20b/%C3%BC%3F.gguf");
        assert_eq!(encoded("refs/pr/1", false), "refs%2Fpr%2F1");
    }
}
