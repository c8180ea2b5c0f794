//! Any bytes as a safetensors file: a header whose tensors tile the rest of it, or an error.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(header) = orinplan::safetensors::read_header_from(Cursor::new(bytes)) {
        let mut end = header.data_offset;
        for tensor in &header.tensors {
            assert_eq!(tensor.offset, end);
            end += tensor.bytes.0;
        }
        assert_eq!(end, bytes.len() as u64);
    }
});
