//! GGUF files: bytes ⇄ typed values, memory maps, splits, writer.
//!
//! [`ModelFiles::open`] is the way in for models: one file or a set of splits, its
//! [`Metadata`], its tensor table and, after [`ModelFiles::load_tensors`], the data.
//! [`parse`] reads the header of a file that is in memory. [`Writer`] makes files.
//!
//! Files are hostile until proven good: the reader holds every count, length, offset and type
//! against the bytes that are there before it allocates or computes with it.
//!
//! | file | what it is |
//! |---|---|
//! | `value` | the typed values |
//! | `meta` | key-value pairs: order, lookup, conversion, overrides |
//! | `reader` | header parser |
//! | `files` | opening and loading models, `split` their names, `load` their bytes |
//! | `mmap` | maps and buffers; the only `unsafe` here |
//! | `writer` | the inverse of the reader |
//!
//! To add a value type: a variant in [`Value`], [`Array`] and [`GgufType`]; the compiler then
//! names the places in reader and writer. To add a way to load: a variant of [`LoadMode`] and
//! an arm in `load`.

mod error;
mod files;
mod load;
mod meta;
mod mmap;
mod reader;
mod split;
mod value;
mod writer;

pub use error::{Error, Result};
pub use files::{LoadOptions, ModelFiles, TensorData};
pub use load::{LoadMode, Progress};
pub use meta::{KvOverride, Magic, Metadata, OverrideValue};
pub use reader::{DEFAULT_ALIGNMENT, Header, MAX_TENSOR_NAME, TensorInfo, parse, parse_prefix};
pub use split::{split_path, split_prefix};
pub use value::{Array, ByteStr, GgufType, StrArray, Value};
pub use writer::{DataWriter, Writer};
