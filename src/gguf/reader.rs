//! Parses the header of a file: magic, counts, metadata, tensor table.
//!
//! The input is hostile until proven good. Every length is held against the bytes that are
//! there before anything is allocated for it, and all arithmetic is checked.
//!
//! Source: the GGUF specification (ggml, docs/gguf.md), and where it is silent what ggml accepts.

use std::collections::HashSet;

use super::error::{Error, Result, printable};
use super::meta::{Magic, Metadata};
use super::value::{Array, ByteStr, GgufType, StrArray, Value};
use crate::quant::QuantType;
use crate::tensor::{MAX_DIMS, Shape};

/// Alignment of tensor data where the file does not say, in bytes.
pub const DEFAULT_ALIGNMENT: u64 = 32;
/// Length in bytes that a tensor's name has to stay below (`GGML_MAX_NAME`).
pub const MAX_TENSOR_NAME: usize = 64;
pub(super) const ALIGNMENT_KEY: &str = "general.alignment";

/// Fewest bytes of a pair: key length and one character, type, one byte of value.
const MIN_KV_BYTES: u64 = 8 + 1 + 4 + 1;
/// Fewest bytes of an entry of the tensor table: name length, number of dimensions, type, offset.
const MIN_TENSOR_BYTES: u64 = 8 + 4 + 4 + 8;

/// One tensor of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name; unique in a model.
    pub name: Box<str>,
    /// Extents, contiguous dimension first. May hold a zero.
    pub shape: Shape,
    /// Number format.
    pub ty: QuantType,
    /// Size of the data in bytes.
    pub n_bytes: u64,
    /// Where the data starts, in bytes from the start of its file's data section.
    pub offset: u64,
    /// Which file of a split set it is in; 0 for a single file.
    pub split: u16,
}

/// The parsed header of one file.
#[derive(Clone, Debug)]
pub struct Header {
    /// The key-value pairs.
    pub meta: Metadata,
    /// The tensor table, in the order of the file and of the data.
    pub tensors: Vec<TensorInfo>,
    /// Where the data section starts, in bytes from the start of the file.
    pub data_offset: u64,
}

/// Parses a file that is in memory or mapped. `file` names it in messages.
pub fn parse(bytes: &[u8], file: &str) -> Result<Header> {
    parse_prefix(bytes, bytes.len() as u64, file)
}

/// Parses the header from the first bytes of a file that is `file_len` bytes long.
///
/// [`Error::Truncated`] with a `need` of at most `file_len` means: try again with that many bytes.
pub fn parse_prefix(bytes: &[u8], file_len: u64, file: &str) -> Result<Header> {
    let mut r = Reader { bytes, at: 0, file_len: file_len.max(bytes.len() as u64) };
    r.header(file).map_err(|e| e.in_file(file))
}

/// A position in the bytes. Methods that can run out of them take a closure that says what was
/// being read; it is called only when that happens.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    file_len: u64,
}

impl<'a> Reader<'a> {
    fn header(&mut self, file: &str) -> Result<Header> {
        let magic = self.magic()?;
        let version = self.version()?;
        let n_tensors = self.u64(|| "the header".into())?;
        let n_kv = self.u64(|| "the header".into())?;
        self.check_count("key-value pairs", n_kv, MIN_KV_BYTES)?;
        self.check_count("tensors", n_tensors, MIN_TENSOR_BYTES)?;

        let mut meta = Metadata::new(file, magic, version);
        for i in 0..n_kv {
            let (key, value) = self.key_value(i)?;
            if !meta.push(key.as_str().into(), value) {
                return Err(Error::key(&key, "the key twice", "unique keys"));
            }
        }
        if let Some(value) = meta.file_value(ALIGNMENT_KEY) {
            meta.alignment = alignment_of(value)?;
        }
        let tensors = self.tensors(n_tensors)?;

        // ggml pads only where there is something to align.
        let end = self.at as u64;
        let data_offset = if tensors.is_empty() {
            end
        } else {
            pad(end, meta.alignment).ok_or_else(|| self.truncated("the header".into(), u64::MAX))?
        };
        self.check_data(&tensors, data_offset, meta.alignment)?;
        Ok(Header { meta, tensors, data_offset })
    }

