//! The regular expressions of C++ (`std::regex`, ECMAScript, as libstdc++ has it) for
//! `fancy_regex`.
//!
//! `std::regex` knows bytes, not characters. So text goes in with each byte as the character of
//! that number, and every set of characters is written out.

use std::fmt::Write;

/// A set of bytes.
type Bytes = [bool; 256];

/// The expression in the notation of `fancy_regex`, or what is wrong with it.
pub(super) fn translate(pattern: &[u8]) -> Result<String, String> {
    let mut translator = Translator { pattern, pos: 0, out: String::new() };
    translator.run()?;
    Ok(translator.out)
}

struct Translator<'a> {
    pattern: &'a [u8],
    pos: usize,
    out: String,
}

/// A group that is not closed yet.
struct Group {
    /// Where it begins in what is written.
    start: usize,
    /// It looks ahead.
    looks: bool,
}

impl Translator<'_> {
    fn next(&mut self) -> Option<u8> {
        let byte = self.pattern.get(self.pos).copied();
        self.pos += usize::from(byte.is_some());
        byte
    }

    fn take(&mut self, text: &[u8]) -> bool {
        let there = self.pattern[self.pos..].starts_with(text);
        self.pos += if there { text.len() } else { 0 };
        there
    }

    fn run(&mut self) -> Result<(), String> {
        let mut groups: Vec<Group> = Vec::new();
        // Where the item begins that a repetition would repeat.
        let mut item: Option<usize> = None;
        let mut is_repeated = false;
        while let Some(byte) = self.next() {
            let start = self.out.len();
            let mut atom = Some(start);
            match byte {
                b'^' => (atom, _) = (None, self.out.push_str(r"\A")),
                b'$' => (atom, _) = (None, self.out.push_str(r"\z")),
                b'|' => (atom, _) = (None, self.out.push('|')),
                b'.' => self.write_set(|b| !matches!(b, b'\n' | b'\r')),
                b'(' => {
                    let kind = [(&b"?:"[..], "(?:"), (b"?=", "(?="), (b"?!", "(?!")];
                    let kind = kind.into_iter().find(|(text, _)| self.take(text));
                    if kind.is_none() && self.pattern.get(self.pos) == Some(&b'?') {
                        return Err(format!("unknown group (? at byte {}", self.pos));
                    }
                    let text = kind.map_or("(", |(_, text)| text);
                    self.out.push_str(text);
                    groups.push(Group { start, looks: matches!(text, "(?=" | "(?!") });
                    atom = None;
                }
                b')' => {
                    let Some(group) = groups.pop() else { return Err("unmatched )".to_owned()) };
                    self.out.push(')');
                    atom = (!group.looks).then_some(group.start);
                }
                b'*' | b'+' | b'?' | b'{' => {
                    let Some(from) = item else {
                        return Err(format!("nothing to repeat before byte {}", self.pos));
                    };
                    if is_repeated {
                        self.out.insert_str(from, "(?:");
                        self.out.push(')');
                    }
                    match byte {
                        b'{' => self.interval()?,
                        sign => self.out.push(sign as char),
                    }
                    if self.take(b"?") {
                        self.out.push('?');
                    }
                    is_repeated = true;
                    continue;
                }
                b'[' => self.bracket()?,
                b'\\' => atom = self.escape()?.then_some(start),
                literal => self.write_set(|b| b == literal),
            }
            (item, is_repeated) = (atom, false);
        }
        if groups.is_empty() { Ok(()) } else { Err("unmatched (".to_owned()) }
    }

    /// A number of repetitions.
    fn interval(&mut self) -> Result<(), String> {
        let rest = &self.pattern[self.pos..];
        let end = memchr::memchr(b'}', rest).ok_or("unmatched {")?;
        let text = std::str::from_utf8(&rest[..end]).unwrap_or_default();
        let (min, max) = text.split_once(',').unwrap_or((text, text));
        let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !is_number(min) || !(max.is_empty() || is_number(max)) {
            return Err(format!("{{{text}}} is no number of repetitions"));
        }
        self.pos += end + 1;
        let _ = write!(self.out, "{{{text}}}"); // a String takes everything
        Ok(())
    }

    /// What follows a backslash outside brackets. False for what matches no character.
    fn escape(&mut self) -> Result<bool, String> {
        let Some(byte) = self.next() else { return Err("a backslash at the end".to_owned()) };
        match byte {
            b'b' | b'B' => {
                let words = write_bytes(&bytes(is_word));
                let (inside, outside) = (format!("(?<={words})"), format!("(?<!{words})"));
                let (before, after) = (format!("(?={words})"), format!("(?!{words})"));
                let (a, b) = if byte == b'b' { (after, before) } else { (before, after) };
                let _ = write!(self.out, "(?:{inside}{a}|{outside}{b})");
                return Ok(false);
            }
            b'1'..=b'9' => {
                let start = self.pos - 1;
                while self.pattern.get(self.pos).is_some_and(u8::is_ascii_digit) {
                    self.pos += 1;
                }
                let number = String::from_utf8_lossy(&self.pattern[start..self.pos]);
                let _ = write!(self.out, "(?:\\{number})");
            }
            _ => {
                let set = self.escaped(byte)?;
                self.out.push_str(&write_bytes(&set));
            }
        }
        Ok(true)
    }

    /// The set that an escape stands for, in brackets or not.
    fn escaped(&mut self, byte: u8) -> Result<Bytes, String> {
        let one = |byte: u8| bytes(|b| b == byte);
        Ok(match byte {
            b'd' => bytes(|b| b.is_ascii_digit()),
            b'D' => bytes(|b| !b.is_ascii_digit()),
            b'w' => bytes(is_word),
            b'W' => bytes(|b| !is_word(b)),
            b's' => bytes(is_space),
            b'S' => bytes(|b| !is_space(b)),
            b'0' => one(0),
            b'f' => one(0x0c),
            b'n' => one(b'\n'),
            b'r' => one(b'\r'),
            b't' => one(b'\t'),
            b'v' => one(0x0b),
            b'c' => match self.next() {
                Some(letter) => one(letter), // a control character elsewhere, but not there
                None => return Err("\\c without a letter".to_owned()),
            },
            b'x' | b'u' => {
                let n_digits = if byte == b'x' { 2 } else { 4 };
                let mut value = 0u32;
                for _ in 0..n_digits {
                    let digit = self.next().and_then(|b| (b as char).to_digit(16));
                    let wrong =
                        || format!("\\{} needs {n_digits} hexadecimal digits", byte as char);
                    value = value << 4 | digit.ok_or_else(wrong)?;
                }
                one(value as u8) // a char of C++ has no more
            }
            other => one(other),
        })
    }

    /// `[…]`; `[]` matches nothing.
    fn bracket(&mut self) -> Result<(), String> {
        let negated = self.take(b"^");
        let mut set = [false; 256];
        // A single byte that may begin a range.
        let mut first: Option<u8> = None;
        loop {
            let Some(byte) = self.next() else { return Err("unmatched [".to_owned()) };
            if byte == b']' {
                break;
            }
            let is_range = byte == b'-' && !matches!(self.pattern.get(self.pos), None | Some(b']'));
            if let (true, Some(low)) = (is_range, first) {
                let end = self.next().unwrap_or_default();
                let high = self.bracket_item(end)?;
                let Some(high) = single(&high) else {
                    return Err("a range needs a character at its end".to_owned());
                };
                if low > high {
                    return Err(format!(
                        "the range {:?}-{:?} is reversed",
                        low as char, high as char
                    ));
                }
                set[usize::from(low)..=usize::from(high)].fill(true);
                first = None;
                continue;
            }
            let item = self.bracket_item(byte)?;
            set.iter_mut().zip(item).for_each(|(all, one)| *all |= one);
            first = single(&item);
        }
        set.iter_mut().for_each(|b| *b ^= negated);
        self.out.push_str(&write_bytes(&set));
        Ok(())
    }

    /// What stands for itself or a class in brackets.
    fn bracket_item(&mut self, byte: u8) -> Result<Bytes, String> {
        match (byte, self.pattern.get(self.pos)) {
            (b'\\', _) => match self.next() {
                Some(b'b') => Ok(bytes(|b| b == 8)),
                Some(escape) => self.escaped(escape),
                None => Err("a backslash at the end".to_owned()),
            },
            (b'[', Some(&kind @ (b':' | b'.' | b'='))) => {
                let rest = &self.pattern[self.pos + 1..];
                let end = memchr::memmem::find(rest, &[kind, b']']);
                let end = end.ok_or("unmatched [ in brackets")?;
                self.pos += end + 3;
                let name = &rest[..end];
                match (kind, name) {
                    (b':', _) => class(name),
                    (_, &[one]) => Ok(bytes(|b| b == one)),
                    _ => Err(format!("unknown character '{}'", String::from_utf8_lossy(name))),
                }
            }
            _ => Ok(bytes(|b| b == byte)),
        }
    }

    fn write_set(&mut self, has: impl Fn(u8) -> bool) {
        self.out.push_str(&write_bytes(&bytes(has)));
    }
}

