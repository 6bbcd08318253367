//! Models as they lie on disk: one file or a set of splits, with or without their data.

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use super::error::{Error, Result};
use super::load::{self, LoadMode, Progress, Tally};
use super::meta::{KvOverride, Metadata};
use super::mmap::Region;
use super::reader::{Header, TensorInfo};
use super::split::{split_path, split_prefix};
use crate::log_warn;
use crate::quant;
use crate::util::aligned::AlignedVec;

const SPLIT_NO: &str = "split.no";
const SPLIT_COUNT: &str = "split.count";
const SPLIT_TENSORS: &str = "split.tensors.count";

/// How to open and load a model.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// How tensor data gets into memory.
    pub mode: LoadMode,
    /// Values in place of the file's.
    pub kv_overrides: Vec<KvOverride>,
    /// Metadata for a tokenizer only: no tensor data.
    pub vocab_only: bool,
    /// Metadata and tensor table only: no tensor data.
    pub no_alloc: bool,
    /// Look for values in the data that are no finite numbers.
    pub check_tensors: bool,
    /// Bring mapped data into memory while loading; else pages come in when they are first used.
    pub prefetch: bool,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            mode: LoadMode::Auto,
            kv_overrides: Vec::new(),
            vocab_only: false,
            no_alloc: false,
            check_tensors: false,
            prefetch: true,
        }
    }
}

/// The bytes of one tensor. Cheap to clone; keeps its file's data alive.
#[derive(Clone)]
pub struct TensorData {
    region: Arc<Region>,
    range: Range<usize>,
}

impl TensorData {
    /// Bytes of our own, in place of the file's.
    pub fn from_bytes(bytes: AlignedVec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { region: Arc::new(Region::Heap { bytes, locked: false }), range }
    }

    /// Whether the bytes are mapped from a file.
    pub fn is_mapped(&self) -> bool {
        matches!(*self.region, Region::Map(_))
    }

    /// Gives the memory of bytes that nobody needs for now back to the system; they come back from
    /// the file when they are read again. False where they would be lost, and stay.
    pub fn release(&self) -> bool {
        self.region.release(self.range.clone())
    }
}

impl Deref for TensorData {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.region[self.range.clone()]
    }
}

impl fmt::Debug for TensorData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TensorData({} bytes)", self.range.len())
    }
}

/// One file of a model.
struct Part {
    name: String,
    path: Option<PathBuf>,
    /// Open until the data is loaded.
    file: Option<File>,
    /// Bytes in the data section.
    data_len: u64,
    /// Where the data section starts in the file, in bytes.
    data_offset: u64,
    map: Option<Region>,
    loaded: Option<Loaded>,
}

struct Loaded {
    region: Arc<Region>,
    /// Where the data section starts in the region.
    base: usize,
}

/// An opened model: metadata and tensor table now, the data after [`Self::load_tensors`].
pub struct ModelFiles {
    meta: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<Box<str>, usize>,
    parts: Vec<Part>,
    options: LoadOptions,
}

impl ModelFiles {
    /// Opens a file, or the whole set when it is the first of a set of splits.
    pub fn open(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Self> {
        let path = path.as_ref();
        let mut this =
            Self::first(load::open(path)?, Some(path), &path.to_string_lossy(), options)?;
        let count = this.split_count()?;
        if count > 1 {
            this.check_split_no(&this.meta, 0)?;
            let name = path.to_string_lossy();
            let prefix = split_prefix(&name, 0, count).ok_or_else(|| {
                let expected = format!("a name that ends in {}", split_path("", 0, count));
                Error::split(format!("the name {name}"), expected).in_file(&name)
            })?;
            for no in 1..count {
                this.add_split(Path::new(&split_path(prefix, no, count)), no)?;
            }
        }
        this.finish(count)
    }

    /// Opens a set of splits by their paths, in order; their names can be anything.
    pub fn open_splits<P: AsRef<Path>>(paths: &[P], options: &LoadOptions) -> Result<Self> {
        let first = paths
            .first()
            .map(AsRef::as_ref)
            .ok_or_else(|| Error::split("no path", "at least one"))?;
        let mut this =
            Self::first(load::open(first)?, Some(first), &first.to_string_lossy(), options)?;
        let count = this.split_count()?;
        if count as usize != paths.len() {
            let found = format!("{} paths", paths.len());
            let expected = format!("{count}, by the first file's {SPLIT_COUNT}");
            return Err(Error::split(found, expected).in_file(this.meta.file()));
        }
        if count > 1 {
            this.check_split_no(&this.meta, 0)?;
        }
        for (no, path) in (0..count).zip(paths).skip(1) {
            this.add_split(path.as_ref(), no)?;
        }
        this.finish(count)
    }

    /// Takes over a file that is open already. `name` is for messages. Splits have to be
    /// opened by path.
    pub fn open_file(file: File, name: &str, options: &LoadOptions) -> Result<Self> {
        let this = Self::first(file, None, name, options)?;
        match this.split_count()? {
            count @ 0..=1 => this.finish(count),
            count => {
                let found = format!("one of {count} files, opened without a path");
                Err(Error::split(found, "a path").in_file(name))
            }
        }
    }

    /// The metadata, of the first file where there are several.
    pub fn meta(&self) -> &Metadata {
        &self.meta
    }

    /// All tensors, in the order of the files.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor of this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.index.get(name)?)
    }

