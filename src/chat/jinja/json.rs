//! The filter `tojson` as templates of chat models know it: Python's `json.dumps`.

use std::collections::BTreeMap;
use std::io;

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};
use serde::Serialize;
use serde_json::ser::{CharEscape, Formatter, Serializer};

/// What `json.dumps` can be told.
struct Style {
    item_separator: String,
    key_separator: String,
    /// Text of one level, when values stand on lines of their own.
    indent: Option<String>,
    ensure_ascii: bool,
}

/// `tojson(value, ensure_ascii=false, indent=none, separators=none, sort_keys=false)`
pub(super) fn tojson(
    value: &Value,
    ensure_ascii: Option<bool>,
    args: Kwargs,
) -> Result<String, Error> {
    let ensure_ascii = match ensure_ascii {
        Some(given) => given,
        None => args.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false),
    };
    let indent = match args.get::<Option<Value>>("indent")?.filter(|v| !v.is_none()) {
        None => None,
        Some(text) if text.kind() == ValueKind::String => Some(text.to_string()),
        Some(n) => {
            let n = usize::try_from(n)?;
            if n > 64 {
                return Err(Error::new(ErrorKind::InvalidOperation, "indent is above 64"));
            }
            Some(" ".repeat(n))
        }
    };
    let (item_separator, key_separator) =
        match args.get::<Option<Value>>("separators")?.filter(|v| !v.is_none()) {
            Some(pair) if pair.len() == Some(2) => {
                let text = |i: usize| Ok::<_, Error>(pair.get_item(&Value::from(i))?.to_string());
                (text(0)?, text(1)?)
            }
            Some(_) => {
                return Err(Error::new(ErrorKind::InvalidOperation, "separators are two texts"));
            }
            // Python ends lines with no space.
            None => (if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()),
        };
    let sort_keys = args.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    args.assert_all_used()?;
    let style = Style { item_separator, key_separator, indent, ensure_ascii };
    let mut out = Vec::new();
    let mut serializer =
        Serializer::with_formatter(&mut out, Python { style, depth: 0, any: false });
    let failed = |e: serde_json::Error| {
        Error::new(ErrorKind::InvalidOperation, "no JSON of this").with_source(e)
    };
    if sort_keys {
        sorted(value)?.serialize(&mut serializer).map_err(failed)?;
    } else {
        value.serialize(&mut serializer).map_err(failed)?;
    }
    String::from_utf8(out)
        .map_err(|e| Error::new(ErrorKind::InvalidOperation, "no text").with_source(e))
}

/// The value with the keys of all its objects in order.
fn sorted(value: &Value) -> Result<Value, Error> {
    match value.kind() {
        ValueKind::Map => {
            let entry = |key: Value| Ok((key.clone(), sorted(&value.get_item(&key)?)?));
            let entries =
                value.try_iter()?.map(entry).collect::<Result<BTreeMap<_, _>, Error>>()?;
            Ok(Value::from(entries))
        }
        ValueKind::Seq | ValueKind::Iterable => value.try_iter()?.map(|v| sorted(&v)).collect(),
        _ => Ok(value.clone()),
    }
}

/// Writes what `json.dumps` writes.
struct Python {
    style: Style,
    depth: usize,
    /// Whether the innermost container that was closed or opened has anything in it.
    any: bool,
}

impl Python {
    fn new_line<W: ?Sized + io::Write>(&self, w: &mut W) -> io::Result<()> {
        let Some(indent) = &self.style.indent else { return Ok(()) };
        w.write_all(b"\n")?;
        (0..self.depth).try_for_each(|_| w.write_all(indent.as_bytes()))
    }

    fn open<W: ?Sized + io::Write>(&mut self, w: &mut W, bracket: u8) -> io::Result<()> {
        self.depth += 1;
        self.any = false;
        w.write_all(&[bracket])
    }

    fn close<W: ?Sized + io::Write>(&mut self, w: &mut W, bracket: u8) -> io::Result<()> {
        self.depth -= 1;
        if self.any {
            self.new_line(w)?;
        }
        self.any = true;
        w.write_all(&[bracket])
    }

    fn item<W: ?Sized + io::Write>(&mut self, w: &mut W, first: bool) -> io::Result<()> {
        if !first {
            w.write_all(self.style.item_separator.as_bytes())?;
        }
        self.any = true;
        self.new_line(w)
    }
}

impl Formatter for Python {
    fn begin_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b'[')
    }
    fn end_array<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b']')
    }
    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(w, first)
    }
    fn begin_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.open(w, b'{')
    }
    fn end_object<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        self.close(w, b'}')
    }
    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.item(w, first)
    }
    fn begin_object_value<W: ?Sized + io::Write>(&mut self, w: &mut W) -> io::Result<()> {
        w.write_all(self.style.key_separator.as_bytes())
    }
    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let letter = match escape {
            CharEscape::Quote => b'"',
            CharEscape::ReverseSolidus => b'\\',
            CharEscape::Solidus => b'/',
            CharEscape::Backspace => b'b',
            CharEscape::FormFeed => b'f',
            CharEscape::LineFeed => b'n',
            CharEscape::CarriageReturn => b'r',
            CharEscape::Tab => b't',
            CharEscape::AsciiControl(byte) => return write!(w, "\\u{byte:04x}"),
        };
        w.write_all(&[b'\\', letter])
    }
    fn write_string_fragment<W: ?Sized + io::Write>(
        &mut self,
        w: &mut W,
        text: &str,
    ) -> io::Result<()> {
        if !self.style.ensure_ascii {
            return w.write_all(text.as_bytes());
        }
        for c in text.chars() {
            if c.is_ascii() && c != '\x7f' {
                w.write_all(&[c as u8])?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(w, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
