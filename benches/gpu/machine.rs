//! The machine: what it is, and where there is room for models.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use powerinfer::backend::cuda::{Device, Stream};

use crate::Bundle;

pub const GIB: f64 = (1u64 << 30) as f64;

/// Name and value of what a reader has to know.
pub fn facts(bundle: &Bundle) -> Vec<(String, String)> {
    let mut facts = Vec::new();
    let mut fact = |name: &str, value: String| facts.push((name.to_owned(), value));
    let now = jiff::Timestamp::now().to_string();
    fact(
        "date",
        now.split('.').next().unwrap_or(&now).trim_end_matches('Z').replace('T', " ") + " UTC",
    );
    fact("library", format!("powerinfer {}", env!("CARGO_PKG_VERSION")));
    for info in Device::list() {
        let (major, minor) = info.compute;
        fact(
            "device",
            format!(
                "{}, compute capability {major}.{minor}, {} multiprocessors, {:.1} GiB, {:.0} GB/s as built",
                info.name,
                info.n_sms,
                info.total_bytes as f64 / GIB,
                info.bandwidth / 1e9
            ),
        );
    }
    fact("driver", driver());
    let cpu = line_of("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".into());
    fact("CPU", format!("{cpu}, {} threads", n_threads()));
    let [all, free] = ["MemTotal", "MemAvailable"].map(|key| memory(key) as f64 / GIB);
    fact("memory", format!("{all:.1} GiB, {free:.1} GiB free"));
    let room = free_disk(&bundle.work)
        .map_or_else(|| "unknown".into(), |b| format!("{:.1} GiB", b as f64 / GIB));
    fact("models", format!("in {}, {room} free", bundle.work.display()));
    facts
}

pub fn n_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Its version, as the kernel's module says.
fn driver() -> String {
    let text = fs::read_to_string("/proc/driver/nvidia/version").unwrap_or_default();
    let is_version =
        |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    let found = text.lines().next().and_then(|line| line.split_whitespace().find(is_version));
    found.map_or_else(|| "unknown (no /proc/driver/nvidia)".into(), str::to_owned)
}

/// The value of `key : value` in a file of the system.
fn line_of(path: &str, key: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Bytes of a line of /proc/meminfo.
pub fn memory(key: &str) -> u64 {
    let kib = line_of("/proc/meminfo", key)
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Bytes that may be written into a folder.
pub fn free_disk(folder: &Path) -> Option<u64> {
    let output = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let kib: u64 = text.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kib * 1024)
}

/// A folder that goes away.
pub struct WorkFolder(PathBuf);

impl WorkFolder {
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A new folder in `wanted`, or where most room is: in memory, when a model of 7B fits there twice,
/// else on disk.
pub fn work_folder(wanted: Option<&Path>) -> io::Result<WorkFolder> {
    const PLENTY: u64 = 10 << 30;
    let in_memory = Path::new("/dev/shm");
    let roomy = free_disk(in_memory).is_some_and(|free| free > PLENTY)
        && memory("MemAvailable") > 3 * PLENTY;
    let parent = match wanted {
        Some(folder) => folder.to_owned(),
        None if roomy => in_memory.to_owned(),
        None => std::env::temp_dir(),
    };
    let folder = parent.join(format!("gpu-check-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    Ok(WorkFolder(folder))
}

/// Where the driver keeps the kernels that it compiled, when it cannot keep them where it would:
/// else each program compiles them again.
pub fn kernel_cache(work: &Path) -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if set("CUDA_CACHE_PATH").is_some() {
        return None;
    }
    let usual = set("HOME").map(|home| Path::new(&home).join(".nv/ComputeCache"));
    let probe = usual.map(|folder| {
        let probe = folder.join(format!("gpu-check-{}", std::process::id()));
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(&probe, ""));
        let _ = fs::remove_file(&probe);
        written.is_ok()
    });
    (!probe.unwrap_or(false)).then(|| work.join("kernels"))
}

/// Does nothing with a context for a moment: what that takes of the card is no part of a budget.
pub fn hold_a_context() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::open(0)?;
    let _stream = Stream::new(&device)?;
    thread::sleep(Duration::from_millis(300));
    Ok(())
}