    /// Size of all tensors together, in bytes.
    pub fn n_bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.n_bytes).fold(0, u64::saturating_add)
    }

    /// The paths of the files, as far as they were opened by path.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.parts.iter().filter_map(|part| part.path.as_deref())
    }

    /// The metadata alone; the files are closed.
    pub fn into_meta(self) -> Metadata {
        self.meta
    }

    /// Brings the data into memory as the options say; does nothing when they ask for none.
    ///
    /// `progress` hears 0 at the beginning and 1 at the end.
    pub fn load_tensors(&mut self, progress: &mut dyn Progress) -> Result<()> {
        let total = self.parts.iter().map(|p| p.data_len).fold(0, u64::saturating_add);
        let mut tally = Tally { to: progress, done: 0, total };
        tally.add(0)?;
        if self.wants_data() {
            for part in &mut self.parts {
                let name = part.name.clone();
                part.load(&self.options, &mut tally).map_err(|e| e.in_file(&name))?;
            }
            if self.options.check_tensors {
                self.check_values()?;
            }
        }
        if tally.to.update(1.0) { Ok(()) } else { Err(Error::Cancelled) }
    }

    /// The bytes of a tensor of this model.
    pub fn data(&self, tensor: &TensorInfo) -> Result<TensorData> {
        let not_loaded = || Error::NotLoaded { tensor: tensor.name.to_string() };
        let part = self.parts.get(usize::from(tensor.split)).ok_or_else(not_loaded)?;
        let loaded = part.loaded.as_ref().ok_or_else(not_loaded)?;
        let range = || {
            let start = loaded.base.checked_add(usize::try_from(tensor.offset).ok()?)?;
            let end = start.checked_add(usize::try_from(tensor.n_bytes).ok()?)?;
            (end <= loaded.region.len()).then_some(start..end)
        };
        let range = range().ok_or_else(not_loaded)?;
        Ok(TensorData { region: Arc::clone(&loaded.region), range })
    }

    fn wants_data(&self) -> bool {
        !self.options.vocab_only && !self.options.no_alloc
    }

    fn first(file: File, path: Option<&Path>, name: &str, options: &LoadOptions) -> Result<Self> {
        let (part, header) = Part::open(file, path, name.to_owned(), options)?;
        let mut meta = header.meta;
        meta.set_overrides(&options.kv_overrides);
        let mut this = Self {
            meta,
            tensors: Vec::new(),
            index: HashMap::new(),
            parts: Vec::new(),
            options: options.clone(),
        };
        this.add(part, header.tensors)?;
        Ok(this)
    }

    fn add_split(&mut self, path: &Path, no: u32) -> Result<()> {
        let name = path.to_string_lossy().into_owned();
        let (part, header) = Part::open(load::open(path)?, Some(path), name, &self.options)?;
        self.check_split_no(&header.meta, no)?;
        if header.meta.magic() != self.meta.magic() {
            let found = format!("magic {:?}", header.meta.magic());
            let expected = format!("{:?} as in the first file", self.meta.magic());
            return Err(Error::split(found, expected).in_file(&part.name));
        }
        self.add(part, header.tensors)
    }

    fn add(&mut self, part: Part, tensors: Vec<TensorInfo>) -> Result<()> {
        let split = u16::try_from(self.parts.len())
            .map_err(|_| Error::split("more than 65536 files", "fewer"))?;
        for mut info in tensors {
            info.split = split;
            if self.index.insert(info.name.clone(), self.tensors.len()).is_some() {
                let found = "the name in two files";
                return Err(Error::tensor(&info.name, found, "unique names").in_file(&part.name));
            }
            self.tensors.push(info);
        }
        self.parts.push(part);
        Ok(())
    }

    /// Number of files in the set. Overrides have no say in this.
    fn split_count(&self) -> Result<u32> {
        let count = self
            .meta
            .file_value(SPLIT_COUNT)
            .map_or(Some(1), |v| u16::try_from(v.as_int()?).ok().map(|n| u32::from(n.max(1))));
        count.ok_or_else(|| {
            let found = self.meta.file_value(SPLIT_COUNT).map(|v| v.to_string());
            Error::key(SPLIT_COUNT, found.unwrap_or_default(), "a u16").in_file(self.meta.file())
        })
    }

    fn check_split_no(&self, meta: &Metadata, no: u32) -> Result<()> {
        let found = meta.file_value(SPLIT_NO);
        if found.and_then(|v| v.as_int()) == Some(no.into()) {
            return Ok(());
        }
        let found = match found {
            Some(v) => format!("{SPLIT_NO} = {v}"),
            None => format!("no {SPLIT_NO}"),
        };
        let expected = match no {
            0 => "0: open a set by its first file".into(),
            no => no.to_string(),
        };
        Err(Error::split(found, expected).in_file(meta.file()))
    }

    fn finish(self, count: u32) -> Result<Self> {
        let claimed = self.meta.file_value(SPLIT_TENSORS).filter(|_| count > 1);
        match claimed {
            Some(n) if n.as_int() != Some(self.tensors.len() as i128) => {
                let found = format!("{} tensors in {count} files", self.tensors.len());
                let expected = format!("{n}, by {SPLIT_TENSORS}");
                Err(Error::split(found, expected).in_file(self.meta.file()))
            }
            _ => Ok(self),
        }
    }

    fn check_values(&self) -> Result<()> {
        self.tensors.par_iter().try_for_each(|t| {
            quant::validate(t.ty, &self.data(t)?).map_err(|bad| {
                let file = &self.parts[usize::from(t.split)].name;
                Error::tensor(&t.name, bad.to_string(), "finite numbers").in_file(file)
            })
        })
    }
}

