//! Regular expressions of `pattern`: those of ECMA-262 that a grammar can say.
//!
//! A pattern may match anywhere in the string unless `^` and `$` hold it. What it matches is the
//! string's text; the grammar is of the JSON, so characters are written as JSON writes them.

use std::fmt::Write as _;

use super::expr::{Expr, RuleId, Rules};

/// Most groups within each other.
const MAX_DEPTH: usize = 50;
/// Most parts when repetitions of what may be empty are rewritten.
const MAX_PARTS: usize = 10_000;
const LAST: u32 = 0x10_FFFF;

/// Why a pattern makes no grammar.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Error {
    /// It is no regular expression.
    Invalid(&'static str),
    /// A grammar cannot say it: look-around, back-references, word boundaries, Unicode classes.
    Unsupported,
}

/// A set of characters: ranges in ascending order that do not touch.
type Set = Vec<(u32, u32)>;

/// A regular expression.
#[derive(Clone, Debug, PartialEq)]
enum Regex {
    Set(Set),
    Seq(Vec<Regex>),
    Any(Vec<Regex>),
    Repeat(Box<Regex>, u64, Option<u64>),
    Start,
    End,
}

/// A pattern that a grammar can be made of.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Regex);

fn sorted(mut ranges: Set) -> Set {
    ranges.retain(|(first, last)| first <= last);
    ranges.sort_unstable();
    let mut merged: Set = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

fn inverted(set: &Set) -> Set {
    let mut next = 0;
    let mut all = Vec::new();
    for &(first, last) in set {
        if first > next {
            all.push((next, first - 1));
        }
        next = last + 1;
    }
    if next <= LAST {
        all.push((next, LAST));
    }
    all
}

fn without(set: &Set, others: &[(u32, u32)]) -> Set {
    let mut all = inverted(set);
    all.extend_from_slice(others);
    inverted(&sorted(all))
}

fn has(set: &Set, c: u32) -> bool {
    set.iter().any(|&(first, last)| (first..=last).contains(&c))
}

const DIGIT: &[(u32, u32)] = &[(0x30, 0x39)];
const WORD: &[(u32, u32)] = &[(0x30, 0x39), (0x41, 0x5a), (0x5f, 0x5f), (0x61, 0x7a)];
#[rustfmt::skip]
const SPACE: &[(u32, u32)] = &[
    (9, 13), (0x20, 0x20), (0xa0, 0xa0), (0x1680, 0x1680), (0x2000, 0x200a), (0x2028, 0x2029),
    (0x202f, 0x202f), (0x205f, 0x205f), (0x3000, 0x3000), (0xfeff, 0xfeff),
];
const LINE_ENDS: &[(u32, u32)] = &[(10, 10), (13, 13), (0x2028, 0x2029)];
const ALL: &[(u32, u32)] = &[(0, LAST)];

impl Regex {
    const EMPTY: Self = Self::Seq(Vec::new());

    fn anything() -> Self {
        Self::Repeat(Box::new(Self::Set(ALL.to_vec())), 0, None)
    }

    /// The expression with what may stand before and after it where no anchor is.
    fn anchored(self, left: bool, right: bool) -> Result<Self, Error> {
        let around = |node| {
            let before = left.then(Self::anything);
            let after = right.then(Self::anything);
            match (before, after) {
                (None, None) => node,
                (before, after) => {
                    Self::Seq(before.into_iter().chain([node]).chain(after).collect())
                }
            }
        };
        Ok(match self {
            Self::Any(choices) => {
                let choices = choices.into_iter().map(|choice| choice.anchored(left, right));
                Self::Any(choices.collect::<Result<_, _>>()?)
            }
            Self::Seq(parts) if parts.is_empty() => around(Self::EMPTY),
            Self::Seq(parts) => {
                let last = parts.len() - 1;
                let part =
                    |(i, part): (usize, Self)| part.anchored(left && i == 0, right && i == last);
                Self::Seq(parts.into_iter().enumerate().map(part).collect::<Result<_, _>>()?)
            }
            Self::Start if left => Self::EMPTY.anchored(false, right)?,
            Self::End if right => Self::EMPTY.anchored(left, false)?,
            Self::Start | Self::End => return Err(Error::Unsupported),
            Self::Repeat(part, min, max) => {
                around(Self::Repeat(Box::new(part.anchored(false, false)?), min, max))
            }
            Self::Set(set) => around(Self::Set(set)),
        })
    }

    /// The same without groups in groups.
    fn flat(self) -> Self {
        match self {
            Self::Seq(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    match part.flat() {
                        Self::Seq(inner) => all.extend(inner),
                        part => all.push(part),
                    }
                }
                if all.len() == 1 { all.remove(0) } else { Self::Seq(all) }
            }
            Self::Any(choices) if choices.len() == 1 => {
                choices.into_iter().next().map_or(Self::EMPTY, Self::flat)
            }
            Self::Any(choices) => Self::Any(choices.into_iter().map(Self::flat).collect()),
            Self::Repeat(part, min, max) => Self::Repeat(Box::new(part.flat()), min, max),
            other => other,
        }
    }

    /// Least and greatest number of characters.
    fn lengths(&self) -> (u64, Option<u64>) {
        let add = |a: (u64, Option<u64>), b: (u64, Option<u64>)| {
            (a.0.saturating_add(b.0), a.1.zip(b.1).map(|(a, b)| a.saturating_add(b)))
        };
        match self {
            Self::Set(_) => (1, Some(1)),
            Self::Start | Self::End => (0, Some(0)),
            Self::Seq(parts) => parts.iter().map(Self::lengths).fold((0, Some(0)), add),
            Self::Any(choices) => {
                let all: Vec<_> = choices.iter().map(Self::lengths).collect();
                let max = all.iter().map(|l| l.1).try_fold(0, |m, l| Some(m.max(l?)));
                (all.iter().map(|l| l.0).min().unwrap_or(0), max)
            }
            Self::Repeat(part, min, max) => {
                let (least, most) = part.lengths();
                let most = match (most, max) {
                    (Some(0), _) => Some(0),
                    (most, max) => most.zip(*max).map(|(a, b)| a.saturating_mul(b)),
                };
                (least.saturating_mul(*min), most)
            }
        }
    }

    /// What it matches but for the empty text. `parts` are left to be made.
    fn not_empty(self, parts: &mut usize) -> Result<Self, Error> {
        *parts = parts.checked_sub(1).ok_or(Error::Unsupported)?;
        if self.lengths().0 > 0 {
            return Ok(self);
        }
        Ok(match self {
            Self::Seq(list) => {
                let mut choices = Vec::new();
                for i in 0..list.len() {
                    *parts = parts.checked_sub(list.len() - i).ok_or(Error::Unsupported)?;
                    let first = list[i].clone().not_empty(parts)?;
                    let rest = list[i + 1..].iter().cloned();
                    choices.push(Self::Seq([first].into_iter().chain(rest).collect()));
                }
                Self::Any(choices)
            }
            Self::Any(list) => {
                let list = list.into_iter().map(|choice| choice.not_empty(parts));
                Self::Any(list.collect::<Result<_, _>>()?)
            }
            Self::Repeat(part, _, max) => Self::Repeat(Box::new(part.not_empty(parts)?), 1, max),
            other => other,
        })
    }

    /// The same without endless repetitions of what may be empty: a grammar must get on.
    fn advancing(self, parts: &mut usize) -> Result<Self, Error> {
        let mut all = |list: Vec<Self>| {
            list.into_iter().map(|part| part.advancing(parts)).collect::<Result<Vec<_>, _>>()
        };
        Ok(match self {
            Self::Seq(list) => Self::Seq(all(list)?),
            Self::Any(list) => Self::Any(all(list)?),
            Self::Repeat(part, min, max) => {
                let part = part.advancing(parts)?;
                if part.lengths().0 > 0 {
                    return Ok(Self::Repeat(Box::new(part), min, max));
                }
                if part.lengths().1 == Some(0) {
                    return Ok(Self::EMPTY);
                }
                // Fewer than the least number count too: the others are empty.
                Self::Repeat(Box::new(part.not_empty(parts)?), 0, max)
            }
            other => other,
        })
    }
}

