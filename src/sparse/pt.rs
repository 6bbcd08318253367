//! Tensors that PyTorch saved: a ZIP archive with a pickle that says what the tensor is, and its
//! bytes beside it (`torch.save` since 1.6).
//!
//! A pickle is a program that builds objects and may call anything. Here it is only read: its
//! objects go into a list of plain descriptions, nothing is looked up and nothing called, and what
//! does not describe a vector of numbers is refused.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use half::{bf16, f16};
use zip::{CompressionMethod, ZipArchive};

/// Larger pickles describe more than a vector.
const MAX_PICKLE: u64 = 64 << 10;
/// More numbers than a layer has neurons.
const MAX_NUMBERS: usize = 1 << 24;

/// The numbers of a file with a tensor of one dimension.
pub(super) fn read_vector(path: &Path) -> Result<Vec<f64>, String> {
    let file = File::open(path).map_err(|e| format!("cannot open the file: {e}"))?;
    let mut zip = ZipArchive::new(file)
        .map_err(|e| format!("not a file of torch.save (a ZIP archive): {e}"))?;
    let names: Result<Vec<String>, _> = zip.file_names().map(|n| n.map(Into::into)).collect();
    let names = names.map_err(|e| format!("an entry's name: {e}"))?;
    let mut pickles = names.iter().filter_map(|name| name.strip_suffix("data.pkl"));
    let (Some(folder), None) = (pickles.next(), pickles.next()) else {
        return Err(format!("{} entries and not one data.pkl among them", names.len()));
    };
    let order = format!("{folder}byteorder");
    if names.contains(&order) && entry(&mut zip, &order, 16)? != b"little" {
        return Err("numbers are not in little-endian order".into());
    }
    let vector = describe(&entry(&mut zip, &format!("{folder}data.pkl"), MAX_PICKLE)?)?;
    let most = (MAX_NUMBERS * 8) as u64;
    vector.numbers(&entry(&mut zip, &format!("{folder}data/{}", vector.key), most)?)
}

/// The bytes of an entry, which is stored as it is.
fn entry(zip: &mut ZipArchive<impl Read + Seek>, name: &str, most: u64) -> Result<Vec<u8>, String> {
    let entry = zip.by_name(name).map_err(|e| format!("entry '{}': {e}", name.escape_debug()))?;
    let (len, method) = (entry.size(), entry.compression());
    if method != CompressionMethod::Stored || len > most {
        return Err(format!("entry '{}': {len} bytes, {method}", name.escape_debug()));
    }
    let mut bytes = Vec::new();
    entry.take(most).read_to_end(&mut bytes).map_err(|e| format!("cannot read '{name}': {e}"))?;
    Ok(bytes)
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U8,
}

impl Kind {
    fn of_storage(class: &str) -> Option<Self> {
        Some(match class.strip_prefix("torch ")? {
            "DoubleStorage" => Self::F64,
            "FloatStorage" => Self::F32,
            "HalfStorage" => Self::F16,
            "BFloat16Storage" => Self::BF16,
            "LongStorage" => Self::I64,
            "IntStorage" => Self::I32,
            "ShortStorage" => Self::I16,
            "CharStorage" => Self::I8,
            "ByteStorage" => Self::U8,
            _ => return None,
        })
    }

