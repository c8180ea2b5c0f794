//! Encrypted connections, with a certificate that is made here: trusted where SSL_CERT_FILE names it, refused elsewhere.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::server::Server;
use super::{Desk, TOKEN, left, repository, same};

#[test]
fn a_certificate_decides_whether_a_server_is_believed() {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], PrivateKeyDer::Pkcs8(key))
        .unwrap();
    let config = Arc::new(config);
    let server = Server::with(
        "https",
        Arc::new(move |stream| {
            let connection = ServerConnection::new(config.clone());
            let connection = connection.map_err(std::io::Error::other)?;
            Ok(Box::new(StreamOwned::new(connection, stream)))
        }),
    );
    let desk = Desk::at(server);
    let folder = desk.path("tiny");
    fs::rename(desk.scratch.fixture("tiny-qwen3"), &folder).unwrap();
    desk.server.put("org/tiny", repository(&folder));
    let trusted = desk.path("trusted.pem");
    fs::write(&trusted, made.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let other_file = desk.path("other.pem");
    fs::write(&other_file, other.cert.pem()).unwrap();

    let (here, there) = (desk.path("here.gguf"), desk.path("there.gguf"));
    desk.made_here(&folder, "q8_0", &here);
    let args = [
        "quantize",
        "org/tiny",
        "--scheme",
        "q8_0",
        "--output",
        there.to_str().unwrap(),
    ];
    let run = |certificates| {
        let mut command = desk.command(&args);
        command
            .env("SSL_CERT_FILE", certificates)
            .env("HF_TOKEN", TOKEN);
        command.env_remove("SSL_CERT_DIR");
        left(command.output().unwrap())
    };
    let refused = run(&other_file);
    assert_eq!(refused.code, 2);
    assert!(refused.err.contains("cannot be trusted"), "{}", refused.err);
    assert!(desk.server.asked().is_empty());
    let believed = run(&trusted);
    assert_eq!((believed.code, believed.err.as_str()), (0, ""));
    same(&here, &there);
}
