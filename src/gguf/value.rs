//! The typed values of GGUF metadata, as they are in memory.

use std::borrow::Cow;
use std::fmt;

use super::error::printable;

/// The value types of the format; the discriminant is the id in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names say it")]
#[repr(u32)]
pub enum GgufType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    Str = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl GgufType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::Str,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this id.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(id).ok()?).copied()
    }

    /// Name as `gguf_type_name` gives it.
    pub fn name(self) -> &'static str {
        match self {
            Self::U8 => "u8",
            Self::I8 => "i8",
            Self::U16 => "u16",
            Self::I16 => "i16",
            Self::U32 => "u32",
            Self::I32 => "i32",
            Self::F32 => "f32",
            Self::Bool => "bool",
            Self::Str => "str",
            Self::Array => "arr",
            Self::U64 => "u64",
            Self::I64 => "i64",
            Self::F64 => "f64",
        }
    }
}

impl fmt::Display for GgufType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A string of the file: bytes that are UTF-8 in good files and anything in others.
///
/// A NUL that does not count stands behind the bytes, so that C readers can use them in place.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ByteStr(Box<[u8]>);

impl ByteStr {
    /// Copies the bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut own = Vec::with_capacity(bytes.len() + 1);
        own.extend_from_slice(bytes);
        own.push(0);
        Self(own.into_boxed_slice())
    }

    /// The bytes of the string.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0[..self.0.len() - 1]
    }

    /// The bytes and the NUL behind them. There may be more NULs among the bytes.
    pub fn as_bytes_with_nul(&self) -> &[u8] {
        &self.0
    }

    /// As text, where the bytes are UTF-8.
    pub fn to_str(&self) -> Option<&str> {
        std::str::from_utf8(self.as_bytes()).ok()
    }

    /// As text; what is not UTF-8 becomes U+FFFD.
    pub fn to_string_lossy(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.as_bytes())
    }
}

impl From<&str> for ByteStr {
    fn from(text: &str) -> Self {
        Self::new(text.as_bytes())
    }
}

impl fmt::Display for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_string_lossy())
    }
}

impl fmt::Debug for ByteStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.to_string_lossy(), f)
    }
}

/// Many strings in two allocations: a vocabulary has hundreds of thousands of short ones.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StrArray {
    /// The strings one after another, each with a NUL behind it as in [`ByteStr`].
    bytes: Vec<u8>,
    /// For each string the offset just behind its NUL.
    ends: Vec<usize>,
}

impl StrArray {
    /// An empty array with room for `n` strings of `bytes` bytes together.
    pub fn with_capacity(n: usize, bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes.saturating_add(n)), ends: Vec::with_capacity(n) }
    }

    /// Appends a string.
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.bytes.push(0);
        self.ends.push(self.bytes.len());
    }

    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The bytes of string `i`.
    pub fn get(&self, i: usize) -> Option<&[u8]> {
        self.get_with_nul(i).map(|s| &s[..s.len() - 1])
    }

    /// The bytes of string `i` and the NUL behind them.
    pub fn get_with_nul(&self, i: usize) -> Option<&[u8]> {
        let end = *self.ends.get(i)?;
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        Some(&self.bytes[start..end])
    }

    /// All strings, as bytes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|i| self.get(i).unwrap_or_default())
    }
}

impl fmt::Debug for StrArray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(String::from_utf8_lossy)).finish()
    }
}

impl<T: AsRef<[u8]>> FromIterator<T> for StrArray {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        let mut out = Self::default();
        items.into_iter().for_each(|s| out.push(s.as_ref()));
        out
    }
}

/// An array of one element type. Arrays of arrays are in the specification, but neither any
/// known file nor ggml has them; the reader refuses them.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    Str(StrArray),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

