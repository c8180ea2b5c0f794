//! Any bytes as an importance matrix of either form: finite values by tensor, or an error.
#![no_main]

use std::io::Cursor;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use orinplan::quantize::Importance;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(importance) = Importance::read(Path::new("imatrix"), Cursor::new(bytes)) {
        assert!(!importance.is_empty());
        importance.metadata();
    }
});
