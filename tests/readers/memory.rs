//! Hostile files read with little memory to spare: the test starts itself again under an address
//! space limit, where an allocation that a file does not justify ends the process.

use std::env;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::process::Command;

use orinplan::{checkpoint, gguf, safetensors};

use crate::build::{self, *};

/// Set in the second process.
const INNER: &str = "ORINPLAN_TEST_LITTLE_MEMORY";

#[test]
#[cfg(target_os = "linux")]
fn hostile_files_are_refused_within_192_mib_of_address_space() {
    let executable = env::current_exe().unwrap();
    let status = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 196608 && exec \"$0\" --exact memory::inner --test-threads 1",
        ])
        .arg(executable)
        .env(INNER, "1")
        // One arena: glibc otherwise reserves address space for each thread.
        .env("MALLOC_ARENA_MAX", "1")
        .output()
        .unwrap();
    let output = String::from_utf8_lossy(&status.stdout);
    assert!(
        status.status.success(),
        "{output}{}",
        String::from_utf8_lossy(&status.stderr)
    );
    assert!(output.contains("1 passed"), "{output}");
}

#[test]
fn inner() {
    if env::var_os(INNER).is_none() {
        return;
    }
    // A terabyte by its size, nothing on disk: claims that the file's size allows.
    let (_guard, directory) = build::directory(&[]);
    let sparse = |name: &str, start: &[u8]| {
        let path = directory.join(name);
        let mut file = File::create(&path).unwrap();
        file.write_all(start).unwrap();
        file.seek(SeekFrom::Start((1 << 40) - 1)).unwrap();
        file.write_all(&[0]).unwrap();
        path
    };
    let array_of = |element| pair("a", ARRAY, &array(element, 1 << 35, &[]));
    for claim in [
        array_of(U8),
        array_of(U64),
        pair("s", STRING, &(1u64 << 35).to_le_bytes()),
    ] {
        let message = gguf::read_header(&sparse("a.gguf", &gguf(&[claim], &[], 0))).unwrap_err();
        assert!(message.to_string().contains("256.0 MiB"), "{message}");
    }
    let counts = gguf_claiming(3, (1 << 34, 1 << 34), &[], &[], 1, 0);
    assert!(gguf::read_header(&sparse("a.gguf", &counts)).is_err());
    let message = safetensors::read_header(&sparse("a.safetensors", &[0xff; 8])).unwrap_err();
    assert!(message.to_string().contains("limit"), "{message}");

    // 8 MB of booleans would be 260 MB of values, were every short array kept.
    let booleans = array(BOOL, 4096, &[1; 4096]);
    let pairs: Vec<Pair> = (0..2000)
        .map(|n| pair(&n.to_string(), ARRAY, &booleans))
        .collect();
    let path = directory.join("b.gguf");
    std::fs::write(&path, gguf(&pairs, &[], 0)).unwrap();
    assert_eq!(gguf::read_header(&path).unwrap().metadata.0.len(), 2000);

    let config = directory.join("config.json");
    File::create(&config).unwrap().set_len(1 << 40).unwrap();
    let message = checkpoint::open(config.to_str().unwrap())
        .unwrap_err()
        .to_string();
    assert!(message.contains("16777216"), "{message}");
}
