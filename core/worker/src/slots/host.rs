//! How busy this machine (or container) is: memory and CPU as fractions.
//!
//! [`usage`] is pure: two readings make one usage. [`LinuxHost`] reads cgroup v2, else `/proc`. [`HostSampler`] shares
//! one reading among all who ask, at most one each 100 ms, and reads only when asked: an idle worker costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Fractions of what there is, 0.0 to 1.0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HostUsage {
    pub cpu: f64,
    pub memory: f64,
}

/// Totals as the system counts them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub memory_used: u64,
    pub memory_limit: u64,
    /// CPU time used so far, in any unit.
    pub cpu_used: f64,
    /// CPU time that could have been used so far, in the same unit.
    pub cpu_limit: f64,
}

/// Reads totals. `elapsed` is the time since the first reading; none if this system cannot be read.
pub trait HostReader: Send + 'static {
    fn read(&mut self, elapsed: Duration) -> Option<Reading>;
}

/// What two readings say; with only one, no CPU use is known.
pub fn usage(before: Option<&Reading>, now: &Reading) -> HostUsage {
    let fraction = |part: f64, whole: f64| if whole > 0.0 { (part / whole).clamp(0.0, 1.0) } else { 0.0 };
    let cpu = before.map_or(0.0, |b| fraction(now.cpu_used - b.cpu_used, now.cpu_limit - b.cpu_limit));
    HostUsage { cpu, memory: fraction(now.memory_used as f64, now.memory_limit as f64) }
}

/// How long one reading serves.
pub const SAMPLE_PERIOD: Duration = Duration::from_millis(100);

/// One reader shared by everybody in the process.
pub struct HostSampler {
    state: Mutex<Sampling>,
}

struct Sampling {
    reader: Box<dyn HostReader>,
    origin: Option<Instant>,
    last: Option<Reading>,
    sample: Sample,
    taken: Option<Instant>,
}

/// A usage and its number, which grows with each new one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    pub usage: Option<HostUsage>,
    pub number: u64,
}

impl HostSampler {
    pub fn new(reader: impl HostReader) -> Arc<Self> {
        let sampling = Sampling {
            reader: Box::new(reader),
            origin: None,
            last: None,
            sample: Sample::default(),
            taken: None,
        };
        Arc::new(HostSampler { state: Mutex::new(sampling) })
    }

    /// The process's own sampler of this machine.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<HostSampler>> = OnceLock::new();
        SHARED.get_or_init(|| HostSampler::new(LinuxHost::detect())).clone()
    }

    /// The latest sample; a new one if the last is 100 ms old. The files read are small and never on a disk.
    pub fn sample(&self, now: Instant) -> Sample {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.taken.is_none_or(|taken| now.saturating_duration_since(taken) >= SAMPLE_PERIOD) {
            state.take(now);
        }
        state.sample
    }

    /// The figures for a worker's heartbeat; none where the system cannot be read.
    pub fn usage(&self) -> Option<HostUsage> {
        self.sample(Instant::now()).usage
    }
}

impl Sampling {
    fn take(&mut self, now: Instant) {
        let origin = *self.origin.get_or_insert(now);
        let reading = self.reader.read(now.saturating_duration_since(origin));
        let usage = reading.as_ref().map(|reading| usage(self.last.as_ref(), reading));
        self.sample = Sample { usage, number: self.sample.number + 1 };
        self.last = reading.or(self.last);
        self.taken = Some(now);
    }
}

impl std::fmt::Debug for HostSampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HostSampler")
    }
}

/// Reads Linux's files: the limits of the process's cgroup where it has any, the whole machine otherwise.
///
/// On other systems nothing can be read, and resource-based slots stay at their minimum.
#[derive(Debug)]
pub struct LinuxHost {
    proc: PathBuf,
    /// From the process's own cgroup up to the root of the hierarchy.
    cgroups: Vec<PathBuf>,
    cores: f64,
}

impl LinuxHost {
    pub fn detect() -> Self {
        LinuxHost::rooted(Path::new("/"))
    }

    /// For tests: the same files below another root.
    pub fn rooted(root: &Path) -> Self {
        let proc = root.join("proc");
        let own = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let path = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or("");
        let top = root.join("sys/fs/cgroup");
        // In a container the path may be the host's and not exist here; then only the top remains.
        let cgroups =
            Path::new(path).ancestors().map(|path| top.join(path)).filter(|path| path.is_dir()).collect();
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
        LinuxHost { proc, cgroups, cores }
    }

    /// The tightest memory limit and what counts against it, page cache that can go excepted.
    fn memory(&self) -> Option<(u64, u64)> {
        let (used, total) = self.machine_memory()?;
        let limited = self.cgroups.iter().filter_map(|group| {
            let limit: u64 = read(group, "memory.max")?.trim().parse().ok()?;
            let current: u64 = read(group, "memory.current")?.trim().parse().ok()?;
            let cache =
                read(group, "memory.stat").and_then(|stat| field(&stat, "inactive_file")).unwrap_or(0);
            Some((current.saturating_sub(cache), limit))
        });
        Some(
            limited
                .filter(|(_, limit)| *limit < total)
                .min_by_key(|(_, limit)| *limit)
                .unwrap_or((used, total)),
        )
    }

    fn machine_memory(&self) -> Option<(u64, u64)> {
        let text = read(&self.proc, "meminfo")?;
        let total = field(&text, "MemTotal:")?;
        let free = field(&text, "MemAvailable:")?;
        Some((total.saturating_sub(free) * 1024, total * 1024))
    }

    /// CPU time used and usable so far: of the tightest quota, else of the machine.
    fn cpu(&self, elapsed: Duration) -> Option<(f64, f64)> {
        let quotas = self.cgroups.iter().filter_map(|group| {
            let max = read(group, "cpu.max")?;
            let (quota, period) = max.trim().split_once(' ')?;
            let cores = quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?;
            let used = field(&read(group, "cpu.stat")?, "usage_usec")? as f64 / 1e6;
            Some((used, cores))
        });
        match quotas.min_by(|a, b| a.1.total_cmp(&b.1)).filter(|(_, cores)| *cores < self.cores) {
            Some((used, cores)) => Some((used, cores * elapsed.as_secs_f64())),
            None => self.machine_cpu(),
        }
    }

    fn machine_cpu(&self) -> Option<(f64, f64)> {
        let text = read(&self.proc, "stat")?;
        let times = text.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; guest times are within user and nice.
        let times: Vec<f64> = times.split_whitespace().take(8).filter_map(|time| time.parse().ok()).collect();
        let total: f64 = times.iter().sum();
        let idle = times.get(3)? + times.get(4)?;
        Some((total - idle, total))
    }
}

impl HostReader for LinuxHost {
    fn read(&mut self, elapsed: Duration) -> Option<Reading> {
        let (memory_used, memory_limit) = self.memory()?;
        let (cpu_used, cpu_limit) = self.cpu(elapsed)?;
        Some(Reading { memory_used, memory_limit, cpu_used, cpu_limit })
    }
}

fn read(folder: &Path, file: &str) -> Option<String> {
    fs::read_to_string(folder.join(file)).ok()
}

/// The number after a name at a line's start.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(name))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
#[path = "host_tests.rs"]
mod tests;