impl Pattern {
    /// Reads a pattern.
    pub(super) fn parse(text: &str) -> Result<Self, Error> {
        let mut parser = Parser { text: text.chars().collect(), pos: 0 };
        let regex = parser.choices(0)?;
        if parser.pos < parser.text.len() {
            return Err(Error::Invalid("a ')' without '('"));
        }
        let regex = regex.anchored(true, true)?.flat();
        Ok(Self(regex.advancing(&mut { MAX_PARTS })?.flat()))
    }

    /// Leaves only strings of some lengths. False if that cannot be said.
    pub(super) fn limit(&mut self, min: u64, max: Option<u64>) -> bool {
        let within = |(least, most): (u64, Option<u64>)| {
            least >= min && max.is_none_or(|max| most.is_some_and(|most| most <= max))
        };
        if within(self.0.lengths()) {
            return true;
        }
        let parts = match &mut self.0 {
            Regex::Seq(parts) => parts.as_mut_slice(),
            other => std::slice::from_mut(other),
        };
        // One repetition of characters may give and take; all else has one length.
        let lengths: Vec<_> = parts.iter().map(Regex::lengths).collect();
        let mut varying = (0..parts.len()).filter(|&i| Some(lengths[i].0) != lengths[i].1);
        let (Some(at), None) = (varying.next(), varying.next()) else { return false };
        let fixed: u64 =
            lengths.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, l)| l.0).sum();
        let Regex::Repeat(part, least, most) = &mut parts[at] else { return false };
        if part.lengths() != (1, Some(1)) || max.is_some_and(|max| max < fixed) {
            return false;
        }
        *least = (*least).max(min.saturating_sub(fixed));
        if let Some(max) = max {
            let left = max - fixed;
            *most = Some(most.map_or(left, |most| most.min(left)));
        }
        true
    }

    /// The expression of the string between the quotation marks.
    pub(super) fn expr(&self, rules: &mut Rules, of: RuleId) -> Expr {
        expr(&self.0, rules, of)
    }
}

