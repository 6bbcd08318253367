//! The key-value pairs of a file, with lookups that convert and complain by name.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::error::{Error, Result, printable};
use super::value::{Array, ByteStr, StrArray, Value};
use crate::log_warn;

/// Which engine a file was made for; nothing else in the container differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Magic {
    /// `GGUF`: a dense model.
    Gguf,
    /// `PWRI`: a PowerInfer model or GPU index, with transposed down projections and predictors.
    Pwri,
}

impl Magic {
    /// The first four bytes of the file.
    pub fn bytes(self) -> &'static [u8; 4] {
        match self {
            Self::Gguf => b"GGUF",
            Self::Pwri => b"PWRI",
        }
    }
}

/// What a caller puts in place of the file's value (`llama_model_kv_override`).
#[derive(Clone, Debug, PartialEq)]
pub struct KvOverride {
    /// The key.
    pub key: String,
    /// The value; its kind has to fit the file's.
    pub value: OverrideValue,
}

/// Kinds of [`KvOverride`]: `enum llama_model_kv_override_type`.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum OverrideValue {
    Int(i64),
    Float(f64),
    Bool(bool),
    Str(String),
}

impl OverrideValue {
    /// The value for a key that the file does not have.
    fn to_value(&self) -> Value {
        match self {
            Self::Int(v) => Value::I64(*v),
            Self::Float(v) => Value::F64(*v),
            Self::Bool(v) => Value::Bool(*v),
            Self::Str(v) => Value::Str(v.as_str().into()),
        }
    }

    /// The value in the file's type, where the kinds agree. -1 is an accepted way to write the
    /// largest value of an unsigned type ("no such token").
    fn in_place_of(&self, old: &Value) -> Option<Value> {
        macro_rules! int {
            ($v:expr, $same:ident as $own:ty, $variant:ident, $other:ty) => {
                <$own>::try_from($v)
                    .or_else(|_| <$other>::try_from($v).map(|x| x as $own))
                    .ok()
                    .map(Value::$variant)
            };
        }
        match (self, old) {
            (&Self::Int(v), Value::U8(_)) => int!(v, u8 as u8, U8, i8),
            (&Self::Int(v), Value::I8(_)) => int!(v, i8 as i8, I8, u8),
            (&Self::Int(v), Value::U16(_)) => int!(v, u16 as u16, U16, i16),
            (&Self::Int(v), Value::I16(_)) => int!(v, i16 as i16, I16, u16),
            (&Self::Int(v), Value::U32(_)) => int!(v, u32 as u32, U32, i32),
            (&Self::Int(v), Value::I32(_)) => int!(v, i32 as i32, I32, u32),
            (&Self::Int(v), Value::U64(_)) => Some(Value::U64(v as u64)),
            (&Self::Int(v), Value::I64(_)) => Some(Value::I64(v)),
            (&Self::Float(v), Value::F32(_)) => Some(Value::F32(v as f32)),
            (&Self::Float(v), Value::F64(_)) => Some(Value::F64(v)),
            (&Self::Bool(v), Value::Bool(_)) => Some(Value::Bool(v)),
            (Self::Str(v), Value::Str(_)) => Some(Value::Str(v.as_str().into())),
            _ => None,
        }
    }
}

/// The key-value pairs of one file, in its order, with the caller's overrides beside them.
#[derive(Clone, Debug)]
pub struct Metadata {
    pub(super) file: Arc<str>,
    pub(super) magic: Magic,
    pub(super) version: u32,
    pub(super) alignment: u64,
    kvs: Vec<(Box<str>, Value)>,
    // The default hasher, not a fast one: keys come from files that may mean harm.
    index: HashMap<Box<str>, usize>,
    overrides: HashMap<Box<str>, Value>,
}