    fn len(self) -> usize {
        match self {
            Self::F64 | Self::I64 => 8,
            Self::F32 | Self::I32 => 4,
            Self::F16 | Self::BF16 | Self::I16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// The number in these bytes, as many as [`Self::len`].
    fn number(self, bytes: &[u8]) -> f64 {
        fn of<const N: usize>(bytes: &[u8]) -> [u8; N] {
            let mut out = [0; N];
            out.copy_from_slice(bytes);
            out
        }
        match self {
            Self::F64 => f64::from_le_bytes(of(bytes)),
            Self::F32 => f32::from_le_bytes(of(bytes)).into(),
            Self::F16 => f16::from_le_bytes(of(bytes)).into(),
            Self::BF16 => bf16::from_le_bytes(of(bytes)).into(),
            Self::I64 => i64::from_le_bytes(of(bytes)) as f64,
            Self::I32 => i32::from_le_bytes(of(bytes)).into(),
            Self::I16 => i16::from_le_bytes(of(bytes)).into(),
            Self::I8 => i8::from_le_bytes(of(bytes)).into(),
            Self::U8 => bytes[0].into(),
        }
    }
}

/// A tensor of one dimension: some numbers of a storage.
#[derive(Debug, PartialEq)]
struct Vector {
    kind: Kind,
    /// Name of the storage's entry.
    key: String,
    offset: usize,
    len: usize,
}

impl Vector {
    fn numbers(&self, storage: &[u8]) -> Result<Vec<f64>, String> {
        let size = self.kind.len();
        let end = self.offset.checked_add(self.len).and_then(|end| end.checked_mul(size));
        let bytes = end.and_then(|end| storage.get(self.offset.checked_mul(size)?..end));
        let bytes = bytes.ok_or_else(|| {
            let Self { kind, offset, len, .. } = self;
            format!(
                "{len} numbers {kind:?} from {offset} on in a storage of {} bytes",
                storage.len()
            )
        })?;
        Ok(bytes.chunks_exact(size).map(|bytes| self.kind.number(bytes)).collect())
    }
}

/// What a pickle builds, by places in a list: no object holds another one, however deep they nest.
#[derive(Clone, Debug)]
enum Object {
    Int(i64),
    Text(String),
    /// `module name`.
    Class(String),
    Tuple(Vec<usize>),
    /// Something outside of the pickle, by its description.
    Outside(usize),
    /// What a class would make of a tuple.
    Made(usize, usize),
    /// None, a flag, an empty list or map.
    Plain,
}

/// Reads the pickle of a tensor.
fn describe(pickle: &[u8]) -> Result<Vector, String> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    let root = machine.run()?;
    let vector = machine.vector(root).filter(|vector| vector.len <= MAX_NUMBERS);
    vector.ok_or_else(|| "not a tensor of one dimension with plain numbers".into())
}

/// A reader of pickles of protocol 2 to 5, as far as tensors need it.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    objects: Vec<Object>,
    stack: Vec<usize>,
    marks: Vec<usize>,
    memo: std::collections::HashMap<u32, usize>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<usize, String> {
        loop {
            let op = self.take::<1>()?[0];
            match op {
                // PROTO, FRAME: how the rest is to be read, which is the same for all.
                0x80 => drop(self.take::<1>()?),
                0x95 => drop(self.take::<8>()?),
                b'.' => return self.pop(),
                b'(' => self.marks.push(self.stack.len()),
                b'N' | 0x88 | 0x89 | b'}' | b']' => self.push(Object::Plain),
                b')' => self.push(Object::Tuple(Vec::new())),
                b't' => {
                    let at = self.marks.pop().filter(|&at| at <= self.stack.len());
                    let items = self.stack.split_off(at.ok_or("a tuple without a beginning")?);
                    self.push(Object::Tuple(items));
                }
                0x85..=0x87 => {
                    let n = usize::from(op - 0x84);
                    let at = self.stack.len().checked_sub(n).ok_or("the stack is empty")?;
                    let items = self.stack.split_off(at);
                    self.push(Object::Tuple(items));
                }
                b'K' => self.push_int::<1>()?,
                b'M' => self.push_int::<2>()?,
                b'J' => {
                    let n = i32::from_le_bytes(self.take()?);
                    self.push(Object::Int(n.into()));
                }
                0x8a => {
                    let n = usize::from(self.take::<1>()?[0]);
                    let mut bytes = [0; 8];
                    let found = self.slice(n)?;
                    let room = bytes.get_mut(..n).ok_or("a number of more than 64 bits")?;
                    room.copy_from_slice(found);
                    let unused = 64 - 8 * n as u32;
                    let n = i64::from_le_bytes(bytes).checked_shl(unused).unwrap_or(0);
                    self.push(Object::Int(n.checked_shr(unused).unwrap_or(0)));
                }
                b'X' => {
                    let n = u32::from_le_bytes(self.take()?) as usize;
                    self.push_text(n)?;
                }
                0x8c => {
                    let n = usize::from(self.take::<1>()?[0]);
                    self.push_text(n)?;
                }
                b'c' => {
                    let class = format!("{} {}", self.line()?, self.line()?);
                    self.push(Object::Class(class));
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    let class = format!("{} {}", self.text(module)?, self.text(name)?);
                    self.push(Object::Class(class));
                }
                b'Q' => {
                    let what = self.pop()?;
                    self.push(Object::Outside(what));
                }
                b'R' => {
                    let (arguments, class) = (self.pop()?, self.pop()?);
                    self.push(Object::Made(class, arguments));
                }
                b'q' => {
                    let at = self.take::<1>()?[0].into();
                    self.remember(at)?;
                }
                b'r' => {
                    let at = u32::from_le_bytes(self.take()?);
                    self.remember(at)?;
                }
                0x94 => self.remember(self.memo.len() as u32)?,
                b'h' => {
                    let at = self.take::<1>()?[0].into();
                    self.recall(at)?;
                }
                b'j' => {
                    let at = u32::from_le_bytes(self.take()?);
                    self.recall(at)?;
                }
                op => return Err(format!("not the pickle of a tensor: operation {op:#04x}")),
            }
        }
    }

