//! Files that get their names when they are whole.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::QuantizeError;
use crate::gguf::ModelFiles;

/// A file that is being written.
pub(super) struct Output {
    out: BufWriter<File>,
    path: PathBuf,
    /// Its name until it is whole; none for what is no regular file, such as a pipe.
    unfinished: Option<PathBuf>,
}

impl Output {
    /// Begins a file that will be called `path`, and is none of the files that are read.
    pub(super) fn create(path: &Path, sources: &ModelFiles) -> Result<Self, QuantizeError> {
        let io = |action| QuantizeError::io(action, path);
        // What a link leads to is replaced, not the link.
        let real = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        match fs::metadata(&real) {
            Ok(found) => {
                let same = |source: &Path| {
                    fs::metadata(source)
                        .is_ok_and(|s| (s.dev(), s.ino()) == (found.dev(), found.ino()))
                };
                if sources.paths().any(same) {
                    return Err(QuantizeError::SameFile { path: path.into() });
                }
                // Renaming would replace a file that nobody may write to.
                let file = File::options().write(true).open(&real).map_err(io("write to"))?;
                if !found.is_file() {
                    return Ok(Self { out: buffered(file), path: real, unfinished: None });
                }
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(io("write to")(e)),
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let mut unfinished = OsString::from(&real);
        unfinished.push(format!(".{}-{count}.tmp", std::process::id()));
        let file = File::create(&unfinished).map_err(io("create"))?;
        Ok(Self { out: buffered(file), path: real, unfinished: Some(unfinished.into()) })
    }

    /// What it will be called.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes what is in memory.
    pub(super) fn end(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Gives the file its name.
    pub(super) fn keep(mut self) -> Result<(), QuantizeError> {
        let path = self.path.clone();
        self.end().map_err(QuantizeError::io("write", &path))?;
        if let Some(unfinished) = &self.unfinished {
            fs::rename(unfinished, &path).map_err(QuantizeError::io("replace", &path))?;
            self.unfinished = None;
        }
        Ok(())
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // It is not there any more, or there is nothing to be done.
            let _ = fs::remove_file(unfinished);
        }
    }
}

fn buffered(file: File) -> BufWriter<File> {
    BufWriter::with_capacity(1 << 20, file)
}
