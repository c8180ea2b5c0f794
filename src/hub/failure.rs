//! The HTTP client's errors as this program's: a server that cannot be reached, one that cannot be trusted, a connection
//! that broke off.

use std::io;
use std::net::ToSocketAddrs;

use super::address::Address;
use super::error::HubError;

/// The error of a request that got no answer.
pub(super) fn failed(address: &Address, error: ureq::Error) -> HubError {
    let address = address.to_string();
    match error {
        ureq::Error::HostNotFound => HubError::Unreachable {
            address,
            problem: "no address was found for the host's name".to_owned(),
        },
        ureq::Error::Io(error) if is_of_reaching(&error) => {
            let problem = error.to_string();
            HubError::Unreachable { address, problem }
        }
        ureq::Error::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let problem = error.to_string();
            HubError::Untrusted { address, problem }
        }
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => HubError::Untrusted {
            address,
            problem: error.to_string(),
        },
        ureq::Error::Io(io) if tls(&io).is_some() => HubError::Untrusted {
            address,
            problem: tls(&io).unwrap_or_default(),
        },
        error => HubError::Broken {
            address,
            problem: error.to_string(),
        },
    }
}

/// Whether the name of a host has an address.
pub(super) fn is_found(address: &Address) -> bool {
    let (_, host, port) = address.origin();
    (host.as_str(), port).to_socket_addrs().is_ok()
}

/// Whether a connection was not even begun.
fn is_of_reaching(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    matches!(
        error.kind(),
        ConnectionRefused | HostUnreachable | NetworkUnreachable
    )
}

/// The error of TLS within one of input and output.
fn tls(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?;
    inner
        .downcast_ref::<rustls::Error>()
        .map(ToString::to_string)
}

/// The error of a body that ends early.
pub(super) fn broken(address: &Address, error: &io::Error) -> HubError {
    HubError::Broken {
        address: address.to_string(),
        problem: error.to_string(),
    }
}
