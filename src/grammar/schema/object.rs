//! Objects: properties, which of them are there, and what others may be.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::Value;

use super::Error;
use super::convert::Converter;
use super::expr::{Expr, RuleId};
use super::keywords::{Node, Part, below, item_of};
use super::literal::key_and_colon;

/// Names that others must differ from are told apart character by character, so deep.
const MOST_NAME: usize = 200;

/// A property that a schema names.
struct Property {
    required: bool,
    /// Its name, the colon and its value.
    entry: Expr,
}

/// Properties that no schema names.
enum Others<'a> {
    None,
    /// These apply to their values.
    Any(Vec<Node<'a>>),
}

impl<'a> Converter<'a> {
    /// Objects.
    pub(super) fn object(&mut self, rule: RuleId, parts: &[Part<'a>]) -> Result<Expr, Error> {
        let others = others(parts)?;
        let names = names(parts)?;
        let (min, max) = counts(parts)?;
        let anything = matches!(&others, Others::Any(nodes) if nodes.is_empty());
        let has_keys = parts.iter().any(|part| {
            part.get("propertyNames").is_some() || part.get("patternProperties").is_some()
        });
        if names.is_empty() && anything && min == 0 && max.is_none() && !has_keys {
            return Ok(Expr::Named("object"));
        }
        let mut properties = Vec::new();
        for (name, required) in &names {
            let value = self.property(parts, name)?;
            let entry = Expr::seq([key_and_colon(name), value]);
            properties.push(Property { required: *required, entry });
        }
        let other = self.other(rule, parts, &names, others)?;
        let inner = self.entries(rule, parts, properties, other, (min, max));
        let [open, close] = ["{", "}"].map(Expr::text);
        Ok(match inner {
            Entries::Needed(inner) => Expr::seq([open, Expr::SPACE, inner, Expr::SPACE, close]),
            Entries::Optional(inner) => {
                let inner = Expr::seq([inner, Expr::SPACE]).optional();
                Expr::seq([open, Expr::SPACE, inner, close])
            }
            Entries::None => Expr::seq([open, Expr::SPACE, close]),
        })
    }

    /// The value of a property: what all parts say of it.
    fn property(&mut self, parts: &[Part<'a>], name: &str) -> Result<Expr, Error> {
        let mut nodes: Vec<Node<'a>> = Vec::new();
        for part in parts {
            self.work(1 + name.len() / 64, &part.place)?;
            let mut is_named = false;
            if let Some(schema) = part.object("properties")?.and_then(|map| map.get(name)) {
                let place = item_of(&part.place, "properties", name);
                nodes.push(Node { schema, place });
                is_named = true;
            }
            for (pattern, node) in patterns(part)? {
                match self.matches(pattern, name, &part.place)? {
                    Some(true) => {
                        nodes.push(node);
                        is_named = true;
                    }
                    Some(false) => {}
                    None => self.lose(part, "patternProperties"),
                }
            }
            if !is_named {
                nodes.extend(part.node("additionalProperties"));
            }
        }
        if nodes.is_empty() { Ok(Expr::Named("value")) } else { self.rule(nodes) }
    }

    /// The name, the colon and the value of a property that is not named; `None` if there is none.
    fn other(
        &mut self,
        rule: RuleId,
        parts: &[Part<'a>],
        names: &[(Rc<str>, bool)],
        others: Others<'a>,
    ) -> Result<Option<Expr>, Error> {
        let colon = || Expr::seq([Expr::SPACE, Expr::text(":"), Expr::SPACE]);
        let mut all = Vec::new();
        let mut n_kinds = 0;
        for part in parts {
            for (pattern, node) in patterns(part)? {
                let key = self.key_of_pattern(rule, part, pattern)?;
                let value = self.rule(vec![node])?;
                all.push(Expr::seq([key, colon(), value]));
                n_kinds += 1;
            }
        }
        if let Others::Any(nodes) = others {
            let value = if nodes.is_empty() { Expr::Named("value") } else { self.rule(nodes)? };
            let key = self.key(rule, parts, names)?;
            all.push(Expr::seq([key, colon(), value]));
            n_kinds += 1;
        }
        if n_kinds > 1 {
            // A name may match several, of which the grammar takes any.
            self.lose_all(parts, "patternProperties");
        }
        Ok(if all.is_empty() { None } else { Some(Expr::any(all)) })
    }

    fn key_of_pattern(
        &mut self,
        rule: RuleId,
        part: &Part<'a>,
        pattern: &str,
    ) -> Result<Expr, Error> {
        use super::pattern::{Error as Bad, Pattern};
        match Pattern::parse(pattern) {
            Ok(pattern) => Ok(pattern.expr(&mut self.rules, rule).quoted()),
            Err(Bad::Unsupported) => {
                self.lose(part, "patternProperties");
                Ok(Expr::Named("string"))
            }
            Err(Bad::Invalid(reason)) => {
                let place = below(&part.place, "patternProperties").to_string();
                Err(Error::Pattern { place, pattern: pattern.to_owned(), reason })
            }
        }
    }

    /// The name of a property that has none of the given names.
    fn key(
        &mut self,
        rule: RuleId,
        parts: &[Part<'a>],
        names: &[(Rc<str>, bool)],
    ) -> Result<Expr, Error> {
        static STRING: std::sync::LazyLock<Value> =
            std::sync::LazyLock::new(|| serde_json::json!({"type": "string"}));
        let mut nodes: Vec<_> =
            parts.iter().filter_map(|part| part.node("propertyNames")).collect();
        if let Some(first) = nodes.first() {
            if !names.is_empty() {
                self.lose_all(parts, "propertyNames");
            }
            let place = Rc::clone(&first.place);
            nodes.push(Node { schema: &STRING, place });
            return self.rule(nodes);
        }
        if names.is_empty() {
            return Ok(Expr::Named("string"));
        }
        let mut tree = Names::default();
        for (name, _) in names {
            if name.chars().count() > MOST_NAME {
                let place = parts.first().map_or("#".into(), |part| part.place.to_string());
                return Err(Error::TooLarge { place });
            }
            self.work(name.len(), "#")?;
            tree.add(name);
        }
        let other = tree.others();
        Ok(self.rules.part(rule, "other-name", other.quoted()))
    }

    /// The properties in their order, with commas.
    fn entries(
        &mut self,
        rule: RuleId,
        parts: &[Part<'a>],
        mut properties: Vec<Property>,
        mut other: Option<Expr>,
        (mut min, max): (u64, Option<u64>),
    ) -> Entries {
        if properties.is_empty() {
            return self.only_others(rule, other, min, max);
        }
        let n_required = properties.iter().filter(|p| p.required).count() as u64;
        if max == Some(n_required) {
            properties.retain(|property| property.required);
            other = None;
        }
        if other.is_none() && min == properties.len() as u64 {
            properties.iter_mut().for_each(|property| property.required = true);
        }
        let n_required = properties.iter().filter(|p| p.required).count() as u64;
        let n = properties.len() as u64;
        if max.is_some_and(|max| max < n_required) || (other.is_none() && min > n) {
            return Entries::Needed(Expr::NEVER);
        }
        // Optional properties are not counted, but the others are what they leave.
        let most_others = max.map(|max| max.saturating_sub(n));
        if max.is_some_and(|max| n > max) {
            self.lose_all(parts, "maxProperties");
        }
        if min > n_required.max(1) {
            self.lose_all(parts, "minProperties");
            min = 1;
        }
        let next = |entry: Expr| Expr::seq([Expr::comma(), entry]);
        let others = match other.clone() {
            None => Expr::EMPTY,
            Some(other) => self.rules.repeat(rule, next(other), 0, most_others),
        };
        if let Some(first) = properties.iter().position(|property| property.required) {
            let mut all = Vec::new();
            for (i, Property { required, entry }) in properties.into_iter().enumerate() {
                all.push(match (i.cmp(&first), required) {
                    (std::cmp::Ordering::Less, _) => Expr::seq([entry, Expr::comma()]).optional(),
                    (std::cmp::Ordering::Equal, _) => entry,
                    (_, true) => next(entry),
                    (_, false) => next(entry).optional(),
                });
            }
            all.push(others);
            return Entries::Needed(Expr::seq(all));
        }
        let entries = self.any_of(rule, properties, other, others, most_others);
        if min == 0 { Entries::Optional(entries) } else { Entries::Needed(entries) }
    }

    /// Optional properties, at least one of them.
    fn any_of(
        &mut self,
        rule: RuleId,
        properties: Vec<Property>,
        other: Option<Expr>,
        others: Expr,
        most_others: Option<u64>,
    ) -> Expr {
        let n = properties.len();
        let mut choices = Vec::new();
        if let Some(other) = other.filter(|_| most_others != Some(0)) {
            choices.push(Expr::seq([other, others.clone()]));
        }
        // What may follow a property: the optional ones behind it, then others.
        let mut tail = others;
        for (i, Property { entry, .. }) in properties.into_iter().enumerate().rev() {
            let entry = if n > 1 { self.rules.part(rule, "entry", entry) } else { entry };
            choices.push(Expr::seq([entry.clone(), tail.clone()]));
            if i > 0 {
                let next = Expr::seq([Expr::comma(), entry]).optional();
                tail = self.rules.part(rule, "rest", Expr::seq([next, tail]));
            }
        }
        choices.reverse();
        Expr::any(choices)
    }

    fn only_others(
        &mut self,
        rule: RuleId,
        other: Option<Expr>,
        min: u64,
        max: Option<u64>,
    ) -> Entries {
        match (other, max) {
            (_, Some(max)) if max < min => Entries::Needed(Expr::NEVER),
            (None, _) if min > 0 => Entries::Needed(Expr::NEVER),
            (None, _) | (_, Some(0)) => Entries::None,
            (Some(other), max) => {
                let more = Expr::seq([Expr::comma(), other.clone()]);
                let (least, most) = (min.saturating_sub(1), max.map(|max| max - 1));
                let more = self.rules.repeat(rule, more, least, most);
                let all = Expr::seq([other, more]);
                if min == 0 { Entries::Optional(all) } else { Entries::Needed(all) }
            }
        }
    }
}

/// What stands between the braces.
enum Entries {
    None,
    Optional(Expr),
    Needed(Expr),
}

/// What applies to properties that are not named.
fn others<'a>(parts: &[Part<'a>]) -> Result<Others<'a>, Error> {
    let mut nodes = Vec::new();
    let (mut is_open, mut is_closed, mut has_names) = (false, false, false);
    for part in parts {
        has_names |= part.object("properties")?.is_some_and(|map| !map.is_empty());
        has_names |= part.object("patternProperties")?.is_some_and(|map| !map.is_empty());
        for keyword in ["additionalProperties", "unevaluatedProperties"] {
            let Some(node) = part.node(keyword) else { continue };
            match node.schema {
                Value::Bool(false) => is_closed = true,
                Value::Bool(true) => is_open = true,
                _ => {
                    is_open = true;
                    nodes.push(node);
                }
            }
        }
    }
    // If nothing is said: all are named, or any may come.
    let none = is_closed || (has_names && !is_open);
    Ok(if none { Others::None } else { Others::Any(nodes) })
}

/// The names of properties in their order, and which are required.
fn names(parts: &[Part<'_>]) -> Result<Vec<(Rc<str>, bool)>, Error> {
    let mut names: Vec<(Rc<str>, bool)> = Vec::new();
    let mut places: BTreeMap<Rc<str>, usize> = BTreeMap::new();
    let mut add = |name: &str, required: bool| match places.get(name) {
        Some(&at) => names[at].1 |= required,
        None => {
            let name: Rc<str> = name.into();
            places.insert(Rc::clone(&name), names.len());
            names.push((name, required));
        }
    };
    for part in parts {
        for name in part.object("properties")?.into_iter().flat_map(|map| map.keys()) {
            add(name, false);
        }
    }
    for part in parts {
        let wrong = || part.wrong("required", "an array of strings");
        match part.get("required") {
            None => {}
            // In draft 3 a property said it of itself; written so by mistake ever since.
            Some(Value::Bool(_)) => {}
            Some(Value::Array(list)) => {
                for name in list {
                    add(name.as_str().ok_or_else(wrong)?, true);
                }
            }
            Some(_) => return Err(wrong()),
        }
    }
    Ok(names)
}

fn counts(parts: &[Part<'_>]) -> Result<(u64, Option<u64>), Error> {
    let (mut min, mut max) = (0, None::<u64>);
    for part in parts {
        min = min.max(part.count("minProperties")?.unwrap_or(0));
        if let Some(most) = part.count("maxProperties")? {
            max = Some(max.map_or(most, |max| max.min(most)));
        }
    }
    Ok((min, max))
}

/// `patternProperties`: expressions of names, and schemas.
fn patterns<'a>(part: &Part<'a>) -> Result<Vec<(&'a str, Node<'a>)>, Error> {
    let node = |(pattern, schema): (&'a String, &'a Value)| {
        let place = item_of(&part.place, "patternProperties", pattern);
        (pattern.as_str(), Node { schema, place })
    };
    Ok(part.object("patternProperties")?.into_iter().flatten().map(node).collect())
}

/// Names as a tree of characters.
#[derive(Default)]
struct Names {
    next: BTreeMap<char, Names>,
    is_name: bool,
}

impl Names {
    fn add(&mut self, name: &str) {
        let mut at = self;
        for c in name.chars() {
            at = at.next.entry(c).or_default();
        }
        at.is_name = true;
    }

    /// All strings that are no name, as they stand between quotation marks: a character that no name
    /// has here, and then anything; or one that a name has, and so on. Characters of names are not
    /// written as \u…, so there is only one way to write them.
    fn others(&self) -> Expr {
        let char = || Expr::Named("char");
        let mut choices = Vec::new();
        let mut raw = String::from("[^\"\\\\\\x00-\\x1F\\x7F");
        let mut letters = String::from("\"\\/bfnrt");
        for (&c, after) in &self.next {
            let written = Value::String(c.to_string()).to_string();
            let written = &written[1..written.len() - 1];
            choices.push(Expr::seq([Expr::text(written), after.others()]));
            match c as u32 {
                code @ (0x23..=0x2b | 0x2e | 0x30..=0x5a | 0x5f..=0x7e | 0x20..=0x21) => {
                    raw.push(char::from_u32(code).unwrap_or(' '));
                }
                code => raw.push_str(&format!("\\U{code:08X}")),
            }
            if let Some(letter) = written.strip_prefix('\\') {
                letters.retain(|known| !letter.starts_with(known));
            }
            letters.retain(|known| known != '/' || c != '/');
        }
        raw.push(']');
        choices.push(Expr::seq([Expr::class(raw), char().star()]));
        if !letters.is_empty() {
            let letters = letters.replace('\\', "\\\\").replace('"', "\\\"");
            let class = Expr::class(format!("[{letters}]"));
            choices.push(Expr::seq([Expr::text("\\"), class, char().star()]));
        }
        let all = Expr::any(choices);
        if self.is_name { all } else { all.optional() }
    }
}
