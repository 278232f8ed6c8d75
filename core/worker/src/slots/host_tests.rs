//! What a host says of itself, read from made-up files.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

fn write(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A machine of 1000 KiB with 400 KiB in use, and a process in the cgroup `/a/b`.
fn machine() -> Folder {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let root = std::env::temp_dir().join(format!("outlast-host-{}-{number}", std::process::id()));
    write(&root, "proc/meminfo", "MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 600 kB\n");
    write(&root, "proc/stat", "cpu  10 0 10 60 20 0 0 0 5 0\ncpu0 1 1 1 1\n");
    write(&root, "proc/self/cgroup", "0::/a/b\n");
    Folder(root)
}

/// Removes itself.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn without_limits_the_whole_machine_counts() {
    let root = machine();
    write(&root.0, "sys/fs/cgroup/a/b/memory.max", "max\n");
    write(&root.0, "sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
    let reading = LinuxHost::rooted(&root.0).read(SECOND).unwrap();
    assert_eq!((reading.memory_used, reading.memory_limit), (400 * 1024, 1000 * 1024));
    assert_eq!((reading.cpu_used, reading.cpu_limit), (20.0, 100.0));
}

#[test]
fn the_tightest_limit_on_the_way_up_counts() {
    let root = machine();
    for (group, limit, current) in [("a", 500_000, 300_000), ("a/b", 700_000, 100_000)] {
        write(&root.0, &format!("sys/fs/cgroup/{group}/memory.max"), &format!("{limit}\n"));
        write(&root.0, &format!("sys/fs/cgroup/{group}/memory.current"), &format!("{current}\n"));
        write(&root.0, &format!("sys/fs/cgroup/{group}/memory.stat"), "anon 1\ninactive_file 50000\n");
    }
    write(&root.0, "sys/fs/cgroup/a/b/cpu.max", "1000 100000\n"); // a hundredth of a core
    write(&root.0, "sys/fs/cgroup/a/b/cpu.stat", "usage_usec 2500000\nuser_usec 1\n");
    let reading = LinuxHost::rooted(&root.0).read(10 * SECOND).unwrap();
    assert_eq!((reading.memory_used, reading.memory_limit), (250_000, 500_000));
    assert_eq!((reading.cpu_used, reading.cpu_limit), (2.5, 0.1));
}

#[test]
fn a_system_without_these_files_cannot_be_read() {
    assert_eq!(LinuxHost::rooted(Path::new("/nowhere/at/all")).read(SECOND), None);
}

#[test]
fn this_machine_can_be_read_if_it_is_linux() {
    if cfg!(target_os = "linux") {
        let reading = LinuxHost::detect().read(SECOND).unwrap();
        assert!(reading.memory_limit > 0 && reading.memory_used < reading.memory_limit, "{reading:?}");
    }
}

#[test]
fn cpu_is_what_was_used_between_two_readings() {
    let reading = |cpu_used, cpu_limit| Reading { memory_used: 1, memory_limit: 4, cpu_used, cpu_limit };
    assert_eq!(usage(None, &reading(50.0, 100.0)), HostUsage { cpu: 0.0, memory: 0.25 });
    assert_eq!(usage(Some(&reading(50.0, 100.0)), &reading(53.0, 104.0)).cpu, 0.75);
    assert_eq!(usage(Some(&reading(50.0, 100.0)), &reading(50.0, 100.0)).cpu, 0.0);
    assert_eq!(usage(Some(&reading(50.0, 100.0)), &reading(10.0, 120.0)).cpu, 0.0, "counters may restart");
}

struct Counting(Arc<AtomicU64>);

impl HostReader for Counting {
    fn read(&mut self, _: Duration) -> Option<Reading> {
        self.0.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_more_often_than_every_100_ms_nor_unless_asked() {
    let reads = Arc::new(AtomicU64::new(0));
    let sampler = HostSampler::new(Counting(reads.clone()));
    for _ in 0..10 {
        sampler.sample(Instant::now());
    }
    tokio::time::advance(SAMPLE_PERIOD - Duration::from_millis(1)).await;
    sampler.sample(Instant::now());
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    tokio::time::advance(Duration::from_secs(3600)).await;
    assert_eq!(reads.load(Ordering::Relaxed), 1);
    assert_eq!(sampler.sample(Instant::now()).number, 2);
}