fn expr(regex: &Regex, rules: &mut Rules, of: RuleId) -> Expr {
    match regex {
        Regex::Set(set) if set.as_slice() == ALL => Expr::Named("char"),
        Regex::Set(set) => characters(set),
        Regex::Seq(parts) => {
            Expr::seq(parts.iter().map(|part| expr(part, rules, of)).collect::<Vec<_>>())
        }
        Regex::Any(choices) => {
            Expr::any(choices.iter().map(|choice| expr(choice, rules, of)).collect::<Vec<_>>())
        }
        Regex::Repeat(part, min, max) => {
            let part = expr(part, rules, of);
            rules.repeat(of, part, *min, *max)
        }
        Regex::Start | Regex::End => Expr::EMPTY, // anchored() took them
    }
}

/// One character of a set, as JSON writes it.
fn characters(set: &Set) -> Expr {
    const SHORT: [(u32, char); 7] =
        [(0x22, '"'), (0x5c, '\\'), (8, 'b'), (12, 'f'), (10, 'n'), (13, 'r'), (9, 't')];
    // Halves of surrogate pairs are no characters.
    const NOT_RAW: &[(u32, u32)] =
        &[(0, 0x1f), (0x22, 0x22), (0x5c, 0x5c), (0x7f, 0x7f), (0xd800, 0xdfff)];
    let mut all = Vec::new();
    let raw = without(set, NOT_RAW);
    match raw.as_slice() {
        [] => {}
        [(first, last)] if first == last => all.extend(char::from_u32(*first).map(Expr::text)),
        _ => all.push(Expr::class(class(&raw))),
    }
    let short: Vec<char> =
        SHORT.iter().filter(|(code, _)| has(set, *code)).map(|(_, letter)| *letter).collect();
    match short.as_slice() {
        [] => {}
        [letter] => all.push(Expr::text(format!("\\{letter}"))),
        letters => {
            let codes = letters.iter().map(|&c| (c as u32, c as u32)).collect();
            all.push(Expr::seq([Expr::text("\\"), Expr::class(class(&sorted(codes)))]));
        }
    }
    let is_long = |c: &u32| has(set, *c) && !SHORT.iter().any(|(code, _)| code == c);
    for c in (0..0x20).chain([0x7f]).filter(is_long) {
        all.push(Expr::text(format!("\\u{c:04x}")));
    }
    Expr::any(all)
}

