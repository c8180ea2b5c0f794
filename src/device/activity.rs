//! A snapshot of a running machine: load, clocks, swapping, throttling, and what a process uses.
//!
//! In: a root directory. Out: [`Activity`] and [`Process`], whose fields are `None` where the machine does not report
//! them. Must not: run programs, or fail because a file is missing or malformed.

use std::fs;
use std::path::Path;

use super::detect::{MemoryNow, read_memory};
use super::power_mode::GPU_NODES;
use super::probe;
use crate::units::{Bytes, Hertz};

/// Kernel ticks a second in `/proc/stat` and `/proc/PID/stat`: USER_HZ, 100 on every architecture that
/// a Jetson or a PC has.
const TICKS: f64 = 100.0;

/// The most entries of a directory that are read: no machine has more processors or sensors.
const MOST_ENTRIES: usize = 1024;

/// A snapshot of a machine. Counters count from its start, so two snapshots give what happened between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Activity {
    /// Programs that ran or wanted to run, averaged over the last minute.
    pub load_average: Option<f64>,
    /// Time of all processors since the start of the machine.
    pub processors: Option<ProcessorTime>,
    /// Pages that were written to or read from swap.
    pub swapped_pages: Option<u64>,
    /// Mean clock of the processors now, and their highest possible one.
    pub cpu_clock: Option<Clock>,
    /// Clock of the GPU now, and the highest that is allowed.
    pub gpu_clock: Option<Clock>,
    /// How often heat or current lowered a clock.
    pub throttle_events: Option<u64>,
    /// The name of a throttling cooling device that is active now.
    pub cooling: Option<String>,
    /// `/proc/meminfo`.
    pub memory: MemoryNow,
}

/// A clock and its limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Clock {
    /// The current clock.
    pub now: Hertz,
    /// The highest clock.
    pub most: Hertz,
}

/// Seconds of all processors together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessorTime {
    /// Running programs or the kernel.
    pub busy: f64,
    /// Given to other virtual machines by the hypervisor.
    pub stolen: f64,
    /// Everything, idle time included.
    pub all: f64,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// Seconds on processors.
    pub seconds: f64,
    /// The peak of its resident memory, mapped files included.
    pub peak_resident: Option<Bytes>,
}

/// A snapshot of the machine with the root directory `root`.
pub fn activity(root: &Path) -> Activity {
    Activity {
        load_average: first_number(root, "proc/loadavg"),
        processors: probe::text(root, "proc/stat").and_then(|text| processor_time(&text)),
        swapped_pages: probe::text(root, "proc/vmstat").and_then(|text| swapped(&text)),
        cpu_clock: cpu_clock(root),
        gpu_clock: gpu_clock(root),
        throttle_events: throttle_events(root),
        cooling: cooling(root),
        memory: read_memory(root),
    }
}

/// Where the driver of a Jetson's GPU says how busy it is, for every user: below the device of its devfreq node, and by the
/// names that L4T links to that device.
const GPU_DEVICES: [&str; 2] = ["sys/devices/platform/gpu.0", "sys/devices/gpu.0"];

/// The share of the driver's last interval in which the GPU was busy: `load` is in thousandths, and 0 where the GPU is off
/// (nvgpu's `gk20a_load_show`). Reading it wakes the GPU, so it is no part of an [`Activity`].
pub fn gpu_load(root: &Path) -> Option<f64> {
    let nodes = GPU_NODES.iter().map(|node| format!("{node}/device"));
    let mut devices = nodes.chain(GPU_DEVICES.map(str::to_owned));
    let load = devices.find_map(|device| first_number(root, &format!("{device}/load")))?;
    Some(load / 1000.0).filter(|load| *load <= 1.0)
}

/// The process `pid` of the machine, if it exists.
pub fn process(root: &Path, pid: u32) -> Option<Process> {
    let stat = probe::text(root, &format!("proc/{pid}/stat"))?;
    // The name, in brackets, may contain anything; after it are fields 3 and on.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    let status = probe::text(root, &format!("proc/{pid}/status")).unwrap_or_default();
    Some(Process {
        seconds: (ticks(14)? + ticks(15)?) as f64 / TICKS,
        peak_resident: probe::meminfo(&status, "VmHWM"),
    })
}

/// The name of the program that the process `pid` runs, as shortened by the kernel.
pub fn program_name(root: &Path, pid: u32) -> Option<String> {
    let name = probe::text(root, &format!("proc/{pid}/comm"))?;
    Some(name.trim().to_owned())
}

/// The ids of all descendants of the process `pid`, as far as the kernel lists them.
pub fn descendants(root: &Path, pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    let mut open = vec![pid];
    while let Some(pid) = open.pop() {
        let threads = entries(root, &format!("proc/{pid}/task"), "");
        let lists = threads.iter().map(|thread| format!("{thread}/children"));
        let text: String = lists.filter_map(|list| probe::text(root, &list)).collect();
        for child in text.split_whitespace().filter_map(|word| word.parse().ok()) {
            if found.len() < MOST_ENTRIES && !found.contains(&child) {
                found.push(child);
                open.push(child);
            }
        }
    }
    found
}

/// Resets the peak of this process's resident memory in the kernel. Where that is not possible, the peak remains that since
/// the start of the process.
pub fn forget_peak() {
    let _ = fs::write("/proc/self/clear_refs", "5");
}

/// The id of the process that listens on a TCP port of this machine, if it belongs to this user.
pub fn listener(root: &Path, port: u16) -> Option<u32> {
    let inode = ["proc/net/tcp", "proc/net/tcp6"]
        .iter()
        .filter_map(|table| probe::text(root, table))
        .find_map(|text| listening_inode(&text, port))?;
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir(root.join("proc")).ok()?;
    let pids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let holds = |pid: &u32| {
        let files = fs::read_dir(root.join(format!("proc/{pid}/fd")));
        files.into_iter().flatten().flatten().any(|file| {
            fs::read_link(file.path()).is_ok_and(|target| target.to_str() == Some(&socket))
        })
    };
    pids.into_iter().find(holds)
}