    fn slice(&mut self, n: usize) -> Result<&[u8], String> {
        let (now, rest) = self.rest.split_at_checked(n).ok_or("the pickle ends too early")?;
        self.rest = rest;
        Ok(now)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.slice(N)?);
        Ok(out)
    }

    fn line(&mut self) -> Result<String, String> {
        let n = self.rest.iter().position(|&b| b == b'\n').ok_or("the pickle ends too early")?;
        let line = String::from_utf8_lossy(self.slice(n)?).into_owned();
        self.slice(1)?;
        Ok(line)
    }

    fn push(&mut self, object: Object) {
        self.stack.push(self.objects.len());
        self.objects.push(object);
    }

    fn push_int<const N: usize>(&mut self) -> Result<(), String> {
        let n = self.take::<N>()?.iter().rev().fold(0, |n, &b| n << 8 | i64::from(b));
        self.push(Object::Int(n));
        Ok(())
    }

    fn push_text(&mut self, n: usize) -> Result<(), String> {
        let text = String::from_utf8_lossy(self.slice(n)?).into_owned();
        self.push(Object::Text(text));
        Ok(())
    }

    fn pop(&mut self) -> Result<usize, String> {
        self.stack.pop().ok_or_else(|| "the stack is empty".into())
    }

    fn remember(&mut self, at: u32) -> Result<(), String> {
        let top = *self.stack.last().ok_or("the stack is empty")?;
        self.memo.insert(at, top);
        Ok(())
    }

    fn recall(&mut self, at: u32) -> Result<(), String> {
        let object = *self.memo.get(&at).ok_or_else(|| format!("nothing was kept as {at}"))?;
        self.stack.push(object);
        Ok(())
    }

    fn text(&self, at: usize) -> Result<&str, String> {
        match &self.objects[at] {
            Object::Text(text) => Ok(text),
            _ => Err("a class without a name".into()),
        }
    }

    fn tuple(&self, at: usize) -> Option<&[usize]> {
        match &self.objects[at] {
            Object::Tuple(items) => Some(items),
            _ => None,
        }
    }

    fn count(&self, at: usize) -> Option<usize> {
        match self.objects[at] {
            Object::Int(n) => usize::try_from(n).ok(),
            _ => None,
        }
    }

    /// The arguments with which a class is called.
    fn made(&self, at: usize, class: &str) -> Option<&[usize]> {
        let Object::Made(of, arguments) = self.objects[at] else { return None };
        let found = matches!(&self.objects[of], Object::Class(name) if name == class);
        found.then(|| self.tuple(arguments)).flatten()
    }

    /// `_rebuild_tensor_v2(storage, offset, size, stride, ..)`, maybe inside of a parameter.
    fn vector(&self, root: usize) -> Option<Vector> {
        let parameter = self.made(root, "torch._utils _rebuild_parameter");
        let root = parameter.map_or(Some(root), |arguments| arguments.first().copied())?;
        let [storage, offset, size, stride, ..] =
            *self.made(root, "torch._utils _rebuild_tensor_v2")?
        else {
            return None;
        };
        let (&[len], &[stride]) = (self.tuple(size)?, self.tuple(stride)?) else { return None };
        let (len, stride) = (self.count(len)?, self.count(stride)?);
        let Object::Outside(storage) = self.objects[storage] else { return None };
        // ("storage", class, name of the entry, device, numbers)
        let [word, class, key, ..] = *self.tuple(storage)? else { return None };
        let Object::Class(class) = &self.objects[class] else { return None };
        let (word, key) = (self.text(word).ok()?, self.text(key).ok()?.to_owned());
        let kind = Kind::of_storage(class).filter(|_| word == "storage" && stride == 1)?;
        Some(Vector { kind, key, offset: self.count(offset)?, len })
    }
}