/// Runs the same expression on the elements of whichever variant it is.
macro_rules! each_array {
    ($array:expr, $v:ident => $body:expr) => {
        match $array {
            Array::U8($v) => $body,
            Array::I8($v) => $body,
            Array::U16($v) => $body,
            Array::I16($v) => $body,
            Array::U32($v) => $body,
            Array::I32($v) => $body,
            Array::F32($v) => $body,
            Array::Bool($v) => $body,
            Array::Str($v) => $body,
            Array::U64($v) => $body,
            Array::I64($v) => $body,
            Array::F64($v) => $body,
        }
    };
}

impl Array {
    /// Type of the elements.
    pub fn elem_type(&self) -> GgufType {
        match self {
            Self::U8(_) => GgufType::U8,
            Self::I8(_) => GgufType::I8,
            Self::U16(_) => GgufType::U16,
            Self::I16(_) => GgufType::I16,
            Self::U32(_) => GgufType::U32,
            Self::I32(_) => GgufType::I32,
            Self::F32(_) => GgufType::F32,
            Self::Bool(_) => GgufType::Bool,
            Self::Str(_) => GgufType::Str,
            Self::U64(_) => GgufType::U64,
            Self::I64(_) => GgufType::I64,
            Self::F64(_) => GgufType::F64,
        }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        each_array!(self, v => v.len())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as a value of its own.
    pub fn get(&self, i: usize) -> Option<Value> {
        Some(match self {
            Self::U8(v) => Value::U8(*v.get(i)?),
            Self::I8(v) => Value::I8(*v.get(i)?),
            Self::U16(v) => Value::U16(*v.get(i)?),
            Self::I16(v) => Value::I16(*v.get(i)?),
            Self::U32(v) => Value::U32(*v.get(i)?),
            Self::I32(v) => Value::I32(*v.get(i)?),
            Self::F32(v) => Value::F32(*v.get(i)?),
            Self::Bool(v) => Value::Bool(*v.get(i)?),
            Self::Str(v) => Value::Str(ByteStr::new(v.get(i)?)),
            Self::U64(v) => Value::U64(*v.get(i)?),
            Self::I64(v) => Value::I64(*v.get(i)?),
            Self::F64(v) => Value::F64(*v.get(i)?),
        })
    }

    /// Elements as values of their own.
    pub fn iter(&self) -> impl Iterator<Item = Value> {
        (0..self.len()).map_while(|i| self.get(i))
    }
}

/// A metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    Str(ByteStr),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

impl Value {
    /// Its type.
    pub fn gguf_type(&self) -> GgufType {
        match self {
            Self::U8(_) => GgufType::U8,
            Self::I8(_) => GgufType::I8,
            Self::U16(_) => GgufType::U16,
            Self::I16(_) => GgufType::I16,
            Self::U32(_) => GgufType::U32,
            Self::I32(_) => GgufType::I32,
            Self::F32(_) => GgufType::F32,
            Self::Bool(_) => GgufType::Bool,
            Self::Str(_) => GgufType::Str,
            Self::Array(_) => GgufType::Array,
            Self::U64(_) => GgufType::U64,
            Self::I64(_) => GgufType::I64,
            Self::F64(_) => GgufType::F64,
        }
    }

    /// The number, where this is an integer of any width, or 0 and 1 for a bool: converters
    /// disagree on widths and signs, so readers must not insist on one.
    pub fn as_int(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            Self::Bool(v) => v.into(),
            _ => return None,
        })
    }

    /// The number, where this is a float or an integer.
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            Self::F32(v) => Some(v.into()),
            Self::F64(v) => Some(v),
            Self::Bool(_) => None,
            ref other => other.as_int().map(|v| v as f64),
        }
    }

    /// The flag, where this is a bool or the integer 0 or 1.
    pub fn as_bool(&self) -> Option<bool> {
        match self.as_int()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// The string, where this is one.
    pub fn as_byte_str(&self) -> Option<&ByteStr> {
        match self {
            Self::Str(s) => Some(s),
            _ => None,
        }
    }

    /// The array, where this is one.
    pub fn as_array(&self) -> Option<&Array> {
        match self {
            Self::Array(a) => Some(a),
            _ => None,
        }
    }

    /// Type and value for a message.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Array(a) => format!("an array of {} {}", a.len(), a.elem_type()),
            Self::Str(s) => format!("str \"{}\"", printable(&s.to_string_lossy())),
            other => format!("{} {other}", other.gguf_type()),
        }
    }
}

