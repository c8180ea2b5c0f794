//! A directory of any files: an index, a configuration and two shards cut from the input. A
//! checkpoint whose tensors lie inside its files, or an error.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 4] = [
    "model.safetensors.index.json",
    "config.json",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
];

fuzz_target!(|bytes: &[u8]| {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // The input's first three bytes say how it is cut into the four files, in 1/256 of its length.
    let Some((cuts, bytes)) = bytes.split_first_chunk::<3>() else {
        return;
    };
    let mut rest = bytes;
    for (name, cut) in NAMES
        .iter()
        .zip(cuts.map(usize::from).into_iter().chain([256]))
    {
        let (file, after) = rest.split_at(rest.len() * cut / 256);
        rest = after;
        fs::write(directory.path().join(name), file).expect("room for a small file");
    }
    let model = directory
        .path()
        .to_str()
        .expect("a temporary directory of plain name");
    if let Ok(checkpoint) = orinplan::checkpoint::open(model) {
        for tensor in &checkpoint.tensors {
            assert!(tensor.offset + tensor.bytes.0 <= checkpoint.files[tensor.file].bytes.0);
        }
    }
});