    fn magic(&mut self) -> Result<Magic> {
        let bytes = self.take(4, || "the magic".into())?;
        [Magic::Gguf, Magic::Pwri]
            .into_iter()
            .find(|m| m.bytes() == bytes)
            .ok_or_else(|| Error::Magic { found: format!("\"{}\"", bytes.escape_ascii()) })
    }

    fn version(&mut self) -> Result<u32> {
        let found = self.u32(|| "the version".into())?;
        let hint = match found {
            2 | 3 => return Ok(found),
            1 => "; version 1 was in use in August 2023 only, convert the model again",
            _ if found.swap_bytes() <= 3 => "; the file is big-endian",
            _ => "",
        };
        Err(Error::Version { found, hint })
    }

    /// Refuses a count of things that could not fit into the rest of the file.
    fn check_count(&self, what: &'static str, found: u64, each: u64) -> Result<()> {
        let most = (self.file_len - self.at as u64) / each;
        if found > most { Err(Error::Count { what, found, most }) } else { Ok(()) }
    }

    fn key_value(&mut self, i: u64) -> Result<(String, Value)> {
        let ordinal = || format!("key #{i}");
        let key = self.string(ordinal)?;
        let key = check_key(key, i)?.to_owned();
        let ty = self.value_type(&key)?;
        let value = if ty == GgufType::Array {
            Value::Array(self.array(&key)?)
        } else {
            self.scalar(&key, ty)?
        };
        Ok((key, value))
    }

    fn value_type(&mut self, key: &str) -> Result<GgufType> {
        let id = self.u32(|| format!("the type of key '{}'", printable(key)))?;
        GgufType::from_id(id)
            .ok_or_else(|| Error::key(key, format!("value type {id}"), "a type from 0 to 12"))
    }

    fn scalar(&mut self, key: &str, ty: GgufType) -> Result<Value> {
        let what = || value_of(key);
        Ok(match ty {
            GgufType::U8 => Value::U8(self.num(u8::from_le_bytes, what)?),
            GgufType::I8 => Value::I8(self.num(i8::from_le_bytes, what)?),
            GgufType::U16 => Value::U16(self.num(u16::from_le_bytes, what)?),
            GgufType::I16 => Value::I16(self.num(i16::from_le_bytes, what)?),
            GgufType::U32 => Value::U32(self.num(u32::from_le_bytes, what)?),
            GgufType::I32 => Value::I32(self.num(i32::from_le_bytes, what)?),
            GgufType::F32 => Value::F32(self.num(f32::from_le_bytes, what)?),
            GgufType::U64 => Value::U64(self.num(u64::from_le_bytes, what)?),
            GgufType::I64 => Value::I64(self.num(i64::from_le_bytes, what)?),
            GgufType::F64 => Value::F64(self.num(f64::from_le_bytes, what)?),
            GgufType::Bool => Value::Bool(self.num(u8::from_le_bytes, what)? != 0),
            GgufType::Str => Value::Str(ByteStr::new(self.string(what)?)),
            GgufType::Array => return Err(nested(key)),
        })
    }

    fn array(&mut self, key: &str) -> Result<Array> {
        let ty = self.value_type(key)?;
        let n = self.u64(|| value_of(key))?;
        Ok(match ty {
            GgufType::U8 => Array::U8(self.nums(key, n, u8::from_le_bytes)?),
            GgufType::I8 => Array::I8(self.nums(key, n, i8::from_le_bytes)?),
            GgufType::U16 => Array::U16(self.nums(key, n, u16::from_le_bytes)?),
            GgufType::I16 => Array::I16(self.nums(key, n, i16::from_le_bytes)?),
            GgufType::U32 => Array::U32(self.nums(key, n, u32::from_le_bytes)?),
            GgufType::I32 => Array::I32(self.nums(key, n, i32::from_le_bytes)?),
            GgufType::F32 => Array::F32(self.nums(key, n, f32::from_le_bytes)?),
            GgufType::U64 => Array::U64(self.nums(key, n, u64::from_le_bytes)?),
            GgufType::I64 => Array::I64(self.nums(key, n, i64::from_le_bytes)?),
            GgufType::F64 => Array::F64(self.nums(key, n, f64::from_le_bytes)?),
            GgufType::Bool => Array::Bool(self.nums(key, n, |b: [u8; 1]| b[0] != 0)?),
            GgufType::Str => Array::Str(self.strings(key, n)?),
            GgufType::Array => return Err(nested(key)),
        })
    }

