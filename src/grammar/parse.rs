//! From GBNF text to rules.
//!
//! Groups and repetitions become rules of their own: `(…)` is one, `S*` is `S' ::= S S' |`, and
//! `S{m,n}` is m times S and then n - m rules, each S and the one before it or nothing. There is no
//! recursion here, so that a text of parentheses cannot use up the thread's stack.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::Error;
use super::rules::{CharSet, Grammar};
use crate::vocab::Vocab;

/// Most copies that repetitions may make of one item, also when they are nested (llama.cpp's
/// limit). A greater upper bound counts as none.
const MAX_REPETITIONS: u64 = 2000;

/// Most elements of all rules. Below it a grammar takes tens of megabytes.
pub(super) const MAX_ELEMENTS: usize = 1 << 21;

/// One element of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// What follows is another alternative.
    Alternative,
    /// Another rule.
    Rule(u32),
    /// A character of a set.
    Chars(u32),
    /// One token, whatever its text.
    Token(u32),
    /// Any token but one.
    NotToken(u32),
}

/// A name and what it stands for.
struct Symbol {
    /// As written; for rules made here that of the rule they belong to.
    name: Rc<[u8]>,
    made: bool,
    /// Where its items lie.
    rule: Option<(usize, usize)>,
}

/// A rule that is being read: the definition itself or a group within it.
struct Open {
    symbol: u32,
    items: Vec<Item>,
    /// Where the item begins that a repetition would repeat.
    last: usize,
    /// How many rules that item stands for.
    n_copies: u64,
    /// Number of symbols before the group.
    n_symbols: usize,
    /// Where it begins in the text.
    start: usize,
}

/// Reads a grammar.
pub(super) struct Parser<'a> {
    text: &'a [u8],
    pos: usize,
    vocab: Option<&'a Vocab>,
    symbols: Vec<Symbol>,
    names: FxHashMap<Rc<[u8]>, u32>,
    items: Vec<Item>,
    sets: Vec<CharSet>,
    set_ids: FxHashMap<CharSet, u32>,
}

impl<'a> Parser<'a> {
    /// Reads `text` up to its end or a NUL. `vocab` is for tokens by name.
    pub(super) fn parse(
        text: &'a [u8],
        root: &[u8],
        vocab: Option<&'a Vocab>,
    ) -> Result<Grammar, Error> {
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        let mut parser = Self {
            text: &text[..end],
            pos: 0,
            vocab,
            symbols: Vec::new(),
            names: FxHashMap::default(),
            items: Vec::new(),
            sets: Vec::new(),
            set_ids: FxHashMap::default(),
        };
        parser.space(true);
        while parser.pos < end {
            parser.rule()?;
        }
        parser.check_defined()?;
        let root = parser.find_root(root)?;
        let rules =
            parser.symbols.iter().map(|symbol| symbol.rule.map(|(a, b)| &parser.items[a..b]));
        let name = |rule: usize| printable(&parser.symbols[rule].name);
        Grammar::new(rules, &parser.sets, root, &name)
    }

    /// The byte at the present place plus `ahead`; 0 at the end.
    fn peek(&self, ahead: usize) -> u8 {
        self.text.get(self.pos + ahead).copied().unwrap_or(0)
    }

    fn expected(&self, what: impl Into<String>) -> Error {
        self.expected_at(self.pos, what)
    }

    fn expected_at(&self, pos: usize, what: impl Into<String>) -> Error {
        let found = match self.text.get(pos) {
            None => "the end".to_owned(),
            Some(b'\n' | b'\r') => "the end of the line".to_owned(),
            Some(_) => {
                let rest = &self.text[pos..self.text.len().min(pos + 4)];
                let first = String::from_utf8_lossy(rest).chars().next().unwrap_or_default();
                format!("'{}'", first.escape_debug())
            }
        };
        let (line, column) = self.place(pos);
        Error::Syntax { line, column, expected: what.into(), found }
    }