/// As `llama_model_meta_val_str` shows values: floats with six digits, arrays in brackets,
/// strings bare on their own and quoted inside an array.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Str(s) => s.fmt(f),
            Self::Bool(v) => v.fmt(f),
            Self::F32(v) => write_float(f, f64::from(*v)),
            Self::F64(v) => write_float(f, *v),
            Self::Array(a) => write_array(f, a),
            other => other.as_int().unwrap_or_default().fmt(f),
        }
    }
}

fn write_float(f: &mut fmt::Formatter<'_>, v: f64) -> fmt::Result {
    match v {
        _ if v.is_nan() => f.write_str(if v.is_sign_negative() { "-nan" } else { "nan" }),
        _ if v.is_infinite() => f.write_str(if v < 0.0 { "-inf" } else { "inf" }),
        _ => write!(f, "{v:.6}"),
    }
}

fn write_array(f: &mut fmt::Formatter<'_>, a: &Array) -> fmt::Result {
    f.write_str("[")?;
    for (i, item) in a.iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        match item {
            Value::Str(s) => {
                let text = s.to_string_lossy().replace('\\', "\\\\").replace('"', "\\\"");
                write!(f, "\"{text}\"")?;
            }
            other => fmt::Display::fmt(&other, f)?,
        }
    }
    f.write_str("]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_keep_any_byte() {
        let s = ByteStr::new(b"a\0\xff");
        assert_eq!(s.as_bytes(), b"a\0\xff");
        assert_eq!(s.as_bytes_with_nul(), b"a\0\xff\0");
        assert_eq!((s.to_str(), s.to_string()), (None, "a\0\u{fffd}".into()));

        let a: StrArray = [&b"one"[..], b"", b"\xf0\x9f"].into_iter().collect();
        assert_eq!((a.len(), a.get(0), a.get(1)), (3, Some(&b"one"[..]), Some(&b""[..])));
        assert_eq!((a.get_with_nul(2), a.get(3)), (Some(&b"\xf0\x9f\0"[..]), None));
    }

    #[test]
    fn values_print_as_llama_cpp_prints_them() {
        let list = Array::Str([&b"a\"b\\"[..], b"c"].into_iter().collect());
        for (value, text) in [
            (Value::F32(1e-5), "0.000010"),
            (Value::F64(f64::NEG_INFINITY), "-inf"),
            (Value::I8(-3), "-3"),
            (Value::U64(u64::MAX), "18446744073709551615"),
            (Value::Bool(true), "true"),
            (Value::Str("plain \"x\"".into()), "plain \"x\""),
            (Value::Array(list), r#"["a\"b\\", "c"]"#),
            (Value::Array(Array::F32(vec![0.5, 10000.0])), "[0.500000, 10000.000000]"),
        ] {
            assert_eq!(value.to_string(), text);
        }
    }

    #[test]
    fn numbers_convert_without_changing() {
        assert_eq!(Value::U64(u64::MAX).as_int(), Some(u64::MAX.into()));
        assert_eq!(Value::Bool(true).as_int(), Some(1));
        assert_eq!(Value::F32(1.0).as_int(), None);
        assert_eq!(Value::U32(2).as_bool(), None);
        assert_eq!(Value::U8(1).as_bool(), Some(true));
        assert_eq!(Value::I32(-7).as_float(), Some(-7.0));
        assert_eq!(Value::Bool(true).as_float(), None);
    }
}
