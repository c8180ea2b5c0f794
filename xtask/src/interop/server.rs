//! llama.cpp's servers as processes, and requests to them.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

/// How long a server may take to load a model of a few hundred kB.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port of this machine that nothing listens on.
///
/// # Errors
/// There is none.
pub(super) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// A server, which ends with the check.
pub(super) struct Server(Child);

impl Server {
    /// Starts one.
    ///
    /// # Errors
    /// There is no such program.
    pub(super) fn start(command: &mut Command) -> anyhow::Result<Server> {
        Ok(Server(command.spawn()?))
    }

    /// The number of its process.
    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// Its state cannot be read.
    pub(super) fn runs(&mut self) -> anyhow::Result<bool> {
        Ok(self.0.try_wait()?.is_none())
    }

    /// The signal that ended it, within [`PATIENCE`]; 0 where it ended by itself.
    ///
    /// # Errors
    /// It still runs.
    pub(super) fn ended_by(&mut self) -> anyhow::Result<i32> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.0.try_wait()? {
                return Ok(status.signal().unwrap_or(0));
            }
            thread::sleep(Duration::from_millis(50));
        }
        bail!("it still runs after {} s", PATIENCE.as_secs())
    }

    /// Waits until it has loaded its model.
    ///
    /// # Errors
    /// It ended, or takes too long.
    pub(super) fn ready(&mut self, port: u16, log: &Path) -> anyhow::Result<()> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.0.try_wait()?.is_some() {
                let said = fs::read_to_string(log)?;
                let last: Vec<&str> = said.lines().rev().take(3).collect();
                bail!("it ended: {}", last.join(" | "));
            }
            if get(port, "/health").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("it was not ready after {} s", PATIENCE.as_secs())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(port: u16, path: &str) -> anyhow::Result<(u16, String)> {
    request(
        port,
        &format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n"),
    )
}

/// What a server on `port` answers: status and body.
pub(super) fn post(port: u16, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
    let length = body.len();
    let head = format!(
        "POST {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    request(port, &(head + body))
}

fn request(port: u16, text: &str) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse()?, body.to_owned()))
}
