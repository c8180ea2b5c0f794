//! Monitors the machine while a model is measured: memory, clocks, and what other programs do.
//!
//! In: a root directory and, once it is known, the process that holds the model. Out: [`Watched`].

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::program::{self, ProcessGroup};
use crate::device::{Activity, Clock, Process, activity, descendants, process};
use crate::units::{Bytes, Hertz};

/// How often the machine is sampled: often enough to see a peak, rarely enough to cost nothing.
const INTERVAL: Duration = Duration::from_millis(100);

/// What was observed while a model was measured.
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
    /// A throttling cooling device that was active at some time.
    pub cooling: Option<String>,
    /// What the process with the model used in between, including the processes that it started.
    pub process: Option<Process>,
    /// How often that process was sampled, if it ended early: its peak may have been between two samples.
    pub short: Option<u32>,
    /// Memory in use by tegrastats: at the start and at the peak.
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

/// A monitor that runs until it is finished or dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    pid: Arc<AtomicU32>,
    monitoring: Option<JoinHandle<Watched>>,
}

impl Watch {
    /// Starts monitoring the machine with the root directory `root`. `pid` is the id of the process that holds the model;
    /// 0 where it does not run yet, or elsewhere. tegrastats is searched in the folders of `path`.
    pub fn start(root: &Path, pid: u32, path: Option<&OsStr>) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let pid = Arc::new(AtomicU32::new(pid));
        let monitoring = {
            let (root, stop, pid) = (root.to_owned(), stop.clone(), pid.clone());
            let path = path.map(OsStr::to_owned);
            // Sampled before the thread starts, so that nothing of the model is loaded yet.
            let before = activity(&root);
            thread::spawn(move || monitor(root, path, before, &stop, &pid))
        };
        Watch {
            stop,
            pid,
            monitoring: Some(monitoring),
        }
    }

    /// Sets the id of the process that holds the model.
    pub fn follow(&self, pid: u32) {
        self.pid.store(pid, Ordering::Relaxed);
    }

    /// Ends monitoring.
    pub fn finish(mut self) -> Watched {
        self.stop.store(true, Ordering::Relaxed);
        let monitoring = self.monitoring.take();
        monitoring
            .and_then(|thread| thread.join().ok())
            .unwrap_or_default()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.monitoring.take() {
            let _ = thread.join();
        }
    }
}

/// Samples until `stop` is set, then sums up.
fn monitor(
    root: PathBuf,
    path: Option<OsString>,
    before: Activity,
    stop: &AtomicBool,
    pid: &AtomicU32,
) -> Watched {
    let started = Instant::now();
    let tegrastats = Tegrastats::start(path.as_deref());
    let (mut cpu, mut gpu) = (MeanClock::default(), MeanClock::default());
    let mut least = before.memory.available;
    let mut cooling = None;
    let mut followed = ProcessTree::default();
    let mut now = before.clone();
    loop {
        let done = stop.load(Ordering::Relaxed);
        least = least.min(now.memory.available).or(least);
        cpu.add(now.cpu_clock);
        gpu.add(now.gpu_clock);
        cooling = now.cooling.clone().or(cooling);
        match pid.load(Ordering::Relaxed) {
            0 => {}
            pid => followed.sample(&root, pid),
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
        process: followed.used(),
        short: followed.short(),
        tegrastats: tegrastats.and_then(Tegrastats::finish),
        before,
        after: now,
    }
}

/// A process and its descendants: a script that runs a program, a server that runs one for each model.
#[derive(Default)]
struct ProcessTree {
    /// Seconds of processor time at the first and the last sample, by process id.
    seconds: BTreeMap<u32, (f64, f64)>,
    /// The peak of the memory of all of them together.
    peak: Option<Bytes>,
    /// Samples in which the process was alive.
    samples: u32,
    has_ended: bool,
}

/// Samples, one second of them, that are enough to see the peak of a process.
const ENOUGH_SAMPLES: u32 = 10;

impl ProcessTree {
    /// Samples the process `pid` and its descendants.
    fn sample(&mut self, root: &Path, pid: u32) {
        let alive = process(root, pid).map(|process| (pid, process));
        self.has_ended = alive.is_none();
        self.samples += u32::from(alive.is_some());
        let others = descendants(root, pid).into_iter();
        let others = others.filter_map(|pid| Some((pid, process(root, pid)?)));
        let mut held = None;
        for (pid, now) in alive.into_iter().chain(others) {
            let seen = self
                .seconds
                .entry(pid)
                .or_insert((now.seconds, now.seconds));
            seen.1 = now.seconds;
            held = now
                .peak_resident
                .map(|own| own + held.unwrap_or(Bytes(0)))
                .or(held);
        }
        self.peak = self.peak.max(held);
    }

    fn used(&self) -> Option<Process> {
        (!self.seconds.is_empty()).then(|| Process {
            seconds: self
                .seconds
                .values()
                .map(|(first, last)| last - first)
                .sum(),
            peak_resident: self.peak,
        })
    }

    fn short(&self) -> Option<u32> {
        (self.has_ended && self.samples < ENOUGH_SAMPLES).then_some(self.samples)
    }
}

/// The mean of a clock over the samples.
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

/// The monitor of a Jetson, which counts memory that belongs to no process.
struct Tegrastats {
    group: ProcessGroup,
    reading: JoinHandle<Option<(Bytes, Bytes)>>,
}

impl Tegrastats {
    /// Starts it, if it is in the folders of `path`.
    fn start(path: Option<&OsStr>) -> Option<Tegrastats> {
        let mut command = Command::new(program::find("tegrastats", path)?);
        command
            .args(["--interval", "200"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut group = ProcessGroup::start(&mut command).ok()?;
        let out = BufReader::new(group.child().stdout.take()?);
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
        Some(Tegrastats { group, reading })
    }

    fn finish(mut self) -> Option<(Bytes, Bytes)> {
        let _ = self.group.end();
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
        let watch = Watch::start(Path::new("/"), std::process::id(), None);
        let watched = watch.finish();
        if Path::new("/proc/self/stat").exists() {
            assert!(watched.process.and_then(|process| process.peak_resident) > Some(Bytes::MIB));
            assert!(watched.least_available > Some(Bytes::MIB));
            assert_eq!(watched.short, None);
        }
    }

    #[test]
    fn what_a_followed_process_started_is_counted_and_a_short_life_is_told() {
        let root = tempfile::tempdir().unwrap();
        let own = |pid: u32, ticks: u32, kib: u32, children: &str| {
            let folder = root.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(folder.join(format!("task/{pid}"))).unwrap();
            let stat = format!("{pid} (a b) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0\n");
            std::fs::write(folder.join("stat"), stat).unwrap();
            std::fs::write(folder.join("status"), format!("VmHWM: {kib} kB\n")).unwrap();
            std::fs::write(folder.join(format!("task/{pid}/children")), children).unwrap();
        };
        own(7, 100, 1000, "8 \n");
        own(8, 200, 2000, "");
        let mut followed = ProcessTree::default();
        followed.sample(root.path(), 7);
        own(8, 500, 6000, "");
        followed.sample(root.path(), 7);
        let used = followed.used().unwrap();
        assert_eq!(
            (used.seconds, used.peak_resident),
            (3.0, Some(Bytes(7000 << 10)))
        );
        assert_eq!(followed.short(), None);
        std::fs::remove_dir_all(root.path().join("proc/7")).unwrap();
        followed.sample(root.path(), 7);
        assert_eq!(followed.short(), Some(2));
    }
}
