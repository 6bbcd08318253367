//! `gguf.h`: metadata and tensor table of a file, to read and to write.

pub mod read;
pub mod write;

use core::ffi::{CStr, c_void};
use core::ptr;
use std::ffi::CString;

use crate::gguf::{DEFAULT_ALIGNMENT, Header, Value};
use crate::quant::QuantType;

/// Bytes as a C string: a NUL inside, which only a hostile file has, becomes a '?'.
fn c_string(bytes: &[u8]) -> CString {
    let bytes: Vec<u8> = bytes.iter().map(|&b| if b == 0 { b'?' } else { b }).collect();
    CString::new(bytes).unwrap_or_default()
}

struct Entry {
    key: CString,
    value: Value,
}

struct Tensor {
    name: CString,
    dims: Vec<u64>,
    ty: QuantType,
    n_bytes: u64,
    /// Where the data begins, counted from the data section.
    offset: u64,
    /// The data in host memory, for writing; NULL for a tensor that was read from a file.
    data: *const c_void,
}

/// Metadata and tensor table of a GGUF file.
pub struct gguf_context {
    entries: Vec<Entry>,
    tensors: Vec<Tensor>,
    /// Where the data section begins in the file that was read, in bytes.
    data_offset: u64,
    /// Alignment of tensor data in bytes.
    alignment: u64,
}

impl gguf_context {
    fn empty() -> Self {
        Self {
            entries: Vec::new(),
            tensors: Vec::new(),
            data_offset: 0,
            alignment: DEFAULT_ALIGNMENT,
        }
    }

    fn of(header: &Header) -> Self {
        let entry = |(key, value): (&str, &Value)| Entry {
            key: c_string(key.as_bytes()),
            value: value.clone(),
        };
        let tensors = header.tensors.iter().map(|t| Tensor {
            name: c_string(t.name.as_bytes()),
            dims: t.shape.dims().to_vec(),
            ty: t.ty,
            n_bytes: t.n_bytes,
            offset: t.offset,
            data: ptr::null(),
        });
        Self {
            entries: header.meta.iter().map(entry).collect(),
            tensors: tensors.collect(),
            data_offset: header.data_offset,
            alignment: header.meta.alignment(),
        }
    }

    fn find(&self, key: &CStr) -> Option<usize> {
        self.entries.iter().position(|entry| entry.key.as_c_str() == key)
    }

    fn find_tensor(&self, name: &CStr) -> Option<usize> {
        self.tensors.iter().position(|tensor| tensor.name.as_c_str() == name)
    }
}