impl fmt::Debug for ModelFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelFiles")
            .field("file", &self.meta.file())
            .field("n_files", &self.parts.len())
            .field("n_kv", &self.meta.len())
            .field("n_tensors", &self.tensors.len())
            .finish()
    }
}

impl Part {
    fn open(
        file: File,
        path: Option<&Path>,
        name: String,
        options: &LoadOptions,
    ) -> Result<(Self, Header)> {
        let stat = file.metadata().map_err(Error::io("read the file's size"));
        let stat = stat.map_err(|e| e.in_file(&name))?;
        if !stat.is_file() {
            return Err(Error::NotAFile.in_file(&name));
        }
        let (header, map) =
            load::header(&file, stat.len(), options.mode, &name).map_err(|e| e.in_file(&name))?;
        let wanted = !options.vocab_only && !options.no_alloc;
        let last = header.tensors.last();
        let part = Self {
            // The reader has checked that the data lies inside the file.
            data_len: last.map_or(0, |t| t.offset + t.n_bytes),
            data_offset: header.data_offset,
            path: path.map(Path::to_owned),
            file: (wanted && map.is_none()).then_some(file),
            map: map.filter(|_| wanted),
            loaded: None,
            name,
        };
        Ok((part, header))
    }

    fn load(&mut self, options: &LoadOptions, tally: &mut Tally<'_>) -> Result<()> {
        let (mut region, base) = if let Some(map) = self.map.take() {
            let base = usize::try_from(self.data_offset).unwrap_or(usize::MAX).min(map.len());
            load::touch(&map, base, options.prefetch, tally)?;
            (map, base)
        } else if let Some(file) = self.file.take() {
            let len = usize::try_from(self.data_len).unwrap_or(usize::MAX);
            let path = self.path.as_deref();
            (load::read(&file, path, self.data_offset, len, options.mode, tally)?, 0)
        } else {
            return Ok(()); // a second call
        };
        if options.mode.locks()
            && let Err(e) = region.lock(base)
        {
            log_warn!("{}: cannot pin the data in memory, see `ulimit -l`: {e}", self.name);
        }
        self.loaded = Some(Loaded { region: Arc::new(region), base });
        Ok(())
    }
}
