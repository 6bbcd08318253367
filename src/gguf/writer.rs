//! Writes files: the inverse of the reader, always in version 3.
//!
//! A [`Writer`] collects key-value pairs and the tensor table; [`Writer::start`] writes them and
//! gives a [`DataWriter`] that takes the tensors' bytes as a stream, so that a model never has
//! to be in memory as a whole.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use super::error::{Error, Result};
use super::meta::{Magic, Metadata};
use super::reader::{
    ALIGNMENT_KEY, DEFAULT_ALIGNMENT, TensorInfo, alignment_of, check_key, check_tensor_name,
    layout, pad,
};
use super::value::{Array, Value};
use crate::quant::QuantType;

const VERSION: u32 = 3;

/// The header of a file to be.
#[derive(Clone, Debug)]
pub struct Writer {
    magic: Magic,
    kvs: Vec<(Box<str>, Value)>,
    index: HashMap<Box<str>, usize>,
    /// Offsets are set when writing: they depend on the alignment.
    tensors: Vec<TensorInfo>,
    names: HashSet<Box<str>>,
}

impl Writer {
    /// A file without keys and tensors.
    pub fn new(magic: Magic) -> Self {
        Self {
            magic,
            kvs: Vec::new(),
            index: HashMap::new(),
            tensors: Vec::new(),
            names: HashSet::new(),
        }
    }

    /// A file with the magic and all pairs of another one, without overrides and tensors.
    pub fn copy_of(meta: &Metadata) -> Self {
        let mut this = Self::new(meta.magic());
        for (i, (key, value)) in meta.iter().enumerate() {
            this.index.insert(key.into(), i);
            this.kvs.push((key.into(), value.clone()));
        }
        this
    }

    /// What the file will start with.
    pub fn magic(&self) -> Magic {
        self.magic
    }

    /// Adds a pair, or puts a new value in the place of the key's old one.
    pub fn set(&mut self, key: &str, value: Value) -> Result<()> {
        check_key(key.as_bytes(), self.kvs.len() as u64)?;
        if key == ALIGNMENT_KEY {
            alignment_of(&value)?;
        }
        match self.index.get(key) {
            Some(&i) => self.kvs[i].1 = value,
            None => {
                self.index.insert(key.into(), self.kvs.len());
                self.kvs.push((key.into(), value));
            }
        }
        Ok(())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.kvs.get(*self.index.get(key)?).map(|(_, v)| v)
    }

    /// Takes a pair out and gives its value.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.index.remove(key)?;
        for i in self.index.values_mut().filter(|i| **i > at) {
            *i -= 1;
        }
        Some(self.kvs.remove(at).1)
    }

    /// Appends a tensor: its name, its extents (contiguous dimension first) and its type.
    pub fn add_tensor(&mut self, name: &str, dims: &[u64], ty: QuantType) -> Result<()> {
        check_tensor_name(name.as_bytes(), self.tensors.len() as u64)?;
        let (shape, n_bytes) = layout(name, dims, ty)?;
        if !self.names.insert(name.into()) {
            return Err(Error::tensor(name, "the name twice", "unique names"));
        }
        let name = name.into();
        self.tensors.push(TensorInfo { name, shape, ty, n_bytes, offset: 0, split: 0 });
        Ok(())
    }

    /// Alignment of tensor data in bytes, by the key `general.alignment`.
    pub fn alignment(&self) -> u64 {
        self.get(ALIGNMENT_KEY).and_then(|v| alignment_of(v).ok()).unwrap_or(DEFAULT_ALIGNMENT)
    }

    /// The tensor table, with the offsets that the file will have.
    pub fn layout(&self) -> Result<Vec<TensorInfo>> {
        let mut offset = Some(0u64);
        let mut out = self.tensors.clone();
        for t in &mut out {
            t.offset = offset.ok_or_else(|| {
                Error::tensor(&t.name, "2^64 bytes or more before it", "less data")
            })?;
            offset = t.offset.checked_add(t.n_bytes).and_then(|end| pad(end, self.alignment()));
        }
        Ok(out)
    }

    /// The bytes from the magic to the start of the data. Padded where there are tensors.
    pub fn header(&self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        out.extend_from_slice(self.magic.bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(self.tensors.len() as u64).to_le_bytes());
        out.extend_from_slice(&(self.kvs.len() as u64).to_le_bytes());
        for (key, value) in &self.kvs {
            put_str(&mut out, key.as_bytes());
            out.extend_from_slice(&(value.gguf_type() as u32).to_le_bytes());
            put_value(&mut out, value);
        }
        for t in self.layout()? {
            put_str(&mut out, t.name.as_bytes());
            let dims = t.shape.dims();
            out.extend_from_slice(&(dims.len() as u32).to_le_bytes());
            put_all(&mut out, dims, |d| d.to_le_bytes());
            out.extend_from_slice(&(t.ty as u32).to_le_bytes());
            out.extend_from_slice(&t.offset.to_le_bytes());
        }
        if !self.tensors.is_empty() {
            out.resize(out.len().next_multiple_of(self.alignment() as usize), 0);
        }
        Ok(out)
    }

    /// Writes the header; the tensors' bytes go into what this gives.
    pub fn start<W: Write>(&self, mut out: W) -> Result<DataWriter<W>> {
        out.write_all(&self.header()?).map_err(Error::io("write the header"))?;
        let tensors = self.layout()?;
        Ok(DataWriter { out, tensors, alignment: self.alignment(), next: 0, written: 0 })
    }
}

