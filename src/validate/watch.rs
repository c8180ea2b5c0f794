//! Looks at the machine while a model is measured: memory, clocks, and what other programs do.
//!
//! In: a root directory and, once it is known, the process that holds the model. Out: [`Watched`].

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::device::{Activity, Clock, Process, activity, process};
use crate::units::{Bytes, Hertz};

/// How often the machine is looked at: often enough for a peak, too seldom to cost anything.
const INTERVAL: Duration = Duration::from_millis(100);

/// What was seen while a model was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Watched {
    /// The machine before.
    pub before: Activity,
    /// The machine after.
    pub after: Activity,
    /// Seconds between the two.
    pub seconds: f64,
    /// The least `MemAvailable` in between.
    pub least_available: Option<Bytes>,
    /// Mean clock of the processors, and their limit.
    pub cpu_clock: Option<Clock>,
    /// Mean clock of the GPU while it ran at all, and its limit.
    pub gpu_clock: Option<Clock>,
    /// A cooling measure that was in force at some time.
    pub cooling: Option<String>,
    /// What the process with the model used in between.
    pub process: Option<Process>,
    /// Memory in use as tegrastats has it: at the start and at most.
    pub tegrastats: Option<(Bytes, Bytes)>,
}

impl Watched {
    /// How far `MemAvailable` fell.
    pub fn available_drop(&self) -> Option<Bytes> {
        Some(
            self.before
                .memory
                .available?
                .saturating_sub(self.least_available?),
        )
    }
}

/// A look at the machine that goes on until it is finished or dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    pid: Arc<AtomicU32>,
    looking: Option<JoinHandle<Watched>>,
}

impl Watch {
    /// Begins to look at the machine whose root directory is `root`. `pid` is the process that holds
    /// the model; 0 where it does not run yet, or elsewhere.
    pub fn start(root: &Path, pid: u32) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let pid = Arc::new(AtomicU32::new(pid));
        let looking = {
            let (root, stop, pid) = (root.to_owned(), stop.clone(), pid.clone());
            // Before the thread starts, so that nothing of the model is in it.
            let before = activity(&root);
            thread::spawn(move || look(root, before, &stop, &pid))
        };
        Watch {
            stop,
            pid,
            looking: Some(looking),
        }
    }

    /// Names the process that holds the model.
    pub fn follow(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Ends the look.
    pub fn finish(mut self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        let looking = self.looking.take();
        looking
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.looking.take() {
            let _ = thread.join();
        }
    }
}

fn look(root: PathBuf, before: Activity, stop: &AtomicBool, pid: &AtomicU32) -> Watched {
    let started = Instant::now();
    let tegrastats = Tegrastats::start();
    let (mut cpu, mut gpu) = (MeanClock::default(), MeanClock::default());
    let mut least = before.memory.available;
    let mut cooling = None;
    let (mut first, mut last): (Option<Process>, Option<Process>) = (None, None);
    let mut now = before.clone();
    loop {
        let done = stop.load(Ordering::Relaxed);
        least = least.min(now.memory.available).or(least);
        cpu.add(now.cpu_clock);
        gpu.add(now.gpu_clock);
        cooling = now.cooling.clone().or(cooling);
        let followed = pid.load(Ordering::Relaxed);
        if let Some(seen) = (followed != 0).then(|| process(&root, followed)).flatten() {
            first.get_or_insert(seen);
            let peak = last
                .and_then(|last| last.peak_resident)
                .max(seen.peak_resident);
            last = Some(Process {
                peak_resident: peak,
                ..seen
            });
        }
        if done {
            break;
        }
        thread::sleep(INTERVAL);
        now = activity(&root);
    }
    Watched {
        seconds: started.elapsed().as_secs_f64(),
        least_available: least,
        cpu_clock: cpu.mean(),
        gpu_clock: gpu.mean(),
        cooling,
        process: last.zip(first).map(|(last, first)| Process {
            seconds: last.seconds - first.seconds,
            peak_resident: last.peak_resident,
        }),
        tegrastats: tegrastats.and_then(Tegrastats::finish),
        before,
        after: now,
    }
}

/// The mean of a clock over the looks.
#[derive(Default)]
struct MeanClock {
    sum: f64,
    count: u32,
    most: Option<Hertz>,
}

impl MeanClock {
    fn add(&mut self, clock: Option<Clock>) {
        if let Some(clock) = clock {
            self.sum += clock.now.0;
            self.count += 1;
            self.most = Some(clock.most);
        }
    }

    fn mean(&self) -> Option<Clock> {
        Some(Clock {
            now: Hertz(self.sum / f64::from(self.count)),
            most: self.most?,
        })
    }
}

/// A Jetson's own monitor, which counts memory that belongs to no process.
struct Tegrastats {
    child: Child,
    reading: JoinHandle<Option<(Bytes, Bytes)>>,
}

impl Tegrastats {
    /// Starts the program where there is one.
    fn start() -> Option<Tegrastats> {
        let mut child = Command::new("tegrastats")
            .args(["--interval", "200"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let out = BufReader::new(child.stdout.take()?);
        let reading = thread::spawn(move || {
            let used = out
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| ram_used(&line));
            used.fold(None, |seen: Option<(Bytes, Bytes)>, now| {
                seen.map_or(Some((now, now)), |(first, most)| {
                    Some((first, most.max(now)))
                })
            })
        });
        Some(Tegrastats { child, reading })
    }

    fn finish(mut self) -> Option<(Bytes, Bytes)> {
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.reading.join().ok().flatten()
    }
}

/// The memory in use of a tegrastats line: `... RAM 5545/7607MB (lfb 2x512kB) ...`.
fn ram_used(line: &str) -> Option<Bytes> {
    let (used, _) = line.split_once("RAM ")?.1.split_once('/')?;
    let mib: u64 = used.trim().parse().ok()?;
    (mib < 1 << 24).then(|| Bytes::MIB * mib)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tegrastats_lines_are_read_as_boards_print_them() {
        // Orin Nano 8GB, R36.5.0, decoding an 8B model (jfdg01/jetson).
        let line = "06-14-2026 13:22:43 RAM 5545/7607MB (lfb 2x512kB) SWAP 346/3804MB (cached 0MB) CPU [0%@1510] GR3D_FREQ 99% cpu@63.625C";
        assert_eq!(ram_used(line), Some(Bytes(5545 << 20)));
        assert_eq!(ram_used("RAM x/7607MB"), None);
        assert_eq!(ram_used(""), None);
    }

    #[test]
    fn this_process_is_seen_while_it_is_followed() {
        let watch = Watch::start(Path::new("/"), std::process::id());
        let watched = watch.finish();
        if Path::new("/proc/self/stat").exists() {
            assert!(watched.process.and_then(|process| process.peak_resident) > Some(Bytes::MIB));
            assert!(watched.least_available > Some(Bytes::MIB));
        }
    }
}