/// The inode of the socket that listens on `port`, in `/proc/net/tcp`'s form: local address and state
/// are the second and fourth word, the inode is the tenth.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    let ending = format!(":{port:04X}");
    let rows = table
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let mut rows = rows.filter(|row| {
        row.get(1).is_some_and(|local| local.ends_with(&ending)) && row.get(3) == Some(&LISTEN)
    });
    rows.find_map(|row| row.get(9)?.parse().ok())
}

fn first_number(root: &Path, path: &str) -> Option<f64> {
    let text = probe::text(root, path)?;
    let number: f64 = text.split_whitespace().next()?.parse().ok()?;
    (number.is_finite() && number >= 0.0).then_some(number)
}

/// The first line of `/proc/stat`: user, nice, system, idle, iowait, irq, softirq, steal.
fn processor_time(text: &str) -> Option<ProcessorTime> {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let ticks: Vec<f64> = line
        .split_whitespace()
        .map_while(|word| word.parse::<u64>().ok())
        .take(8)
        .map(|ticks| ticks as f64 / TICKS)
        .collect();
    let [user, nice, system, idle, wait, irq, softirq, stolen] = ticks[..] else {
        return None;
    };
    let busy = user + nice + system + irq + softirq;
    Some(ProcessorTime {
        busy,
        stolen,
        all: busy + idle + wait + stolen,
    })
}

fn swapped(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()
    };
    Some(field("pswpin")?.saturating_add(field("pswpout")?))
}

/// The entries of a directory whose names begin with `prefix`, as paths below the root.
fn entries(root: &Path, directory: &str, prefix: &str) -> Vec<String> {
    let found = fs::read_dir(root.join(directory)).into_iter().flatten();
    let names = found.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names
        .filter(|name| name.starts_with(prefix))
        .take(MOST_ENTRIES)
        .map(|name| format!("{directory}/{name}"))
        .collect();
    names.sort();
    names
}

fn cpu_clock(root: &Path) -> Option<Clock> {
    let policies = entries(root, "sys/devices/system/cpu/cpufreq", "policy");
    // In kHz.
    let clock = |policy: &String, file: &str| first_number(root, &format!("{policy}/{file}"));
    let both = |policy| {
        Some((
            clock(policy, "scaling_cur_freq")?,
            clock(policy, "cpuinfo_max_freq")?,
        ))
    };
    let clocks: Vec<(f64, f64)> = policies.iter().filter_map(both).collect();
    let mean = |pick: fn(&(f64, f64)) -> f64| {
        let sum: f64 = clocks.iter().map(pick).sum();
        Hertz(sum / clocks.len() as f64 * 1e3)
    };
    (!clocks.is_empty()).then(|| Clock {
        now: mean(|clocks| clocks.0),
        most: mean(|clocks| clocks.1),
    })
}

fn gpu_clock(root: &Path) -> Option<Clock> {
    GPU_NODES.iter().find_map(|node| {
        Some(Clock {
            now: Hertz(first_number(root, &format!("{node}/cur_freq"))?),
            most: Hertz(first_number(root, &format!("{node}/max_freq"))?),
        })
    })
}

/// Thermal throttling events of x86 processors, and over-current events of a Jetson's sensors.
fn throttle_events(root: &Path) -> Option<u64> {
    let cores = entries(root, "sys/devices/system/cpu", "cpu").into_iter();
    let heat = cores.map(|core| format!("{core}/thermal_throttle/core_throttle_count"));
    let sensors = entries(root, "sys/class/hwmon", "hwmon").into_iter();
    let current = sensors.flat_map(|sensor| {
        ["oc1", "oc2", "oc3"].map(|event| format!("{sensor}/{event}_event_cnt"))
    });
    let counts: Vec<f64> = heat
        .chain(current)
        .filter_map(|file| first_number(root, &file))
        .collect();
    (!counts.is_empty()).then(|| counts.iter().sum::<f64>() as u64)
}

/// An active throttling device of the kernel's thermal framework.
fn cooling(root: &Path) -> Option<String> {
    let devices = entries(root, "sys/class/thermal", "cooling_device");
    devices.into_iter().find_map(|device| {
        let name = probe::printable(&probe::text(root, &format!("{device}/type"))?);
        let state = first_number(root, &format!("{device}/cur_state"))?;
        (name.contains("throttle") && state > 0.0).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_the_kernel_writes_them() {
        let stat = "cpu  100 50 200 4000 20 5 25 10 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        let time = processor_time(stat).unwrap();
        assert_eq!((time.busy, time.stolen), (3.8, 0.1));
        assert!((time.all - 44.1).abs() < 1e-9);
        assert_eq!(processor_time("cpu  1 2 3\n"), None);
        assert_eq!(processor_time("cpu  a b c d e f g h\n"), None);
        assert_eq!(swapped("pswpin 3\npswpout 4\npswpouts 9\n"), Some(7));
        assert_eq!(swapped("pswpin 3\n"), None);
    }

    #[test]
    fn the_listening_socket_is_told_from_connections_to_it() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 0100007F:1F90 0100007F:A000 01 00000000:00000000 00:00000000 00000000  1000        0 111 1 0 20 4 30 10 -1\n   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 222 1 0 100 0 0 10 0\n";
        assert_eq!(listening_inode(table, 8080), Some(222));
        assert_eq!(listening_inode(table, 8081), None);
        assert_eq!(listening_inode("garbage\nx y z\n", 8080), None);
    }
}
