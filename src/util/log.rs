//! The process-wide log, with the semantics of `llama_log_set`: one sink, levels, and a
//! "continue" level for text that goes on an unfinished line.
//!
//! No `log` or `tracing` here: a cdylib carries its own copy of their globals, so a host program
//! could never see the messages. The C boundary installs a [`Sink`] that calls the user's callback.

use std::fmt;
use std::io::Write;
use std::sync::{Arc, RwLock};

/// Severity of a message; the numbers are `enum ggml_log_level`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i32)]
pub enum Level {
    /// Plain output without a level.
    None = 0,
    /// For developers.
    Debug = 1,
    /// Normal progress.
    Info = 2,
    /// Something is off but work goes on.
    Warn = 3,
    /// A call failed.
    Error = 4,
    /// Continues the line of the message before.
    Cont = 5,
}

/// Where messages go. Called from any thread, with no lock held.
pub trait Sink: Send + Sync {
    /// Takes one piece of text; a full line ends with `\n`.
    fn write(&self, level: Level, text: &str);
}

static SINK: RwLock<Option<Arc<dyn Sink>>> = RwLock::new(None);

/// Installs a sink; `None` restores the default, which prints Info and above to stderr.
pub fn set_sink(sink: Option<Arc<dyn Sink>>) {
    *SINK.write().unwrap_or_else(|e| e.into_inner()) = sink;
}

/// Sends one message. Prefer the macros [`crate::log_error!`] and friends.
pub fn emit(level: Level, args: fmt::Arguments<'_>) {
    let sink = SINK.read().unwrap_or_else(|e| e.into_inner()).clone();
    let text = args.to_string();
    match sink {
        Some(sink) => sink.write(level, &text),
        None if level != Level::Debug => {
            // A closed stderr is no reason to fail the caller.
            let _ = std::io::stderr().lock().write_all(text.as_bytes());
        }
        None => {}
    }
}

/// Sends one line: the message and a line feed.
pub fn line(level: Level, args: fmt::Arguments<'_>) {
    emit(level, format_args!("{args}\n"));
}

/// Logs one line at error level.
#[macro_export]
macro_rules! log_error {
    ($($arg:tt)*) => {
        $crate::util::log::line($crate::util::log::Level::Error, format_args!($($arg)*))
    };
}
/// Logs one line at warning level.
#[macro_export]
macro_rules! log_warn {
    ($($arg:tt)*) => {
        $crate::util::log::line($crate::util::log::Level::Warn, format_args!($($arg)*))
    };
}
/// Logs one line at info level.
#[macro_export]
macro_rules! log_info {
    ($($arg:tt)*) => {
        $crate::util::log::line($crate::util::log::Level::Info, format_args!($($arg)*))
    };
}
/// Logs one line at debug level.
#[macro_export]
macro_rules! log_debug {
    ($($arg:tt)*) => {
        $crate::util::log::line($crate::util::log::Level::Debug, format_args!($($arg)*))
    };
}