    fn nums<const N: usize, T>(
        &mut self,
        key: &str,
        n: u64,
        from: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>> {
        let bytes = self.take(n.saturating_mul(N as u64), || value_of(key))?;
        Ok(bytes.as_chunks::<N>().0.iter().map(|c| from(*c)).collect())
    }

    fn strings(&mut self, key: &str, n: u64) -> Result<StrArray> {
        // Each has at least its length, 8 bytes: that many must be there before room is made.
        let rest = (self.bytes.len() - self.at) as u64;
        let least = n.saturating_mul(8);
        if least > rest {
            return Err(self.truncated(value_of(key), (self.at as u64).saturating_add(least)));
        }
        // A vocabulary's tokens are about 6 bytes long; growing from there is cheap.
        let mut out = StrArray::with_capacity(n as usize, n as usize * 8);
        for _ in 0..n {
            out.push(self.string(|| value_of(key))?);
        }
        Ok(out)
    }

    fn tensors(&mut self, n: u64) -> Result<Vec<TensorInfo>> {
        let mut out: Vec<TensorInfo> = Vec::new();
        let mut seen: HashSet<Box<str>> = HashSet::new();
        for i in 0..n {
            let info = self.tensor(i)?;
            if !seen.insert(info.name.clone()) {
                return Err(Error::tensor(&info.name, "the name twice", "unique names"));
            }
            out.push(info);
        }
        Ok(out)
    }

    fn tensor(&mut self, i: u64) -> Result<TensorInfo> {
        let name = self.tensor_name(i)?;
        let what = || format!("the entry of tensor '{}'", printable(&name));
        let n_dims = self.u32(what)? as usize;
        if n_dims > MAX_DIMS {
            let found = format!("{n_dims} dimensions");
            return Err(Error::tensor(&name, found, format!("at most {MAX_DIMS}")));
        }
        // No dimension at all is one number, as in ggml.
        let mut dims = [1; MAX_DIMS];
        for d in &mut dims[..n_dims] {
            *d = self.u64(what)?;
        }
        let id = self.u32(what)?;
        let offset = self.u64(what)?;

        let ty = QuantType::from_id(id).ok_or_else(|| {
            Error::tensor(&name, format!("type id {id}"), "the id of a known tensor type")
        })?;
        let (shape, n_bytes) = layout(&name, &dims[..n_dims.max(1)], ty)?;
        Ok(TensorInfo { name: name.into(), shape, ty, n_bytes, offset, split: 0 })
    }

    fn tensor_name(&mut self, i: u64) -> Result<String> {
        let name = self.string(|| format!("the name of tensor #{i}"))?;
        check_tensor_name(name, i).map(str::to_owned)
    }

    /// Data lies in the order of the table, without gaps but for the padding, inside the file.
    fn check_data(&self, tensors: &[TensorInfo], data_offset: u64, alignment: u64) -> Result<()> {
        let mut expected = Some(0u64);
        for t in tensors {
            if Some(t.offset) != expected {
                let expected = match expected {
                    Some(e) => format!("{e}, behind the tensor before it"),
                    None => "sizes whose sum is less than 2^64 bytes".into(),
                };
                return Err(Error::tensor(&t.name, format!("offset {}", t.offset), expected));
            }
            let end = t.offset.checked_add(t.n_bytes);
            if end.and_then(|e| e.checked_add(data_offset)).is_none_or(|e| e > self.file_len) {
                let found = format!(
                    "{} bytes at offset {}, in a file of {} bytes with its data at {data_offset}",
                    t.n_bytes, t.offset, self.file_len
                );
                return Err(Error::tensor(
                    &t.name,
                    found,
                    "data inside the file (is the download complete?)",
                ));
            }
            expected = end.and_then(|e| pad(e, alignment));
        }
        Ok(())
    }

    /// The next `n` bytes.
    fn take(&mut self, n: u64, what: impl FnOnce() -> String) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.at..];
        match usize::try_from(n).ok().and_then(|n| rest.get(..n)) {
            Some(bytes) => {
                self.at += bytes.len();
                Ok(bytes)
            }
            None => Err(self.truncated(what(), (self.at as u64).saturating_add(n))),
        }
    }

    fn num<const N: usize, T>(
        &mut self,
        from: impl FnOnce([u8; N]) -> T,
        what: impl FnOnce() -> String,
    ) -> Result<T> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64, what)?);
        Ok(from(bytes))
    }

    fn u32(&mut self, what: impl FnOnce() -> String) -> Result<u32> {
        self.num(u32::from_le_bytes, what)
    }

    fn u64(&mut self, what: impl FnOnce() -> String) -> Result<u64> {
        self.num(u64::from_le_bytes, what)
    }

    fn string(&mut self, what: impl Fn() -> String) -> Result<&'a [u8]> {
        let len = self.u64(&what)?;
        self.take(len, what)
    }

    fn truncated(&self, what: String, need: u64) -> Error {
        Error::Truncated { what, need, have: self.file_len }
    }
}

