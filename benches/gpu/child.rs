//! Other programs, under a time limit.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use powerinfer::backend::cuda::Device;

/// Where programs keep compiled kernels ([`crate::machine::kernel_cache`]).
pub static CACHE: OnceLock<PathBuf> = OnceLock::new();

/// What a program did.
pub struct Outcome {
    /// `None`: it was stopped at the limit.
    pub status: Option<ExitStatus>,
    pub stdout: String,
    pub stderr: String,
    pub seconds: f64,
    /// Bytes of the card that were in use at most, beyond those before.
    pub card_bytes: usize,
}

impl Outcome {
    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// How it ended, with its last line: for a note.
    pub fn ending(&self) -> String {
        let last = |text: &str| text.lines().rfind(|l| !l.trim().is_empty()).map(str::to_owned);
        let said = last(&self.stderr).or_else(|| last(&self.stdout)).unwrap_or_default();
        match self.status {
            None => format!("stopped after {:.0} s", self.seconds),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}: {said}"),
                (None, signal) => format!("signal {}: {said}", signal.unwrap_or(0)),
            },
        }
    }
}

/// Runs a program to its end, or until `limit`.
pub fn run(command: &mut Command, limit: Duration) -> Outcome {
    let start = Instant::now();
    let failed = |error: std::io::Error| Outcome {
        status: Some(ExitStatus::from_raw(127 << 8)),
        stdout: String::new(),
        stderr: error.to_string(),
        seconds: 0.0,
        card_bytes: 0,
    };
    let before = card_bytes_in_use();
    if let Some(folder) = CACHE.get() {
        command.env("CUDA_CACHE_PATH", folder);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => return failed(error),
    };
    let streams = [reader(child.stdout.take()), reader(child.stderr.take())];
    let mut most = before;
    let mut looked = start;
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break Some(status),
            Ok(None) if start.elapsed() < limit => thread::sleep(Duration::from_millis(10)),
            _ => {
                // The whole group: a program may have started others.
                let group = format!("kill -9 -{}", child.id());
                let _ = Command::new("sh").args(["-c", &group]).stderr(Stdio::null()).status();
                let _ = child.kill();
                let _ = child.wait();
                break None;
            }
        }
        // Seldom: asking may hold up the program.
        if looked.elapsed() > Duration::from_millis(50) {
            looked = Instant::now();
            most = most.max(card_bytes_in_use());
        }
    };
    let [stdout, stderr] = streams.map(|stream| stream.join().unwrap_or_default());
    let seconds = start.elapsed().as_secs_f64();
    Outcome { status, stdout, stderr, seconds, card_bytes: most - before }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Of the first card, by all programs.
fn card_bytes_in_use() -> usize {
    use std::cell::OnceCell;
    use std::sync::Arc;
    thread_local! {
        static CARD: OnceCell<Option<Arc<Device>>> = const { OnceCell::new() };
    }
    CARD.with(|card| {
        let card = card.get_or_init(|| Device::open(0).ok()).as_ref()?;
        let (free, total) = card.memory().ok()?;
        Some(total - free)
    })
    .unwrap_or(0)
}
