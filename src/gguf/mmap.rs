//! Where tensor data lies: a read-only map of the file, or memory of our own.
#![allow(unsafe_code, reason = "maps files")]

use std::fs::File;
use std::io;
use std::ops::{Deref, Range};

use crate::util::aligned::AlignedVec;
use crate::util::sys;

/// Bytes of one file that live as long as this value.
pub(super) enum Region {
    /// The whole file, mapped.
    Map(memmap2::Mmap),
    /// Its data section, read.
    Heap {
        /// The bytes.
        bytes: AlignedVec<u8>,
        /// Whether they are pinned and have to be released before they are freed.
        locked: bool,
    },
}

impl Region {
    /// Maps a whole file for reading.
    pub(super) fn map(file: &File) -> io::Result<Self> {
        // SAFETY: the map is private and read-only. What cannot be ruled out is that another
        // process changes or truncates the file meanwhile: as with every program that maps
        // models this gives other weights or SIGBUS. Values are checked when they are read and
        // copied, and no later code relies on weights for memory safety. Callers who cannot
        // trust the file to stay choose LoadMode::None.
        unsafe { memmap2::Mmap::map(file) }.map(Self::Map)
    }

    /// Asks the system to read these bytes of a map soon.
    pub(super) fn will_need(&self, at: usize, len: usize) {
        if let Self::Map(map) = self {
            // Advice only: the data comes in on first use where it is refused.
            let _ = map.advise_range(memmap2::Advice::WillNeed, at, len);
        }
    }

    /// Brings these bytes of a map into memory now; false where the system cannot.
    pub(super) fn populate(&self, at: usize, len: usize) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Map(map) => map.advise_range(memmap2::Advice::PopulateRead, at, len).is_ok(),
            _ => false,
        }
    }

    /// Gives the memory of these bytes of a map back until they are read again; false where there
    /// is no file to read them from, or the system does not.
    pub(super) fn release(&self, range: Range<usize>) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Map(map) => {
                // Whole pages inside of the range: its neighbours keep theirs.
                let start = range.start.next_multiple_of(sys::page_size());
                let end = range.end / sys::page_size() * sys::page_size();
                // SAFETY: the map is a private, read-only one of a file that nobody wrote to
                // through it, so a dropped page reads as before.
                start >= end
                    || unsafe {
                        map.unchecked_advise_range(
                            memmap2::UncheckedAdvice::DontNeed,
                            start,
                            end - start,
                        )
                    }
                    .is_ok()
            }
            _ => false,
        }
    }

    /// Pins the bytes from `at` on in memory.
    pub(super) fn lock(&mut self, at: usize) -> io::Result<()> {
        sys::lock_memory(self.get(at..).unwrap_or_default())?;
        if let Self::Heap { locked, .. } = self {
            *locked = true;
        }
        Ok(())
    }
}

impl Deref for Region {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Heap { bytes, .. } => bytes,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // Unmapping releases a map's pages by itself; the allocator may reuse those of a buffer.
        if let Self::Heap { bytes, locked: true } = self {
            sys::unlock_memory(bytes);
        }
    }
}