/// A getter that gives `None` where the key is absent, and one that makes an error of that.
macro_rules! getters {
    ($($(#[$doc:meta])* $get:ident $require:ident -> $ty:ty = $name:literal, $convert:expr;)*) => {$(
        $(#[$doc])*
        ///
        /// `None` when the key is absent, an error when its value is something else.
        pub fn $get(&self, key: &str) -> Result<Option<$ty>> {
            self.converted(key, $name, $convert)
        }

        /// The same, for a key that has to be there.
        pub fn $require(&self, key: &str) -> Result<$ty> {
            self.$get(key)?.ok_or_else(|| self.missing(key, $name))
        }
    )*};
}

impl Metadata {
    /// Nothing yet; `file` names the source in messages.
    pub(super) fn new(file: &str, magic: Magic, version: u32) -> Self {
        Self {
            file: file.into(),
            magic,
            version,
            alignment: super::DEFAULT_ALIGNMENT,
            kvs: Vec::new(),
            index: HashMap::new(),
            overrides: HashMap::new(),
        }
    }

    /// Appends a pair; false when the key is there already.
    pub(super) fn push(&mut self, key: Box<str>, value: Value) -> bool {
        let next = self.kvs.len();
        if self.index.contains_key(&key) {
            return false;
        }
        self.index.insert(key.clone(), next);
        self.kvs.push((key, value));
        true
    }

    /// Puts the caller's values in place of the file's. One of another kind than the file's is
    /// skipped with a warning, as in llama.cpp. [`Self::iter`] goes on showing the file's values.
    pub(crate) fn set_overrides(&mut self, overrides: &[KvOverride]) {
        for KvOverride { key, value } in overrides {
            let new = match self.file_value(key) {
                // An option of ours may be given in any kind that says it.
                Some(old) if !key.starts_with("powerinfer.") => value.in_place_of(old),
                _ => Some(value.to_value()),
            };
            let Some(new) = new else {
                let found = self.file_value(key).map_or_else(String::new, Value::describe);
                let given = value.to_value().describe();
                log_warn!(
                    "{}: key '{}': the override is {given} but the file has {found}, ignored",
                    self.file,
                    printable(key)
                );
                continue;
            };
            self.overrides.insert(key.as_str().into(), new);
        }
    }

    /// Name of the file, for messages.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// What the file starts with.
    pub fn magic(&self) -> Magic {
        self.magic
    }

    /// Version of the format: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in the file, in bytes.
    pub fn alignment(&self) -> u64 {
        self.alignment
    }

    /// Number of pairs in the file.
    pub fn len(&self) -> usize {
        self.kvs.len()
    }

    /// Whether the file has none.
    pub fn is_empty(&self) -> bool {
        self.kvs.is_empty()
    }

    /// The pairs of the file, in its order, without overrides.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.kvs.iter().map(|(k, v)| (&**k, v))
    }

    /// Pair `i` of the file.
    pub fn entry(&self, i: usize) -> Option<(&str, &Value)> {
        self.kvs.get(i).map(|(k, v)| (&**k, v))
    }

    /// Position of a key in the file.
    pub fn find(&self, key: &str) -> Option<usize> {
        self.index.get(key).copied()
    }

    /// The value that counts: the override where there is one, else the file's.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.overrides.get(key).or_else(|| self.file_value(key))
    }

    /// The caller's value in place of the file's, if there is one.
    pub fn override_of(&self, key: &str) -> Option<&Value> {
        self.overrides.get(key)
    }

    /// The keys that have one, in alphabetical order.
    pub fn override_keys(&self) -> Vec<&str> {
        let mut keys: Vec<&str> = self.overrides.keys().map(|key| &**key).collect();
        keys.sort_unstable();
        keys
    }

    /// The value in the file, whatever the overrides say.
    pub fn file_value(&self, key: &str) -> Option<&Value> {
        self.kvs.get(self.find(key)?).map(|(_, v)| v)
    }

    getters! {
        /// An unsigned number, from an integer of any width or a bool.
        get_u32 require_u32 -> u32 = "u32", |v| v.as_int()?.try_into().ok();
        /// A signed number, from an integer of any width or a bool.
        get_i32 require_i32 -> i32 = "i32", |v| v.as_int()?.try_into().ok();
        /// An unsigned number, from an integer of any width or a bool.
        get_u64 require_u64 -> u64 = "u64", |v| v.as_int()?.try_into().ok();
        /// A signed number, from an integer of any width or a bool.
        get_i64 require_i64 -> i64 = "i64", |v| v.as_int()?.try_into().ok();
        /// A number, from a float or an integer.
        get_f32 require_f32 -> f32 = "f32", |v| Some(v.as_float()? as f32);
        /// A flag, from a bool or the integers 0 and 1.
        get_bool require_bool -> bool = "bool", Value::as_bool;
        /// Text in UTF-8.
        get_str require_str -> &str = "a str in UTF-8", |v| v.as_byte_str()?.to_str();
        /// A string of any bytes.
        get_bytes require_bytes -> &ByteStr = "str", Value::as_byte_str;
        /// An array of any type.
        get_array require_array -> &Array = "an array", Value::as_array;
        /// An array of strings.
        get_strs require_strs -> &StrArray = "an array of str", |v| match v.as_array()? {
            Array::Str(s) => Some(s),
            _ => None,
        };
        /// An array of unsigned numbers, from integers of any width or bools; borrowed when they
        /// are u32 in the file.
        get_u32s require_u32s -> Cow<'_, [u32]> = "an array of u32", |v| match v.as_array()? {
            Array::U32(a) => Some(Cow::Borrowed(a.as_slice())),
            a => a.iter().map(|v| v.as_int()?.try_into().ok()).collect::<Option<_>>().map(Cow::Owned),
        };
        /// An array of signed numbers, from integers of any width or bools; borrowed when they
        /// are i32 in the file.
        get_i32s require_i32s -> Cow<'_, [i32]> = "an array of i32", |v| match v.as_array()? {
            Array::I32(a) => Some(Cow::Borrowed(a.as_slice())),
            a => a.iter().map(|v| v.as_int()?.try_into().ok()).collect::<Option<_>>().map(Cow::Owned),
        };
        /// An array of numbers, from floats or integers; borrowed when they are f32 in the file.
        get_f32s require_f32s -> Cow<'_, [f32]> = "an array of f32", |v| match v.as_array()? {
            Array::F32(a) => Some(Cow::Borrowed(a.as_slice())),
            a => a.iter().map(|v| Some(v.as_float()? as f32)).collect::<Option<_>>().map(Cow::Owned),
        };
    }

    /// `n` numbers, one per layer: from an array that has exactly `n`, or one number for all.
    pub fn get_u32_per_layer(&self, key: &str, n: usize) -> Result<Option<Vec<u32>>> {
        if !matches!(self.get(key), Some(Value::Array(_))) {
            return Ok(self.get_u32(key)?.map(|v| vec![v; n]));
        }
        match self.require_u32s(key)? {
            list if list.len() == n => Ok(Some(list.into_owned())),
            list => {
                let found = format!("{} elements", list.len());
                let expected = format!("{n}, one per layer");
                Err(Error::key(key, found, expected).in_file(&self.file))
            }
        }
    }

    fn converted<'a, T>(
        &'a self,
        key: &str,
        expected: &'static str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match convert(value) {
            Some(v) => Ok(Some(v)),
            None => Err(Error::key(key, value.describe(), expected).in_file(&self.file)),
        }
    }

    fn missing(&self, key: &str, expected: &'static str) -> Error {
        Error::MissingKey { key: printable(key), expected }.in_file(&self.file)
    }
}
