//! How much is fetched ahead of a reader.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use super::super::address::Address;
use super::super::cache::ListedFile;
use super::super::client::Client;
use super::super::digest::sha256;
use super::super::ranges::RemoteFile;
use super::super::weight_files::{WeightFile, WeightFiles};
use super::{Ahead, BLOCK, CONNECTIONS, WINDOW};
use crate::checkpoint::FileRange;

const HEADER: &[u8] = b"header";
const SIZE: u64 = 4 * WINDOW;

/// Answers requests for ranges of a file of zeros, and counts the bytes that were sent.
fn serve(stream: TcpStream, sent: &AtomicU64) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut range = 0..0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let line = line.trim().to_ascii_lowercase();
        if let Some((first, last)) = line
            .strip_prefix("range: bytes=")
            .and_then(|range| range.split_once('-'))
        {
            range = first.parse().unwrap()..last.parse::<u64>().unwrap() + 1;
        }
        if line.is_empty() {
            let length = range.end - range.start;
            let out = stream.get_mut();
            write!(
                out,
                "HTTP/1.1 206 Partial Content\r\ncontent-length: {length}\r\ncontent-range: bytes {}-{}/{SIZE}\r\n\r\n",
                range.start,
                range.end - 1
            )?;
            out.write_all(&vec![0; length as usize])?;
            sent.fetch_add(length, Ordering::SeqCst);
        }
    }
}

/// A server of a file whose beginning is at `header`, what it sent, and what fetches from it.
fn ahead_of(header: &Path) -> (Arc<AtomicU64>, Arc<WeightFile>, Ahead) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/weights", listener.local_addr().unwrap());
    let address = Address::parse(&address).unwrap();
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let sent = counted.clone();
            thread::spawn(move || serve(stream, &sent).ok());
        }
    });
    std::fs::write(header, HEADER).unwrap();
    let mut whole = vec![0; SIZE as usize];
    whole[..HEADER.len()].copy_from_slice(HEADER);
    let listed = ListedFile {
        path: "weights".to_owned(),
        size: SIZE,
        sha256: Some(sha256(&whole)),
        etag: None,
    };
    let file = WeightFile::new(RemoteFile::new(address.clone(), SIZE, None), listed);
    let file = Arc::new(file);
    let files = HashMap::from([(header.to_owned(), file.clone())]);
    let client = Arc::new(Client::new(address, None, &[], None));
    let files = Arc::new(WeightFiles::new(client, files, None));
    let range = HEADER.len() as u64..SIZE;
    let ahead = Ahead::new(
        &files,
        vec![FileRange {
            file: header.to_owned(),
            range,
        }],
    );
    (sent, file, ahead)
}

/// What was sent once nothing more is.
fn settled(sent: &AtomicU64) -> u64 {
    loop {
        let before = sent.load(Ordering::SeqCst);
        thread::sleep(Duration::from_millis(400));
        if before > 0 && sent.load(Ordering::SeqCst) == before {
            return before;
        }
    }
}

#[test]
fn no_more_is_held_than_the_window() {
    let folder = tempfile::tempdir().unwrap();
    let header = folder.path().join("weights");
    let (sent, file, ahead) = ahead_of(&header);
    let most = WINDOW + CONNECTIONS as u64 * BLOCK;
    let first = settled(&sent);
    assert!((WINDOW..=most).contains(&first), "{first}");

    // As far as a reader comes, as much more is fetched.
    let mut piece = vec![1; BLOCK as usize];
    let mut start = HEADER.len() as u64;
    let mut read = |count: u64| {
        for _ in 0..count {
            let end = SIZE.min(start + BLOCK);
            let piece = &mut piece[..(end - start) as usize];
            ahead.read(&header, &file, start, piece).unwrap();
            assert!(piece.iter().all(|byte| *byte == 0));
            start = end;
        }
    };
    read(8);
    let second = settled(&sent);
    assert!(second > first, "{second}");
    assert!(second <= 8 * BLOCK + most, "{second}");
    read(SIZE / BLOCK - 8);
    assert_eq!(ahead.finish().unwrap(), [""; 0]);
    assert!(file.checked());
    assert_eq!(sent.load(Ordering::SeqCst), SIZE - HEADER.len() as u64);
}
