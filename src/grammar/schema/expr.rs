//! Expressions and rules of a grammar in the making, and how they are written.

use std::fmt::Write as _;
use std::rc::Rc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Error, MAX_TEXT};

/// Copies that are left to the notation's `{m,n}`; more are said with rules that double.
const MOST_COPIES: u64 = 128;
/// Groups that a repetition is about, at most.
const MOST_GROUPS: usize = 100;
/// Literals up to this length stand where they are used instead of in a rule of their own.
const SHORT: usize = 24;
const MOST_NAME: usize = 60;

/// Rules that are the same in all grammars: name, definition, and the rules that it uses.
#[rustfmt::skip]
const BUILT_IN: &[(&str, &str, &[&str])] = &[
    ("space", r#"| " " | "\n"{1,2} [ \t]{0,20}"#, &[]),
    ("value", "object | array | string | number | boolean | null",
        &["object", "array", "string", "number", "boolean", "null"]),
    ("object",
        r#""{" space (string space ":" space value ("," space string space ":" space value)* space)? "}""#,
        &["space", "string", "value"]),
    ("array", r#""[" space (value ("," space value)* space)? "]""#, &["space", "value"]),
    ("string", r#""\"" char* "\"""#, &["char"]),
    ("char", r#"[^"\\\x00-\x1F\x7F] | "\\" (["\\/bfnrt] | "u" code-unit)"#, &["code-unit"]),
    // No half of a surrogate pair without the other one.
    ("code-unit",
        r#"[0-9a-cA-CefEF] [0-9a-fA-F]{3} | [dD] [0-7] [0-9a-fA-F]{2} | [dD] [89abAB] [0-9a-fA-F]{2} "\\u" [dD] [c-fC-F] [0-9a-fA-F]{2}"#,
        &[]),
    // All of them are finite as double precision.
    ("number", r#""-"? integral-part ("." [0-9]{1,16})? ([eE] [-+]? [0-9]{1,2})?"#, &["integral-part"]),
    ("integer", r#""-"? integral-part"#, &["integral-part"]),
    ("integral-part", r#""0" | [1-9] [0-9]{0,15}"#, &[]),
    ("boolean", r#""true" | "false""#, &[]),
    ("null", r#""null""#, &[]),
    ("uuid",
        r#"[0-9a-fA-F]{8} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{4} "-" [0-9a-fA-F]{12}"#,
        &[]),
    ("date",
        r#"[0-9]{4} "-" month-and-day | leap-year "-02-29""#, &["month-and-day", "leap-year"]),
    ("month-and-day",
        r#"("0" [13-9] | "1" [0-2]) "-" ("0" [1-9] | [12] [0-9]) | "02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]) | ("0" [13-9] | "1" [0-2]) "-30" | ("0" [13578] | "1" [02]) "-31""#,
        &[]),
    // RFC 3339: a multiple of 4 that is none of 100, or one of 400.
    ("leap-year", r#"[0-9]{2} fourth | ("00" | fourth) "00""#, &["fourth"]),
    ("fourth", r#""0" [48] | [2468] [048] | [13579] [26]"#, &[]),
    ("time",
        r#"hour ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,9})? ("Z" | [+-] hour ":" [0-5] [0-9])"#,
        &["hour"]),
    ("hour", r#"[01] [0-9] | "2" [0-3]"#, &[]),
    ("date-time", r#"date "T" time"#, &["date", "time"]),
];

/// Number of a rule.
pub(super) type RuleId = usize;

/// What a text may look like.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expr {
    /// This text.
    Text(String),
    /// One character, as a set in the notation.
    Class(String),
    /// One after the other.
    Seq(Vec<Expr>),
    /// One of them; without any, nothing matches.
    Any(Vec<Expr>),
    /// Between the first and the second number of them.
    Repeat(Box<Expr>, u64, Option<u64>),
    /// A rule.
    Rule(RuleId),
    /// A rule of [`BUILT_IN`].
    Named(&'static str),
}

impl Expr {
    /// The empty text.
    pub(super) const EMPTY: Self = Self::Text(String::new());
    /// What nothing matches.
    pub(super) const NEVER: Self = Self::Any(Vec::new());
    /// Where white space may stand.
    pub(super) const SPACE: Self = Self::Named("space");

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    pub(super) fn class(class: impl Into<String>) -> Self {
        Self::Class(class.into())
    }

    /// One after the other; texts grow together.
    pub(super) fn seq(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut all: Vec<Self> = Vec::new();
        for part in parts {
            let inner = if let Self::Seq(inner) = part { inner } else { vec![part] };
            for part in inner {
                match (all.last_mut(), part) {
                    (_, Self::Text(text)) if text.is_empty() => {}
                    (Some(Self::Text(before)), Self::Text(text)) => before.push_str(&text),
                    (_, part) => all.push(part),
                }
            }
        }
        match all.len() {
            0 => Self::EMPTY,
            1 => all.remove(0),
            _ => Self::Seq(all),
        }
    }

    /// One of them.
    pub(super) fn any(choices: impl IntoIterator<Item = Self>) -> Self {
        let mut all: Vec<Self> = Vec::new();
        for choice in choices {
            match choice {
                Self::Any(inner) => all.extend(inner),
                choice => all.push(choice),
            }
        }
        if all.len() == 1 { all.remove(0) } else { Self::Any(all) }
    }

    /// It or nothing.
    pub(super) fn optional(self) -> Self {
        match self {
            Self::Text(text) if text.is_empty() => Self::EMPTY,
            part => Self::Repeat(Box::new(part), 0, Some(1)),
        }
    }

    /// Any number of it.
    pub(super) fn star(self) -> Self {
        Self::Repeat(Box::new(self), 0, None)
    }

    /// `[0-9]{min,max}`, or nothing when none may come.
    pub(super) fn digits(min: usize, max: usize) -> Self {
        Self::few(Self::class("[0-9]"), min, max)
    }

    /// Between `min` and `max` of one character or rule.
    pub(super) fn few(item: Self, min: usize, max: usize) -> Self {
        match (min, max) {
            (_, 0) => Self::EMPTY,
            (1, 1) => item,
            _ => Self::Repeat(Box::new(item), min as u64, Some(max as u64)),
        }
    }

    /// Between quotation marks.
    pub(super) fn quoted(self) -> Self {
        Self::seq([Self::text("\""), self, Self::text("\"")])
    }

    /// A comma and what comes before the next value.
    pub(super) fn comma() -> Self {
        Self::Seq(vec![Self::text(","), Self::SPACE])
    }

    /// Can it stand before a repetition as it is, and be repeated without making rules of it?
    fn is_plain(&self) -> bool {
        matches!(self, Self::Class(_) | Self::Rule(_) | Self::Named(_))
    }
}

struct Rule {
    name: String,
    /// Where in the schema it comes from.
    place: Rc<str>,
    body: Expr,
}

/// The rules of a grammar. The first one that is made is its root.
#[derive(Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
    /// Names and how many rules wanted them.
    names: FxHashMap<String, usize>,
    /// Exactly 2^k of a rule.
    powers: FxHashMap<(RuleId, u32), RuleId>,
}

impl Rules {
    /// A rule that is defined later.
    pub(super) fn reserve(&mut self, hint: &str, place: &Rc<str>) -> RuleId {
        let name = self.name(hint);
        self.rules.push(Rule { name, place: Rc::clone(place), body: Expr::NEVER });
        self.rules.len() - 1
    }

    /// Defines a rule.
    pub(super) fn define(&mut self, rule: RuleId, body: Expr) {
        self.rules[rule].body = body;
    }

    /// A rule for a part of what the rule `of` stands for.
    pub(super) fn part(&mut self, of: RuleId, suffix: &str, body: Expr) -> Expr {
        let hint = format!("{}-{suffix}", self.rules[of].name);
        let place = Rc::clone(&self.rules[of].place);
        let rule = self.reserve(&hint, &place);
        self.define(rule, body);
        Expr::Rule(rule)
    }

    /// Between `min` and `max` times the item.
    pub(super) fn repeat(&mut self, of: RuleId, item: Expr, min: u64, max: Option<u64>) -> Expr {
        if max.is_some_and(|max| max < min) {
            return Expr::NEVER;
        }
        match (min, max) {
            (_, Some(0)) => return Expr::EMPTY,
            (1, Some(1)) => return item,
            (0, Some(1)) => return item.optional(),
            (0 | 1, None) => return Expr::Repeat(Box::new(item), min, max),
            _ => {}
        }
        // Copies of a rule are small, whatever the rule is.
        let item = if item.is_plain() { item } else { self.part(of, "unit", item) };
        if max.unwrap_or(min) <= MOST_COPIES {
            return Expr::Repeat(Box::new(item), min, max);
        }
        let item = match item {
            Expr::Rule(rule) => rule,
            item => match self.part(of, "unit", item) {
                Expr::Rule(rule) => rule,
                _ => return Expr::NEVER, // part() makes rules
            },
        };
        let exactly = self.exactly(of, item, min);
        let more = match max {
            None => Expr::Rule(item).star(),
            Some(max) => self.up_to(of, item, max - min),
        };
        Expr::seq([exactly, more])
    }

    /// 2^k times a rule.
    fn power(&mut self, of: RuleId, item: RuleId, k: u32) -> RuleId {
        let mut rule = item;
        for k in 1..=k {
            rule = match self.powers.get(&(item, k)) {
                Some(&known) => known,
                None => {
                    let twice = Expr::Seq(vec![Expr::Rule(rule), Expr::Rule(rule)]);
                    let hint = format!("{}-{}", self.rules[item].name, 1u64 << k);
                    let place = Rc::clone(&self.rules[of].place);
                    let made = self.reserve(&hint, &place);
                    self.define(made, twice);
                    self.powers.insert((item, k), made);
                    made
                }
            };
        }
        rule
    }

    fn exactly(&mut self, of: RuleId, item: RuleId, n: u64) -> Expr {
        let bits: Vec<u32> = (0..64).rev().filter(|k| n >> k & 1 == 1).collect();
        Expr::seq(bits.into_iter().map(|k| Expr::Rule(self.power(of, item, k))).collect::<Vec<_>>())
    }

    /// At most n times a rule: with 2^k the greatest power that is not above n, either 2^k and then
    /// up to n - 2^k, or up to 2^k - 1.
    fn up_to(&mut self, of: RuleId, item: RuleId, n: u64) -> Expr {
        let mut below: Vec<Expr> = vec![Expr::EMPTY]; // by k: up to 2^k - 1
        let top = 63 - (n | 1).leading_zeros();
        for k in 0..=top {
            let block = Expr::Rule(self.power(of, item, k));
            let longer = Expr::seq([block, below[k as usize].clone()]);
            let body = Expr::any([longer, below[k as usize].clone()]);
            below.push(self.part(of, "most", body));
        }
        let mut all = Expr::EMPTY;
        for k in (0..=top).filter(|k| n >> k & 1 == 1) {
            let block = Expr::Rule(self.power(of, item, k));
            let body = Expr::any([Expr::seq([block, all]), below[k as usize].clone()]);
            all = self.part(of, "most", body);
        }
        all
    }

    /// A name that no other rule has.
    fn name(&mut self, hint: &str) -> String {
        let mut name = String::new();
        for c in hint.chars() {
            let c = if c.is_ascii_alphanumeric() { c } else { '-' };
            if !(c == '-' && (name.is_empty() || name.ends_with('-'))) && name.len() < MOST_NAME {
                name.push(c);
            }
        }
        let name = name.trim_end_matches('-');
        let name = if name.is_empty() { "rule" } else { name };
        if self.names.is_empty() {
            self.names = BUILT_IN.iter().map(|(name, ..)| ((*name).to_owned(), 1)).collect();
        }
        let mut n = *self.names.get(name).unwrap_or(&0);
        let mut unique = name.to_owned();
        while self.names.contains_key(&unique) {
            n += 1;
            unique = format!("{name}-{n}");
        }
        self.names.insert(name.to_owned(), n.max(1));
        self.names.insert(unique.clone(), 1);
        unique
    }

    /// The grammar as text, without what nothing can match.
    pub(super) fn write(mut self) -> Result<String, Error> {
        self.check_circles()?;
        let can_match = self.can_match();
        if !can_match.first().is_some_and(|root| *root) {
            return Err(Error::Impossible { place: self.contradiction(&can_match) });
        }
        for rule in 0..self.rules.len() {
            let body = std::mem::replace(&mut self.rules[rule].body, Expr::NEVER);
            let body = without_never(body, &can_match).unwrap_or(Expr::NEVER);
            self.rules[rule].body = self.split(rule, body).0;
        }
        let mut writer = Writer { rules: &self.rules, text: String::new(), used: Used::default() };
        writer.used.rule(0);
        while let Some(rule) = writer.used.rules.pop() {
            let Rule { name, body, place } = &self.rules[rule];
            let name = if rule == 0 { "root" } else { name };
            write!(writer.text, "{name} ::= ").ok();
            writer.expr(body, 0);
            writer.text.push('\n');
            if writer.text.len() > MAX_TEXT {
                return Err(Error::TooLarge { place: place.to_string() });
            }
        }
        writer.built_in();
        Ok(writer.text)
    }

    /// Makes rules of large groups that are repeated, for the parser bounds how many groups a repetition
    /// may be about. The expression and how many groups are left in it.
    fn split(&mut self, of: RuleId, expr: Expr) -> (Expr, usize) {
        let mut all = |parts: Vec<Expr>| {
            let mut n_groups = 1;
            let mut add = |part| {
                let (part, n) = self.split(of, part);
                n_groups += n;
                part
            };
            let parts: Vec<Expr> = parts.into_iter().map(&mut add).collect();
            (parts, n_groups)
        };
        match expr {
            Expr::Seq(parts) => {
                let (parts, n) = all(parts);
                (Expr::Seq(parts), n)
            }
            Expr::Any(parts) => {
                let (parts, n) = all(parts);
                (Expr::Any(parts), n)
            }
            Expr::Repeat(part, min, max) => {
                let (mut part, mut n) = self.split(of, *part);
                if n > MOST_GROUPS {
                    (part, n) = (self.part(of, "part", part), 0);
                }
                let copies = max.unwrap_or(min).max(1) as usize; // at most MOST_COPIES
                (Expr::Repeat(Box::new(part), min, max), (n + 1) * copies)
            }
            other => (other, 0),
        }
    }

    /// Refuses rules that stand for themselves.
    fn check_circles(&self) -> Result<(), Error> {
        // 0: not seen, 1: on the way from the root, 2: done.
        let mut state = vec![0u8; self.rules.len()];
        for start in 0..self.rules.len() {
            let mut path = vec![(start, false)];
            while let Some((rule, leave)) = path.pop() {
                if leave {
                    state[rule] = 2;
                    continue;
                }
                if state[rule] != 0 {
                    continue;
                }
                state[rule] = 1;
                path.push((rule, true));
                let body = std::slice::from_ref(&self.rules[rule].body);
                let same = if let [Expr::Any(choices)] = body { choices } else { body };
                for choice in same {
                    let Expr::Rule(next) = *choice else { continue };
                    if state[next] == 1 {
                        return Err(Error::Circular { place: self.rules[next].place.to_string() });
                    }
                    path.push((next, false));
                }
            }
        }
        Ok(())
    }

    /// Which rules some text matches.
    fn can_match(&self) -> Vec<bool> {
        let mut users: Vec<Vec<RuleId>> = vec![Vec::new(); self.rules.len()];
        for (user, rule) in self.rules.iter().enumerate() {
            for_each_rule(&rule.body, &mut |used| users[used].push(user));
        }
        let mut can_match = vec![false; self.rules.len()];
        let mut todo: Vec<RuleId> = (0..self.rules.len()).rev().collect();
        while let Some(rule) = todo.pop() {
            if !can_match[rule] && matches_something(&self.rules[rule].body, &can_match) {
                can_match[rule] = true;
                todo.extend(users[rule].iter().copied().filter(|&user| !can_match[user]));
            }
        }
        can_match
    }

    /// A place where a rule that nothing matches is not to blame on another.
    fn contradiction(&self, can_match: &[bool]) -> String {
        let (mut at, mut seen) = (0, FxHashSet::default());
        loop {
            let Some(rule) = self.rules.get(at) else { return "#".into() };
            seen.insert(at);
            let mut next = None;
            for_each_rule(&rule.body, &mut |used| {
                if !can_match[used] && !seen.contains(&used) {
                    next = next.or(Some(used));
                }
            });
            match next {
                Some(used) => at = used,
                None => return rule.place.to_string(),
            }
        }
    }
}

fn for_each_rule(expr: &Expr, with: &mut impl FnMut(RuleId)) {
    match expr {
        Expr::Rule(rule) => with(*rule),
        Expr::Seq(parts) | Expr::Any(parts) => {
            parts.iter().for_each(|part| for_each_rule(part, with))
        }
        Expr::Repeat(part, ..) => for_each_rule(part, with),
        Expr::Text(_) | Expr::Class(_) | Expr::Named(_) => {}
    }
}

fn matches_something(expr: &Expr, can_match: &[bool]) -> bool {
    match expr {
        Expr::Rule(rule) => can_match[*rule],
        Expr::Seq(parts) => parts.iter().all(|part| matches_something(part, can_match)),
        Expr::Any(parts) => parts.iter().any(|part| matches_something(part, can_match)),
        Expr::Repeat(part, min, _) => *min == 0 || matches_something(part, can_match),
        Expr::Text(_) | Expr::Class(_) | Expr::Named(_) => true,
    }
}

/// The expression without choices that nothing matches; `None` if nothing is left.
fn without_never(expr: Expr, can_match: &[bool]) -> Option<Expr> {
    let inner = |part| without_never(part, can_match);
    match expr {
        Expr::Rule(rule) => can_match[rule].then_some(expr),
        Expr::Seq(parts) => parts.into_iter().map(inner).collect::<Option<Vec<_>>>().map(Expr::seq),
        Expr::Any(parts) => {
            let left: Vec<_> = parts.into_iter().filter_map(inner).collect();
            (!left.is_empty()).then(|| Expr::any(left))
        }
        Expr::Repeat(part, min, max) => match inner(*part) {
            Some(part) => Some(Expr::Repeat(Box::new(part), min, max)),
            None => (min == 0).then_some(Expr::EMPTY),
        },
        Expr::Text(_) | Expr::Class(_) | Expr::Named(_) => Some(expr),
    }
}

/// What has been named and is to be written.
#[derive(Default)]
struct Used {
    seen: FxHashSet<RuleId>,
    rules: Vec<RuleId>,
    built_in: FxHashSet<&'static str>,
}

impl Used {
    fn rule(&mut self, rule: RuleId) {
        if self.seen.insert(rule) {
            self.rules.push(rule);
        }
    }
}

struct Writer<'a> {
    rules: &'a [Rule],
    text: String,
    used: Used,
}

impl Writer<'_> {
    /// Writes an expression. `level`: 0 where a choice may stand, 1 in a sequence, 2 before a
    /// repetition.
    fn expr(&mut self, expr: &Expr, level: u8) {
        let list = |expr: &Expr| match expr {
            Expr::Any(choices) => (0, choices.len() != 1),
            Expr::Seq(_) => (1, true),
            Expr::Repeat(..) => (1, true),
            _ => (2, false),
        };
        let (own, closes) = list(expr);
        let group = closes && own < level;
        if group {
            self.text.push('(');
        }
        match expr {
            Expr::Text(text) => literal(&mut self.text, text),
            Expr::Class(class) => self.text.push_str(class),
            Expr::Seq(parts) => self.list(parts, " ", 1),
            Expr::Any(choices) => self.list(choices, " | ", 1),
            Expr::Repeat(part, min, max) => {
                self.expr(part, 2);
                match (min, max) {
                    (0, None) => self.text.push('*'),
                    (1, None) => self.text.push('+'),
                    (0, Some(1)) => self.text.push('?'),
                    (min, None) => write!(self.text, "{{{min},}}").unwrap_or_default(),
                    (min, Some(max)) if min == max => {
                        write!(self.text, "{{{min}}}").unwrap_or_default();
                    }
                    (min, Some(max)) => write!(self.text, "{{{min},{max}}}").unwrap_or_default(),
                }
            }
            Expr::Rule(rule) => self.rule(*rule),
            Expr::Named(name) => {
                self.text.push_str(name);
                self.used.built_in.insert(name);
            }
        }
        if group {
            self.text.push(')');
        }
    }

    fn list(&mut self, parts: &[Expr], separator: &str, level: u8) {
        for (i, part) in parts.iter().enumerate() {
            if i > 0 {
                self.text.push_str(separator);
            }
            self.expr(part, level);
        }
    }

    /// The name of a rule, or what it stands for if that is short.
    fn rule(&mut self, mut rule: RuleId) {
        loop {
            match &self.rules[rule].body {
                Expr::Rule(other) if rule != 0 => rule = *other,
                body @ (Expr::Named(_) | Expr::Class(_)) if rule != 0 => {
                    return self.expr(body, 2);
                }
                Expr::Text(text) if rule != 0 && (1..=SHORT).contains(&text.len()) => {
                    return literal(&mut self.text, text);
                }
                _ => break,
            }
        }
        self.text.push_str(if rule == 0 { "root" } else { &self.rules[rule].name });
        self.used.rule(rule);
    }

    /// The built-in rules that are used.
    fn built_in(&mut self) {
        let mut todo: Vec<&str> = self.used.built_in.iter().copied().collect();
        while let Some(name) = todo.pop() {
            let uses = BUILT_IN.iter().find(|(known, ..)| *known == name).map(|entry| entry.2);
            for other in uses.unwrap_or_default() {
                if self.used.built_in.insert(other) {
                    todo.push(other);
                }
            }
        }
        for (name, body, _) in BUILT_IN {
            if self.used.built_in.contains(name) {
                writeln!(self.text, "{name} ::= {body}").ok();
            }
        }
    }
}

/// A literal of the notation.
fn literal(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_ascii_control() => write!(out, "\\x{:02X}", c as u32).unwrap_or_default(),
            c => out.push(c),
        }
    }
    out.push('"');
}