/// A set in the notation of grammars.
fn class(set: &Set) -> String {
    let negated = set.last().is_some_and(|range| range.1 == LAST);
    let mut out = String::from(if negated { "[^" } else { "[" });
    let other;
    let ranges = if negated {
        other = inverted(set);
        &other
    } else {
        set
    };
    for &(first, last) in ranges {
        class_character(&mut out, first);
        if last > first {
            if last > first + 1 {
                out.push('-');
            }
            class_character(&mut out, last);
        }
    }
    out.push(']');
    out
}

fn class_character(out: &mut String, c: u32) {
    match char::from_u32(c) {
        Some(plain) if plain.is_ascii_alphanumeric() || " _.:/@#%&+*=".contains(plain) => {
            out.push(plain);
        }
        _ if c < 0x80 => write!(out, "\\x{c:02X}").unwrap_or_default(),
        _ if c < 0x1_0000 => write!(out, "\\u{c:04X}").unwrap_or_default(),
        _ => write!(out, "\\U{c:08X}").unwrap_or_default(),
    }
}

struct Parser {
    text: Vec<char>,
    pos: usize,
}

impl Parser {
    fn peek(&self) -> Option<char> {
        self.text.get(self.pos).copied()
    }

    fn eat(&mut self, text: &str) -> bool {
        let is_next =
            text.chars().enumerate().all(|(i, c)| self.text.get(self.pos + i) == Some(&c));
        if is_next {
            self.pos += text.chars().count();
        }
        is_next
    }

