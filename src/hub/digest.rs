//! SHA-256 as servers state it: in hexadecimal, lower case.

use ring::digest::{Context, SHA256};

/// The digest of bytes that come one after the other.
pub(super) struct Digest(Context);

impl Digest {
    pub(super) fn new() -> Digest {
        Digest(Context::new(&SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> String {
        let digest = self.0.finish();
        let bytes = digest.as_ref().iter();
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The digest of bytes.
pub(super) fn sha256(bytes: &[u8]) -> String {
    let mut digest = Digest::new();
    digest.update(bytes);
    digest.finish()
}

/// Whether text is a SHA-256.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}
