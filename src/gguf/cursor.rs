//! A buffered reading position in a GGUF file. Every read is checked against the rest of the file before memory is
//! allocated. Little endian throughout.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};

use super::error::Problem;

/// The longest header that is read, in bytes. The largest known (a vocabulary of 262 k with its merges and an embedded
/// tokenizer) take about 50 MiB.
const HEADER_LIMIT: u64 = 256 << 20;

const BUFFER: u64 = 256 << 10;

pub(super) struct Cursor<R> {
    inner: BufReader<R>,
    at: u64,
    file_bytes: u64,
    /// What is being read, for messages: "metadata key 3", "tensor `blk.0.attn_q.weight`".
    pub(super) place: String,
}

impl<R: Read + Seek> Cursor<R> {
    /// A cursor at byte `start`. The file's size is found by seeking to its end.
    pub(super) fn new(mut reader: R, start: u64) -> Result<Cursor<R>, Problem> {
        let file_bytes = reader.seek(SeekFrom::End(0))?;
        reader.seek(SeekFrom::Start(start))?;
        let buffer = BUFFER.min(file_bytes) as usize;
        Ok(Cursor {
            inner: BufReader::with_capacity(buffer, reader),
            at: start,
            file_bytes,
            place: "the header".to_owned(),
        })
    }

    pub(super) fn at(&self) -> u64 {
        self.at
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Bytes from the present position to the end of the file.
    pub(super) fn left(&self) -> u64 {
        self.file_bytes.saturating_sub(self.at)
    }

    /// Checks that `bytes` are left in the file and within the limit of a header.
    fn need(&self, bytes: u64) -> Result<(), Problem> {
        if bytes > self.left() {
            let place = self.place.clone();
            return Err(Problem::Truncated {
                place,
                need: bytes,
                at: self.at,
                file_bytes: self.file_bytes,
            });
        }
        if self.at.saturating_add(bytes) > HEADER_LIMIT {
            return Err(Problem::HeaderTooLong {
                place: self.place.clone(),
                limit: HEADER_LIMIT,
            });
        }
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], Problem> {
        self.need(N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes)?;
        self.at += N as u64;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Problem> {
        self.bytes().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Problem> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(super) fn skip(&mut self, bytes: u64) -> Result<(), Problem> {
        self.need(bytes)?;
        // `need` has checked that this is below HEADER_LIMIT, so the cast keeps its value.
        self.inner.seek_relative(bytes as i64)?;
        self.at += bytes;
        Ok(())
    }

    /// A length-prefixed UTF-8 string.
    pub(super) fn string(&mut self) -> Result<String, Problem> {
        let bytes = self.u64()?;
        self.text(bytes)
    }

    /// A string that names something: not empty and at most `limit` bytes.
    pub(super) fn name(&mut self, limit: u64) -> Result<String, Problem> {
        match self.u64()? {
            0 => Err(Problem::NameEmpty {
                place: self.place.clone(),
            }),
            bytes if bytes > limit => Err(Problem::NameTooLong {
                place: self.place.clone(),
                bytes,
                limit,
            }),
            bytes => self.text(bytes),
        }
    }

    fn text(&mut self, bytes: u64) -> Result<String, Problem> {
        self.need(bytes)?;
        let mut text = vec![0; bytes as usize];
        self.inner.read_exact(&mut text)?;
        self.at += bytes;
        String::from_utf8(text).map_err(|error| Problem::NotUtf8 {
            place: self.place.clone(),
            at: error.utf8_error().valid_up_to(),
        })
    }

    /// Skips `count` length-prefixed strings without copying them.
    ///
    /// A vocabulary has hundreds of thousands: strings that lie whole in the buffer are skipped there, and only one that
    /// crosses its end takes the slow path.
    pub(super) fn skip_strings(&mut self, count: u64) -> Result<(), Problem> {
        let mut left = count;
        while left > 0 {
            let buffer = self.inner.fill_buf()?;
            let (strings, bytes) = whole_strings(buffer, left);
            if strings == 0 {
                let bytes = self.u64()?;
                self.skip(bytes)?;
                left -= 1;
                continue;
            }
            self.need(bytes as u64)?;
            self.inner.consume(bytes);
            self.at += bytes as u64;
            left -= strings;
        }
        Ok(())
    }
}

/// The number of strings, at most `most`, that lie whole at the start of `buffer`, and their length in bytes.
fn whole_strings(buffer: &[u8], most: u64) -> (u64, usize) {
    let (mut strings, mut rest) = (0, buffer);
    while strings < most
        && let Some((length, tail)) = rest.split_first_chunk::<8>()
        && let Ok(length) = usize::try_from(u64::from_le_bytes(*length))
        && let Some(after) = tail.get(length..)
    {
        (strings, rest) = (strings + 1, after);
    }
    (strings, buffer.len() - rest.len())
}