fn value_of(key: &str) -> String {
    format!("the value of key '{}'", printable(key))
}

fn nested(key: &str) -> Error {
    Error::key(key, "an array of arrays", "an array of numbers, bools or strings")
}

/// The key, where it is one; `i` is its place in the file.
pub(super) fn check_key(key: &[u8], i: u64) -> Result<&str> {
    match std::str::from_utf8(key) {
        Ok(text) if !text.is_empty() && !text.contains('\0') => Ok(text),
        _ => {
            let found = format!("\"{}\"", key[..key.len().min(80)].escape_ascii());
            Err(Error::key(&format!("#{i}"), found, "text in UTF-8, not empty, without NUL"))
        }
    }
}

/// The name, where it is one; `i` is its place in the table.
pub(super) fn check_tensor_name(name: &[u8], i: u64) -> Result<&str> {
    let wrong =
        |found: String, expected: &str| Err(Error::tensor(&format!("#{i}"), found, expected));
    if name.len() >= MAX_TENSOR_NAME {
        return wrong(format!("a name of {} bytes", name.len()), "less than 64");
    }
    match std::str::from_utf8(name) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => wrong(format!("the name \"{}\"", name.escape_ascii()), "text in UTF-8, without NUL"),
    }
}

/// Shape and size in bytes of a tensor.
pub(super) fn layout(name: &str, dims: &[u64], ty: QuantType) -> Result<(Shape, u64)> {
    let shape = shape(dims).ok_or_else(|| {
        let expected = format!("1 to {MAX_DIMS} dimensions, fewer than 2^63 elements");
        Error::tensor(name, format!("shape {dims:?}"), expected)
    })?;
    let row_bytes = ty.row_bytes(shape.ne()[0]).ok_or_else(|| {
        let found = format!("rows of {} elements of type {ty}", shape.ne()[0]);
        Error::tensor(name, found, format!("a multiple of {}", ty.block_len()))
    })?;
    let n_bytes = row_bytes.checked_mul(shape.n_rows()).ok_or_else(|| {
        Error::tensor(name, format!("shape {shape} of type {ty}"), "less than 2^64 bytes")
    })?;
    Ok((shape, n_bytes))
}

/// The shape, with the product of all extents but the zeros inside 63 bits: a zero does not hide
/// an overflow from whoever multiplies only some of them.
fn shape(dims: &[u64]) -> Option<Shape> {
    let product = dims.iter().try_fold(1u64, |n, &d| n.checked_mul(d.max(1)))?;
    i64::try_from(product).ok()?;
    Shape::new(dims)
}

/// The alignment that a value of `general.alignment` stands for, in bytes.
pub(super) fn alignment_of(value: &Value) -> Result<u64> {
    match value {
        Value::U32(a) if a.is_power_of_two() && *a >= 8 => Ok(u64::from(*a)),
        other => Err(Error::key(
            ALIGNMENT_KEY,
            other.describe(),
            "a u32 that is a power of two and at least 8",
        )),
    }
}

/// `n` rounded up to a multiple of `alignment`, which is a power of two.
pub(super) fn pad(n: u64, alignment: u64) -> Option<u64> {
    n.checked_next_multiple_of(alignment)
}