fn bytes(has: impl Fn(u8) -> bool) -> Bytes {
    std::array::from_fn(|byte| has(byte as u8))
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// C's `isspace`.
fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

/// The only byte of a set of one.
fn single(set: &Bytes) -> Option<u8> {
    let mut all = (0..=255u8).filter(|&b| set[usize::from(b)]);
    all.next().filter(|_| all.next().is_none())
}

/// A named class in C's locale.
fn class(name: &[u8]) -> Result<Bytes, String> {
    let has: fn(u8) -> bool = match name {
        b"alpha" => |b| b.is_ascii_alphabetic(),
        b"digit" | b"d" => |b| b.is_ascii_digit(),
        b"alnum" => |b| b.is_ascii_alphanumeric(),
        b"upper" => |b| b.is_ascii_uppercase(),
        b"lower" => |b| b.is_ascii_lowercase(),
        b"space" | b"s" => is_space,
        b"w" => is_word,
        b"blank" => |b| b == b' ' || b == b'\t',
        b"cntrl" => |b| b.is_ascii_control(),
        b"graph" => |b| b.is_ascii_graphic(),
        b"print" => |b| b.is_ascii_graphic() || b == b' ',
        b"punct" => |b| b.is_ascii_punctuation(),
        b"xdigit" => |b| b.is_ascii_hexdigit(),
        _ => return Err(format!("unknown class [:{}:]", String::from_utf8_lossy(name))),
    };
    Ok(bytes(has))
}

/// A set in the notation of `fancy_regex`.
fn write_bytes(set: &Bytes) -> String {
    if let Some(byte) = single(set).filter(u8::is_ascii_alphanumeric) {
        return (byte as char).to_string();
    }
    let mut out = "[".to_owned();
    let mut byte = 0;
    while byte < 256 {
        let run = set[byte..].iter().take_while(|&&has| has).count();
        if run > 0 {
            let _ = write!(out, "\\x{{{byte:x}}}-\\x{{{:x}}}", byte + run - 1);
        }
        byte += run.max(1);
    }
    // No set is empty but one that leaves nothing out is.
    if out.len() == 1 { r"[^\x{0}-\x{10ffff}]".to_owned() } else { out + "]" }
}