    /// Line and column of a byte, from 1.
    fn place(&self, pos: usize) -> (usize, usize) {
        let before = &self.text[..pos.min(self.text.len())];
        let line_start = memchr::memrchr(b'\n', before).map_or(0, |at| at + 1);
        let column = 1 + String::from_utf8_lossy(&before[line_start..]).chars().count();
        (1 + memchr::memchr_iter(b'\n', before).count(), column)
    }

    /// What is expected to close something that was opened.
    fn closing(&self, close: &str, start: usize) -> String {
        let (line, column) = self.place(start);
        format!("'{close}' for what line {line}, column {column} opens")
    }

    /// Skips spaces and comments, and line ends if they mean nothing here.
    fn space(&mut self, line_ends: bool) {
        loop {
            match self.peek(0) {
                b' ' | b'\t' => self.pos += 1,
                b'\r' | b'\n' if line_ends => self.pos += 1,
                b'#' => {
                    let rest = &self.text[self.pos..];
                    self.pos += memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
                }
                _ => return,
            }
        }
    }

    /// The characters of a name, if there are any.
    fn name(&mut self) -> &'a [u8] {
        let is_word = |byte: &&u8| byte.is_ascii_alphanumeric() || **byte == b'-';
        let rest = &self.text[self.pos..];
        let len = rest.iter().take_while(is_word).count();
        self.pos += len;
        &rest[..len]
    }

    fn symbol(&mut self, name: &[u8]) -> u32 {
        if let Some(&symbol) = self.names.get(name) {
            return symbol;
        }
        let symbol = self.symbols.len() as u32;
        let name: Rc<[u8]> = name.into();
        self.symbols.push(Symbol { name: name.clone(), made: false, rule: None });
        self.names.insert(name, symbol);
        symbol
    }

    /// A symbol for a part of the rule `of`.
    fn make_symbol(&mut self, of: u32) -> u32 {
        let name = self.symbols[of as usize].name.clone();
        self.symbols.push(Symbol { name, made: true, rule: None });
        self.symbols.len() as u32 - 1
    }

    /// Defines a symbol, again if it has been before.
    fn define(&mut self, symbol: u32, items: &[Item], tail: &[Item]) -> Result<(), Error> {
        let start = self.items.len();
        // Each rule has an end and a place in tables.
        if start + items.len() + tail.len() + self.symbols.len() > MAX_ELEMENTS {
            return Err(Error::TooLarge);
        }
        self.items.extend_from_slice(items);
        self.items.extend_from_slice(tail);
        self.symbols[symbol as usize].rule = Some((start, self.items.len()));
        Ok(())
    }

    fn rule(&mut self) -> Result<(), Error> {
        let name = self.name();
        if name.is_empty() {
            return Err(self.expected("the name of a rule"));
        }
        let symbol = self.symbol(name);
        self.space(false);
        if !self.text[self.pos..].starts_with(b"::=") {
            return Err(self.expected("'::='"));
        }
        self.pos += 3;
        self.space(true);
        self.alternatives(symbol)?;
        match (self.peek(0), self.peek(1)) {
            (b'\r', b'\n') => self.pos += 2,
            (b'\r' | b'\n', _) => self.pos += 1,
            (0, _) => {}
            _ => return Err(self.expected("an item, '|' or the end of the line")),
        }
        self.space(true);
        Ok(())
    }

    /// The right side of a rule, with all groups in it.
    fn alternatives(&mut self, symbol: u32) -> Result<(), Error> {
        let open = |symbol, n_symbols, start| {
            let items = Vec::new();
            Open { symbol, items, last: 0, n_copies: 1, n_symbols, start }
        };
        let mut outer: Vec<Open> = Vec::new();
        let mut rule = open(symbol, 0, self.pos);
        loop {
            let nested = !outer.is_empty();
            match self.peek(0) {
                b'(' => {
                    let start = self.pos;
                    self.pos += 1;
                    self.space(true);
                    let n_symbols = self.symbols.len();
                    let group = self.make_symbol(symbol);
                    outer.push(std::mem::replace(&mut rule, open(group, n_symbols, start)));
                }
                b'|' => {
                    self.pos += 1;
                    self.space(true);
                    rule.items.push(Item::Alternative);
                    (rule.last, rule.n_copies) = (rule.items.len(), 1);
                }
                b'*' | b'+' | b'?' | b'{' => {
                    let (min, max) = self.repetitions(nested)?;
                    self.repeat(&mut rule, min, max, symbol)?;
                }
                _ => {
                    let last = rule.items.len();
                    if self.item(&mut rule.items)? {
                        (rule.last, rule.n_copies) = (last, 1);
                        self.space(nested);
                        continue;
                    }
                    let Some(mut around) = outer.pop() else {
                        return self.define(symbol, &rule.items, &[]);
                    };
                    if self.peek(0) != b')' {
                        let close = self.closing(")", rule.start);
                        return Err(self.expected(format!("an item, '|' or {close}")));
                    }
                    self.pos += 1;
                    self.space(!outer.is_empty());
                    self.define(rule.symbol, &rule.items, &[])?;
                    around.n_copies = (self.symbols.len() - rule.n_symbols) as u64;
                    around.last = around.items.len();
                    around.items.push(Item::Rule(rule.symbol));
                    rule = around;
                }
            }
            if rule.items.len() > MAX_ELEMENTS {
                return Err(Error::TooLarge);
            }
        }
    }

    /// Reads a literal, a set of characters, a token or the name of a rule, if there is one.
    fn item(&mut self, items: &mut Vec<Item>) -> Result<bool, Error> {
        match self.peek(0) {
            b'"' => {
                let start = self.pos;
                self.pos += 1;
                while self.peek(0) != b'"' {
                    let c = self.character("\"", start)?;
                    items.push(Item::Chars(self.set(CharSet::new(false, vec![(c, c)]))));
                }
                self.pos += 1;
            }
            b'[' => self.char_set(items)?,
            b'.' => {
                self.pos += 1;
                items.push(Item::Chars(self.set(CharSet::any())));
            }
            b'!' => {
                self.pos += 1;
                items.push(Item::NotToken(self.token()?));
            }
            b'<' => items.push(Item::Token(self.token()?)),
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                let name = self.name();
                items.push(Item::Rule(self.symbol(name)));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn set(&mut self, set: CharSet) -> u32 {
        if let Some(&id) = self.set_ids.get(&set) {
            return id;
        }
        let id = self.sets.len() as u32;
        self.sets.push(set.clone());
        self.set_ids.insert(set, id);
        id
    }

    /// `[…]`; an empty one matches the empty text, as in llama.cpp.
    fn char_set(&mut self, items: &mut Vec<Item>) -> Result<(), Error> {
        let start = self.pos;
        self.pos += 1;
        let negated = self.peek(0) == b'^';
        self.pos += usize::from(negated);
        let mut ranges = Vec::new();
        while self.peek(0) != b']' {
            let first = self.character("]", start)?;
            let mut last = first;
            if self.peek(0) == b'-' && self.peek(1) != b']' {
                self.pos += 1;
                last = self.character("]", start)?;
            }
            ranges.push((first, last));
        }
        self.pos += 1;
        if !ranges.is_empty() {
            items.push(Item::Chars(self.set(CharSet::new(negated, ranges))));
        }
        Ok(())
    }

    /// One character of the literal or the set that began at `start`. `close` would end it.
    fn character(&mut self, close: &str, start: usize) -> Result<u32, Error> {
        let first = self.peek(0);
        if first == 0 {
            return Err(self.expected(format!("a character or {}", self.closing(close, start))));
        }
        if first != b'\\' {
            return Ok(self.raw_character(first));
        }
        let escape = self.peek(1);
        let n_digits = match escape {
            b'x' => 2,
            b'u' => 4,
            b'U' => 8,
            _ => 0,
        };
        if n_digits == 0 {
            let value = match escape {
                b't' => b'\t',
                b'r' => b'\r',
                b'n' => b'\n',
                b'\\' | b'"' | b'[' | b']' | b'-' => escape,
                _ => {
                    let what = "one of x u U t r n \\ \" [ ] - after the backslash";
                    return Err(self.expected_at(self.pos + 1, what));
                }
            };
            self.pos += 2;
            return Ok(value.into());
        }
        self.pos += 2;
        let mut value = 0u32;
        for _ in 0..n_digits {
            let digit = (self.peek(0) as char).to_digit(16);
            let what = || format!("{n_digits} hexadecimal digits after \\{}", escape as char);
            value = (value << 4) | digit.ok_or_else(|| self.expected(what()))?;
            self.pos += 1;
        }
        Ok(value)
    }

    /// A character as it is. As in llama.cpp, its first byte says how many there are and the
    /// others are not looked at.
    fn raw_character(&mut self, first: u8) -> u32 {
        let (len, mask) = match first {
            0x00..=0xbf => (1, 0x7f),
            0xc0..=0xdf => (2, 0x3f),
            0xe0..=0xef => (3, 0x1f),
            0xf0..=0xff => (4, 0x0f),
        };
        let end = (self.pos + len).min(self.text.len());
        let rest = &self.text[self.pos + 1..end];
        self.pos = end;
        rest.iter()
            .fold(u32::from(first & mask), |value, byte| (value << 6) + u32::from(byte & 0x3f))
    }

    /// `<[id]>`, or the name of a token with its angle brackets.
    fn token(&mut self) -> Result<u32, Error> {
        let start = self.pos;
        if self.peek(0) != b'<' {
            return Err(self.expected("'<'"));
        }
        if self.peek(1) == b'[' {
            self.pos += 2;
            let id = self.integer("the number of a token")?;
            let id = u32::try_from(id)
                .map_err(|_| self.expected_at(start + 2, "a token number below 2^32"))?;
            for (byte, name) in [(b']', "']'"), (b'>', "'>'")] {
                if self.peek(0) != byte {
                    return Err(self.expected(name));
                }
                self.pos += 1;
            }
            return Ok(id);
        }
        let Some(vocab) = self.vocab else {
            return Err(self.expected("the number of a token, <[number]>: there is no vocabulary"));
        };
        let rest = &self.text[start..];
        let Some(len) = memchr::memchr(b'>', rest) else {
            return Err(self.expected_at(self.text.len(), "'>'"));
        };
        let name = &rest[..=len];
        self.pos += len + 1;
        match vocab.tokenize(name, false, true).as_deref() {
            Ok(&[token]) => Ok(token as u32),
            _ => {
                let what = format!("a text that is one token (not '{}')", printable(name));
                Err(self.expected_at(start, what))
            }
        }
    }

    /// Decimal digits; what does not fit counts as the greatest number.
    fn integer(&mut self, what: &str) -> Result<u64, Error> {
        let rest = &self.text[self.pos..];
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Err(self.expected(what));
        }
        let add = |n: u64, byte: &u8| n.saturating_mul(10).saturating_add(u64::from(byte - b'0'));
        let value = rest[..digits].iter().fold(0, add);
        if value == u64::MAX {
            return Err(self.expected(format!("{what} below 2^64")));
        }
        self.pos += digits;
        Ok(value)
    }

    /// `*`, `+`, `?`, `{m}`, `{m,}` or `{m,n}`: least and greatest number.
    fn repetitions(&mut self, nested: bool) -> Result<(u64, Option<u64>), Error> {
        let start = self.pos;
        let sign = self.peek(0);
        self.pos += 1;
        self.space(nested);
        match sign {
            b'*' => return Ok((0, None)),
            b'+' => return Ok((1, None)),
            b'?' => return Ok((0, Some(1))),
            _ => {}
        }
        let min = self.integer("a number of repetitions")?;
        self.space(nested);
        let mut max = Some(min);
        if self.peek(0) == b',' {
            self.pos += 1;
            self.space(nested);
            max = None;
            if self.peek(0).is_ascii_digit() {
                max = Some(self.integer("a number of repetitions")?);
                self.space(nested);
            }
            if self.peek(0) != b'}' {
                return Err(self.expected("'}'"));
            }
        } else if self.peek(0) != b'}' {
            return Err(self.expected("',' or '}'"));
        }
        self.pos += 1;
        self.space(nested);
        if min > MAX_REPETITIONS {
            let what = format!("at most {MAX_REPETITIONS} repetitions (not {min})");
            return Err(self.expected_at(start, what));
        }
        if let Some(max) = max.filter(|&max| max < min) {
            let what = format!("no less than {min} repetitions at most (not {max})");
            return Err(self.expected_at(start, what));
        }
        Ok((min, max.filter(|&max| max <= MAX_REPETITIONS)))
    }

    /// Puts repetitions of its last item in a rule.
    fn repeat(
        &mut self,
        rule: &mut Open,
        min: u64,
        max: Option<u64>,
        symbol: u32,
    ) -> Result<(), Error> {
        if rule.last == rule.items.len() {
            return Err(self.expected("an item before the repetition"));
        }
        let item = rule.items[rule.last..].to_vec();
        let n = max.filter(|&max| max > 0).unwrap_or(min).max(1);
        if rule.n_copies * n > MAX_REPETITIONS {
            let what = format!("at most {MAX_REPETITIONS} repetitions, also when nested");
            return Err(self.expected(format!("{what} (not {} times {n})", rule.n_copies)));
        }
        rule.n_copies *= n;
        if rule.items.len() + item.len() * min as usize > MAX_ELEMENTS {
            return Err(Error::TooLarge);
        }
        match min {
            0 => rule.items.truncate(rule.last),
            _ => (1..min).for_each(|_| rule.items.extend_from_slice(&item)),
        }
        let mut last = None;
        match max {
            None => {
                let more = self.make_symbol(symbol);
                self.define(more, &item, &[Item::Rule(more), Item::Alternative])?;
                last = Some(more);
            }
            Some(max) => {
                for _ in min..max {
                    let optional = self.make_symbol(symbol);
                    match last {
                        Some(rest) => {
                            self.define(optional, &item, &[Item::Rule(rest), Item::Alternative])?;
                        }
                        None => self.define(optional, &item, &[Item::Alternative])?,
                    }
                    last = Some(optional);
                }
            }
        }
        rule.items.extend(last.map(Item::Rule));
        Ok(())
    }

    /// Every rule that is used must be defined, and every name that comes before a defined one.
    fn check_defined(&self) -> Result<(), Error> {
        let Some(last) = self.symbols.iter().rposition(|symbol| symbol.rule.is_some()) else {
            return Err(Error::Empty);
        };
        let is_defined = |symbol: u32| self.symbols[symbol as usize].rule.is_some();
        let used = self.symbols.iter().filter_map(|symbol| symbol.rule);
        let used = used.flat_map(|(a, b)| &self.items[a..b]);
        let used = used.filter_map(|item| match item {
            Item::Rule(symbol) => Some(*symbol),
            _ => None,
        });
        match (0..last as u32).chain(used).find(|&symbol| !is_defined(symbol)) {
            Some(missing) => {
                Err(Error::Undefined { name: printable(&self.symbols[missing as usize].name) })
            }
            None => Ok(()),
        }
    }

    /// The rule to start with. Also parts of rules have names: that of the rule and a number.
    fn find_root(&self, name: &[u8]) -> Result<u32, Error> {
        let part = || {
            let at = memchr::memrchr(b'_', name)?;
            let number = std::str::from_utf8(&name[at + 1..]).ok()?;
            let symbol: u32 = number.parse().ok()?;
            let found = self.symbols.get(symbol as usize)?;
            let is_it = found.made && *found.name == name[..at] && symbol.to_string() == number;
            is_it.then_some(symbol)
        };
        let found = self.names.get(name).copied().or_else(part);
        let found = found.filter(|&symbol| self.symbols[symbol as usize].rule.is_some());
        found.ok_or_else(|| Error::NoRoot { name: printable(name) })
    }
}

/// Bytes for a message.
fn printable(bytes: &[u8]) -> String {
    const MOST: usize = 80;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MOST)]).escape_debug().to_string();
    if bytes.len() > MOST { text + "…" } else { text }
}