/// Takes the bytes of the tensors, in the order of the table.
#[derive(Debug)]
pub struct DataWriter<W> {
    out: W,
    tensors: Vec<TensorInfo>,
    alignment: u64,
    /// The tensor whose bytes come next.
    next: usize,
    /// How many of its bytes are written.
    written: u64,
}

impl<W: Write> DataWriter<W> {
    /// The tensor whose bytes come next; `None` when all are written.
    pub fn expects(&self) -> Option<&TensorInfo> {
        self.tensors.get(self.next)
    }

    /// Writes the next bytes of the current tensor: all of them or a part. A tensor without
    /// bytes wants one call with none.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(t) = self.tensors.get(self.next) else {
            let found = format!("{} more bytes", bytes.len());
            return Err(Error::tensor("after the last", found, "no data"));
        };
        let rest = t.n_bytes - self.written;
        if bytes.len() as u64 > rest {
            let found = format!("{} more bytes", bytes.len());
            return Err(Error::tensor(&t.name, found, format!("{rest} of {}", t.n_bytes)));
        }
        self.out.write_all(bytes).map_err(Error::io("write tensor data"))?;
        self.written += bytes.len() as u64;
        if self.written == t.n_bytes {
            let padding = self.written.next_multiple_of(self.alignment) - self.written;
            self.put_zeros(padding)?;
            self.next += 1;
            self.written = 0;
        }
        Ok(())
    }

    /// Checks that every tensor is complete, flushes, and gives the output back.
    pub fn finish(mut self) -> Result<W> {
        if let Some(t) = self.expects() {
            let found = format!("{} bytes written", self.written);
            return Err(Error::tensor(&t.name, found, format!("{} bytes", t.n_bytes)));
        }
        self.out.flush().map_err(Error::io("write the file"))?;
        Ok(self.out)
    }

    fn put_zeros(&mut self, mut n: u64) -> Result<()> {
        const ZEROS: [u8; 4096] = [0; 4096];
        while n > 0 {
            let now = n.min(ZEROS.len() as u64);
            self.out.write_all(&ZEROS[..now as usize]).map_err(Error::io("write padding"))?;
            n -= now;
        }
        Ok(())
    }
}

fn put_str(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_all<T: Copy, const N: usize>(out: &mut Vec<u8>, items: &[T], bytes: impl Fn(T) -> [u8; N]) {
    items.iter().for_each(|v| out.extend_from_slice(&bytes(*v)));
}

fn put_value(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::U8(v) => out.push(*v),
        Value::I8(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I16(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F32(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::U64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::I64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::F64(v) => out.extend_from_slice(&v.to_le_bytes()),
        Value::Bool(v) => out.push(u8::from(*v)),
        Value::Str(s) => put_str(out, s.as_bytes()),
        Value::Array(a) => {
            out.extend_from_slice(&(a.elem_type() as u32).to_le_bytes());
            out.extend_from_slice(&(a.len() as u64).to_le_bytes());
            put_array(out, a);
        }
    }
}

fn put_array(out: &mut Vec<u8>, array: &Array) {
    match array {
        Array::U8(v) => out.extend_from_slice(v),
        Array::I8(v) => put_all(out, v, i8::to_le_bytes),
        Array::U16(v) => put_all(out, v, u16::to_le_bytes),
        Array::I16(v) => put_all(out, v, i16::to_le_bytes),
        Array::U32(v) => put_all(out, v, u32::to_le_bytes),
        Array::I32(v) => put_all(out, v, i32::to_le_bytes),
        Array::F32(v) => put_all(out, v, f32::to_le_bytes),
        Array::U64(v) => put_all(out, v, u64::to_le_bytes),
        Array::I64(v) => put_all(out, v, i64::to_le_bytes),
        Array::F64(v) => put_all(out, v, f64::to_le_bytes),
        Array::Bool(v) => put_all(out, v, |b| [u8::from(b)]),
        Array::Str(v) => v.iter().for_each(|s| put_str(out, s)),
    }
}
