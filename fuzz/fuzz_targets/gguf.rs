//! Any bytes as a GGUF file: a header whose tensors lie inside it, or an error.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = orinplan::gguf::read_header_from(Cursor::new(bytes)) {
        for tensor in &header.tensors {
            assert!(tensor.offset >= header.header_bytes);
            assert!(tensor.offset + tensor.bytes.0 <= bytes.len() as u64);
        }
    }
});