    fn choices(&mut self, depth: usize) -> Result<Regex, Error> {
        if depth > MAX_DEPTH {
            return Err(Error::Unsupported);
        }
        let mut choices = vec![self.sequence(depth)?];
        while self.eat("|") {
            choices.push(self.sequence(depth)?);
        }
        Ok(if choices.len() == 1 { choices.remove(0) } else { Regex::Any(choices) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Regex, Error> {
        let mut parts = Vec::new();
        while let Some(c) = self.peek().filter(|c| !['|', ')'].contains(c)) {
            self.pos += 1;
            let part = match c {
                '^' => Regex::Start,
                '$' => Regex::End,
                '.' => Regex::Set(inverted(&LINE_ENDS.to_vec())),
                '(' => self.group(depth)?,
                '[' => Regex::Set(self.class()?),
                '\\' => Regex::Set(self.escape(false)?),
                '*' | '+' | '?' => return Err(Error::Invalid("a repetition of nothing")),
                c => Regex::Set(vec![(c as u32, c as u32)]),
            };
            parts.push(self.repetition(part)?);
        }
        Ok(Regex::Seq(parts))
    }

    fn group(&mut self, depth: usize) -> Result<Regex, Error> {
        if self.eat("?") && !self.eat(":") {
            if !self.eat("<") || matches!(self.peek(), None | Some('=' | '!')) {
                return Err(Error::Unsupported);
            }
            while self.peek().ok_or(Error::Invalid("the name of a group has no end"))? != '>' {
                self.pos += 1;
            }
            self.pos += 1;
        }
        let inner = self.choices(depth + 1)?;
        if self.eat(")") { Ok(inner) } else { Err(Error::Invalid("a '(' without ')'")) }
    }

    /// What may follow a part: `*`, `+`, `?`, `{m,n}`, each also lazy.
    fn repetition(&mut self, part: Regex) -> Result<Regex, Error> {
        let start = self.pos;
        let (min, max) = match self.peek() {
            Some('*') => (0, None),
            Some('+') => (1, None),
            Some('?') => (0, Some(1)),
            Some('{') => match self.braces() {
                Some(numbers) => numbers,
                None => {
                    self.pos = start; // an ordinary character then
                    return Ok(part);
                }
            },
            _ => return Ok(part),
        };
        if self.pos == start {
            self.pos += 1;
        }
        self.eat("?");
        if max.is_some_and(|max| max < min) {
            return Err(Error::Invalid("numbers of repetitions are out of order"));
        }
        if matches!(self.peek(), Some('*' | '+' | '?')) {
            return Err(Error::Invalid("a repetition of a repetition"));
        }
        if matches!(part, Regex::Start | Regex::End) {
            return Err(Error::Unsupported);
        }
        Ok(Regex::Repeat(Box::new(part), min, max))
    }

    fn braces(&mut self) -> Option<(u64, Option<u64>)> {
        // Two numbers are not longer.
        let end = self.text[self.pos..].iter().take(64).position(|&c| c == '}')?;
        let inner: String = self.text[self.pos + 1..self.pos + end].iter().collect();
        let number = |text: &str| {
            let is_number = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
            is_number.then(|| text.parse().unwrap_or(u64::MAX).min(1 << 53))
        };
        let numbers = match inner.split_once(',') {
            None => (number(&inner)?, Some(number(&inner)?)),
            Some((min, "")) => (number(min)?, None),
            Some((min, max)) => (number(min)?, Some(number(max)?)),
        };
        self.pos += end + 1;
        Some(numbers)
    }

    /// `[…]`, behind the bracket.
    fn class(&mut self) -> Result<Set, Error> {
        const OPEN: Error = Error::Invalid("a '[' without ']'");
        let negated = self.eat("^");
        let mut set = Vec::new();
        loop {
            if self.eat("]") {
                break;
            }
            let first = self.class_atom()?.ok_or(OPEN)?;
            let is_range =
                self.peek() == Some('-') && self.text.get(self.pos + 1).is_some_and(|&c| c != ']');
            if !is_range {
                set.extend(first);
                continue;
            }
            self.pos += 1;
            let last = self.class_atom()?.ok_or(OPEN)?;
            match (first.as_slice(), last.as_slice()) {
                (&[(a, x)], &[(b, y)]) if a == x && b == y => {
                    if a > b {
                        return Err(Error::Invalid("a range of characters is out of order"));
                    }
                    set.push((a, b));
                }
                // A class has no ends: the hyphen stands for itself.
                _ => set.extend(first.into_iter().chain(last).chain([(0x2d, 0x2d)])),
            }
        }
        let set = sorted(set);
        Ok(if negated { inverted(&set) } else { set })
    }

    fn class_atom(&mut self) -> Result<Option<Set>, Error> {
        let Some(c) = self.peek() else { return Ok(None) };
        self.pos += 1;
        match c {
            '\\' => self.escape(true).map(Some),
            c => Ok(Some(vec![(c as u32, c as u32)])),
        }
    }

    /// What a backslash makes of the next characters.
    fn escape(&mut self, in_class: bool) -> Result<Set, Error> {
        let c = self.peek().ok_or(Error::Invalid("a backslash at the end"))?;
        self.pos += 1;
        let one = |c: u32| Ok(vec![(c, c)]);
        match c {
            'd' => Ok(DIGIT.to_vec()),
            'D' => Ok(inverted(&DIGIT.to_vec())),
            'w' => Ok(WORD.to_vec()),
            'W' => Ok(inverted(&WORD.to_vec())),
            's' => Ok(SPACE.to_vec()),
            'S' => Ok(inverted(&SPACE.to_vec())),
            't' => one(9),
            'n' => one(10),
            'v' => one(11),
            'f' => one(12),
            'r' => one(13),
            'b' if in_class => one(8),
            '0' if !self.peek().is_some_and(|c| c.is_ascii_digit()) => one(0),
            'x' => one(self.hex(2)?),
            'u' if self.eat("{") => {
                let mut value = 0u32;
                while !self.eat("}") {
                    let digit = self.peek().and_then(|c| c.to_digit(16));
                    value =
                        value * 16 + digit.ok_or(Error::Invalid("\\u{…} is not hexadecimal"))?;
                    self.pos += 1;
                    if value > LAST {
                        return Err(Error::Invalid("\\u{…} is no character"));
                    }
                }
                one(value)
            }
            'u' => {
                let high = self.hex(4)?;
                if (0xd800..0xdc00).contains(&high) && self.eat("\\u") {
                    let low = self.hex(4)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(Error::Unsupported);
                    }
                    return one(0x1_0000 + ((high - 0xd800) << 10) + (low - 0xdc00));
                }
                one(high)
            }
            c if c.is_ascii_alphanumeric() => Err(Error::Unsupported),
            c => one(c as u32),
        }
    }

    fn hex(&mut self, n: usize) -> Result<u32, Error> {
        let mut value = 0;
        for _ in 0..n {
            let digit = self.peek().and_then(|c| c.to_digit(16));
            value = value * 16 + digit.ok_or(Error::Invalid("\\x or \\u without digits"))?;
            self.pos += 1;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_said_and_what_is_wrong_differ() {
        for pattern in ["^(?=a)a$", "a\\b", "(a)\\1", "\\p{L}", "a^b", "(?<!x)y", "$a", "(^a)+"] {
            assert_eq!(Pattern::parse(pattern).unwrap_err(), Error::Unsupported, "{pattern}");
        }
        for pattern in ["^(a$", "a)", "[a", "*a", "a**", "a{3,2}", "[z-a]", "\\", "\\xg0", "(?<n"] {
            let error = Pattern::parse(pattern).unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{pattern}: {error:?}");
        }
        for pattern in ["", "a{,3}", "a{x}", "]", "}", "x{", "^$", "[]", "(?<name>a)", "a|"] {
            assert!(Pattern::parse(pattern).is_ok(), "{pattern}");
        }
    }

    #[test]
    fn groups_nest_to_a_limit() {
        let nested = |n| format!("{}a{}", "(".repeat(n), ")".repeat(n));
        assert!(Pattern::parse(&nested(MAX_DEPTH)).is_ok());
        assert_eq!(Pattern::parse(&nested(100_000)).unwrap_err(), Error::Unsupported);
    }

    #[test]
    fn lengths_narrow_the_one_part_that_gives() {
        let limited = |pattern, min, max| {
            let mut pattern = Pattern::parse(pattern).unwrap();
            pattern.limit(min, max).then(|| pattern.0.lengths())
        };
        assert_eq!(limited("^[a-z]+$", 3, Some(5)), Some((3, Some(5))));
        assert_eq!(limited("^[a-z][a-z0-9-]*$", 0, Some(63)), Some((1, Some(63))));
        assert_eq!(limited("^\\d{4}$", 1, Some(4)), Some((4, Some(4))));
        assert_eq!(limited("^(ab)+$", 0, Some(7)), None);
        assert_eq!(limited("^a*b*$", 0, Some(7)), None);
    }
}
