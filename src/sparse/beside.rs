//! Small files beside a model, or in the user's folder for caches where the model's folder cannot
//! be written: `$XDG_CACHE_HOME/powerinfer/` (`~/.cache` without the variable), under the model's
//! fingerprint.

use std::cmp::Reverse;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::model::Fingerprint;

/// What the system refuses.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {what}: {error}", path = path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What was tried.
    pub what: &'static str,
    /// What the system says.
    pub error: io::Error,
}

impl FileError {
    pub(super) fn at(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self { path: path.to_owned(), what, error }
    }
}

/// A path with something behind it.
pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// Where a file with this suffix may be: at `explicit` and nowhere else, or beside the model (`None`
/// when it has no path) and in the caches' folder.
pub(super) fn places(
    fingerprint: Fingerprint,
    model: Option<&Path>,
    explicit: Option<&Path>,
    suffix: &str,
) -> Vec<PathBuf> {
    if let Some(path) = explicit {
        return vec![path.to_owned()];
    }
    let beside = model.map(|path| with_suffix(path, suffix));
    let cached = caches().map(|dir| dir.join(format!("powerinfer/{fingerprint}{suffix}")));
    beside.into_iter().chain(cached).collect()
}

/// The files that are there, the newest first; of one age in the given order.
pub(super) fn newest_first(paths: &[PathBuf]) -> Vec<&PathBuf> {
    let made = |path: &PathBuf| std::fs::metadata(path).and_then(|m| m.modified()).ok();
    let mut found: Vec<_> = paths.iter().filter_map(|path| Some((made(path)?, path))).collect();
    found.sort_by_key(|found| Reverse(found.0));
    found.into_iter().map(|(_, path)| path).collect()
}

/// Writes a file in place of what is there; readers see the old one or the new.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(FileError::at(path, "make the folder"))?;
    }
    let unfinished = with_suffix(path, &format!(".{}.tmp", std::process::id()));
    let write = || {
        let mut file = File::create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&unfinished, path)
    };
    write().map_err(|error| {
        // What is left of it, if anything.
        let _ = std::fs::remove_file(&unfinished);
        FileError::at(path, "write")(error)
    })
}

/// The user's folder for caches.
fn caches() -> Option<PathBuf> {
    let var = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    var("XDG_CACHE_HOME").or_else(|| Some(var("HOME")?.join(".cache")))
}
