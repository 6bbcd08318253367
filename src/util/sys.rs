//! System calls: clock, memory locking and advice, processor count, resident memory, files
//! in memory.
#![allow(unsafe_code, reason = "calls libc")]

use once_cell::sync::OnceCell;
use std::fs::File;
use std::mem::MaybeUninit;
#[cfg(target_os = "linux")]
use std::os::fd::FromRawFd;
use std::time::Instant;

use crate::log_debug;

/// Microseconds since the first call of this function in the process; never goes back.
pub fn time_us() -> i64 {
    static START: OnceCell<Instant> = OnceCell::new();
    i64::try_from(START.get_or_init(Instant::now).elapsed().as_micros()).unwrap_or(i64::MAX)
}

/// Processors that this process may run on, at least 1.
pub fn n_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Bytes of a page of memory.
pub fn page_size() -> usize {
    // SAFETY: asks for a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).ok().filter(|n| n.is_power_of_two()).unwrap_or(4096)
}

/// Free and all memory of the machine in bytes; 0 where the system does not say.
pub fn host_memory() -> (usize, usize) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: asks for a number.
        let value = |name| usize::try_from(unsafe { libc::sysconf(name) }).unwrap_or(0);
        let of = |pages: usize| pages.saturating_mul(page_size());
        (of(value(libc::_SC_AVPHYS_PAGES)), of(value(libc::_SC_PHYS_PAGES)))
    }
    #[cfg(not(target_os = "linux"))]
    {
        (0, 0)
    }
}

/// The processor's name, as far as the system tells.
pub fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// Pins memory in RAM. The error is the system's (usually a limit: see `ulimit -l`).
pub fn lock_memory(bytes: &[u8]) -> std::io::Result<()> {
    // SAFETY: the range is a live slice; mlock does not change its contents.
    match unsafe { libc::mlock(bytes.as_ptr().cast(), bytes.len()) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

/// Releases memory that [`lock_memory`] pinned.
pub fn unlock_memory(bytes: &[u8]) {
    // SAFETY: the range is a live slice; munlock does not change its contents.
    unsafe { libc::munlock(bytes.as_ptr().cast(), bytes.len()) };
}

/// Asks for huge pages for the whole pages of this memory, which nothing should have touched yet.
/// Only advice: where it is not possible, a debug line says so and the memory stays as it is.
#[cfg(target_os = "linux")]
pub fn advise_huge_pages(memory: &mut [MaybeUninit<u8>]) {
    let skip = memory.as_ptr().align_offset(page_size()).min(memory.len());
    let whole = &mut memory[skip..];
    let n_bytes = whole.len() / page_size() * page_size();
    if n_bytes == 0 {
        return;
    }
    // SAFETY: the range is whole pages of a live slice; the advice does not change their contents.
    let done = unsafe { libc::madvise(whole.as_mut_ptr().cast(), n_bytes, libc::MADV_HUGEPAGE) };
    if done != 0 {
        let e = std::io::Error::last_os_error();
        log_debug!("no huge pages for {n_bytes} bytes of weights: {e}");
    }
}

/// Huge pages cannot be asked for here.
#[cfg(not(target_os = "linux"))]
pub fn advise_huge_pages(_memory: &mut [MaybeUninit<u8>]) {}

/// An empty file in memory, without a name in the file system.
#[cfg(target_os = "linux")]
pub fn memory_file() -> std::io::Result<File> {
    // SAFETY: the name is a C string.
    let fd = unsafe { libc::memfd_create(c"powerinfer".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(unsafe { File::from_raw_fd(fd) })
}

/// An empty file without a name in the file system.
#[cfg(not(target_os = "linux"))]
pub fn memory_file() -> std::io::Result<File> {
    let name = format!("powerinfer-{}-{}", std::process::id(), time_us());
    let path = std::env::temp_dir().join(name);
    let file = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(path)?;
    Ok(file)
}

/// The most memory that this process ever held in RAM, in bytes.
pub fn peak_rss() -> u64 {
    // SAFETY: rusage is plain old data, for which zero bytes are a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: usage is a valid, writable rusage.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let unit = if cfg!(target_os = "macos") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit
}
