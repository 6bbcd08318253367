//! Brings the bytes of one file into memory, by whichever way was asked for.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::error::{Error, Result};
use super::mmap::Region;
use super::reader::{Header, parse, parse_prefix};
use crate::util::aligned::AlignedVec;
use crate::{log_debug, log_warn};

/// How tensor data gets into memory: `enum llama_load_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(i32)]
pub enum LoadMode {
    /// The best way that works: a map where the file can be mapped.
    #[default]
    Auto = -1,
    /// Read into memory of our own.
    None = 0,
    /// Mapped.
    Mmap = 1,
    /// Read, then pinned in RAM.
    Mlock = 2,
    /// Mapped and pinned in RAM.
    MmapMlock = 3,
    /// Read past the page cache where the file system can, else read.
    DirectIo = 4,
}

impl LoadMode {
    /// The mode with this number in `enum llama_load_mode`.
    pub fn from_id(id: i32) -> Option<Self> {
        [Self::Auto, Self::None, Self::Mmap, Self::Mlock, Self::MmapMlock, Self::DirectIo]
            .into_iter()
            .find(|m| *m as i32 == id)
    }

    pub(super) fn maps(self) -> bool {
        matches!(self, Self::Auto | Self::Mmap | Self::MmapMlock)
    }

    pub(super) fn locks(self) -> bool {
        matches!(self, Self::Mlock | Self::MmapMlock)
    }
}

/// Is told how far loading is, and can stop it.
pub trait Progress {
    /// `done` goes from 0 to 1. False stops with [`Error::Cancelled`].
    fn update(&mut self, done: f32) -> bool;
}

impl<F: FnMut(f32) -> bool> Progress for F {
    fn update(&mut self, done: f32) -> bool {
        self(done)
    }
}

/// Counts bytes towards a [`Progress`].
pub(super) struct Tally<'a> {
    pub(super) to: &'a mut dyn Progress,
    pub(super) done: u64,
    pub(super) total: u64,
}

impl Tally<'_> {
    pub(super) fn add(&mut self, bytes: usize) -> Result<()> {
        self.done += bytes as u64;
        let share = self.done as f64 / self.total.max(1) as f64;
        if self.to.update(share.min(1.0) as f32) { Ok(()) } else { Err(Error::Cancelled) }
    }
}

/// Bytes between two progress calls.
const STEP: usize = 32 << 20;
/// What `O_DIRECT` wants offsets, lengths and addresses to be multiples of; devices ask for 512
/// to 4096.
const DIRECT_ALIGN: usize = 4096;
const DIRECT_STEP: usize = 4 << 20;
#[cfg(target_os = "linux")]
const O_DIRECT: i32 = libc::O_DIRECT;
#[cfg(not(target_os = "linux"))]
const O_DIRECT: i32 = 0; // reads through the page cache

/// Opens a regular file.
pub(super) fn open(path: &Path) -> Result<File> {
    let name = path.to_string_lossy();
    let open = || {
        // Before opening: opening a pipe would wait for a writer.
        let kind = std::fs::metadata(path).map_err(Error::io("open the file"))?;
        if !kind.is_file() {
            return Err(Error::NotAFile);
        }
        File::open(path).map_err(Error::io("open the file"))
    };
    open().map_err(|e| e.in_file(&name))
}

/// Parses the header, from a map where the mode allows one, which is then given back.
pub(super) fn header(
    file: &File,
    len: u64,
    mode: LoadMode,
    name: &str,
) -> Result<(Header, Option<Region>)> {
    if mode.maps() && len > 0 {
        match Region::map(file) {
            Ok(map) => return Ok((parse(&map, name)?, Some(map))),
            Err(e) => log_warn!("{name}: cannot be mapped, will be read: {e}"),
        }
    }
    Ok((read_header(file, len, name)?, None))
}

/// Reads as much of the file as its header needs.
fn read_header(file: &File, len: u64, name: &str) -> Result<Header> {
    let mut want = len.min(1 << 20);
    loop {
        let mut prefix = AlignedVec::<u8>::try_zeroed(want as usize)?;
        file.read_exact_at(&mut prefix, 0).map_err(Error::io("read the header"))?;
        match parse_prefix(&prefix, len, name) {
            Err(e) => match *e.cause() {
                Error::Truncated { need, .. } if need <= len && want < len => {
                    want = need.max(want.saturating_mul(4)).min(len);
                }
                _ => return Err(e),
            },
            ok => return ok,
        }
    }
}

/// Prepares a mapped file for use: `prefetch` brings the data from `at` on into memory.
pub(super) fn touch(map: &Region, at: usize, prefetch: bool, tally: &mut Tally<'_>) -> Result<()> {
    let mut populate = prefetch;
    if prefetch {
        map.will_need(at, map.len() - at);
    }
    for start in (at..map.len()).step_by(STEP) {
        let len = STEP.min(map.len() - start);
        populate = populate && map.populate(start, len);
        tally.add(len)?;
    }
    Ok(())
}

/// Reads `len` bytes of the file, from offset `at` on.
pub(super) fn read(
    file: &File,
    path: Option<&Path>,
    at: u64,
    len: usize,
    mode: LoadMode,
    tally: &mut Tally<'_>,
) -> Result<Region> {
    let mut bytes = AlignedVec::<u8>::try_zeroed(len)?;
    let mut done = 0;
    if mode == LoadMode::DirectIo {
        done = read_direct(path, at, &mut bytes, tally)?;
    }
    for chunk in bytes[done..].chunks_mut(STEP) {
        file.read_exact_at(chunk, at + done as u64).map_err(Error::io("read tensor data"))?;
        done += chunk.len();
        tally.add(chunk.len())?;
    }
    Ok(Region::Heap { bytes, locked: false })
}

/// Reads past the page cache; gives how many bytes it got, which the caller completes.
fn read_direct(
    path: Option<&Path>,
    at: u64,
    out: &mut [u8],
    tally: &mut Tally<'_>,
) -> Result<usize> {
    let opened = path.map(|p| OpenOptions::new().read(true).custom_flags(O_DIRECT).open(p));
    let Some(Ok(file)) = opened else {
        log_debug!("direct I/O is not possible here, reading through the page cache");
        return Ok(0);
    };
    let mut bounce = AlignedVec::<u8>::try_zeroed(DIRECT_STEP + DIRECT_ALIGN)?;
    let shift = bounce.as_ptr().align_offset(DIRECT_ALIGN);
    let bounce = &mut bounce[shift..shift + DIRECT_STEP];

    // Whole blocks of the file, of which the first and the last are wanted in part.
    let mut skip = (at % DIRECT_ALIGN as u64) as usize;
    let mut from = at - skip as u64;
    let mut done = 0;
    while done < out.len() {
        let got = match file.read_at(bounce, from) {
            Ok(n) if n > skip => n,
            Ok(_) => return Ok(done),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => {
                log_debug!("direct I/O failed, reading through the page cache: {e}");
                return Ok(done);
            }
        };
        let n = (got - skip).min(out.len() - done);
        out[done..done + n].copy_from_slice(&bounce[skip..skip + n]);
        done += n;
        tally.add(n)?;
        if !got.is_multiple_of(DIRECT_ALIGN) {
            return Ok(done);
        }
        from += got as u64;
        skip = 0;
    }
    Ok(done)
}
